//! Settings of a CPU device.

/// How a CPU device uses threads and memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CpuConfig {
    /// How many threads compute at once, counting threads of callers; `None`: one for each processor that this
    /// process may use. At most 1024.
    pub threads: Option<u32>,
    /// Ties each worker to one processor, so that its caches stay warm; wrong where others share the processors.
    /// Threads of callers are tied by [`CpuDevice::pin_caller`](crate::CpuDevice::pin_caller).
    pub pin: bool,
    /// Freed memory kept for the next allocations, in bytes: it saves a page fault for each page.
    pub recycled_bytes: usize,
    /// LLVM names of the features to count on; `None`: those that the system tells of. For machines whose system cannot
    /// tell (RISC-V before Linux 6.4), and to see what a lesser one would do. Code that uses what the machine has not ends
    /// the process.
    pub features: Option<Vec<String>>,
}

impl Default for CpuConfig {
    fn default() -> Self {
        Self { threads: None, pin: false, recycled_bytes: 256 << 20, features: None }
    }
}
