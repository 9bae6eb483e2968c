//! Reading elements at computed positions.

use super::ShapeError;
use super::check::Operands;
use crate::{DType, Shape, TensorType};

fn check_indices(operands: &Operands<'_>, indices: &TensorType) -> Result<(), ShapeError> {
    operands.dtype(1, matches!(indices.dtype, DType::I32 | DType::I64), "i32 or i64")
}

pub(super) fn infer_gather(operands: &Operands<'_>, axis: usize) -> Result<TensorType, ShapeError> {
    let [data, indices] = operands.exactly()?;
    check_indices(operands, indices)?;
    operands.axis(axis, data.rank())?;
    let shape = [&data.shape[..axis], &indices.shape, &data.shape[axis + 1..]].concat();
    Ok(TensorType::new(data.dtype, shape))
}

pub(super) fn infer_elements(operands: &Operands<'_>, axis: usize) -> Result<TensorType, ShapeError> {
    let [data, indices] = operands.exactly()?;
    check_indices(operands, indices)?;
    operands.axis(axis, data.rank())?;
    operands.rank(1, indices.rank() == data.rank(), data.rank())?;
    for (a, (index, extent)) in indices.shape.iter().zip(&data.shape).enumerate() {
        if a != axis && operands.symbols.is_known_gt(index, extent) {
            return Err(operands.mismatch(format!("dimension {a} of operand 1"), extent, index));
        }
    }
    Ok(TensorType::new(data.dtype, indices.shape.clone()))
}

pub(super) fn infer_nd(operands: &Operands<'_>, batch_dims: usize) -> Result<TensorType, ShapeError> {
    let [data, indices] = operands.exactly()?;
    check_indices(operands, indices)?;
    operands.rank(1, indices.rank() > batch_dims, format!("over {batch_dims}"))?;
    let (coordinates, outer) = match indices.shape.split_last() {
        Some((last, outer)) => (last.as_static().and_then(|k| usize::try_from(k).ok()), outer),
        None => return Err(operands.attribute("batch_dims", "leaves no index dimension")),
    };
    let Some(coordinates) = coordinates else {
        return Err(operands.attribute("indices", "have a symbolic last dimension; expected a number"));
    };
    let addressed = batch_dims.saturating_add(coordinates);
    operands.rank(0, addressed <= data.rank(), format!("at least {addressed}"))?;
    let mut shape: Shape = Vec::new();
    for (a, (d, i)) in data.shape.iter().zip(outer).enumerate().take(batch_dims) {
        shape.push(operands.unify(format!("batch dimension {a} of operand 1"), d, i)?);
    }
    shape.extend_from_slice(&outer[batch_dims..]);
    shape.extend_from_slice(&data.shape[addressed..]);
    Ok(TensorType::new(data.dtype, shape))
}
