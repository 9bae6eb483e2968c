//! Sliding windows: convolution and pooling.

use std::num::Wrapping;

use super::ShapeError;
use super::check::Operands;
use super::contract::{Number, sum_type};
use super::elementwise::larger;
use super::interpret::Call;
use super::positions::{FILL, Positions, count, strides};
use crate::tensor::integer_limits;
use crate::{Dim, PoolFn, Shape, Tensor, TensorType, Window};

/// Largest stride, dilation, extent or padding: keeps index arithmetic far under overflow.
const MAX_GEOMETRY: u64 = 1 << 31;

/// Most elements of one window: far over any model's, and few enough to walk.
const MAX_WINDOW_ELEMENTS: u64 = 1 << 24;

impl Window {
    /// A dense window of stride 1 without padding.
    pub fn dense(extent: Vec<u64>) -> Self {
        let rank = extent.len();
        Self {
            extent,
            stride: vec![1; rank],
            dilation: vec![1; rank],
            pad_low: vec![0; rank],
            pad_high: vec![0; rank],
            ceil: false,
        }
    }

    /// The result size along spatial axis `axis` of an operand of size `input`: how many windows there are.
    /// Sizes that fit no window give 0 or less.
    pub fn output_size(&self, axis: usize, input: &Dim) -> Dim {
        let number = |v: u64| Dim::constant(v as i64);
        let stride = number(self.stride[axis]);
        let reach = number(self.dilation[axis]) * (number(self.extent[axis]) - 1.into()) + 1.into();
        let padded = input.clone() + number(self.pad_low[axis]) + number(self.pad_high[axis]);
        let slack = padded - reach;
        if !self.ceil {
            return slack.floor_div(&stride) + 1.into();
        }
        // Windows start at multiples of the stride under `input + pad_low`.
        let starts = (input.clone() + number(self.pad_low[axis])).ceil_div(&stride);
        (slack.ceil_div(&stride) + 1.into()).minimum(&starts)
    }
}

