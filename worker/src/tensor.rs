//! Tensors on their way between a parent and a runtime worker.

use std::ops::{Deref, DerefMut};

use bytes::Bytes;
use ired_module::DType;

/// A named tensor: packed row-major elements, little-endian.
#[derive(Clone, Debug)]
pub struct Tensor {
    pub name: String,
    pub dtype: DType,
    pub dims: Vec<u64>,
    pub data: TensorData,
}

/// A tensor's bytes. Cloning shares them.
#[derive(Clone, Debug)]
pub struct TensorData(Bytes);

impl Deref for TensorData {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl From<Vec<u8>> for TensorData {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes.into())
    }
}

impl From<Bytes> for TensorData {
    fn from(bytes: Bytes) -> Self {
        Self(bytes)
    }
}

impl From<InputBuffer> for TensorData {
    fn from(buffer: InputBuffer) -> Self {
        Self(buffer.bytes.into())
    }
}

impl From<TensorData> for Bytes {
    fn from(data: TensorData) -> Self {
        data.0
    }
}

/// Writable memory that a runtime worker can read without a copy; becomes a [`TensorData`].
#[derive(Debug)]
pub struct InputBuffer {
    bytes: Vec<u8>,
}

impl InputBuffer {
    pub(crate) fn owned(len: usize) -> Self {
        Self { bytes: vec![0; len] }
    }
}

impl Deref for InputBuffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl DerefMut for InputBuffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }
}
