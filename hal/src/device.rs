//! The device itself: what it is, and how everything else is made.

use std::fmt::Debug;
use std::sync::Arc;

use crate::{
    AllocateError, Buffer, CommandBuffer, Executable, ExecutableSource, HostMemory, Memory, Peak,
    PrepareError, RecordError, Recording, Semaphore, Span, Submission, SubmitError,
};

/// One device: a CPU's thread pool, a GPU. All methods may be called from any thread.
///
/// Objects of one device are meaningless to another; only [`crate::validate`] checks that.
pub trait Device: Debug + Send + Sync {
    fn info(&self) -> &DeviceInfo;

    /// Allocates `len_bytes` bytes of undefined content, aligned to [`Limits::allocation_alignment_bytes`].
    ///
    /// `len_bytes == 0` is allowed. May block in the system; for memory between queue operations use
    /// [`Device::reserve`].
    fn allocate(&self, len_bytes: u64, memory: Memory) -> Result<Arc<dyn Buffer>, AllocateError>;

    /// Makes a buffer without memory: [`Operation::Alloca`](crate::Operation::Alloca) gives it memory,
    /// [`Operation::Dealloca`](crate::Operation::Dealloca) takes it back, any number of times.
    fn reserve(&self, len_bytes: u64, memory: Memory) -> Result<Arc<dyn Buffer>, AllocateError>;

    /// Uses host memory in place, with whatever alignment it has.
    ///
    /// # Errors
    /// [`AllocateError::CannotImport`] from devices that cannot; copy then.
    fn import(&self, memory: HostMemory) -> Result<Arc<dyn Buffer>, AllocateError>;

    /// Checks an image against this device and makes its entries callable.
    fn prepare_executable(&self, source: &ExecutableSource<'_>) -> Result<Arc<dyn Executable>, PrepareError>;

    /// Makes a semaphore that stands at `initial`.
    fn create_semaphore(&self, initial: u64) -> Arc<dyn Semaphore>;

    /// Makes a recording into the device's own form, once; it can then run any number of times, also at once.
    fn create_command_buffer(&self, recording: Recording) -> Result<Arc<dyn CommandBuffer>, RecordError>;

    /// Queues one operation. What goes wrong when it runs fails its signals, not this call.
    ///
    /// Does not wait for [`Submission::waits`]. With [`Inline::Allowed`](crate::Inline::Allowed) it may run the operation before it returns.
    fn submit(&self, submission: Submission<'_>) -> Result<(), SubmitError>;

    /// Gives back memory that is kept for allocations to come.
    fn free_kept(&self) {}

    /// Notes what commands take from here on, which costs them a little, until [`Device::take_profile`].
    fn start_profile(&self) {}

    /// What commands took since [`Device::start_profile`], in no order, and no more than some ten thousand of them;
    /// nothing from devices that cannot tell.
    fn take_profile(&self) -> Vec<Span> {
        Vec::new()
    }

    /// Measures what nothing on this device can be faster than, which takes it some tenths of a second; `None` from
    /// devices that cannot tell.
    fn measure_peak(&self) -> Option<Peak> {
        None
    }
}

/// What a device says of itself.
#[derive(Clone, Debug)]
pub struct DeviceInfo {
    /// Unique within a process: `cpu`, `vulkan:0`.
    pub name: String,
    pub kind: DeviceKind,
    /// What executables must be compiled for: `x86_64-linux`…
    pub triple: String,
    /// LLVM names of the features this device has, sorted.
    pub features: Vec<String>,
    /// Memory that allocations come from, in bytes; of a CPU what the process may use.
    pub memory_bytes: u64,
    /// Whether host and device share memory, so that [`Device::import`] saves a copy.
    pub unified_memory: bool,
    /// How many threads or compute units work at once.
    pub parallelism: u32,
    pub limits: Limits,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DeviceKind {
    Cpu,
    DiscreteGpu,
    IntegratedGpu,
    Other,
}

/// Bounds on what a device takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub queues: u32,
    pub buffer_bytes: u64,
    pub allocation_alignment_bytes: u64,
    /// What every binding's address must be a multiple of; 1 where any will do.
    pub binding_alignment_bytes: u64,
    /// Bindings and constants of one dispatch.
    pub bindings: u32,
    pub constants: u32,
    /// Product of a grid's dimensions.
    pub workgroups: u64,
}
