//! Elements in and out: every dtype from and to f64, integers and bools.

use bytes::Bytes;
use half::{bf16, f16};

use super::narrow;
use super::round::{integer_to_bf16, integer_to_f16, integer_to_odd_f64, round_to_bf16, round_to_f16};
use super::{Tensor, element_count};
use crate::DType;

/// Reads fixed-width elements with `$read` of each chunk.
macro_rules! read {
    ($data:expr, $ty:ty, $convert:expr) => {
        $data.as_chunks().0.iter().map(|chunk| $convert(<$ty>::from_le_bytes(*chunk))).collect()
    };
}

impl Tensor {
    /// The number of elements.
    pub fn len(&self) -> usize {
        element_count(&self.shape).and_then(|n| usize::try_from(n).ok()).unwrap_or(0)
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Every element as f64: floats and integers of up to 53 bits exactly, bools as 0 and 1, complex numbers as their
    /// real part.
    pub fn to_f64s(&self) -> Vec<f64> {
        let data = &self.data;
        match self.dtype {
            DType::F16 => read!(data, f16, f16::to_f64),
            DType::BF16 => read!(data, bf16, bf16::to_f64),
            DType::F32 => read!(data, f32, f64::from),
            DType::F64 => read!(data, f64, |v| v),
            DType::C64 | DType::C128 => self.to_parts().to_f64s().into_iter().step_by(2).collect(),
            dtype if dtype.is_narrow_float() => {
                self.codes().map(|code| narrow::decode(dtype, code)).collect()
            }
            _ => self.to_integers().into_iter().map(|v| v as f64).collect(),
        }
    }

    /// Every element as an integer: floats truncated (NaN gives 0), bools as 0 and 1, strings as their handles.
    pub fn to_integers(&self) -> Vec<i128> {
        let data = &self.data;
        match self.dtype {
            DType::Bool => data.iter().map(|&b| i128::from(b != 0)).collect(),
            DType::I2 => self.codes().map(|n| i128::from(((n << 6) as i8) >> 6)).collect(),
            DType::I4 => self.codes().map(|n| i128::from(((n << 4) as i8) >> 4)).collect(),
            DType::U2 | DType::U4 => self.codes().map(i128::from).collect(),
            DType::I8 => data.iter().map(|&b| i128::from(b as i8)).collect(),
            DType::U8 => data.iter().map(|&b| i128::from(b)).collect(),
            DType::I16 => read!(data, i16, i128::from),
            DType::I32 => read!(data, i32, i128::from),
            DType::I64 => read!(data, i64, i128::from),
            DType::U16 => read!(data, u16, i128::from),
            DType::U32 => read!(data, u32, i128::from),
            DType::U64 | DType::String => read!(data, u64, i128::from),
            DType::F16 | DType::BF16 | DType::F32 | DType::F64 | DType::C64 | DType::C128 => {
                self.to_f64s().into_iter().map(|v| v as i128).collect()
            }
            DType::F4E2M1
            | DType::F8E4M3FN
            | DType::F8E4M3FNUZ
            | DType::F8E5M2
            | DType::F8E5M2FNUZ
            | DType::F8E8M0 => self.to_f64s().into_iter().map(|v| v as i128).collect(),
        }
    }

    /// Every element as i64; wider values wrap.
    pub fn to_i64s(&self) -> Vec<i64> {
        self.to_integers().into_iter().map(|v| v as i64).collect()
    }

    /// Every element as f32, rounded once.
    pub fn to_f32s(&self) -> Vec<f32> {
        match self.dtype {
            DType::F32 => read!(self.data, f32, |v| v),
            dtype if dtype.holds_integers() => self.to_integers().into_iter().map(|v| v as f32).collect(),
            _ => self.to_f64s().into_iter().map(|v| v as f32).collect(),
        }
    }

    /// Every element as a bool: whether it is not zero.
    pub fn to_bools(&self) -> Vec<bool> {
        match self.dtype.holds_integers() {
            true => self.to_integers().into_iter().map(|v| v != 0).collect(),
            false => self.to_f64s().into_iter().map(|v| v != 0.0).collect(),
        }
    }

    /// Every element's bits, zero-extended.
    pub(crate) fn to_bits(&self) -> Vec<u128> {
        let data = &self.data;
        match self.dtype.bits() {
            2 | 4 | 8 => self.codes().map(u128::from).collect(),
            16 => read!(data, u16, u128::from),
            32 => read!(data, u32, u128::from),
            64 => read!(data, u64, u128::from),
            _ => read!(data, u128, |v| v),
        }
    }

    /// The inverse of [`Tensor::to_bits`].
    pub(crate) fn from_bits(dtype: DType, shape: &[u64], bits: &[u128]) -> Self {
        let data: Vec<u8> = match dtype.bits() {
            width @ (2 | 4 | 8) => pack(width, bits.iter().map(|&b| b as u8)),
            16 => bits.iter().flat_map(|&b| (b as u16).to_le_bytes()).collect(),
            32 => bits.iter().flat_map(|&b| (b as u32).to_le_bytes()).collect(),
            64 => bits.iter().flat_map(|&b| (b as u64).to_le_bytes()).collect(),
            _ => bits.iter().flat_map(|&b| b.to_le_bytes()).collect(),
        };
        Self::checked(dtype, shape, data)
    }

    /// Complex elements as real and imaginary parts, along a last axis of two; other tensors as they are.
    pub fn to_parts(&self) -> Self {
        match self.dtype.part() {
            Some(dtype) => Self { dtype, shape: [&self.shape[..], &[2]].concat(), data: self.data.clone() },
            None => self.clone(),
        }
    }

    /// The bits of each element of at most eight bits.
    fn codes(&self) -> impl Iterator<Item = u8> + '_ {
        let bits = self.dtype.bits();
        let in_byte = move |byte: u8| (0..8 / bits).map(move |i| (byte >> (i * bits)) & (0xff >> (8 - bits)));
        self.data.iter().flat_map(move |&b| in_byte(b)).take(self.len())
    }

