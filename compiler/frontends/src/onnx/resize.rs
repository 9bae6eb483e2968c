//! Images in other sizes: each axis on its own, as weighted sums of gathered elements.

mod taps;

use ired_graph::{BinaryFn, Builder, Dim, Op, Tensor, ValueId};

use super::call::{Call, Outcome, axis, invalid, unsupported};
use taps::{Coordinates, Filter, Taps};

/// A longer axis would make index tables that are no small constants any more.
const MAX_SIZE: i64 = 1 << 20;

/// How one axis changes.
struct Change {
    axis: usize,
    scale: f64,
    /// Unknown when the input's size is only known at run time.
    sizes: Option<(i64, i64)>,
}

pub(super) fn resize(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    call.attributes.ignore(&["extrapolation_value"]);
    if call.attributes.flag("antialias", false)? {
        return unsupported("antialiasing", "resize without it");
    }
    // Version 10 has no region of interest, no sizes, and one way to map coordinates.
    let (scales, sizes) = if call.version >= 11 { (2, 3) } else { (1, 2) };
    let changes = changes(b, call, scales, sizes)?;
    let old = call.version < 11;
    let stated = call.attributes.text("coordinate_transformation_mode")?;
    let coordinates = Coordinates::named(stated.unwrap_or(if old { "asymmetric" } else { "half_pixel" }))?;
    let rounding = call.attributes.text("nearest_mode")?;
    let rounding = rounding.unwrap_or(if old { "floor" } else { "round_prefer_floor" });
    let a = call.attributes.float_or("cubic_coeff_a", -0.75)?;
    let exclude_outside = call.attributes.flag("exclude_outside", false)?;
    let filter = match call.attributes.text("mode")?.unwrap_or("nearest") {
        "nearest" => Filter::Nearest(taps::Rounding::named(rounding)?),
        "linear" | "bilinear" => Filter::Linear,
        "cubic" => Filter::Cubic { a },
        other => return invalid(format!("mode `{other}`")),
    };
    let mut x = call.input(0)?;
    if !matches!(filter, Filter::Nearest(_)) && !b.ty(x).dtype.is_float() {
        return unsupported("interpolation of integers", "cast the input to a float type");
    }
    for change in changes {
        x = match change.sizes {
            Some((from, to)) => {
                let taps = Taps::compute(&filter, coordinates, exclude_outside, change.scale, from, to);
                apply(b, x, change.axis, &taps)?
            }
            None => repeat(b, x, &change, &filter, coordinates)?,
        };
    }
    Ok(x)
}

/// Upsample, of operator sets 7 to 9.
pub(super) fn upsample(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    let changes = match call.attributes.floats("scales")? {
        Some(scales) => {
            let shape = call.input_type(b, 0)?.shape;
            let axes: Vec<usize> = (0..shape.len()).collect();
            by_scales(&shape, &axes, &scales.iter().map(|s| f64::from(*s)).collect::<Vec<_>>())?
        }
        None => changes(b, call, 1, 2)?,
    };
    let filter = match call.attributes.text("mode")?.unwrap_or("nearest") {
        "nearest" => Filter::Nearest(taps::Rounding::Floor),
        "linear" => Filter::Linear,
        other => return invalid(format!("mode `{other}`")),
    };
    let mut x = call.input(0)?;
    for change in changes {
        x = match change.sizes {
            Some((from, to)) => {
                let taps = Taps::compute(&filter, Coordinates::Asymmetric, false, change.scale, from, to);
                apply(b, x, change.axis, &taps)?
            }
            None => repeat(b, x, &change, &filter, Coordinates::Asymmetric)?,
        };
    }
    Ok(x)
}

