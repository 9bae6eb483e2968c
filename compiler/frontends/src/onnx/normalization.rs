//! Normalisation: by stored statistics, by the input's own, by norms.

use ired_graph::{BinaryFn, Builder, DType, Dim, Op, PoolFn, ReduceFn, UnaryFn, ValueId, Window};

use super::call::{Call, Outcome, axes, axis, invalid, unsupported};
use super::convolution::along_channels;

/// `(x - mean) / sqrt(variance + epsilon) * scale + bias`, each along axis 1: by stored statistics, or in training mode
/// by the input's own, which the stored ones, the other outputs, follow.
pub(super) fn batch(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome<Vec<ValueId>> {
    call.attributes.ignore(&["is_test", "consumed_inputs"]);
    let momentum = call.attributes.float_or("momentum", 0.9)?;
    let training = call.attributes.flag("training_mode", false)?;
    if !call.attributes.flag("spatial", true)? {
        return unsupported(
            "statistics of each element (`spatial` 0)",
            "export with operator set 9 or later",
        );
    }
    let epsilon = call.attributes.float_or("epsilon", 1e-5)?;
    let x = call.input(0)?;
    let ty = b.ty(x).clone();
    if training {
        return batch_in_training(b, call, momentum, epsilon);
    }
    call.only_first_output()?;
    let mut parameters = [x; 4];
    for (index, parameter) in parameters.iter_mut().enumerate() {
        let vector = along_channels(b, call.input(index + 1)?, ty.rank())?;
        *parameter = b.cast(vector, ty.dtype)?;
    }
    Ok(vec![by_statistics(b, x, parameters, epsilon)?])
}

fn by_statistics(
    b: &mut Builder<'_>,
    x: ValueId,
    [scale, bias, mean, variance]: [ValueId; 4],
    epsilon: f64,
) -> Outcome {
    let shifted = b.binary_scalar(BinaryFn::Add, variance, epsilon)?;
    let deviation = b.unary(UnaryFn::Sqrt, shifted)?;
    let factor = b.binary_broadcast(BinaryFn::Div, scale, deviation)?;
    let centred = b.binary_broadcast(BinaryFn::Sub, x, mean)?;
    let scaled = b.binary_broadcast(BinaryFn::Mul, centred, factor)?;
    Ok(b.binary_broadcast(BinaryFn::Add, scaled, bias)?)
}

/// Nothing is learned, but the numbers are those of a step of training.
fn batch_in_training(
    b: &mut Builder<'_>,
    call: &Call<'_>,
    momentum: f64,
    epsilon: f64,
) -> Outcome<Vec<ValueId>> {
    let x = call.input(0)?;
    let ty = b.ty(x).clone();
    if ty.rank() < 2 {
        return invalid(format!("input of rank {}; expected at least 2", ty.rank()));
    }
    let wide = if ty.dtype.bits() < 32 { DType::F32 } else { ty.dtype };
    let x = b.cast(x, wide)?;
    let over: Vec<usize> = (0..ty.rank()).filter(|axis| *axis != 1).collect();
    let mean = b.reduce(ReduceFn::Mean, x, &over, true)?;
    let centred = b.binary_broadcast(BinaryFn::Sub, x, mean)?;
    let square = b.binary_broadcast(BinaryFn::Mul, centred, centred)?;
    let variance = b.reduce(ReduceFn::Mean, square, &over, true)?;
    let mut parameters = [x; 2];
    for (index, parameter) in parameters.iter_mut().enumerate() {
        let vector = along_channels(b, call.input(index + 1)?, ty.rank())?;
        *parameter = b.cast(vector, wide)?;
    }
    let result = by_statistics(b, x, [parameters[0], parameters[1], mean, variance], epsilon)?;
    let mut outputs = vec![b.cast(result, ty.dtype)?];
    for (index, current) in [(3, mean), (4, variance)] {
        let stored = call.input(index)?;
        let (dtype, shape) = (b.ty(stored).dtype, b.ty(stored).shape.clone());
        let old = b.cast(stored, wide)?;
        let old = b.binary_scalar(BinaryFn::Mul, old, momentum)?;
        let new = b.binary_scalar(BinaryFn::Mul, current, 1.0 - momentum)?;
        let new = b.reshape(new, shape)?;
        let moved = b.binary_broadcast(BinaryFn::Add, old, new)?;
        outputs.push(b.cast(moved, dtype)?);
    }
    Ok(outputs)
}

/// Each channel of each item by its own statistics, over the spatial axes.
pub(super) fn instance(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    call.attributes.ignore(&["consumed_inputs"]);
    let epsilon = call.attributes.float_or("epsilon", 1e-5)?;
    let x = call.input(0)?;
    let shape = b.ty(x).shape.clone();
    if shape.len() < 3 {
        return invalid(format!("input of rank {}; expected at least 3", shape.len()));
    }
    let area = ired_graph::types::product(&shape[2..]);
    let flat = b.reshape(x, vec![shape[0].clone(), shape[1].clone(), area])?;
    let normal = b.push(Op::LayerNorm { axis: 2, epsilon }, &[flat])?;
    let normal = b.reshape(normal, shape)?;
    scale_channels(b, call, normal)
}

/// Groups of channels by their own statistics; scale and bias a channel, or before version 21 a group.
pub(super) fn group(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    call.attributes.ignore(&["stash_type"]);
    let epsilon = call.attributes.float_or("epsilon", 1e-5)?;
    let groups = Dim::constant(call.attributes.int_or("num_groups", 0)?);
    let x = call.input(0)?;
    let shape = b.ty(x).shape.clone();
    if shape.len() < 3 || groups.as_static().is_none_or(|g| g < 1) {
        return invalid(format!("input of rank {} in {groups:?} groups", shape.len()));
    }
    let size = ired_graph::types::product(&shape[1..]).floor_div(&groups);
    let apart = b.reshape(x, vec![shape[0].clone(), groups.clone(), size])?;
    let normal = b.push(Op::LayerNorm { axis: 2, epsilon }, &[apart])?;
    if call.version < 21 {
        let scaled = scale_channels(b, call, normal)?;
        return Ok(b.reshape(scaled, shape)?);
    }
    let normal = b.reshape(normal, shape)?;
    scale_channels(b, call, normal)
}

/// `x * scale + bias` with inputs 1 and 2 along axis 1.
fn scale_channels(b: &mut Builder<'_>, call: &Call<'_>, x: ValueId) -> Outcome {
    let rank = b.ty(x).rank();
    let scale = along_channels(b, call.input(1)?, rank)?;
    let bias = along_channels(b, call.input(2)?, rank)?;
    let scaled = b.binary_broadcast(BinaryFn::Mul, x, scale)?;
    Ok(b.binary_broadcast(BinaryFn::Add, scaled, bias)?)
}

/// Over all axes from `axis` on. The mean and inverse deviation are also given.
pub(super) fn layer(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome<Vec<ValueId>> {
    let stash = call.dtype_attribute("stash_type")?.unwrap_or(DType::F32);
    let epsilon = call.attributes.float_or("epsilon", 1e-5)?;
    let x = call.input(0)?;
    let at = axis(call.attributes.int_or("axis", -1)?, b.ty(x).rank())?;
    layer_of(b, x, at, epsilon, [Some(call.input(1)?), call.optional(2)], stash)
}

/// Layer normalisation with a scale and a bias, then the mean and inverse deviation in `stash`.
pub(super) fn layer_of(
    b: &mut Builder<'_>,
    x: ValueId,
    at: usize,
    epsilon: f64,
    parameters: [Option<ValueId>; 2],
    stash: DType,
) -> Outcome<Vec<ValueId>> {
    let ty = b.ty(x).clone();
    let mut operands = vec![x];
    for (parameter, missing) in parameters.into_iter().zip([1.0, 0.0]) {
        let tail = ty.shape[at..].to_vec();
        operands.push(match parameter {
            Some(parameter) => b.broadcast_to(parameter, tail)?,
            None => b.full(ty.dtype, tail, missing)?,
        });
    }
    let normal = b.push(Op::LayerNorm { axis: at, epsilon }, &operands)?;
    let wide = b.cast(x, stash)?;
    let over: Vec<usize> = (at..ty.rank()).collect();
    let mean = b.reduce(ReduceFn::Mean, wide, &over, true)?;
    let centred = b.binary_broadcast(BinaryFn::Sub, wide, mean)?;
    let square = b.binary_broadcast(BinaryFn::Mul, centred, centred)?;
    let variance = b.reduce(ReduceFn::Mean, square, &over, true)?;
    let shifted = b.binary_scalar(BinaryFn::Add, variance, epsilon)?;
    let inverse = b.unary(UnaryFn::Rsqrt, shifted)?;
    Ok(vec![normal, mean, inverse])
}

/// By the root of the mean square over all axes from `axis` on; the inverse root is also given.
pub(super) fn root_mean_square(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome<Vec<ValueId>> {
    let stash = call.dtype_attribute("stash_type")?.unwrap_or(DType::F32);
    let epsilon = call.attributes.float_or("epsilon", 1e-5)?;
    let x = call.input(0)?;
    let at = axis(call.attributes.int_or("axis", -1)?, b.ty(x).rank())?;
    Ok(root_mean_square_of(b, x, call.input(1)?, at, epsilon, stash)?.to_vec())
}

/// `x / sqrt(mean(x²) + epsilon) * scale` computed in `stash`, and the inverse root.
pub(super) fn root_mean_square_of(
    b: &mut Builder<'_>,
    x: ValueId,
    scale: ValueId,
    at: usize,
    epsilon: f64,
    stash: DType,
) -> Outcome<[ValueId; 2]> {
    let ty = b.ty(x).clone();
    let wide = b.cast(x, stash)?;
    let square = b.binary_broadcast(BinaryFn::Mul, wide, wide)?;
    let over: Vec<usize> = (at..ty.rank()).collect();
    let mean = b.reduce(ReduceFn::Mean, square, &over, true)?;
    let shifted = b.binary_scalar(BinaryFn::Add, mean, epsilon)?;
    let inverse = b.unary(UnaryFn::Rsqrt, shifted)?;
    let normal = b.binary_broadcast(BinaryFn::Mul, wide, inverse)?;
    let normal = b.cast(normal, b.ty(scale).dtype)?;
    let result = b.binary_broadcast(BinaryFn::Mul, normal, scale)?;
    Ok([result, inverse])
}

/// `(x - mean) / (deviation + 1e-9)` over `axes`.
pub(super) fn mean_variance(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    let x = call.input(0)?;
    let over = axes(call.attributes.ints("axes")?.unwrap_or(&[0, 2, 3]), b.ty(x).rank())?;
    let mean = b.reduce(ReduceFn::Mean, x, &over, true)?;
    let centred = b.binary_broadcast(BinaryFn::Sub, x, mean)?;
    let square = b.binary_broadcast(BinaryFn::Mul, centred, centred)?;
    let variance = b.reduce(ReduceFn::Mean, square, &over, true)?;
    let deviation = b.unary(UnaryFn::Sqrt, variance)?;
    let divisor = b.binary_scalar(BinaryFn::Add, deviation, 1e-9)?;
    Ok(b.binary_broadcast(BinaryFn::Div, centred, divisor)?)
}

/// `x` over its 1-norm or 2-norm along an axis; 0 where the norm is 0.
pub(super) fn lp(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    let x = call.input(0)?;
    let at = axis(call.attributes.int_or("axis", -1)?, b.ty(x).rank())?;
    let norm = match call.attributes.int_or("p", 2)? {
        1 => {
            let magnitude = b.unary(UnaryFn::Abs, x)?;
            b.reduce(ReduceFn::Sum, magnitude, &[at], true)?
        }
        2 => {
            let square = b.binary_broadcast(BinaryFn::Mul, x, x)?;
            let sum = b.reduce(ReduceFn::Sum, square, &[at], true)?;
            b.unary(UnaryFn::Sqrt, sum)?
        }
        p => return invalid(format!("p is {p}; expected 1 or 2")),
    };
    let zero = b.scalar_like(x, 0.0)?;
    let is_zero = b.compare_broadcast(ired_graph::CompareFn::Eq, norm, zero)?;
    let quotient = b.binary_broadcast(BinaryFn::Div, x, norm)?;
    Ok(b.select_broadcast(is_zero, zero, quotient)?)
}

/// `x / (bias + alpha / size * Σ x²)^beta`, the sum over `size` neighbouring channels.
pub(super) fn local_response(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    let (alpha, beta) = (call.attributes.float_or("alpha", 1e-4)?, call.attributes.float_or("beta", 0.75)?);
    let bias = call.attributes.float_or("bias", 1.0)?;
    let size = call.attributes.int_or("size", 0)?;
    let x = call.input(0)?;
    let shape = b.ty(x).shape.clone();
    let Some(size) = u64::try_from(size).ok().filter(|s| (1..1 << 31).contains(s) && shape.len() >= 2) else {
        return invalid(format!("size {size} over an input of rank {}", shape.len()));
    };
    let square = b.binary_broadcast(BinaryFn::Mul, x, x)?;
    // Channels become rows of an image; averages over a column of them, padding included, are sums over `size`.
    let area = ired_graph::types::product(&shape[2..]);
    let image = b.reshape(square, vec![shape[0].clone(), 1.into(), shape[1].clone(), area])?;
    let mut window = Window::dense(vec![size, 1]);
    window.pad_low[0] = (size - 1) / 2;
    window.pad_high[0] = size / 2;
    let mean = b.pool(PoolFn::Average, image, window, true)?;
    let mean = b.reshape(mean, shape)?;
    let scaled = b.binary_scalar(BinaryFn::Mul, mean, alpha)?;
    let shifted = b.binary_scalar(BinaryFn::Add, scaled, bias)?;
    let divisor = b.binary_scalar(BinaryFn::Pow, shifted, beta)?;
    Ok(b.binary_broadcast(BinaryFn::Div, x, divisor)?)
}
