//! The CPU as a device: kernels are functions in embedded ELF images, run over their grids by a thread pool.
//!
//! Memory is the host's, so imports cost nothing. A submission that may run inline is computed by the thread that
//! submits it, with help from the pool once it proves long; see `pool.rs`. Faults in kernels end the process: whoever
//! runs code it does not trust runs this driver in a process of its own.

mod buffer;
mod command;
mod config;
mod device;
mod executable;
pub mod features;
pub mod loader;
#[cfg(target_arch = "x86_64")]
mod peak;
mod pool;
mod profile;
mod queue;
mod semaphore;
#[cfg(feature = "test-support")]
pub mod test_support;

pub use config::CpuConfig;
pub use device::CpuDevice;
