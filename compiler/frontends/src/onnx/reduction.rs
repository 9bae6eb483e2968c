//! Sums, extremes and norms over axes.

use ired_graph::types::product;
use ired_graph::{ArgReduceFn, BinaryFn, Builder, DType, Op, ReduceFn, Shape, UnaryFn, ValueId};

use super::call::{Axes, Call, Outcome, axes, axis, invalid};
use super::computed::Integers;

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
    let list = match call.axes_list(b, since, 1)? {
        None => Vec::new(),
        Some(Axes::Known(list)) => list,
        Some(Axes::Computed { count: 0, .. }) => Vec::new(),
        Some(Axes::Computed { list, count }) => {
            let (matrix, shape) = gather_rows(b, x, list, count, keep)?;
            let reduced = reduce(b, matrix, &[1], false)?;
            return Ok(b.reshape(reduced, shape)?);
        }
    };
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

/// The elements of `x` as a matrix with a row for each result of a reduction over axes that only the run knows, and the
/// shape of the results.
fn gather_rows(
    b: &mut Builder<'_>,
    x: ValueId,
    list: ValueId,
    count: usize,
    keep: bool,
) -> Outcome<(ValueId, Shape)> {
    let rank = b.ty(x).rank();
    let Some(left) = rank.checked_sub(count) else {
        return invalid(format!("{count} axes of an input of rank {rank}"));
    };
    let (elements, dims) = (b.ty(x).elements(), b.shape_of(x)?);
    let mut n = Integers::on(b);
    let reduced = n.named(list, count, rank)?;
    let kept = n.b.unary(UnaryFn::Not, reduced)?;
    let one = n.number(1)?;
    let (of_row, of_column) = (n.select(kept, dims, one)?, n.select(reduced, dims, one)?);
    let sizes = if keep { of_row } else { n.compact(dims, kept, rank, left)? };
    let columns = n.product(of_column)?;
    let columns = n.b.unsqueeze(columns, &[0])?;
    let sizes = n.b.concat(&[sizes, columns], 0)?;
    let mut shape = n.b.read_dims(sizes, "read")?;
    let columns = shape.pop().unwrap_or(1.into());
    let rows = product(&shape);
    let row = n.b.iota(DType::I64, vec![rows.clone(), 1.into()], 0)?;
    let column = n.b.iota(DType::I64, vec![1.into(), columns.clone()], 1)?;
    let mut position = n.number(0)?;
    let mut stride = n.number(1)?;
    let (mut row_stride, mut column_stride) = (stride, stride);
    // From the innermost axis outwards, each adds its part of the position in `x`.
    for axis in (0..rank).rev() {
        let (mut extents, mut coordinates) = (Vec::new(), Vec::new());
        for (counter, of, step) in [(row, of_row, row_stride), (column, of_column, column_stride)] {
            let extent = n.element(of, axis)?;
            let extent = n.scalar(extent)?;
            let outer = n.binary(BinaryFn::Div, counter, step)?;
            coordinates.push(n.binary(BinaryFn::Rem, outer, extent)?);
            extents.push(extent);
        }
        // The coordinate along an axis that is not one's own is 0.
        let coordinate = n.binary(BinaryFn::Add, coordinates[0], coordinates[1])?;
        let moved = n.binary(BinaryFn::Mul, coordinate, stride)?;
        position = n.binary(BinaryFn::Add, position, moved)?;
        row_stride = n.binary(BinaryFn::Mul, row_stride, extents[0])?;
        column_stride = n.binary(BinaryFn::Mul, column_stride, extents[1])?;
        stride = n
            .binary(BinaryFn::Mul, extents[0], extents[1])
            .and_then(|d| n.binary(BinaryFn::Mul, stride, d))?;
    }
    let position = b.broadcast_to(position, vec![rows, columns])?;
    let flat = b.reshape(x, vec![elements])?;
    Ok((b.gather(flat, position, 0)?, shape))
}

pub(super) fn arg_reduce(b: &mut Builder<'_>, call: &Call<'_>, function: ArgReduceFn) -> Outcome {
    let x = call.input(0)?;
    let along = axis(call.attributes.int_or("axis", 0)?, b.ty(x).rank())?;
    let keep = call.attributes.flag("keepdims", true)?;
    let last_on_tie = call.attributes.flag("select_last_index", false)?;
    let result = b.push(Op::ArgReduce { function, axis: along, last_on_tie }, &[x])?;
    if keep { Ok(b.unsqueeze(result, &[along])?) } else { Ok(result) }
}
