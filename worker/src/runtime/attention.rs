//! Whether to look out for an answer: where a core has nothing else to do, and it usually comes sooner than a sleeping
//! thread would be there.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::executable::cores;
use crate::lookout::Lookout;
use crate::messages::runtime::Timing;

/// What is not there by then is slept for.
const LONGEST: Duration = Duration::from_micros(200);

/// Cores that were busy a moment ago are about to be busy again.
const MOMENT: Duration = Duration::from_millis(5);

/// What this program has sent to all its processes.
struct Load {
    /// Requests that have not been answered.
    in_flight: AtomicUsize,
    since: Instant,
    /// When there were last too many of them for a core to be idle, in microseconds.
    busy: AtomicU64,
    cores: usize,
}

static LOAD: LazyLock<Load> = LazyLock::new(|| Load {
    in_flight: AtomicUsize::new(0),
    since: Instant::now(),
    busy: AtomicU64::new(0),
    cores: cores() as usize,
});

/// A request that is part of the load.
#[derive(Debug)]
pub(super) struct InFlight {
    /// Whether a core would be idle while it waits, beside that for who runs it.
    pub(super) idle: bool,
}

impl InFlight {
    pub(super) fn enter() -> Self {
        let now = u64::try_from(LOAD.since.elapsed().as_micros()).unwrap_or(u64::MAX);
        let in_flight = LOAD.in_flight.fetch_add(1, Ordering::Relaxed) + 1;
        if 2 * in_flight > LOAD.cores {
            LOAD.busy.store(now, Ordering::Relaxed);
        }
        let quiet = Duration::from_micros(now.saturating_sub(LOAD.busy.load(Ordering::Relaxed)));
        Self { idle: quiet > MOMENT }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        LOAD.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// How a process's answers are waited for.
#[derive(Debug, Default)]
pub(super) struct Attention {
    pub(super) lookout: Lookout,
    /// How long it last worked at a request.
    work_nanos: AtomicU64,
}

impl Attention {
    /// How long to look out for an answer; `None` where it takes longer than that matters.
    pub(super) fn patience(&self) -> Option<Duration> {
        let work = Duration::from_nanos(self.work_nanos.load(Ordering::Relaxed));
        (work <= LONGEST / 2).then_some(LONGEST)
    }

    /// A request was answered.
    pub(super) fn note(&self, timing: &Timing) {
        let work = timing.input + timing.compute + timing.output;
        self.work_nanos.store(u64::try_from(work.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }
}
