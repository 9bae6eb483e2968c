//! Functions of sixteen f32 at once by instructions of AVX-512, which take whole powers of two off numbers and put them
//! back on.

use ired_mlir::{FloatCompare, Value};

use super::Math;

/// The logarithm of the smallest normal number.
const LOWEST: f64 = -87.336_54;
/// `2^x` for `x` from 0 to 1 within 9e-8 of its value, and 1 at 0.
const POWER_TERMS: [f64; 6] = [
    1.867_135_431_005_372_7e-3,
    9.017_018_973_110_441e-3,
    5.579_992_121_483_092e-2,
    2.401_644_479_325_043_3e-1,
    6.931_513_119_869_621e-1,
    1.0,
];
const LOG2_E: f64 = std::f64::consts::LOG2_E;
/// What rounding it to f32 leaves.
const LOG2_E_LOW: f64 = LOG2_E - std::f32::consts::LOG2_E as f64;
/// To the instruction that takes a whole part off: the one below, and no exception where that is not exact.
const FLOOR: i64 = 9;
/// To instructions that take a rounding mode: the one that is set.
const CURRENT_ROUNDING: i64 = 4;

impl<'m> Math<'_, 'm> {
    /// `exp(x)` as softmax takes it: for `x` up to 0, with an error of about `1e-7 * (1 - x)` of its value, as so much of
    /// it comes from the scores themselves; and 0 where it would be subnormal. Such take processors a hundred times
    /// longer, and masked scores give nothing but them. `is_wide` says that this file's instructions can be used.
    pub(in crate::kernels) fn softmax_exp(self, x: Value<'m>, is_wide: bool) -> Value<'m> {
        let b = self.b;
        let small = b.cmpf(FloatCompare::Lt, x, self.c(LOWEST));
        let zero = self.c(0.0);
        if !is_wide {
            return b.select(small, zero, self.exp(b.select(small, zero, x)));
        }
        let x = b.mulf(x, self.c(LOG2_E));
        let normal = b.xori(small, b.integer(small.ty(), 1));
        self.scale(self.polynomial(self.above_floor(x), &POWER_TERMS), x, Some(normal))
    }

    /// `1 / (1 + exp(-x))`.
    pub(in crate::kernels) fn wide_sigmoid(self, x: Value<'m>) -> Value<'m> {
        let b = self.b;
        let one = self.c(1.0);
        // exp(-|x|), which is 0 long before here. So the sum is between 1 and 2, and its reciprocal can be estimated.
        let limit = self.c(120.0);
        let magnitude = b.absf(x);
        let magnitude = b.select(b.cmpf(FloatCompare::Gt, magnitude, limit), limit, magnitude);
        let power = b.mulf(magnitude, self.c(-LOG2_E));
        let rounding = b.fma(magnitude, self.c(-LOG2_E), b.negf(power));
        let rounding = b.fma(magnitude, self.c(-LOG2_E_LOW), rounding);
        let rest = b.addf(self.above_floor(power), rounding);
        let e = self.scale(self.polynomial(rest, &POWER_TERMS), power, None);
        let sum = b.addf(e, one);
        let all = b.integer(b.int_type(16), -1);
        let estimate = b.intrinsic("llvm.x86.avx512.rcp14.ps.512", &[sum, self.c(0.0), all], self.ty);
        let error = b.fma(b.negf(sum), estimate, one);
        let inverse = b.fma(error, estimate, estimate);
        let negative = b.cmpf(FloatCompare::Lt, x, self.c(0.0));
        b.select(negative, b.mulf(e, inverse), inverse)
    }

    /// `x - floor(x)`, exactly.
    fn above_floor(self, x: Value<'m>) -> Value<'m> {
        let b = self.b;
        let word = |value: i64| b.integer(b.int_type(32), value);
        let all = b.integer(b.int_type(16), -1);
        let operands = [x, word(FLOOR), self.c(0.0), all, word(CURRENT_ROUNDING)];
        b.intrinsic("llvm.x86.avx512.mask.reduce.ps.512", &operands, self.ty)
    }

    /// `x * 2^floor(n)`, rounded once, in some lanes or all; 0 in the others.
    fn scale(self, x: Value<'m>, n: Value<'m>, lanes: Option<Value<'m>>) -> Value<'m> {
        let b = self.b;
        let mask = lanes.map_or_else(
            || b.integer(b.int_type(16), -1),
            |lanes| b.extract(b.simple("vector.bitcast", &[lanes], b.vector_type(1, b.int_type(16))), 0),
        );
        let operands = [x, n, self.c(0.0), mask, b.integer(b.int_type(32), CURRENT_ROUNDING)];
        b.intrinsic("llvm.x86.avx512.mask.scalef.ps.512", &operands, self.ty)
    }
}
