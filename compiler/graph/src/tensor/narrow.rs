//! Floats of at most eight bits: every code's value, and the code nearest to a value.

use crate::DType;

/// Which codes are no numbers.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Special {
    /// None.
    Nothing,
    /// The largest magnitude is NaN, with either sign.
    LargestNan,
    /// Infinities and NaNs take the largest exponent.
    LargestExponent,
    /// -0 is the only NaN.
    NegativeZeroNan,
}

/// A sign, some bits of exponent and some of mantissa, with subnormal numbers.
#[derive(Clone, Copy)]
struct Format {
    bits: u32,
    mantissa_bits: u32,
    bias: i32,
    special: Special,
}

/// `None` for [`DType::F8E8M0`], and for what is no narrow float.
const fn format(dtype: DType) -> Option<Format> {
    let (bits, mantissa_bits, bias, special) = match dtype {
        DType::F4E2M1 => (4, 1, 1, Special::Nothing),
        DType::F8E4M3FN => (8, 3, 7, Special::LargestNan),
        DType::F8E4M3FNUZ => (8, 3, 8, Special::NegativeZeroNan),
        DType::F8E5M2 => (8, 2, 15, Special::LargestExponent),
        DType::F8E5M2FNUZ => (8, 2, 16, Special::NegativeZeroNan),
        _ => return None,
    };
    Some(Format { bits, mantissa_bits, bias, special })
}

impl Format {
    const fn sign_bit(self) -> u8 {
        1 << (self.bits - 1)
    }

    /// The code of the largest finite number.
    const fn largest(self) -> u8 {
        let all = self.sign_bit() - 1;
        match self.special {
            Special::Nothing | Special::NegativeZeroNan => all,
            Special::LargestNan => all - 1,
            Special::LargestExponent => all - (1 << self.mantissa_bits),
        }
    }

    const fn nan(self) -> u8 {
        match self.special {
            // As other implementations convert a NaN to a type without one.
            Special::Nothing | Special::NegativeZeroNan => self.sign_bit(),
            Special::LargestNan => self.sign_bit() - 1,
            Special::LargestExponent => self.largest() + 1 + (1 << (self.mantissa_bits - 1)),
        }
    }

    /// Of the smallest normal number, and of subnormal ones.
    const fn least_exponent(self) -> i32 {
        1 - self.bias
    }

    fn decode(self, code: u8) -> f64 {
        let magnitude = code & (self.sign_bit() - 1);
        let negative = code & self.sign_bit() != 0;
        if self.special == Special::NegativeZeroNan && code == self.sign_bit() {
            return f64::NAN;
        }
        let sign = if negative { -1.0 } else { 1.0 };
        if magnitude > self.largest() {
            let infinite = self.special == Special::LargestExponent && magnitude == self.largest() + 1;
            return if infinite { sign * f64::INFINITY } else { f64::NAN.copysign(sign) };
        }
        let mantissa = i32::from(magnitude) & ((1 << self.mantissa_bits) - 1);
        let (significand, exponent) = match i32::from(magnitude) >> self.mantissa_bits {
            0 => (mantissa, self.least_exponent()),
            biased => (mantissa + (1 << self.mantissa_bits), biased - self.bias),
        };
        sign * f64::from(significand) * power_of_two(exponent - self.mantissa_bits as i32)
    }

    /// To nearest, ties to even; what is too large becomes the largest number, infinity too.
    fn encode(self, x: f64) -> u8 {
        let sign = if x.is_sign_negative() { self.sign_bit() } else { 0 };
        if x.is_nan() {
            return match self.special {
                Special::LargestNan | Special::LargestExponent => self.nan() | sign,
                _ => self.nan(),
            };
        }
        let exponent = exponent_of(x).clamp(self.least_exponent(), 64);
        let quantum = power_of_two(exponent - self.mantissa_bits as i32);
        // A carry into the next power of two carries into the exponent by itself.
        let steps = (x.abs() / quantum).round_ties_even();
        let code = steps + f64::from((exponent - self.least_exponent()) << self.mantissa_bits);
        let magnitude = code.min(f64::from(self.largest())) as u8;
        if magnitude == 0 && self.special == Special::NegativeZeroNan { 0 } else { magnitude | sign }
    }
}

