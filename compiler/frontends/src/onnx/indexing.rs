//! Elements chosen by indices.

use ired_graph::{BinaryFn, Builder, CompareFn, DType, Dim, Op, ValueId};

use super::call::{Call, Outcome, axis, invalid, read_size, sizes_of, unsupported};
use crate::Problem;

/// Input 1, the indices: i32 or i64.
pub(super) fn indices(b: &Builder<'_>, call: &Call<'_>) -> Outcome {
    let at = call.input(1)?;
    match b.ty(at).dtype {
        DType::I32 | DType::I64 => Ok(at),
        found => Err(Problem::InputType { index: 1, expected: "i32 or i64".to_owned(), found }.into()),
    }
}

/// Refuses constant indices of which one is outside of its axis: where the last dimension of the indices has
/// `axes.len()` elements, each stands for one of the axes in turn; a single axis takes them all.
fn check_constant(b: &Builder<'_>, data: ValueId, at: ValueId, axes: std::ops::Range<usize>) -> Outcome<()> {
    let (dtype, bytes) = match b.graph.producer_op(at) {
        Some(Op::Constant(tensor)) => (tensor.dtype(), tensor.data()),
        Some(Op::Param(id)) => (b.graph.param(*id).dtype, &b.graph.param(*id).data),
        _ => return Ok(()),
    };
    let element = |bytes: &[u8]| match bytes {
        [a, b, c, d] => i64::from(i32::from_le_bytes([*a, *b, *c, *d])),
        bytes => bytes.try_into().map_or(0, i64::from_le_bytes),
    };
    let width = if dtype == DType::I32 { 4 } else { 8 };
    let count = axes.len().max(1);
    for (column, axis) in axes.enumerate() {
        let column = bytes.chunks_exact(width).skip(column).step_by(count).map(element);
        let Some((low, high)) = column.fold(None, |found, index| match found {
            None => Some((index, index)),
            Some((low, high)) => Some((index.min(low), index.max(high))),
        }) else {
            continue;
        };
        check_index(b, data, low, axis)?;
        check_index(b, data, high, axis)?;
    }
    Ok(())
}

/// Refuses an index that is outside of `axis` whatever size that has at run time.
fn check_index(b: &Builder<'_>, data: ValueId, index: i64, axis: usize) -> Outcome<()> {
    let (symbols, extent) = (&b.graph.symbols, &b.ty(data).shape[axis]);
    let largest = symbols.range(extent).max;
    if index < largest && index >= largest.saturating_neg() {
        return Ok(());
    }
    let size = extent.display(symbols);
    invalid(format!("index {index} is outside of axis {axis}, whose size is {size}"))
}

pub(super) fn gather(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    let (data, at) = (call.input(0)?, indices(b, call)?);
    let along = axis(call.attributes.int_or("axis", 0)?, b.ty(data).rank())?;
    // A constant index is a slice, which is cheaper than looking the index up.
    if let (0, Some([index])) = (b.ty(at).rank(), sizes_of(b, at).as_deref())
        && let Some(index) = index.as_static()
    {
        let extent = b.ty(data).shape[along].clone();
        check_index(b, data, index, along)?;
        let start = if index < 0 { extent + index.into() } else { index.into() };
        let part = b.slice_axis(data, along, start, 1.into())?;
        return Ok(b.squeeze(part, &[along])?);
    }
    check_constant(b, data, at, along..along + 1)?;
    Ok(b.gather(data, at, along)?)
}

pub(super) fn gather_elements(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    let (data, at) = (call.input(0)?, indices(b, call)?);
    let along = axis(call.attributes.int_or("axis", 0)?, b.ty(data).rank())?;
    check_constant(b, data, at, along..along + 1)?;
    Ok(b.push(Op::GatherElements { axis: along }, &[data, at])?)
}

