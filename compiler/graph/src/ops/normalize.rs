//! Softmax and layer normalisation.

use super::ShapeError;
use super::check::Operands;
use crate::TensorType;

pub(super) fn infer_softmax(operands: &Operands<'_>, axis: usize) -> Result<TensorType, ShapeError> {
    let [x] = operands.exactly()?;
    operands.dtype(0, x.dtype.is_float(), "a float type")?;
    operands.axis(axis, x.rank())?;
    Ok(x.clone())
}

pub(super) fn infer_layer_norm(
    operands: &Operands<'_>,
    axis: usize,
    epsilon: f64,
) -> Result<TensorType, ShapeError> {
    let types = operands.between(1, 3)?;
    let x = types[0];
    operands.dtype(0, x.dtype.is_float(), "a float type")?;
    operands.axis(axis, x.rank())?;
    if epsilon.is_nan() || epsilon < 0.0 {
        return Err(operands.attribute("epsilon", format!("is {epsilon}; expected 0 or more")));
    }
    let normalized = &x.shape[axis..];
    for (i, ty) in types.iter().enumerate().skip(1) {
        operands.same_dtype(i, 0)?;
        operands.rank(i, ty.rank() == normalized.len(), normalized.len())?;
        for (a, (found, expected)) in ty.shape.iter().zip(normalized).enumerate() {
            operands.unify(format!("dimension {a} of operand {i}"), expected, found)?;
        }
    }
    Ok(x.clone())
}
