//! Elementary functions as plain arithmetic, for scalars and vectors alike: no library is ever called.
//!
//! f32 `exp`, `log`, `tanh`, `erf` and what is made of them are within about 2 ulp; every other f32 function is
//! computed in f64 and rounded. f64 functions are within a few ulp, `pow` within `|y ln x|` ulp.
//!
//! Sources: argument reductions after Cody and Waite; the rational `tanh` and `erf` fits are the well-known
//! ones of Eigen; series are Taylor's unless a comment says otherwise.

mod wide;

use ired_mlir::{Builder, FloatCompare, Type, Value};

/// The functions at one type: f32 or f64, scalar or vector.
#[derive(Clone, Copy)]
pub(super) struct Math<'b, 'm> {
    b: &'b Builder<'m>,
    ty: Type<'m>,
}

const LN_2: f64 = std::f64::consts::LN_2;
/// `ln 2` with the low half cut off, so that small multiples are exact; and what was cut.
const LN_2_HIGH_F32: f64 = 0.693_359_375;
const LN_2_LOW_F32: f64 = LN_2 - LN_2_HIGH_F32;
const LN_2_HIGH_F64: f64 = 0.693_147_180_369_123_8;
const LN_2_LOW_F64: f64 = 1.908_214_929_270_587_7e-10;

impl<'b, 'm> Math<'b, 'm> {
    /// Functions on values of type `ty`.
    pub(super) fn new(b: &'b Builder<'m>, ty: Type<'m>) -> Self {
        Self { b, ty }
    }

    fn is_f32(self) -> bool {
        self.ty.bits() == Some(32)
    }

