//! Elements and slices written where indices say.

use ired_graph::{BinaryFn, Builder, DType, Dim, ScatterFn, ValueId};

use super::call::{Call, Outcome, axis, invalid};
use super::indexing::indices;

/// How updates meet what is there; versions before 16 only replace.
fn reduction(call: &Call<'_>) -> Outcome<ScatterFn> {
    match call.attributes.text("reduction")?.unwrap_or("none") {
        "none" => Ok(ScatterFn::Set),
        "add" => Ok(ScatterFn::Add),
        "mul" => Ok(ScatterFn::Mul),
        "max" => Ok(ScatterFn::Max),
        "min" => Ok(ScatterFn::Min),
        other => invalid(format!("reduction `{other}`")),
    }
}

pub(super) fn scatter_elements(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    let (data, at, updates) = (call.input(0)?, indices(b, call)?, call.input(2)?);
    let rank = b.ty(data).rank();
    let along = axis(call.attributes.int_or("axis", 0)?, rank)?;
    let ranks = [b.ty(at).rank(), b.ty(updates).rank()];
    if ranks != [rank, rank] {
        return invalid(format!("data of rank {rank} with indices and updates of ranks {ranks:?}"));
    }
    Ok(b.scatter_along(reduction(call)?, data, at, updates, along)?)
}

pub(super) fn scatter_nd(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    let (data, at, updates) = (call.input(0)?, indices(b, call)?, call.input(2)?);
    // The ranks say how many indices there are for a slice, even where the size is not a number.
    let (rank, outer, last) = (b.ty(data).rank(), b.ty(at).rank().checked_sub(1), b.ty(at).shape.last());
    let at = match (outer, last) {
        (Some(outer), Some(last)) if last.as_static().is_none() => {
            let named = (rank + outer).checked_sub(b.ty(updates).rank()).filter(|named| *named <= rank);
            let Some(named) = named else {
                return invalid(format!("updates of rank {} for data of rank {rank}", b.ty(updates).rank()));
            };
            let mut shape = b.ty(at).shape.clone();
            shape[outer] = Dim::constant(named as i64);
            b.reshape(at, shape)?
        }
        _ => at,
    };
    Ok(b.scatter_nd(reduction(call)?, data, at, updates)?)
}

/// Rows of a cache replaced by new ones, from a position of its own for each element of the batch on.
pub(super) fn tensor_scatter(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    let (cache, update) = (call.input(0)?, call.input(1)?);
    let shape = b.ty(cache).shape.clone();
    let along = axis(call.attributes.int_or("axis", -2)?, shape.len())?;
    if along == 0 || b.ty(update).rank() != shape.len() {
        return invalid(format!("axis {along}, update of rank {}", b.ty(update).rank()));
    }
    let rows = b.ty(update).shape[..=along].to_vec();
    let mut position = b.iota(DType::I64, rows.clone(), along)?;
    if let Some(start) = call.optional(2) {
        let start = b.cast(start, DType::I64)?;
        let mut apart = vec![Dim::constant(1); rows.len()];
        apart[0] = rows[0].clone();
        let start = b.reshape(start, apart)?;
        position = b.binary_broadcast(BinaryFn::Add, position, start)?;
    }
    match call.attributes.text("mode")?.unwrap_or("linear") {
        "linear" => {}
        "circular" => {
            let length = b.dim(shape[along].clone())?;
            position = b.binary_broadcast(BinaryFn::Mod, position, length)?;
        }
        other => return invalid(format!("mode `{other}`")),
    }
    Ok(b.scatter_along(ScatterFn::Set, cache, position, update, along)?)
}

/// Each element back to where a pooling took it from, among zeros. A given output shape is filled up with zeros behind
/// what the window's geometry says.
pub(super) fn max_unpool(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    let (x, at) = (call.input(0)?, call.input(1)?);
    let ty = b.ty(x).clone();
    let Some(window) = call.attributes.ints("kernel_shape")? else {
        return invalid("`kernel_shape` is missing");
    };
    let axes = window.len();
    if ty.rank() != axes + 2 {
        return invalid(format!("kernel_shape of {axes} axes for an input of rank {}", ty.rank()));
    }
    let ones = vec![1; axes];
    let strides = call.attributes.ints("strides")?.unwrap_or(&ones);
    let none = vec![0; 2 * axes];
    let pads = call.attributes.ints("pads")?.unwrap_or(&none);
    if strides.len() != axes || pads.len() != 2 * axes {
        return invalid(format!("{} strides and {} pads for {axes} axes", strides.len(), pads.len()));
    }
    let mut shape = ty.shape.clone();
    for (i, dim) in shape[2..].iter_mut().enumerate() {
        let more = i128::from(window[i]) - i128::from(pads[i]) - i128::from(pads[axes + i]);
        let (Ok(more), Ok(stride)) = (i64::try_from(more), u32::try_from(strides[i])) else {
            return invalid(format!("strides {strides:?}, pads {pads:?}, kernel_shape {window:?}"));
        };
        *dim = (dim.clone() - 1.into()) * i64::from(stride).into() + more.into();
    }
    let (elements, total) = (ty.elements(), ired_graph::types::product(&shape));
    let zeros = b.full(ty.dtype, vec![total], 0.0)?;
    let at = b.reshape(at, vec![elements.clone(), 1.into()])?;
    let x = b.reshape(x, vec![elements])?;
    let spread = b.scatter_nd(ScatterFn::Set, zeros, at, x)?;
    let result = b.reshape(spread, shape.clone())?;
    match call.optional(2) {
        None => Ok(result),
        Some(wanted) => enlarge(b, call, result, &shape, wanted),
    }
}

/// `x` at the front of zeros of the shape that `wanted` holds.
fn enlarge(b: &mut Builder<'_>, call: &Call<'_>, x: ValueId, shape: &[Dim], wanted: ValueId) -> Outcome {
    let wanted = b.reshape(wanted, vec![Dim::constant(shape.len() as i64)])?;
    let wanted = b.read_dims(wanted, &format!("{}.shape", call.name))?;
    let high = wanted.into_iter().zip(shape).map(|(wanted, there)| wanted - there.clone()).collect();
    let zero = b.scalar_like(x, 0.0)?;
    Ok(b.pad(x, vec![Dim::constant(0); shape.len()], high, ired_graph::PadMode::Constant, Some(zero))?)
}
