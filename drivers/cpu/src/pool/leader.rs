//! Leading a submission: alone at first, then shared, and in turns with other leaders.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::Shared;
use super::pace::{SHORT, Way};
use super::run::{Left, Run};
use crate::command::{Bound, Program};

/// How long a leader computes while others wait for a permit.
const TIME_SLICE: Duration = Duration::from_millis(2);

/// A permit to compute, held by the thread that leads a submission.
pub(crate) struct Leader<'a> {
    pool: &'a Shared,
    /// Start of the time slice.
    since: Instant,
}

impl<'a> Leader<'a> {
    /// For a permit that the caller of this has: it is given back on drop.
    pub(super) fn with_permit(pool: &'a Shared) -> Self {
        Self { pool, since: Instant::now() }
    }

    /// Runs all of `program`; every write has happened when it returns. `bound` may be taken.
    ///
    /// What `bound` refers to stays valid until this returns.
    pub(crate) fn run(&mut self, program: &Arc<Program>, bound: &mut Bound) {
        if self.pool.threads == 1 || program.is_serial() {
            for epoch in 0..program.epochs() {
                program.run(bound, epoch, 0, program.epoch_workgroups(epoch).unwrap_or(0));
                self.yield_to_others();
            }
            return;
        }
        let (start, way) = (Instant::now(), program.pace.way());
        let mut share = way == Way::Shared;
        'epochs: for epoch in 0..program.epochs() {
            let workgroups = program.epoch_workgroups(epoch).unwrap_or(0);
            // Who does not know how long it takes looks often.
            let (mut next, mut take) = (0, if way == Way::Unknown { 1 } else { workgroups });
            while next < workgroups {
                if share && workgroups - next > 1 {
                    self.run_shared(program, std::mem::take(bound), epoch, next);
                    break 'epochs;
                }
                let end = workgroups.min(next.saturating_add(take));
                program.run(bound, epoch, next, end);
                (next, take) = (end, take.saturating_mul(2));
                share |= way == Way::Unknown && start.elapsed() > SHORT;
                self.yield_to_others();
            }
        }
        program.pace.note(way, start.elapsed());
    }

    fn run_shared(&mut self, program: &Arc<Program>, bound: Bound, epoch: u32, next: u32) {
        let pool = self.pool;
        let run = Arc::new(Run::new(program.clone(), bound, epoch, next, pool.threads));
        pool.share(&run);
        while run.participate(|| self.is_over()) == Left::Early {
            self.yield_to_others();
        }
        pool.unshare(&run);
    }

    /// Whether others have waited for this permit through a whole time slice.
    fn is_over(&self) -> bool {
        self.pool.pressure.load(Ordering::Relaxed) > 0 && self.since.elapsed() > TIME_SLICE
    }

    /// Lets those who wait go first once the time slice is over.
    fn yield_to_others(&mut self) {
        if self.is_over() {
            self.pool.leave();
            self.pool.enter();
            self.since = Instant::now();
        }
    }
}

impl Drop for Leader<'_> {
    fn drop(&mut self) {
        self.pool.leave();
    }
}
