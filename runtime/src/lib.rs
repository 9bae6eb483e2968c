//! Loads modules and runs their entry points on a device, in the calling process.
//!
//! [`LoadedModule`] is a verified module made ready on one device: its kernels prepared, its parameters resident.
//! An [`Instance`] of it takes invocations, any number at once. [`Instance::invoke`] checks inputs, interprets the
//! host schedule into one recorded command buffer (kept for the next call with the same dimensions), submits it and
//! returns an [`Invocation`] to wait for. Schedules that look at results while they run are submitted in pieces.
//!
//! There is no async runtime here and no thread of its own; whatever thread completes device work carries an
//! invocation on. This crate knows no driver, no compiler and no wire format.

#![forbid(unsafe_code)]

mod budget;
mod error;
mod inputs;
mod instance;
mod invocation;
mod live;
mod load;
mod machine;
mod outputs;
mod plan;
mod pool;
mod strings;
mod tape;
mod tensor;

pub use budget::{MemoryBudget, Reservation};
pub use error::{Fault, InvokeError, LoadError, StringsError, UploadError};
pub use instance::{Instance, InstanceOptions, InvokeOptions};
pub use invocation::Invocation;
pub use load::{LoadOptions, LoadedModule};
pub use outputs::{OutputMemory, OutputPool, OutputRequest};
pub use strings::CallStrings;
pub use tensor::BoundTensor;