    /// A tensor of `dtype` from real numbers: floats rounded once, those of at most eight bits saturated, integers
    /// truncated and saturated (NaN gives 0), bools true where not 0, complex numbers without an imaginary part.
    ///
    /// # Panics
    /// When there are not as many values as `shape` says.
    pub fn from_f64s(dtype: DType, shape: &[u64], values: &[f64]) -> Self {
        let data = match dtype {
            DType::F16 => values.iter().flat_map(|&v| round_to_f16(v).to_le_bytes()).collect(),
            DType::BF16 => values.iter().flat_map(|&v| round_to_bf16(v).to_le_bytes()).collect(),
            DType::F32 => values.iter().flat_map(|&v| (v as f32).to_le_bytes()).collect(),
            DType::F64 => values.iter().flat_map(|&v| v.to_le_bytes()).collect(),
            DType::C64 => values.iter().flat_map(|&v| [v as f32, 0.0]).flat_map(f32::to_le_bytes).collect(),
            DType::C128 => values.iter().flat_map(|&v| [v, 0.0]).flat_map(f64::to_le_bytes).collect(),
            DType::Bool => values.iter().map(|&v| u8::from(v != 0.0)).collect(),
            _ if dtype.is_narrow_float() => {
                pack(dtype.bits(), values.iter().map(|&v| narrow::encode(dtype, v)))
            }
            _ => {
                let (min, max) = integer_limits(dtype);
                let saturated: Vec<i128> = values.iter().map(|&v| (v as i128).clamp(min, max)).collect();
                return Self::from_integers(dtype, shape, &saturated);
            }
        };
        Self::checked(dtype, shape, data)
    }

    /// A tensor of `dtype` from integers: integers wrap, floats are rounded once, bools true where not 0.
    ///
    /// # Panics
    /// When there are not as many values as `shape` says.
    pub fn from_integers(dtype: DType, shape: &[u64], values: &[i128]) -> Self {
        let data: Vec<u8> = match dtype {
            DType::Bool => values.iter().map(|&v| u8::from(v != 0)).collect(),
            DType::I2 | DType::U2 | DType::I4 | DType::U4 | DType::I8 | DType::U8 => {
                pack(dtype.bits(), values.iter().map(|&v| v as u8))
            }
            DType::I16 | DType::U16 => values.iter().flat_map(|&v| (v as u16).to_le_bytes()).collect(),
            DType::I32 | DType::U32 => values.iter().flat_map(|&v| (v as u32).to_le_bytes()).collect(),
            DType::I64 | DType::U64 | DType::String => {
                values.iter().flat_map(|&v| (v as u64).to_le_bytes()).collect()
            }
            DType::F16 => values.iter().flat_map(|&v| integer_to_f16(v).to_le_bytes()).collect(),
            DType::BF16 => values.iter().flat_map(|&v| integer_to_bf16(v).to_le_bytes()).collect(),
            DType::F32 => values.iter().flat_map(|&v| (v as f32).to_le_bytes()).collect(),
            DType::F64 => values.iter().flat_map(|&v| (v as f64).to_le_bytes()).collect(),
            DType::C64 => values.iter().flat_map(|&v| [v as f32, 0.0]).flat_map(f32::to_le_bytes).collect(),
            DType::C128 => values.iter().flat_map(|&v| [v as f64, 0.0]).flat_map(f64::to_le_bytes).collect(),
            DType::F4E2M1
            | DType::F8E4M3FN
            | DType::F8E4M3FNUZ
            | DType::F8E5M2
            | DType::F8E5M2FNUZ
            | DType::F8E8M0 => {
                let code = |&v: &i128| narrow::encode(dtype, integer_to_odd_f64(v));
                pack(dtype.bits(), values.iter().map(code))
            }
        };
        Self::checked(dtype, shape, data)
    }

    /// # Panics
    /// When there are not as many values as `shape` says.
    pub fn from_f32s(shape: &[u64], values: &[f32]) -> Self {
        Self::checked(DType::F32, shape, values.iter().flat_map(|v| v.to_le_bytes()).collect())
    }

