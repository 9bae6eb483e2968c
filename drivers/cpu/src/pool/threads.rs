//! How many threads, and where they run.

use std::io;
use std::thread::{Builder, JoinHandle};

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// Kernels keep up to a megabyte on their stack.
const STACK_BYTES: usize = 4 << 20;

/// More threads than this are not started, whatever is asked for.
const MAX_THREADS: usize = 1024;

/// How many threads `wanted` (`None`: all processors) means here.
pub(super) fn count(wanted: Option<u32>) -> u32 {
    let wanted = wanted.map_or_else(|| allowed_cpus().len(), |threads| threads as usize);
    wanted.clamp(1, MAX_THREADS) as u32
}

/// Ties the calling thread to the processor that pinned workers use last.
pub(crate) fn pin_caller() -> io::Result<()> {
    pin_to(allowed_cpus().first().copied())
}

/// Starts worker `index`, tied to one of `cpus` when `pin` says so.
pub(super) fn spawn(
    index: usize,
    pin: bool,
    cpus: &[usize],
    work: impl FnOnce() + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    // The first processor is for the caller, so worker 0 takes the second.
    let cpu = pin.then(|| cpus.get((index + 1) % cpus.len().max(1)).copied()).flatten();
    Builder::new().name(format!("ired-cpu-{index}")).stack_size(STACK_BYTES).spawn(move || {
        if let Err(error) = pin_to(cpu) {
            tracing::warn!(index, %error, "cannot tie a worker thread to a processor");
        }
        work();
    })
}

/// Processors that the calling thread may run on, ascending; at least one.
pub(super) fn allowed_cpus() -> Vec<usize> {
    let allowed = match sched_getaffinity(None) {
        Ok(set) => (0..CpuSet::MAX_CPU).filter(|&cpu| set.is_set(cpu)).collect(),
        // More processors than the set holds, or a system that does not say.
        Err(_) => (0..std::thread::available_parallelism().map_or(1, usize::from)).collect(),
    };
    let allowed: Vec<usize> = allowed;
    if allowed.is_empty() { vec![0] } else { allowed }
}

fn pin_to(cpu: Option<usize>) -> io::Result<()> {
    let Some(cpu) = cpu.filter(|&cpu| cpu < CpuSet::MAX_CPU) else { return Ok(()) };
    let mut set = CpuSet::new();
    set.set(cpu);
    Ok(sched_setaffinity(None, &set)?)
}
