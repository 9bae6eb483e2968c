//! Images in other sizes: each axis on its own, as weighted sums of gathered elements.

mod change;
mod taps;

use ired_graph::{BinaryFn, Builder, CompareFn, DType, Dim, ReduceFn, ValueId};

use super::call::{Call, Outcome, invalid};
use super::complex;
use change::{Change, by_scales, changes};
use taps::{Coordinates, Filter, Rounding, Taps};

pub(super) fn resize(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    let old = call.version < 11;
    let stated = call.attributes.text("coordinate_transformation_mode")?;
    let coordinates = Coordinates::named(stated.unwrap_or(if old { "asymmetric" } else { "half_pixel" }))?;
    let rounding = call.attributes.text("nearest_mode")?;
    let rounding = Rounding::named(rounding.unwrap_or(if old { "simple" } else { "round_prefer_floor" }))?;
    let a = call.attributes.float_or("cubic_coeff_a", -0.75)?;
    let filter = match call.attributes.text("mode")?.unwrap_or("nearest") {
        "nearest" => Filter::Nearest(rounding),
        "linear" | "bilinear" => Filter::Linear,
        "cubic" => Filter::Cubic { a },
        other => return invalid(format!("mode `{other}`")),
    };
    let sampling = Sampling {
        filter,
        coordinates,
        exclude_outside: call.attributes.flag("exclude_outside", false)?,
        antialias: call.attributes.flag("antialias", false)?,
        outside: call.attributes.float_or("extrapolation_value", 0.0)?,
    };
    // Version 10 has no region of interest, no sizes, and one way to map coordinates.
    let (scales, sizes) = if old { (1, 2) } else { (2, 3) };
    let changes = changes(b, call, scales, sizes, coordinates == Coordinates::CropAndResize)?;
    sampling.apply(b, call.input(0)?, &changes)
}

/// Upsample, of operator sets 1 to 9.
pub(super) fn upsample(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    let filter = match call.attributes.text("mode")?.unwrap_or("nearest") {
        "nearest" => Filter::Nearest(Rounding::Floor),
        "linear" | "bilinear" => Filter::Linear,
        other => return invalid(format!("mode `{other}`")),
    };
    let x = call.input(0)?;
    let axes: Vec<usize> = (0..b.ty(x).rank()).collect();
    let scales = match (call.attributes.floats("scales")?, call.attributes.float("height_scale")?) {
        (Some(scales), _) => Some(scales.iter().map(|s| f64::from(*s)).collect()),
        // Version 1 scales the last two of four axes.
        (None, Some(height)) => {
            Some(vec![1.0, 1.0, height, call.attributes.float("width_scale")?.unwrap_or(1.0)])
        }
        (None, None) => None,
    };
    let changes = match scales {
        Some(scales) => {
            let scales: Vec<f64> = scales;
            let scales =
                b.constant(ired_graph::Tensor::from_f64s(DType::F32, &[scales.len() as u64], &scales))?;
            by_scales(b, call, &axes, scales, None)?
        }
        None => changes(b, call, 1, 2, false)?,
    };
    let sampling = Sampling {
        filter,
        coordinates: Coordinates::Asymmetric,
        exclude_outside: false,
        antialias: false,
        outside: 0.0,
    };
    sampling.apply(b, x, &changes)
}

/// How elements of the result come about, the same along every axis.
struct Sampling {
    filter: Filter,
    coordinates: Coordinates,
    exclude_outside: bool,
    antialias: bool,
    /// What is where a region of interest reaches beyond the image.
    outside: f64,
}

impl Sampling {
    fn apply(&self, b: &mut Builder<'_>, x: ValueId, changes: &[Change]) -> Outcome {
        let mut result = complex::by_part(b, x, |b, x| self.sample(b, x, changes))?;
        for change in changes.iter().filter(|change| change.region.is_some()) {
            let position = self.coordinates.positions(b, change)?;
            let outside = outside_of(b, position, &change.from)?;
            let outside = along(b, outside, change.axis, b.ty(result).rank())?;
            let value = b.scalar_like(result, self.outside)?;
            result = b.select_broadcast(outside, value, result)?;
        }
        Ok(result)
    }

