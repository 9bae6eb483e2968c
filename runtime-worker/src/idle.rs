//! Memory that is kept for the next request is given back when none has come for a while: nobody has promised it.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, Thread};
use std::time::Duration;

/// How long that is. To get memory again costs milliseconds, which is little beside it.
const WHILE: Duration = Duration::from_secs(1);

/// Who watches for it, on a thread of its own that sleeps while there is nothing to give back.
#[derive(Default)]
pub(crate) struct Idle {
    /// Requests so far.
    ran: AtomicU64,
    /// The thread sleeps until there is one more.
    sleeps: AtomicBool,
    ended: AtomicBool,
    thread: OnceLock<Thread>,
}

impl Idle {
    /// A request has run.
    pub(crate) fn note(&self) {
        // In this order, and the other way round below, so that one of the two sees the other.
        self.ran.fetch_add(1, Ordering::SeqCst);
        if self.sleeps.load(Ordering::SeqCst) && self.sleeps.swap(false, Ordering::SeqCst) {
            self.wake();
        }
    }

    /// Whether a while without requests would be noticed.
    pub(crate) fn is_awake(&self) -> bool {
        !self.sleeps.load(Ordering::SeqCst)
    }

    /// Calls `give_back` when it goes to sleep: each time when requests have run and then none for a while. Returns after
    /// [`Self::end`].
    pub(crate) fn watch(&self, give_back: impl Fn()) {
        // Nobody else watches.
        let _ = self.thread.set(thread::current());
        let mut given = 0;
        loop {
            self.sleeps.store(true, Ordering::SeqCst);
            give_back();
            while self.ran.load(Ordering::SeqCst) == given && !self.has_ended() {
                thread::park();
            }
            loop {
                let seen = self.ran.load(Ordering::SeqCst);
                thread::park_timeout(WHILE);
                if self.has_ended() {
                    return;
                }
                given = self.ran.load(Ordering::SeqCst);
                if given == seen {
                    break;
                }
            }
        }
    }

    /// Ends the watch.
    pub(crate) fn end(&self) {
        self.ended.store(true, Ordering::SeqCst);
        self.wake();
    }

    fn has_ended(&self) -> bool {
        self.ended.load(Ordering::SeqCst)
    }

    fn wake(&self) {
        if let Some(thread) = self.thread.get() {
            thread.unpark();
        }
    }
}
