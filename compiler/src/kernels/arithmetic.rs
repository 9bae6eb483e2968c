//! Elementwise functions in registers, for every element type; and the way between registers and memory.
//!
//! Registers hold f16 and bf16 as f32, bool as one bit, and what has less than eight bits as eight, 8-bit and
//! 4-bit floats as their code; the rest as they are.
//! Chains of f16 or bf16 operations round when stored or cast, not in between.

mod cast;

use ired_graph::{BinaryFn, CompareFn, DType, UnaryFn};
use ired_mlir::{Builder, Compare, FloatCompare, Type, Value};

use super::math::Math;
pub(super) use cast::{bit_cast, cast};

/// Type of one element in a register.
pub(super) fn register_type<'m>(b: &Builder<'m>, dtype: DType) -> Type<'m> {
    match dtype {
        DType::Bool => b.int_type(1),
        DType::F16 | DType::BF16 | DType::F32 => b.f32_type(),
        DType::F64 => b.f64_type(),
        _ => b.int_type(dtype.bits().max(8)),
    }
}

/// Bits of one element in a register, for the number of lanes.
pub(super) const fn register_bits(dtype: DType) -> usize {
    match dtype {
        DType::F16 | DType::BF16 => 32,
        _ => dtype.bits(),
    }
}

/// Type of one element in memory; of a byte of several for types of less than eight bits. f16 and bf16 are
/// their bits.
pub(super) fn storage_type<'m>(b: &Builder<'m>, dtype: DType) -> Type<'m> {
    match dtype {
        DType::F32 => b.f32_type(),
        DType::F64 => b.f64_type(),
        _ => b.int_type(dtype.bits().max(8)),
    }
}

/// From memory to a register. Elements of less than eight bits come already taken out of their byte.
pub(super) fn from_storage<'m>(b: &Builder<'m>, dtype: DType, x: Value<'m>) -> Value<'m> {
    match dtype {
        DType::Bool => b.cmpi(Compare::Ne, x, b.integer(x.ty(), 0)),
        DType::F16 => b.extf(b.bitcast(x, b.f16_type()), b.f32_type()),
        DType::BF16 => {
            let wide = b.extui(x, b.int_type(32));
            b.bitcast(b.shli(wide, b.integer(wide.ty(), 16)), b.f32_type())
        }
        _ => x,
    }
}

/// From a register to memory, rounding f16 and bf16 half to even.
pub(super) fn to_storage<'m>(b: &Builder<'m>, dtype: DType, x: Value<'m>) -> Value<'m> {
    match dtype {
        DType::Bool => b.extui(x, b.int_type(8)),
        DType::F16 => b.bitcast(b.truncf(x, b.f16_type()), b.int_type(16)),
        DType::BF16 => {
            // Not by the instruction, which targets without it would replace by a library call.
            let bits = b.bitcast(x, b.int_type(32));
            let c = |value: i64| b.integer(bits.ty(), value);
            let lowest_kept = b.andi(b.shrui(bits, c(16)), c(1));
            let rounded = b.shrui(b.addi(bits, b.addi(lowest_kept, c(0x7fff))), c(16));
            let quiet = b.ori(b.shrui(bits, c(16)), c(0x40));
            let nan = b.cmpf(FloatCompare::Unordered, x, x);
            b.trunci(b.select(nan, quiet, rounded), b.int_type(16))
        }
        _ => x,
    }
}

pub(super) fn unary<'m>(b: &Builder<'m>, function: UnaryFn, dtype: DType, x: Value<'m>) -> Option<Value<'m>> {
    if dtype.is_float() { unary_float(b, function, x) } else { unary_integer(b, function, dtype, x) }
}

