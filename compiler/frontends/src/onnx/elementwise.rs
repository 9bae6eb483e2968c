//! Arithmetic, comparison, logic, choice and conversion, element by element.

use ired_graph::{BinaryFn, Builder, CompareFn, DType, Tensor, UnaryFn, ValueId};

use super::bounds::learn_from_broadcast;
use super::call::{Call, Outcome, invalid, unsupported};
use super::import::Binding;
use crate::Problem;

pub(super) fn unary(b: &mut Builder<'_>, call: &Call<'_>, function: UnaryFn) -> Outcome {
    Ok(b.unary(function, call.input(0)?)?)
}

pub(super) fn binary(b: &mut Builder<'_>, call: &Call<'_>, function: BinaryFn) -> Outcome {
    let (lhs, rhs) = (call.input(0)?, legacy_operand(b, call)?);
    learn_from_broadcast(b, &[lhs, rhs]);
    Ok(b.binary_broadcast(function, lhs, rhs)?)
}

pub(super) fn compare(b: &mut Builder<'_>, call: &Call<'_>, function: CompareFn) -> Outcome {
    let (lhs, rhs) = (call.input(0)?, legacy_operand(b, call)?);
    learn_from_broadcast(b, &[lhs, rhs]);
    Ok(b.compare_broadcast(function, lhs, rhs)?)
}

/// The second operand. Before version 7 it broadcast only on request, its axes placed from `axis` on.
fn legacy_operand(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    let rhs = call.input(1)?;
    if call.version >= 7 {
        return Ok(rhs);
    }
    call.attributes.ignore(&["consumed_inputs"]);
    let broadcasts = call.attributes.flag("broadcast", false)?;
    let Some(axis) = call.attributes.int("axis")?.filter(|_| broadcasts) else { return Ok(rhs) };
    let (rank, mut shape) = (b.ty(call.input(0)?).rank(), b.ty(rhs).shape.clone());
    let axis = if axis < 0 { axis.saturating_add(rank as i64) } else { axis };
    let after = usize::try_from(axis).ok().and_then(|axis| rank.checked_sub(axis + shape.len()));
    let Some(after) = after else {
        return invalid(format!("axis {axis} leaves no room for the second input"));
    };
    shape.extend(vec![1.into(); after]);
    Ok(b.reshape(rhs, shape)?)
}

/// An operator of any number of operands, folded from the left.
pub(super) fn variadic(b: &mut Builder<'_>, call: &Call<'_>, function: BinaryFn) -> Outcome {
    call.attributes.ignore(&["consumed_inputs"]);
    let inputs = call.all_inputs()?;
    learn_from_broadcast(b, &inputs);
    let mut result = inputs[0];
    for input in &inputs[1..] {
        result = b.binary_broadcast(function, result, *input)?;
    }
    Ok(result)
}

pub(super) fn mean(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    let sum = variadic(b, call, BinaryFn::Add)?;
    Ok(b.binary_scalar(BinaryFn::Div, sum, call.inputs.len() as f64)?)
}

/// The exponent may be of another type; the result is of the base's.
pub(super) fn pow(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    let (base, exponent) = (call.input(0)?, legacy_operand(b, call)?);
    let (base_type, exponent_type) = (b.ty(base).dtype, b.ty(exponent).dtype);
    if base_type.is_integer() && exponent_type.is_float() {
        let wide = b.cast(base, DType::F64)?;
        let wide_exponent = b.cast(exponent, DType::F64)?;
        let power = b.binary_broadcast(BinaryFn::Pow, wide, wide_exponent)?;
        let power = b.cast(power, base_type)?;
        // A whole exponent gives a whole number exactly, which the logarithm of the base may miss by a hair.
        let whole = b.cast(exponent, base_type)?;
        let back = b.cast(whole, exponent_type)?;
        let is_whole = b.compare_broadcast(CompareFn::Eq, back, exponent)?;
        let exact = b.binary_broadcast(BinaryFn::Pow, base, whole)?;
        return Ok(b.select_broadcast(is_whole, exact, power)?);
    }
    let exponent = b.cast(exponent, base_type)?;
    Ok(b.binary_broadcast(BinaryFn::Pow, base, exponent)?)
}

pub(super) fn modulo(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    let truncating = call.attributes.flag("fmod", false)?;
    binary(b, call, if truncating { BinaryFn::Rem } else { BinaryFn::Mod })
}

