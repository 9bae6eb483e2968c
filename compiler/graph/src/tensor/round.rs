//! Rounding to narrow floats once: by way of a wider type rounded to odd, which keeps ties and near-ties apart.

use half::{bf16, f16};

/// `x` in f32, inexact results with the last bit set. A further rounding to at most 22 bits is then as from `x`.
fn to_odd_f32(x: f64) -> f32 {
    let nearest = x as f32;
    if x.is_nan() || f64::from(nearest) == x {
        return nearest;
    }
    let toward_zero =
        if f64::from(nearest).abs() > x.abs() { nearest.to_bits() - 1 } else { nearest.to_bits() };
    f32::from_bits(toward_zero | 1)
}

/// `x` in f64, rounded to odd.
pub(super) fn integer_to_odd_f64(x: i128) -> f64 {
    let nearest = x as f64;
    let back = nearest as i128;
    if back == x {
        return nearest;
    }
    let toward_zero =
        if back.unsigned_abs() > x.unsigned_abs() { nearest.to_bits() - 1 } else { nearest.to_bits() };
    f64::from_bits(toward_zero | 1)
}

/// The f16 nearest to `x`, ties to even.
pub fn round_to_f16(x: f64) -> f16 {
    f16::from_f32(to_odd_f32(x))
}

/// The bf16 nearest to `x`, ties to even.
pub fn round_to_bf16(x: f64) -> bf16 {
    bf16::from_f32(to_odd_f32(x))
}

pub(super) fn integer_to_f16(x: i128) -> f16 {
    round_to_f16(integer_to_odd_f64(x))
}

pub(super) fn integer_to_bf16(x: i128) -> bf16 {
    round_to_bf16(integer_to_odd_f64(x))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tie_of_f32_is_not_a_tie_of_f64() {
        // Halfway between two f16 numbers, and a little more than f32 can tell.
        let half_way = 1.0 + f64::powi(2.0, -11);
        assert_eq!(round_to_f16(half_way).to_f64(), 1.0);
        assert_eq!(round_to_f16(half_way + f64::powi(2.0, -40)).to_f64(), 1.0 + f64::powi(2.0, -10));
        assert_eq!(round_to_bf16(1.0 + f64::powi(2.0, -8) + f64::powi(2.0, -50)).to_f64(), 1.0078125);
        assert_eq!(round_to_f16(65519.999).to_f64(), 65504.0);
        assert_eq!(round_to_f16(65520.0).to_f64(), f64::INFINITY);
        assert_eq!(round_to_f16(-1e-30).to_bits(), 0x8000);
        assert!(round_to_bf16(f64::NAN).is_nan());
        assert_eq!(integer_to_bf16((1 << 60) + (1 << 52) + 1).to_f64(), (1i64 << 60) as f64 * 1.0078125);
    }
}
