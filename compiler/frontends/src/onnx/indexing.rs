//! Elements chosen by indices.

use ired_graph::{BinaryFn, Builder, CompareFn, DType, Op, ValueId};

use super::call::{Call, Outcome, axis, invalid, sizes_of, unsupported};

/// Indices as the graph takes them, i32 or i64.
fn indices(b: &mut Builder<'_>, value: ValueId) -> Outcome {
    match b.ty(value).dtype {
        DType::I32 | DType::I64 => Ok(value),
        _ => Ok(b.cast(value, DType::I64)?),
    }
}

pub(super) fn gather(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    let (data, at) = (call.input(0)?, call.input(1)?);
    let along = axis(call.attributes.int_or("axis", 0)?, b.ty(data).rank())?;
    // A constant index is a slice, which is cheaper than looking the index up.
    if let (0, Some([index])) = (b.ty(at).rank(), sizes_of(b, at).as_deref())
        && let Some(index) = index.as_static()
    {
        let extent = b.ty(data).shape[along].clone();
        let start = if index < 0 { extent.clone() + index.into() } else { index.into() };
        let symbols = &b.graph.symbols;
        if symbols.is_known_ge(&start, &extent) || symbols.range(&start).max < 0 {
            return invalid(format!("index {index} is outside axis {along}"));
        }
        let part = b.slice_axis(data, along, start, 1.into())?;
        return Ok(b.squeeze(part, &[along])?);
    }
    let at = indices(b, at)?;
    Ok(b.gather(data, at, along)?)
}

pub(super) fn gather_elements(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    let (data, at) = (call.input(0)?, indices(b, call.input(1)?)?);
    let along = axis(call.attributes.int_or("axis", 0)?, b.ty(data).rank())?;
    Ok(b.push(Op::GatherElements { axis: along }, &[data, at])?)
}

pub(super) fn gather_nd(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    let (data, at) = (call.input(0)?, indices(b, call.input(1)?)?);
    if b.ty(at).shape.last().is_some_and(|d| d.as_static().is_none()) {
        return unsupported(
            "index tuples of a length only known at run time",
            "make the last size of the indices constant",
        );
    }
    let batch_dims = call.attributes.int_or("batch_dims", 0)?;
    let Ok(batch_dims) = usize::try_from(batch_dims) else {
        return invalid(format!("batch_dims {batch_dims}"));
    };
    Ok(b.push(Op::GatherNd { batch_dims }, &[data, at])?)
}

/// `values[1]` where a new axis of length `depth` counts to the index, `values[0]` elsewhere.
pub(super) fn one_hot(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    let at = b.cast(call.input(0)?, DType::I64)?;
    // The depth may be of any number type.
    let depth = b.cast(call.input(1)?, DType::I64)?;
    let depth = match sizes_of(b, depth).as_deref() {
        Some([depth]) => depth.clone(),
        _ => call.size_input(b, 1)?,
    };
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