    /// # Panics
    /// When there are not as many values as `shape` says.
    pub fn from_i64s(shape: &[u64], values: &[i64]) -> Self {
        Self::checked(DType::I64, shape, values.iter().flat_map(|v| v.to_le_bytes()).collect())
    }

    /// # Panics
    /// When there are not as many handles as `shape` says.
    pub fn from_handles(shape: &[u64], handles: &[u64]) -> Self {
        Self::checked(DType::String, shape, handles.iter().flat_map(|h| h.to_le_bytes()).collect())
    }

    /// The elements of a string tensor: handles of a [`ired_host::StringTable`]. Of other types, their lowest 64 bits.
    pub fn to_handles(&self) -> Vec<u64> {
        self.to_bits().into_iter().map(|bits| bits as u64).collect()
    }

    /// # Panics
    /// When there are not as many values as `shape` says.
    pub fn from_i32s(shape: &[u64], values: &[i32]) -> Self {
        Self::checked(DType::I32, shape, values.iter().flat_map(|v| v.to_le_bytes()).collect())
    }

    /// # Panics
    /// When there are not as many values as `shape` says.
    pub fn from_bools(shape: &[u64], values: &[bool]) -> Self {
        Self::checked(DType::Bool, shape, values.iter().map(|&v| u8::from(v)).collect())
    }

    /// A scalar of `dtype`, converted as by [`Tensor::from_f64s`].
    pub fn scalar(dtype: DType, value: f64) -> Self {
        Self::from_f64s(dtype, &[], &[value])
    }

    /// The same elements in another shape, sharing the bytes.
    ///
    /// # Errors
    /// When the element counts differ.
    pub fn with_shape(&self, shape: Vec<u64>) -> Result<Self, super::TensorSizeError> {
        Self::new(self.dtype, shape, self.data.clone())
    }

    fn checked(dtype: DType, shape: &[u64], data: Vec<u8>) -> Self {
        match Self::new(dtype, shape.to_vec(), Bytes::from(data)) {
            Ok(tensor) => tensor,
            Err(mismatch) => panic!("{mismatch}"),
        }
    }
}

/// Bytes of codes of `bits` bits each, at most eight, the first in the lowest bits. Higher bits of a code are dropped.
fn pack(bits: usize, codes: impl Iterator<Item = u8>) -> Vec<u8> {
    let per_byte = 8 / bits;
    let mut bytes = Vec::with_capacity(codes.size_hint().0.div_ceil(per_byte));
    for (i, code) in codes.enumerate() {
        let shift = i % per_byte * bits;
        if shift == 0 {
            bytes.push(0);
        }
        if let Some(last) = bytes.last_mut() {
            *last |= (code & (0xff >> (8 - bits))) << shift;
        }
    }
    bytes
}

/// The least and the greatest value of an integer dtype (of bool: 0 and 1).
pub(crate) const fn integer_limits(dtype: DType) -> (i128, i128) {
    let bits = dtype.bits() as u32;
    match dtype.is_signed_integer() {
        true => (-(1 << (bits - 1)), (1 << (bits - 1)) - 1),
        false if matches!(dtype, DType::Bool) => (0, 1),
        false => (0, (1 << bits) - 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_integers_survive_every_type() {
        for dtype in DType::ALL {
            let values: &[i128] = match dtype {
                DType::Bool | DType::I2 => &[0, 1, 1],
                DType::U2 => &[0, 3, 2],
                DType::F4E2M1 => &[0, 6, 3],
                DType::F8E8M0 => &[1, 4, 2],
                _ => &[0, 7, 3],
            };
            let tensor = Tensor::from_integers(dtype, &[3], values);
            assert_eq!(tensor.to_integers(), values, "{dtype}");
            let floats: Vec<f64> = values.iter().map(|&v| v as f64).collect();
            assert_eq!(tensor.to_f64s(), floats, "{dtype}");
            assert_eq!(Tensor::from_f64s(dtype, &[3], &floats), tensor, "{dtype}");
        }
    }

    #[test]
    fn floats_saturate_and_integers_wrap() {
        assert_eq!(Tensor::scalar(DType::I4, -100.0).to_integers(), [-8]);
        assert_eq!(Tensor::scalar(DType::U8, 300.9).to_integers(), [255]);
        assert_eq!(Tensor::scalar(DType::I32, f64::NAN).to_integers(), [0]);
        assert_eq!(Tensor::scalar(DType::I64, 1e30).to_integers(), [i128::from(i64::MAX)]);
        assert_eq!(Tensor::from_integers(DType::I8, &[1], &[130]).to_integers(), [-126]);
        assert_eq!(Tensor::from_integers(DType::I4, &[3], &[-1, 7, -8]).to_integers(), [-1, 7, -8]);
        let two_bits = Tensor::from_integers(DType::I2, &[5], &[-1, 1, -2, 2, 0]);
        assert_eq!(
            (two_bits.to_integers(), &two_bits.data()[..]),
            (vec![-1, 1, -2, -2, 0], &[0b1010_0111, 0][..])
        );
    }
}
