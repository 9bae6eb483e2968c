//! A device that checks every rule of the interface before the device it wraps sees a call.
//!
//! It knows no driver. It wraps every object, so that one from elsewhere is recognised; keeps a ledger of work in
//! flight with what it waits for, signals and touches, so that missing order is found whether or not it showed this
//! time; and refuses what breaks a rule with a [`Violation`] that names it. Rules that depend on the binding table
//! are checked at each execution.

mod hazards;
mod ledger;
mod objects;
mod operations;
mod violation;

use std::sync::Arc;

use crate::{
    AllocateError, Buffer, CommandBuffer, Device, DeviceInfo, Executable, ExecutableSource, HostMemory,
    Memory, Peak, PrepareError, RecordError, Recording, Semaphore, Span, Submission, SubmitError, Timepoint,
};
use ledger::{Ledger, Node};
use objects::{CheckedBuffer, CheckedCommandBuffer, CheckedExecutable, CheckedSemaphore};

pub use violation::Violation;

/// A device behind checks.
#[derive(Debug)]
pub struct Validated {
    inner: Arc<dyn Device>,
    ledger: Arc<Ledger>,
}

impl Validated {
    pub fn new(inner: Arc<dyn Device>) -> Self {
        Self { inner, ledger: Arc::default() }
    }
}

impl Device for Validated {
    fn info(&self) -> &DeviceInfo {
        self.inner.info()
    }

    fn allocate(&self, len_bytes: u64, memory: Memory) -> Result<Arc<dyn Buffer>, AllocateError> {
        Ok(CheckedBuffer::new(&self.ledger, self.inner.allocate(len_bytes, memory)?, None))
    }

    fn reserve(&self, len_bytes: u64, memory: Memory) -> Result<Arc<dyn Buffer>, AllocateError> {
        Ok(CheckedBuffer::new(&self.ledger, self.inner.reserve(len_bytes, memory)?, Some(false)))
    }

    fn import(&self, memory: HostMemory) -> Result<Arc<dyn Buffer>, AllocateError> {
        Ok(CheckedBuffer::new(&self.ledger, self.inner.import(memory)?, None))
    }

    fn prepare_executable(&self, source: &ExecutableSource<'_>) -> Result<Arc<dyn Executable>, PrepareError> {
        let inner = self.inner.prepare_executable(source)?;
        Ok(Arc::new(CheckedExecutable { ledger: self.ledger.clone(), inner }))
    }

    fn create_semaphore(&self, initial: u64) -> Arc<dyn Semaphore> {
        CheckedSemaphore::new(&self.ledger, self.inner.create_semaphore(initial))
    }

    fn create_command_buffer(&self, recording: Recording) -> Result<Arc<dyn CommandBuffer>, RecordError> {
        let limits = &self.info().limits;
        let translated = operations::translate_recording(&self.ledger, &recording, limits)?;
        let inner = self.inner.create_command_buffer(translated)?;
        Ok(Arc::new(CheckedCommandBuffer { ledger: self.ledger.clone(), inner, recording }))
    }

    fn free_kept(&self) {
        self.inner.free_kept();
    }

    fn start_profile(&self) {
        self.inner.start_profile();
    }

    fn take_profile(&self) -> Vec<Span> {
        self.inner.take_profile()
    }

    fn measure_peak(&self) -> Option<Peak> {
        self.inner.measure_peak()
    }

    fn submit(&self, submission: Submission<'_>) -> Result<(), SubmitError> {
        let name = submission.operation.name();
        let invalid = |cause| SubmitError::Invalid { operation: name, cause };
        let queues = self.info().limits.queues;
        if submission.queue >= queues {
            return Err(invalid(Violation::NoSuchQueue { queue: submission.queue, queues }));
        }
        let waits = points(&self.ledger, submission.waits).map_err(invalid)?;
        let signals = points(&self.ledger, submission.signals).map_err(invalid)?;
        let alignment = self.info().limits.binding_alignment_bytes;
        let checked = operations::check(&self.ledger, submission.operation, alignment).map_err(invalid)?;

        let node = Node { waits: numbers(&waits), signals: numbers(&signals), uses: checked.uses };
        let mut inner_signals = vec![Timepoint::new(&self.inner.create_semaphore(0), 1)];
        inner_signals.extend(signals.into_iter().map(|(_, point)| point));
        self.ledger.enter(node, &inner_signals, checked.memory.as_ref()).map_err(invalid)?;

        let inner_waits: Vec<Timepoint> = waits.into_iter().map(|(_, point)| point).collect();
        checked.operation.into_submission(|operation| {
            let below = Submission::new(operation).waits(&inner_waits).signals(&inner_signals);
            self.inner.submit(Submission { queue: submission.queue, inline: submission.inline, ..below })
        })
    }
}

/// Each point with its semaphore's number, in terms of the device below.
fn points(ledger: &Arc<Ledger>, points: &[Timepoint]) -> Result<Vec<(u64, Timepoint)>, Violation> {
    let translate = |point: &Timepoint| {
        let semaphore = CheckedSemaphore::of(ledger, &*point.semaphore)?;
        Ok((semaphore.number, Timepoint::new(&semaphore.inner, point.value)))
    };
    points.iter().map(translate).collect()
}

fn numbers(points: &[(u64, Timepoint)]) -> Vec<(u64, u64)> {
    points.iter().map(|(number, point)| (*number, point.value)).collect()
}
