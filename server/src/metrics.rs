//! Counters of the daemon and the Prometheus text they are served as.
//!
//! `nv_inference_*` keep Triton's names, so that its dashboards and autoscalers work; the rest is `ired_*`.

mod callers;
mod models;
mod text;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use ired_worker::SandboxReport;

pub use text::render;

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    pub fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }

    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// How many are inside something.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

impl Gauge {
    /// Counts one more until the guard is dropped.
    pub fn enter(&self) -> Inside<'_> {
        Inside { before: self.0.fetch_add(1, Ordering::Relaxed), gauge: self }
    }

    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

#[derive(Debug)]
pub struct Inside<'a> {
    before: u64,
    gauge: &'a Gauge,
}

impl Inside<'_> {
    /// How many were inside before.
    pub fn before(&self) -> u64 {
        self.before
    }
}

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        self.gauge.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Upper bounds by which compilations are counted, in seconds.
pub(crate) const COMPILE_BOUNDS_S: [f64; 12] =
    [0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0];

/// Compilations that ended alike.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outcome {
    /// Those within each bound and not the one before, and those beyond them all.
    pub(crate) buckets: [u64; COMPILE_BOUNDS_S.len() + 1],
    pub(crate) took: Duration,
}

impl Outcome {
    pub(crate) fn count(&self) -> u64 {
        self.buckets.iter().sum()
    }
}

/// What the compilations and the module cache count.
#[derive(Debug, Default)]
pub struct CompileMetrics {
    /// Modules that were open already, that were on disk, that another replica had put into the shared cache.
    pub memory_hits: Counter,
    pub disk_hits: Counter,
    pub shared_hits: Counter,
    pub misses: Counter,
    /// Files that were not what was written.
    pub corrupt: Counter,
    pub evicted: Counter,
    /// Worker processes that started a job.
    pub started: Counter,
    pub crashes: Counter,
    pub running: Gauge,
    pub waiting: Gauge,
    outcomes: Mutex<BTreeMap<&'static str, Outcome>>,
    sandbox: Mutex<Option<SandboxReport>>,
}

/// What the cache that replicas share counts; all 0 without one.
#[derive(Debug, Default)]
pub struct SharedCacheMetrics {
    up: AtomicBool,
    /// Requests that had no answer, or an error for one.
    pub failures: Counter,
    pub fetched_bytes: Counter,
    pub stored_bytes: Counter,
    /// Modules that are in the store; that could not be put there; that did not find room in the queue.
    pub stored: Counter,
    pub failed: Counter,
    pub dropped: Counter,
    /// Modules in the store that were not what they should be.
    pub refused: Counter,
    /// Compilations that waited, or wait, for another replica's; that took over from one that died.
    pub waits: Counter,
    pub waiting: Gauge,
    pub takeovers: Counter,
}

impl SharedCacheMetrics {
    pub fn set_up(&self, up: bool) {
        self.up.store(up, Ordering::Relaxed);
    }

    pub fn is_up(&self) -> bool {
        self.up.load(Ordering::Relaxed)
    }
}

impl CompileMetrics {
    /// `failure` is the kind of the failure, if it was one.
    pub fn note_compile(&self, took: Duration, failure: Option<&'static str>) {
        let mut outcomes = self.outcomes.lock().unwrap_or_else(PoisonError::into_inner);
        let outcome = outcomes.entry(failure.unwrap_or("ok")).or_default();
        outcome.buckets[COMPILE_BOUNDS_S.partition_point(|&bound| bound < took.as_secs_f64())] += 1;
        outcome.took += took;
    }

    pub fn note_sandbox(&self, report: &SandboxReport) {
        *self.sandbox.lock().unwrap_or_else(PoisonError::into_inner) = Some(report.clone());
    }

    fn outcomes(&self) -> BTreeMap<&'static str, Outcome> {
        self.outcomes.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn sandbox(&self) -> Option<SandboxReport> {
        self.sandbox.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