pub(super) fn bit_shift(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    match call.attributes.text("direction")? {
        Some("LEFT") => binary(b, call, BinaryFn::ShiftLeft),
        Some("RIGHT") => binary(b, call, BinaryFn::ShiftRight),
        other => invalid(format!("direction {other:?}; expected LEFT or RIGHT")),
    }
}

/// As f32 if it is of a type of at most eight bits, which f32 holds.
fn widened(b: &mut Builder<'_>, x: ValueId) -> Outcome {
    Ok(if b.ty(x).dtype.is_narrow_float() { b.cast(x, DType::F32)? } else { x })
}

pub(super) fn is_nan(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    let x = widened(b, call.input(0)?)?;
    Ok(b.unary(UnaryFn::IsNan, x)?)
}

pub(super) fn is_inf(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    let negative = call.attributes.flag("detect_negative", true)?;
    let positive = call.attributes.flag("detect_positive", true)?;
    let x = widened(b, call.input(0)?)?;
    let infinite = b.unary(UnaryFn::IsInf, x)?;
    let zero = b.scalar_like(x, 0.0)?;
    let wanted = match (negative, positive) {
        (true, true) => return Ok(infinite),
        (true, false) => b.compare_broadcast(CompareFn::Lt, x, zero)?,
        (false, true) => b.compare_broadcast(CompareFn::Gt, x, zero)?,
        (false, false) => b.compare_broadcast(CompareFn::Lt, x, x)?,
    };
    Ok(b.binary_broadcast(BinaryFn::And, infinite, wanted)?)
}

pub(super) fn select(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    let operands @ [condition, if_true, if_false] = [call.input(0)?, call.input(1)?, call.input(2)?];
    learn_from_broadcast(b, &operands);
    Ok(b.select_broadcast(condition, if_true, if_false)?)
}

/// Bounds are attributes before version 11, inputs from then on; either may be left out.
pub(super) fn clip(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    call.attributes.ignore(&["consumed_inputs"]);
    let x = call.input(0)?;
    let (low, high) = match call.version >= 11 {
        true => (call.optional(1), call.optional(2)),
        false => {
            let (low, high) = (call.attributes.float("min")?, call.attributes.float("max")?);
            (bound(b, x, low)?, bound(b, x, high)?)
        }
    };
    let mut result = x;
    for (bound, function) in [(low, BinaryFn::Max), (high, BinaryFn::Min)] {
        let Some(bound) = bound else { continue };
        if b.ty(bound).elements().as_static() != Some(1) {
            return invalid("a bound is not a scalar");
        }
        let bound = b.reshape(bound, Vec::new())?;
        result = b.binary_broadcast(function, result, bound)?;
    }
    Ok(result)
}

fn bound(b: &mut Builder<'_>, x: ValueId, value: Option<f64>) -> Outcome<Option<ValueId>> {
    // Exporters write the ends of f32 for "no bound".
    let value = value.filter(|v| v.abs() < f64::from(f32::MAX));
    Ok(value.map(|v| b.scalar_like(x, v)).transpose()?)
}

pub(super) fn identity(_: &mut Builder<'_>, call: &Call<'_>) -> Outcome<Vec<Binding>> {
    match call.bindings.first() {
        None | Some(Binding::Absent) => Err(Problem::MissingInput { index: 0 }.into()),
        Some(same) => Ok(vec![*same]),
    }
}

/// In inference nothing is dropped, and the mask is all true.
pub(super) fn dropout(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome<Vec<ValueId>> {
    call.attributes.ignore(&["ratio", "seed", "is_test", "consumed_inputs"]);
    if let Some(training) = call.optional(2) {
        let training = constant_bool(b, training);
        if training != Some(false) {
            return unsupported("training mode", "export the model for inference");
        }
    }
    let x = call.input(0)?;
    let mut outputs = vec![x];
    if call.wants(1) {
        let shape = b.ty(x).shape.clone();
        // Before version 10 the mask was of the data's type.
        let dtype = if call.version >= 10 { DType::Bool } else { b.ty(x).dtype };
        outputs.push(b.full(dtype, shape, 1.0)?);
    }
    Ok(outputs)
}

/// The value of a bool that is constant.
pub(super) fn constant_bool(b: &Builder<'_>, value: ValueId) -> Option<bool> {
    let tensor: &Tensor = match b.graph.producer_op(value)? {
        ired_graph::Op::Constant(tensor) => tensor,
        _ => return None,
    };
    match (tensor.dtype(), &tensor.data()[..]) {
        (DType::Bool, [byte]) => Some(*byte != 0),
        _ => None,
    }
}
