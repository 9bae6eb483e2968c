//! Weighted sums of an image's elements at points of its own.

use ired_graph::{BinaryFn, Builder, DType, Dim, Op, ValueId};

use super::super::call::{Outcome, invalid};

/// One element along an axis for each point. All `[n, points]`.
pub(super) struct Tap {
    /// i64, within the axis.
    pub(super) index: ValueId,
    /// 1 if not given.
    pub(super) weight: Option<ValueId>,
    /// Where it counts; everywhere if not given.
    pub(super) inside: Option<ValueId>,
}

/// `[n, c, spatial..]`, read at points that differ from one batch element to the next.
pub(super) struct Image {
    /// `[n, c, elements]`, of the type that sums are kept in.
    data: ValueId,
    dtype: DType,
    sizes: Vec<Dim>,
}

impl Image {
    /// `weighted` where sums are wanted and not only elements.
    pub(super) fn new(b: &mut Builder<'_>, x: ValueId, weighted: bool) -> Outcome<Self> {
        let dtype = b.ty(x).dtype;
        let working = match dtype {
            _ if !weighted => dtype,
            DType::F64 | DType::I32 | DType::U32 | DType::I64 | DType::U64 => DType::F64,
            _ => DType::F32,
        };
        let shape = b.ty(x).shape.clone();
        let count = shape[2..].iter().fold(Dim::constant(1), |all, d| all * d.clone());
        let x = b.cast(x, working)?;
        let data = b.reshape(x, vec![shape[0].clone(), shape[1].clone(), count])?;
        Ok(Self { data, dtype, sizes: shape[2..].to_vec() })
    }

    /// `[n, c, points]`: for each point the sum over all combinations of the axes' taps.
    pub(super) fn sample(&self, b: &mut Builder<'_>, taps: &[Vec<Tap>]) -> Outcome {
        let sum = self.sum(b, None, taps)?;
        Ok(b.cast(sum, self.dtype)?)
    }

    /// The sum over the taps of the axes left; `row` numbers the elements along the axes before.
    fn sum(&self, b: &mut Builder<'_>, row: Option<ValueId>, taps: &[Vec<Tap>]) -> Outcome {
        let Some((own, rest)) = taps.split_first() else {
            return match row {
                Some(row) => self.read(b, row),
                None => invalid("an image without axes"),
            };
        };
        let mut sum: Option<ValueId> = None;
        for tap in own {
            let row = match row {
                None => tap.index,
                Some(row) => {
                    let size = b.dim(self.sizes[self.sizes.len() - taps.len()].clone())?;
                    let row = b.binary_broadcast(BinaryFn::Mul, row, size)?;
                    b.binary_broadcast(BinaryFn::Add, row, tap.index)?
                }
            };
            let mut part = self.sum(b, Some(row), rest)?;
            if let Some(inside) = tap.inside {
                let inside = b.unsqueeze(inside, &[1])?;
                let zero = b.scalar_like(part, 0.0)?;
                part = b.select_broadcast(inside, part, zero)?;
            }
            if let Some(weight) = tap.weight {
                let weight = b.unsqueeze(weight, &[1])?;
                let weight = b.cast(weight, b.ty(part).dtype)?;
                part = b.binary_broadcast(BinaryFn::Mul, part, weight)?;
            }
            sum = Some(match sum {
                None => part,
                Some(sum) => b.binary_broadcast(BinaryFn::Add, sum, part)?,
            });
        }
        sum.map_or_else(|| invalid("no taps"), Ok)
    }

    /// The elements of every channel numbered `row`.
    fn read(&self, b: &mut Builder<'_>, row: ValueId) -> Outcome {
        let data = &b.ty(self.data).shape;
        let shape = vec![data[0].clone(), data[1].clone(), b.ty(row).shape[1].clone()];
        let row = b.unsqueeze(row, &[1])?;
        let row = b.broadcast_to(row, shape)?;
        Ok(b.push(Op::GatherElements { axis: 2 }, &[self.data, row])?)
    }
}
