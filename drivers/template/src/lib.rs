//! The smallest correct driver, and the one to copy for a new device.
//!
//! Memory is host memory behind a lock, executables are tables of Rust closures, and an operation runs on the
//! thread that makes it ready: the one that submits it, or the one that signals what it waited for. It is slow,
//! has no `unsafe`, and is what tests without a device run on.

pub mod buffer;
pub mod command;
pub mod device;
pub mod executable;
pub mod semaphore;

pub use buffer::{TemplateBuffer, View};
pub use device::TemplateDevice;
pub use executable::{Kernel, Workgroup};
