//! Tensors as the protocols write them: names of element types, typed lists, JSON numbers.

pub mod classes;
pub mod json;
pub mod typed;

use ired_module::DType;
use ired_worker::{RuntimeFailure, Tensor};

use crate::error::Error;

/// The protocol's name of an element type.
pub const fn datatype(dtype: DType) -> &'static str {
    match dtype {
        DType::Bool => "BOOL",
        DType::I8 => "INT8",
        DType::I16 => "INT16",
        DType::I32 => "INT32",
        DType::I64 => "INT64",
        DType::U8 => "UINT8",
        DType::U16 => "UINT16",
        DType::U32 => "UINT32",
        DType::U64 => "UINT64",
        DType::F16 => "FP16",
        DType::BF16 => "BF16",
        DType::F32 => "FP32",
        DType::F64 => "FP64",
        DType::String => "BYTES",
        // Not in the protocol; packed bytes travel as raw contents.
        DType::I4 => "INT4",
        DType::U4 => "UINT4",
        DType::I2 => "INT2",
        DType::U2 => "UINT2",
        DType::F4E2M1 => "FP4_E2M1",
        DType::F8E4M3FN => "FP8_E4M3FN",
        DType::F8E4M3FNUZ => "FP8_E4M3FNUZ",
        DType::F8E5M2 => "FP8_E5M2",
        DType::F8E5M2FNUZ => "FP8_E5M2FNUZ",
        DType::F8E8M0 => "FP8_E8M0",
        DType::C64 => "COMPLEX64",
        DType::C128 => "COMPLEX128",
        _ => "UNKNOWN",
    }
}

/// The element type that a request names.
///
/// # Errors
/// [`Error::Invalid`] for what is no type.
pub fn parse_datatype(tensor: &str, name: &str) -> Result<DType, Error> {
    if let Some(dtype) = DType::ALL.iter().copied().find(|dtype| datatype(*dtype) == name) {
        return Ok(dtype);
    }
    let shown: String = name.chars().take(32).collect();
    Err(Error::invalid(format!("input `{tensor}`: `{}` is not a datatype", shown.escape_debug())))
}

/// Dimensions of a request as sizes.
pub fn parse_shape(tensor: &str, shape: &[i64]) -> Result<Vec<u64>, Error> {
    let size = |&dim: &i64| {
        u64::try_from(dim)
            .map_err(|_| Error::invalid(format!("input `{tensor}`: dimension {dim} is negative")))
    };
    shape.iter().map(size).collect()
}

/// Takes an output out of those that a worker gave.
pub fn take_output(outputs: &mut Vec<Tensor>, name: &str) -> Result<Tensor, RuntimeFailure> {
    let found = outputs.iter().position(|tensor| tensor.name == name);
    let missing = || RuntimeFailure::Protocol { message: format!("the worker gave no output `{name}`") };
    Ok(outputs.swap_remove(found.ok_or_else(missing)?))
}

/// Bytes that a tensor of a request must have; of strings what its elements take as handles.
pub fn tensor_bytes(tensor: &str, dtype: DType, dims: &[u64]) -> Result<u64, Error> {
    dtype.tensor_bytes(dims).ok_or_else(|| {
        Error::invalid(format!("input `{tensor}`: shape {dims:?} has more bytes than can be counted"))
    })
}
