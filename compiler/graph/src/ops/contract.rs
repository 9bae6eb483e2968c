//! Matrix multiplication.

use std::num::Wrapping;
use std::ops::{AddAssign, Mul};

use super::ShapeError;
use super::check::Operands;
use super::interpret::Call;
use super::positions::count;
use crate::{DType, Shape, Tensor, TensorType};

/// The type of a product's sum: 8-bit integers of either sign, mixed freely, give i32, as do those and i16 on the left;
/// the rest stay themselves.
pub(super) fn sum_type(operands: &Operands<'_>, lhs: DType, rhs: DType) -> Result<DType, ShapeError> {
    let is_byte = |d: DType| matches!(d, DType::I8 | DType::U8);
    if (is_byte(lhs) || lhs == DType::I16) && is_byte(rhs) {
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

pub(super) fn compute(call: &Call<'_>) -> Tensor {
    let [lhs, rhs] = [call.operands[0], call.operands[1]];
    if call.ty.dtype.is_float() {
        return call.floats(&multiply(lhs.shape(), rhs.shape(), &lhs.to_f64s(), &rhs.to_f64s()));
    }
    let wrapping = |t: &Tensor| t.to_i64s().into_iter().map(Wrapping).collect::<Vec<_>>();
    let sums = multiply(lhs.shape(), rhs.shape(), &wrapping(lhs), &wrapping(rhs));
    call.integers(&sums.into_iter().map(|v| i128::from(v.0)).collect::<Vec<_>>())
}

/// `Σ_k lhs[b, m, k] · rhs[b, k, n]`, row by row of `rhs` so that both are read in order.
fn multiply<T: Number>(lhs_shape: &[u64], rhs_shape: &[u64], lhs: &[T], rhs: &[T]) -> Vec<T> {
    let rank = lhs_shape.len();
    let batches = count(&lhs_shape[..rank - 2]);
    let [m, k, n] = [lhs_shape[rank - 2], lhs_shape[rank - 1], rhs_shape[rank - 1]].map(|d| d as usize);
    let mut product = vec![T::default(); batches * m * n];
    for b in 0..batches {
        for i in 0..m {
            let row = &mut product[(b * m + i) * n..][..n];
            for p in 0..k {
                let factor = lhs[(b * m + i) * k + p];
                for (sum, &v) in row.iter_mut().zip(&rhs[(b * k + p) * n..][..n]) {
                    *sum += factor * v;
                }
            }
        }
    }
    product
}

/// What products are summed in: f64, or integers modulo 2^64.
pub(super) trait Number: Copy + Default + AddAssign + Mul<Output = Self> {}

impl Number for f64 {}
impl Number for Wrapping<i64> {}
