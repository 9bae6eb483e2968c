//! Convolution along time that looks back only, and hands on what the next piece of a sequence looks back at.

use ired_graph::{BinaryFn, Builder, DType, Dim, ReduceFn, UnaryFn, ValueId};

use super::call::{Call, Outcome, invalid};

/// Windows up to this size are written out as a sum.
const MAX_UNROLLED: i64 = 16;

/// Each channel by a window of its own. Outputs: the result `[batch, channels, length]`, and the last `window - 1`
/// elements of what was looked at.
pub(super) fn with_state(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome<Vec<ValueId>> {
    let (x, weights) = (call.input(0)?, call.input(1)?);
    let (ty, window_shape) = (b.ty(x).clone(), b.ty(weights).shape.clone());
    if ty.rank() != 3 || window_shape.len() != 3 {
        let (x, weights) = (ty.rank(), window_shape.len());
        return invalid(format!("input of rank {x}, weights of rank {weights}; expected 3 and 3"));
    }
    let activates = match call.attributes.text("activation")? {
        None | Some("none") => false,
        Some("silu" | "swish") => true,
        Some(other) => return invalid(format!("activation `{other}`; expected none, silu or swish")),
    };
    let window = window_shape[2].clone();
    let look_back = window.clone() - 1.into();
    let before = match call.optional(3) {
        Some(state) => state,
        None => b.full(ty.dtype, vec![ty.shape[0].clone(), ty.shape[1].clone(), look_back.clone()], 0.0)?,
    };
    let seen = b.concat(&[before, x], 2)?;
    // Sums are kept in f32, as those of every convolution are.
    let wide = if ty.dtype.bits() < 32 { DType::F32 } else { ty.dtype };
    let (wide_seen, wide_weights) = (b.cast(seen, wide)?, b.cast(weights, wide)?);
    let mut sum = weigh(b, wide_seen, wide_weights, &ty.shape, &window)?;
    if let Some(bias) = call.optional(2) {
        let bias = b.cast(bias, wide)?;
        let column = b.unsqueeze(bias, &[1])?;
        let column = b.broadcast_to(column, ty.shape.clone())?;
        sum = b.binary_broadcast(BinaryFn::Add, sum, column)?;
    }
    if activates {
        let rounded = b.cast(sum, ty.dtype)?;
        let rounded = b.cast(rounded, wide)?;
        let gate = b.unary(UnaryFn::Sigmoid, rounded)?;
        sum = b.binary_broadcast(BinaryFn::Mul, rounded, gate)?;
    }
    let result = b.cast(sum, ty.dtype)?;
    let end = b.ty(seen).shape[2].clone() - look_back.clone();
    let state = b.slice_axis(seen, 2, end, look_back)?;
    Ok(vec![result, state])
}

/// `out[b, c, t] = Σ_j seen[b, c, t + j] * weights[c, 0, j]`, of `shape`.
fn weigh(b: &mut Builder<'_>, seen: ValueId, weights: ValueId, shape: &[Dim], window: &Dim) -> Outcome {
    let (channels, length) = (shape[1].clone(), shape[2].clone());
    let weights = b.reshape(weights, vec![channels.clone(), window.clone()])?;
    let Some(count) = window.as_static().filter(|count| (1..=MAX_UNROLLED).contains(count)) else {
        let start = b.iota(DType::I64, vec![length, window.clone()], 0)?;
        let offset = b.iota(DType::I64, b.ty(start).shape.clone(), 1)?;
        let places = b.binary_broadcast(BinaryFn::Add, start, offset)?;
        let windows = b.gather(seen, places, 2)?;
        let weights = b.unsqueeze(weights, &[1])?;
        let products = b.binary_broadcast(BinaryFn::Mul, windows, weights)?;
        return Ok(b.reduce(ReduceFn::Sum, products, &[3], false)?);
    };
    let mut sum = None;
    for j in 0..count {
        let part = b.slice_axis(seen, 2, j.into(), length.clone())?;
        let weight = b.slice_axis(weights, 1, j.into(), 1.into())?;
        let weight = b.broadcast_to(weight, shape.to_vec())?;
        let part = b.reshape(part, shape.to_vec())?;
        let product = b.binary_broadcast(BinaryFn::Mul, part, weight)?;
        sum = Some(match sum {
            Some(sum) => b.binary_broadcast(BinaryFn::Add, sum, product)?,
            None => product,
        });
    }
    Ok(sum.expect("a window has at least one element"))
}
