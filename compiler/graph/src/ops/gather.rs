//! Reading elements at computed positions.

use super::ShapeError;
use super::check::Operands;
use super::interpret::{Call, ComputeError};
use super::positions::{Positions, count, strides};
use crate::{DType, Shape, Tensor, TensorType};

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

pub(super) fn compute_gather(call: &Call<'_>, axis: usize) -> Result<Tensor, ComputeError> {
    let [data, indices] = [call.operands[0], call.operands[1]];
    let positions = gather_positions(call.op, data.shape(), &indices.to_i64s(), axis)?;
    Ok(call.bits(&positions.collect(&data.to_bits(), None)))
}

/// Where a gather along `axis` reads, its indices taken as one axis.
pub(super) fn gather_positions(
    op: &'static str,
    data: &[u64],
    indices: &[i64],
    axis: usize,
) -> Result<Positions, ComputeError> {
    let inner = count(&data[axis + 1..]);
    let along: Result<Vec<usize>, ComputeError> =
        indices.iter().map(|&index| Ok(resolve(op, index, data[axis])? * inner)).collect();
    let outer = Positions::steps(count(&data[..axis]) as u64, data[axis] as usize * inner);
    Ok(Positions::new(vec![outer, along?, Positions::steps(inner as u64, 1)]))
}

/// An index counted from the front.
fn resolve(op: &'static str, index: i64, extent: u64) -> Result<usize, ComputeError> {
    let size = extent as i64;
    match if index < 0 { index + size } else { index } {
        front if (0..size).contains(&front) => Ok(front as usize),
        _ => Err(ComputeError::Index { op, index, extent }),
    }
}

pub(super) fn compute_elements(call: &Call<'_>, axis: usize) -> Result<Tensor, ComputeError> {
    let [data, indices] = [call.operands[0], call.operands[1]];
    let strides = strides(data.shape());
    let along = |(a, &size): (usize, &u64)| Positions::steps(size, if a == axis { 0 } else { strides[a] });
    let mut bases = Vec::with_capacity(indices.len());
    Positions::new(call.shape.iter().enumerate().map(along).collect()).for_each(&mut |base| bases.push(base));
    let mut positions = Vec::with_capacity(bases.len());
    for (base, index) in bases.into_iter().zip(indices.to_i64s()) {
        positions.push(base + resolve(call.op, index, data.shape()[axis])? * strides[axis]);
    }
    Ok(call.bits(&Positions::new(vec![positions]).collect(&data.to_bits(), None)))
}

pub(super) fn compute_nd(call: &Call<'_>, batch_dims: usize) -> Result<Tensor, ComputeError> {
    let [data, indices] = [call.operands[0], call.operands[1]];
    let (shape, strides) = (data.shape(), strides(data.shape()));
    let coordinates = indices.shape().last().map_or(0, |&k| k as usize);
    let (batches, tuples) = {
        let outer = &indices.shape()[..indices.shape().len() - 1];
        (count(&outer[..batch_dims]), count(&outer[batch_dims..]))
    };
    let batch_length = count(&shape[batch_dims..]);
    let values = indices.to_i64s();
    let mut offsets = Vec::with_capacity(batches * tuples);
    for tuple in 0..batches * tuples {
        let mut offset = tuple / tuples * batch_length;
        for c in 0..coordinates {
            let axis = batch_dims + c;
            offset += resolve(call.op, values[tuple * coordinates + c], shape[axis])? * strides[axis];
        }
        offsets.push(offset);
    }
    let inner = Positions::steps(count(&shape[batch_dims + coordinates..]) as u64, 1);
    Ok(call.bits(&Positions::new(vec![offsets, inner]).collect(&data.to_bits(), None)))
}
