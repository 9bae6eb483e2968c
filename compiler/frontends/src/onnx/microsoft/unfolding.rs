//! Slices that overlap.

use ired_graph::{BinaryFn, Builder, DType, ValueId};

use super::super::call::{Call, Outcome, axis, invalid};

/// All slices of `size` elements along axis `dim`, `step` apart; what is in a slice becomes a new last axis.
pub(in super::super) fn unfold(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    let x: ValueId = call.input(0)?;
    let rank = b.ty(x).rank();
    let at = axis(call.attributes.int_or("dim", -1)?, rank)?;
    let step = call.attributes.int_or("step", 1)?;
    let Some(size) = call.attributes.int("size")?.filter(|size| *size > 0 && step > 0) else {
        return invalid("slices without a size, or without a step between them");
    };
    let extent = b.ty(x).shape[at].clone();
    if b.graph.symbols.is_known_gt(&size.into(), &extent) {
        let extent = extent.display(&b.graph.symbols);
        return invalid(format!("slices of {size} elements of an axis of {extent}"));
    }
    let count = (extent - size.into()).floor_div(&step.into()) + 1.into();
    let shape = vec![count, size.into()];
    let (slice, within) = (b.iota(DType::I64, shape.clone(), 0)?, b.iota(DType::I64, shape, 1)?);
    let start = b.binary_scalar(BinaryFn::Mul, slice, step as f64)?;
    let place = b.binary_broadcast(BinaryFn::Add, start, within)?;
    let slices = b.gather(x, place, at)?;
    let perm = (0..=at).chain(at + 2..=rank).chain([at + 1]).collect();
    Ok(b.transpose(slices, perm)?)
}
