//! ONNX test data: `input_0.pb`, `output_0.pb`…, each one serialized `TensorProto`, sequence or optional value.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use ired_module::{DType, texts};
use prost::Message;

use super::NamedTensor;

/// The fields of ONNX's `TensorProto` that test data uses.
#[derive(Clone, PartialEq, Message)]
struct TensorProto {
    #[prost(int64, repeated, tag = "1")]
    dims: Vec<i64>,
    #[prost(int32, tag = "2")]
    data_type: i32,
    #[prost(float, repeated, tag = "4")]
    float_data: Vec<f32>,
    #[prost(int32, repeated, tag = "5")]
    int32_data: Vec<i32>,
    #[prost(bytes = "bytes", repeated, tag = "6")]
    string_data: Vec<Bytes>,
    #[prost(int64, repeated, tag = "7")]
    int64_data: Vec<i64>,
    #[prost(string, tag = "8")]
    name: String,
    #[prost(bytes = "bytes", tag = "9")]
    raw_data: Bytes,
    #[prost(double, repeated, tag = "10")]
    double_data: Vec<f64>,
    #[prost(uint64, repeated, tag = "11")]
    uint64_data: Vec<u64>,
}

/// The fields of ONNX's `SequenceProto`, of tensors, that test data uses.
#[derive(Clone, PartialEq, Message)]
struct SequenceProto {
    #[prost(message, repeated, tag = "3")]
    tensor_values: Vec<TensorProto>,
}

/// The fields of ONNX's `OptionalProto` that test data uses.
#[derive(Clone, PartialEq, Message)]
struct OptionalProto {
    #[prost(message, optional, tag = "3")]
    tensor_value: Option<TensorProto>,
    #[prost(message, optional, tag = "5")]
    sequence_value: Option<SequenceProto>,
}

/// Reads one tensor; its name may be empty.
///
/// # Errors
/// When the file is not a tensor, or holds what cannot be a tensor here (sequences, optionals).
pub(crate) fn read(path: &Path) -> Result<NamedTensor> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read `{}`", path.display()))?;
    decode(Bytes::from(bytes)).with_context(|| format!("`{}`", path.display()))
}

/// Reads a sequence of tensors.
///
/// # Errors
/// When the file is no sequence, or holds what cannot be a tensor here.
pub(crate) fn read_sequence(path: &Path) -> Result<Vec<NamedTensor>> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read `{}`", path.display()))?;
    let sequence = SequenceProto::decode(Bytes::from(bytes)).context("not a serialized sequence")?;
    tensors_of(sequence).with_context(|| format!("`{}`", path.display()))
}

fn tensors_of(sequence: SequenceProto) -> Result<Vec<NamedTensor>> {
    sequence.tensor_values.into_iter().map(decode_tensor).collect()
}

/// What an optional value holds.
pub(crate) enum Optional {
    Nothing,
    Tensor(NamedTensor),
    Sequence(Vec<NamedTensor>),
}

/// Reads an optional value.
///
/// # Errors
/// When the file is no such value, or holds what cannot be a tensor here.
pub(crate) fn read_optional(path: &Path) -> Result<Optional> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read `{}`", path.display()))?;
    let value = OptionalProto::decode(Bytes::from(bytes)).context("not a serialized optional value")?;
    let found = match (value.tensor_value, value.sequence_value) {
        (_, Some(sequence)) => tensors_of(sequence).map(Optional::Sequence),
        (Some(tensor), None) => decode_tensor(tensor).map(Optional::Tensor),
        (None, None) => Ok(Optional::Nothing),
    };
    found.with_context(|| format!("`{}`", path.display()))
}

fn decode(bytes: Bytes) -> Result<NamedTensor> {
    decode_tensor(TensorProto::decode(bytes).context("not a serialized tensor")?)
}

fn decode_tensor(proto: TensorProto) -> Result<NamedTensor> {
    let dtype = element_type(proto.data_type)?;
    let dims: Vec<u64> = proto
        .dims
        .iter()
        .map(|&d| u64::try_from(d))
        .collect::<Result<_, _>>()
        .context("a negative dimension")?;
    if dtype == DType::String {
        let data = string_data(&proto)?;
        let (found, dims_text) = (proto.string_data.len(), format!("{dims:?}"));
        ensure!(texts::is_tensor(dtype, &dims, &data), "{found} strings for a tensor of {dims_text}");
        return Ok(NamedTensor { name: proto.name, dtype, dims, data });
    }
    let expected = dtype.tensor_bytes(&dims).context("its size overflows")?;
    let data = if proto.raw_data.is_empty() { typed_data(&proto, dtype)? } else { proto.raw_data };
    ensure!(data.len() as u64 == expected, "{} bytes of data where {expected} belong", data.len());
    Ok(NamedTensor { name: proto.name, dtype, dims, data })
}