fn unary_float<'m>(b: &Builder<'m>, function: UnaryFn, x: Value<'m>) -> Option<Value<'m>> {
    let math = Math::new(b, x.ty());
    let c = |value: f64| b.float(x.ty(), value);
    Some(match function {
        UnaryFn::Abs => b.absf(x),
        UnaryFn::Neg => b.negf(x),
        UnaryFn::Sign => {
            let negative = b.select(b.cmpf(FloatCompare::Lt, x, c(0.0)), c(-1.0), x);
            b.select(b.cmpf(FloatCompare::Gt, x, c(0.0)), c(1.0), negative)
        }
        UnaryFn::Reciprocal => b.divf(c(1.0), x),
        UnaryFn::Sqrt => b.sqrt(x),
        UnaryFn::Rsqrt => b.divf(c(1.0), b.sqrt(x)),
        UnaryFn::Exp => math.exp(x),
        UnaryFn::Log => math.log(x),
        UnaryFn::Sin => math.sin(x),
        UnaryFn::Cos => math.cos(x),
        UnaryFn::Tan => math.tan(x),
        UnaryFn::Asin => math.asin(x),
        UnaryFn::Acos => math.acos(x),
        UnaryFn::Atan => math.atan(x),
        UnaryFn::Sinh => math.sinh(x),
        UnaryFn::Cosh => math.cosh(x),
        UnaryFn::Tanh => math.tanh(x),
        UnaryFn::Asinh => math.asinh(x),
        UnaryFn::Acosh => math.acosh(x),
        UnaryFn::Atanh => math.atanh(x),
        UnaryFn::Erf => math.erf(x),
        UnaryFn::Sigmoid => math.sigmoid(x),
        UnaryFn::Floor => b.floor(x),
        UnaryFn::Ceil => b.ceil(x),
        UnaryFn::Round => b.round_even(x),
        UnaryFn::IsNan => b.cmpf(FloatCompare::Unordered, x, x),
        UnaryFn::IsInf => b.cmpf(FloatCompare::Eq, b.absf(x), c(f64::INFINITY)),
        _ => return None,
    })
}

fn unary_integer<'m>(b: &Builder<'m>, function: UnaryFn, dtype: DType, x: Value<'m>) -> Option<Value<'m>> {
    let c = |value: i64| b.integer(x.ty(), value);
    Some(match function {
        UnaryFn::Not if dtype == DType::Bool => b.xori(x, c(1)),
        UnaryFn::BitNot if dtype == DType::Bool => b.xori(x, c(1)),
        UnaryFn::BitNot => b.xori(x, c(-1)),
        UnaryFn::Abs if dtype.is_signed_integer() => {
            b.select(b.cmpi(Compare::SignedLt, x, c(0)), b.subi(c(0), x), x)
        }
        UnaryFn::Abs => x,
        UnaryFn::Neg if dtype.is_integer() => b.subi(c(0), x),
        UnaryFn::Sign if dtype.is_signed_integer() => {
            let negative = b.select(b.cmpi(Compare::SignedLt, x, c(0)), c(-1), c(0));
            b.select(b.cmpi(Compare::SignedGt, x, c(0)), c(1), negative)
        }
        UnaryFn::Sign if dtype.is_integer() => b.select(b.cmpi(Compare::Ne, x, c(0)), c(1), c(0)),
        UnaryFn::Floor | UnaryFn::Ceil | UnaryFn::Round if dtype.is_integer() => x,
        UnaryFn::Real | UnaryFn::Imag => {
            let part = dtype.part()?;
            let skipped = if function == UnaryFn::Imag { part.bits() as i64 } else { 0 };
            let bits = b.trunci(b.shrui(x, c(skipped)), b.int_type(part.bits()));
            b.bitcast(bits, register_type(b, part))
        }
        _ => return None,
    })
}

pub(super) fn binary<'m>(
    b: &Builder<'m>,
    function: BinaryFn,
    dtype: DType,
    x: Value<'m>,
    y: Value<'m>,
) -> Option<Value<'m>> {
    match function {
        BinaryFn::Complex => Some(complex(b, dtype, x, y)),
        _ if dtype.is_float() => binary_float(b, function, x, y),
        _ => binary_integer(b, function, dtype, x, y),
    }
}

/// A complex number: its imaginary part stands above the real one.
fn complex<'m>(b: &Builder<'m>, dtype: DType, re: Value<'m>, im: Value<'m>) -> Value<'m> {
    let bits = dtype.bits() / 2;
    let wide = |part| b.extui(b.bitcast(part, b.int_type(bits)), register_type(b, dtype));
    let above = wide(im);
    b.ori(wide(re), b.shli(above, b.integer(above.ty(), bits as i64)))
}

