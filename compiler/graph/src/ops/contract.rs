//! Matrix multiplication.

use super::ShapeError;
use super::check::Operands;
use crate::{DType, Shape, TensorType};

/// The type of a product's sum: 8-bit integers of either sign, mixed freely, give i32; the rest stay themselves.
pub(super) fn sum_type(operands: &Operands<'_>, lhs: DType, rhs: DType) -> Result<DType, ShapeError> {
    let is_byte = |d: DType| matches!(d, DType::I8 | DType::U8);
    if is_byte(lhs) && is_byte(rhs) {
        return Ok(DType::I32);
    }
    operands.dtype(0, lhs.is_float() || lhs.is_integer(), "a number type")?;
    operands.same_dtype(1, 0)?;
    Ok(lhs)
}

pub(super) fn infer(operands: &Operands<'_>) -> Result<TensorType, ShapeError> {
    let [lhs, rhs] = operands.exactly()?;
    let dtype = sum_type(operands, lhs.dtype, rhs.dtype)?;
    operands.rank(0, lhs.rank() >= 2, "at least 2")?;
    operands.rank(1, rhs.rank() == lhs.rank(), lhs.rank())?;
    let batch = lhs.rank() - 2;
    let mut shape: Shape = Vec::with_capacity(lhs.rank());
    for axis in 0..batch {
        let what = format!("batch dimension {axis} of operand 1");
        shape.push(operands.unify(what, &lhs.shape[axis], &rhs.shape[axis])?);
    }
    operands.unify("inner dimension `k` of operand 1", &lhs.shape[batch + 1], &rhs.shape[batch])?;
    shape.push(lhs.shape[batch].clone());
    shape.push(rhs.shape[batch + 1].clone());
    Ok(TensorType::new(dtype, shape))
}
