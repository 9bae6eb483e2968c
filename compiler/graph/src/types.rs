//! Shapes and tensor types.

use std::fmt;

use crate::{DType, Dim, Symbols};

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

    pub fn scalar(dtype: DType) -> Self {
        Self { dtype, shape: Vec::new() }
    }

    /// A type whose dimensions are all numbers.
    pub fn of_sizes(dtype: DType, sizes: &[u64]) -> Self {
        Self { dtype, shape: sizes_to_shape(sizes) }
    }

    pub fn rank(&self) -> usize {
        self.shape.len()
    }

    /// The dimensions as numbers, if none is symbolic.
    pub fn static_shape(&self) -> Option<Vec<u64>> {
        self.shape.iter().map(|d| d.as_static().and_then(|v| u64::try_from(v).ok())).collect()
    }

    /// The number of elements, as an expression.
    pub fn elements(&self) -> Dim {
        product(&self.shape)
    }

    /// The text form, `f32[batch, 768]`.
    pub fn display<'a>(&'a self, symbols: &'a Symbols) -> impl fmt::Display + 'a {
        TypeText { ty: self, symbols }
    }
}

/// The product of dimensions; 1 for none.
pub fn product(dims: &[Dim]) -> Dim {
    dims.iter().fold(Dim::constant(1), |product, d| product * d.clone())
}

/// Sizes as dimensions; those over `i64::MAX` saturate, which every check of sizes refuses.
pub(crate) fn sizes_to_shape(sizes: &[u64]) -> Shape {
    sizes.iter().map(|&d| Dim::constant(i64::try_from(d).unwrap_or(i64::MAX))).collect()
}

pub(crate) fn shape_text(shape: &[Dim], symbols: &Symbols) -> String {
    let dims: Vec<String> = shape.iter().map(|d| d.display(symbols).to_string()).collect();
    format!("[{}]", dims.join(", "))
}

struct TypeText<'a> {
    ty: &'a TensorType,
    symbols: &'a Symbols,
}

impl fmt::Display for TypeText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.ty.dtype, shape_text(&self.ty.shape, self.symbols))
    }
}
