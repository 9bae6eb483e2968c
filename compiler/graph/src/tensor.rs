//! A tensor with its data, as constants hold and the interpreter computes.

mod convert;
mod narrow;
mod round;

pub(crate) use convert::integer_limits;
pub use round::{round_to_bf16, round_to_f16};

use bytes::Bytes;

use crate::DType;

/// Dense row-major data, little-endian, sub-byte types packed. Cloning shares the bytes.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    dtype: DType,
    shape: Vec<u64>,
    data: Bytes,
}

/// Data whose length does not fit its type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{dtype}{shape:?} takes {expected:?} bytes; found {found}")]
pub struct TensorSizeError {
    pub dtype: DType,
    pub shape: Vec<u64>,
    pub expected: Option<u64>,
    pub found: u64,
}

impl Tensor {
    /// # Errors
    /// When `data` is not exactly as long as `dtype` and `shape` say.
    pub fn new(dtype: DType, shape: Vec<u64>, data: Bytes) -> Result<Self, TensorSizeError> {
        let expected = element_count(&shape).and_then(|n| dtype.bytes(n));
        let found = data.len() as u64;
        if expected != Some(found) {
            return Err(TensorSizeError { dtype, shape, expected, found });
        }
        Ok(Self { dtype, shape, data })
    }

    pub fn dtype(&self) -> DType {
        self.dtype
    }

    pub fn shape(&self) -> &[u64] {
        &self.shape
    }

    pub fn data(&self) -> &Bytes {
        &self.data
    }
}

/// The product of the dimensions, `None` on overflow.
pub fn element_count(shape: &[u64]) -> Option<u64> {
    if shape.contains(&0) {
        return Some(0);
    }
    shape.iter().try_fold(1u64, |n, &d| n.checked_mul(d))
}
