//! Transposed convolution, as convolutions of the input by the weights turned round: one for each phase of the stride, or
//! where the window has gaps one of the input with zeros between its elements.

use ired_graph::{Builder, Dim, PadMode, Shape, ValueId};

use super::call::{Call, Outcome, invalid};
use super::convolution::{add_to_channels, convolve, extent_of, groups};
use super::windows::Windows;

/// Input `[n, c, spatial..]`, weights `[c, k / groups, window..]`, bias `[k]`.
pub(super) fn conv_transpose(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    transposed(b, call, None, call.optional(2))
}

/// As [`conv_transpose`], with the padding in input 2, before the bias.
pub(super) fn conv_transpose_padded(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    let axes = call.input_type(b, 0)?.rank().saturating_sub(2);
    let pads = match call.optional(2) {
        Some(_) => Some(call.counted_sizes(b, 2, 2 * axes)?),
        None => None,
    };
    transposed(b, call, pads, call.optional(3))
}

fn transposed(
    b: &mut Builder<'_>,
    call: &Call<'_>,
    pads: Option<Vec<Dim>>,
    bias: Option<ValueId>,
) -> Outcome {
    let (x, weights) = (call.input(0)?, call.input(1)?);
    let extent = extent_of(b, call, x, weights)?;
    let groups = groups(call)?;
    let geometry = Geometry::of(call, &b.ty(x).shape[2..], &extent, pads)?;
    let result = match Phases::of(&geometry, &extent) {
        Some(phases) => phases.convolve(b, x, weights, groups)?,
        None => {
            let stuffed = geometry.stuff(b, x)?;
            let turned = turn(b, weights, groups)?;
            let windows = Windows::dilated(&b.ty(stuffed).shape[2..], extent, geometry.dilation);
            convolve(b, stuffed, turned, &windows, groups)?
        }
    };
    match bias {
        Some(bias) => add_to_channels(b, result, bias),
        None => Ok(result),
    }
}

struct Geometry {
    stride: Vec<i64>,
    dilation: Vec<i64>,
    /// What is put around the input once zeros are between its elements.
    low: Vec<Dim>,
    high: Vec<Dim>,
}

/// Sizes and strides beyond this are refused: sums of products of two stay far from overflow.
const MAX_GEOMETRY: i64 = 1 << 28;

impl Geometry {
    fn of(call: &Call<'_>, spatial: &[Dim], extent: &[Dim], pads: Option<Vec<Dim>>) -> Outcome<Self> {
        let rank = spatial.len();
        let list = |name: &str, length: usize, least: i64| match call.attributes.ints(name)? {
            None => Outcome::Ok(vec![least; length]),
            Some(list) if list.len() == length && list.iter().all(|v| (least..=MAX_GEOMETRY).contains(v)) => {
                Ok(list.to_vec())
            }
            Some(list) => invalid(format!(
                "`{name}` is {list:?}; expected {length} numbers, each {least} to {MAX_GEOMETRY}"
            )),
        };
        let (stride, dilation) = (list("strides", rank, 1)?, list("dilations", rank, 1)?);
        let extra = list("output_padding", rank, 0)?;
        let pads = match pads {
            Some(pads) => pads,
            None => list("pads", 2 * rank, 0)?.into_iter().map(Dim::constant).collect(),
        };
        let auto = call.attributes.text("auto_pad")?.unwrap_or("NOTSET");
        // Some exporters state the batch and channels too.
        let wanted = call.attributes.ints("output_shape")?;
        let wanted = wanted.map(|list| list.get(list.len().saturating_sub(rank)..).unwrap_or_default());
        if wanted
            .is_some_and(|list| list.len() != rank || list.iter().any(|v| !(0..=MAX_GEOMETRY).contains(v)))
        {
            return invalid(format!("`output_shape` {wanted:?} does not fit {rank} axes"));
        }
        let (mut low, mut high) = (Vec::new(), Vec::new());
        for axis in 0..rank {
            let reach = (extent[axis].clone() - 1.into()) * dilation[axis].into();
            let step = Dim::constant(stride[axis]);
            let size = match (wanted, auto) {
                (Some(list), _) => Some(Dim::constant(list[axis])),
                (None, "SAME_UPPER" | "SAME_LOWER") => Some(spatial[axis].clone() * step.clone()),
                (None, _) => None,
            };
            let (before, after) = match (size, auto) {
                (Some(size), _) => {
                    let whole = step * (spatial[axis].clone() - 1.into()) + extra[axis].into();
                    let total = whole + reach.clone() + 1.into() - size;
                    // An output larger than the input reaches ends in zeros.
                    let padding = total.maximum(&0.into());
                    let half = padding.floor_div(&2.into());
                    let before = if auto == "SAME_UPPER" { half } else { padding - half };
                    (before.clone(), total - before)
                }
                (None, "VALID") => (Dim::constant(0), Dim::constant(0)),
                (None, "NOTSET" | "") => (pads[axis].clone(), pads[rank + axis].clone()),
                (None, other) => return invalid(format!("auto_pad is `{other}`")),
            };
            low.push(reach.clone() - before);
            high.push(reach - after + extra[axis].into());
        }
        Ok(Self { stride, dilation, low, high })
    }

