//! What a device is: memory, executables, recorded command buffers, and queues ordered by timeline semaphores.
//!
//! The runtime speaks to every device through [`Device`] and knows no driver; a driver implements the traits
//! here and knows neither the runtime nor the module's bytecode. Three ideas carry the interface:
//!
//! - **Everything on a queue waits for and signals [`Timepoint`]s**, pairs of a [`Semaphore`] and a `u64` that
//!   only grows. Nothing else orders two submissions, and work may be submitted before what it waits for.
//! - **Command buffers are recorded data** ([`Recording`]): a list of commands over binding slots. They are
//!   checked when recorded, made into the device's form once ([`Device::create_command_buffer`]), and run any
//!   number of times with different binding tables.
//! - **One layer validates.** [`validate::Validated`] wraps a device and names every broken rule; below it a
//!   driver may trust what it is given, and callers that record only what a verified module says may leave it out.
//!
//! [`conformance`] is what "a correct driver" means: a suite that every driver's tests run. A new rule of this
//! interface is a new test there. [`timeline`] is a semaphore on the host for drivers that have no native one.

pub mod buffer;
pub mod command;
pub mod conformance;
pub mod device;
pub mod executable;
pub mod profile;
pub mod semaphore;
pub mod submission;
pub mod timeline;
pub mod validate;

pub use buffer::{
    Access, AllocateError, Buffer, BufferRange, FrozenBuffer, HostAccessError, HostMemory, Memory,
};
pub use command::{
    Binding, BindingSource, Command, CommandBuffer, Dispatch, Pattern, RecordError, Recorder, Recording,
    SlotUse,
};
pub use device::{Device, DeviceInfo, DeviceKind, Limits};
pub use executable::{Executable, ExecutableSource, PrepareError};
pub use profile::{Peak, Span};
pub use semaphore::{Failure, Semaphore, SignalError, Timepoint, WaitError};
pub use submission::{HostCall, Inline, Operation, Submission, SubmitError};
