//! Which axes of an image change, and from what to what: by scales or by sizes, constant or computed.

use ired_graph::{BinaryFn, Builder, DType, Dim, UnaryFn, ValueId};

use super::super::call::{Call, Outcome, axes, axis, invalid, read_size};

/// How one axis changes. Scalars are f64.
pub(super) struct Change {
    pub(super) axis: usize,
    pub(super) from: Dim,
    pub(super) to: Dim,
    /// Of the result, in elements of the input.
    pub(super) scale: ValueId,
    /// The scale where it is constant and was stated.
    pub(super) factor: Option<f64>,
    /// What the scale asks for before it is rounded to a size.
    pub(super) exact: ValueId,
    /// First and last element that count, as parts of the size.
    pub(super) region: Option<(ValueId, ValueId)>,
}

/// The axes that change, by scales or by sizes, whichever is given.
pub(super) fn changes(
    b: &mut Builder<'_>,
    call: &Call<'_>,
    scales: usize,
    sizes: usize,
    crops: bool,
) -> Outcome<Vec<Change>> {
    let x = call.input(0)?;
    let rank = b.ty(x).rank();
    let axes = match call.attributes.ints("axes")? {
        Some(list) => {
            axes(list, rank)?;
            list.iter().map(|a| axis(*a, rank)).collect::<Outcome<Vec<_>>>()?
        }
        None => (0..rank).collect(),
    };
    let policy = call.attributes.text("keep_aspect_ratio_policy")?.unwrap_or("stretch");
    let roi = if crops { Some(region(b, call, axes.len())?) } else { None };
    match call.optional(scales).filter(|v| b.ty(*v).elements() != Dim::constant(0)) {
        Some(scales) => by_scales(b, call, &axes, scales, roi),
        None => by_sizes(b, call, &axes, sizes, policy, roi),
    }
}

/// Starts and then ends of the region of interest, an f64 vector.
fn region(b: &mut Builder<'_>, call: &Call<'_>, axes: usize) -> Outcome {
    let roi = call.input(1)?;
    let expected = Dim::constant(2 * axes as i64);
    if b.ty(roi).rank() != 1 || b.graph.symbols.is_known_ne(&b.ty(roi).elements(), &expected) {
        return invalid(format!(
            "a region of interest of {} numbers; expected {}",
            b.ty(roi).elements().display(&b.graph.symbols),
            2 * axes
        ));
    }
    Ok(b.cast(roi, DType::F64)?)
}

/// Element `index` of a vector.
fn element(b: &mut Builder<'_>, vector: ValueId, index: usize) -> Outcome {
    let element = b.slice_axis(vector, 0, (index as i64).into(), 1.into())?;
    Ok(b.reshape(element, Vec::new())?)
}

fn region_of(
    b: &mut Builder<'_>,
    roi: Option<ValueId>,
    at: usize,
    axes: usize,
) -> Outcome<Option<(ValueId, ValueId)>> {
    let Some(roi) = roi else { return Ok(None) };
    Ok(Some((element(b, roi, at)?, element(b, roi, axes + at)?)))
}

/// A size as an f64 scalar.
fn size(b: &mut Builder<'_>, size: &Dim) -> Outcome {
    let size = b.dim(size.clone())?;
    Ok(b.cast(size, DType::F64)?)
}

