//! Operations on elements that share an index: operands of one shape, result of that shape.

use super::ShapeError;
use super::check::Operands;
use super::interpret::Call;
use crate::{BinaryFn, CompareFn, DType, Tensor, TensorType, UnaryFn};

impl UnaryFn {
    /// Whether the function is defined on elements of `dtype`.
    pub const fn accepts(self, dtype: DType) -> bool {
        match self {
            Self::Not => matches!(dtype, DType::Bool),
            Self::BitNot => dtype.is_integer(),
            Self::Abs | Self::Sign | Self::Neg => dtype.is_float() || dtype.is_integer(),
            Self::Real | Self::Imag => dtype.is_complex(),
            _ => dtype.is_float(),
        }
    }
}

impl BinaryFn {
    /// Whether the function is defined on elements of `dtype`.
    pub const fn accepts(self, dtype: DType) -> bool {
        match self {
            Self::And | Self::Or | Self::Xor => dtype.is_integer() || matches!(dtype, DType::Bool),
            Self::ShiftLeft | Self::ShiftRight => dtype.is_integer(),
            Self::Complex => dtype.of_parts().is_some(),
            _ => dtype.is_float() || dtype.is_integer(),
        }
    }
}

pub(super) fn infer_unary(operands: &Operands<'_>, function: UnaryFn) -> Result<TensorType, ShapeError> {
    let [x] = operands.exactly()?;
    operands.dtype(0, function.accepts(x.dtype), "a type the function is defined on")?;
    let dtype = match function {
        UnaryFn::IsNan | UnaryFn::IsInf => DType::Bool,
        UnaryFn::Real | UnaryFn::Imag => x.dtype.part().unwrap_or(x.dtype),
        _ => x.dtype,
    };
    Ok(TensorType::new(dtype, x.shape.clone()))
}

pub(super) fn infer_binary(operands: &Operands<'_>, function: BinaryFn) -> Result<TensorType, ShapeError> {
    let [lhs, _] = operands.exactly()?;
    operands.dtype(0, function.accepts(lhs.dtype), "a type the function is defined on")?;
    operands.same_dtype(1, 0)?;
    operands.same_shape(1, 0)?;
    let dtype = match function {
        BinaryFn::Complex => lhs.dtype.of_parts().unwrap_or(lhs.dtype),
        _ => lhs.dtype,
    };
    Ok(TensorType::new(dtype, lhs.shape.clone()))
}

pub(super) fn infer_compare(operands: &Operands<'_>, function: CompareFn) -> Result<TensorType, ShapeError> {
    let [lhs, _] = operands.exactly()?;
    let ordered = !matches!(function, CompareFn::Eq | CompareFn::Ne);
    let computed = !lhs.dtype.is_narrow_float() && !lhs.dtype.is_complex();
    let comparable = computed && (!ordered || !matches!(lhs.dtype, DType::Bool | DType::String));
    operands.dtype(0, comparable, "a number type that can be computed with")?;
    operands.same_dtype(1, 0)?;
    operands.same_shape(1, 0)?;
    Ok(TensorType::new(DType::Bool, lhs.shape.clone()))
}

pub(super) fn infer_select(operands: &Operands<'_>) -> Result<TensorType, ShapeError> {
    let [condition, if_true, _] = operands.exactly()?;
    operands.dtype(0, condition.dtype == DType::Bool, "bool")?;
    operands.same_dtype(2, 1)?;
    operands.same_shape(1, 0)?;
    operands.same_shape(2, 0)?;
    Ok(if_true.clone())
}

pub(super) fn infer_cast(operands: &Operands<'_>, to: DType) -> Result<TensorType, ShapeError> {
    let [x] = operands.exactly()?;
    let casts = |dtype: DType| dtype != DType::String && !dtype.is_complex();
    operands.dtype(0, casts(x.dtype) || to == x.dtype, "a type that casts by value")?;
    if to == DType::String && x.dtype != to {
        return Err(operands.attribute("dtype", "is string, which numbers become by a host function"));
    }
    if !casts(to) && x.dtype != to {
        return Err(operands.attribute("dtype", format!("is {to}, which is put together from its parts")));
    }
    Ok(TensorType::new(to, x.shape.clone()))
}

pub(super) fn infer_bit_cast(operands: &Operands<'_>, to: DType) -> Result<TensorType, ShapeError> {
    let [x] = operands.exactly()?;
    let string = x.dtype == DType::String || to == DType::String;
    operands.dtype(0, x.dtype.bits() == to.bits() && !string, "a type of as many bits as the result's")?;
    Ok(TensorType::new(to, x.shape.clone()))
}

