//! Shapes and tensor types.

use crate::{DType, Dim};

/// Dimensions, outermost first; a scalar has none.
pub type Shape = Vec<Dim>;

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TensorType {
    pub dtype: DType,
    pub shape: Shape,
}

impl TensorType {
    pub fn new(dtype: DType, shape: impl Into<Shape>) -> Self {
        Self { dtype, shape: shape.into() }
    }

    pub fn rank(&self) -> usize {
        self.shape.len()
    }

    /// The dimensions as numbers, if none is symbolic.
    pub fn static_shape(&self) -> Option<Vec<u64>> {
        self.shape.iter().map(|d| d.as_static().and_then(|v| u64::try_from(v).ok())).collect()
    }
}