fn binary_float<'m>(b: &Builder<'m>, function: BinaryFn, x: Value<'m>, y: Value<'m>) -> Option<Value<'m>> {
    let math = Math::new(b, x.ty());
    Some(match function {
        BinaryFn::Add => b.addf(x, y),
        BinaryFn::Sub => b.subf(x, y),
        BinaryFn::Mul => b.mulf(x, y),
        BinaryFn::Div => b.divf(x, y),
        BinaryFn::Max => maximum(b, FloatCompare::Gt, x, y),
        BinaryFn::Min => maximum(b, FloatCompare::Lt, x, y),
        BinaryFn::Pow => math.pow(x, y),
        BinaryFn::Rem => math.rem(x, y),
        BinaryFn::Mod => {
            let rest = math.rem(x, y);
            let zero = b.float(x.ty(), 0.0);
            let non_zero = b.cmpf(FloatCompare::Ne, rest, zero);
            let rest_negative = b.cmpf(FloatCompare::Lt, rest, zero);
            let divisor_negative = b.cmpf(FloatCompare::Lt, y, zero);
            let differ = b.andi(non_zero, b.xori(rest_negative, divisor_negative));
            b.select(differ, b.addf(rest, y), rest)
        }
        _ => return None,
    })
}

/// The greater (or, by `Lt`, smaller) of two floats, NaN if either is.
pub(super) fn maximum<'m>(b: &Builder<'m>, how: FloatCompare, x: Value<'m>, y: Value<'m>) -> Value<'m> {
    // Compare-and-select is one instruction; it gives `y` when `x` is NaN, and `y` when that is.
    let picked = b.select(b.cmpf(how, x, y), x, y);
    b.select(b.cmpf(FloatCompare::Unordered, x, x), x, picked)
}

fn binary_integer<'m>(
    b: &Builder<'m>,
    function: BinaryFn,
    dtype: DType,
    x: Value<'m>,
    y: Value<'m>,
) -> Option<Value<'m>> {
    let signed = dtype.is_signed_integer();
    let c = |value: i64| b.integer(x.ty(), value);
    if dtype == DType::Bool {
        return Some(match function {
            BinaryFn::And | BinaryFn::Mul | BinaryFn::Min => b.andi(x, y),
            BinaryFn::Or | BinaryFn::Max | BinaryFn::Add => b.ori(x, y),
            BinaryFn::Xor => b.xori(x, y),
            _ => return None,
        });
    }
    let zero_divisor = || b.cmpi(Compare::Eq, y, c(0));
    Some(match function {
        BinaryFn::Add => b.addi(x, y),
        BinaryFn::Sub => b.subi(x, y),
        BinaryFn::Mul => b.muli(x, y),
        BinaryFn::Div => {
            let by_zero = zero_divisor();
            b.select(by_zero, c(0), divide(b, signed, x, y).0)
        }
        BinaryFn::Rem => {
            let by_zero = zero_divisor();
            b.select(by_zero, c(0), divide(b, signed, x, y).1)
        }
        BinaryFn::Mod => {
            let by_zero = zero_divisor();
            let rest = divide(b, signed, x, y).1;
            let rest = if signed {
                let non_zero = b.cmpi(Compare::Ne, rest, c(0));
                let differ = b.cmpi(Compare::SignedLt, b.xori(rest, y), c(0));
                b.select(b.andi(non_zero, differ), b.addi(rest, y), rest)
            } else {
                rest
            };
            b.select(by_zero, c(0), rest)
        }
        BinaryFn::Pow => integer_power(b, signed, x, y),
        BinaryFn::Max if signed => b.maxsi(x, y),
        BinaryFn::Max => b.maxui(x, y),
        BinaryFn::Min if signed => b.minsi(x, y),
        BinaryFn::Min => b.minui(x, y),
        BinaryFn::And => b.andi(x, y),
        BinaryFn::Or => b.ori(x, y),
        BinaryFn::Xor => b.xori(x, y),
        BinaryFn::ShiftLeft | BinaryFn::ShiftRight => {
            let width = c(dtype.bits() as i64);
            let inside = b.cmpi(Compare::UnsignedLt, y, width);
            let amount = b.select(inside, y, c(0));
            match function {
                BinaryFn::ShiftLeft => b.select(inside, b.shli(x, amount), c(0)),
                _ if signed => {
                    let far = b.shrsi(x, c(dtype.bits() as i64 - 1));
                    b.select(inside, b.shrsi(x, amount), far)
                }
                _ => b.select(inside, b.shrui(x, amount), c(0)),
            }
        }
        _ => return None,
    })
}

