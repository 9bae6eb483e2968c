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
    let of_floats = [lhs.values, rhs.values].iter().any(|side| b.ty(*side).dtype.is_narrow_float());
    if !of_floats {
        check_bytes(b, &[lhs.values, rhs.values])?;
    }
    let mut target = Target::input(b, call, 6, b.ty(lhs.values).dtype)?;
    lhs.scale = by_row(b, lhs.scale)?;
    lhs.zero = lhs.zero.map(|zero| by_row(b, zero)).transpose()?;
    target.scale = by_row(b, target.scale)?;
    target.zero = target.zero.map(|zero| by_row(b, zero)).transpose()?;
    if of_floats {
        let (lhs, rhs) = (lhs.real(b)?, rhs.real(b)?);
        let product = b.matmul_broadcast(lhs, rhs)?;
        return target.quantize(b, product);
    }
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
    let places = Places { values: [0, 1], scales: [2, 3], zeros: [4, 5], bias: 6 };
    let result = product_in_f32(b, call, places)?;
    Ok(b.cast(result, call.input_type(b, 3)?.dtype)?)
}

/// Which inputs of a node a product of two quantised sides is made of.
pub(crate) struct Places {
    pub(crate) values: [usize; 2],
    pub(crate) scales: [usize; 2],
    /// Of zero points, which may be missing.
    pub(crate) zeros: [usize; 2],
    /// Of a bias in floats, which may be missing.
    pub(crate) bias: usize,
}

/// A product of 8-bit integers, scaled, plus a bias, in f32.
pub(crate) fn product_in_f32(b: &mut Builder<'_>, call: &Call<'_>, places: Places) -> Outcome {
    let mut sides = Vec::with_capacity(2);
    for side in 0..2 {
        let (values, scale) = (call.input(places.values[side])?, call.input(places.scales[side])?);
        sides.push(Integers::new(b, values, scale, call.optional(places.zeros[side]))?);
    }
    scaled_product(b, sides[0].0, sides[1].0, call.optional(places.bias))
}

/// As [`matmul_integer_to_float`], of real numbers that are quantised here.
pub(crate) fn dynamic_quantize_matmul(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    let (x, values, scale) = (call.input(0)?, call.input(1)?, call.input(2)?);
    let rhs = Integers::new(b, values, scale, call.optional(3))?;
    rhs.multiply(b, x, call.optional(4))
}

/// A matrix of 8-bit integers with a scale and a zero point, each one number or one a column.
#[derive(Clone, Copy)]
pub(crate) struct Integers(Quantized);

impl Integers {
    pub(crate) fn new(
        b: &mut Builder<'_>,
        values: ValueId,
        scale: ValueId,
        zero: Option<ValueId>,
    ) -> Outcome<Self> {
        Ok(Self(Quantized { values, scale: scale_of(b, scale)?, zero: zero_of(b, zero)? }))
    }

    /// The real numbers `x`, quantised to u8 for it, times the matrix, plus a bias.
    pub(crate) fn multiply(self, b: &mut Builder<'_>, x: ValueId, bias: Option<ValueId>) -> Outcome {
        let [values, scale, zero] = quantization::quantize_to_range(b, x)?;
        scaled_product(b, Quantized { values, scale, zero: Some(zero) }, self.0, bias)
    }
}

fn scaled_product(b: &mut Builder<'_>, lhs: Quantized, rhs: Quantized, bias: Option<ValueId>) -> Outcome {
    check_bytes(b, &[lhs.values, rhs.values])?;
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