/// By a float vector of one scale for each of `axes`.
pub(super) fn by_scales(
    b: &mut Builder<'_>,
    call: &Call<'_>,
    axes: &[usize],
    scales: ValueId,
    roi: Option<ValueId>,
) -> Outcome<Vec<Change>> {
    let x = call.input(0)?;
    let count = Dim::constant(axes.len() as i64);
    if b.ty(scales).rank() != 1 || b.graph.symbols.is_known_ne(&b.ty(scales).elements(), &count) {
        return invalid(format!(
            "{} scales for {} axes",
            b.ty(scales).elements().display(&b.graph.symbols),
            axes.len()
        ));
    }
    let constant = b.constant_of(scales).map(|scales| scales.to_f64s());
    let mut changes = Vec::new();
    for (at, axis) in axes.iter().enumerate() {
        let from = b.ty(x).shape[*axis].clone();
        let factor = constant.as_ref().map(|list| list[at]);
        if factor.is_some_and(|scale| !(scale.is_finite() && scale > 0.0)) {
            return invalid(format!("scale {factor:?} of axis {axis}"));
        }
        if factor == Some(1.0) && roi.is_none() {
            continue;
        }
        let narrow = element(b, scales, at)?;
        let to = match factor.and_then(|factor| scaled(&from, factor)) {
            Some(to) => to,
            None => {
                // Sizes are products in f32, as exporters compute them: 10 · 0.7 is 7 then.
                let size = b.dim(from.clone())?;
                let size = b.cast(size, DType::F32)?;
                let narrow = b.cast(narrow, DType::F32)?;
                let product = b.binary_broadcast(BinaryFn::Mul, size, narrow)?;
                whole(b, product, call.name)?
            }
        };
        let scale = b.cast(narrow, DType::F64)?;
        let size = size(b, &from)?;
        let exact = b.binary_broadcast(BinaryFn::Mul, scale, size)?;
        let region = region_of(b, roi, at, axes.len())?;
        changes.push(Change { axis: *axis, from, to, scale, factor, exact, region });
    }
    Ok(changes)
}

/// A size by a scale that is a simple fraction: what stays an expression that shapes can be compared by.
fn scaled(from: &Dim, scale: f64) -> Option<Dim> {
    const SIMPLE: f64 = 1024.0;
    let simple =
        |value: f64| (value.fract() == 0.0 && (1.0..=SIMPLE).contains(&value)).then_some(value as i64);
    if from.as_static().is_some() {
        return None;
    }
    if let Some(quarters) = simple(scale * 4.0) {
        return Some((from.clone() * quarters.into()).floor_div(&4.into()));
    }
    let inverse = (1.0 / scale).round();
    let divisor = simple(inverse).filter(|_| f64::from((1.0 / inverse) as f32) == scale)?;
    Some(from.floor_div(&divisor.into()))
}

/// A non-negative float scalar rounded down, as a size.
fn whole(b: &mut Builder<'_>, value: ValueId, name: &str) -> Outcome<Dim> {
    let value = b.unary(UnaryFn::Floor, value)?;
    let value = b.cast(value, DType::I64)?;
    read_size(b, value, name)
}

fn by_sizes(
    b: &mut Builder<'_>,
    call: &Call<'_>,
    axes: &[usize],
    sizes: usize,
    policy: &str,
    roi: Option<ValueId>,
) -> Outcome<Vec<Change>> {
    let wanted = call.counted_sizes(b, sizes, axes.len())?;
    let shape = call.input_type(b, 0)?.shape;
    let mut changes = Vec::new();
    for (at, (axis, to)) in axes.iter().zip(wanted).enumerate() {
        let from = shape[*axis].clone();
        let (old, new) = (size(b, &from)?, size(b, &to)?);
        let scale = b.binary_broadcast(BinaryFn::Div, new, old)?;
        let region = region_of(b, roi, at, axes.len())?;
        changes.push(Change { axis: *axis, from, to, scale, factor: None, exact: new, region });
    }
    let join = match policy {
        "stretch" => None,
        "not_larger" => Some(BinaryFn::Min),
        "not_smaller" => Some(BinaryFn::Max),
        other => return invalid(format!("keep_aspect_ratio_policy `{other}`")),
    };
    if let (Some(join), Some(mut common)) = (join, changes.first().map(|c| c.scale)) {
        for change in &changes[1..] {
            common = b.binary_broadcast(join, common, change.scale)?;
        }
        for change in &mut changes {
            let size = size(b, &change.from)?;
            change.scale = common;
            change.exact = b.binary_broadcast(BinaryFn::Mul, common, size)?;
            let rounded = b.binary_scalar(BinaryFn::Add, change.exact, 0.5)?;
            change.to = whole(b, rounded, call.name)?;
        }
    }
    changes.retain(|c| c.region.is_some() || c.from != c.to);
    Ok(changes)
}
