//! Exponentials as softmax takes them: of f32 numbers up to 0, and 0 where they would be subnormal. Those take
//! processors a hundred times longer, and masked scores give nothing but them.

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
/// To the instruction that takes a whole part off: the one below, and no exception where that is not exact.
const FLOOR: i64 = 9;
/// To instructions that take a rounding mode: the one that is set.
const CURRENT_ROUNDING: i64 = 4;

impl<'m> Math<'_, 'm> {
    /// `exp(x)` for `x` up to 0, with an error of about `1e-7 * (1 - x)` of its value: so much of it comes from the scores
    /// themselves. `is_wide` says that these are sixteen numbers, and the target has AVX-512.
    pub(in crate::kernels) fn softmax_exp(self, x: Value<'m>, is_wide: bool) -> Value<'m> {
        let b = self.b;
        let small = b.cmpf(FloatCompare::Lt, x, self.c(LOWEST));
        let zero = self.c(0.0);
        if !is_wide {
            return b.select(small, zero, self.exp(b.select(small, zero, x)));
        }
        let word = |value: i64| b.integer(b.int_type(32), value);
        let x = b.mulf(x, self.c(std::f64::consts::LOG2_E));
        let all = b.integer(b.int_type(16), -1);
        let operands = [x, word(FLOOR), zero, all, word(CURRENT_ROUNDING)];
        let rest = b.intrinsic("llvm.x86.avx512.mask.reduce.ps.512", &operands, self.ty);
        let normal = b.xori(small, b.integer(small.ty(), 1));
        let normal = b.simple("vector.bitcast", &[normal], b.vector_type(1, b.int_type(16)));
        // The power of the whole part below `x`, where it is normal.
        let power = self.polynomial(rest, &POWER_TERMS);
        let operands = [power, x, zero, b.extract(normal, 0), word(CURRENT_ROUNDING)];
        b.intrinsic("llvm.x86.avx512.mask.scalef.ps.512", &operands, self.ty)
    }
}
