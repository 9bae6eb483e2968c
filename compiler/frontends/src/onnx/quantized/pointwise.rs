//! Functions of each element, joins and softmax of quantised tensors.

use ired_graph::{BinaryFn, Builder, DType, UnaryFn, ValueId};

use super::super::call::{Call, Outcome, axis, invalid};
use super::{Quantized, Target, check_bytes};

/// Rounds after the zero point is added, as onnxruntime does.
pub(crate) fn qlinear_add(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    let (x, y) = (Quantized::input(b, call, 0)?, Quantized::input(b, call, 3)?);
    check_bytes(b, &[x.values, y.values])?;
    let target = Target::input(b, call, 6, b.ty(x.values).dtype)?;
    let mut sum = target.zero_in_f32(b)?;
    let mut factors = Vec::new();
    for term in [x, y] {
        let factor = b.binary_broadcast(BinaryFn::Div, term.scale, target.scale)?;
        factors.push(factor);
        if let Some(zero) = term.zero {
            let zero = b.cast(zero, DType::F32)?;
            let product = b.binary_broadcast(BinaryFn::Mul, factor, zero)?;
            sum = b.binary_broadcast(BinaryFn::Sub, sum, product)?;
        }
    }
    for (term, factor) in [y, x].into_iter().zip(factors.into_iter().rev()) {
        let wide = b.cast(term.values, DType::F32)?;
        let product = b.binary_broadcast(BinaryFn::Mul, wide, factor)?;
        sum = b.binary_broadcast(BinaryFn::Add, product, sum)?;
    }
    let rounded = b.unary(UnaryFn::Round, sum)?;
    Ok(b.cast(rounded, target.dtype)?)
}

pub(crate) fn qlinear_mul(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    let (x, y) = (Quantized::input(b, call, 0)?, Quantized::input(b, call, 3)?);
    check_bytes(b, &[x.values, y.values])?;
    let target = Target::input(b, call, 6, b.ty(x.values).dtype)?;
    let scale = b.binary_broadcast(BinaryFn::Mul, x.scale, y.scale)?;
    let scale = b.binary_broadcast(BinaryFn::Div, scale, target.scale)?;
    let (x, y) = (x.centred(b)?, y.centred(b)?);
    let product = b.binary_broadcast(BinaryFn::Mul, x, y)?;
    let scaled = b.binary_broadcast(BinaryFn::Mul, product, scale)?;
    let rounded = b.unary(UnaryFn::Round, scaled)?;
    let zero = target.zero_in_f32(b)?;
    let shifted = b.binary_broadcast(BinaryFn::Add, rounded, zero)?;
    Ok(b.cast(shifted, target.dtype)?)
}

pub(crate) fn qlinear_sigmoid(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    in_f32(b, call, |b, x| Ok(b.unary(UnaryFn::Sigmoid, x)?))
}

pub(crate) fn qlinear_leaky_relu(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    let alpha = call.attributes.float_or("alpha", 0.01)?;
    in_f32(b, call, |b, x| {
        let zero = b.scalar(DType::F32, 0.0)?;
        let negative = b.compare_broadcast(ired_graph::CompareFn::Lt, x, zero)?;
        let scaled = b.binary_scalar(BinaryFn::Mul, x, alpha)?;
        Ok(b.select_broadcast(negative, scaled, x)?)
    })
}

/// Along `axis`; by models of operator sets before 13, over all axes from it on as one.
pub(crate) fn qlinear_softmax(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    let Some(opset) = call.attributes.int("opset")? else { return invalid("`opset` is missing") };
    let rank = b.ty(call.input(0)?).rank();
    let along = axis(call.attributes.int_or("axis", if opset < 13 { 1 } else { -1 })?, rank)?;
    in_f32(b, call, |b, x| {
        if opset >= 13 {
            return Ok(b.softmax(x, along, false)?);
        }
        let shape = b.ty(x).shape.clone();
        let rows = b.flatten(x, along)?;
        let soft = b.softmax(rows, 1, false)?;
        Ok(b.reshape(soft, shape)?)
    })
}

/// Values, scale and zero point of input and result, and a function of real numbers between them.
pub(super) fn in_f32(
    b: &mut Builder<'_>,
    call: &Call<'_>,
    function: impl FnOnce(&mut Builder<'_>, ValueId) -> Outcome,
) -> Outcome {
    let x = Quantized::input(b, call, 0)?;
    check_bytes(b, &[x.values])?;
    let target = Target::input(b, call, 3, b.ty(x.values).dtype)?;
    let real = x.real(b)?;
    let result = function(b, real)?;
    target.quantize(b, result)
}

/// The result's scale and zero point, then three inputs a part. Parts that are quantised as the result are moved
/// as they are.
pub(crate) fn qlinear_concat(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    let target = Target::input(b, call, 0, DType::U8)?;
    let count = call.inputs.len();
    if count < 5 || !(count - 2).is_multiple_of(3) {
        return invalid(format!("{count} inputs; expected 2, and 3 for each part"));
    }
    let mut parts = Vec::new();
    for at in (2..count).step_by(3) {
        let part = Quantized::input(b, call, at)?;
        check_bytes(b, &[part.values])?;
        parts.push(requantized(b, part, target)?);
    }
    let Some(along) = call.attributes.int("axis")? else { return invalid("`axis` is missing") };
    let along = axis(along, b.ty(parts[0]).rank())?;
    Ok(b.concat(&parts, along)?)
}

/// Condition, then values, scale and zero point of both branches, then scale and zero point of the result.
pub(crate) fn qlinear_where(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    let (yes, no) = (Quantized::input(b, call, 1)?, Quantized::input(b, call, 4)?);
    check_bytes(b, &[yes.values, no.values])?;
    let target = Target::input(b, call, 7, b.ty(yes.values).dtype)?;
    let (yes, no) = (requantized(b, yes, target)?, requantized(b, no, target)?);
    Ok(b.select_broadcast(call.input(0)?, yes, no)?)
}

/// The same numbers in the target's scale.
fn requantized(b: &mut Builder<'_>, x: Quantized, target: Target) -> Outcome {
    let same = |b: &Builder<'_>, x: Option<ValueId>, y: Option<ValueId>| {
        let known = |v: Option<ValueId>| v.and_then(|v| b.constant_of(v)).map(|t| t.to_f64s());
        x == y || known(x).is_some_and(|x| known(y).is_some_and(|y| x == y))
    };
    if b.ty(x.values).dtype == target.dtype
        && same(b, Some(x.scale), Some(target.scale))
        && same(b, x.zero, target.zero)
    {
        return Ok(x.values);
    }
    let real = x.real(b)?;
    target.quantize(b, real)
}