fn check_window(operands: &Operands<'_>, window: &Window, spatial: usize) -> Result<(), ShapeError> {
    let lists: [(&'static str, &[u64], u64); 5] = [
        ("extent", &window.extent, 1),
        ("stride", &window.stride, 1),
        ("dilation", &window.dilation, 1),
        ("pad_low", &window.pad_low, 0),
        ("pad_high", &window.pad_high, 0),
    ];
    for (name, list, least) in lists {
        operands.length(name, list.len(), spatial)?;
        if let Some(v) = list.iter().find(|v| !(least..=MAX_GEOMETRY).contains(v)) {
            return Err(operands.attribute(name, format!("has {v}; expected {least} to {MAX_GEOMETRY}")));
        }
    }
    match crate::tensor::element_count(&window.extent) {
        Some(0..=MAX_WINDOW_ELEMENTS) => Ok(()),
        _ => Err(operands.attribute("extent", format!("is over {MAX_WINDOW_ELEMENTS} elements"))),
    }
}

/// The range of spatial axes of an operand of rank `rank`.
fn spatial_axes(rank: usize, channels_last: bool) -> std::ops::Range<usize> {
    if channels_last { 1..rank - 1 } else { 2..rank }
}

fn output_sizes(operands: &Operands<'_>, window: &Window, sizes: &[Dim]) -> Result<Shape, ShapeError> {
    let sizes: Shape = sizes.iter().enumerate().map(|(a, d)| window.output_size(a, d)).collect();
    match sizes.iter().position(|d| operands.symbols.range(d).max < 1) {
        None => Ok(sizes),
        Some(a) => {
            Err(operands.attribute("extent", format!("exceeds the padded operand on spatial axis {a}")))
        }
    }
}

pub(super) fn infer_conv(
    operands: &Operands<'_>,
    window: &Window,
    groups: u64,
    channels_last: bool,
) -> Result<TensorType, ShapeError> {
    let [x, weights] = operands.exactly()?;
    let dtype = sum_type(operands, x.dtype, weights.dtype)?;
    operands.rank(0, x.rank() >= 3, "at least 3")?;
    operands.rank(1, weights.rank() == x.rank(), x.rank())?;
    check_window(operands, window, x.rank() - 2)?;
    if !(1..=MAX_GEOMETRY).contains(&groups) {
        return Err(operands.attribute("groups", format!("is {groups}; expected 1 to {MAX_GEOMETRY}")));
    }
    let groups = Dim::constant(groups as i64);
    let (kernels, channels) = (&weights.shape[0], &x.shape[if channels_last { x.rank() - 1 } else { 1 }]);
    operands.unify("channels of operand 0", &(weights.shape[1].clone() * groups.clone()), channels)?;
    operands.unify("kernels modulo groups", &0.into(), &kernels.modulo(&groups))?;
    for (axis, &extent) in window.extent.iter().enumerate() {
        let what = format!("window axis {axis} of operand 1");
        operands.unify(what, &Dim::constant(extent as i64), &weights.shape[axis + 2])?;
    }
    let spatial = output_sizes(operands, window, &x.shape[spatial_axes(x.rank(), channels_last)])?;
    let (n, k) = (&x.shape[..1], std::slice::from_ref(kernels));
    let shape = if channels_last { [n, &spatial, k].concat() } else { [n, k, &spatial].concat() };
    Ok(TensorType::new(dtype, shape))
}

pub(super) fn infer_pool(
    operands: &Operands<'_>,
    window: &Window,
    channels_last: bool,
) -> Result<TensorType, ShapeError> {
    let [x] = operands.exactly()?;
    operands.dtype(0, x.dtype.is_float() || x.dtype.is_integer(), "a number type")?;
    operands.rank(0, x.rank() >= 3, "at least 3")?;
    check_window(operands, window, x.rank() - 2)?;
    let axes = spatial_axes(x.rank(), channels_last);
    let spatial = output_sizes(operands, window, &x.shape[axes.clone()])?;
    let shape = [&x.shape[..axes.start], &spatial, &x.shape[axes.end..]].concat();
    Ok(TensorType::new(x.dtype, shape))
}

/// The layout of an operand or result: sizes, and how far apart neighbours are along each kind of axis.
struct Layout {
    batch: usize,
    channels: usize,
    spatial: Vec<u64>,
    batch_stride: usize,
    channel_stride: usize,
    spatial_stride: usize,
}

impl Layout {
    fn new(shape: &[u64], channels_last: bool) -> Self {
        let spatial = shape[spatial_axes(shape.len(), channels_last)].to_vec();
        let channels = shape[if channels_last { shape.len() - 1 } else { 1 }] as usize;
        let positions = count(&spatial);
        let (channel_stride, spatial_stride) = if channels_last { (1, channels) } else { (positions, 1) };
        let batch_stride = channels * positions;
        Self { batch: shape[0] as usize, channels, spatial, batch_stride, channel_stride, spatial_stride }
    }
}

/// One element of the window, and which element of the operand it meets in each window.
struct Tap {
    /// Offsets of operand elements by result position, [`FILL`] in the padding.
    offsets: Vec<usize>,
    /// Whether the element counts into an average that includes padding.
    in_padding: Vec<bool>,
}

/// Every element of the window in row-major order.
fn taps<'a>(window: &'a Window, input: &'a Layout, output: &'a Layout) -> impl Iterator<Item = Tap> + 'a {
    let steps = strides(&input.spatial);
    let extents = strides(&window.extent);
    (0..count(&window.extent)).map(move |tap| {
        let (mut offsets, mut padded) = (Vec::new(), Vec::new());
        for axis in 0..window.extent.len() {
            let t = (tap / extents[axis]) as u64 % window.extent[axis];
            let (size, step) = (input.spatial[axis] as i64, steps[axis] * input.spatial_stride);
            let at = |o: u64| {
                (o * window.stride[axis] + t * window.dilation[axis]) as i64 - window.pad_low[axis] as i64
            };
            let inside = |p: i64| if (0..size).contains(&p) { p as usize * step } else { FILL };
            let in_padding = |p: i64| if p < size + window.pad_high[axis] as i64 { 0 } else { FILL };
            offsets.push((0..output.spatial[axis]).map(|o| inside(at(o))).collect());
            padded.push((0..output.spatial[axis]).map(|o| in_padding(at(o))).collect());
        }
        let list = |tables: Vec<Vec<usize>>| {
            let mut list = Vec::new();
            Positions::new(tables).for_each(&mut |position| list.push(position));
            list
        };
        Tap { offsets: list(offsets), in_padding: list(padded).into_iter().map(|p| p != FILL).collect() }
    })
}

