//! Tensors on their way between a parent and a runtime worker.

use std::ops::Deref;
use std::sync::Arc;

use bytes::Bytes;
use ired_module::DType;

use crate::region::{SharedBuffer, View};

/// A named tensor: packed row-major elements, little-endian; strings as [`ired_module::texts`] lays them out.
#[derive(Clone, Debug)]
pub struct Tensor {
    pub name: String,
    pub dtype: DType,
    pub dims: Vec<u64>,
    pub data: TensorData,
}

/// Writable memory that a runtime worker reads without a copy; becomes a [`TensorData`].
pub type InputBuffer = SharedBuffer;

/// A tensor's bytes. Cloning shares them.
///
/// Those of an output lie in the worker's memory until dropped; a worker gone wrong may change them at any time.
#[derive(Clone, Debug)]
pub struct TensorData(Source);

#[derive(Clone, Debug)]
enum Source {
    Owned(Bytes),
    Input(Arc<SharedBuffer>),
    Output(Arc<Output>),
}

/// An output in the worker's memory, and what tells the worker when it was read.
struct Output {
    view: View,
    _lease: Box<dyn Send + Sync>,
}

impl std::fmt::Debug for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Output").field(&self.view).finish()
    }
}

impl TensorData {
    pub(crate) fn output(view: View, lease: impl Send + Sync + 'static) -> Self {
        Self(Source::Output(Arc::new(Output { view, _lease: Box::new(lease) })))
    }

    /// The shared memory, when it is this side's own.
    pub(crate) fn as_shared(&self) -> Option<&Arc<SharedBuffer>> {
        match &self.0 {
            Source::Input(buffer) => Some(buffer),
            Source::Owned(_) | Source::Output(_) => None,
        }
    }
}

impl Deref for TensorData {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match &self.0 {
            Source::Owned(bytes) => bytes,
            Source::Input(buffer) => buffer,
            Source::Output(output) => &output.view,
        }
    }
}

impl AsRef<[u8]> for TensorData {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl From<Vec<u8>> for TensorData {
    fn from(bytes: Vec<u8>) -> Self {
        Self(Source::Owned(bytes.into()))
    }
}

impl From<Bytes> for TensorData {
    fn from(bytes: Bytes) -> Self {
        Self(Source::Owned(bytes))
    }
}

impl From<InputBuffer> for TensorData {
    fn from(buffer: InputBuffer) -> Self {
        Self(Source::Input(Arc::new(buffer)))
    }
}

impl From<TensorData> for Bytes {
    /// Shares the memory.
    fn from(data: TensorData) -> Self {
        match data.0 {
            Source::Owned(bytes) => bytes,
            shared => Bytes::from_owner(TensorData(shared)),
        }
    }
}
