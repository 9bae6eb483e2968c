//! Outputs that are written where the parent reads them.

use std::sync::{Arc, Mutex, PoisonError};

use ired_hal::{AllocateError, BufferRange, Device, HostMemory};
use ired_module::DType;
use ired_runtime::{BoundTensor, CallStrings, OutputMemory, OutputRequest};
use ired_worker::child::Tensors;
use ired_worker::messages::full_text;
use ired_worker::messages::runtime::{Place, TensorRef};

use crate::failure::missing_output;
use ired_worker::RuntimeFailure;

/// Gives shared memory to the outputs of one call.
pub(crate) struct SharedOutputs {
    device: Arc<dyn Device>,
    tensors: Arc<Tensors>,
    /// Positions of outputs that are strings: handles first, which are spelled out when all have been written.
    spelled: Vec<usize>,
    /// By position in the signature.
    places: Mutex<Vec<(usize, Place)>>,
}

impl SharedOutputs {
    pub(crate) fn new(device: Arc<dyn Device>, tensors: Arc<Tensors>, spelled: Vec<usize>) -> Arc<Self> {
        Arc::new(Self { device, tensors, spelled, places: Mutex::default() })
    }

    /// Puts together the tensors and the places they were given.
    pub(crate) fn finish(&self, bound: Vec<BoundTensor>, strings: CallStrings) -> Outputs {
        let places = std::mem::take(&mut *self.places.lock().unwrap_or_else(PoisonError::into_inner));
        Outputs { bound, strings, places }
    }
}

impl OutputMemory for SharedOutputs {
    fn allocate(&self, request: OutputRequest<'_>) -> Result<Option<BufferRange>, AllocateError> {
        if self.spelled.contains(&request.index) {
            return Ok(None);
        }
        let out_of_memory = || AllocateError::OutOfMemory { bytes: request.bytes };
        let len = usize::try_from(request.bytes).map_err(|_| out_of_memory())?;
        let shared = self.tensors.buffer(len).map_err(|_| out_of_memory())?;
        let place = shared.place();
        let buffer = self.device.import(HostMemory::writable(shared))?;
        self.places.lock().unwrap_or_else(PoisonError::into_inner).push((request.index, place));
        Ok(Some(BufferRange::whole(&buffer)))
    }
}

/// The outputs of one call. Dropping them gives their memory back.
pub(crate) struct Outputs {
    bound: Vec<BoundTensor>,
    strings: CallStrings,
    places: Vec<(usize, Place)>,
}

impl Outputs {
    /// Lends the outputs to the parent until it has read them; `names` are those of the signature.
    pub(crate) fn lend<'a>(
        self,
        names: impl Iterator<Item = &'a str>,
        tensors: &Tensors,
    ) -> Result<Vec<TensorRef>, RuntimeFailure> {
        let lend = |(index, (bound, name)): (usize, (BoundTensor, &str))| {
            let given = self.places.iter().find(|(position, _)| *position == index);
            let BoundTensor { dtype, dims, buffer } = bound;
            if dtype == DType::String {
                let place = self.spell(name, &dims, &buffer, tensors)?;
                return Ok(TensorRef { name: name.to_owned(), dtype, dims, place });
            }
            let (Some((_, place)), Some(len)) = (given, dtype.tensor_bytes(&dims)) else {
                return Err(missing_output(name));
            };
            // What the schedule pads is not the parent's business.
            let place = Place { len, ..*place };
            tensors.lend(place, Box::new(buffer));
            Ok(TensorRef { name: name.to_owned(), dtype, dims, place })
        };
        let bound = self.bound.clone();
        bound.into_iter().zip(names).enumerate().map(lend).collect()
    }

    /// Lends the strings that the handles in `buffer` stand for.
    fn spell(
        &self,
        name: &str,
        dims: &[u64],
        buffer: &BufferRange,
        tensors: &Tensors,
    ) -> Result<Place, RuntimeFailure> {
        let failed =
            |message: String| RuntimeFailure::Execution { message: format!("output `{name}`: {message}") };
        let len = DType::String.tensor_bytes(dims).and_then(|bytes| usize::try_from(bytes).ok());
        let mut handles = vec![0; len.ok_or_else(|| missing_output(name))?];
        if !handles.is_empty() {
            let read = buffer.buffer.read(buffer.offset_bytes, &mut handles);
            read.map_err(|error| failed(full_text(&error)))?;
        }
        let bytes = self.strings.spell(&handles).map_err(|error| failed(full_text(&error)))?;
        let mut shared = tensors
            .buffer(bytes.len())
            .map_err(|_| RuntimeFailure::OutOfMemory { needed_bytes: bytes.len() as u64, limit_bytes: 0 })?;
        shared.copy_from_slice(&bytes);
        let place = shared.place();
        tensors.lend(place, Box::new(shared));
        Ok(place)
    }
}