    fn sample(&self, b: &mut Builder<'_>, x: ValueId, changes: &[Change]) -> Outcome {
        let dtype = b.ty(x).dtype;
        let weighted = !matches!(self.filter, Filter::Nearest(_));
        let working = match dtype {
            _ if !weighted => dtype,
            DType::F64 | DType::I32 | DType::U32 | DType::I64 | DType::U64 => DType::F64,
            _ => DType::F32,
        };
        let mut result = b.cast(x, working)?;
        for change in changes {
            if self.repeats(change) {
                result = repeat(b, result, change)?;
                continue;
            }
            let position = self.coordinates.positions(b, change)?;
            let taps = match self.antialias && weighted {
                true => Taps::antialiased(b, &self.filter, position, change)?,
                false => Taps::plain(b, &self.filter, position, change)?,
            };
            let taps = if self.exclude_outside { taps.without_outside(b, &change.from)? } else { taps };
            result = weigh(b, result, change.axis, &taps, &change.from)?;
        }
        Ok(b.cast(result, dtype)?)
    }

    /// Whether each element is only repeated, a whole number of times.
    fn repeats(&self, change: &Change) -> bool {
        let whole = change.factor.is_some_and(|f| f.fract() == 0.0 && (1.0..=65536.0).contains(&f));
        whole && self.filter.repeats(self.coordinates)
    }
}

/// Where a position is not between the first and the last element.
fn outside_of(b: &mut Builder<'_>, position: ValueId, size: &Dim) -> Outcome {
    let zero = b.scalar_like(position, 0.0)?;
    let last = b.dim(size.clone() - 1.into())?;
    let last = b.cast(last, DType::F64)?;
    let before = b.compare_broadcast(CompareFn::Lt, position, zero)?;
    let after = b.compare_broadcast(CompareFn::Gt, position, last)?;
    Ok(b.binary_broadcast(BinaryFn::Or, before, after)?)
}

/// A vector laid along `axis` of `rank` axes, to broadcast.
fn along(b: &mut Builder<'_>, vector: ValueId, axis: usize, rank: usize) -> Outcome {
    let after: Vec<usize> = (1..rank - axis).collect();
    Ok(b.unsqueeze(vector, &after)?)
}

/// Longer sums are reductions over one more axis rather than written out.
const MAX_WRITTEN: i64 = 4;

/// `Σ_k weights[i, k] · x[indices[i, k]]` along one axis.
fn weigh(b: &mut Builder<'_>, x: ValueId, axis: usize, taps: &Taps, size: &Dim) -> Outcome {
    let rank = b.ty(x).rank();
    let indices = taps.clamped(b, size)?;
    let Some(weights) = taps.weights else {
        let indices = b.reshape(indices, vec![taps.to.clone()])?;
        return Ok(b.gather(x, indices, axis)?);
    };
    let weights = b.cast(weights, b.ty(x).dtype)?;
    let Some(count) = taps.count.as_static().filter(|count| *count <= MAX_WRITTEN) else {
        let gathered = b.gather(x, indices, axis)?;
        let after: Vec<usize> = (2..rank + 1 - axis).collect();
        let weights = b.unsqueeze(weights, &after)?;
        let weighted = b.binary_broadcast(BinaryFn::Mul, gathered, weights)?;
        return Ok(b.reduce(ReduceFn::Sum, weighted, &[axis + 1], false)?);
    };
    let mut sum = None;
    for k in 0..count {
        let column = |b: &mut Builder<'_>, table| {
            let column = b.slice_axis(table, 1, k.into(), 1.into())?;
            b.reshape(column, vec![taps.to.clone()])
        };
        let indices = column(b, indices)?;
        let part = b.gather(x, indices, axis)?;
        let weights = column(b, weights)?;
        let weights = along(b, weights, axis, rank)?;
        let part = b.binary_broadcast(BinaryFn::Mul, part, weights)?;
        sum = Some(match sum {
            None => part,
            Some(sum) => b.binary_broadcast(BinaryFn::Add, sum, part)?,
        });
    }
    sum.map_or_else(|| invalid("no taps"), Ok)
}

/// Each element so many times, whatever the size.
fn repeat(b: &mut Builder<'_>, x: ValueId, change: &Change) -> Outcome {
    let times = Dim::constant(change.factor.unwrap_or(1.0) as i64);
    let apart = b.unsqueeze(x, &[change.axis + 1])?;
    let mut repeated = b.ty(apart).shape.clone();
    repeated[change.axis + 1] = times.clone();
    let repeated = b.broadcast_to(apart, repeated)?;
    let mut joined = b.ty(x).shape.clone();
    joined[change.axis] = joined[change.axis].clone() * times;
    Ok(b.reshape(repeated, joined)?)
}