fn power_of_two(exponent: i32) -> f64 {
    f64::powi(2.0, exponent)
}

/// Of the power of two that is not above `x`'s magnitude; of 0, subnormal and infinite numbers a far one.
fn exponent_of(x: f64) -> i32 {
    ((x.to_bits() >> 52) & 0x7ff) as i32 - 1023
}

/// The value of a code of a narrow float type, whose higher bits are 0.
pub(super) fn decode(dtype: DType, code: u8) -> f64 {
    match format(dtype) {
        Some(format) => format.decode(code),
        None if code == 0xff => f64::NAN,
        None => power_of_two(i32::from(code) - 127),
    }
}

/// The code of a narrow float type for a number: nearest, ties to even, saturating. Powers of two round away from
/// zero instead, and are of the number's magnitude.
pub(super) fn encode(dtype: DType, x: f64) -> u8 {
    if let Some(format) = format(dtype) {
        return format.encode(x);
    }
    if x.is_nan() {
        return 0xff;
    }
    let exact = x.to_bits() & ((1 << 52) - 1) == 0;
    (exponent_of(x) + i32::from(!exact) + 127).clamp(0, 254) as u8
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [DType; 6] =
        [DType::F4E2M1, DType::F8E4M3FN, DType::F8E4M3FNUZ, DType::F8E5M2, DType::F8E5M2FNUZ, DType::F8E8M0];

    fn largest(dtype: DType) -> f64 {
        decode(dtype, encode(dtype, f64::INFINITY))
    }

    #[test]
    fn every_code_survives() {
        for dtype in ALL {
            for code in 0..=((1u32 << dtype.bits()) - 1) as u8 {
                let value = decode(dtype, code);
                // Infinity saturates, and NaNs lose what they carry.
                if value.is_finite() {
                    assert_eq!(encode(dtype, value), code, "{dtype} {value}");
                } else {
                    assert_eq!(
                        decode(dtype, encode(dtype, value)).is_nan(),
                        value.is_nan(),
                        "{dtype} {code}"
                    );
                }
            }
        }
    }

    #[test]
    fn the_ends_of_each_type() {
        let ends = ALL.map(|dtype| (decode(dtype, 1), largest(dtype)));
        let p = power_of_two;
        let expected = [
            (0.5, 6.0),
            (p(-9), 448.0),
            (p(-10), 240.0),
            (p(-16), 57344.0),
            (p(-17), 57344.0),
            (p(-126), p(127)),
        ];
        assert_eq!(ends, expected);
        assert_eq!(decode(DType::F8E5M2, 0xfc), f64::NEG_INFINITY);
        assert_eq!(encode(DType::F8E4M3FN, -f64::NAN), 0xff);
        assert_eq!(encode(DType::F8E4M3FNUZ, -0.0), 0);
        assert_eq!(encode(DType::F8E5M2, -0.0), 0x80);
        assert_eq!(encode(DType::F4E2M1, f64::NAN), 8);
    }

    #[test]
    fn numbers_round_to_the_nearest_and_ties_to_even() {
        for dtype in &ALL[..5] {
            let positive: Vec<u8> =
                (0..(1u32 << (dtype.bits() - 1)) as u8).filter(|c| decode(*dtype, *c).is_finite()).collect();
            for pair in positive.windows(2) {
                let (low, high) = (decode(*dtype, pair[0]), decode(*dtype, pair[1]));
                let middle = (low + high) / 2.0;
                let even = if pair[0] % 2 == 0 { pair[0] } else { pair[1] };
                assert_eq!(encode(*dtype, middle), even, "{dtype} {middle}");
                assert_eq!(encode(*dtype, middle * (1.0 + 1e-15)), pair[1], "{dtype} {middle}");
                assert_eq!(encode(*dtype, middle * (1.0 - 1e-15)), pair[0], "{dtype} {middle}");
            }
        }
    }

    #[test]
    fn powers_of_two_round_up() {
        let codes = [0.0, 1e-45, 1.0, 1.1, -2.5, 1.6e38, 1.8e38, f64::MAX].map(|x| encode(DType::F8E8M0, x));
        assert_eq!(codes, [0, 0, 127, 128, 129, 254, 254, 254]);
    }
}
