//! Greedy choice among boxes that overlap.

use super::ShapeError;
use super::check::Operands;
use super::interpret::{Call, ComputeError};
use crate::{DType, Dim, Tensor, TensorType};

pub(super) fn infer(operands: &Operands<'_>) -> Result<TensorType, ShapeError> {
    let [boxes, order, count, limit, threshold] = operands.exactly()?;
    let expected = [DType::F32, DType::I64, DType::I64, DType::I64, DType::F32];
    let types = [boxes, order, count, limit, threshold];
    for (i, (ty, (expected, rank))) in
        types.into_iter().zip(expected.into_iter().zip([3, 3, 2, 0, 0])).enumerate()
    {
        operands.dtype(i, ty.dtype == expected, expected.name())?;
        operands.rank(i, ty.rank() == rank, rank)?;
    }
    operands.unify("coordinates of a box", &Dim::constant(4), &boxes.shape[2])?;
    operands.unify("batch of operand 1", &boxes.shape[0], &order.shape[0])?;
    operands.unify("boxes of operand 1", &boxes.shape[1], &order.shape[2])?;
    operands.unify("batch of operand 2", &order.shape[0], &count.shape[0])?;
    operands.unify("classes of operand 2", &order.shape[1], &count.shape[1])?;
    Ok(TensorType::new(DType::Bool, order.shape.clone()))
}

pub(super) fn compute(call: &Call<'_>) -> Result<Tensor, ComputeError> {
    let [boxes, order, count, limit, threshold] = [0, 1, 2, 3, 4].map(|i| call.operands[i]);
    let (batch, classes, length) = (call.shape[0], call.shape[1], call.shape[2]);
    let (corners, order, count) = (boxes.to_f32s(), order.to_i64s(), count.to_i64s());
    let limit = limit.to_i64s()[0];
    let threshold = threshold.to_f32s()[0];
    let mut flags = Vec::with_capacity(order.len());
    for row in 0..(batch * classes) as usize {
        let first = row / classes as usize * length as usize;
        let mut kept: Vec<Area> = Vec::new();
        for place in 0..length as usize {
            let index = order[row * length as usize + place];
            let inside = usize::try_from(index).ok().filter(|i| (*i as u64) < length);
            let Some(at) = inside.map(|i| (first + i) * 4) else {
                return Err(ComputeError::Index { op: call.op, index, extent: length });
            };
            let area = Area::new(&corners[at..at + 4]);
            let wanted = (place as i64) < count[row] && (kept.len() as i64) < limit;
            let keep = wanted && !kept.iter().any(|other| area.overlaps(other, threshold));
            if keep {
                kept.push(area);
            }
            flags.push(u128::from(keep));
        }
    }
    Ok(call.bits(&flags))
}

/// A box by its least and its greatest corner.
struct Area {
    low: [f32; 2],
    high: [f32; 2],
    size: f32,
}

impl Area {
    fn new(corners: &[f32]) -> Self {
        let low = [least(corners[0], corners[2]), least(corners[1], corners[3])];
        let high = [greatest(corners[0], corners[2]), greatest(corners[1], corners[3])];
        Self { low, high, size: (high[0] - low[0]) * (high[1] - low[1]) }
    }

    fn overlaps(&self, other: &Self, threshold: f32) -> bool {
        let extent = |axis: usize| {
            greatest(
                least(self.high[axis], other.high[axis]) - greatest(self.low[axis], other.low[axis]),
                0.0,
            )
        };
        let shared = extent(0) * extent(1);
        let union = self.size + other.size - shared;
        shared > 0.0 && shared / union > threshold
    }
}

fn least(x: f32, y: f32) -> f32 {
    if y < x { y } else { x }
}

fn greatest(x: f32, y: f32) -> f32 {
    if y > x { y } else { x }
}
