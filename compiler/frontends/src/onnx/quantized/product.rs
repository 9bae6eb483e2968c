//! Matrix products of quantised operands.

use ired_graph::{BinaryFn, Builder, DType, Dim, Offset, ValueId};

use super::super::call::{Call, Outcome, invalid};
use super::super::quantization;
use super::{Quantized, Target, check_bytes, scale_of, zero_of};

/// A product of 8-bit integers in i32, each side less its zero point: a scalar, or one a row and one a column.
pub(crate) fn matmul_integer(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    let (lhs, rhs) = (call.input(0)?, call.input(1)?);
    let (lhs_zero, rhs_zero) = (zero_of(b, call.optional(2))?, zero_of(b, call.optional(3))?);
    let lhs_zero = lhs_zero.map(|zero| by_row(b, zero)).transpose()?;
    check_bytes(b, &[lhs, rhs])?;
    let (lhs, rhs) = (Offset { values: lhs, zero: lhs_zero }, Offset { values: rhs, zero: rhs_zero });
    Ok(b.matmul_integer(lhs, rhs)?)
}

/// `a`, `b` and `y` with a scale and a zero point each.
pub(crate) fn qlinear_matmul(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    let (mut lhs, rhs) = (Quantized::input(b, call, 0)?, Quantized::input(b, call, 3)?);
    check_bytes(b, &[lhs.values, rhs.values])?;
    let mut target = Target::input(b, call, 6, b.ty(lhs.values).dtype)?;
    lhs.scale = by_row(b, lhs.scale)?;
    lhs.zero = lhs.zero.map(|zero| by_row(b, zero)).transpose()?;
    target.scale = by_row(b, target.scale)?;
    target.zero = target.zero.map(|zero| by_row(b, zero)).transpose()?;
    let product = b.matmul_integer(lhs.offset(), rhs.offset())?;
    let scale = b.binary_broadcast(BinaryFn::Mul, lhs.scale, rhs.scale)?;
    let scale = b.binary_broadcast(BinaryFn::Div, scale, target.scale)?;
    Ok(b.requantize(product, scale, target.zero, target.dtype)?)
}

/// `alpha * (op(a) * op(b) + c)`, quantised if a scale for it is given, else in f32. `c` is in i32, of the product's scale.
pub(crate) fn qgemm(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    let (mut lhs, mut rhs) = (Quantized::input(b, call, 0)?, Quantized::input(b, call, 3)?);
    check_bytes(b, &[lhs.values, rhs.values])?;
    for (index, side, name) in [(0, &mut lhs, "transA"), (3, &mut rhs, "transB")] {
        if b.ty(side.values).rank() != 2 {
            let found = b.ty(side.values).rank();
            return invalid(format!("input {index} is of rank {found}; expected a matrix"));
        }
        if call.attributes.flag(name, false)? {
            side.values = b.transpose(side.values, vec![1, 0])?;
        }
    }
    let mut product = b.matmul_integer(lhs.offset(), rhs.offset())?;
    if let Some(c) = call.optional(6) {
        let c = b.broadcast_to(c, b.ty(product).shape.clone())?;
        product = b.binary_broadcast(BinaryFn::Add, product, c)?;
    }
    let alpha = call.attributes.float_or("alpha", 1.0)?;
    let scale = b.binary_scalar(BinaryFn::Mul, lhs.scale, alpha)?;
    let scale = b.binary_broadcast(BinaryFn::Mul, scale, rhs.scale)?;
    if call.optional(7).is_none() {
        return to_real(b, product, scale, None);
    }
    let target = Target::input(b, call, 7, b.ty(lhs.values).dtype)?;
    let scale = b.binary_broadcast(BinaryFn::Div, scale, target.scale)?;
    Ok(b.requantize(product, scale, target.zero, target.dtype)?)
}

/// A product of 8-bit integers in f32, with a bias.
pub(crate) fn matmul_integer_to_float(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    let (lhs, rhs) = (call.input(0)?, call.input(1)?);
    let (lhs_scale, rhs_scale) = (call.input(2)?, call.input(3)?);
    let lhs = Quantized { values: lhs, scale: scale_of(b, lhs_scale)?, zero: zero_of(b, call.optional(4))? };
    let to = b.ty(rhs_scale).dtype;
    let result = scaled_product(b, lhs, rhs, rhs_scale, call.optional(5), call.optional(6))?;
    Ok(b.cast(result, to)?)
}

/// As [`matmul_integer_to_float`], of real numbers that are quantised here.
pub(crate) fn dynamic_quantize_matmul(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    let (x, rhs, rhs_scale) = (call.input(0)?, call.input(1)?, call.input(2)?);
    let [values, scale, zero] = quantization::quantize_to_range(b, x)?;
    let lhs = Quantized { values, scale, zero: Some(zero) };
    scaled_product(b, lhs, rhs, rhs_scale, call.optional(3), call.optional(4))
}

fn scaled_product(
    b: &mut Builder<'_>,
    lhs: Quantized,
    rhs: ValueId,
    rhs_scale: ValueId,
    rhs_zero: Option<ValueId>,
    bias: Option<ValueId>,
) -> Outcome {
    check_bytes(b, &[lhs.values, rhs])?;
    let rhs = Quantized { values: rhs, scale: scale_of(b, rhs_scale)?, zero: zero_of(b, rhs_zero)? };
    let product = b.matmul_integer(lhs.offset(), rhs.offset())?;
    let scale = b.binary_broadcast(BinaryFn::Mul, lhs.scale, rhs.scale)?;
    to_real(b, product, scale, bias)
}

fn to_real(b: &mut Builder<'_>, product: ValueId, scale: ValueId, bias: Option<ValueId>) -> Outcome {
    let real = b.cast(product, DType::F32)?;
    let scaled = b.binary_broadcast(BinaryFn::Mul, real, scale)?;
    let Some(bias) = bias else { return Ok(scaled) };
    let bias = b.cast(bias, DType::F32)?;
    Ok(b.binary_broadcast(BinaryFn::Add, scaled, bias)?)
}

/// One number a row as a column, so that it broadcasts along the rows.
fn by_row(b: &mut Builder<'_>, rows: ValueId) -> Outcome {
    match b.ty(rows).shape.as_slice() {
        [count] if *count != Dim::constant(1) => Ok(b.unsqueeze(rows, &[1])?),
        _ => Ok(rows),
    }
}
