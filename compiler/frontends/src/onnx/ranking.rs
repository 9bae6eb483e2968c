//! The greatest elements, and running sums.

use ired_graph::{BinaryFn, Builder, CompareFn, CumulativeFn, DType, Op, ValueId};

use super::call::{Call, Outcome, axis, constant_ints, invalid, read_size};

/// The `k` greatest or least elements along an axis, best first, and where they stand. How many is an attribute before
/// version 10.
pub(super) fn top_k(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome<Vec<ValueId>> {
    let x = call.input(0)?;
    let at = axis(call.attributes.int_or("axis", -1)?, b.ty(x).rank())?;
    let largest = call.attributes.flag("largest", true)?;
    // Without it any order will do, so this one too.
    call.attributes.ignore(&["sorted"]);
    let k = match call.version >= 10 {
        true => read_size(b, call.input(1)?, &format!("{}.k", call.name))?,
        false => match call.attributes.int("k")? {
            Some(k) => k.into(),
            None => return invalid("`k` is missing"),
        },
    };
    let order = b.sort(x, at, largest)?;
    let positions = b.slice_axis(order, at, 0.into(), k)?;
    let values = b.push(Op::GatherElements { axis: at }, &[x, positions])?;
    Ok(vec![values, positions])
}

/// The axis is an input: where only the run knows it, every axis is summed along and one result taken.
pub(super) fn cumulative(b: &mut Builder<'_>, call: &Call<'_>, function: CumulativeFn) -> Outcome {
    let x = call.input(0)?;
    let rank = b.ty(x).rank();
    let (exclusive, reverse) =
        (call.attributes.flag("exclusive", false)?, call.attributes.flag("reverse", false)?);
    let along =
        |b: &mut Builder<'_>, axis| b.push(Op::Cumulative { function, axis, exclusive, reverse }, &[x]);
    let chosen = call.input(1)?;
    if let Some([known]) = constant_ints(b, chosen).as_deref() {
        return Ok(along(b, axis(*known, rank)?)?);
    }
    let chosen = b.cast(chosen, DType::I64)?;
    let chosen = b.reshape(chosen, Vec::new())?;
    let zero = b.scalar(DType::I64, 0.0)?;
    let negative = b.compare_broadcast(CompareFn::Lt, chosen, zero)?;
    let from_end = b.binary_scalar(BinaryFn::Add, chosen, rank as f64)?;
    let chosen = b.select_broadcast(negative, from_end, chosen)?;
    let Some(last) = rank.checked_sub(1) else { return invalid("an input without axes") };
    let mut result = along(b, last)?;
    for other in 0..last {
        let sums = along(b, other)?;
        let other = b.scalar(DType::I64, other as f64)?;
        let hit = b.compare_broadcast(CompareFn::Eq, chosen, other)?;
        result = b.select_broadcast(hit, sums, result)?;
    }
    Ok(result)
}
