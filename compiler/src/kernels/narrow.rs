//! Floats of at most eight bits in registers: a code becomes the f32 that it means, and a number the nearest code.

use ired_graph::DType;
use ired_mlir::{Builder, Compare, FloatCompare, Value};

/// What the arithmetic needs to know of a type with sign, exponent and mantissa.
struct Format {
    bits: i64,
    mantissa_bits: i64,
    bias: i64,
    /// The code of the largest finite number.
    largest: i64,
    /// Where NaN carries a sign, it is this code with the sign added.
    nan: i64,
    /// -0 is NaN.
    unsigned_zero: bool,
}

impl Format {
    /// `None` for [`DType::F8E8M0`].
    fn of(dtype: DType) -> Option<Self> {
        let (bits, mantissa_bits, bias, largest, nan, unsigned_zero) = match dtype {
            DType::F4E2M1 => (4, 1, 1, 0x7, 0x8, false),
            DType::F8E4M3FN => (8, 3, 7, 0x7e, 0x7f, false),
            DType::F8E4M3FNUZ => (8, 3, 8, 0x7f, 0x80, true),
            DType::F8E5M2 => (8, 2, 15, 0x7b, 0x7e, false),
            DType::F8E5M2FNUZ => (8, 2, 16, 0x7f, 0x80, true),
            _ => return None,
        };
        Some(Self { bits, mantissa_bits, bias, largest, nan, unsigned_zero })
    }

    fn sign(&self) -> i64 {
        1 << (self.bits - 1)
    }
}

const QUIET_NAN: i64 = 0x7fc0_0000;
const INFINITY: i64 = 0x7f80_0000;

/// The f32 that a code of a narrow float type means, exactly.
pub(super) fn decode<'m>(b: &Builder<'m>, dtype: DType, code: Value<'m>) -> Value<'m> {
    let wide = b.extui(code, b.int_type(32));
    let c = |value: i64| b.integer(wide.ty(), value);
    let is = |x: Value<'m>, value: i64| b.cmpi(Compare::Eq, x, c(value));
    let as_float = |x: Value<'m>| b.bitcast(x, b.f32_type());
    let Some(format) = Format::of(dtype) else {
        // The exponent of an f32 as it is; its smallest is subnormal there.
        let bits = b.select(is(wide, 0), c(1 << 22), b.shli(wide, c(23)));
        return as_float(b.select(is(wide, 0xff), c(QUIET_NAN), bits));
    };
    let Format { mantissa_bits, bias, .. } = format;
    let magnitude = b.andi(wide, c(format.sign() - 1));
    let negative = b.andi(wide, c(format.sign()));
    let normal = b.addi(b.shli(magnitude, c(23 - mantissa_bits)), c((127 - bias) << 23));
    let steps = b.sitofp(magnitude, b.f32_type());
    let step = f64::powi(2.0, (1 - bias - mantissa_bits) as i32);
    let subnormal = b.bitcast(b.mulf(steps, b.float(steps.ty(), step)), b.int_type(32));
    let small = b.cmpi(Compare::SignedLt, magnitude, c(1 << mantissa_bits));
    let mut bits = b.select(small, subnormal, normal);
    match dtype {
        DType::F8E4M3FN => bits = b.select(is(magnitude, format.nan), c(QUIET_NAN), bits),
        DType::F8E5M2 => {
            let nan = b.cmpi(Compare::SignedGt, magnitude, c(format.largest + 1));
            let special = b.select(nan, c(QUIET_NAN), c(INFINITY));
            let finite = b.cmpi(Compare::SignedLe, magnitude, c(format.largest));
            bits = b.select(finite, bits, special);
        }
        _ => {}
    }
    bits = b.ori(bits, b.shli(negative, c(32 - format.bits)));
    if format.unsigned_zero {
        bits = b.select(is(wide, format.nan), c(QUIET_NAN), bits);
    }
    as_float(bits)
}

