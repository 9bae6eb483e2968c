//! Convolutions of quantised tensors.

use ired_graph::{BinaryFn, Builder, DType, Dim, Offset};

use super::super::call::{Call, Outcome, invalid};
use super::super::convolution::{
    along_channels, channels_first, channels_last_again, convolve, extent_of, groups,
};
use super::super::windows::Windows;
use super::{Quantized, Target, check_bytes, zero_of};

/// In i32, each side less its zero point: of the input a scalar, of the weights a scalar or one a filter.
pub(crate) fn conv_integer(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    let (x, weights) = (call.input(0)?, call.input(1)?);
    let x = Offset { values: x, zero: zero_of(b, call.optional(2))? };
    let weights = Offset { values: weights, zero: zero_of(b, call.optional(3))? };
    sums(b, call, x, weights)
}

/// Input, weights and result with a scale and a zero point each; the bias is in i32, of the product's scale.
pub(crate) fn qlinear_conv(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    let (mut x, weights) = (Quantized::input(b, call, 0)?, Quantized::input(b, call, 3)?);
    let target = Target::input(b, call, 6, b.ty(x.values).dtype)?;
    let channels_last = call.attributes.flag("channels_last", false)?;
    if channels_last {
        x.values = channels_first(b, x.values)?;
    }
    let mut sum = sums(b, call, x.offset(), weights.offset())?;
    let rank = b.ty(sum).rank();
    if let Some(bias) = call.optional(8) {
        let bias = along_channels(b, bias, rank)?;
        sum = b.binary_broadcast(BinaryFn::Add, sum, bias)?;
    }
    let scale = b.binary_broadcast(BinaryFn::Mul, x.scale, weights.scale)?;
    let mut scale = b.binary_broadcast(BinaryFn::Div, scale, target.scale)?;
    if b.ty(scale).rank() == 1 {
        scale = along_channels(b, scale, rank)?;
    }
    let result = b.requantize(sum, scale, target.zero, target.dtype)?;
    if channels_last { channels_last_again(b, result) } else { Ok(result) }
}

fn sums(b: &mut Builder<'_>, call: &Call<'_>, x: Offset, weights: Offset) -> Outcome {
    check_bytes(b, &[x.values, weights.values])?;
    let extent = extent_of(b, call, x.values, weights.values)?;
    let windows = Windows::of(call, &b.ty(x.values).shape[2..], extent)?;
    let groups = groups(call)?;
    check_zero_points(b, x, weights)?;
    if let Some(window) = windows.as_window() {
        return Ok(b.conv_integer(x, weights, window, groups)?);
    }
    if let Some(window) = windows.over_padded() {
        let dtype = b.ty(x.values).dtype;
        let fill = match x.zero {
            Some(zero) => b.cast(zero, dtype)?,
            None => b.scalar(dtype, 0.0)?,
        };
        let padded = windows.pad(b, x.values, fill)?;
        return Ok(b.conv_integer(Offset { values: padded, ..x }, weights, window, groups)?);
    }
    // A window only known at run time.
    let x = centred(b, x, None)?;
    let rank = b.ty(weights.values).rank();
    let weights = centred(b, weights, Some(rank))?;
    convolve(b, x, weights, &windows, groups)
}

/// The integers less their zero point in i32; `rank` is that of weights, whose zero points are along the first axis.
fn centred(b: &mut Builder<'_>, x: Offset, rank: Option<usize>) -> Outcome {
    let wide = b.cast(x.values, DType::I32)?;
    let Some(zero) = x.zero else { return Ok(wide) };
    let mut zero = b.cast(zero, DType::I32)?;
    if let (Some(rank), [filters]) = (rank, b.ty(zero).shape.as_slice()) {
        let shape = [vec![filters.clone()], vec![Dim::constant(1); rank - 1]].concat();
        zero = b.reshape(zero, shape)?;
    }
    Ok(b.binary_broadcast(BinaryFn::Sub, wide, zero)?)
}

fn check_zero_points(b: &Builder<'_>, x: Offset, weights: Offset) -> Outcome<()> {
    if let Some(rank) = x.zero.map(|zero| b.ty(zero).rank()).filter(|rank| *rank != 0) {
        return invalid(format!("the input's zero point is of rank {rank}; expected a scalar"));
    }
    let filters = &b.ty(weights.values).shape[0];
    match weights.zero.map(|zero| b.ty(zero).shape.as_slice()) {
        None | Some([]) => Ok(()),
        Some([count]) if !b.graph.symbols.is_known_ne(count, filters) => Ok(()),
        Some(shape) => invalid(format!(
            "the weights' zero point has {} axes; expected one number, or one a filter",
            shape.len()
        )),
    }
}