    /// `stride - 1` zeros between neighbours, then the padding around.
    fn stuff(&self, b: &mut Builder<'_>, x: ValueId) -> Outcome {
        let shape = b.ty(x).shape.clone();
        let rank = shape.len();
        let zero = b.scalar_like(x, 0.0)?;
        let mut stuffed = x;
        if self.stride.iter().any(|s| *s > 1) {
            let (mut apart, mut wide): (Shape, Shape) = (shape[..2].to_vec(), shape[..2].to_vec());
            let mut high = vec![Dim::constant(0); 2];
            for (size, stride) in shape[2..].iter().zip(&self.stride) {
                let stride = Dim::constant(*stride);
                apart.extend([size.clone(), 1.into()]);
                high.extend([0.into(), stride.clone() - 1.into()]);
                wide.push(size.clone() * stride);
            }
            let low = vec![Dim::constant(0); high.len()];
            let apart = b.reshape(x, apart)?;
            let filled = b.pad(apart, low, high, PadMode::Constant, Some(zero))?;
            stuffed = b.reshape(filled, wide)?;
        }
        // The zeros after the last element go, together with the padding.
        let (mut low, mut high) = (vec![Dim::constant(0); rank], vec![Dim::constant(0); rank]);
        for axis in 0..rank - 2 {
            low[axis + 2] = self.low[axis].clone();
            high[axis + 2] = self.high[axis].clone() - (self.stride[axis] - 1).into();
        }
        Ok(b.pad(stuffed, low, high, PadMode::Constant, Some(zero))?)
    }
}

/// Outputs whose numbers have the same rest by the stride: they read the same inputs, each phase through taps of its own.
/// What reads the input at `q` and before is, in the order of taps, at `stride * q` and after.
struct Phases<'a> {
    geometry: &'a Geometry,
    extent: Vec<i64>,
    /// Taps of a phase along each axis; where the stride does not divide the window, some phases' last are zero.
    taps: Vec<i64>,
}

impl<'a> Phases<'a> {
    /// `None` where there is one phase only, one without taps, or taps that reach inputs of different phases.
    fn of(geometry: &'a Geometry, extent: &[Dim]) -> Option<Self> {
        let extent: Vec<i64> = extent.iter().map(Dim::as_static).collect::<Option<_>>()?;
        let fits = geometry.stride.iter().any(|s| *s > 1)
            && geometry.dilation.iter().all(|d| *d == 1)
            && extent
                .iter()
                .zip(&geometry.stride)
                .all(|(size, stride)| (*stride..=MAX_GEOMETRY).contains(size));
        let taps = extent.iter().zip(&geometry.stride).map(|(size, stride)| (size + stride - 1) / stride);
        let taps = taps.collect();
        fits.then_some(Self { geometry, extent, taps })
    }

