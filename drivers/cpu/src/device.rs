//! The device: what this machine is, and how its objects are made.

use std::fmt::{self, Debug};
use std::io;
use std::sync::Arc;

use ired_hal::{
    AllocateError, Buffer, CommandBuffer, Device, DeviceInfo, DeviceKind, Executable, ExecutableSource,
    HostMemory, Limits, Memory, Peak, PrepareError, RecordError, Recording, Semaphore, Span, Submission,
    SubmitError,
};

use crate::CpuConfig;
use crate::buffer::{ALIGNMENT_BYTES, CpuBuffer, Recycler, Storage};
use crate::command::CpuCommandBuffer;
use crate::executable::CpuExecutable;
use crate::features::{host_features, host_triple};
use crate::pool::{Pool, pin_caller};
use crate::queue::{self, Core};
use crate::semaphore::Timeline;

/// What an address space of 48 bits leaves, and few enough pieces to count in 32 bits.
const MAX_BUFFER_BYTES: u64 = 1 << 46;

/// The processors of this machine as one device.
///
/// Dropping it ends its threads: work that has started or waits for nothing completes, other work fails.
pub struct CpuDevice {
    info: DeviceInfo,
    core: Arc<Core>,
    /// Only for its `Drop`, after which nothing runs.
    _pool: Pool,
}

impl CpuDevice {
    /// Starts the threads.
    ///
    /// # Errors
    /// When the system refuses a thread.
    pub fn new(config: &CpuConfig) -> io::Result<Self> {
        let pool = Pool::new(config)?;
        let core = Arc::new(Core {
            pool: pool.shared().clone(),
            recycler: Recycler::new(config.recycled_bytes),
            profiler: Arc::default(),
        });
        let system = rustix::system::sysinfo();
        let info = DeviceInfo {
            name: "cpu".into(),
            kind: DeviceKind::Cpu,
            triple: host_triple(),
            features: config.features.clone().unwrap_or_else(host_features),
            #[allow(clippy::unnecessary_cast, reason = "the type differs between architectures")]
            memory_bytes: (system.totalram as u64).saturating_mul(system.mem_unit.into()),
            unified_memory: true,
            parallelism: pool.threads(),
            limits: Limits {
                queues: 1,
                buffer_bytes: MAX_BUFFER_BYTES,
                allocation_alignment_bytes: ALIGNMENT_BYTES as u64,
                binding_alignment_bytes: 1,
                bindings: 1 << 12,
                constants: 1 << 12,
                workgroups: u32::MAX.into(),
            },
        };
        Ok(Self { info, core, _pool: pool })
    }

    /// Ties the calling thread to the processor that pinned workers use last.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn pin_caller() -> io::Result<()> {
        pin_caller()
    }
}

impl Device for CpuDevice {
    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn allocate(&self, len_bytes: u64, _memory: Memory) -> Result<Arc<dyn Buffer>, AllocateError> {
        let len = checked_len(len_bytes)?;
        let storage = self.core.recycler.allocate(len);
        let storage = storage.ok_or(AllocateError::OutOfMemory { bytes: len_bytes })?;
        Ok(CpuBuffer::new(len, storage))
    }

    fn reserve(&self, len_bytes: u64, _memory: Memory) -> Result<Arc<dyn Buffer>, AllocateError> {
        Ok(CpuBuffer::new(checked_len(len_bytes)?, Storage::None))
    }

    fn import(&self, memory: HostMemory) -> Result<Arc<dyn Buffer>, AllocateError> {
        Ok(CpuBuffer::import(memory))
    }

    fn prepare_executable(&self, source: &ExecutableSource<'_>) -> Result<Arc<dyn Executable>, PrepareError> {
        Ok(Arc::new(CpuExecutable::new(source, &self.info.features)?))
    }

    fn create_semaphore(&self, initial: u64) -> Arc<dyn Semaphore> {
        Arc::new(Timeline::new(initial))
    }

    fn create_command_buffer(&self, recording: Recording) -> Result<Arc<dyn CommandBuffer>, RecordError> {
        Ok(Arc::new(CpuCommandBuffer::new(recording, &self.core.profiler)?))
    }

    fn submit(&self, submission: Submission<'_>) -> Result<(), SubmitError> {
        queue::submit(&self.core, submission);
        Ok(())
    }

    fn free_kept(&self) {
        self.core.recycler.free_kept();
    }

    fn start_profile(&self) {
        self.core.profiler.start();
    }

    fn take_profile(&self) -> Vec<Span> {
        self.core.profiler.take()
    }

    fn measure_peak(&self) -> Option<Peak> {
        // Code that is not optimised would say nothing of the machine.
        #[cfg(target_arch = "x86_64")]
        if !cfg!(debug_assertions) {
            return Some(crate::peak::measure(self.info.parallelism));
        }
        None
    }
}

fn checked_len(bytes: u64) -> Result<usize, AllocateError> {
    if bytes > MAX_BUFFER_BYTES {
        return Err(AllocateError::TooLarge { bytes, limit_bytes: MAX_BUFFER_BYTES });
    }
    usize::try_from(bytes).map_err(|_| AllocateError::TooLarge { bytes, limit_bytes: usize::MAX as u64 })
}

impl Debug for CpuDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CpuDevice({} threads)", self.info.parallelism)
    }
}
