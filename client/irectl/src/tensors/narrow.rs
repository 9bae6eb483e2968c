//! Elements of less than a byte, and what floats of at most eight bits are as f64.

use ired_module::DType;

use super::NamedTensor;

/// The bits of each element of at most eight bits.
pub(super) fn codes(tensor: &NamedTensor) -> impl Iterator<Item = u8> + '_ {
    let bits = tensor.dtype.bits();
    let in_byte = move |byte: u8| (0..8 / bits).map(move |i| (byte >> (i * bits)) & (0xff >> (8 - bits)));
    let count = usize::try_from(tensor.element_count()).unwrap_or(usize::MAX);
    tensor.data.iter().flat_map(move |&byte| in_byte(byte)).take(count)
}

/// The elements of a float type of at most eight bits; `None` for other types.
pub(super) fn floats(tensor: &NamedTensor) -> Option<Vec<f64>> {
    // Bits of mantissa and exponent bias.
    let (mantissa_bits, bias) = match tensor.dtype {
        DType::F4E2M1 => (1, 1),
        DType::F8E4M3FN => (3, 7),
        DType::F8E4M3FNUZ => (3, 8),
        DType::F8E5M2 => (2, 15),
        DType::F8E5M2FNUZ => (2, 16),
        DType::F8E8M0 => (0, 127),
        _ => return None,
    };
    Some(codes(tensor).map(|code| float(tensor.dtype, code, mantissa_bits, bias)).collect())
}

fn float(dtype: DType, code: u8, mantissa_bits: u32, bias: i32) -> f64 {
    let infinite = dtype == DType::F8E5M2 && code & 0x7f == 0x7c;
    let nan = match dtype {
        DType::F8E4M3FN => code & 0x7f == 0x7f,
        DType::F8E5M2 => code & 0x7f > 0x7c,
        DType::F8E4M3FNUZ | DType::F8E5M2FNUZ => code == 0x80,
        DType::F8E8M0 => code == 0xff,
        _ => false,
    };
    if nan {
        return f64::NAN;
    }
    if dtype == DType::F8E8M0 {
        return f64::powi(2.0, i32::from(code) - bias);
    }
    let sign_bit = if dtype == DType::F4E2M1 { 8 } else { 0x80 };
    let sign = if code & sign_bit == 0 { 1.0 } else { -1.0 };
    let magnitude = i32::from(code & (sign_bit - 1));
    let mantissa = magnitude & ((1 << mantissa_bits) - 1);
    let (significand, exponent) = match magnitude >> mantissa_bits {
        _ if infinite => return sign * f64::INFINITY,
        0 => (mantissa, 1 - bias),
        biased => (mantissa + (1 << mantissa_bits), biased - bias),
    };
    sign * f64::from(significand) * f64::powi(2.0, exponent - mantissa_bits as i32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_each_type() {
        let values = |dtype: DType, data: &'static [u8]| {
            let dims = vec![data.len() as u64 * 8 / dtype.bits()];
            floats(&NamedTensor { name: String::new(), dtype, dims, data: data.into() }).unwrap()
        };
        assert_eq!(values(DType::F4E2M1, &[0xa1, 0x7f]), [0.5, -1.0, -6.0, 6.0]);
        assert_eq!(values(DType::F8E4M3FN, &[0x7e, 0x01, 0xb8]), [448.0, f64::powi(2.0, -9), -1.0]);
        assert_eq!(values(DType::F8E4M3FNUZ, &[0x7f, 0x40]), [240.0, 1.0]);
        assert_eq!(values(DType::F8E5M2, &[0x7b, 0xfc, 0x3c]), [57344.0, f64::NEG_INFINITY, 1.0]);
        assert_eq!(values(DType::F8E5M2FNUZ, &[0x7f, 0x40]), [57344.0, 1.0]);
        assert_eq!(values(DType::F8E8M0, &[127, 0]), [1.0, f64::powi(2.0, -127)]);
        assert!(values(DType::F8E4M3FNUZ, &[0x80])[0].is_nan());
    }
}
