//! Padding and cropping at the borders.

use super::ShapeError;
use super::check::Operands;
use crate::{Dim, PadMode, Shape, TensorType};

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