fn element_type(number: i32) -> Result<DType> {
    Ok(match number {
        1 => DType::F32,
        2 => DType::U8,
        3 => DType::I8,
        4 => DType::U16,
        5 => DType::I16,
        6 => DType::I32,
        7 => DType::I64,
        8 => DType::String,
        9 => DType::Bool,
        10 => DType::F16,
        11 => DType::F64,
        12 => DType::U32,
        13 => DType::U64,
        14 => DType::C64,
        15 => DType::C128,
        16 => DType::BF16,
        17 => DType::F8E4M3FN,
        18 => DType::F8E4M3FNUZ,
        19 => DType::F8E5M2,
        20 => DType::F8E5M2FNUZ,
        21 => DType::U4,
        22 => DType::I4,
        23 => DType::F4E2M1,
        24 => DType::F8E8M0,
        25 => DType::U2,
        26 => DType::I2,
        other => bail!("ONNX element type {other} is not supported"),
    })
}

fn string_data(proto: &TensorProto) -> Result<Bytes> {
    let mut data = Vec::new();
    for text in &proto.string_data {
        ensure!(texts::push(&mut data, text), "a string of {} bytes", text.len());
    }
    Ok(data.into())
}

/// Elements from the typed fields; narrow types stand in `int32_data`, one an entry, or as
/// many of less than eight bits as a byte holds.
fn typed_data(proto: &TensorProto, dtype: DType) -> Result<Bytes> {
    let narrow = |width: usize| -> Vec<u8> {
        proto.int32_data.iter().flat_map(|v| v.to_le_bytes()[..width].to_vec()).collect()
    };
    Ok(Bytes::from(match dtype {
        DType::F32 | DType::C64 => proto.float_data.iter().flat_map(|v| v.to_le_bytes()).collect(),
        DType::F64 | DType::C128 => proto.double_data.iter().flat_map(|v| v.to_le_bytes()).collect(),
        DType::I64 => proto.int64_data.iter().flat_map(|v| v.to_le_bytes()).collect(),
        DType::U64 => proto.uint64_data.iter().flat_map(|v| v.to_le_bytes()).collect(),
        DType::U32 => proto.uint64_data.iter().flat_map(|v| (*v as u32).to_le_bytes()).collect(),
        DType::I32 => narrow(4),
        DType::I16 | DType::U16 | DType::F16 | DType::BF16 => narrow(2),
        // Of one byte, or several in one byte.
        _ if dtype.bits() <= 8 => narrow(1),
        other => bail!("{other} data outside of `raw_data` is not supported"),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn raw_and_typed_data_mean_the_same() {
        let raw = TensorProto {
            dims: vec![2],
            data_type: 10,
            raw_data: Bytes::from_static(&[0, 60, 0, 64]),
            ..TensorProto::default()
        };
        let typed = TensorProto { raw_data: Bytes::new(), int32_data: vec![0x3c00, 0x4000], ..raw.clone() };
        let decoded = decode(raw.encode_to_vec().into()).unwrap();
        assert_eq!(decoded, decode(typed.encode_to_vec().into()).unwrap());
        assert_eq!((decoded.dtype, decoded.dims), (DType::F16, vec![2]));
    }

    #[test]
    fn strings_are_laid_out_with_their_lengths() {
        let proto = TensorProto {
            dims: vec![2],
            data_type: 8,
            string_data: vec![Bytes::from_static(b"ab"), Bytes::new()],
            ..TensorProto::default()
        };
        let decoded = decode(proto.encode_to_vec().into()).unwrap();
        assert_eq!(decoded.data[..], *b"\x02\0\0\0ab\0\0\0\0");
        let short = TensorProto { dims: vec![3], ..proto };
        let error = decode(short.encode_to_vec().into()).unwrap_err().to_string();
        assert_eq!(error, "2 strings for a tensor of [3]");
    }

    #[test]
    fn short_data_is_refused() {
        let proto =
            TensorProto { dims: vec![3], data_type: 1, float_data: vec![1.0], ..TensorProto::default() };
        let error = decode(proto.encode_to_vec().into()).unwrap_err().to_string();
        assert_eq!(error, "4 bytes of data where 12 belong");
    }
}
