//! Positions that bring elements in order.

use std::cmp::Ordering;

use super::ShapeError;
use super::check::Operands;
use super::interpret::Call;
use super::positions::count;
use crate::{DType, Tensor, TensorType};

pub(super) fn infer(operands: &Operands<'_>, axis: usize) -> Result<TensorType, ShapeError> {
    let [x] = operands.exactly()?;
    let ordered = x.dtype.is_float() || x.dtype.is_integer() || x.dtype == DType::Bool;
    operands.dtype(0, ordered, "a number type or bool")?;
    operands.axis(axis, x.rank())?;
    Ok(TensorType::new(DType::I64, x.shape.clone()))
}

pub(super) fn compute(call: &Call<'_>, axis: usize, descending: bool) -> Tensor {
    let x = call.x();
    match x.dtype().is_float() {
        true => {
            // NaN compares with nothing but its kind.
            let nan = |a: f64, b: f64| a.is_nan().cmp(&b.is_nan());
            let order = |a: &f64, b: &f64| a.partial_cmp(b).unwrap_or_else(|| nan(*a, *b));
            call.integers(&positions(x.shape(), axis, &x.to_f64s(), descending, order))
        }
        false => call.integers(&positions(x.shape(), axis, &x.to_integers(), descending, i128::cmp)),
    }
}

fn positions<T>(
    shape: &[u64],
    axis: usize,
    x: &[T],
    descending: bool,
    order: impl Fn(&T, &T) -> Ordering,
) -> Vec<i128> {
    let (extent, inner) = (shape[axis] as usize, count(&shape[axis + 1..]));
    let mut out = vec![0; x.len()];
    for row in 0..count(&shape[..axis]) {
        for column in 0..inner {
            let at = |i: usize| (row * extent + i) * inner + column;
            let mut sorted: Vec<usize> = (0..extent).collect();
            sorted.sort_by(|&a, &b| {
                let order = order(&x[at(a)], &x[at(b)]);
                if descending { order.reverse() } else { order }
            });
            for (i, from) in sorted.into_iter().enumerate() {
                out[at(i)] = from as i128;
            }
        }
    }
    out
}