    fn c(self, value: f64) -> Value<'m> {
        self.b.float(self.ty, value)
    }

    fn int_type(self) -> Type<'m> {
        let bits = self.ty.bits().unwrap_or(64);
        self.b.with_element(self.ty, self.b.int_type(bits))
    }

    fn int(self, value: i64) -> Value<'m> {
        self.b.integer(self.int_type(), value)
    }

    fn bits_of(self, x: Value<'m>) -> Value<'m> {
        self.b.bitcast(x, self.int_type().element())
    }

    fn float_of(self, x: Value<'m>) -> Value<'m> {
        self.b.bitcast(x, self.ty.element())
    }

    fn mantissa_bits(self) -> i64 {
        if self.is_f32() { 23 } else { 52 }
    }

    /// `p[0] * x^n + ... + p[n]`.
    fn polynomial(self, x: Value<'m>, coefficients: &[f64]) -> Value<'m> {
        let mut terms = coefficients.iter();
        let mut sum = self.c(terms.next().copied().unwrap_or_default());
        for c in terms {
            sum = self.b.fma(sum, x, self.c(*c));
        }
        sum
    }

    fn is_nan(self, x: Value<'m>) -> Value<'m> {
        self.b.cmpf(FloatCompare::Unordered, x, x)
    }

    /// `x` within `low..=high`; NaN stays NaN, and so will be what is computed from it.
    fn clamp(self, x: Value<'m>, low: f64, high: f64) -> Value<'m> {
        let b = self.b;
        let (low, high) = (self.c(low), self.c(high));
        // Each is one instruction, which gives the second operand for NaN.
        let x = b.select(b.cmpf(FloatCompare::Lt, x, low), low, x);
        b.select(b.cmpf(FloatCompare::Gt, x, high), high, x)
    }

    /// Runs an f64 function on f32 values.
    fn in_f64(self, x: Value<'m>, function: impl FnOnce(Math<'b, 'm>, Value<'m>) -> Value<'m>) -> Value<'m> {
        let wide = self.b.extf(x, self.b.f64_type());
        let y = function(Math::new(self.b, wide.ty()), wide);
        self.b.truncf(y, self.b.f32_type())
    }

    /// A number whose float sum with a small integer holds that integer in its lowest bits.
    fn rounder(self) -> f64 {
        if self.is_f32() { 12_582_912.0 } else { 6_755_399_441_055_744.0 }
    }

    fn rounder_bits(self) -> i64 {
        if self.is_f32() {
            i64::from((self.rounder() as f32).to_bits())
        } else {
            self.rounder().to_bits().cast_signed()
        }
    }

    /// A small integer, in the integer type of the same width, as a float.
    fn small_int_to_float(self, x: Value<'m>) -> Value<'m> {
        let shifted = self.b.addi(x, self.int(self.rounder_bits()));
        self.b.subf(self.float_of(shifted), self.c(self.rounder()))
    }

    /// `2^n` for `n` in the exponent's normal range.
    fn power_of_two(self, n: Value<'m>) -> Value<'m> {
        let bias = if self.is_f32() { 127 } else { 1023 };
        let exponent = self.b.addi(n, self.int(bias));
        self.float_of(self.b.shli(exponent, self.int(self.mantissa_bits())))
    }

    pub(super) fn exp(self, x: Value<'m>) -> Value<'m> {
        self.exp_above(x, if self.is_f32() { -104.0 } else { -746.0 })
    }

    /// The exponential function, that of `low` for what is less.
    fn exp_above(self, x: Value<'m>, low: f64) -> Value<'m> {
        let b = self.b;
        let high = if self.is_f32() { 89.0 } else { 710.0 };
        let clamped = self.clamp(x, low, high);
        let shifted = b.fma(clamped, self.c(std::f64::consts::LOG2_E), self.c(self.rounder()));
        let n = b.subf(shifted, self.c(self.rounder()));
        let (ln_high, ln_low) =
            if self.is_f32() { (LN_2_HIGH_F32, LN_2_LOW_F32) } else { (LN_2_HIGH_F64, LN_2_LOW_F64) };
        let r = b.fma(n, self.c(-ln_high), clamped);
        let r = b.fma(n, self.c(-ln_low), r);
        // exp(r) = 1 + r + r^2 p(r) for |r| <= ln(2) / 2.
        let terms: &[f64] = if self.is_f32() {
            &[
                1.987_569_150_0e-4,
                1.398_199_950_7e-3,
                8.333_451_907_3e-3,
                4.166_579_589_4e-2,
                1.666_666_545_9e-1,
                5.000_000_120_1e-1,
            ]
        } else {
            &INVERSE_FACTORIALS_FROM_13_TO_2
        };
        let p = self.polynomial(r, terms);
        let p = b.addf(b.fma(p, b.mulf(r, r), r), self.c(1.0));
        // Two steps, so that results at both ends of the range are reached without leaving it on the way.
        let n = b.subi(self.bits_of(shifted), self.int(self.rounder_bits()));
        let half = b.shrsi(n, self.int(1));
        let rest = b.subi(n, half);
        b.mulf(b.mulf(p, self.power_of_two(half)), self.power_of_two(rest))
    }

    /// Natural logarithm: NaN below zero, -inf at zero.
    pub(super) fn log(self, x: Value<'m>) -> Value<'m> {
        let b = self.b;
        let (tiny, scale, steps) = if self.is_f32() {
            (f64::from(f32::MIN_POSITIVE), 25.0, 25)
        } else {
            (f64::MIN_POSITIVE, 54.0, 54)
        };
        let subnormal = b.cmpf(FloatCompare::Lt, x, self.c(tiny));
        let scaled = b.select(subnormal, b.mulf(x, self.c(2f64.powi(steps))), x);
        // scaled = m * 2^e with m around 1, from sqrt(1/2) to sqrt(2).
        let root_half: i64 = if self.is_f32() {
            i64::from(std::f32::consts::FRAC_1_SQRT_2.to_bits())
        } else {
            std::f64::consts::FRAC_1_SQRT_2.to_bits().cast_signed()
        };
        let bits = self.bits_of(scaled);
        let mantissa_bits = self.int(self.mantissa_bits());
        let e = b.shrsi(b.subi(bits, self.int(root_half)), mantissa_bits);
        let m = self.float_of(b.subi(bits, b.shli(e, mantissa_bits)));
        let e = self.small_int_to_float(e);
        let e = b.subf(e, b.select(subnormal, self.c(scale), self.c(0.0)));
        // ln m = 2 atanh(s) = 2 s + s z (2/3 + 2/5 z + ...), s = (m - 1) / (m + 1), z = s^2.
        let f = b.subf(m, self.c(1.0));
        let s = b.divf(f, b.addf(f, self.c(2.0)));
        let z = b.mulf(s, s);
        let count = if self.is_f32() { 5 } else { 11 };
        let terms: Vec<f64> = (1..=count).rev().map(|i| 2.0 / f64::from(2 * i + 1)).collect();
        let tail = b.mulf(b.mulf(s, z), self.polynomial(z, &terms));
        let (ln_high, ln_low) =
            if self.is_f32() { (LN_2_HIGH_F32, LN_2_LOW_F32) } else { (LN_2_HIGH_F64, LN_2_LOW_F64) };
        // 2 s = f - f s keeps the bits that the division lost.
        let low = b.fma(e, self.c(ln_low), b.subf(tail, b.mulf(f, s)));
        let y = b.fma(e, self.c(ln_high), b.addf(f, low));
        let y = b.select(b.cmpf(FloatCompare::Eq, x, self.c(0.0)), self.c(f64::NEG_INFINITY), y);
        let y = b.select(b.cmpf(FloatCompare::Lt, x, self.c(0.0)), self.c(f64::NAN), y);
        let y = b.select(b.cmpf(FloatCompare::Eq, x, self.c(f64::INFINITY)), x, y);
        b.select(self.is_nan(x), x, y)
    }

    /// `ln(1 + x)`, accurate near zero.
    fn log_1p(self, x: Value<'m>) -> Value<'m> {
        let b = self.b;
        let u = b.addf(x, self.c(1.0));
        let d = b.subf(u, self.c(1.0));
        let exact = b.cmpf(FloatCompare::Eq, d, self.c(0.0));
        let infinite = b.cmpf(FloatCompare::Eq, u, self.c(f64::INFINITY));
        // The rounding of `u` is undone by the factor x / d (Kahan).
        let y = b.mulf(self.log(u), b.divf(x, b.select(exact, self.c(1.0), d)));
        b.select(infinite, u, b.select(exact, x, y))
    }

    pub(super) fn sigmoid(self, x: Value<'m>) -> Value<'m> {
        let b = self.b;
        // Less is not seen in the sum, but as a subnormal number it would take the processor a hundred times as long.
        const LOW: f64 = -40.0;
        let e = self.exp_above(b.negf(x), LOW);
        b.divf(self.c(1.0), b.addf(e, self.c(1.0)))
    }

    pub(super) fn tanh(self, x: Value<'m>) -> Value<'m> {
        let b = self.b;
        if self.is_f32() {
            let limit = 7.905_311_107_635_498;
            let t = self.clamp(x, -limit, limit);
            let z = b.mulf(t, t);
            let p = self.polynomial(
                z,
                &[
                    -2.760_768_477_423_55e-16,
                    2.000_187_904_824_77e-13,
                    -8.604_671_522_137_35e-11,
                    5.122_297_090_371_14e-8,
                    1.485_722_357_179_79e-5,
                    6.372_619_288_754_36e-4,
                    4.893_524_558_917_86e-3,
                ],
            );
            let q = self.polynomial(
                z,
                &[
                    1.198_258_394_667_02e-6,
                    1.185_347_056_866_54e-4,
                    2.268_434_632_439_00e-3,
                    4.893_525_185_543_85e-3,
                ],
            );
            return b.divf(b.mulf(t, p), q);
        }
        let magnitude = b.absf(x);
        let small = b.divf(self.sinh_series(x), self.cosh_series(x));
        let e = self.exp(b.addf(magnitude, magnitude));
        let large = b.subf(self.c(1.0), b.divf(self.c(2.0), b.addf(e, self.c(1.0))));
        let near = b.cmpf(FloatCompare::Lt, magnitude, self.c(0.6));
        b.select(near, small, b.copysign(large, x))
    }

    pub(super) fn erf(self, x: Value<'m>) -> Value<'m> {
        let b = self.b;
        let limit = if self.is_f32() { 4.0 } else { 6.0 };
        let t = self.clamp(x, -limit, limit);
        let z = b.mulf(t, t);
        if self.is_f32() {
            let p = self.polynomial(
                z,
                &[
                    -2.726_142_258_013_06e-10,
                    2.770_681_424_959_02e-8,
                    -2.101_024_020_825_08e-6,
                    -5.692_506_394_623_46e-5,
                    -7.349_906_303_268_55e-4,
                    -2.954_599_808_540_25e-3,
                    -1.609_603_332_624_15e-2,
                ],
            );
            let q = self.polynomial(
                z,
                &[
                    -1.456_607_184_649_96e-5,
                    -2.133_740_552_789_05e-4,
                    -1.682_826_974_382_03e-3,
                    -7.373_329_167_204_68e-3,
                    -1.426_473_905_141_89e-2,
                ],
            );
            b.divf(b.mulf(t, p), q)
        } else {
            // erf x = 2 / sqrt(pi) exp(-x^2) x (1 + 2/3 x^2 + 4/15 x^4 + ...): every term is positive.
            let mut terms = vec![1.0];
            for i in 1..140 {
                terms.push(terms[i - 1] * 2.0 / (2 * i + 1) as f64);
            }
            terms.reverse();
            let series = b.mulf(t, self.polynomial(z, &terms));
            let y = b.mulf(b.mulf(series, self.exp(b.negf(z))), self.c(std::f64::consts::FRAC_2_SQRT_PI));
            self.clamp(y, -1.0, 1.0)
        }
    }

    fn sinh_series(self, x: Value<'m>) -> Value<'m> {
        let z = self.b.mulf(x, x);
        self.b.mulf(x, self.polynomial(z, &series(19, 2, false)))
    }

    fn cosh_series(self, x: Value<'m>) -> Value<'m> {
        self.polynomial(self.b.mulf(x, x), &series(18, 2, false))
    }

    pub(super) fn sinh(self, x: Value<'m>) -> Value<'m> {
        if self.is_f32() {
            return self.in_f64(x, Math::sinh);
        }
        let b = self.b;
        let small = self.sinh_series(x);
        // Half the exponent each: the sum overflows later than its parts would.
        let e = self.exp(b.mulf(b.absf(x), self.c(0.5)));
        let large = b.mulf(b.mulf(e, self.c(0.5)), e);
        let rest = b.divf(self.c(0.25), large);
        let near = b.cmpf(FloatCompare::Lt, b.absf(x), self.c(1.0));
        b.select(near, small, b.copysign(b.subf(large, rest), x))
    }

    pub(super) fn cosh(self, x: Value<'m>) -> Value<'m> {
        if self.is_f32() {
            return self.in_f64(x, Math::cosh);
        }
        let b = self.b;
        let e = self.exp(b.mulf(b.absf(x), self.c(0.5)));
        let large = b.mulf(b.mulf(e, self.c(0.5)), e);
        b.addf(large, b.divf(self.c(0.25), large))
    }

    pub(super) fn asinh(self, x: Value<'m>) -> Value<'m> {
        if self.is_f32() {
            return self.in_f64(x, Math::asinh);
        }
        let b = self.b;
        let m = b.absf(x);
        let root = b.sqrt(b.fma(m, m, self.c(1.0)));
        let near = self.log_1p(b.addf(m, b.divf(b.mulf(m, m), b.addf(root, self.c(1.0)))));
        let far = b.addf(self.log(m), self.c(LN_2));
        b.copysign(b.select(b.cmpf(FloatCompare::Gt, m, self.c(1e150)), far, near), x)
    }

    pub(super) fn acosh(self, x: Value<'m>) -> Value<'m> {
        if self.is_f32() {
            return self.in_f64(x, Math::acosh);
        }
        let b = self.b;
        let t = b.subf(x, self.c(1.0));
        let near = self.log_1p(b.addf(t, b.sqrt(b.fma(t, t, b.addf(t, t)))));
        let far = b.addf(self.log(x), self.c(LN_2));
        b.select(b.cmpf(FloatCompare::Gt, x, self.c(1e150)), far, near)
    }

    pub(super) fn atanh(self, x: Value<'m>) -> Value<'m> {
        if self.is_f32() {
            return self.in_f64(x, Math::atanh);
        }
        let b = self.b;
        let m = b.absf(x);
        let y = self.log_1p(b.divf(b.addf(m, m), b.subf(self.c(1.0), m)));
        b.copysign(b.mulf(y, self.c(0.5)), x)
    }

    pub(super) fn sin(self, x: Value<'m>) -> Value<'m> {
        if self.is_f32() { self.in_f64(x, |m, x| m.sin_cos_of_f32(x).0) } else { self.sin_cos(x).0 }
    }

    pub(super) fn cos(self, x: Value<'m>) -> Value<'m> {
        if self.is_f32() { self.in_f64(x, |m, x| m.sin_cos_of_f32(x).1) } else { self.sin_cos(x).1 }
    }

    pub(super) fn tan(self, x: Value<'m>) -> Value<'m> {
        if self.is_f32() {
            return self.in_f64(x, |m, x| {
                let (sin, cos) = m.sin_cos_of_f32(x);
                m.b.divf(sin, cos)
            });
        }
        let (sin, cos) = self.sin_cos(x);
        self.b.divf(sin, cos)
    }

    /// f64 only. Exact reduction up to about 1e9, less exact beyond; from 2^50 on, where neighbours are a good
    /// part of a turn or more apart, only a number within -1 and 1.
    fn sin_cos(self, x: Value<'m>) -> (Value<'m>, Value<'m>) {
        let b = self.b;
        let limit = 2f64.powi(50);
        let (n, quadrant) = self.quarter_turns(self.clamp(x, -limit, limit));
        let r = self.reduce(x, n);
        // What the clamped count left over; an infinity stays NaN.
        let finite = b.cmpf(FloatCompare::Lt, b.absf(x), self.c(f64::INFINITY));
        let r = self.clamp(r, -std::f64::consts::FRAC_PI_4, std::f64::consts::FRAC_PI_4);
        self.turn(b.select(finite, r, b.subf(x, x)), quadrant)
    }

    /// f64 only, for an `x` that is a whole f32: exact reduction over the whole range.
    fn sin_cos_of_f32(self, x: Value<'m>) -> (Value<'m>, Value<'m>) {
        let b = self.b;
        let magnitude = b.absf(x);
        let far = b.cmpf(FloatCompare::Ge, magnitude, self.c(2f64.powi(FAR_F32_EXPONENT)));
        let (n, quadrant) = self.quarter_turns(x);
        let near_r = self.reduce(x, n);

        // `x` is a whole number of 24 bits times 2^e here. What of 2 / pi makes whole turns of it is left out, and
        // the rest is three parts, the first two short enough for exact products (after Payne and Hanek).
        let mut parts = TWO_OVER_PI[0].map(|part| self.c(part));
        for (number, row) in TWO_OVER_PI.iter().enumerate().skip(1) {
            let exponent = FAR_F32_EXPONENT + FAR_F32_STEP * number as i32;
            let beyond = b.cmpf(FloatCompare::Ge, magnitude, self.c(2f64.powi(exponent)));
            for (part, value) in parts.iter_mut().zip(row) {
                *part = b.select(beyond, self.c(*value), *part);
            }
        }
        let [first, second, rest] = parts.map(|part| b.mulf(x, part));
        let without_turns = |value: Value<'m>| {
            let turns = b.floor(b.mulf(value, self.c(0.25)));
            b.fma(turns, self.c(-4.0), value)
        };
        let (first, second) = (without_turns(first), without_turns(second));
        let shifted = b.addf(b.addf(first, second), self.c(self.rounder()));
        let whole = b.subf(shifted, self.c(self.rounder()));
        let fraction = b.addf(b.addf(b.subf(first, whole), second), rest);
        let far_r = b.mulf(fraction, self.c(std::f64::consts::FRAC_PI_2));

        self.turn(b.select(far, far_r, near_r), b.select(far, self.bits_of(shifted), quadrant))
    }

    /// How many quarter turns are nearest to `x`: as a float, and as an integer right in its lowest bits.
    fn quarter_turns(self, x: Value<'m>) -> (Value<'m>, Value<'m>) {
        let b = self.b;
        let shifted = b.fma(x, self.c(std::f64::consts::FRAC_2_PI), self.c(self.rounder()));
        (b.subf(shifted, self.c(self.rounder())), self.bits_of(shifted))
    }

    /// `x` less `n` quarter turns.
    fn reduce(self, x: Value<'m>, n: Value<'m>) -> Value<'m> {
        let b = self.b;
        // pi / 2 in three parts of 33 bits or more.
        let mut r = x;
        for part in [1.570_796_326_734_125_6, 6.077_100_506_303_966e-11, 2.022_266_248_795_950_7e-21] {
            r = b.fma(n, self.c(-part), r);
        }
        r
    }

    /// Sine and cosine of `r`, at most an eighth of a turn, and `quadrant` quarter turns.
    fn turn(self, r: Value<'m>, quadrant: Value<'m>) -> (Value<'m>, Value<'m>) {
        let b = self.b;
        let z = b.mulf(r, r);
        let sine = b.mulf(r, self.polynomial(z, &series(19, 2, true)));
        let cosine = self.polynomial(z, &series(20, 2, true));
        let one = self.int(1);
        let odd = b.cmpi(ired_mlir::Compare::Ne, b.andi(quadrant, one), self.int(0));
        let flip = |value: Value<'m>, number: Value<'m>| {
            let sign = b.shli(b.andi(number, self.int(2)), self.int(62));
            self.float_of(b.xori(self.bits_of(value), sign))
        };
        let sin = flip(b.select(odd, cosine, sine), quadrant);
        let cos = flip(b.select(odd, sine, cosine), b.addi(quadrant, one));
        (sin, cos)
    }

    pub(super) fn atan(self, x: Value<'m>) -> Value<'m> {
        if self.is_f32() {
            return self.in_f64(x, Math::atan);
        }
        let b = self.b;
        let m = b.absf(x);
        let far = b.cmpf(FloatCompare::Gt, m, self.c(1.0));
        let mut t = b.select(far, b.divf(self.c(1.0), m), m);
        // atan t = 2 atan(t / (1 + sqrt(1 + t^2))), twice: t is then under 0.2.
        for _ in 0..2 {
            let root = b.sqrt(b.fma(t, t, self.c(1.0)));
            t = b.divf(t, b.addf(root, self.c(1.0)));
        }
        let terms: Vec<f64> =
            (0..=12i32).rev().map(|i| if i % 2 == 0 { 4.0 } else { -4.0 } / f64::from(2 * i + 1)).collect();
        let y = b.mulf(t, self.polynomial(b.mulf(t, t), &terms));
        let y = b.select(far, b.subf(self.c(std::f64::consts::FRAC_PI_2), y), y);
        b.copysign(y, x)
    }

    pub(super) fn asin(self, x: Value<'m>) -> Value<'m> {
        if self.is_f32() {
            return self.in_f64(x, Math::asin);
        }
        let b = self.b;
        let one = self.c(1.0);
        self.atan(b.divf(x, b.sqrt(b.mulf(b.subf(one, x), b.addf(one, x)))))
    }

    pub(super) fn acos(self, x: Value<'m>) -> Value<'m> {
        if self.is_f32() {
            return self.in_f64(x, Math::acos);
        }
        let b = self.b;
        let one = self.c(1.0);
        let t = self.atan(b.sqrt(b.divf(b.subf(one, x), b.addf(one, x))));
        b.addf(t, t)
    }

    /// `x^y`; a negative `x` needs a whole `y`.
    pub(super) fn pow(self, x: Value<'m>, y: Value<'m>) -> Value<'m> {
        let b = self.b;
        if self.is_f32() {
            let (wide_x, wide_y) = (b.extf(x, b.f64_type()), b.extf(y, b.f64_type()));
            let wide = Math::new(b, wide_x.ty()).pow(wide_x, wide_y);
            return b.truncf(wide, b.f32_type());
        }
        let (zero, one) = (self.c(0.0), self.c(1.0));
        let product = b.mulf(y, self.log(b.absf(x)));
        let magnitude = self.exp(product);
        let whole = b.cmpf(FloatCompare::Eq, b.floor(y), y);
        let half = b.mulf(y, self.c(0.5));
        let odd = b.andi(whole, b.cmpf(FloatCompare::Ne, b.floor(half), half));
        // From the sign bit, so that -0 to an odd power keeps it.
        let sign_bit = b.cmpi(ired_mlir::Compare::SignedLt, self.bits_of(x), self.int(0));
        let signed = b.select(b.andi(sign_bit, odd), b.negf(magnitude), magnitude);
        let finite = b.cmpf(FloatCompare::Lt, x, zero);
        let finite = b.andi(finite, b.cmpf(FloatCompare::Gt, x, self.c(f64::NEG_INFINITY)));
        let not_whole = b.xori(whole, b.integer(whole.ty(), 1));
        let result = b.select(b.andi(finite, not_whole), self.c(f64::NAN), signed);
        let trivial = b.ori(
            b.cmpf(FloatCompare::Eq, y, zero),
            b.ori(
                b.cmpf(FloatCompare::Eq, x, one),
                b.andi(
                    b.cmpf(FloatCompare::Eq, x, self.c(-1.0)),
                    b.cmpf(FloatCompare::Eq, b.absf(y), self.c(f64::INFINITY)),
                ),
            ),
        );
        b.select(trivial, one, result)
    }

    /// `x - trunc(x / y) * y`: exact while `|x / y|` is under 2^52.
    pub(super) fn rem(self, x: Value<'m>, y: Value<'m>) -> Value<'m> {
        let b = self.b;
        if self.is_f32() {
            let (wide_x, wide_y) = (b.extf(x, b.f64_type()), b.extf(y, b.f64_type()));
            let wide = Math::new(b, wide_x.ty()).rem(wide_x, wide_y);
            return b.truncf(wide, b.f32_type());
        }
        let (m, d) = (b.absf(x), b.absf(y));
        let quotient = b.trunc(b.divf(m, d));
        let rest = b.fma(b.negf(quotient), d, m);
        // The quotient may have been rounded over or under a whole number.
        let rest = b.select(b.cmpf(FloatCompare::Lt, rest, self.c(0.0)), b.addf(rest, d), rest);
        let rest = b.select(b.cmpf(FloatCompare::Ge, rest, d), b.subf(rest, d), rest);
        let infinite = b.cmpf(FloatCompare::Eq, d, self.c(f64::INFINITY));
        let finite = b.cmpf(FloatCompare::Lt, m, self.c(f64::INFINITY));
        b.select(b.andi(infinite, finite), x, b.copysign(rest, x))
    }
}

/// From here on f32 arguments of sine and cosine are whole numbers; each step up has its own part of 2 / pi.
const FAR_F32_EXPONENT: i32 = 24;
const FAR_F32_STEP: i32 = 26;

/// Of 2 / pi, for each step: the bits under `2^(2 - 26 step)`, in two parts of 29 bits and one of 53.
const TWO_OVER_PI: [[f64; 3]; 4] = [
    [0.636_619_769_036_769_9, 3.330_811_473_856_165_6e-9, 2.276_010_073_078_395_4e-18],
    [2.568_255_319_523_871e-8, 7.166_494_903_518_363e-17, 7.696_704_864_039_571e-26],
    [2.937_095_529_262_391_7e-16, 1.110_942_813_394_479_7e-24, 9.372_006_544_409_766e-34],
    [6.074_026_479_468_182e-24, 1.018_166_434_864_072_2e-32, 3.885_898_707_518_682_3e-41],
];

const INVERSE_FACTORIALS_FROM_13_TO_2: [f64; 12] = {
    let mut terms = [0.0; 12];
    let mut factorial = 1.0;
    let mut n = 2;
    while n <= 13 {
        factorial *= n as f64;
        terms[13 - n] = 1.0 / factorial;
        n += 1;
    }
    terms
};

/// Taylor coefficients `1 / n!` for `n = degree, degree - step, ...`, of alternating sign ending in plus.
fn series(degree: u32, step: u32, alternating: bool) -> Vec<f64> {
    let mut terms = Vec::new();
    let mut n = degree % step;
    while n <= degree {
        let factorial: f64 = (1..=n).map(f64::from).product();
        let sign = if alternating && (n / step) % 2 == 1 { -1.0 } else { 1.0 };
        terms.push(sign / factorial);
        n += step;
    }
    terms.reverse();
    terms
}
