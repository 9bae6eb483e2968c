//! Elements in and out: every dtype from and to f64, integers and bools.

use bytes::Bytes;
use half::{bf16, f16};

use super::round::{integer_to_bf16, integer_to_f16, round_to_bf16, round_to_f16};
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

    /// Every element as f64: floats and integers of up to 53 bits exactly, bools as 0 and 1.
    pub fn to_f64s(&self) -> Vec<f64> {
        let data = &self.data;
        match self.dtype {
            DType::F16 => read!(data, f16, f16::to_f64),
            DType::BF16 => read!(data, bf16, bf16::to_f64),
            DType::F32 => read!(data, f32, f64::from),
            DType::F64 => read!(data, f64, |v| v),
            _ => self.to_integers().into_iter().map(|v| v as f64).collect(),
        }
    }

    /// Every element as an integer: floats truncated (NaN gives 0), bools as 0 and 1, strings as their handles.
    pub fn to_integers(&self) -> Vec<i128> {
        let data = &self.data;
        match self.dtype {
            DType::Bool => data.iter().map(|&b| i128::from(b != 0)).collect(),
            DType::I4 => self.nibbles().map(|n| i128::from(((n << 4) as i8) >> 4)).collect(),
            DType::U4 => self.nibbles().map(i128::from).collect(),
            DType::I8 => data.iter().map(|&b| i128::from(b as i8)).collect(),
            DType::U8 => data.iter().map(|&b| i128::from(b)).collect(),
            DType::I16 => read!(data, i16, i128::from),
            DType::I32 => read!(data, i32, i128::from),
            DType::I64 => read!(data, i64, i128::from),
            DType::U16 => read!(data, u16, i128::from),
            DType::U32 => read!(data, u32, i128::from),
            DType::U64 | DType::String => read!(data, u64, i128::from),
            DType::F16 | DType::BF16 | DType::F32 | DType::F64 => {
                self.to_f64s().into_iter().map(|v| v as i128).collect()
            }
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
            dtype if dtype.is_float() => self.to_f64s().into_iter().map(|v| v as f32).collect(),
            _ => self.to_integers().into_iter().map(|v| v as f32).collect(),
        }
    }

    /// Every element as a bool: whether it is not zero.
    pub fn to_bools(&self) -> Vec<bool> {
        match self.dtype.is_float() {
            true => self.to_f64s().into_iter().map(|v| v != 0.0).collect(),
            false => self.to_integers().into_iter().map(|v| v != 0).collect(),
        }
    }

    /// Every element's bits, zero-extended.
    pub(crate) fn to_bits(&self) -> Vec<u64> {
        let data = &self.data;
        match self.dtype.bits() {
            4 => self.nibbles().map(u64::from).collect(),
            8 => data.iter().map(|&b| u64::from(b)).collect(),
            16 => read!(data, u16, u64::from),
            32 => read!(data, u32, u64::from),
            _ => read!(data, u64, |v| v),
        }
    }

    /// The inverse of [`Tensor::to_bits`].
    pub(crate) fn from_bits(dtype: DType, shape: &[u64], bits: &[u64]) -> Self {
        let data: Vec<u8> = match dtype.bits() {
            4 => bits
                .chunks(2)
                .map(|pair| pair[0] as u8 | (pair.get(1).map_or(0, |&n| n as u8) << 4))
                .collect(),
            8 => bits.iter().map(|&b| b as u8).collect(),
            16 => bits.iter().flat_map(|&b| (b as u16).to_le_bytes()).collect(),
            32 => bits.iter().flat_map(|&b| (b as u32).to_le_bytes()).collect(),
            _ => bits.iter().flat_map(|&b| b.to_le_bytes()).collect(),
        };
        Self::checked(dtype, shape, data)
    }

    fn nibbles(&self) -> impl Iterator<Item = u8> + '_ {
        self.data.iter().flat_map(|&b| [b & 0xf, b >> 4]).take(self.len())
    }

    /// A tensor of `dtype` from real numbers: floats rounded once, integers truncated and saturated (NaN gives 0),
    /// bools true where not 0.
    ///
    /// # Panics
    /// When there are not as many values as `shape` says.
    pub fn from_f64s(dtype: DType, shape: &[u64], values: &[f64]) -> Self {
        let data = match dtype {
            DType::F16 => values.iter().flat_map(|&v| round_to_f16(v).to_le_bytes()).collect(),
            DType::BF16 => values.iter().flat_map(|&v| round_to_bf16(v).to_le_bytes()).collect(),
            DType::F32 => values.iter().flat_map(|&v| (v as f32).to_le_bytes()).collect(),
            DType::F64 => values.iter().flat_map(|&v| v.to_le_bytes()).collect(),
            DType::Bool => values.iter().map(|&v| u8::from(v != 0.0)).collect(),
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
            DType::I4 | DType::U4 => values
                .chunks(2)
                .map(|pair| (pair[0] as u8 & 0xf) | (pair.get(1).map_or(0, |v| *v as u8 & 0xf) << 4))
                .collect(),
            DType::I8 | DType::U8 => values.iter().map(|&v| v as u8).collect(),
            DType::I16 | DType::U16 => values.iter().flat_map(|&v| (v as u16).to_le_bytes()).collect(),
            DType::I32 | DType::U32 => values.iter().flat_map(|&v| (v as u32).to_le_bytes()).collect(),
            DType::I64 | DType::U64 | DType::String => values.iter().flat_map(|&v| (v as u64).to_le_bytes()).collect(),
            DType::F16 => values.iter().flat_map(|&v| integer_to_f16(v).to_le_bytes()).collect(),
            DType::BF16 => values.iter().flat_map(|&v| integer_to_bf16(v).to_le_bytes()).collect(),
            DType::F32 => values.iter().flat_map(|&v| (v as f32).to_le_bytes()).collect(),
            DType::F64 => values.iter().flat_map(|&v| (v as f64).to_le_bytes()).collect(),
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
        Self::from_bits(DType::String, shape, handles)
    }

    /// The elements of a string tensor: handles of a [`ired_host::StringTable`]. Of other types, their bits.
    pub fn to_handles(&self) -> Vec<u64> {
        self.to_bits()
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
            let values: &[i128] = if dtype == DType::Bool { &[0, 1, 1] } else { &[0, 7, 3] };
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
    }
}
