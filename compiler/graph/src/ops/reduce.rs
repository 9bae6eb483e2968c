//! Reductions over axes, which the result does not have.

use super::ShapeError;
use super::check::Operands;
use crate::{DType, ReduceFn, Shape, TensorType};

impl ReduceFn {
    /// Whether the function is defined on elements of `dtype`.
    pub const fn accepts(self, dtype: DType) -> bool {
        match self {
            Self::All | Self::Any => matches!(dtype, DType::Bool),
            _ => dtype.is_float() || dtype.is_integer(),
        }
    }
}

pub(super) fn infer_reduce(
    operands: &Operands<'_>,
    function: ReduceFn,
    axes: &[usize],
) -> Result<TensorType, ShapeError> {
    let [x] = operands.exactly()?;
    operands.dtype(0, function.accepts(x.dtype), "a type the function is defined on")?;
    for &axis in axes {
        operands.axis(axis, x.rank())?;
    }
    if !axes.is_sorted_by(|a, b| a < b) {
        return Err(operands.attribute("axes", format!("are {axes:?}; expected ascending")));
    }
    Ok(TensorType::new(x.dtype, without_axes(&x.shape, axes)))
}

pub(super) fn infer_arg_reduce(operands: &Operands<'_>, axis: usize) -> Result<TensorType, ShapeError> {
    let [x] = operands.exactly()?;
    operands.dtype(0, x.dtype.is_float() || x.dtype.is_integer(), "a number type")?;
    operands.axis(axis, x.rank())?;
    if x.shape[axis].as_static() == Some(0) {
        return Err(operands.attribute("axis", format!("is {axis}, which is empty")));
    }
    Ok(TensorType::new(DType::I64, without_axes(&x.shape, &[axis])))
}

fn without_axes(shape: &Shape, axes: &[usize]) -> Shape {
    shape.iter().enumerate().filter(|(a, _)| !axes.contains(a)).map(|(_, d)| d.clone()).collect()
}
