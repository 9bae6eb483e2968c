//! A timeline semaphore on the host, for devices without a native one, and waiting for several points at once.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::fmt::{self, Debug};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::{Failure, Semaphore, SignalError, Timepoint, WaitError};

/// The largest value; the bit above it marks failure.
pub const MAX_VALUE: u64 = FAILED - 1;

const FAILED: u64 = 1 << 63;

type Callback = Box<dyn FnOnce(Result<(), Failure>) + Send>;

/// A [`Semaphore`] on the host. Advancing one that nobody waits for, and waiting for a point already reached, is
/// one atomic operation.
#[derive(Default)]
pub struct Timeline {
    /// The value; with [`FAILED`] set, the last value before the failure.
    state: AtomicU64,
    /// Threads and callbacks that a change must look for. Whoever adds itself looks at `state` afterwards, and
    /// whoever changes `state` looks here afterwards, so one of them sees the other.
    waiting: AtomicUsize,
    slow: Mutex<Slow>,
    changed: Condvar,
}

#[derive(Default)]
struct Slow {
    failure: Option<Failure>,
    /// By value, then by age.
    callbacks: BTreeMap<(u64, u64), Callback>,
    registered: u64,
}

impl Timeline {
    /// `initial` is at most [`MAX_VALUE`].
    pub fn new(initial: u64) -> Self {
        Self { state: AtomicU64::new(initial.min(MAX_VALUE)), ..Self::default() }
    }

    /// `None`: not yet.
    fn reached(&self, value: u64) -> Option<Result<(), Failure>> {
        let state = self.state.load(Ordering::SeqCst);
        if state & MAX_VALUE >= value {
            return Some(Ok(()));
        }
        (state & FAILED != 0).then(|| Err(self.failure()))
    }

    fn failure(&self) -> Failure {
        // `fail` stores the reason before the bit, under this lock.
        self.lock().failure.clone().unwrap_or(Failure::Cancelled)
    }

    fn lock(&self) -> MutexGuard<'_, Slow> {
        // Nothing panics while holding it: callbacks run outside.
        self.slow.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Wakes threads and runs callbacks that the current state decides.
    fn notify(&self) {
        if self.waiting.load(Ordering::SeqCst) == 0 {
            return;
        }
        let (due, failed) = {
            let mut slow = self.lock();
            let state = self.state.load(Ordering::SeqCst);
            let mut due = Vec::new();
            while let Some(first) = slow.callbacks.first_entry()
                && first.key().0 <= state & MAX_VALUE
            {
                due.push(first.remove());
            }
            let failed =
                if state & FAILED != 0 { std::mem::take(&mut slow.callbacks) } else { BTreeMap::new() };
            self.waiting.fetch_sub(due.len() + failed.len(), Ordering::SeqCst);
            self.changed.notify_all();
            (due, slow.failure.clone().map(|failure| (failed, failure)))
        };
        for callback in due {
            run_in_order(move || callback(Ok(())));
        }
        let Some((failed, failure)) = failed else { return };
        for callback in failed.into_values() {
            let failure = failure.clone();
            run_in_order(move || callback(Err(failure)));
        }
    }
}

impl Semaphore for Timeline {
    fn value(&self) -> Result<u64, Failure> {
        let state = self.state.load(Ordering::SeqCst);
        if state & FAILED != 0 { Err(self.failure()) } else { Ok(state) }
    }

    fn signal(&self, value: u64) -> Result<(), SignalError> {
        if value > MAX_VALUE {
            return Err(SignalError::OutOfRange { value });
        }
        let mut current = self.state.load(Ordering::SeqCst);
        loop {
            if current & FAILED != 0 {
                return Err(SignalError::Failed(self.failure()));
            }
            if value <= current {
                return Err(SignalError::NotIncreasing { current, value });
            }
            match self.state.compare_exchange_weak(current, value, Ordering::SeqCst, Ordering::SeqCst) {
                Ok(_) => break,
                Err(found) => current = found,
            }
        }
        self.notify();
        Ok(())
    }

    fn fail(&self, failure: Failure) {
        {
            let mut slow = self.lock();
            if slow.failure.is_some() {
                return;
            }
            slow.failure = Some(failure);
            self.state.fetch_or(FAILED, Ordering::SeqCst);
        }
        self.notify();
    }

