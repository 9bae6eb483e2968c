//! Sliding windows: convolution and pooling.

use super::ShapeError;
use super::check::Operands;
use super::contract::sum_type;
use crate::{Dim, Shape, TensorType, Window};

/// Largest stride, dilation, extent or padding: keeps index arithmetic far under overflow.
const MAX_GEOMETRY: u64 = 1 << 31;

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
    Ok(())
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