pub(super) fn compute_unary(call: &Call<'_>, function: UnaryFn) -> Tensor {
    let x = call.x();
    if let (UnaryFn::Real | UnaryFn::Imag, Some(part)) = (function, x.dtype().part()) {
        let skipped = if function == UnaryFn::Imag { part.bits() } else { 0 };
        let parts: Vec<u128> = x.to_bits().into_iter().map(|bits| bits >> skipped).collect();
        return call.bits(&parts);
    }
    if !x.dtype().is_float() {
        let values: Vec<i128> = x.to_integers().into_iter().map(|v| integer_unary(function, v)).collect();
        return call.integers(&values);
    }
    let values: Vec<f64> = x.to_f64s().into_iter().map(|v| float_unary(function, v)).collect();
    call.floats(&values)
}

fn integer_unary(function: UnaryFn, v: i128) -> i128 {
    match function {
        UnaryFn::Abs => v.abs(),
        UnaryFn::Neg => -v,
        UnaryFn::Sign => v.signum(),
        UnaryFn::BitNot => !v,
        // On bools, which is all that is left for what is no float.
        _ => 1 - v,
    }
}

fn float_unary(function: UnaryFn, v: f64) -> f64 {
    match function {
        UnaryFn::Abs => v.abs(),
        UnaryFn::Neg => -v,
        UnaryFn::Sign if v == 0.0 || v.is_nan() => v,
        UnaryFn::Sign => v.signum(),
        UnaryFn::Reciprocal => v.recip(),
        UnaryFn::Sqrt => v.sqrt(),
        UnaryFn::Rsqrt => v.sqrt().recip(),
        UnaryFn::Exp => v.exp(),
        UnaryFn::Log => v.ln(),
        UnaryFn::Sin => v.sin(),
        UnaryFn::Cos => v.cos(),
        UnaryFn::Tan => v.tan(),
        UnaryFn::Asin => v.asin(),
        UnaryFn::Acos => v.acos(),
        UnaryFn::Atan => v.atan(),
        UnaryFn::Sinh => v.sinh(),
        UnaryFn::Cosh => v.cosh(),
        UnaryFn::Tanh => v.tanh(),
        UnaryFn::Asinh => v.asinh(),
        UnaryFn::Acosh => v.acosh(),
        UnaryFn::Atanh => v.atanh(),
        UnaryFn::Erf => erf(v),
        UnaryFn::Sigmoid => ((-v).exp() + 1.0).recip(),
        UnaryFn::Floor => v.floor(),
        UnaryFn::Ceil => v.ceil(),
        UnaryFn::Round => v.round_ties_even(),
        UnaryFn::IsNan => f64::from(v.is_nan()),
        UnaryFn::IsInf => f64::from(v.is_infinite()),
        // Not on floats.
        UnaryFn::Not | UnaryFn::BitNot | UnaryFn::Real | UnaryFn::Imag => v,
    }
}

pub(super) fn compute_binary(call: &Call<'_>, function: BinaryFn) -> Tensor {
    let [lhs, rhs] = [call.operands[0], call.operands[1]];
    if function == BinaryFn::Complex {
        let parts = lhs.to_bits().into_iter().zip(rhs.to_bits());
        let joined: Vec<u128> = parts.map(|(re, im)| im << lhs.dtype().bits() | re).collect();
        return call.bits(&joined);
    }
    if !lhs.dtype().is_float() {
        let bits = lhs.dtype().bits() as i128;
        let pairs = lhs.to_integers().into_iter().zip(rhs.to_integers());
        let values: Vec<i128> = pairs.map(|(l, r)| integer_binary(function, l, r, bits)).collect();
        return call.integers(&values);
    }
    let pairs = lhs.to_f64s().into_iter().zip(rhs.to_f64s());
    let values: Vec<f64> = pairs.map(|(l, r)| float_binary(function, l, r)).collect();
    call.floats(&values)
}

/// Exact in 128 bits where the result is kept whole; otherwise right in the low bits, which are what is stored.
fn integer_binary(function: BinaryFn, l: i128, r: i128, bits: i128) -> i128 {
    match function {
        BinaryFn::Add => l + r,
        BinaryFn::Sub => l - r,
        BinaryFn::Mul => l.wrapping_mul(r),
        BinaryFn::Div | BinaryFn::Rem | BinaryFn::Mod if r == 0 => 0,
        BinaryFn::Div => l / r,
        BinaryFn::Rem => l % r,
        BinaryFn::Mod => l - r * floor_quotient(l, r),
        BinaryFn::Pow => integer_power(l, r),
        BinaryFn::Max => l.max(r),
        BinaryFn::Min => l.min(r),
        BinaryFn::And => l & r,
        BinaryFn::Or => l | r,
        BinaryFn::Xor => l ^ r,
        BinaryFn::ShiftLeft if (0..bits).contains(&r) => l << r,
        BinaryFn::ShiftLeft => 0,
        BinaryFn::ShiftRight => l >> if (0..bits).contains(&r) { r } else { bits },
        // Not on integers.
        BinaryFn::Complex => l,
    }
}

