//! Submissions: run at once on the submitting thread where that is allowed, else when ready by the pool.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use ired_hal::{
    Buffer, BufferRange, CommandBuffer, Failure, HostCall, Inline, Operation, Pattern, Submission, Timepoint,
};

use crate::buffer::{CpuBuffer, Recycler, Storage};
use crate::command::{Bound, CpuCommandBuffer, Program};
use crate::pool::{Leader, Shared, Task};
use crate::profile::Profiler;
use crate::semaphore::when_all_reached;

/// Copies and fills up to this size are done by one thread, without asking the pool.
const SMALL_BYTES: u64 = 64 << 10;

/// What operations need of the device. Work on its way keeps it alive, so that the device itself may go.
pub(crate) struct Core {
    pub(crate) pool: Arc<Shared>,
    pub(crate) recycler: Arc<Recycler>,
    pub(crate) profiler: Arc<Profiler>,
}

thread_local! {
    /// Addresses of the last inline execution, for their allocation.
    static SCRATCH: Cell<Bound> = Cell::default();
}

/// Takes one submission.
pub(crate) fn submit(core: &Arc<Core>, submission: Submission<'_>) {
    let Submission { waits, signals, inline, operation, .. } = submission;
    let reached = |point: &Timepoint| point.semaphore.value().is_ok_and(|value| value >= point.value);
    if inline == Inline::Allowed && waits.iter().all(reached) {
        let outcome = run(core, operation, None);
        return settle(signals, &outcome);
    }
    let mut work =
        Work { signals: signals.to_vec(), operation: Some(Owned::new(operation)), core: core.clone() };
    when_all_reached(waits, move |outcome| match outcome {
        Err(failure) => work.finish(Err(failure)),
        Ok(()) if work.operation.as_ref().is_some_and(Owned::is_small) => work.run(None),
        Ok(()) => {
            let core = work.core.clone();
            if let Err(refused) = core.pool.push(Box::new(work)) {
                drop(refused);
            }
        }
    });
}

/// Runs an operation on this thread: under a permit, `leader`'s or its own, where it may take long, and without one
/// where it calls others, who may block.
fn run(core: &Core, operation: Operation<'_>, leader: Option<Leader<'_>>) -> Result<(), Failure> {
    match operation {
        Operation::Execute { commands, bindings } => {
            let commands = CpuCommandBuffer::of(&**commands);
            let mut bound = SCRATCH.take();
            let outcome = commands.bind(bindings, &mut bound);
            if outcome.is_ok() {
                leader.unwrap_or_else(|| core.pool.lead()).run(&commands.program, &mut bound);
            }
            SCRATCH.set(bound);
            outcome
        }
        Operation::Copy { src, dst } => {
            let (program, mut bound) =
                Program::of_copy(address(src)?, address(dst)?, dst.len_bytes as usize, &core.profiler);
            core.run_program(&program, &mut bound, dst.len_bytes, leader);
            Ok(())
        }
        Operation::Fill { dst, pattern } => {
            let (program, mut bound) =
                Program::of_fill(address(dst)?, dst.len_bytes as usize, pattern, &core.profiler);
            core.run_program(&program, &mut bound, dst.len_bytes, leader);
            Ok(())
        }
        Operation::Update { src, dst } => dst
            .buffer
            .write(dst.offset_bytes, src)
            .map_err(|error| Failure::Invalid { message: error.to_string() }),
        Operation::Alloca { buffer } => {
            let bytes = buffer.len_bytes();
            let storage = usize::try_from(bytes).ok().and_then(|len| core.recycler.allocate(len));
            CpuBuffer::of(&**buffer).set_storage(storage.ok_or(Failure::OutOfMemory { bytes })?);
            Ok(())
        }
        Operation::Dealloca { buffer } => {
            CpuBuffer::of(&**buffer).set_storage(Storage::None);
            Ok(())
        }
        Operation::HostCall(call) => {
            drop(leader);
            let outcome = catch_unwind(AssertUnwindSafe(call));
            outcome.map_or_else(
                |panic| Err(Failure::from_panic(&*panic)),
                |outcome| outcome.map_err(|error| Failure::HostCall(Arc::from(error))),
            )
        }
        Operation::Barrier => Ok(()),
    }
}

