//! Outputs that are written where the parent reads them.

use std::sync::{Arc, Mutex, PoisonError};

use ired_hal::{AllocateError, BufferRange, Device, HostMemory};
use ired_runtime::{BoundTensor, OutputMemory, OutputRequest};
use ired_worker::child::Tensors;
use ired_worker::messages::runtime::{Place, TensorRef};

use crate::failure::missing_output;
use ired_worker::RuntimeFailure;

/// Gives shared memory to the outputs of one call.
pub(crate) struct SharedOutputs {
    device: Arc<dyn Device>,
    tensors: Arc<Tensors>,
    /// By position in the signature.
    places: Mutex<Vec<(usize, Place)>>,
}

impl SharedOutputs {
    pub(crate) fn new(device: Arc<dyn Device>, tensors: Arc<Tensors>) -> Arc<Self> {
        Arc::new(Self { device, tensors, places: Mutex::default() })
    }

    /// Puts together the tensors and the places they were given.
    pub(crate) fn finish(&self, bound: Vec<BoundTensor>) -> Outputs {
        let places = std::mem::take(&mut *self.places.lock().unwrap_or_else(PoisonError::into_inner));
        Outputs { bound, places }
    }
}

impl OutputMemory for SharedOutputs {
    fn allocate(&self, request: OutputRequest<'_>) -> Result<BufferRange, AllocateError> {
        let out_of_memory = || AllocateError::OutOfMemory { bytes: request.bytes };
        let len = usize::try_from(request.bytes).map_err(|_| out_of_memory())?;
        let shared = self.tensors.buffer(len).map_err(|_| out_of_memory())?;
        let place = shared.place();
        let buffer = self.device.import(HostMemory::writable(shared))?;
        self.places.lock().unwrap_or_else(PoisonError::into_inner).push((request.index, place));
        Ok(BufferRange::whole(&buffer))
    }
}

/// The outputs of one call. Dropping them gives their memory back.
pub(crate) struct Outputs {
    bound: Vec<BoundTensor>,
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
            let (Some((_, place)), Some(len)) = (given, dtype.tensor_bytes(&dims)) else {
                return Err(missing_output(name));
            };
            // What the schedule pads is not the parent's business.
            let place = Place { len, ..*place };
            tensors.lend(place, Box::new(buffer));
            Ok(TensorRef { name: name.to_owned(), dtype, dims, place })
        };
        self.bound.into_iter().zip(names).enumerate().map(lend).collect()
    }
}