    fn wait(&self, value: u64, deadline: Option<Instant>) -> Result<(), WaitError> {
        if let Some(outcome) = self.reached(value) {
            return outcome.map_err(WaitError::Failed);
        }
        let mut slow = self.lock();
        self.waiting.fetch_add(1, Ordering::SeqCst);
        let outcome = loop {
            let state = self.state.load(Ordering::SeqCst);
            if state & MAX_VALUE >= value {
                break Ok(());
            }
            if let Some(failure) = &slow.failure {
                break Err(WaitError::Failed(failure.clone()));
            }
            slow = match deadline {
                None => self.changed.wait(slow).unwrap_or_else(PoisonError::into_inner),
                Some(deadline) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        break Err(WaitError::DeadlinePassed { value });
                    }
                    self.changed.wait_timeout(slow, left).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        };
        self.waiting.fetch_sub(1, Ordering::SeqCst);
        outcome
    }

    fn when_reached(&self, value: u64, callback: Callback) {
        if self.reached(value).is_none() {
            let mut slow = self.lock();
            slow.registered += 1;
            let age = slow.registered;
            slow.callbacks.insert((value, age), callback);
            self.waiting.fetch_add(1, Ordering::SeqCst);
            drop(slow);
            if self.reached(value).is_some() {
                // It came between the two looks; whoever notifies first takes the callback.
                self.notify();
            }
            return;
        }
        let outcome = self.reached(value).unwrap_or(Ok(()));
        run_in_order(move || callback(outcome));
    }
}

impl Debug for Timeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state.load(Ordering::SeqCst);
        let failed = if state & FAILED != 0 { ", failed" } else { "" };
        write!(f, "Timeline({}{failed})", state & MAX_VALUE)
    }
}

/// Calls `callback` once: with `Ok` when all of `points` are reached, with a failure as soon as one fails or one of
/// the semaphores goes away.
///
/// At once, on this thread, when that is decided already; else on a thread that signals.
pub fn when_all_reached(points: &[Timepoint], callback: impl FnOnce(Result<(), Failure>) + Send + 'static) {
    if points.is_empty() {
        return callback(Ok(()));
    }
    let all = Arc::new(All { left: AtomicUsize::new(points.len()), callback: Mutex::new(Some(callback)) });
    for point in points {
        let mut part = Part(Some(all.clone()));
        point.semaphore.when_reached(point.value, Box::new(move |outcome| part.finish(outcome)));
    }
}

struct All<F> {
    left: AtomicUsize,
    callback: Mutex<Option<F>>,
}

/// One point's share in the whole; dropped unheard, the point can never be reached.
struct Part<F: FnOnce(Result<(), Failure>)>(Option<Arc<All<F>>>);

impl<F: FnOnce(Result<(), Failure>)> Part<F> {
    fn finish(&mut self, outcome: Result<(), Failure>) {
        let Some(all) = self.0.take() else { return };
        if outcome.is_ok() && all.left.fetch_sub(1, Ordering::AcqRel) != 1 {
            return;
        }
        let callback = all.callback.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(callback) = callback {
            callback(outcome);
        }
    }
}

impl<F: FnOnce(Result<(), Failure>)> Drop for Part<F> {
    fn drop(&mut self) {
        self.finish(Err(Failure::Abandoned));
    }
}

/// Runs `callback` now, or after the one that is running on this thread: a chain of submissions, each waiting for
/// the one before, is a loop and not a recursion.
fn run_in_order(callback: impl FnOnce() + 'static) {
    type Queue = VecDeque<Box<dyn FnOnce()>>;
    thread_local! {
        static RUNNING: RefCell<Option<Queue>> = const { RefCell::new(None) };
    }
    struct Finish;
    impl Drop for Finish {
        fn drop(&mut self) {
            RUNNING.with_borrow_mut(|running| *running = None);
        }
    }
    let nested = RUNNING.with_borrow(Option::is_some);
    if nested {
        let callback: Box<dyn FnOnce()> = Box::new(callback);
        RUNNING.with_borrow_mut(|running| running.get_or_insert_default().push_back(callback));
        return;
    }
    RUNNING.with_borrow_mut(|running| *running = Some(Queue::new()));
    let _finish = Finish;
    callback();
    while let Some(next) = RUNNING.with_borrow_mut(|running| running.as_mut().and_then(VecDeque::pop_front)) {
        next();
    }
}
