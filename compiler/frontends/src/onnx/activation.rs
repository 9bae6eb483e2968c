//! Activation functions, each as its formula.

use ired_graph::{BinaryFn, Builder, CompareFn, UnaryFn, ValueId};

use super::call::{Call, Outcome, invalid};

fn max_zero(b: &mut Builder<'_>, x: ValueId) -> Outcome {
    Ok(b.binary_scalar(BinaryFn::Max, x, 0.0)?)
}

pub(super) fn scale(b: &mut Builder<'_>, x: ValueId, factor: f64) -> Outcome {
    if factor == 1.0 { Ok(x) } else { Ok(b.binary_scalar(BinaryFn::Mul, x, factor)?) }
}

/// `x < 0 ? negative : x`.
pub(super) fn where_negative(b: &mut Builder<'_>, x: ValueId, negative: ValueId) -> Outcome {
    let zero = b.scalar_like(x, 0.0)?;
    let is_negative = b.compare_broadcast(CompareFn::Lt, x, zero)?;
    Ok(b.select_broadcast(is_negative, negative, x)?)
}

/// `e^x - 1`, as ONNX writes it.
pub(super) fn exp_minus_one(b: &mut Builder<'_>, x: ValueId) -> Outcome {
    let exp = b.unary(UnaryFn::Exp, x)?;
    Ok(b.binary_scalar(BinaryFn::Sub, exp, 1.0)?)
}

/// `ln(1 + e^x)` as `max(x, 0) + ln(1 + e^-|x|)`, which does not overflow.
pub(super) fn softplus_of(b: &mut Builder<'_>, x: ValueId) -> Outcome {
    let magnitude = b.unary(UnaryFn::Abs, x)?;
    let negated = b.unary(UnaryFn::Neg, magnitude)?;
    let exp = b.unary(UnaryFn::Exp, negated)?;
    let sum = b.binary_scalar(BinaryFn::Add, exp, 1.0)?;
    let log = b.unary(UnaryFn::Log, sum)?;
    let positive = max_zero(b, x)?;
    Ok(b.binary_broadcast(BinaryFn::Add, positive, log)?)
}

pub(super) fn relu(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    call.attributes.ignore(&["consumed_inputs"]);
    max_zero(b, call.input(0)?)
}

pub(super) fn leaky_relu(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    call.attributes.ignore(&["consumed_inputs"]);
    let alpha = call.attributes.float_or("alpha", 0.01)?;
    let x = call.input(0)?;
    let negative = scale(b, x, alpha)?;
    where_negative(b, x, negative)
}

/// The slope broadcasts to the input.
pub(super) fn prelu(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    call.attributes.ignore(&["consumed_inputs"]);
    let (x, mut slope) = (call.input(0)?, call.input(1)?);
    let shape = b.ty(x).shape.clone();
    // Before version 7 a slope of rank 1 is one of each channel.
    if call.version < 7 && b.ty(slope).rank() == 1 && shape.len() > 2 {
        let mut spread = b.ty(slope).shape.clone();
        spread.extend(vec![1.into(); shape.len() - 2]);
        slope = b.reshape(slope, spread)?;
    }
    let slope = b.broadcast_to(slope, shape)?;
    let negative = b.binary_broadcast(BinaryFn::Mul, x, slope)?;
    where_negative(b, x, negative)
}

pub(super) fn elu(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    call.attributes.ignore(&["consumed_inputs"]);
    let alpha = call.attributes.float_or("alpha", 1.0)?;
    let x = call.input(0)?;
    let curve = exp_minus_one(b, x)?;
    let negative = scale(b, curve, alpha)?;
    where_negative(b, x, negative)
}

/// `max(0, x) + min(0, alpha * (e^(x / alpha) - 1))`.
pub(super) fn celu(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    let alpha = call.attributes.float_or("alpha", 1.0)?;
    let x = call.input(0)?;
    let inner = b.binary_scalar(BinaryFn::Div, x, alpha)?;
    let curve = exp_minus_one(b, inner)?;
    let curve = scale(b, curve, alpha)?;
    let negative = b.binary_scalar(BinaryFn::Min, curve, 0.0)?;
    let positive = max_zero(b, x)?;
    Ok(b.binary_broadcast(BinaryFn::Add, positive, negative)?)
}

pub(super) fn selu(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    call.attributes.ignore(&["consumed_inputs"]);
    let newer = call.version >= 6;
    let alpha = call.attributes.float_or("alpha", if newer { 1.673_263_2 } else { 1.6732 })?;
    let gamma = call.attributes.float_or("gamma", if newer { 1.050_701 } else { 1.0507 })?;
    let x = call.input(0)?;
    let curve = exp_minus_one(b, x)?;
    let negative = scale(b, curve, alpha)?;
    let bent = where_negative(b, x, negative)?;
    scale(b, bent, gamma)
}

pub(super) fn gelu(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    let fast = match call.attributes.text("approximate")? {
        None | Some("none") => false,
        Some("tanh") => true,
        Some(other) => return invalid(format!("approximate is `{other}`; expected `none` or `tanh`")),
    };
    gelu_of(b, call.input(0)?, fast)
}