fn floor_quotient(l: i128, r: i128) -> i128 {
    let quotient = l / r;
    if l % r != 0 && (l < 0) != (r < 0) { quotient - 1 } else { quotient }
}

fn integer_power(base: i128, exponent: i128) -> i128 {
    if exponent < 0 {
        return match base {
            1 => 1,
            -1 if exponent % 2 == 0 => 1,
            -1 => -1,
            _ => 0,
        };
    }
    let (mut result, mut square, mut left) = (1i128, base, exponent);
    while left > 0 {
        if left % 2 == 1 {
            result = result.wrapping_mul(square);
        }
        square = square.wrapping_mul(square);
        left /= 2;
    }
    result
}

fn float_binary(function: BinaryFn, l: f64, r: f64) -> f64 {
    match function {
        BinaryFn::Add => l + r,
        BinaryFn::Sub => l - r,
        BinaryFn::Mul => l * r,
        BinaryFn::Div => l / r,
        BinaryFn::Rem => l % r,
        BinaryFn::Mod => {
            let remainder = l % r;
            if remainder != 0.0 && (remainder < 0.0) != (r < 0.0) { remainder + r } else { remainder }
        }
        BinaryFn::Pow => l.powf(r),
        BinaryFn::Max => larger(l, r),
        BinaryFn::Min => -larger(-l, -r),
        // Not on floats.
        BinaryFn::And | BinaryFn::Or | BinaryFn::Xor => l,
        BinaryFn::ShiftLeft | BinaryFn::ShiftRight | BinaryFn::Complex => l,
    }
}

/// The larger, NaN if either is.
pub(super) fn larger(l: f64, r: f64) -> f64 {
    if l.is_nan() || l > r { l } else { r }
}

pub(super) fn compute_compare(call: &Call<'_>, function: CompareFn) -> Tensor {
    let [lhs, rhs] = [call.operands[0], call.operands[1]];
    let values: Vec<bool> = match lhs.dtype().is_float() {
        true => lhs.to_f64s().iter().zip(&rhs.to_f64s()).map(|(l, r)| function.holds(l, r)).collect(),
        false => {
            lhs.to_integers().iter().zip(&rhs.to_integers()).map(|(l, r)| function.holds(l, r)).collect()
        }
    };
    Tensor::from_bools(call.shape, &values)
}

impl CompareFn {
    fn holds<T: PartialOrd>(self, l: &T, r: &T) -> bool {
        match self {
            Self::Eq => l == r,
            Self::Ne => l != r,
            Self::Lt => l < r,
            Self::Le => l <= r,
            Self::Gt => l > r,
            Self::Ge => l >= r,
        }
    }
}

pub(super) fn compute_select(call: &Call<'_>) -> Tensor {
    let (if_true, if_false) = (call.operands[1].to_bits(), call.operands[2].to_bits());
    let choices = call.x().to_bools().into_iter().zip(if_true.into_iter().zip(if_false));
    let values: Vec<u128> = choices.map(|(condition, (t, f))| if condition { t } else { f }).collect();
    call.bits(&values)
}

pub(super) fn compute_cast(call: &Call<'_>) -> Tensor {
    if call.x().dtype() == call.ty.dtype {
        return call.x().clone();
    }
    match call.x().dtype().holds_integers() {
        true => call.integers(&call.x().to_integers()),
        false => call.floats(&call.x().to_f64s()),
    }
}

pub(super) fn compute_bit_cast(call: &Call<'_>) -> Tensor {
    let bits = call.x().to_bits();
    match call.ty.dtype {
        DType::Bool => Tensor::from_bools(call.shape, &bits.iter().map(|&b| b != 0).collect::<Vec<_>>()),
        _ => call.bits(&bits),
    }
}

/// The error function to about one unit in the last place of f64.
fn erf(x: f64) -> f64 {
    let magnitude = x.abs();
    let value = match magnitude {
        m if m.is_nan() => return x,
        m if m < 2.5 => erf_series(m),
        m if m < 6.0 => 1.0 - erfc_fraction(m),
        _ => 1.0,
    };
    value.copysign(x)
}

/// `2/sqrt(pi) * exp(-x²) * Σ 2^n x^(2n+1) / (1·3·…·(2n+1))`, in which every term is positive.
fn erf_series(x: f64) -> f64 {
    let (mut term, mut sum, mut n) = (x, x, 0.0);
    while term > sum * 1e-17 {
        n += 1.0;
        term *= 2.0 * x * x / (2.0 * n + 1.0);
        sum += term;
    }
    std::f64::consts::FRAC_2_SQRT_PI * (-x * x).exp() * sum
}

/// The continued fraction of `erfc`, from its 60th level up.
fn erfc_fraction(x: f64) -> f64 {
    let tail = (1..=60).rev().fold(0.0, |tail, k| f64::from(k) / 2.0 / (x + tail));
    (-x * x).exp() / (x + tail) * std::f64::consts::FRAC_2_SQRT_PI / 2.0
}
