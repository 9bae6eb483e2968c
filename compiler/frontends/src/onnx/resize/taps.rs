//! Which elements of an axis make each element of the resized axis, and with what weight, as tensors: where sizes
//! are constant these fold away. Positions and weights are f64, so that ties are told apart as they are on paper.

use ired_graph::{BinaryFn, Builder, CompareFn, DType, Dim, ReduceFn, UnaryFn, ValueId};

use super::super::call::{Outcome, invalid, read_size};
use super::super::cubic;
use super::change::Change;

/// Where an index of the result lies on the input's axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coordinates {
    HalfPixel,
    HalfPixelSymmetric,
    /// As half pixel, but 0 for a result of one element.
    PytorchHalfPixel,
    AlignCorners,
    Asymmetric,
    TfHalfPixelForNn,
    /// From the first to the last element of a region of interest.
    CropAndResize,
}

impl Coordinates {
    pub(super) fn named(name: &str) -> Outcome<Self> {
        Ok(match name {
            "half_pixel" => Self::HalfPixel,
            "half_pixel_symmetric" => Self::HalfPixelSymmetric,
            "pytorch_half_pixel" => Self::PytorchHalfPixel,
            "align_corners" => Self::AlignCorners,
            "asymmetric" => Self::Asymmetric,
            "tf_half_pixel_for_nn" => Self::TfHalfPixelForNn,
            "tf_crop_and_resize" => Self::CropAndResize,
            other => return invalid(format!("coordinates `{other}`")),
        })
    }

    /// Of every element of the result, an f64 vector.
    pub(super) fn positions(self, b: &mut Builder<'_>, change: &Change) -> Outcome {
        let index = b.iota(DType::F64, vec![change.to.clone()], 0)?;
        let by = |b: &mut Builder<'_>, x, function, y| b.binary_broadcast(function, x, y);
        let centre = b.binary_scalar(BinaryFn::Add, index, 0.5)?;
        let centre = by(b, centre, BinaryFn::Div, change.scale)?;
        let half_pixel = b.binary_scalar(BinaryFn::Sub, centre, 0.5)?;
        let last = b.dim(change.from.clone() - 1.into())?;
        let last = b.cast(last, DType::F64)?;
        let position = match self {
            Self::HalfPixel => half_pixel,
            Self::TfHalfPixelForNn => centre,
            Self::Asymmetric => by(b, index, BinaryFn::Div, change.scale)?,
            Self::HalfPixelSymmetric => {
                // The centres of both images stay together where the size is not what the scale asks for.
                let (to, from) = (b.dim(change.to.clone())?, b.dim(change.from.clone())?);
                let (to, from) = (b.cast(to, DType::F64)?, b.cast(from, DType::F64)?);
                let adjustment = by(b, to, BinaryFn::Div, change.exact)?;
                let one = b.scalar(DType::F64, 1.0)?;
                let missing = by(b, one, BinaryFn::Sub, adjustment)?;
                let middle = b.binary_scalar(BinaryFn::Mul, from, 0.5)?;
                let offset = by(b, middle, BinaryFn::Mul, missing)?;
                by(b, half_pixel, BinaryFn::Add, offset)?
            }
            Self::PytorchHalfPixel => unless_one(b, change, half_pixel, None)?,
            Self::AlignCorners => {
                let steps = b.binary_scalar(BinaryFn::Sub, change.exact, 1.0)?;
                let reached = by(b, index, BinaryFn::Mul, last)?;
                let position = by(b, reached, BinaryFn::Div, steps)?;
                unless_one(b, change, position, None)?
            }
            Self::CropAndResize => {
                let Some((start, end)) = change.region else { return invalid("has no region of interest") };
                let (start, end) = (by(b, start, BinaryFn::Mul, last)?, by(b, end, BinaryFn::Mul, last)?);
                let reach = by(b, end, BinaryFn::Sub, start)?;
                let steps = b.binary_scalar(BinaryFn::Sub, change.exact, 1.0)?;
                let along = by(b, index, BinaryFn::Mul, reach)?;
                let along = by(b, along, BinaryFn::Div, steps)?;
                let position = by(b, along, BinaryFn::Add, start)?;
                let both = by(b, start, BinaryFn::Add, end)?;
                let middle = b.binary_scalar(BinaryFn::Mul, both, 0.5)?;
                unless_one(b, change, position, Some(middle))?
            }
        };
        Ok(position)
    }
}

