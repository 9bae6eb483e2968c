//! From one element type to another.

use bytes::Bytes;
use ired_graph::{Builder, CompareFn, DType, Tensor, UnaryFn, ValueId};

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

fn cast_as_asked(b: &mut Builder<'_>, call: &Call<'_>, to: DType) -> Outcome {
    let saturate = call.attributes.flag("saturate", true)?;
    let rounding = call.attributes.text("round_mode")?.unwrap_or("up");
    if to == DType::F8E8M0 && !(saturate && rounding == "up") {
        return unsupported(
            format!("rounding `{rounding}`, saturating: {saturate}"),
            "round up and saturate",
        );
    }
    cast_to(b, call.input(0)?, to, saturate)
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
