//! Sums, extremes and norms over axes.

use ired_graph::{ArgReduceFn, BinaryFn, Builder, DType, Op, ReduceFn, UnaryFn, ValueId};

use super::call::{Call, Outcome, axes, axis};

pub(super) fn reduce(b: &mut Builder<'_>, call: &Call<'_>, function: ReduceFn) -> Outcome {
    let x = call.input(0)?;
    let x_type = b.ty(x).dtype;
    let since = if function == ReduceFn::Sum { 13 } else { 18 };
    let function = match (function, x_type) {
        (ReduceFn::Max, DType::Bool) => ReduceFn::Any,
        (ReduceFn::Min, DType::Bool) => ReduceFn::All,
        (function, _) => function,
    };
    over_axes(b, call, since, x, |b, x, axes, keep| Ok(b.reduce(function, x, axes, keep)?))
}

/// A sum of absolute values.
pub(super) fn l1(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    let magnitude = b.unary(UnaryFn::Abs, call.input(0)?)?;
    sum(b, call, magnitude)
}

pub(super) fn l2(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    let dtype = call.input_type(b, 0)?.dtype;
    let squares = sum_square(b, call)?;
    if dtype.is_float() {
        return Ok(b.unary(UnaryFn::Sqrt, squares)?);
    }
    let wide = b.cast(squares, DType::F64)?;
    let root = b.unary(UnaryFn::Sqrt, wide)?;
    Ok(b.cast(root, dtype)?)
}

pub(super) fn sum_square(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    let x = call.input(0)?;
    let square = b.binary_broadcast(BinaryFn::Mul, x, x)?;
    sum(b, call, square)
}

pub(super) fn log_sum(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    let sum = sum(b, call, call.input(0)?)?;
    Ok(b.unary(UnaryFn::Log, sum)?)
}

/// `ln Σ e^x`, with the maximum taken out so that nothing overflows.
pub(super) fn log_sum_exp(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    let x = call.input(0)?;
    over_axes(b, call, 18, x, |b, x, axes, keep| {
        let max = b.reduce(ReduceFn::Max, x, axes, true)?;
        // An infinite maximum would give NaN when it is subtracted; nothing needs taking out then.
        let infinite = b.unary(UnaryFn::IsInf, max)?;
        let zero = b.scalar_like(x, 0.0)?;
        let max = b.select_broadcast(infinite, zero, max)?;
        let shifted = b.binary_broadcast(BinaryFn::Sub, x, max)?;
        let exp = b.unary(UnaryFn::Exp, shifted)?;
        let sum = b.reduce(ReduceFn::Sum, exp, axes, keep)?;
        let log = b.unary(UnaryFn::Log, sum)?;
        let max = b.reshape(max, b.ty(log).shape.clone())?;
        Ok(b.binary_broadcast(BinaryFn::Add, log, max)?)
    })
}

fn sum(b: &mut Builder<'_>, call: &Call<'_>, x: ValueId) -> Outcome {
    over_axes(b, call, 18, x, |b, x, axes, keep| Ok(b.reduce(ReduceFn::Sum, x, axes, keep)?))
}

/// Applies a reduction over the axes the node names: an attribute before version `since`, input 1 from then on.
/// No axes means all of them, unless `noop_with_empty_axes`: then each element is reduced alone.
fn over_axes(
    b: &mut Builder<'_>,
    call: &Call<'_>,
    since: i64,
    x: ValueId,
    reduce: impl FnOnce(&mut Builder<'_>, ValueId, &[usize], bool) -> Outcome,
) -> Outcome {
    let rank = b.ty(x).rank();
    let keep = call.attributes.flag("keepdims", true)?;
    let none_is_noop = call.attributes.flag("noop_with_empty_axes", false)?;
    let list = call.axes_list(b, since, 1)?.unwrap_or_default();
    if !list.is_empty() {
        return reduce(b, x, &axes(&list, rank)?, keep);
    }
    match none_is_noop {
        false => reduce(b, x, &(0..rank).collect::<Vec<_>>(), keep),
        true => {
            // An extra axis of size 1 is reduced instead: same elements, the function still applies.
            let apart = b.unsqueeze(x, &[rank])?;
            reduce(b, apart, &[rank], false)
        }
    }
}

pub(super) fn arg_reduce(b: &mut Builder<'_>, call: &Call<'_>, function: ArgReduceFn) -> Outcome {
    let x = call.input(0)?;
    let along = axis(call.attributes.int_or("axis", 0)?, b.ty(x).rank())?;
    let keep = call.attributes.flag("keepdims", true)?;
    let last_on_tie = call.attributes.flag("select_last_index", false)?;
    let result = b.push(Op::ArgReduce { function, axis: along, last_on_tie }, &[x])?;
    if keep { Ok(b.unsqueeze(result, &[along])?) } else { Ok(result) }
}
