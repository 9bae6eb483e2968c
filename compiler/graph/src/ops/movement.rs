//! Operations that move elements and compute nothing: broadcast, reshape, transpose, slice, concat.

use super::ShapeError;
use super::check::Operands;
use super::interpret::Call;
use super::positions::{Positions, count, strides};
use crate::types::product;
use crate::{Dim, Op, Shape, Tensor, TensorType};

pub(super) fn infer_broadcast(operands: &Operands<'_>, shape: &Shape) -> Result<TensorType, ShapeError> {
    let [x] = operands.exactly()?;
    operands.sizes("shape", shape)?;
    operands.rank(0, x.rank() <= shape.len(), format!("at most {}", shape.len()))?;
    let one = Dim::constant(1);
    let offset = shape.len() - x.rank();
    for (axis, (found, expected)) in x.shape.iter().zip(&shape[offset..]).enumerate() {
        let symbols = operands.symbols;
        if symbols.is_known_ne(found, expected) && symbols.is_known_ne(found, &one) {
            return Err(operands.mismatch(format!("dimension {axis} of the operand"), expected, found));
        }
    }
    Ok(TensorType::new(x.dtype, shape.clone()))
}

pub(super) fn infer_reshape(operands: &Operands<'_>, shape: &Shape) -> Result<TensorType, ShapeError> {
    let [x] = operands.exactly()?;
    operands.sizes("shape", shape)?;
    let (found, expected) = (x.elements(), product(shape));
    if operands.symbols.is_known_ne(&found, &expected) {
        return Err(operands.mismatch("the operand's element count", &expected, &found));
    }
    Ok(TensorType::new(x.dtype, shape.clone()))
}

pub(super) fn infer_transpose(operands: &Operands<'_>, perm: &[usize]) -> Result<TensorType, ShapeError> {
    let [x] = operands.exactly()?;
    operands.length("perm", perm.len(), x.rank())?;
    let mut seen = vec![false; perm.len()];
    for &axis in perm {
        operands.axis(axis, x.rank())?;
        if std::mem::replace(&mut seen[axis], true) {
            return Err(operands.attribute("perm", format!("names axis {axis} twice")));
        }
    }
    Ok(TensorType::new(x.dtype, perm.iter().map(|&axis| x.shape[axis].clone()).collect::<Shape>()))
}

pub(super) fn infer_slice(
    operands: &Operands<'_>,
    start: &[Dim],
    size: &[Dim],
    stride: &[i64],
) -> Result<TensorType, ShapeError> {
    let [x] = operands.exactly()?;
    for (name, found) in [("start", start.len()), ("size", size.len()), ("stride", stride.len())] {
        operands.length(name, found, x.rank())?;
    }
    operands.sizes("size", size)?;
    for axis in 0..x.rank() {
        if stride[axis] == 0 {
            return Err(operands.attribute("stride", format!("is 0 on axis {axis}")));
        }
        slice_in_bounds(operands, axis, &x.shape[axis], &start[axis], &size[axis], stride[axis])?;
    }
    Ok(TensorType::new(x.dtype, size.to_vec()))
}

/// The first and the last element read exist, unless there are none.
fn slice_in_bounds(
    operands: &Operands<'_>,
    axis: usize,
    extent: &Dim,
    start: &Dim,
    size: &Dim,
    stride: i64,
) -> Result<(), ShapeError> {
    let symbols = operands.symbols;
    let one = Dim::constant(1);
    if !symbols.is_known_ge(size, &one) {
        return Ok(());
    }
    let last = start.clone() + (size.clone() - one) * Dim::constant(stride);
    for index in [start, &last] {
        if symbols.range(index).max < 0 || symbols.is_known_ge(index, extent) {
            return Err(operands.mismatch(
                format!("size of axis {axis}"),
                &(index.clone() + 1.into()),
                extent,
            ));
        }
    }
    Ok(())
}

pub(super) fn infer_concat(operands: &Operands<'_>, axis: usize) -> Result<TensorType, ShapeError> {
    let types = operands.between(1, usize::MAX)?;
    let mut shape = types[0].shape.clone();
    operands.axis(axis, shape.len())?;
    for (i, ty) in types.iter().enumerate().skip(1) {
        operands.same_dtype(i, 0)?;
        operands.rank(i, ty.rank() == shape.len(), shape.len())?;
        for (a, found) in ty.shape.iter().enumerate() {
            shape[a] = match a == axis {
                true => shape[a].clone() + found.clone(),
                false => operands.unify(format!("dimension {a} of operand {i}"), &shape[a], found)?,
            };
        }
    }
    Ok(TensorType::new(types[0].dtype, shape))
}

/// Where a broadcast, a transpose or a slice reads; dimensions are numbers.
pub(super) fn positions(op: &Op, operand: &[u64], shape: &[u64]) -> Positions {
    let strides = strides(operand);
    let table = |axis: usize| -> Vec<usize> {
        match op {
            Op::Transpose { perm } => Positions::steps(shape[axis], strides[perm[axis]]),
            Op::Slice { start, stride, .. } => {
                let at = |i: u64| (start[axis].offset() + i as i64 * stride[axis]) as usize * strides[axis];
                (0..shape[axis]).map(at).collect()
            }
            _ => match (axis + operand.len()).checked_sub(shape.len()) {
                Some(a) if operand[a] == shape[axis] => Positions::steps(shape[axis], strides[a]),
                _ => vec![0; shape[axis] as usize],
            },
        }
    };
    Positions::new((0..shape.len()).map(table).collect())
}

/// The elements of several operands one behind the other along `axis`.
pub(super) fn concat<T: Clone>(operands: &[(&[u64], &[T])], axis: usize) -> Vec<T> {
    let outer = count(&operands[0].0[..axis]);
    let mut elements = Vec::new();
    for block in 0..outer {
        for (shape, source) in operands {
            let length = count(&shape[axis..]);
            elements.extend_from_slice(&source[block * length..(block + 1) * length]);
        }
    }
    elements
}

pub(super) fn compute_concat(call: &Call<'_>, axis: usize) -> Tensor {
    let bits: Vec<Vec<u128>> = call.operands.iter().map(|t| t.to_bits()).collect();
    let operands: Vec<(&[u64], &[u128])> =
        call.operands.iter().zip(&bits).map(|(t, bits)| (t.shape(), bits.as_slice())).collect();
    call.bits(&concat(&operands, axis))
}
