//! One call on its way: waiting for it, giving it up, taking its outputs.

use std::fmt::{self, Debug};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use ired_hal::{Buffer, Failure, Semaphore, Timepoint, WaitError};

use crate::budget::Reservation;
use crate::error::InvokeError;
use crate::instance::Shared;
use crate::tensor::BoundTensor;

/// A call whose work may still run. Dropping it does not end the work; [`Invocation::cancel`] does.
pub struct Invocation(Arc<State>);

/// The value of an invocation's semaphore at its end.
pub(crate) const DONE: u64 = 1;

/// What an invocation and whoever carries it on share.
pub(crate) struct State {
    pub(crate) done: Arc<dyn Semaphore>,
    instance: Arc<Shared>,
    cancelled: AtomicBool,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    outputs: Option<Vec<BoundTensor>>,
    error: Option<InvokeError>,
    leases: Vec<Lease>,
}

/// Memory for the time of an invocation. The reservation is over when the invocation is.
#[derive(Default)]
pub(crate) struct Lease {
    pub(crate) buffer: Option<Arc<dyn Buffer>>,
    pub(crate) _reservation: Option<Reservation>,
}

impl Invocation {
    pub(crate) fn new(state: Arc<State>) -> Self {
        Self(state)
    }

    /// Blocks until the outputs are there; `None` waits for ever.
    ///
    /// # Errors
    /// [`InvokeError::DeadlinePassed`] when they are not there in time: the work goes on, and may be waited for
    /// again. Anything else is the end of it.
    pub fn wait(&self, deadline: Option<Instant>) -> Result<(), InvokeError> {
        match self.0.done.wait(DONE, deadline) {
            Ok(()) => {
                self.0.return_leases();
                Ok(())
            }
            Err(WaitError::DeadlinePassed { .. }) => Err(InvokeError::DeadlinePassed),
            Err(WaitError::Failed(failure)) => Err(self.0.error(failure)),
        }
    }

    /// Waits for the outputs and takes them, in signature order; a second time there are none.
    ///
    /// Their buffers have no other user: [`Buffer::freeze`] turns each into bytes without a copy.
    ///
    /// # Errors
    /// As [`Invocation::wait`].
    pub fn take_outputs(&self, deadline: Option<Instant>) -> Result<Vec<BoundTensor>, InvokeError> {
        self.wait(deadline)?;
        self.0.lock().outputs.take().ok_or(InvokeError::OutputsTaken)
    }

    /// Whether waiting would return at once.
    pub fn is_done(&self) -> bool {
        !matches!(self.0.done.value(), Ok(value) if value < DONE)
    }

    /// Gives the call up: waiting ends with [`InvokeError::Cancelled`], unless it is done already.
    ///
    /// Work that the device has begun runs to its end, for nobody, and until then uses the memory of inputs and
    /// outputs, which whoever lends it from elsewhere must keep. A schedule that looks at results stops there.
    pub fn cancel(&self) {
        self.0.cancelled.store(true, Ordering::Release);
        self.0.done.fail(Failure::Cancelled);
    }

    /// When the outputs are there: for other work to wait for, or to be called back.
    pub fn timepoint(&self) -> Timepoint {
        Timepoint::new(&self.0.done, DONE)
    }

    /// Calls `callback` once, when waiting would return, on whatever thread completes the work; at once when that
    /// is already so. It must not wait for device work.
    pub fn when_done(&self, callback: impl FnOnce() + Send + 'static) {
        self.0.done.when_reached(DONE, Box::new(move |_| callback()));
    }
}

impl Drop for Invocation {
    fn drop(&mut self) {
        if !self.0.holds_buffers() {
            return;
        }
        let state = self.0.clone();
        let when_done = move |outcome: Result<(), Failure>| {
            if outcome.is_ok() {
                state.return_leases();
            }
        };
        self.0.done.when_reached(DONE, Box::new(when_done));
    }
}

impl Debug for Invocation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Invocation").field("done", &self.is_done()).finish_non_exhaustive()
    }
}

impl State {
    pub(crate) fn new(instance: Arc<Shared>, done: Arc<dyn Semaphore>) -> Arc<Self> {
        Arc::new(Self { done, instance, cancelled: AtomicBool::new(false), inner: Mutex::default() })
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Acquire)
    }

    /// What will be the outputs and what they need until they are. Before the work that ends it is submitted.
    pub(crate) fn promise(&self, outputs: Vec<BoundTensor>, leases: Vec<Lease>) {
        let mut inner = self.lock();
        inner.outputs = Some(outputs);
        inner.leases = leases;
    }

    /// Ends the invocation with `error`.
    pub(crate) fn fail(&self, error: InvokeError) {
        let failure = match &error {
            InvokeError::Cancelled => Failure::Cancelled,
            InvokeError::Failed(failure) => failure.clone(),
            other => Failure::HostCall(Arc::new(other.clone())),
        };
        self.lock().error.get_or_insert(error);
        self.done.fail(failure);
    }

    fn error(&self, failure: Failure) -> InvokeError {
        let known = self.lock().error.clone();
        known.unwrap_or(match failure {
            Failure::Cancelled => InvokeError::Cancelled,
            other => InvokeError::Failed(other),
        })
    }

    /// Work has let go of its buffers when it signals, so they may serve the next invocation. Those of work that
    /// failed or was given up may still be in use, and are not kept.
    fn return_leases(&self) {
        let leases = std::mem::take(&mut self.lock().leases);
        for buffer in leases.into_iter().filter_map(|lease| lease.buffer) {
            self.instance.pool.give(buffer);
        }
    }

    fn holds_buffers(&self) -> bool {
        !self.lock().leases.is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing panics while holding it.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
