//! Padding and cropping at the borders.

use super::ShapeError;
use super::check::Operands;
use super::interpret::{Call, ComputeError};
use super::positions::{FILL, Positions, strides};
use crate::{Dim, PadMode, Shape, Tensor, TensorType};

pub(super) fn infer(
    operands: &Operands<'_>,
    low: &[Dim],
    high: &[Dim],
    mode: PadMode,
) -> Result<TensorType, ShapeError> {
    let x = match mode {
        PadMode::Constant => {
            let [x, fill] = operands.exactly()?;
            operands.same_dtype(1, 0)?;
            operands.rank(1, fill.rank() == 0, 0)?;
            x
        }
        PadMode::Reflect | PadMode::Edge | PadMode::Wrap => {
            let [x] = operands.exactly()?;
            x
        }
    };
    operands.length("low", low.len(), x.rank())?;
    operands.length("high", high.len(), x.rank())?;
    let padded = |((d, low), high): ((&Dim, &Dim), &Dim)| d.clone() + low.clone() + high.clone();
    let shape: Shape = x.shape.iter().zip(low).zip(high).map(padded).collect();
    operands.sizes("low and high", &shape)?;
    Ok(TensorType::new(x.dtype, shape))
}

pub(super) fn compute(call: &Call<'_>, low: &[Dim], mode: PadMode) -> Result<Tensor, ComputeError> {
    let x = call.x();
    let strides = strides(x.shape());
    let mut tables = Vec::with_capacity(low.len());
    for (axis, low) in low.iter().enumerate() {
        let extent = x.shape()[axis];
        let at = |i: u64| {
            let index = i as i64 - low.offset();
            match mode.source(index, extent as i64) {
                Some(FILL) => Ok(FILL),
                Some(source) => Ok(source * strides[axis]),
                None => Err(ComputeError::Index { op: call.op, index, extent }),
            }
        };
        tables.push((0..call.shape[axis]).map(at).collect::<Result<Vec<usize>, _>>()?);
    }
    let fill = call.operands.get(1).map(|fill| fill.to_bits());
    let fill = fill.as_ref().and_then(|bits| bits.first());
    Ok(call.bits(&Positions::new(tables).collect(&x.to_bits(), fill)))
}

impl PadMode {
    /// The element that stands at `index`, which may be outside of `0..extent`; `None` if there is none to take.
    fn source(self, index: i64, extent: i64) -> Option<usize> {
        if (0..extent).contains(&index) {
            return Some(index as usize);
        }
        let inside = match self {
            Self::Constant => return Some(FILL),
            _ if extent == 0 => return None,
            Self::Edge => index.clamp(0, extent - 1),
            Self::Wrap => index.rem_euclid(extent),
            Self::Reflect if extent == 1 => 0,
            Self::Reflect => {
                let around = index.rem_euclid(2 * (extent - 1));
                around.min(2 * (extent - 1) - around)
            }
        };
        Some(inside as usize)
    }
}