/// The axes that change, by scales or by sizes, whichever is given.
fn changes(b: &Builder<'_>, call: &Call<'_>, scales: usize, sizes: usize) -> Outcome<Vec<Change>> {
    let shape = call.input_type(b, 0)?.shape;
    let axes = match call.attributes.ints("axes")? {
        Some(list) => list.iter().map(|a| axis(*a, shape.len())).collect::<Outcome<Vec<_>>>()?,
        None => (0..shape.len()).collect(),
    };
    let policy = call.attributes.text("keep_aspect_ratio_policy")?.unwrap_or("stretch");
    if let Some(value) = call.optional(scales).filter(|v| b.ty(*v).elements() != Dim::constant(0)) {
        let Some(Op::Constant(scales)) = b.graph.producer_op(value) else {
            return unsupported("scales that are not constant", "make them constants of the model");
        };
        return by_scales(&shape, &axes, &scales.to_f64s());
    }
    let wanted = call.ints_input(b, sizes)?;
    if wanted.len() != axes.len() {
        return invalid(format!("{} sizes for {} axes", wanted.len(), axes.len()));
    }
    let mut changes = Vec::new();
    for (at, to) in axes.iter().zip(wanted) {
        let Some(from) = shape[*at].as_static() else {
            return unsupported(
                "sizes for an input whose size is only known at run time",
                "state scales instead",
            );
        };
        if !(0..=MAX_SIZE).contains(&to) || !(1..=MAX_SIZE).contains(&from) {
            return invalid(format!("from size {from} to {to}; expected 1 to {MAX_SIZE}"));
        }
        changes.push(Change { axis: *at, scale: to as f64 / from as f64, sizes: Some((from, to)) });
    }
    let ratios = changes.iter().map(|c| c.scale);
    let common = match policy {
        "stretch" => None,
        "not_larger" => ratios.reduce(f64::min),
        "not_smaller" => ratios.reduce(f64::max),
        other => return invalid(format!("keep_aspect_ratio_policy `{other}`")),
    };
    for change in &mut changes {
        if let (Some(scale), Some((from, to))) = (common, &mut change.sizes) {
            change.scale = scale;
            *to = ((*from as f64 * scale + 0.5).floor() as i64).min(MAX_SIZE);
        }
    }
    changes.retain(|c| c.sizes.is_none_or(|(from, to)| from != to));
    Ok(changes)
}

fn by_scales(shape: &[Dim], axes: &[usize], scales: &[f64]) -> Outcome<Vec<Change>> {
    if scales.len() != axes.len() {
        return invalid(format!("{} scales for {} axes", scales.len(), axes.len()));
    }
    let mut changes = Vec::new();
    for (at, scale) in axes.iter().zip(scales) {
        let sizes = shape[*at].as_static().map(|from| (from, (from as f64 * scale).floor() as i64));
        let fits =
            sizes.is_none_or(|(from, to)| (1..=MAX_SIZE).contains(&from) && (0..=MAX_SIZE).contains(&to));
        if !(scale.is_finite() && *scale > 0.0 && fits) {
            return invalid(format!("scale {scale} of axis {at}"));
        }
        if *scale != 1.0 {
            changes.push(Change { axis: *at, scale: *scale, sizes });
        }
    }
    Ok(changes)
}

/// `Σ_k weights_k · x[indices_k]` along one axis.
fn apply(b: &mut Builder<'_>, x: ValueId, axis: usize, taps: &Taps) -> Outcome {
    let ty = b.ty(x).clone();
    let mut sum = None;
    for tap in &taps.0 {
        let indices = b.constant_i64(&tap.indices)?;
        let mut part = b.gather(x, indices, axis)?;
        if let Some(weights) = &tap.weights {
            let mut shape = vec![1; ty.rank() - axis];
            shape[0] = weights.len() as u64;
            let weights = b.constant(Tensor::from_f64s(ty.dtype, &shape, weights))?;
            part = b.binary_broadcast(BinaryFn::Mul, part, weights)?;
        }
        sum = Some(match sum {
            None => part,
            Some(sum) => b.binary_broadcast(BinaryFn::Add, sum, part)?,
        });
    }
    sum.map_or_else(|| invalid("no taps"), Ok)
}

/// Nearest neighbours at a whole scale are each element so many times, whatever the size.
fn repeat(
    b: &mut Builder<'_>,
    x: ValueId,
    change: &Change,
    filter: &Filter,
    coordinates: Coordinates,
) -> Outcome {
    let whole = change.scale.fract() == 0.0 && change.scale <= MAX_SIZE as f64;
    if !whole || !filter.repeats(coordinates) {
        let axis = change.axis;
        return unsupported(
            format!("axis {axis}, of a size only known at run time, by {} in this mode", change.scale),
            "use mode nearest with a whole scale, or make the size constant",
        );
    }
    let times = Dim::constant(change.scale as i64);
    let apart = b.unsqueeze(x, &[change.axis + 1])?;
    let mut repeated = b.ty(apart).shape.clone();
    repeated[change.axis + 1] = times.clone();
    let repeated = b.broadcast_to(apart, repeated)?;
    let mut joined = b.ty(x).shape.clone();
    joined[change.axis] = joined[change.axis].clone() * times;
    Ok(b.reshape(repeated, joined)?)
}
