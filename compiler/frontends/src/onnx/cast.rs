//! From one element type to another.

use bytes::Bytes;
use ired_graph::{BinaryFn, Builder, CompareFn, DType, Tensor, UnaryFn, ValueId};

use super::call::{Call, Outcome, invalid, unsupported};
use super::text;

pub(super) fn cast(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    let Some(to) = call.dtype_attribute("to")? else { return invalid("attribute `to` is missing") };
    cast_as_asked(b, call, to)
}

pub(super) fn cast_like(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    let to = b.ty(call.input(1)?).dtype;
    cast_as_asked(b, call, to)
}

/// The same bits as another type of the same width.
pub(super) fn bit_cast(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    let Some(to) = call.dtype_attribute("to")? else { return invalid("attribute `to` is missing") };
    let x = call.input(0)?;
    let from = b.ty(x).dtype;
    if from.bits() != to.bits() {
        return invalid(format!("{from} has {} bits; {to} has {}", from.bits(), to.bits()));
    }
    Ok(b.bit_cast(x, to)?)
}

fn cast_as_asked(b: &mut Builder<'_>, call: &Call<'_>, to: DType) -> Outcome {
    let saturate = call.attributes.flag("saturate", true)?;
    let rounding = call.attributes.text("round_mode")?.unwrap_or("up");
    let x = call.input(0)?;
    let from = b.ty(x).dtype;
    if from != to && (from.is_complex() || to.is_complex()) {
        return unsupported(
            format!("a cast from {from} to {to}"),
            "ONNX only moves complex numbers: compute with their parts, in tensors of their own",
        );
    }
    if to == DType::F8E8M0 && from != to && from != DType::String {
        return to_power_of_two(b, x, rounding, saturate);
    }
    cast_to(b, x, to, saturate)
}

/// A cast; where `saturate` is false, what is out of the range of a float of eight bits becomes an infinity, or NaN
/// where there is none.
pub(super) fn cast_to(b: &mut Builder<'_>, x: ValueId, to: DType, saturate: bool) -> Outcome {
    let from = b.ty(x).dtype;
    if (to == DType::String) != (from == DType::String) {
        return text::cast(b, x, to);
    }
    // ONNX wraps what does not fit into few bits, where the graph saturates.
    let wraps = to.is_integer() && to.bits() < 8 && !from.holds_integers();
    let x = if wraps { b.cast(x, DType::I32)? } else { x };
    let result = b.cast(x, to)?;
    match Overflow::of(to) {
        Some(overflow) if !saturate && from != to => overflow.replace(b, x, result, to),
        _ => Ok(result),
    }
}

/// A cast to [`DType::F8E8M0`]: the exponent of an f32, rounded as the rest of its bits says.
///
/// What is out of range becomes the first or last power, or NaN where `saturate` is false. What ONNX leaves open, a
/// negative number, is as its magnitude.
fn to_power_of_two(b: &mut Builder<'_>, x: ValueId, rounding: &str, saturate: bool) -> Outcome {
    let to = DType::F8E8M0;
    let carry = match rounding {
        "up" if saturate => return Ok(b.cast(x, to)?),
        "up" => (1 << 23) - 1,
        "nearest" => 1 << 22,
        "down" => 0,
        other => {
            return invalid(format!("attribute `round_mode` is `{other}`; expected up, down or nearest"));
        }
    };
    let wide = b.cast(x, DType::F32)?;
    let magnitude = b.unary(UnaryFn::Abs, wide)?;
    // Subnormal numbers move up by 2^23, to where every power of two has an exponent of its own.
    let smallest_normal = b.scalar(DType::F32, f64::from(f32::MIN_POSITIVE))?;
    let small = b.compare_broadcast(CompareFn::Lt, magnitude, smallest_normal)?;
    let moved = b.binary_scalar(BinaryFn::Mul, magnitude, f64::powi(2.0, 23))?;
    let normal = b.select_broadcast(small, moved, magnitude)?;
    let bits = b.bit_cast(normal, DType::I32)?;
    let rounded = b.binary_scalar(BinaryFn::Add, bits, f64::from(carry))?;
    let exponent = b.binary_scalar(BinaryFn::ShiftRight, rounded, 23.0)?;
    let back = b.binary_scalar(BinaryFn::Sub, exponent, 23.0)?;
    let exponent = b.select_broadcast(small, back, exponent)?;
    let low = b.binary_scalar(BinaryFn::Max, exponent, 0.0)?;
    let clamped = b.binary_scalar(BinaryFn::Min, low, 254.0)?;
    let nan = b.unary(UnaryFn::IsNan, wide)?;
    let undefined = match saturate {
        true => nan,
        false => {
            let outside = b.compare_broadcast(CompareFn::Ne, clamped, exponent)?;
            b.binary_broadcast(BinaryFn::Or, nan, outside)?
        }
    };
    let not_a_number = b.scalar(DType::I32, 255.0)?;
    let code = b.select_broadcast(undefined, not_a_number, clamped)?;
    let code = b.cast(code, DType::U8)?;
    Ok(b.bit_cast(code, to)?)
}

/// What a cast that does not saturate makes of numbers that are too large.
struct Overflow {
    /// Magnitudes above this one are too large.
    largest: f64,
    /// `largest` itself is too large: between it and the largest number, ties go up.
    inclusive: bool,
    /// The codes of positive and of negative results.
    codes: [u8; 2],
}

impl Overflow {
    fn of(to: DType) -> Option<Self> {
        let (largest, inclusive, codes) = match to {
            DType::F8E4M3FN => (464.0, false, [0x7f, 0xff]),
            DType::F8E4M3FNUZ => (248.0, true, [0x80, 0x80]),
            DType::F8E5M2 => (61440.0, true, [0x7c, 0xfc]),
            DType::F8E5M2FNUZ => (61440.0, true, [0x80, 0x80]),
            _ => return None,
        };
        Some(Self { largest, inclusive, codes })
    }

    fn replace(&self, b: &mut Builder<'_>, x: ValueId, result: ValueId, to: DType) -> Outcome {
        let from = b.ty(x).dtype;
        // These hold their numbers, and the limits, exactly.
        let wide = if from.is_float() { from } else { DType::F64 };
        let x = b.cast(x, wide)?;
        let magnitude = b.unary(UnaryFn::Abs, x)?;
        let limit = b.scalar_like(x, self.largest)?;
        let function = if self.inclusive { CompareFn::Ge } else { CompareFn::Gt };
        let over = b.compare_broadcast(function, magnitude, limit)?;
        let zero = b.scalar_like(x, 0.0)?;
        let negative = b.compare_broadcast(CompareFn::Lt, x, zero)?;
        let [above, below] = self.codes.map(|code| Tensor::new(to, Vec::new(), Bytes::from(vec![code])));
        let constant = |b: &mut Builder<'_>, tensor: Result<Tensor, _>| match tensor {
            Ok(tensor) => Ok(b.constant(tensor)?),
            Err(_) => invalid("a code of eight bits is not one byte"),
        };
        let (above, below) = (constant(b, above)?, constant(b, below)?);
        let outside = b.select_broadcast(negative, below, above)?;
        Ok(b.select_broadcast(over, outside, result)?)
    }
}
