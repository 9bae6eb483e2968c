//! Softmax and layer normalisation.

use super::ShapeError;
use super::check::Operands;
use super::elementwise::larger;
use super::interpret::Call;
use super::positions::count;
use crate::{Tensor, TensorType};

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

pub(super) fn compute_softmax(call: &Call<'_>, axis: usize, log: bool) -> Tensor {
    let shape = call.shape;
    let (outer, extent, inner) = (count(&shape[..axis]), shape[axis] as usize, count(&shape[axis + 1..]));
    let mut values = call.x().to_f64s();
    for o in 0..outer {
        for i in 0..inner {
            let at = |index: usize| (o * extent + index) * inner + i;
            let max = (0..extent).fold(f64::NEG_INFINITY, |max, index| larger(max, values[at(index)]));
            let sum: f64 = (0..extent).map(|index| (values[at(index)] - max).exp()).sum();
            for index in 0..extent {
                let shifted = values[at(index)] - max;
                values[at(index)] = if log { shifted - sum.ln() } else { shifted.exp() / sum };
            }
        }
    }
    call.floats(&values)
}

pub(super) fn compute_layer_norm(call: &Call<'_>, axis: usize, epsilon: f64) -> Tensor {
    let row = count(&call.shape[axis..]);
    let mut values = call.x().to_f64s();
    let [scale, bias] = [1, 2].map(|i| call.operands.get(i).map(|t| t.to_f64s()));
    // Rows of no elements have nothing to write.
    for row in values.chunks_mut(row.max(1)) {
        let count = row.len() as f64;
        let mean = row.iter().sum::<f64>() / count;
        let variance = row.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / count;
        let deviation = (variance + epsilon).sqrt();
        for (i, v) in row.iter_mut().enumerate() {
            let scale = scale.as_ref().map_or(1.0, |s| s[i]);
            *v = (*v - mean) / deviation * scale + bias.as_ref().map_or(0.0, |b| b[i]);
        }
    }
    call.floats(&values)
}
