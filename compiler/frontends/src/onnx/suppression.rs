//! The best of boxes that overlap.

use ired_graph::{BinaryFn, Builder, CompareFn, DType, Dim, Op, ReduceFn, ValueId};

use super::call::{Call, Outcome, invalid};
use super::selection::{positions_of, split_positions};

/// `[selected, 3]`: batch, class and box of what is kept, class by class and best first.
pub(super) fn non_max_suppression(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    let (boxes, scores) = (call.input(0)?, call.input(1)?);
    if b.ty(boxes).rank() != 3 || b.ty(scores).rank() != 3 {
        let (boxes, scores) = (b.ty(boxes).rank(), b.ty(scores).rank());
        return invalid(format!("boxes of rank {boxes} and scores of rank {scores}; expected 3 both"));
    }
    let boxes = match call.attributes.int_or("center_point_box", 0)? {
        0 => boxes,
        1 => to_corners(b, boxes)?,
        other => return invalid(format!("center_point_box {other}")),
    };
    let limit = setting(b, call, 2, DType::I64)?;
    let limit = if let Some(limit) = limit { limit } else { b.scalar(DType::I64, 0.0)? };
    let overlap = setting(b, call, 3, DType::F32)?;
    let overlap = if let Some(overlap) = overlap { overlap } else { b.scalar(DType::F32, 0.0)? };
    let shape = b.ty(scores).shape.clone();
    let (scores, count) = match setting(b, call, 4, DType::F32)? {
        Some(least) => {
            let passes = b.compare_broadcast(CompareFn::Gt, scores, least)?;
            let last = b.scalar(DType::F32, f64::NEG_INFINITY)?;
            let scores = b.select_broadcast(passes, scores, last)?;
            let ones = b.cast(passes, DType::I64)?;
            (scores, b.reduce(ReduceFn::Sum, ones, &[2], false)?)
        }
        None => {
            let all = b.dim(shape[2].clone())?;
            (scores, b.broadcast_to(all, shape[..2].to_vec())?)
        }
    };
    let order = b.sort(scores, 2, true)?;
    let kept = b.push(Op::SuppressOverlaps, &[boxes, order, count, limit, overlap])?;
    let all = ired_graph::types::product(&shape);
    let kept = b.reshape(kept, vec![all.clone()])?;
    let places = positions_of(b, kept, call.name)?;
    let mut columns = split_positions(b, places, &shape)?;
    let order = b.reshape(order, vec![all])?;
    columns[2] = b.gather(order, places, 0)?;
    let column = vec![b.ty(places).shape[0].clone(), Dim::constant(1)];
    let columns = columns.into_iter().map(|c| b.reshape(c, column.clone())).collect::<Result<Vec<_>, _>>()?;
    Ok(b.concat(&columns, 1)?)
}

/// The number in an input that may be left out, or empty.
fn setting(b: &mut Builder<'_>, call: &Call<'_>, index: usize, dtype: DType) -> Outcome<Option<ValueId>> {
    let Some(value) = call.optional(index) else { return Ok(None) };
    if b.ty(value).elements() == Dim::constant(0) {
        return Ok(None);
    }
    let value = b.cast(value, dtype)?;
    Ok(Some(b.reshape(value, Vec::new())?))
}

/// Boxes given by `x, y, width, height` of their centre, as corners.
fn to_corners(b: &mut Builder<'_>, boxes: ValueId) -> Outcome {
    let column = |b: &mut Builder<'_>, i: i64| b.slice_axis(boxes, 2, i.into(), 1.into());
    let (x, y, width, height) = (column(b, 0)?, column(b, 1)?, column(b, 2)?, column(b, 3)?);
    let (width, height) =
        (b.binary_scalar(BinaryFn::Div, width, 2.0)?, b.binary_scalar(BinaryFn::Div, height, 2.0)?);
    let low = [b.binary_broadcast(BinaryFn::Sub, y, height)?, b.binary_broadcast(BinaryFn::Sub, x, width)?];
    let high = [b.binary_broadcast(BinaryFn::Add, y, height)?, b.binary_broadcast(BinaryFn::Add, x, width)?];
    Ok(b.concat(&[low[0], low[1], high[0], high[1]], 2)?)
}
