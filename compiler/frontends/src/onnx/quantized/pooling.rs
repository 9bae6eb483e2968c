//! Averages of quantised tensors.

use ired_graph::{BinaryFn, Builder, DType, Dim, ReduceFn, ValueId};

use super::super::call::{Call, Outcome, axes, invalid};
use super::super::convolution::{channels_first, channels_last_again};
use super::super::pooling::average;
use super::super::windows::Windows;
use super::pointwise::in_f32;
use super::{Quantized, Target, check_bytes};

pub(crate) fn qlinear_average_pool(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    let include_pad = call.attributes.flag("count_include_pad", false)?;
    let channels_last = call.attributes.flag("channels_last", false)?;
    let Some(extent) = call.attributes.ints("kernel_shape")? else {
        return invalid("`kernel_shape` is missing");
    };
    if extent.iter().any(|d| *d < 1) {
        return invalid(format!("kernel_shape {extent:?}"));
    }
    let extent: Vec<Dim> = extent.iter().map(|d| Dim::constant(*d)).collect();
    in_f32(b, call, |b, x| {
        let x = if channels_last { channels_first(b, x)? } else { x };
        let windows = Windows::of(call, b.ty(x).shape.get(2..).unwrap_or_default(), extent)?;
        let result = average(b, x, &windows, include_pad)?;
        if channels_last { channels_last_again(b, result) } else { Ok(result) }
    })
}

/// One number a channel; the spatial axes stay with size 1.
pub(crate) fn qlinear_global_average_pool(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    let rank = b.ty(call.input(0)?).rank();
    if rank < 3 {
        return invalid(format!("input of rank {rank}; expected at least 3"));
    }
    let spatial = if call.attributes.flag("channels_last", false)? { 1..rank - 1 } else { 2..rank };
    mean(b, call, &spatial.collect::<Vec<_>>(), true)
}

pub(crate) fn qlinear_reduce_mean(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    let keep = call.attributes.flag("keepdims", true)?;
    let rank = b.ty(call.input(0)?).rank();
    let reduced = match call.attributes.ints("axes")? {
        Some(list) if !list.is_empty() => axes(list, rank)?,
        _ => (0..rank).collect(),
    };
    mean(b, call, &reduced, keep)
}

/// The sum is exact in i32, and scaled once.
fn mean(b: &mut Builder<'_>, call: &Call<'_>, axes: &[usize], keep: bool) -> Outcome {
    let x = Quantized::input(b, call, 0)?;
    check_bytes(b, &[x.values])?;
    let target = Target::input(b, call, 3, b.ty(x.values).dtype)?;
    let shape = &b.ty(x.values).shape;
    let count = axes.iter().fold(Dim::constant(1), |count, axis| count * shape[*axis].clone());
    let count = b.dim(count)?;
    let wide = b.cast(x.values, DType::I32)?;
    let mut sum = b.reduce(ReduceFn::Sum, wide, axes, keep)?;
    if let Some(zero) = x.zero {
        sum = less_zeros(b, sum, zero, count)?;
    }
    let count = b.cast(count, DType::F32)?;
    let scale = b.binary_broadcast(BinaryFn::Mul, target.scale, count)?;
    let scale = b.binary_broadcast(BinaryFn::Div, x.scale, scale)?;
    Ok(b.requantize(sum, scale, target.zero, target.dtype)?)
}

fn less_zeros(b: &mut Builder<'_>, sum: ValueId, zero: ValueId, count: ValueId) -> Outcome {
    let (zero, count) = (b.cast(zero, DType::I32)?, b.cast(count, DType::I32)?);
    let zeros = b.binary_broadcast(BinaryFn::Mul, zero, count)?;
    Ok(b.binary_broadcast(BinaryFn::Sub, sum, zeros)?)
}
