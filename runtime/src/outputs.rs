//! Where outputs go: memory of the caller's choice, which may be that of an input, or memory that is used again.

use std::fmt::{self, Debug};
use std::sync::{Arc, Mutex, PoisonError};

use ired_hal::{AllocateError, Buffer, BufferRange, Device, Memory};

use crate::error::InvokeError;
use crate::inputs::Entry;
use crate::plan::in_place::{Alias, find_aliases};
use crate::pool::{fits, round_up};
use crate::tensor::BoundTensor;

/// Memory for outputs, such as regions shared with another process.
///
/// An output may be given exactly the bytes of an input, as a cache that each call changes: it then holds what the call
/// gives, and what the call leaves as it was is not written where the schedule allows that. Any other overlap of an
/// output with inputs or outputs is refused. Memory is known by its buffer: bytes that were imported twice are not
/// seen to be the same, and must not be used so.
pub trait OutputMemory: Send + Sync {
    /// At least [`OutputRequest::bytes`] bytes that the device may write to; `None`: wherever the instance likes, in
    /// memory that the host can read.
    fn allocate(&self, request: OutputRequest<'_>) -> Result<Option<BufferRange>, AllocateError>;
}

/// What an output needs.
#[derive(Clone, Copy, Debug)]
pub struct OutputRequest<'a> {
    pub name: &'a str,
    /// Position in the signature.
    pub index: usize,
    /// The tensor's bytes, and what padding the schedule writes after them.
    pub bytes: u64,
}

/// By position in the signature; what is not there goes where the instance likes.
impl OutputMemory for Vec<Option<BufferRange>> {
    fn allocate(&self, request: OutputRequest<'_>) -> Result<Option<BufferRange>, AllocateError> {
        Ok(self.get(request.index).cloned().flatten())
    }
}

/// Memory for outputs that is used again when nobody holds it any more: a loop that gives outputs back as inputs, one
/// call's after the other's, comes to take no new memory, also where they grow.
///
/// It holds the buffers that it gives, so that [`Buffer::freeze`] refuses them; read them instead.
pub struct OutputPool {
    device: Arc<dyn Device>,
    buffers: Mutex<Vec<Arc<dyn Buffer>>>,
}

/// Buffers of one pool, at most, used and unused; more are given and forgotten.
const MAX_POOLED: usize = 1024;

impl OutputPool {
    pub fn new(device: &Arc<dyn Device>) -> Arc<Self> {
        Arc::new(Self { device: device.clone(), buffers: Mutex::default() })
    }
}

impl OutputMemory for OutputPool {
    fn allocate(&self, request: OutputRequest<'_>) -> Result<Option<BufferRange>, AllocateError> {
        // A list of buffers is sound whatever panicked.
        let mut buffers = self.buffers.lock().unwrap_or_else(PoisonError::into_inner);
        let mut best: Option<(usize, u64)> = None;
        let mut idle = None;
        for (index, buffer) in buffers.iter_mut().enumerate() {
            let bytes = buffer.len_bytes();
            // Work in flight holds its buffers, and so does everybody else who may look at one.
            if Arc::get_mut(buffer).is_none() {
                continue;
            }
            idle = Some(index);
            if fits(bytes, request.bytes) && best.is_none_or(|(_, least)| bytes < least) {
                best = Some((index, bytes));
            }
        }
        if let Some((index, _)) = best {
            return Ok(Some(BufferRange::new(&buffers[index], 0, request.bytes)));
        }
        // Nobody wanted the idle one: sizes have moved on.
        let outgrown = idle.map(|index| buffers.swap_remove(index));
        let buffer = self.device.allocate(round_up(request.bytes), Memory::Host)?;
        if buffers.len() < MAX_POOLED {
            buffers.push(buffer.clone());
        }
        drop(outgrown);
        Ok(Some(BufferRange::new(&buffer, 0, request.bytes)))
    }
}

impl Debug for OutputPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OutputPool").finish_non_exhaustive()
    }
}

/// Memory for output `index` of `entry`.
pub(crate) fn allocate_output(
    device: &dyn Device,
    entry: &Entry,
    index: usize,
    bytes: u64,
    memory: Option<&Arc<dyn OutputMemory>>,
) -> Result<BufferRange, InvokeError> {
    let name = entry.outputs[index].name.as_str();
    let given = memory.map(|memory| memory.allocate(OutputRequest { name, index, bytes })).transpose()?;
    let Some(range) = given.flatten() else {
        return Ok(BufferRange::whole(&device.allocate(bytes, Memory::Host)?));
    };
    let end = range.offset_bytes.checked_add(range.len_bytes);
    let inside = end.is_some_and(|end| end <= range.buffer.len_bytes());
    if !inside || range.len_bytes < bytes || !range.buffer.is_writable() {
        return Err(InvokeError::OutputMemory { name: name.into(), needed_bytes: bytes });
    }
    Ok(range)
}

/// The outputs that are where inputs are; `written_bytes` are those of each output that may be written.
///
/// # Errors
/// When an output overlaps another tensor without being it.
pub(crate) fn aliases(
    entry: &Entry,
    inputs: &[BoundTensor],
    outputs: &[BoundTensor],
    written_bytes: impl Iterator<Item = u64>,
) -> Result<Vec<Alias>, InvokeError> {
    let place = |tensor: &BoundTensor, bytes: u64| {
        let start = tensor.buffer.offset_bytes;
        (Arc::as_ptr(&tensor.buffer.buffer).cast::<()>(), start..start.saturating_add(bytes))
    };
    let read = |input: &BoundTensor| place(input, input.dtype.tensor_bytes(&input.dims).unwrap_or(u64::MAX));
    let written = outputs.iter().zip(written_bytes).map(|(output, bytes)| {
        let (memory, range) = place(output, bytes);
        (memory, range, output.buffer.len_bytes)
    });
    let (inputs, outputs): (Vec<_>, Vec<_>) = (inputs.iter().map(read).collect(), written.collect());
    find_aliases(&inputs, &outputs).map_err(|(output, other)| {
        let other = match other.checked_sub(inputs.len()) {
            Some(other) => ("output", &entry.outputs[other].name),
            None => ("input", &entry.inputs[other].name),
        };
        let name = entry.outputs[output].name.clone();
        InvokeError::OutputOverlaps { name, what: other.0, other: other.1.clone() }
    })
}