/// `position`, but `otherwise` (0 if not given) for a result of one element.
fn unless_one(
    b: &mut Builder<'_>,
    change: &Change,
    position: ValueId,
    otherwise: Option<ValueId>,
) -> Outcome {
    let otherwise = match otherwise {
        Some(value) => value,
        None => b.scalar(DType::F64, 0.0)?,
    };
    let (to, one) = (b.dim(change.to.clone())?, b.dim(1.into())?);
    let is_one = b.compare_broadcast(CompareFn::Eq, to, one)?;
    Ok(b.select_broadcast(is_one, otherwise, position)?)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Rounding {
    PreferFloor,
    PreferCeil,
    Floor,
    Ceil,
    /// Down where the image grows, up where it shrinks: what version 10 means.
    Simple,
}

impl Rounding {
    pub(super) fn named(name: &str) -> Outcome<Self> {
        Ok(match name {
            "round_prefer_floor" => Self::PreferFloor,
            "round_prefer_ceil" => Self::PreferCeil,
            "floor" => Self::Floor,
            "ceil" => Self::Ceil,
            "simple" => Self::Simple,
            other => return invalid(format!("nearest_mode `{other}`")),
        })
    }

    fn apply(self, b: &mut Builder<'_>, x: ValueId, scale: ValueId) -> Outcome {
        Ok(match self {
            Self::PreferFloor => {
                let x = b.binary_scalar(BinaryFn::Sub, x, 0.5)?;
                b.unary(UnaryFn::Ceil, x)?
            }
            Self::PreferCeil => {
                let x = b.binary_scalar(BinaryFn::Add, x, 0.5)?;
                b.unary(UnaryFn::Floor, x)?
            }
            Self::Floor => b.unary(UnaryFn::Floor, x)?,
            Self::Ceil => b.unary(UnaryFn::Ceil, x)?,
            Self::Simple => {
                let (down, up) = (b.unary(UnaryFn::Floor, x)?, b.unary(UnaryFn::Ceil, x)?);
                let one = b.scalar(DType::F64, 1.0)?;
                let shrinks = b.compare_broadcast(CompareFn::Lt, scale, one)?;
                b.select_broadcast(shrinks, up, down)?
            }
        })
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Filter {
    Nearest(Rounding),
    Linear,
    Cubic { a: f64 },
}

impl Filter {
    /// Whether a whole scale only repeats elements.
    pub(super) fn repeats(self, coordinates: Coordinates) -> bool {
        match self {
            Self::Nearest(rounding) => match coordinates {
                Coordinates::Asymmetric => matches!(rounding, Rounding::Floor | Rounding::Simple),
                Coordinates::TfHalfPixelForNn => rounding == Rounding::Floor,
                Coordinates::HalfPixel => matches!(rounding, Rounding::PreferFloor | Rounding::PreferCeil),
                _ => false,
            },
            Self::Linear | Self::Cubic { .. } => false,
        }
    }

    /// How far from a position elements count.
    fn reach(self) -> i64 {
        match self {
            Self::Nearest(_) => 0,
            Self::Linear => 1,
            Self::Cubic { .. } => 2,
        }
    }

    /// The weight at a distance, both f64.
    fn weigh(self, b: &mut Builder<'_>, distance: ValueId) -> Outcome {
        let d = b.unary(UnaryFn::Abs, distance)?;
        let Self::Cubic { a } = self else {
            let one = b.scalar(DType::F64, 1.0)?;
            let weight = b.binary_broadcast(BinaryFn::Sub, one, d)?;
            return Ok(b.binary_scalar(BinaryFn::Max, weight, 0.0)?);
        };
        let near = cubic::near(b, d, a)?;
        let far = cubic::far(b, d, a)?;
        let (one, two) = (b.scalar(DType::F64, 1.0)?, b.scalar(DType::F64, 2.0)?);
        let zero = b.scalar(DType::F64, 0.0)?;
        let is_near = b.compare_broadcast(CompareFn::Le, d, one)?;
        let is_far = b.compare_broadcast(CompareFn::Lt, d, two)?;
        let far = b.select_broadcast(is_far, far, zero)?;
        Ok(b.select_broadcast(is_near, near, far)?)
    }
}

/// The elements that count for each element of the result: `[to, count]`.
pub(super) struct Taps {
    pub(super) to: Dim,
    pub(super) count: Dim,
    /// f64 and whole; may lie outside of the axis.
    indices: ValueId,
    /// f64; all 1 if not given.
    pub(super) weights: Option<ValueId>,
}

impl Taps {
    pub(super) fn plain(
        b: &mut Builder<'_>,
        filter: &Filter,
        position: ValueId,
        change: &Change,
    ) -> Outcome<Self> {
        if let Filter::Nearest(rounding) = filter {
            let nearest = rounding.apply(b, position, change.scale)?;
            let indices = b.unsqueeze(nearest, &[1])?;
            return Ok(Self { to: change.to.clone(), count: 1.into(), indices, weights: None });
        }
        Self::around(b, filter, position, change, &filter.reach().into(), None)
    }

    /// Where the image shrinks, all elements between two of the result's count, as under a filter that is wider by
    /// as much.
    pub(super) fn antialiased(
        b: &mut Builder<'_>,
        filter: &Filter,
        position: ValueId,
        change: &Change,
    ) -> Outcome<Self> {
        let narrowing = b.binary_scalar(BinaryFn::Min, change.scale, 1.0)?;
        let reach = b.scalar(DType::F64, filter.reach() as f64)?;
        let reach = b.binary_broadcast(BinaryFn::Div, reach, narrowing)?;
        let reach = b.unary(UnaryFn::Ceil, reach)?;
        let reach = b.cast(reach, DType::I64)?;
        let reach = read_size(b, reach, "reach")?;
        let mut taps = Self::around(b, filter, position, change, &reach, Some(narrowing))?;
        taps.normalise(b)?;
        Ok(taps)
    }

    /// The `2 · reach` elements around each position, weighted by distance, in elements or in `unit`s of them.
    fn around(
        b: &mut Builder<'_>,
        filter: &Filter,
        position: ValueId,
        change: &Change,
        reach: &Dim,
        unit: Option<ValueId>,
    ) -> Outcome<Self> {
        let count = reach.clone() * 2.into();
        let step = b.iota(DType::F64, vec![count.clone()], 0)?;
        let before = b.dim(reach.clone() - 1.into())?;
        let before = b.cast(before, DType::F64)?;
        let step = b.binary_broadcast(BinaryFn::Sub, step, before)?;
        let position = b.unsqueeze(position, &[1])?;
        let base = b.unary(UnaryFn::Floor, position)?;
        let indices = b.binary_broadcast(BinaryFn::Add, base, step)?;
        let mut distance = b.binary_broadcast(BinaryFn::Sub, indices, position)?;
        if let Some(unit) = unit {
            distance = b.binary_broadcast(BinaryFn::Mul, distance, unit)?;
        }
        let weights = filter.weigh(b, distance)?;
        Ok(Self { to: change.to.clone(), count, indices, weights: Some(weights) })
    }

    /// Elements before the first and after the last do not count.
    pub(super) fn without_outside(mut self, b: &mut Builder<'_>, size: &Dim) -> Outcome<Self> {
        let Some(weights) = self.weights else { return Ok(self) };
        let outside = super::outside_of(b, self.indices, size)?;
        let zero = b.scalar(DType::F64, 0.0)?;
        self.weights = Some(b.select_broadcast(outside, zero, weights)?);
        self.normalise(b)?;
        Ok(self)
    }

    fn normalise(&mut self, b: &mut Builder<'_>) -> Outcome<()> {
        if let Some(weights) = self.weights {
            let sum = b.reduce(ReduceFn::Sum, weights, &[1], true)?;
            self.weights = Some(b.binary_broadcast(BinaryFn::Div, weights, sum)?);
        }
        Ok(())
    }

    /// The indices as i64; elements before the first and after the last are like those.
    pub(super) fn clamped(&self, b: &mut Builder<'_>, size: &Dim) -> Outcome {
        let last = b.dim(size.clone() - 1.into())?;
        let last = b.cast(last, DType::F64)?;
        let indices = b.binary_broadcast(BinaryFn::Min, self.indices, last)?;
        let indices = b.binary_scalar(BinaryFn::Max, indices, 0.0)?;
        Ok(b.cast(indices, DType::I64)?)
    }
}
