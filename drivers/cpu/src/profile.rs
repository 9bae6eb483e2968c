//! What workgroups took, noted while somebody watches.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use ired_hal::Span;

/// Enough for a run of any model; more would only fill memory.
const MAX_SPANS: usize = 1 << 16;

/// Takes notes of all programs of a device.
#[derive(Debug, Default)]
pub(crate) struct Profiler {
    is_on: AtomicBool,
    notes: Mutex<Notes>,
}

#[derive(Debug, Default)]
struct Notes {
    origin: Option<Instant>,
    spans: Vec<Span>,
}

thread_local! {
    static THREAD: u32 = next_thread();
}

fn next_thread() -> u32 {
    static THREADS: AtomicU32 = AtomicU32::new(0);
    THREADS.fetch_add(1, Ordering::Relaxed)
}

impl Profiler {
    pub(crate) fn start(&self) {
        *self.lock() = Notes { origin: Some(Instant::now()), spans: Vec::new() };
        self.is_on.store(true, Ordering::Relaxed);
    }

    pub(crate) fn take(&self) -> Vec<Span> {
        self.is_on.store(false, Ordering::Relaxed);
        std::mem::take(&mut *self.lock()).spans
    }

    /// The time, if work that starts now is to be noted.
    pub(crate) fn begin(&self) -> Option<Instant> {
        self.is_on.load(Ordering::Relaxed).then(Instant::now)
    }

    /// `workgroups` of `of_workgroups` of a command have run since `begun`.
    pub(crate) fn note(
        &self,
        begun: Instant,
        work: Arc<str>,
        tag: Option<u32>,
        workgroups: u32,
        of_workgroups: u32,
    ) {
        let took = begun.elapsed();
        let mut notes = self.lock();
        let Some(origin) = notes.origin.filter(|_| notes.spans.len() < MAX_SPANS) else { return };
        let start = begun.saturating_duration_since(origin);
        let thread = THREAD.with(|thread| *thread);
        notes.spans.push(Span { work, tag, thread, start, took, workgroups, of_workgroups });
    }

    fn lock(&self) -> MutexGuard<'_, Notes> {
        // Nothing panics while holding it.
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