impl Core {
    fn run_program(&self, program: &Arc<Program>, bound: &mut Bound, bytes: u64, leader: Option<Leader<'_>>) {
        if bytes > SMALL_BYTES {
            leader.unwrap_or_else(|| self.pool.lead()).run(program, bound);
        } else if program.epochs() > 0 {
            program.run(bound, 0, 0, program.epoch_workgroups(0).unwrap_or(0));
        }
    }
}

fn address(range: &BufferRange) -> Result<*mut u8, Failure> {
    let address = CpuBuffer::of(&*range.buffer).address();
    if address.is_null() {
        return Err(Failure::Invalid { message: "buffer has no memory".into() });
    }
    Ok(address.wrapping_add(range.offset_bytes as usize))
}

/// Signals, or fails, what a submission promised.
fn settle(signals: &[Timepoint], outcome: &Result<(), Failure>) {
    for point in signals {
        match outcome {
            Ok(()) => {
                if let Err(error) = point.semaphore.signal(point.value) {
                    point.semaphore.fail(Failure::Invalid { message: error.to_string() });
                }
            }
            Err(failure) => point.semaphore.fail(failure.clone()),
        }
    }
    if let Err(failure) = outcome
        && signals.is_empty()
    {
        tracing::warn!(%failure, "work failed that signals nothing");
    }
}

/// A submission on its way. Dropped unrun, it fails what it would have signalled.
struct Work {
    signals: Vec<Timepoint>,
    operation: Option<Owned>,
    core: Arc<Core>,
}

impl Work {
    fn run(&mut self, leader: Option<Leader<'_>>) {
        let Some(operation) = self.operation.take() else { return };
        let outcome = operation.run(&self.core, leader);
        self.finish(outcome);
    }

    fn finish(&mut self, outcome: Result<(), Failure>) {
        // What the operation holds goes before anybody hears that it is done.
        self.operation = None;
        settle(&std::mem::take(&mut self.signals), &outcome);
    }
}

impl Task for Work {
    fn run(mut self: Box<Self>, leader: Leader<'_>) {
        Work::run(&mut self, Some(leader));
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        if self.operation.is_some() {
            let reason = "it was shut down before the work could run".into();
            self.finish(Err(Failure::DeviceLost { reason }));
        }
    }
}

/// An operation that holds what it uses.
enum Owned {
    Alloca(Arc<dyn Buffer>),
    Dealloca(Arc<dyn Buffer>),
    Fill(BufferRange, Pattern),
    Copy(BufferRange, BufferRange),
    Update(Vec<u8>, BufferRange),
    Execute(Arc<dyn CommandBuffer>, Vec<BufferRange>),
    HostCall(HostCall),
    Barrier,
}

impl Owned {
    fn new(operation: Operation<'_>) -> Self {
        match operation {
            Operation::Alloca { buffer } => Self::Alloca(buffer.clone()),
            Operation::Dealloca { buffer } => Self::Dealloca(buffer.clone()),
            Operation::Fill { dst, pattern } => Self::Fill(dst.clone(), pattern),
            Operation::Copy { src, dst } => Self::Copy(src.clone(), dst.clone()),
            Operation::Update { src, dst } => Self::Update(src.to_vec(), dst.clone()),
            Operation::Execute { commands, bindings } => Self::Execute(commands.clone(), bindings.to_vec()),
            Operation::HostCall(call) => Self::HostCall(call),
            Operation::Barrier => Self::Barrier,
        }
    }

    /// Whether it is done faster than handed to another thread.
    fn is_small(&self) -> bool {
        matches!(self, Self::Alloca(_) | Self::Dealloca(_) | Self::Barrier)
    }

    fn run(self, core: &Core, leader: Option<Leader<'_>>) -> Result<(), Failure> {
        let operation = match &self {
            Self::Alloca(buffer) => Operation::Alloca { buffer },
            Self::Dealloca(buffer) => Operation::Dealloca { buffer },
            Self::Fill(dst, pattern) => Operation::Fill { dst, pattern: *pattern },
            Self::Copy(src, dst) => Operation::Copy { src, dst },
            Self::Update(src, dst) => Operation::Update { src, dst },
            Self::Execute(commands, bindings) => Operation::Execute { commands, bindings },
            Self::HostCall(_) => {
                let Self::HostCall(call) = self else { unreachable!("just matched") };
                return run(core, Operation::HostCall(call), leader);
            }
            Self::Barrier => Operation::Barrier,
        };
        run(core, operation, leader)
    }
}
