//! The typed lists of gRPC requests (`InferTensorContents`).

use bytes::Bytes;
use ired_module::{DType, texts};
use ired_proto::inference::InferTensorContents;

use crate::error::Error;

/// The packed bytes of a typed list; its one non-empty field must be the one that `dtype` uses and have
/// `elements` values.
pub fn pack(
    tensor: &str,
    dtype: DType,
    elements: u64,
    contents: &InferTensorContents,
) -> Result<Bytes, Error> {
    let fields = [
        ("bool_contents", contents.bool_contents.len()),
        ("int_contents", contents.int_contents.len()),
        ("int64_contents", contents.int64_contents.len()),
        ("uint_contents", contents.uint_contents.len()),
        ("uint64_contents", contents.uint64_contents.len()),
        ("fp32_contents", contents.fp32_contents.len()),
        ("fp64_contents", contents.fp64_contents.len()),
        ("bytes_contents", contents.bytes_contents.len()),
    ];
    let wanted = field(tensor, dtype)?;
    if let Some((other, _)) = fields.iter().find(|(name, len)| *len > 0 && *name != wanted) {
        return Err(Error::invalid(format!(
            "input `{tensor}`: {} is carried by `{wanted}`, found `{other}`",
            super::datatype(dtype)
        )));
    }
    let found = fields.iter().find(|(name, _)| *name == wanted).map_or(0, |(_, len)| *len);
    if found as u64 != elements {
        return Err(Error::invalid(format!(
            "input `{tensor}`: `{wanted}` has {found} values, its shape needs {elements}"
        )));
    }
    match dtype {
        DType::Bool => Ok(contents.bool_contents.iter().map(|&v| u8::from(v)).collect()),
        DType::I8 => narrow(tensor, &contents.int_contents, |v: i8| v.to_le_bytes()),
        DType::I16 => narrow(tensor, &contents.int_contents, |v: i16| v.to_le_bytes()),
        DType::I32 => Ok(flatten(&contents.int_contents, |v| v.to_le_bytes())),
        DType::I64 => Ok(flatten(&contents.int64_contents, |v| v.to_le_bytes())),
        DType::U8 => narrow(tensor, &contents.uint_contents, |v: u8| v.to_le_bytes()),
        DType::U16 => narrow(tensor, &contents.uint_contents, |v: u16| v.to_le_bytes()),
        DType::U32 => Ok(flatten(&contents.uint_contents, |v| v.to_le_bytes())),
        DType::U64 => Ok(flatten(&contents.uint64_contents, |v| v.to_le_bytes())),
        DType::F32 => Ok(flatten(&contents.fp32_contents, |v| v.to_le_bytes())),
        DType::F64 => Ok(flatten(&contents.fp64_contents, |v| v.to_le_bytes())),
        DType::String => strings(tensor, &contents.bytes_contents),
        _ => Err(raw_only(tensor, dtype)),
    }
}

fn field(tensor: &str, dtype: DType) -> Result<&'static str, Error> {
    Ok(match dtype {
        DType::Bool => "bool_contents",
        DType::I8 | DType::I16 | DType::I32 => "int_contents",
        DType::I64 => "int64_contents",
        DType::U8 | DType::U16 | DType::U32 => "uint_contents",
        DType::U64 => "uint64_contents",
        DType::F32 => "fp32_contents",
        DType::F64 => "fp64_contents",
        DType::String => "bytes_contents",
        _ => return Err(raw_only(tensor, dtype)),
    })
}

fn strings(tensor: &str, values: &[Bytes]) -> Result<Bytes, Error> {
    let mut packed = Vec::new();
    for value in values {
        if !texts::push(&mut packed, value) {
            return Err(Error::invalid(format!("input `{tensor}`: a string of {} bytes", value.len())));
        }
    }
    Ok(packed.into())
}

fn raw_only(tensor: &str, dtype: DType) -> Error {
    let name = super::datatype(dtype);
    Error::invalid(format!("input `{tensor}`: {name} has no typed contents; send it in `raw_input_contents`"))
}

fn flatten<T: Copy, const N: usize>(values: &[T], bytes: impl Fn(T) -> [u8; N]) -> Bytes {
    let mut packed = Vec::with_capacity(values.len() * N);
    for &value in values {
        packed.extend_from_slice(&bytes(value));
    }
    packed.into()
}

fn narrow<Wide: Copy + std::fmt::Display, Narrow: TryFrom<Wide>, const N: usize>(
    tensor: &str,
    values: &[Wide],
    bytes: impl Fn(Narrow) -> [u8; N],
) -> Result<Bytes, Error> {
    let mut packed = Vec::with_capacity(values.len() * N);
    for &value in values {
        let narrow = Narrow::try_from(value)
            .map_err(|_| Error::invalid(format!("input `{tensor}`: {value} does not fit its datatype")))?;
        packed.extend_from_slice(&bytes(narrow));
    }
    Ok(packed.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_packed_and_checked() {
        let contents =
            |ints: &[i32]| InferTensorContents { int_contents: ints.to_vec(), ..Default::default() };
        assert_eq!(pack("x", DType::I8, 2, &contents(&[-1, 127])).unwrap()[..], [255, 127]);
        let text = |result: Result<Bytes, Error>| result.unwrap_err().to_string();
        assert_eq!(
            text(pack("x", DType::I8, 1, &contents(&[128]))),
            "input `x`: 128 does not fit its datatype"
        );
        assert_eq!(
            text(pack("x", DType::I32, 3, &contents(&[1, 2]))),
            "input `x`: `int_contents` has 2 values, its shape needs 3"
        );
        assert_eq!(
            text(pack("x", DType::F32, 1, &contents(&[1]))),
            "input `x`: FP32 is carried by `fp32_contents`, found `int_contents`"
        );
        let strings = InferTensorContents {
            bytes_contents: vec![Bytes::from_static(b"ab"), Bytes::new()],
            ..Default::default()
        };
        assert_eq!(pack("x", DType::String, 2, &strings).unwrap()[..], *b"\x02\0\0\0ab\0\0\0\0");
        assert!(text(pack("x", DType::F16, 1, &contents(&[]))).contains("raw_input_contents"));
    }
}
