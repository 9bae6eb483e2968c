//! Parking a thread until something changes.

use std::sync::atomic::{AtomicU32, Ordering};

use rustix::thread::futex;

/// A count of changes that threads can sleep on.
///
/// A sleeper notes the count, looks whether what it waits for has happened, and sleeps if not; a change after the
/// note makes the sleep return at once, so none is missed.
#[derive(Debug, Default)]
pub(super) struct Event(AtomicU32);

impl Event {
    pub(super) fn note(&self) -> u32 {
        self.0.load(Ordering::SeqCst)
    }

    /// Sleeps unless the count has moved on since `note`. May return early.
    pub(super) fn sleep(&self, note: u32) {
        // Every error means "look again": the count moved, or a signal came.
        let _ = futex::wait(&self.0, futex::Flags::PRIVATE, note, None);
    }

    pub(super) fn wake_all(&self) {
        self.0.fetch_add(1, Ordering::SeqCst);
        let _ = futex::wake(&self.0, futex::Flags::PRIVATE, i32::MAX as u32);
    }

    /// Whether the count moved on within about `spins` looks; without sleeping.
    pub(super) fn spin(&self, note: u32, spins: u32) -> bool {
        spin_until(spins, || self.0.load(Ordering::Relaxed) != note)
    }
}

/// Looks up to `spins` times whether `happened`.
pub(super) fn spin_until(spins: u32, mut happened: impl FnMut() -> bool) -> bool {
    for _ in 0..spins {
        if happened() {
            return true;
        }
        std::hint::spin_loop();
    }
    happened()
}