/// The code nearest to an f32, as [`ired_graph::Op::Cast`] rounds.
pub(super) fn encode<'m>(b: &Builder<'m>, dtype: DType, x: Value<'m>) -> Value<'m> {
    let bits = b.bitcast(x, b.int_type(32));
    let c = |value: i64| b.integer(bits.ty(), value);
    let magnitude = b.andi(bits, c(0x7fff_ffff));
    let nan = b.cmpf(FloatCompare::Unordered, x, x);
    let Some(format) = Format::of(dtype) else {
        let up = b.shrui(b.addi(magnitude, c((1 << 23) - 1)), c(23));
        let least = b.cmpi(Compare::SignedLe, magnitude, c(1 << 22));
        let code = minimum(b, b.select(least, c(0), up), 0xfe);
        return b.trunci(b.select(nan, c(0xff), code), b.int_type(8));
    };
    let Format { mantissa_bits, bias, .. } = format;
    let dropped = 23 - mantissa_bits;
    let lowest_kept = b.andi(b.shrui(magnitude, c(dropped)), c(1));
    let rounded = b.addi(b.addi(magnitude, c((1 << (dropped - 1)) - 1)), lowest_kept);
    let normal = b.subi(b.shrui(rounded, c(dropped)), c((127 - bias) << mantissa_bits));
    // Adding 2^23 leaves whole steps, rounded to even, in the low bits.
    let float = |value: f64| b.float(x.ty(), value);
    let steps = b.mulf(b.absf(x), float(f64::powi(2.0, (bias - 1 + mantissa_bits) as i32)));
    let whole = b.bitcast(b.addf(steps, float(8_388_608.0)), b.int_type(32));
    let subnormal = b.andi(whole, c((2 << mantissa_bits) - 1));
    let small = b.cmpi(Compare::SignedLt, magnitude, c((128 - bias) << 23));
    let code = minimum(b, b.select(small, subnormal, normal), format.largest);
    let sign = b.andi(b.shrui(bits, c(32 - format.bits)), c(format.sign()));
    let code = if format.unsigned_zero {
        let zero = b.cmpi(Compare::Eq, code, c(0));
        b.select(nan, c(format.nan), b.select(zero, code, b.ori(code, sign)))
    } else if dtype == DType::F4E2M1 {
        b.select(nan, c(format.nan), b.ori(code, sign))
    } else {
        b.ori(b.select(nan, c(format.nan), code), sign)
    };
    b.trunci(code, b.int_type(8))
}

fn minimum<'m>(b: &Builder<'m>, x: Value<'m>, limit: i64) -> Value<'m> {
    b.minsi(x, b.integer(x.ty(), limit))
}

/// An f64 as f32, inexact results with the last bit set: a further rounding to at most 22 bits is then as from the
/// f64.
pub(super) fn to_odd_f32<'m>(b: &Builder<'m>, x: Value<'m>) -> Value<'m> {
    let nearest = b.truncf(x, b.f32_type());
    let back = b.extf(nearest, b.f64_type());
    let bits = b.bitcast(nearest, b.int_type(32));
    let one = b.integer(bits.ty(), 1);
    let away = b.cmpf(FloatCompare::Gt, b.absf(back), b.absf(x));
    let odd = b.ori(b.select(away, b.subi(bits, one), bits), one);
    let exact = b.cmpf(FloatCompare::Eq, back, x);
    // NaN is not equal to itself, and stays NaN with its last bit set.
    b.bitcast(b.select(exact, bits, odd), b.f32_type())
}

/// An integer register of at least 32 bits as f32, rounded to odd.
pub(super) fn integer_to_odd_f32<'m>(b: &Builder<'m>, signed: bool, x: Value<'m>) -> Value<'m> {
    let mut x = x;
    if x.ty().bits() == Some(64) {
        // More bits than f64 has become one that says whether any of them was set: numbers of 2^40 and more keep 16.
        let c = |value: i64| b.integer(x.ty(), value);
        let low = (1 << 24) - 1;
        let sticky = b.select(b.cmpi(Compare::Eq, b.andi(x, c(low)), c(0)), c(0), c(1 << 24));
        let shortened = b.ori(b.andi(x, c(!low)), sticky);
        let long = if signed {
            let magnitude = b.select(b.cmpi(Compare::SignedLt, x, c(0)), b.xori(x, c(-1)), x);
            b.cmpi(Compare::UnsignedGe, magnitude, c(1 << 40))
        } else {
            b.cmpi(Compare::UnsignedGe, x, c(1 << 40))
        };
        x = b.select(long, shortened, x);
    }
    let exact = if signed { b.sitofp(x, b.f64_type()) } else { b.uitofp(x, b.f64_type()) };
    to_odd_f32(b, exact)
}
