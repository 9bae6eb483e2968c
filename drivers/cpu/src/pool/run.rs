//! One execution that several threads share: who does which workgroups, and when an epoch is over.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::event::{Event, spin_until};
use crate::command::{Bound, Program};

/// Looks at an epoch's end before sleeping: some ten microseconds, longer than most epochs have left when the
/// first thread runs out of work.
const BARRIER_SPINS: u32 = 4000;

/// Keeps what different threads write to in different cache lines, two by two as they are fetched.
#[repr(align(128))]
#[derive(Debug, Default)]
struct Line<T>(T);

/// A program on its way through its epochs, with the addresses it works on.
///
/// Threads take ranges of workgroups of the current epoch from `cursor`; who finishes the last one opens the next
/// epoch. A thread touches `bound` only for workgroups it has taken, so the addresses have to stay valid only until
/// the run has finished: late threads see that and leave.
#[derive(Debug)]
pub(crate) struct Run {
    program: Arc<Program>,
    bound: Bound,
    /// Epoch in the upper half, first workgroup nobody has taken in the lower.
    cursor: Line<AtomicU64>,
    /// Finished workgroups of the current epoch.
    done: Line<AtomicU32>,
    sleepers: AtomicU32,
    moved: Event,
    threads: u32,
}

/// What a look at the cursor gave.
enum Claim {
    Workgroups {
        epoch: u32,
        start: u32,
        end: u32,
    },
    /// All are taken; others are at work.
    Wait {
        cursor: u64,
    },
    Finished,
}

/// Why a thread left a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Left {
    Finished,
    /// It was asked to.
    Early,
}

impl Run {
    /// A run that continues at workgroup `next` of `epoch`; all before have been done. For `threads` threads.
    pub(super) fn new(program: Arc<Program>, bound: Bound, epoch: u32, next: u32, threads: u32) -> Self {
        Self {
            program,
            bound,
            cursor: Line(AtomicU64::new(position(epoch, next))),
            done: Line(AtomicU32::new(next)),
            sleepers: AtomicU32::new(0),
            moved: Event::default(),
            threads,
        }
    }

    /// Whether another thread would find something to do.
    pub(super) fn has_work(&self) -> bool {
        let (epoch, next) = halves(self.cursor.0.load(Ordering::Relaxed));
        self.program.epoch_workgroups(epoch).is_some_and(|total| next < total || !self.program.is_last(epoch))
    }

    /// Works until the run has finished, or `leave` says so, which is asked between pieces of work.
    pub(super) fn participate(&self, leave: impl Fn() -> bool) -> Left {
        loop {
            match self.claim() {
                Claim::Workgroups { epoch, start, end } => {
                    // Taken and not finished, so the leader has not returned: what `bound` points to is still there.
                    self.program.run(&self.bound, epoch, start, end);
                    self.finish(epoch, end - start);
                    if leave() {
                        // `finish` may have counted on this thread for the next epoch.
                        self.wake_sleepers();
                        return Left::Early;
                    }
                }
                Claim::Wait { cursor } => self.wait(cursor),
                Claim::Finished => return Left::Finished,
            }
        }
    }

    fn claim(&self) -> Claim {
        let mut cursor = self.cursor.0.load(Ordering::Acquire);
        loop {
            let (epoch, next) = halves(cursor);
            let Some(total) = self.program.epoch_workgroups(epoch) else { return Claim::Finished };
            let left = total - next;
            if left == 0 {
                return Claim::Wait { cursor };
            }
            // Big pieces first, single workgroups last: few steps, and nobody ends long after the others.
            let take = (left / (self.threads * 4)).max(1);
            let after = position(epoch, next + take);
            match self.cursor.0.compare_exchange_weak(cursor, after, Ordering::AcqRel, Ordering::Acquire) {
                Ok(_) => return Claim::Workgroups { epoch, start: next, end: next + take },
                Err(found) => cursor = found,
            }
        }
    }

    fn finish(&self, epoch: u32, workgroups: u32) {
        let done = self.done.0.fetch_add(workgroups, Ordering::AcqRel) + workgroups;
        if Some(done) != self.program.epoch_workgroups(epoch) {
            return;
        }
        // Everybody else waits for the cursor to move, so nobody adds to `done` before the store below.
        self.done.0.store(0, Ordering::Relaxed);
        self.cursor.0.store(position(epoch + 1, 0), Ordering::SeqCst);
        // Sleepers are worth waking only for work that this thread cannot do alone.
        let wake = self.program.epoch_workgroups(epoch + 1).is_none_or(|workgroups| workgroups > 1);
        if wake {
            self.wake_sleepers();
        }
    }

    fn wake_sleepers(&self) {
        if self.sleepers.load(Ordering::SeqCst) > 0 {
            self.moved.wake_all();
        }
    }

    /// Until the cursor is no longer at `cursor`.
    fn wait(&self, cursor: u64) {
        if spin_until(BARRIER_SPINS, || self.cursor.0.load(Ordering::Acquire) != cursor) {
            return;
        }
        // Either the thread that moves the cursor sees this sleeper, or this thread sees the cursor moved.
        self.sleepers.fetch_add(1, Ordering::SeqCst);
        let note = self.moved.note();
        if self.cursor.0.load(Ordering::SeqCst) == cursor {
            self.moved.sleep(note);
        }
        self.sleepers.fetch_sub(1, Ordering::SeqCst);
    }
}

fn position(epoch: u32, next: u32) -> u64 {
    u64::from(epoch) << 32 | u64::from(next)
}

fn halves(cursor: u64) -> (u32, u32) {
    ((cursor >> 32) as u32, cursor as u32)
}
