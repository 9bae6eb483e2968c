//! What a queue takes: one operation, what it waits for, what it signals.

use std::error::Error;
use std::fmt::{self, Debug};
use std::sync::Arc;

use crate::{Buffer, BufferRange, CommandBuffer, Pattern, Timepoint};

/// One operation for a queue. Nothing is ordered but by semaphores, also within one queue.
///
/// The operation runs once all of `waits` are reached; then all of `signals` are signalled. When a wait fails
/// the operation does not run, and when it cannot run or fails, `signals` fail with the cause.
///
/// ```
/// # use ired_hal::{Device, Operation, Submission, SubmitError, Timepoint};
/// # fn example(device: &dyn Device, uploaded: Timepoint, done: Timepoint) -> Result<(), SubmitError> {
/// device.submit(Submission::new(Operation::Barrier).waits(&[uploaded]).signals(&[done]))?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Submission<'a> {
    /// Below [`Limits::queues`](crate::Limits::queues). A hint where to run, never an order.
    pub queue: u32,
    pub waits: &'a [Timepoint],
    pub signals: &'a [Timepoint],
    pub inline: Inline,
    pub operation: Operation<'a>,
}

/// Whether the submitting thread may be used for the work itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Inline {
    /// `submit` returns soon; other threads do the work.
    #[default]
    Forbidden,
    /// `submit` may do the work, alone or with others, before it returns. For callers that would wait anyway:
    /// on a CPU it saves waking a thread, which takes longer than many small models do.
    Allowed,
}

/// What a queue can do.
pub enum Operation<'a> {
    /// Gives memory to a buffer of [`Device::reserve`](crate::Device::reserve), of undefined content. Fails with
    /// [`Failure::OutOfMemory`](crate::Failure::OutOfMemory). Submitted before the work that uses the memory, which
    /// waits for it by a semaphore all the same.
    Alloca { buffer: &'a Arc<dyn Buffer> },
    /// Takes the memory back; the buffer may be given memory again.
    Dealloca { buffer: &'a Arc<dyn Buffer> },
    /// Repeats `pattern` over `dst`, whose length and offset are multiples of its width.
    Fill { dst: &'a BufferRange, pattern: Pattern },
    /// Copies `src` to `dst`: equal lengths, no overlap.
    Copy { src: &'a BufferRange, dst: &'a BufferRange },
    /// Copies host bytes to `dst`, of the same length. The bytes may be reused when `submit` returns.
    Update { src: &'a [u8], dst: &'a BufferRange },
    /// Runs a command buffer; `bindings[i]` is its slot `i`.
    Execute { commands: &'a Arc<dyn CommandBuffer>, bindings: &'a [BufferRange] },
    /// Runs host code as a part of the timeline. It must not wait for work of this device.
    HostCall(HostCall),
    /// Only waits and signals.
    Barrier,
}

/// Host code for [`Operation::HostCall`]; its error, or its panic, becomes
/// [`Failure::HostCall`](crate::Failure::HostCall).
pub type HostCall = Box<dyn FnOnce() -> Result<(), Box<dyn Error + Send + Sync>> + Send>;

impl<'a> Submission<'a> {
    /// The operation on queue 0, waiting for and signalling nothing, never inline.
    pub fn new(operation: Operation<'a>) -> Self {
        Self { queue: 0, waits: &[], signals: &[], inline: Inline::Forbidden, operation }
    }

    #[must_use]
    pub fn waits(self, waits: &'a [Timepoint]) -> Self {
        Self { waits, ..self }
    }

    #[must_use]
    pub fn signals(self, signals: &'a [Timepoint]) -> Self {
        Self { signals, ..self }
    }

    #[must_use]
    pub fn inline(self, inline: Inline) -> Self {
        Self { inline, ..self }
    }
}

impl Operation<'_> {
    /// What messages call it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Alloca { .. } => "alloca",
            Self::Dealloca { .. } => "dealloca",
            Self::Fill { .. } => "fill",
            Self::Copy { .. } => "copy",
            Self::Update { .. } => "update",
            Self::Execute { .. } => "execute",
            Self::HostCall(_) => "host call",
            Self::Barrier => "barrier",
        }
    }
}

impl Debug for Operation<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why an operation was not queued.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SubmitError {
    #[error("device is lost: {reason}")]
    DeviceLost { reason: String },
    /// [`crate::validate`] found a broken rule.
    #[error("`{operation}` breaks a rule of the device interface")]
    Invalid {
        operation: &'static str,
        #[source]
        cause: crate::validate::Violation,
    },
}