    fn convolve(&self, b: &mut Builder<'_>, x: ValueId, weights: ValueId, groups: u64) -> Outcome {
        let stride = &self.geometry.stride;
        let axes = stride.len();
        let shape = b.ty(x).shape.clone();
        let around: Vec<Dim> = self.taps.iter().map(|taps| Dim::constant(taps - 1)).collect();
        let taps = self.taps.iter().copied().map(Dim::constant).collect();
        let windows = Windows::padded(&shape[2..], taps, around.clone(), around);
        let kernels = b.ty(weights).shape[1].clone();
        let split = self.split(b, weights, groups)?;
        let apart = convolve(b, x, split, &windows, groups)?;

        // `[n, groups, phases.., k / groups, q..]` as `[n, groups, k / groups, (q, phase)..]`
        let groups = Dim::constant(i64::try_from(groups).unwrap_or(i64::MAX));
        let places = b.ty(apart).shape[2..].to_vec();
        let mut numbered = vec![shape[0].clone(), groups.clone()];
        numbered.extend(stride.iter().copied().map(Dim::constant));
        numbered.push(kernels.clone());
        numbered.extend(places.iter().cloned());
        let numbered = b.reshape(apart, numbered)?;
        let mut perm = vec![0, 1, 2 + axes];
        perm.extend((0..axes).flat_map(|axis| [3 + axes + axis, 2 + axis]));
        let woven = b.transpose(numbered, perm)?;
        let mut wide = vec![shape[0].clone(), groups * kernels];
        wide.extend(places.iter().zip(stride).map(|(size, stride)| size.clone() * (*stride).into()));
        let woven = b.reshape(woven, wide.clone())?;

        let zero = b.scalar_like(x, 0.0)?;
        let (mut low, mut high) = (vec![Dim::constant(0); axes + 2], vec![Dim::constant(0); axes + 2]);
        for axis in 0..axes {
            let reach = Dim::constant(self.extent[axis] - 1);
            let before = reach.clone() - self.geometry.low[axis].clone();
            let apart = (shape[2 + axis].clone() - 1.into()) * stride[axis].into() + 1.into();
            let size = apart + self.geometry.low[axis].clone() + self.geometry.high[axis].clone() - reach;
            high[axis + 2] = size + before.clone() - wide[axis + 2].clone();
            low[axis + 2] = Dim::constant(0) - before;
        }
        Ok(b.pad(woven, low, high, PadMode::Constant, Some(zero))?)
    }

    /// `[c, k / groups, window..]` as `[groups * phases * k / groups, c / groups, taps..]`, the taps reversed.
    fn split(&self, b: &mut Builder<'_>, weights: ValueId, groups: u64) -> Outcome {
        let stride = &self.geometry.stride;
        let axes = stride.len();
        let shape = b.ty(weights).shape.clone();
        let zero = b.scalar_like(weights, 0.0)?;
        let mut high = vec![Dim::constant(0); 2];
        high.extend((0..axes).map(|a| Dim::constant(self.taps[a] * stride[a] - self.extent[a])));
        let whole = b.pad(weights, vec![Dim::constant(0); axes + 2], high, PadMode::Constant, Some(zero))?;
        let groups = Dim::constant(i64::try_from(groups).unwrap_or(i64::MAX));
        let (channels, kernels) = (shape[0].floor_div(&groups), shape[1].clone());
        let mut numbered = vec![groups.clone(), channels.clone(), kernels.clone()];
        numbered.extend((0..axes).flat_map(|a| [self.taps[a].into(), stride[a].into()]));
        let numbered = b.reshape(whole, numbered)?;
        let mut perm = vec![0];
        perm.extend((0..axes).map(|a| 4 + 2 * a));
        perm.extend([2, 1]);
        perm.extend((0..axes).map(|a| 3 + 2 * a));
        let split = b.transpose(numbered, perm)?;
        let phases = stride.iter().fold(Dim::constant(1), |all, stride| all * (*stride).into());
        let mut merged = vec![groups * phases * kernels, channels];
        merged.extend(self.taps.iter().copied().map(Dim::constant));
        let merged = b.reshape(split, merged)?;
        reverse(b, merged)
    }
}

/// `[c, k / groups, window..]` as `[k, c / groups, window..]`, reversed along the window.
fn turn(b: &mut Builder<'_>, weights: ValueId, groups: u64) -> Outcome {
    let shape = b.ty(weights).shape.clone();
    let groups = Dim::constant(i64::try_from(groups).unwrap_or(i64::MAX));
    let (channels, kernels) = (shape[0].floor_div(&groups), shape[1].clone());
    let grouped = [&[groups.clone(), channels.clone(), kernels.clone()], &shape[2..]].concat();
    let grouped = b.reshape(weights, grouped)?;
    let mut perm: Vec<usize> = (0..shape.len() + 1).collect();
    perm.swap(1, 2);
    let swapped = b.transpose(grouped, perm)?;
    let merged = [&[groups * kernels, channels], &shape[2..]].concat();
    let merged = b.reshape(swapped, merged.clone())?;
    reverse(b, merged)
}

/// `[k, c, window..]` with the window from its end to its beginning.
fn reverse(b: &mut Builder<'_>, weights: ValueId) -> Outcome {
    let size = b.ty(weights).shape.clone();
    let (mut start, mut stride) = (vec![Dim::constant(0); size.len()], vec![1; size.len()]);
    for axis in 2..size.len() {
        start[axis] = size[axis].clone() - 1.into();
        stride[axis] = -1;
    }
    Ok(b.slice(weights, start, size, stride)?)
}
