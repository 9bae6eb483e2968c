//! Operations on elements that share an index: operands of one shape, result of that shape.

use super::ShapeError;
use super::check::Operands;
use crate::{BinaryFn, CompareFn, DType, TensorType, UnaryFn};

impl UnaryFn {
    /// Whether the function is defined on elements of `dtype`.
    pub const fn accepts(self, dtype: DType) -> bool {
        match self {
            Self::Not => matches!(dtype, DType::Bool),
            Self::BitNot => dtype.is_integer(),
            Self::Abs | Self::Sign | Self::Neg => dtype.is_float() || dtype.is_integer(),
            _ => dtype.is_float(),
        }
    }
}

impl BinaryFn {
    /// Whether the function is defined on elements of `dtype`.
    pub const fn accepts(self, dtype: DType) -> bool {
        match self {
            Self::And | Self::Or | Self::Xor => dtype.is_integer() || matches!(dtype, DType::Bool),
            Self::ShiftLeft | Self::ShiftRight => dtype.is_integer(),
            _ => dtype.is_float() || dtype.is_integer(),
        }
    }
}

pub(super) fn infer_unary(operands: &Operands<'_>, function: UnaryFn) -> Result<TensorType, ShapeError> {
    let [x] = operands.exactly()?;
    operands.dtype(0, function.accepts(x.dtype), "a type the function is defined on")?;
    Ok(match function {
        UnaryFn::IsNan | UnaryFn::IsInf => TensorType::new(DType::Bool, x.shape.clone()),
        _ => x.clone(),
    })
}

pub(super) fn infer_binary(operands: &Operands<'_>, function: BinaryFn) -> Result<TensorType, ShapeError> {
    let [lhs, _] = operands.exactly()?;
    operands.dtype(0, function.accepts(lhs.dtype), "a type the function is defined on")?;
    operands.same_dtype(1, 0)?;
    operands.same_shape(1, 0)?;
    Ok(lhs.clone())
}

pub(super) fn infer_compare(operands: &Operands<'_>, function: CompareFn) -> Result<TensorType, ShapeError> {
    let [lhs, _] = operands.exactly()?;
    let ordered = !matches!(function, CompareFn::Eq | CompareFn::Ne);
    operands.dtype(0, !ordered || lhs.dtype != DType::Bool, "a number type")?;
    operands.same_dtype(1, 0)?;
    operands.same_shape(1, 0)?;
    Ok(TensorType::new(DType::Bool, lhs.shape.clone()))
}

pub(super) fn infer_select(operands: &Operands<'_>) -> Result<TensorType, ShapeError> {
    let [condition, if_true, _] = operands.exactly()?;
    operands.dtype(0, condition.dtype == DType::Bool, "bool")?;
    operands.same_dtype(2, 1)?;
    operands.same_shape(1, 0)?;
    operands.same_shape(2, 0)?;
    Ok(if_true.clone())
}

pub(super) fn infer_cast(operands: &Operands<'_>, to: DType) -> Result<TensorType, ShapeError> {
    let [x] = operands.exactly()?;
    Ok(TensorType::new(to, x.shape.clone()))
}