/// Truncating quotient and remainder, without the traps of the instruction: anything for a divisor of 0.
fn divide<'m>(b: &Builder<'m>, signed: bool, x: Value<'m>, y: Value<'m>) -> (Value<'m>, Value<'m>) {
    let c = |value: i64| b.integer(x.ty(), value);
    let by_zero = b.cmpi(Compare::Eq, y, c(0));
    if !signed {
        let safe = b.select(by_zero, c(1), y);
        let quotient = b.simple("arith.divui", &[x, safe], x.ty());
        return (quotient, b.subi(x, b.muli(quotient, safe)));
    }
    let minus_one = b.cmpi(Compare::Eq, y, c(-1));
    let safe = b.select(b.ori(by_zero, minus_one), c(1), y);
    let quotient = b.divsi(x, safe);
    let rest = b.subi(x, b.muli(quotient, safe));
    (b.select(minus_one, b.subi(c(0), x), quotient), rest)
}

/// By repeated squaring; a negative exponent leaves only powers of 1 and -1 non-zero.
fn integer_power<'m>(b: &Builder<'m>, signed: bool, x: Value<'m>, y: Value<'m>) -> Value<'m> {
    let bits = x.ty().bits().unwrap_or(64);
    let c = |value: i64| b.integer(x.ty(), value);
    let (mut result, mut square) = (c(1), x);
    // Past `bits` factors of an even number, the product is 0; odd ones need every bit of the exponent.
    for bit in 0..bits {
        let set = b.cmpi(Compare::Ne, b.andi(b.shrui(y, c(bit as i64)), c(1)), c(0));
        result = b.select(set, b.muli(result, square), result);
        square = b.muli(square, square);
    }
    if !signed {
        return result;
    }
    let negative = b.cmpi(Compare::SignedLt, y, c(0));
    let odd = b.cmpi(Compare::Ne, b.andi(y, c(1)), c(0));
    let minus = b.select(odd, c(-1), c(1));
    let one = b.cmpi(Compare::Eq, x, c(1));
    let minus_one = b.cmpi(Compare::Eq, x, c(-1));
    let inverse = b.select(one, c(1), b.select(minus_one, minus, c(0)));
    b.select(negative, inverse, result)
}

pub(super) fn compare<'m>(
    b: &Builder<'m>,
    function: CompareFn,
    dtype: DType,
    x: Value<'m>,
    y: Value<'m>,
) -> Value<'m> {
    if dtype.is_float() {
        let how = match function {
            CompareFn::Eq => FloatCompare::Eq,
            CompareFn::Ne => FloatCompare::Ne,
            CompareFn::Lt => FloatCompare::Lt,
            CompareFn::Le => FloatCompare::Le,
            CompareFn::Gt => FloatCompare::Gt,
            CompareFn::Ge => FloatCompare::Ge,
        };
        return b.cmpf(how, x, y);
    }
    let signed = dtype.is_signed_integer();
    let how = match (function, signed) {
        (CompareFn::Eq, _) => Compare::Eq,
        (CompareFn::Ne, _) => Compare::Ne,
        (CompareFn::Lt, true) => Compare::SignedLt,
        (CompareFn::Le, true) => Compare::SignedLe,
        (CompareFn::Gt, true) => Compare::SignedGt,
        (CompareFn::Ge, true) => Compare::SignedGe,
        (CompareFn::Lt, false) => Compare::UnsignedLt,
        (CompareFn::Le, false) => Compare::UnsignedLe,
        (CompareFn::Gt, false) => Compare::UnsignedGt,
        (CompareFn::Ge, false) => Compare::UnsignedGe,
    };
    b.cmpi(how, x, y)
}
