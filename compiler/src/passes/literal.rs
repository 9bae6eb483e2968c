//! Reading and making the numbers inside constants.

use bytes::Bytes;
use half::{bf16, f16};
use ired_graph::{DType, Tensor};

/// All elements as f64, for floats only; `None` for other types.
pub(super) fn to_floats(tensor: &Tensor) -> Option<Vec<f64>> {
    let data = tensor.data();
    Some(match tensor.dtype() {
        DType::F16 => words(data).map(|b| f16::from_le_bytes(b).to_f64()).collect(),
        DType::BF16 => words(data).map(|b| bf16::from_le_bytes(b).to_f64()).collect(),
        DType::F32 => words(data).map(|b| f64::from(f32::from_le_bytes(b))).collect(),
        DType::F64 => words(data).map(f64::from_le_bytes).collect(),
        _ => return None,
    })
}

/// Whether no element is infinite or NaN.
pub(super) fn is_finite(tensor: &Tensor) -> bool {
    let data = tensor.data();
    match tensor.dtype() {
        DType::F16 => words(data).all(|b| f16::from_le_bytes(b).is_finite()),
        DType::BF16 => words(data).all(|b| bf16::from_le_bytes(b).is_finite()),
        DType::F32 => words(data).all(|b| f32::from_le_bytes(b).is_finite()),
        DType::F64 => words(data).all(|b| f64::from_le_bytes(b).is_finite()),
        dtype => !dtype.is_narrow_float(),
    }
}

/// A float tensor from f64, rounded once.
pub(super) fn from_floats(dtype: DType, shape: Vec<u64>, values: &[f64]) -> Option<Tensor> {
    let mut data = Vec::with_capacity(values.len() * dtype.bits() / 8);
    for &v in values {
        match dtype {
            DType::F16 => data.extend(f16::from_f64(v).to_le_bytes()),
            DType::BF16 => data.extend(bf16::from_f64(v).to_le_bytes()),
            DType::F32 => data.extend((v as f32).to_le_bytes()),
            DType::F64 => data.extend(v.to_le_bytes()),
            _ => return None,
        }
    }
    Tensor::new(dtype, shape, Bytes::from(data)).ok()
}

fn words<const N: usize>(data: &[u8]) -> impl Iterator<Item = [u8; N]> + '_ {
    data.chunks_exact(N).map(|chunk| {
        let mut word = [0; N];
        word.copy_from_slice(chunk);
        word
    })
}

/// One number, as far as simplification cares. Integers and booleans are `Int`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Number {
    Int(i128),
    Float(f64),
}

impl Number {
    pub(super) fn is(self, value: i32) -> bool {
        match self {
            Self::Int(v) => v == i128::from(value),
            Self::Float(v) => v == f64::from(value),
        }
    }
}

/// The number that every element of `tensor` is, if they are all the same; `None` for empty tensors, and for
/// types that are not computed with.
pub(super) fn splat(tensor: &Tensor) -> Option<Number> {
    let width = match tensor.dtype().bits() {
        _ if tensor.dtype().is_narrow_float() || tensor.dtype().is_complex() => return None,
        bits if bits % 8 == 0 => bits / 8,
        _ => return None,
    };
    let (first, rest) = tensor.data().split_at_checked(width)?;
    if rest.chunks(width).any(|c| c != first) {
        return None;
    }
    let mut word = [0u8; 8];
    word[..width].copy_from_slice(first);
    let unsigned = u64::from_le_bytes(word);
    let shift = 64 - width * 8;
    let signed = ((unsigned << shift) as i64) >> shift;
    Some(match tensor.dtype() {
        DType::Bool => Number::Int(i128::from(unsigned != 0)),
        DType::F16 => Number::Float(f16::from_bits(unsigned as u16).to_f64()),
        DType::BF16 => Number::Float(bf16::from_bits(unsigned as u16).to_f64()),
        DType::F32 => Number::Float(f64::from(f32::from_bits(unsigned as u32))),
        DType::F64 => Number::Float(f64::from_bits(unsigned)),
        dtype if dtype.is_signed_integer() => Number::Int(i128::from(signed)),
        _ => Number::Int(i128::from(unsigned)),
    })
}

/// `tensor`'s first element as a scalar.
pub(super) fn to_scalar(tensor: &Tensor) -> Option<Tensor> {
    let width = tensor.dtype().bits().div_ceil(8);
    Tensor::new(tensor.dtype(), Vec::new(), tensor.data().get(..width).map(Bytes::copy_from_slice)?).ok()
}