pub(super) fn compute_conv(call: &Call<'_>, window: &Window, groups: u64, channels_last: bool) -> Tensor {
    let [x, weights] = [call.operands[0], call.operands[1]];
    let input = Layout::new(x.shape(), channels_last);
    let output = Layout::new(call.shape, channels_last);
    if call.ty.dtype.is_float() {
        let sums = convolve(window, groups as usize, &input, &output, &x.to_f64s(), &weights.to_f64s());
        return call.floats(&sums);
    }
    let wrapping = |t: &Tensor| t.to_i64s().into_iter().map(Wrapping).collect::<Vec<_>>();
    let sums = convolve(window, groups as usize, &input, &output, &wrapping(x), &wrapping(weights));
    call.integers(&sums.into_iter().map(|v| i128::from(v.0)).collect::<Vec<_>>())
}

fn convolve<T: Number>(
    window: &Window,
    groups: usize,
    input: &Layout,
    output: &Layout,
    x: &[T],
    weights: &[T],
) -> Vec<T> {
    let (kernels, channels) = (output.channels / groups, input.channels / groups);
    let extent = count(&window.extent);
    let mut sums = vec![T::default(); output.batch * output.batch_stride];
    for (t, tap) in taps(window, input, output).enumerate() {
        for (n, k) in (0..output.batch).flat_map(|n| (0..output.channels).map(move |k| (n, k))) {
            let out = &mut sums[n * output.batch_stride + k * output.channel_stride..];
            for c in 0..channels {
                let weight = weights[(k * channels + c) * extent + t];
                let channel = k / kernels * channels + c;
                // Where the operand has no elements there is padding only.
                let start = n * input.batch_stride + channel * input.channel_stride;
                let source = x.get(start..).unwrap_or_default();
                for (sum, &offset) in out.iter_mut().step_by(output.spatial_stride).zip(&tap.offsets) {
                    if offset != FILL {
                        *sum += weight * source[offset];
                    }
                }
            }
        }
    }
    sums
}

pub(super) fn compute_pool(
    call: &Call<'_>,
    function: PoolFn,
    window: &Window,
    include_pad: bool,
    channels_last: bool,
) -> Tensor {
    let x = call.x();
    let input = Layout::new(x.shape(), channels_last);
    let output = Layout::new(call.shape, channels_last);
    let is_max = function == PoolFn::Max;
    if x.dtype().is_float() {
        let start = if is_max { f64::NEG_INFINITY } else { 0.0 };
        let join = |a: f64, v: f64| if is_max { larger(a, v) } else { a + v };
        let (mut totals, counts) = pool(window, &input, &output, include_pad, &x.to_f64s(), start, join);
        if !is_max {
            totals.iter_mut().zip(counts).for_each(|(total, count)| *total /= count as f64);
        }
        return call.floats(&totals);
    }
    let start = if is_max { integer_limits(x.dtype()).0 } else { 0 };
    let join = |a: i128, v: i128| if is_max { a.max(v) } else { a + v };
    let (mut totals, counts) = pool(window, &input, &output, include_pad, &x.to_integers(), start, join);
    if !is_max {
        totals.iter_mut().zip(counts).for_each(|(total, count)| *total /= count.max(1) as i128);
    }
    call.integers(&totals)
}

/// The joined elements of every window, and how many there are.
fn pool<T: Copy>(
    window: &Window,
    input: &Layout,
    output: &Layout,
    include_pad: bool,
    x: &[T],
    start: T,
    join: impl Fn(T, T) -> T,
) -> (Vec<T>, Vec<u64>) {
    let length = output.batch * output.batch_stride;
    let (mut totals, mut counts) = (vec![start; length], vec![0; length]);
    for tap in taps(window, input, output) {
        for (n, c) in (0..output.batch).flat_map(|n| (0..output.channels).map(move |c| (n, c))) {
            let source = n * input.batch_stride + c * input.channel_stride;
            let target = n * output.batch_stride + c * output.channel_stride;
            for (o, (&offset, &in_padding)) in tap.offsets.iter().zip(&tap.in_padding).enumerate() {
                let to = target + o * output.spatial_stride;
                if offset != FILL {
                    totals[to] = join(totals[to], x[source + offset]);
                }
                if offset != FILL || (include_pad && in_padding) {
                    counts[to] += 1;
                }
            }
        }
    }
    (totals, counts)
}
