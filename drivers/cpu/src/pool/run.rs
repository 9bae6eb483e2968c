//! One execution that several threads share: who does which workgroups, and when an epoch is over.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::event::{Event, spin_until};
use crate::command::{Bound, Program};

/// Looks at an epoch's end before sleeping: some ten microseconds, longer than most epochs have left when the
/// first thread runs out of work.
const BARRIER_SPINS: u32 = 4000;

/// What opening an epoch counts among its finished workgroups: others may take and finish some before it is done.
const OPENING: u32 = 1;

/// Keeps what different threads write to in different cache lines, two by two as they are fetched.
#[repr(align(128))]
#[derive(Debug, Default)]
struct Line<T>(T);

/// A program on its way through its epochs, with the addresses it works on.
///
/// Each thread has a share of the workgroups of an epoch, always the same part of them: what it wrote in one epoch is in
/// its caches when it reads it in the next. It takes its own from the front; when it has none left it takes others' from
/// the back. Who finishes the last workgroup opens the next epoch.
///
/// A thread touches `bound` only for workgroups it has taken, so the addresses have to stay valid only until the run has
/// finished: late threads see that and leave.
#[derive(Debug)]
pub(crate) struct Run {
    program: Arc<Program>,
    bound: Bound,
    /// What nobody has taken yet of each thread's share: the end in the upper half, the start in the lower.
    shares: Box<[Line<AtomicU64>]>,
    /// The epoch that the shares are of. It does not move while taken workgroups are unfinished.
    epoch: AtomicU32,
    /// The epoch whose shares have all been dealt.
    opened: Line<AtomicU32>,
    /// Finished workgroups of the current epoch, and `OPENING` when all its shares are dealt.
    done: Line<AtomicU32>,
    /// Threads that have joined.
    joined: AtomicU32,
    sleepers: AtomicU32,
    moved: Event,
}

/// What a look at the shares gave.
enum Claim {
    Workgroups {
        epoch: u32,
        range: Range<u32>,
    },
    /// All are taken; others are at work.
    Wait {
        epoch: u32,
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
        let run = Self {
            program,
            bound,
            shares: (0..threads).map(|_| Line::default()).collect(),
            epoch: AtomicU32::new(epoch),
            opened: Line(AtomicU32::new(epoch)),
            done: Line(AtomicU32::new(next + OPENING)),
            joined: AtomicU32::new(0),
            sleepers: AtomicU32::new(0),
            moved: Event::default(),
        };
        run.deal(epoch, next);
        run
    }

    /// Whether another thread would find something to do.
    pub(super) fn has_work(&self) -> bool {
        let epoch = self.opened.0.load(Ordering::Relaxed);
        let untaken = || self.shares.iter().any(|share| !range(share.0.load(Ordering::Relaxed)).is_empty());
        self.program.epoch_workgroups(epoch).is_some() && (!self.program.is_last(epoch) || untaken())
    }

    /// Works until the run has finished, or `leave` says so, which is asked between pieces of work.
    pub(super) fn participate(&self, leave: impl Fn() -> bool) -> Left {
        let own = self.joined.fetch_add(1, Ordering::Relaxed) as usize % self.shares.len();
        loop {
            match self.claim(own) {
                Claim::Workgroups { epoch, range } => {
                    // Taken and not finished, so the leader has not returned: what `bound` points to is still there.
                    self.program.run(&self.bound, epoch, range.start, range.end);
                    self.finish(epoch, range.len() as u32);
                    if leave() {
                        // `finish` may have counted on this thread for the next epoch.
                        self.wake_sleepers();
                        return Left::Early;
                    }
                }
                Claim::Wait { epoch } => self.wait(epoch),
                Claim::Finished => return Left::Finished,
            }
        }
    }

