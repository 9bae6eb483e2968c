//! What is counted of each model version; kept across reloads so that counters only grow.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use ired_worker::Timing;

use crate::metrics::Counter;
use crate::schedule::Refusal;

/// Upper bounds by which times are counted, in microseconds: from what the smallest model takes to what no client waits
/// for, dense enough that a quantile read between two of them is of use.
pub const BOUNDS_US: [u64; 19] = [
    20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 200_000, 500_000, 1_000_000,
    2_000_000, 5_000_000, 10_000_000, 30_000_000,
];

/// How often, how long in all, and how often within each bound.
#[derive(Debug, Default)]
pub struct Tally {
    /// Those above the bound before it, up to its own; the last has what is beyond them all.
    buckets: [AtomicU64; BOUNDS_US.len() + 1],
    ns: AtomicU64,
}

impl Tally {
    pub fn add(&self, took: Duration) {
        let bucket = BOUNDS_US.partition_point(|&bound| Duration::from_micros(bound) < took);
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        self.ns.fetch_add(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    pub fn count(&self) -> u64 {
        self.buckets().iter().sum()
    }

    /// How many within each of [`BOUNDS_US`] and not the one before, and how many beyond them all.
    pub fn buckets(&self) -> [u64; BOUNDS_US.len() + 1] {
        self.buckets.each_ref().map(|bucket| bucket.load(Ordering::Relaxed))
    }

    pub fn ns(&self) -> u64 {
        self.ns.load(Ordering::Relaxed)
    }
}

/// Why a request failed, in the words of Triton's metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FailureReason {
    /// Refused before it ran: queue full, deadline passed while waiting.
    Rejected,
    Canceled,
    /// The runtime worker.
    Backend,
    /// The request itself.
    Other,
}

impl FailureReason {
    pub const ALL: [Self; 4] = [Self::Rejected, Self::Canceled, Self::Backend, Self::Other];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Rejected => "REJECTED",
            Self::Canceled => "CANCELED",
            Self::Backend => "BACKEND",
            Self::Other => "OTHER",
        }
    }
}

/// The counters of one model version.
#[derive(Debug, Default)]
pub struct ModelStats {
    pub success: Tally,
    pub fail: Tally,
    pub queue: Tally,
    pub compute_input: Tally,
    pub compute_infer: Tally,
    pub compute_output: Tally,
    /// Rows answered: requests, where nothing is batched.
    pub inferences: Counter,
    executions: Mutex<BTreeMap<u64, Executions>>,
    refused: Mutex<BTreeMap<&'static str, u64>>,
    failures: [AtomicU64; 4],
    last_inference_ms: AtomicU64,
    pending: AtomicU64,
}

/// The executions of one number of rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Executions {
    pub count: u64,
    pub input: Duration,
    pub compute: Duration,
    pub output: Duration,
}

/// Numbers of rows that are counted one by one; larger ones by the power of two below.
const EACH_ROWS: u64 = 64;

impl ModelStats {
    /// Counts an execution of so many rows.
    pub fn executed(&self, rows: u64, timing: &Timing) {
        self.inferences.add(rows);
        let size = if rows <= EACH_ROWS { rows } else { 1 << rows.ilog2() };
        let mut executions = self.executions.lock().unwrap_or_else(PoisonError::into_inner);
        let tally = executions.entry(size).or_default();
        tally.count += 1;
        tally.input += timing.input;
        tally.compute += timing.compute;
        tally.output += timing.output;
    }

    /// Counts a request that was not run.
    pub fn refuse(&self, refusal: &Refusal) {
        let mut refused = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        *refused.entry(refusal.reason()).or_default() += 1;
    }

    /// Requests that were not run, by reason.
    pub fn refused(&self) -> BTreeMap<&'static str, u64> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn execution_count(&self) -> u64 {
        let executions = self.executions.lock().unwrap_or_else(PoisonError::into_inner);
        executions.values().map(|tally| tally.count).sum()
    }

    /// Executions by their rows.
    pub fn executions(&self) -> BTreeMap<u64, Executions> {
        self.executions.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Counts a request as inside until the guard ends it.
    pub fn enter(&self) -> InFlight<'_> {
        self.pending.fetch_add(1, Ordering::Relaxed);
        InFlight { stats: self, started: std::time::Instant::now(), open: true }
    }

    pub fn pending(&self) -> u64 {
        self.pending.load(Ordering::Relaxed)
    }

    pub fn failures(&self, reason: FailureReason) -> u64 {
        self.failures[reason as usize].load(Ordering::Relaxed)
    }

    /// Milliseconds since the Unix epoch; 0 before the first.
    pub fn last_inference_ms(&self) -> u64 {
        self.last_inference_ms.load(Ordering::Relaxed)
    }
}

/// A request that is inside. Dropped without an end, it was cancelled.
#[derive(Debug)]
pub struct InFlight<'a> {
    stats: &'a ModelStats,
    started: std::time::Instant,
    open: bool,
}

impl InFlight<'_> {
    pub fn succeed(mut self, timing: &Timing) {
        self.open = false;
        let stats = self.stats;
        stats.success.add(self.started.elapsed());
        stats.queue.add(timing.queue);
        stats.compute_input.add(timing.input);
        stats.compute_infer.add(timing.compute);
        stats.compute_output.add(timing.output);
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let now = u64::try_from(now.as_millis()).unwrap_or(u64::MAX);
        stats.last_inference_ms.store(now, Ordering::Relaxed);
    }

    pub fn fail(mut self, reason: FailureReason) {
        self.close(reason);
    }

    fn close(&mut self, reason: FailureReason) {
        self.open = false;
        self.stats.fail.add(self.started.elapsed());
        self.stats.failures[reason as usize].fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        if self.open {
            self.close(FailureReason::Canceled);
        }
        self.stats.pending.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_counts_within_the_first_bound_that_holds_it() {
        let tally = Tally::default();
        for micros in [0, 20, 21, 30_000_000, 30_000_001] {
            tally.add(Duration::from_micros(micros));
        }
        let buckets = tally.buckets();
        assert_eq!((buckets[0], buckets[1], buckets[18], buckets[19]), (2, 1, 1, 1));
        assert_eq!((tally.count(), tally.ns()), (5, 60_000_042_000));
    }
}
