//! A tensor on a device: what invocations take and give.

use ired_hal::BufferRange;
use ired_module::DType;

/// A packed row-major tensor in device memory.
#[derive(Clone, Debug)]
pub struct BoundTensor {
    pub dtype: DType,
    pub dims: Vec<u64>,
    /// At least the bytes that `dtype` and `dims` take; more is not looked at.
    pub buffer: BufferRange,
}

impl BoundTensor {
    pub fn new(dtype: DType, dims: impl Into<Vec<u64>>, buffer: BufferRange) -> Self {
        Self { dtype, dims: dims.into(), buffer }
    }
}
