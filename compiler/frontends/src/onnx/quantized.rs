//! Operators that compute on quantised tensors: integers with a scale and a zero point each.
//!
//! Products and convolutions are summed exactly in i32 and scaled once; what is not linear is computed in f32 in
//! between. The order of float operations is onnxruntime's, so that results agree to the bit.

mod convolution;
mod embedding;
mod pointwise;
mod pooling;
mod product;

use ired_graph::{BinaryFn, Builder, DType, Dim, Offset, UnaryFn, ValueId};

use super::call::{Call, Outcome, unsupported};
pub(super) use convolution::{conv_integer, qlinear_conv};
pub(super) use embedding::embed_layer_norm;
pub(super) use pointwise::{
    qlinear_add, qlinear_concat, qlinear_leaky_relu, qlinear_mul, qlinear_sigmoid, qlinear_softmax,
    qlinear_where,
};
pub(super) use pooling::{qlinear_average_pool, qlinear_global_average_pool, qlinear_reduce_mean};
pub(super) use product::{
    Integers, Places, dynamic_quantize_matmul, matmul_integer, matmul_integer_to_float, product_in_f32,
    qgemm, qlinear_matmul,
};

/// A quantised tensor: `(values - zero) * scale`.
#[derive(Clone, Copy)]
struct Quantized {
    values: ValueId,
    /// In f32.
    scale: ValueId,
    zero: Option<ValueId>,
}

impl Quantized {
    /// Inputs `at`, `at + 1` and `at + 2` of a node: values, scale, zero point, which may be missing.
    fn input(b: &mut Builder<'_>, call: &Call<'_>, at: usize) -> Outcome<Self> {
        let (values, scale) = (call.input(at)?, call.input(at + 1)?);
        Ok(Self { values, scale: scale_of(b, scale)?, zero: zero_of(b, call.optional(at + 2))? })
    }

    fn offset(self) -> Offset {
        Offset { values: self.values, zero: self.zero }
    }

    /// The values less their zero point, in f32.
    fn centred(self, b: &mut Builder<'_>) -> Outcome {
        let wide = b.cast(self.values, DType::F32)?;
        let Some(zero) = self.zero else { return Ok(wide) };
        let zero = b.cast(zero, DType::F32)?;
        Ok(b.binary_broadcast(BinaryFn::Sub, wide, zero)?)
    }

    /// The numbers that it stands for.
    fn real(self, b: &mut Builder<'_>) -> Outcome {
        let centred = self.centred(b)?;
        Ok(b.binary_broadcast(BinaryFn::Mul, centred, self.scale)?)
    }
}

/// How a result is quantised.
#[derive(Clone, Copy)]
struct Target {
    scale: ValueId,
    zero: Option<ValueId>,
    dtype: DType,
}

impl Target {
    /// Inputs `at` and `at + 1` of a node: scale and zero point, which gives the type; without one, `default`.
    fn input(b: &mut Builder<'_>, call: &Call<'_>, at: usize, default: DType) -> Outcome<Self> {
        let zero = call.optional(at + 1);
        let dtype = zero.map_or(default, |zero| b.ty(zero).dtype);
        let scale = call.input(at)?;
        Ok(Self { scale: scale_of(b, scale)?, zero: zero_of(b, zero)?, dtype })
    }

    /// `round(x / scale) + zero`, saturating. Floats round to what their type has instead of to whole numbers.
    fn quantize(self, b: &mut Builder<'_>, x: ValueId) -> Outcome {
        let quotient = b.binary_broadcast(BinaryFn::Div, x, self.scale)?;
        let mut rounded = match self.dtype.is_integer() {
            true => b.unary(UnaryFn::Round, quotient)?,
            false => quotient,
        };
        if let Some(zero) = self.zero {
            let zero = b.cast(zero, DType::F32)?;
            rounded = b.binary_broadcast(BinaryFn::Add, rounded, zero)?;
        }
        Ok(b.cast(rounded, self.dtype)?)
    }

    /// The zero point in f32, 0 without one.
    fn zero_in_f32(self, b: &mut Builder<'_>) -> Outcome {
        match self.zero {
            Some(zero) => Ok(b.cast(zero, DType::F32)?),
            None => Ok(b.scalar(DType::F32, 0.0)?),
        }
    }
}

/// In f32, and a scalar where it is one number.
fn scale_of(b: &mut Builder<'_>, scale: ValueId) -> Outcome {
    let scale = b.cast(scale, DType::F32)?;
    one_as_scalar(b, scale)
}

fn zero_of(b: &mut Builder<'_>, zero: Option<ValueId>) -> Outcome<Option<ValueId>> {
    zero.map(|zero| one_as_scalar(b, zero)).transpose()
}

fn one_as_scalar(b: &mut Builder<'_>, x: ValueId) -> Outcome {
    match b.ty(x).elements() == Dim::constant(1) {
        true => Ok(b.reshape(x, Vec::new())?),
        false => Ok(x),
    }
}

/// Refuses operands that are not of 8-bit integers.
fn check_bytes(b: &Builder<'_>, operands: &[ValueId]) -> Outcome<()> {
    let other = |value: &ValueId| Some(b.ty(*value).dtype).filter(|d| !matches!(d, DType::I8 | DType::U8));
    match operands.iter().find_map(other) {
        None => Ok(()),
        Some(dtype) => unsupported(
            format!("an operand of {dtype}; computed is on i8 and u8"),
            "quantise to 8-bit integers, or dequantise in front of the operator",
        ),
    }
}