/// `x / 2 * (1 + erf(x / sqrt 2))`, or the approximation by tanh.
pub(super) fn gelu_of(b: &mut Builder<'_>, x: ValueId, fast: bool) -> Outcome {
    let bell = if fast {
        let square = b.binary_broadcast(BinaryFn::Mul, x, x)?;
        let cube = b.binary_broadcast(BinaryFn::Mul, square, x)?;
        let cube = scale(b, cube, 0.044715)?;
        let sum = b.binary_broadcast(BinaryFn::Add, x, cube)?;
        let scaled = scale(b, sum, (2.0 / std::f64::consts::PI).sqrt())?;
        b.unary(UnaryFn::Tanh, scaled)?
    } else {
        let scaled = scale(b, x, std::f64::consts::FRAC_1_SQRT_2)?;
        b.unary(UnaryFn::Erf, scaled)?
    };
    let weight = b.binary_scalar(BinaryFn::Add, bell, 1.0)?;
    let half = scale(b, x, 0.5)?;
    Ok(b.binary_broadcast(BinaryFn::Mul, half, weight)?)
}

pub(super) fn hard_sigmoid_of(b: &mut Builder<'_>, x: ValueId, alpha: f64, beta: f64) -> Outcome {
    let scaled = scale(b, x, alpha)?;
    let shifted = b.binary_scalar(BinaryFn::Add, scaled, beta)?;
    let positive = max_zero(b, shifted)?;
    Ok(b.binary_scalar(BinaryFn::Min, positive, 1.0)?)
}

pub(super) fn hard_sigmoid(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    call.attributes.ignore(&["consumed_inputs"]);
    let alpha = call.attributes.float_or("alpha", 0.2)?;
    let beta = call.attributes.float_or("beta", 0.5)?;
    hard_sigmoid_of(b, call.input(0)?, alpha, beta)
}

pub(super) fn hard_swish(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    let x = call.input(0)?;
    let gate = hard_sigmoid_of(b, x, 1.0 / 6.0, 0.5)?;
    Ok(b.binary_broadcast(BinaryFn::Mul, x, gate)?)
}

pub(super) fn swish(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    let alpha = call.attributes.float_or("alpha", 1.0)?;
    swish_of(b, call.input(0)?, alpha)
}

/// `x * sigmoid(alpha * x)`.
pub(super) fn swish_of(b: &mut Builder<'_>, x: ValueId, alpha: f64) -> Outcome {
    let scaled = scale(b, x, alpha)?;
    let gate = b.unary(UnaryFn::Sigmoid, scaled)?;
    Ok(b.binary_broadcast(BinaryFn::Mul, x, gate)?)
}

/// `swish(x) * y` of two inputs of one shape.
pub(super) fn swish_gated(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    let gate = swish(b, call)?;
    let y = call.input(1)?;
    let y = b.broadcast_to(y, b.ty(gate).shape.clone())?;
    Ok(b.binary_broadcast(BinaryFn::Mul, gate, y)?)
}

pub(super) fn softplus(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    softplus_of(b, call.input(0)?)
}

pub(super) fn softsign(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    softsign_of(b, call.input(0)?)
}

/// `x / (1 + |x|)`.
pub(super) fn softsign_of(b: &mut Builder<'_>, x: ValueId) -> Outcome {
    let magnitude = b.unary(UnaryFn::Abs, x)?;
    let divisor = b.binary_scalar(BinaryFn::Add, magnitude, 1.0)?;
    Ok(b.binary_broadcast(BinaryFn::Div, x, divisor)?)
}

/// `x * tanh(softplus(x))`.
pub(super) fn mish(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    let x = call.input(0)?;
    let softplus = softplus_of(b, x)?;
    let gate = b.unary(UnaryFn::Tanh, softplus)?;
    Ok(b.binary_broadcast(BinaryFn::Mul, x, gate)?)
}

/// `x > alpha ? x : 0`.
pub(super) fn thresholded_relu(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    let alpha = call.attributes.float_or("alpha", 1.0)?;
    let x = call.input(0)?;
    let (bound, zero) = (b.scalar_like(x, alpha)?, b.scalar_like(x, 0.0)?);
    let above = b.compare_broadcast(CompareFn::Gt, x, bound)?;
    Ok(b.select_broadcast(above, x, zero)?)
}

/// `x < -lambd ? x + bias : x > lambd ? x - bias : 0`.
pub(super) fn shrink(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    let bias = call.attributes.float_or("bias", 0.0)?;
    let lambda = call.attributes.float_or("lambd", 0.5)?;
    let x = call.input(0)?;
    let (low, high, zero) = (b.scalar_like(x, -lambda)?, b.scalar_like(x, lambda)?, b.scalar_like(x, 0.0)?);
    let (raised, lowered) =
        (b.binary_scalar(BinaryFn::Add, x, bias)?, b.binary_scalar(BinaryFn::Sub, x, bias)?);
    let above = b.compare_broadcast(CompareFn::Gt, x, high)?;
    let below = b.compare_broadcast(CompareFn::Lt, x, low)?;
    let upper = b.select_broadcast(above, lowered, zero)?;
    Ok(b.select_broadcast(below, raised, upper)?)
}
