//! Reductions over axes, which the result does not have.

use super::ShapeError;
use super::check::Operands;
use super::elementwise::larger;
use super::interpret::Call;
use super::positions::{Positions, count, strides};
use crate::tensor::integer_limits;
use crate::{ArgReduceFn, DType, ReduceFn, Shape, Tensor, TensorType};

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

/// Where each element of a tensor of `shape` goes in the result without `axes`.
pub(super) fn destinations(shape: &[u64], axes: &[usize]) -> Positions {
    if shape.contains(&0) {
        // Nothing goes anywhere, however large the other axes are.
        return Positions::new(vec![Vec::new()]);
    }
    let kept: Vec<u64> =
        shape.iter().enumerate().filter(|(a, _)| !axes.contains(a)).map(|(_, &d)| d).collect();
    let mut strides = strides(&kept).into_iter();
    let tables = shape.iter().enumerate().map(|(a, &size)| {
        let stride = if axes.contains(&a) { 0 } else { strides.next().unwrap_or(0) };
        Positions::steps(size, stride)
    });
    Positions::new(tables.collect())
}

pub(super) fn compute_reduce(call: &Call<'_>, function: ReduceFn, axes: &[usize]) -> Tensor {
    let x = call.x();
    let reduced = axes.iter().map(|&axis| x.shape()[axis]).product::<u64>();
    let destinations = destinations(x.shape(), axes);
    let results = count(call.shape);
    if x.dtype().is_float() {
        let start = match function {
            ReduceFn::Max => f64::NEG_INFINITY,
            ReduceFn::Min => f64::INFINITY,
            ReduceFn::Product => 1.0,
            _ => 0.0,
        };
        let mut totals =
            accumulate(&destinations, &x.to_f64s(), vec![start; results], |a, v| match function {
                ReduceFn::Max => larger(a, v),
                ReduceFn::Min => -larger(-a, -v),
                ReduceFn::Product => a * v,
                _ => a + v,
            });
        if function == ReduceFn::Mean {
            totals.iter_mut().for_each(|total| *total /= reduced as f64);
        }
        return call.floats(&totals);
    }
    let (least, greatest) = integer_limits(x.dtype());
    let start = match function {
        ReduceFn::Max => least,
        ReduceFn::Min => greatest,
        ReduceFn::Product | ReduceFn::All => 1,
        _ => 0,
    };
    let mut totals =
        accumulate(&destinations, &x.to_integers(), vec![start; results], |a, v| match function {
            ReduceFn::Max | ReduceFn::Any => a.max(v),
            ReduceFn::Min | ReduceFn::All => a.min(v),
            ReduceFn::Product => a.wrapping_mul(v),
            _ => a + v,
        });
    if let (ReduceFn::Any, _) | (ReduceFn::Mean, 0) = (function, reduced) {
        totals.iter_mut().for_each(|total| *total = (*total).max(0));
    } else if function == ReduceFn::Mean {
        totals.iter_mut().for_each(|total| *total /= i128::from(reduced));
    }
    call.integers(&totals)
}

fn accumulate<T: Copy>(
    destinations: &Positions,
    elements: &[T],
    mut totals: Vec<T>,
    add: impl Fn(T, T) -> T,
) -> Vec<T> {
    let mut elements = elements.iter();
    destinations.for_each(&mut |to| {
        if let Some(&element) = elements.next() {
            totals[to] = add(totals[to], element);
        }
    });
    totals
}

pub(super) fn compute_arg_reduce(
    call: &Call<'_>,
    function: ArgReduceFn,
    axis: usize,
    last_on_tie: bool,
) -> Tensor {
    let x = call.x();
    let better = |new: f64, best: f64| match function {
        _ if best.is_nan() => false,
        _ if new.is_nan() => true,
        _ if new == best => last_on_tie,
        ArgReduceFn::Max => new > best,
        ArgReduceFn::Min => new < best,
    };
    let better_integer = |new: i128, best: i128| match function {
        _ if new == best => last_on_tie,
        ArgReduceFn::Max => new > best,
        ArgReduceFn::Min => new < best,
    };
    let best = match x.dtype().is_float() {
        true => best_along(x.shape(), axis, &x.to_f64s(), better),
        false => best_along(x.shape(), axis, &x.to_integers(), better_integer),
    };
    call.integers(&best)
}

/// The index along `axis` that no later one is better than.
fn best_along<T: Copy>(shape: &[u64], axis: usize, x: &[T], better: impl Fn(T, T) -> bool) -> Vec<i128> {
    let (outer, extent, inner) = (count(&shape[..axis]), shape[axis] as usize, count(&shape[axis + 1..]));
    let mut found = Vec::with_capacity(outer * inner);
    for o in 0..outer {
        for i in 0..inner {
            let at = |index: usize| x[(o * extent + index) * inner + i];
            let best =
                (1..extent).fold(0, |best, index| if better(at(index), at(best)) { index } else { best });
            found.push(best as i128);
        }
    }
    found
}
