//! The device: makes the objects, and runs operations where they become ready.

use std::collections::BTreeMap;
use std::fmt::{self, Debug};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use ired_hal::{
    AllocateError, Buffer, BufferRange, CommandBuffer, Device, DeviceInfo, DeviceKind, Executable,
    ExecutableSource, Failure, HostAccessError, HostCall, HostMemory, Limits, Memory, Operation, Pattern,
    PrepareError, RecordError, Recording, Semaphore, Submission, SubmitError, Timepoint,
};

use crate::buffer::Storage;
use crate::command::{self, TemplateCommandBuffer};
use crate::executable::TemplateExecutable;
use crate::semaphore::{Timeline, when_all_reached};
use crate::{Kernel, TemplateBuffer, View};

const MAX_BUFFER_BYTES: u64 = 1 << 30;

/// A device whose kernels are the closures it is made with.
pub struct TemplateDevice {
    info: DeviceInfo,
    kernels: BTreeMap<String, Kernel>,
}

impl TemplateDevice {
    /// A device that knows `kernels` by name.
    pub fn new(kernels: impl IntoIterator<Item = (String, Kernel)>) -> Self {
        let info = DeviceInfo {
            name: "template".into(),
            kind: DeviceKind::Other,
            triple: "template".into(),
            features: vec![],
            memory_bytes: MAX_BUFFER_BYTES,
            unified_memory: true,
            parallelism: 1,
            limits: Limits {
                queues: 1,
                buffer_bytes: MAX_BUFFER_BYTES,
                allocation_alignment_bytes: 1,
                binding_alignment_bytes: 1,
                bindings: 64,
                constants: 64,
                workgroups: 1 << 32,
            },
        };
        Self { info, kernels: kernels.into_iter().collect() }
    }

    fn check_size(bytes: u64) -> Result<(), AllocateError> {
        if bytes > MAX_BUFFER_BYTES {
            return Err(AllocateError::TooLarge { bytes, limit_bytes: MAX_BUFFER_BYTES });
        }
        Ok(())
    }
}

impl Device for TemplateDevice {
    fn info(&self) -> &DeviceInfo {
        &self.info
    }

    fn allocate(&self, len_bytes: u64, _memory: Memory) -> Result<Arc<dyn Buffer>, AllocateError> {
        Self::check_size(len_bytes)?;
        Ok(TemplateBuffer::new(len_bytes, true, Storage::Owned(vec![0; len_bytes as usize])))
    }

    fn reserve(&self, len_bytes: u64, _memory: Memory) -> Result<Arc<dyn Buffer>, AllocateError> {
        Self::check_size(len_bytes)?;
        Ok(TemplateBuffer::new(len_bytes, true, Storage::None))
    }

    fn import(&self, mut memory: HostMemory) -> Result<Arc<dyn Buffer>, AllocateError> {
        let (len, writable) = match &mut memory {
            HostMemory::ReadOnly(owner) => ((**owner).as_ref().len(), false),
            HostMemory::Writable(owner) => ((**owner).as_mut().len(), true),
        };
        Ok(TemplateBuffer::new(len as u64, writable, Storage::Imported(memory)))
    }

    fn prepare_executable(&self, source: &ExecutableSource<'_>) -> Result<Arc<dyn Executable>, PrepareError> {
        if source.triple != self.info.triple {
            let (found, expected) = (source.triple.into(), self.info.triple.clone());
            return Err(PrepareError::WrongTarget { found, expected });
        }
        if !source.features.is_empty() {
            return Err(PrepareError::MissingFeatures { missing: source.features.to_vec() });
        }
        let find = |name: &String| {
            self.kernels.get(name).cloned().ok_or_else(|| PrepareError::MissingEntry { name: name.clone() })
        };
        let kernels = source.entries.iter().map(find).collect::<Result<_, _>>()?;
        Ok(Arc::new(TemplateExecutable { names: source.entries.to_vec(), kernels }))
    }

    fn create_semaphore(&self, initial: u64) -> Arc<dyn Semaphore> {
        Arc::new(Timeline::new(initial))
    }

    fn create_command_buffer(&self, recording: Recording) -> Result<Arc<dyn CommandBuffer>, RecordError> {
        Ok(Arc::new(TemplateCommandBuffer(recording)))
    }

    fn submit(&self, submission: Submission<'_>) -> Result<(), SubmitError> {
        let mut work =
            Work { signals: submission.signals.to_vec(), operation: Some(Owned::new(submission.operation)) };
        when_all_reached(submission.waits, move |outcome| work.finish(outcome));
        Ok(())
    }
}

impl Debug for TemplateDevice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TemplateDevice")
    }
}

/// A submission on its way. Dropped unrun, it fails what it would have signalled.
struct Work {
    signals: Vec<Timepoint>,
    operation: Option<Owned>,
}

impl Work {
    fn finish(&mut self, ready: Result<(), Failure>) {
        let Some(operation) = self.operation.take() else { return };
        // The operation is gone, with its references, before anybody hears that it is done.
        let outcome = ready.and_then(|()| operation.run());
        for point in self.signals.drain(..) {
            match &outcome {
                Ok(()) => {
                    if let Err(error) = point.semaphore.signal(point.value) {
                        point.semaphore.fail(Failure::Invalid { message: error.to_string() });
                    }
                }
                Err(failure) => point.semaphore.fail(failure.clone()),
            }
        }
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        self.finish(Err(Failure::Abandoned));
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

    fn run(self) -> Result<(), Failure> {
        let outcome = catch_unwind(AssertUnwindSafe(|| match self {
            Self::Alloca(buffer) => {
                let bytes = vec![0; buffer.len_bytes() as usize];
                TemplateBuffer::of(&*buffer).set_storage(Storage::Owned(bytes));
                Ok(())
            }
            Self::Dealloca(buffer) => {
                TemplateBuffer::of(&*buffer).set_storage(Storage::None);
                Ok(())
            }
            Self::Fill(dst, pattern) => command::fill(view(&dst), pattern).map_err(invalid),
            Self::Copy(src, dst) => command::copy(view(&src), view(&dst)).map_err(invalid),
            Self::Update(src, dst) => dst.buffer.write(dst.offset_bytes, &src).map_err(invalid),
            Self::Execute(commands, bindings) => {
                TemplateCommandBuffer::of(&*commands).run(&bindings).map_err(invalid)
            }
            Self::HostCall(call) => call().map_err(|error| Failure::HostCall(Arc::from(error))),
            Self::Barrier => Ok(()),
        }));
        outcome.unwrap_or_else(|panic| Err(Failure::from_panic(&*panic)))
    }
}

fn view(range: &BufferRange) -> View<'_> {
    View {
        buffer: TemplateBuffer::of(&*range.buffer),
        offset_bytes: range.offset_bytes,
        len_bytes: range.len_bytes,
    }
}

fn invalid(error: HostAccessError) -> Failure {
    Failure::Invalid { message: error.to_string() }
}
