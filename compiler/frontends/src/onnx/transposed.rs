//! Transposed convolution, as the convolution it is: of the input with zeros between its elements, by the weights
//! turned round.

use ired_graph::{Builder, Dim, PadMode, Shape, ValueId, Window};

use super::call::{Call, Outcome, invalid, unsupported};
use super::convolution::{add_to_channels, window};

/// Input `[n, c, spatial..]`, weights `[c, k / groups, window..]`, bias `[k]`.
pub(super) fn conv_transpose(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    let (x, weights) = (call.input(0)?, call.input(1)?);
    let (input, shape) = (b.ty(x).shape.clone(), b.ty(weights).shape.clone());
    if shape.len() < 3 || input.len() != shape.len() {
        return invalid(format!("input of rank {}, weights of rank {}", input.len(), shape.len()));
    }
    call.attributes.ignore(&["kernel_shape"]);
    let extent: Option<Vec<u64>> =
        shape[2..].iter().map(|d| d.as_static().and_then(|d| u64::try_from(d).ok())).collect();
    let Some(extent) = extent else {
        return unsupported("weights whose window is only known at run time", "make the weights constant");
    };
    let groups = call.attributes.int_or("group", 1)?;
    let Some(groups) = u64::try_from(groups).ok().filter(|g| *g > 0) else {
        return invalid(format!("group {groups}"));
    };
    let geometry = Geometry::of(b, call, &input[2..], extent)?;
    let stuffed = geometry.stuff(b, x)?;
    let turned = turn(b, weights, groups)?;
    let window = Window { dilation: geometry.window.dilation, ..Window::dense(geometry.window.extent) };
    let result = b.conv(stuffed, turned, window, groups)?;
    match call.optional(2) {
        Some(bias) => add_to_channels(b, result, bias),
        None => Ok(result),
    }
}

struct Geometry {
    window: Window,
    /// What is put around the input once zeros are between its elements.
    low: Vec<i64>,
    high: Vec<i64>,
}

/// Sizes and strides beyond this are refused: sums of products of two stay far from overflow.
const MAX_GEOMETRY: u64 = 1 << 28;

impl Geometry {
    fn of(b: &Builder<'_>, call: &Call<'_>, spatial: &[Dim], extent: Vec<u64>) -> Outcome<Self> {
        let same = call.attributes.text("auto_pad")?.filter(|p| p.starts_with("SAME"));
        let window = window(b, call, extent)?;
        let rank = spatial.len();
        let lists = [&window.extent, &window.stride, &window.dilation, &window.pad_low, &window.pad_high];
        let beyond = lists.iter().any(|list| list.iter().any(|v| *v > MAX_GEOMETRY));
        if beyond || window.stride.contains(&0) {
            return invalid("a window beyond all sizes");
        }
        let extra = call.attributes.ints("output_padding")?.map_or_else(|| vec![0; rank], <[i64]>::to_vec);
        let wanted = call.attributes.ints("output_shape")?;
        // Some exporters state the batch and channels too.
        let wanted = wanted.map(|list| list.get(list.len().saturating_sub(rank)..).unwrap_or_default());
        if extra.len() != rank
            || wanted.is_some_and(|list| list.len() != rank)
            || extra.iter().any(|v| !(0..=MAX_GEOMETRY as i64).contains(v))
        {
            return invalid("`output_padding` or `output_shape` does not fit the input");
        }
        let (mut low, mut high) = (Vec::new(), Vec::new());
        for axis in 0..rank {
            let reach = (window.extent[axis] as i64 - 1) * window.dilation[axis] as i64;
            let stride = window.stride[axis] as i64;
            let (mut before, mut after) = (window.pad_low[axis] as i64, window.pad_high[axis] as i64);
            let size = match (wanted, same) {
                (Some(list), _) => Some(list[axis]),
                (None, Some(_)) => spatial[axis].as_static().map(|size| size.saturating_mul(stride)),
                _ => None,
            };
            if wanted.is_some() || same.is_some() {
                let (Some(size), Some(input)) = (size, spatial[axis].as_static()) else {
                    return unsupported(
                        "padding from a size only known at run time",
                        "export with explicit pads",
                    );
                };
                if !(0..=MAX_GEOMETRY as i64).contains(&size) || input > MAX_GEOMETRY as i64 {
                    return invalid(format!("output size {size}"));
                }
                let total = stride * (input - 1) + extra[axis] + reach + 1 - size;
                let upper = same == Some("SAME_UPPER");
                (before, after) = match total {
                    // An output larger than the input reaches ends in zeros.
                    ..0 => (0, total),
                    _ if upper => (total / 2, total - total / 2),
                    _ => (total - total / 2, total / 2),
                };
            }
            low.push(reach - before);
            high.push(reach - after + extra[axis]);
        }
        Ok(Self { window, low, high })
    }

    /// `stride - 1` zeros between neighbours, then the padding around.
    fn stuff(&self, b: &mut Builder<'_>, x: ValueId) -> Outcome {
        let shape = b.ty(x).shape.clone();
        let rank = shape.len();
        let zero = b.scalar_like(x, 0.0)?;
        let mut stuffed = x;
        if self.window.stride.iter().any(|s| *s > 1) {
            let (mut apart, mut wide): (Shape, Shape) = (shape[..2].to_vec(), shape[..2].to_vec());
            let mut high = vec![Dim::constant(0); 2];
            for (size, stride) in shape[2..].iter().zip(&self.window.stride) {
                let stride = Dim::constant(*stride as i64);
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
            low[axis + 2] = self.low[axis].into();
            high[axis + 2] = (self.high[axis] - (self.window.stride[axis] as i64 - 1)).into();
        }
        Ok(b.pad(stuffed, low, high, PadMode::Constant, Some(zero))?)
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
    let size = b.ty(merged).shape.clone();
    let (mut start, mut stride) = (vec![Dim::constant(0); size.len()], vec![1; size.len()]);
    for axis in 2..size.len() {
        start[axis] = size[axis].clone() - 1.into();
        stride[axis] = -1;
    }
    Ok(b.slice(merged, start, size, stride)?)
}