pub(super) fn gather_nd(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    let (data, at) = (call.input(0)?, indices(b, call)?);
    let batch_dims = call.attributes.int_or("batch_dims", 0)?;
    let Ok(batch_dims) = usize::try_from(batch_dims) else {
        return invalid(format!("batch_dims {batch_dims}"));
    };
    let at = match b.ty(at).shape.split_last() {
        Some((last, outer)) if last.as_static().is_none() => {
            // The result's rank says how long a tuple is, where the model states it.
            let indexed = b.ty(data).rank() + outer.len();
            let stated = call.stated_rank(0).and_then(|rank| rank.checked_add(batch_dims));
            let Some(tuple) = stated.and_then(|rank| indexed.checked_sub(rank)) else {
                return unsupported(
                    "index tuples of a length only known at run time",
                    "make the last size of the indices constant, or state the result's shape",
                );
            };
            let shape = [outer, &[Dim::constant(tuple as i64)]].concat();
            b.reshape(at, shape)?
        }
        _ => at,
    };
    let tuple = b.ty(at).shape.last().and_then(|d| d.as_static()).and_then(|k| usize::try_from(k).ok());
    let end = tuple.and_then(|k| batch_dims.checked_add(k)).filter(|end| *end <= b.ty(data).rank());
    // Longer tuples are an error of their own.
    if let Some(end) = end {
        check_constant(b, data, at, batch_dims..end)?;
    }
    Ok(b.push(Op::GatherNd { batch_dims }, &[data, at])?)
}

/// `values[1]` where a new axis of length `depth` counts to the index, `values[0]` elsewhere.
pub(super) fn one_hot(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    let at = b.cast(call.input(0)?, DType::I64)?;
    // The depth may be of any number type.
    let depth = b.cast(call.input(1)?, DType::I64)?;
    let depth = read_size(b, depth, &format!("{}.depth", call.name))?;
    let values = call.input(2)?;
    let mut shape = b.ty(at).shape.clone();
    let new = axis(call.attributes.int_or("axis", -1)?, shape.len() + 1)?;
    let at = b.unsqueeze(at, &[new])?;
    shape.insert(new, depth.clone());
    // An index from the end counts as one from the front; one outside matches nothing.
    let zero = b.scalar(DType::I64, 0.0)?;
    let extent = b.dim(depth)?;
    let wrapped = b.binary_broadcast(BinaryFn::Add, at, extent)?;
    let negative = b.compare_broadcast(CompareFn::Lt, at, zero)?;
    let at = b.select_broadcast(negative, wrapped, at)?;
    let counter = b.iota(DType::I64, shape, new)?;
    let hit = b.compare_broadcast(CompareFn::Eq, counter, at)?;
    let (off, on) = (element(b, values, 0)?, element(b, values, 1)?);
    Ok(b.select_broadcast(hit, on, off)?)
}

/// Element `index` of a vector, as a scalar.
fn element(b: &mut Builder<'_>, vector: ValueId, index: i64) -> Outcome {
    let part = b.slice_axis(vector, 0, index.into(), 1.into())?;
    Ok(b.reshape(part, Vec::new())?)
}

/// Of each row, its first elements backwards, as many as `sequence_lens` says, and the others as they are.
pub(super) fn reverse_sequence(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    let (x, lengths) = (call.input(0)?, call.input(1)?);
    let rank = b.ty(x).rank();
    let batch = axis(call.attributes.int_or("batch_axis", 1)?, rank)?;
    let time = axis(call.attributes.int_or("time_axis", 0)?, rank)?;
    if batch == time {
        return invalid(format!("batch_axis and time_axis are both {batch}"));
    }
    let mut perm: Vec<usize> = (0..rank).filter(|a| *a != batch && *a != time).collect();
    perm.splice(0..0, [batch, time]);
    let mut back = vec![0; rank];
    for (to, from) in perm.iter().enumerate() {
        back[*from] = to;
    }
    let rows = b.transpose(x, perm)?;
    let shape = b.ty(rows).shape[..2].to_vec();
    let lengths = b.cast(lengths, DType::I64)?;
    let lengths = b.unsqueeze(lengths, &[1])?;
    let own = b.iota(DType::I64, shape.clone(), 1)?;
    let inside = b.compare_broadcast(CompareFn::Lt, own, lengths)?;
    let last = b.binary_scalar(BinaryFn::Sub, lengths, 1.0)?;
    let mirrored = b.binary_broadcast(BinaryFn::Sub, last, own)?;
    let from = b.select_broadcast(inside, mirrored, own)?;
    let from = b.unsqueeze(from, &[2])?;
    let reversed = b.push(Op::GatherNd { batch_dims: 1 }, &[rows, from])?;
    Ok(b.transpose(reversed, back)?)
}

/// Elements of the last axis. A vector counts as a matrix of one row.
pub(super) fn array_feature_extractor(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    let (x, at) = (call.input(0)?, call.input(1)?);
    let x = if b.ty(x).rank() == 1 { b.unsqueeze(x, &[0])? } else { x };
    let Some(last) = b.ty(x).rank().checked_sub(1) else { return invalid("a scalar") };
    let at = b.reshape(at, vec![b.ty(at).elements()])?;
    Ok(b.gather(x, at, last)?)
}
