//! Timeline semaphores: a `u64` that only grows, or a failure that stays. The one thing that orders work.

use std::any::Any;
use std::error::Error;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Instant;

/// A `u64` that host and device advance and wait for, or a [`Failure`], which is final.
///
/// A point `v` is reached when the value is `v` or more. Once failed, points at or below the last value stay
/// reached and all others fail: work that waits for one does not run, and fails what it would have signalled,
/// with the same failure.
pub trait Semaphore: Any + Debug + Send + Sync {
    /// The current value.
    ///
    /// # Errors
    /// The failure, when the semaphore has failed.
    fn value(&self) -> Result<u64, Failure>;

    /// Advances to `value`. What the caller wrote before is visible to everybody who sees the point reached.
    ///
    /// Runs the callbacks of [`Semaphore::when_reached`] that become due, on this thread.
    ///
    /// # Errors
    /// When `value` is not above the current value, or the semaphore has failed. Nothing changes then.
    fn signal(&self, value: u64) -> Result<(), SignalError>;

    /// Fails every point that has not been reached. The first failure stays; later ones are dropped.
    fn fail(&self, failure: Failure);

    /// Blocks until `value` is reached, the semaphore fails, or `deadline` passes (`None`: no deadline).
    fn wait(&self, value: u64, deadline: Option<Instant>) -> Result<(), WaitError>;

    /// Calls `callback` once: when `value` is reached or has failed; at once, on this thread, when it already is.
    ///
    /// The callback runs on whatever thread signals, so it must not wait for a semaphore. One that can never run,
    /// because the semaphore goes away, is dropped.
    fn when_reached(&self, value: u64, callback: Box<dyn FnOnce(Result<(), Failure>) + Send>);
}

/// A value of a semaphore: what work waits for and signals.
#[derive(Clone, Debug)]
pub struct Timepoint {
    pub semaphore: Arc<dyn Semaphore>,
    pub value: u64,
}

impl Timepoint {
    pub fn new(semaphore: &Arc<dyn Semaphore>, value: u64) -> Self {
        Self { semaphore: semaphore.clone(), value }
    }

    /// Blocks until reached; see [`Semaphore::wait`].
    pub fn wait(&self, deadline: Option<Instant>) -> Result<(), WaitError> {
        self.semaphore.wait(self.value, deadline)
    }
}

/// Why a point will never be reached. Cheap to clone: it travels along everything that waits.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Failure {
    #[error("out of memory: {bytes} bytes were asked for")]
    OutOfMemory { bytes: u64 },
    #[error("a host call failed")]
    HostCall(#[source] Arc<dyn Error + Send + Sync>),
    /// Somebody decided that the result is not wanted.
    #[error("cancelled")]
    Cancelled,
    /// Nobody is left who could signal: what the work waited for is gone.
    #[error("abandoned: what the work waited for no longer exists")]
    Abandoned,
    #[error("device is lost: {reason}")]
    DeviceLost { reason: String },
    /// A rule was broken that could be seen only when the work ran.
    #[error("{message}")]
    Invalid { message: String },
}

impl Failure {
    /// The failure for host code that panicked with `panic`, what `catch_unwind` gives.
    pub fn from_panic(panic: &(dyn Any + Send)) -> Self {
        let said = panic.downcast_ref::<&str>().copied();
        let said = said.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
        Self::HostCall(Arc::from(Box::from(format!("panicked: {}", said.unwrap_or("no message")))))
    }
}

/// Why a semaphore was not advanced.
#[derive(Clone, Debug, thiserror::Error)]
pub enum SignalError {
    #[error("semaphore stands at {current}; it cannot be signalled to {value}")]
    NotIncreasing { current: u64, value: u64 },
    #[error("semaphore value {value} is above the largest, {}", crate::timeline::MAX_VALUE)]
    OutOfRange { value: u64 },
    #[error("semaphore has failed")]
    Failed(#[source] Failure),
}

/// Why a wait ended early.
#[derive(Clone, Debug, thiserror::Error)]
pub enum WaitError {
    #[error("deadline passed before the semaphore reached {value}")]
    DeadlinePassed { value: u64 },
    #[error("the work waited for has failed")]
    Failed(#[source] Failure),
}
