//! Softmax and its relatives.

use ired_graph::{ArgReduceFn, Builder, CompareFn, DType, Op, ValueId};

use super::call::{Call, Outcome, axis};

/// Along one axis from version 13 on; before, over all axes from `axis` on as if they were one.
pub(super) fn softmax(b: &mut Builder<'_>, call: &Call<'_>, log: bool) -> Outcome {
    along_axis(b, call, |b, x, axis| Ok(b.softmax(x, axis, log)?))
}

/// 1 at the first maximum along the axis, 0 elsewhere.
pub(super) fn hardmax(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    along_axis(b, call, |b, x, axis| {
        let ty = b.ty(x).clone();
        let arg = Op::ArgReduce { function: ArgReduceFn::Max, axis, last_on_tie: false };
        let place = b.push(arg, &[x])?;
        let place = b.unsqueeze(place, &[axis])?;
        let counter = b.iota(DType::I64, ty.shape.clone(), axis)?;
        let hit = b.compare_broadcast(CompareFn::Eq, counter, place)?;
        Ok(b.cast(hit, ty.dtype)?)
    })
}

fn along_axis(
    b: &mut Builder<'_>,
    call: &Call<'_>,
    function: impl FnOnce(&mut Builder<'_>, ValueId, usize) -> Outcome,
) -> Outcome {
    let x = call.input(0)?;
    let shape = b.ty(x).shape.clone();
    let newer = call.version >= 13;
    let at = axis(call.attributes.int_or("axis", if newer { -1 } else { 1 })?, shape.len());
    // A vector has no axis 1; flattened from there on it is a column.
    let at = match at {
        Err(_) if !newer && shape.len() == 1 => 0,
        at => at?,
    };
    if newer || at + 1 == shape.len() {
        return function(b, x, at);
    }
    let matrix = b.flatten(x, at)?;
    let result = function(b, matrix, 1)?;
    Ok(b.reshape(result, shape)?)
}