    fn claim(&self, own: usize) -> Claim {
        let opened = self.opened.0.load(Ordering::Acquire);
        if self.program.epoch_workgroups(opened).is_none() {
            return Claim::Finished;
        }
        let others = (own + 1..self.shares.len()).chain(0..own);
        let taken = take(&self.shares[own].0, front)
            .or_else(|| others.into_iter().find_map(|of| take(&self.shares[of].0, back)));
        match taken {
            // The shares may have been dealt again since the look at `opened`; they are of this epoch until these
            // workgroups are finished.
            Some(range) => Claim::Workgroups { epoch: self.epoch.load(Ordering::Acquire), range },
            None => Claim::Wait { epoch: opened },
        }
    }

    /// Notes that `pieces` of `epoch` are finished; opens those that follow as far as they have nothing left to do.
    fn finish(&self, mut epoch: u32, mut pieces: u32) {
        loop {
            let done = self.done.0.fetch_add(pieces, Ordering::AcqRel) + pieces;
            if self.program.epoch_workgroups(epoch).is_none_or(|workgroups| done != workgroups + OPENING) {
                return;
            }
            // Nobody finishes an epoch before it is opened, so there is no other writer until `OPENING` is added.
            epoch += 1;
            self.done.0.store(0, Ordering::Relaxed);
            self.epoch.store(epoch, Ordering::Relaxed);
            self.deal(epoch, 0);
            self.opened.0.store(epoch, Ordering::SeqCst);
            // Sleepers are worth waking only for work that this thread cannot do alone.
            let wake = self.program.epoch_workgroups(epoch).is_none_or(|workgroups| workgroups > 1);
            if wake {
                self.wake_sleepers();
            }
            pieces = OPENING;
        }
    }

    /// Gives every thread its share of `epoch`, without workgroups before `first`.
    fn deal(&self, epoch: u32, first: u32) {
        let workgroups = u64::from(self.program.epoch_workgroups(epoch).unwrap_or(0));
        let threads = self.shares.len() as u64;
        let bound = |thread: u64| ((workgroups * thread).div_ceil(threads) as u32).max(first);
        for (thread, share) in (0..).zip(&self.shares) {
            share.0.store(word(bound(thread)..bound(thread + 1)), Ordering::Release);
        }
    }

    fn wake_sleepers(&self) {
        if self.sleepers.load(Ordering::SeqCst) > 0 {
            self.moved.wake_all();
        }
    }

    /// Until another epoch than `epoch` is open.
    fn wait(&self, epoch: u32) {
        if spin_until(BARRIER_SPINS, || self.opened.0.load(Ordering::Acquire) != epoch) {
            return;
        }
        // Either the thread that opens the next sees this sleeper, or this thread sees it opened.
        self.sleepers.fetch_add(1, Ordering::SeqCst);
        let note = self.moved.note();
        if self.opened.0.load(Ordering::SeqCst) == epoch {
            self.moved.sleep(note);
        }
        self.sleepers.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Takes a piece of a share, if there is any.
fn take(share: &AtomicU64, piece: impl Fn(Range<u32>, u32) -> [Range<u32>; 2]) -> Option<Range<u32>> {
    let mut found = share.load(Ordering::Relaxed);
    loop {
        let left = range(found);
        if left.is_empty() {
            return None;
        }
        // Big pieces first, single workgroups last: few steps, and nobody ends long after the others.
        let workgroups = (left.len() as u32 / 4).max(1);
        let [taken, rest] = piece(left, workgroups);
        match share.compare_exchange_weak(found, word(rest), Ordering::AcqRel, Ordering::Relaxed) {
            Ok(_) => return Some(taken),
            Err(changed) => found = changed,
        }
    }
}

/// A piece from the front of a share, and what remains.
fn front(share: Range<u32>, workgroups: u32) -> [Range<u32>; 2] {
    let cut = share.start + workgroups;
    [share.start..cut, cut..share.end]
}

/// A piece from the back of a share, and what remains.
fn back(share: Range<u32>, workgroups: u32) -> [Range<u32>; 2] {
    let cut = share.end - workgroups;
    [cut..share.end, share.start..cut]
}

fn word(range: Range<u32>) -> u64 {
    u64::from(range.end) << 32 | u64::from(range.start)
}

fn range(word: u64) -> Range<u32> {
    word as u32..(word >> 32) as u32
}
