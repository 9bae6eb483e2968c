//! Tensors as files hold them: raw bytes stay slices of the file, typed fields are copied, external data is looked
//! up beside the model. Every length is checked against the shape before it is believed.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use ired_graph::{Builder, DType, Param, Tensor, ValueId, tensor};
use ired_host::{StringTable, TableFull};

use super::call::Outcome;
use super::proto::{StringStringEntryProto, TensorProto};
use crate::{ImportError, ModelSource, SiblingName};

/// What is wrong with a tensor of a model.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TensorError {
    #[error("element type {} is not supported", dtype_name(*.code))]
    DType { code: i32 },
    #[error("dimension {dim} is negative")]
    NegativeDimension { dim: i64 },
    #[error("rank {found}; at most {MAX_RANK} is supported")]
    Rank { found: usize },
    #[error("{dtype}{dims:?} is larger than any file")]
    TooLarge { dtype: DType, dims: Vec<u64> },
    #[error("{dtype}{dims:?} takes {expected} bytes; found {found}")]
    DataBytes { dtype: DType, dims: Vec<u64>, expected: u64, found: u64 },
    #[error("{dtype}{dims:?} takes {expected} values in its typed data; found {found}")]
    DataCount { dtype: DType, dims: Vec<u64>, expected: u64, found: u64 },
    #[error("external data: `{key}` is `{value}`; expected a number of bytes")]
    ExternalNumber { key: String, value: String },
    #[error("external data names no file")]
    ExternalUnnamed,
    #[error("external data is bytes {offset}..+{length} of `{file}`, which has {file_bytes}")]
    ExternalRange { file: String, offset: u64, length: u64, file_bytes: u64 },
    #[error("strings are stored in another field than `string_data`")]
    StringsElsewhere,
    #[error("strings")]
    Strings(#[source] TableFull),
    #[error("is stored sparsely, which is not supported")]
    Sparse,
}

/// More axes than any framework's tensors have.
pub(crate) const MAX_RANK: usize = 64;

/// Files that one model may name.
const MAX_FILES: usize = 4096;

/// The element type that ONNX numbers `code`.
pub(crate) fn dtype(code: i32) -> Result<DType, TensorError> {
    Ok(match code {
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
        _ => return Err(TensorError::DType { code }),
    })
}

/// What ONNX calls the element type that it numbers `code`.
pub(crate) fn dtype_name(code: i32) -> String {
    const NAMES: [&str; 27] = [
        "undefined",
        "float",
        "uint8",
        "int8",
        "uint16",
        "int16",
        "int32",
        "int64",
        "string",
        "bool",
        "float16",
        "double",
        "uint32",
        "uint64",
        "complex64",
        "complex128",
        "bfloat16",
        "float8e4m3fn",
        "float8e4m3fnuz",
        "float8e5m2",
        "float8e5m2fnuz",
        "uint4",
        "int4",
        "float4e2m1",
        "float8e8m0",
        "uint2",
        "int2",
    ];
    let name = usize::try_from(code).ok().and_then(|i| NAMES.get(i));
    name.map_or_else(|| format!("number {code}"), |name| (*name).to_owned())
}

/// The dimensions of a tensor with data, checked.
pub(crate) fn dims(dims: &[i64]) -> Result<Vec<u64>, TensorError> {
    if dims.len() > MAX_RANK {
        return Err(TensorError::Rank { found: dims.len() });
    }
    dims.iter().map(|d| u64::try_from(*d).map_err(|_| TensorError::NegativeDimension { dim: *d })).collect()
}

/// The files beside a model, each opened once.
pub(crate) struct ExternalFiles<'a> {
    source: &'a dyn ModelSource,
    open: RefCell<HashMap<SiblingName, Bytes>>,
}

impl<'a> ExternalFiles<'a> {
    pub(crate) fn new(source: &'a dyn ModelSource) -> Self {
        Self { source, open: RefCell::default() }
    }

    fn file(&self, tensor: &str, name: &str) -> Result<Bytes, ImportError> {
        let mut open = self.open.borrow_mut();
        let name = SiblingName::new(name)
            .map_err(|cause| ImportError::ExternalName { tensor: tensor.to_owned(), cause })?;
        if let Some(data) = open.get(&name) {
            return Ok(data.clone());
        }
        if open.len() >= MAX_FILES {
            return Err(ImportError::Limit { what: "external files", limit: MAX_FILES as u64 });
        }
        let data = self
            .source
            .sibling(&name)
            .map_err(|cause| ImportError::ExternalFile { tensor: tensor.to_owned(), cause })?;
        open.insert(name, data.clone());
        Ok(data)
    }
}

/// Weights up to this size become constants, so that shape arithmetic can be computed with them.
const SMALL_BYTES: usize = 1024;

/// The tensor as a value: a constant if it is small, else a weight called `name`.
///
/// # Errors
/// As [`read`].
pub(crate) fn emit(
    b: &mut Builder<'_>,
    name: &str,
    tensor: &TensorProto,
    files: &ExternalFiles<'_>,
) -> Outcome<ValueId> {
    let tensor = read(tensor, files, Arc::make_mut(&mut b.graph.strings))?;
    emit_tensor(b, name, tensor)
}

/// As [`emit`] for a tensor already read.
pub(crate) fn emit_tensor(b: &mut Builder<'_>, name: &str, tensor: Tensor) -> Outcome<ValueId> {
    if tensor.data().len() <= SMALL_BYTES {
        return Ok(b.constant(tensor)?);
    }
    let (dtype, shape, data) = (tensor.dtype(), tensor.shape().to_vec(), tensor.data().clone());
    let param = b.graph.add_param(Param { name: name.to_owned(), dtype, shape, data });
    Ok(b.param(param)?)
}

/// The tensor with its data; strings are added to `strings`.
///
/// # Errors
/// [`ImportError::Tensor`] and those of external files.
pub(crate) fn read(
    tensor: &TensorProto,
    files: &ExternalFiles<'_>,
    strings: &mut StringTable,
) -> Result<Tensor, ImportError> {
    let fail = |cause| ImportError::Tensor { tensor: tensor.name().to_owned(), cause };
    let dtype = dtype(tensor.data_type()).map_err(fail)?;
    let dims = dims(&tensor.dims).map_err(fail)?;
    let Some((count, expected)) = tensor::element_count(&dims).and_then(|n| Some((n, dtype.bytes(n)?)))
    else {
        return Err(fail(TensorError::TooLarge { dtype, dims }));
    };
    let data = match (tensor.data_location(), &tensor.raw_data) {
        _ if dtype == DType::String => handles(tensor, &dims, count, strings).map_err(fail)?,
        (1, _) => external(tensor, expected, files)?,
        (_, Some(raw)) => raw.clone(),
        _ => typed(tensor, dtype, &dims, count).map_err(fail)?,
    };
    let found = data.len() as u64;
    let wrong = |dims| TensorError::DataBytes { dtype, dims, expected, found };
    let data = if dtype == DType::Bool { normalise_bools(data) } else { data };
    Tensor::new(dtype, dims, data).map_err(|e| fail(wrong(e.shape)))
}

fn external(tensor: &TensorProto, expected: u64, files: &ExternalFiles<'_>) -> Result<Bytes, ImportError> {
    let fail = |cause| ImportError::Tensor { tensor: tensor.name().to_owned(), cause };
    let entry = |key: &str| tensor.external_data.iter().find(|e| e.key() == key);
    let number = |e: &StringStringEntryProto| {
        let fault = || TensorError::ExternalNumber { key: e.key().to_owned(), value: e.value().to_owned() };
        e.value().parse::<u64>().map_err(|_| fail(fault()))
    };
    let location = entry("location").ok_or_else(|| fail(TensorError::ExternalUnnamed))?;
    let file = files.file(tensor.name(), location.value())?;
    let offset = entry("offset").map(number).transpose()?.unwrap_or(0);
    let length = entry("length").map(number).transpose()?.unwrap_or(expected);
    let file_bytes = file.len() as u64;
    let range =
        || TensorError::ExternalRange { file: location.value().to_owned(), offset, length, file_bytes };
    let end = offset.checked_add(length).filter(|end| *end <= file_bytes).ok_or_else(|| fail(range()))?;
    let (Ok(start), Ok(end)) = (usize::try_from(offset), usize::try_from(end)) else {
        return Err(fail(range()));
    };
    Ok(file.slice(start..end))
}

/// The handles of a tensor of strings, which ONNX keeps in one field only.
fn handles(
    tensor: &TensorProto,
    dims: &[u64],
    expected: u64,
    strings: &mut StringTable,
) -> Result<Bytes, TensorError> {
    let found = tensor.string_data.len() as u64;
    if found == 0
        && (tensor.raw_data.as_ref().is_some_and(|raw| !raw.is_empty()) || tensor.data_location() == 1)
    {
        return Err(TensorError::StringsElsewhere);
    }
    if found != expected {
        return Err(TensorError::DataCount { dtype: DType::String, dims: dims.to_vec(), expected, found });
    }
    let mut data = Vec::with_capacity(tensor.string_data.len() * 8);
    for text in &tensor.string_data {
        data.extend_from_slice(&strings.intern(text).map_err(TensorError::Strings)?.to_le_bytes());
    }
    Ok(data.into())
}

/// Data in the fields that ONNX keeps for each group of types.
fn typed(tensor: &TensorProto, dtype: DType, dims: &[u64], count: u64) -> Result<Bytes, TensorError> {
    let t = tensor;
    let expected = match dtype {
        // A part an entry.
        DType::C64 | DType::C128 => count * 2,
        // An entry has as many elements of less than eight bits as a byte.
        _ if dtype.bits() < 8 => count.div_ceil(8 / dtype.bits() as u64),
        _ => count,
    };
    let check = |found: usize| match found as u64 == expected {
        true => Ok(()),
        false => Err(TensorError::DataCount { dtype, dims: dims.to_vec(), expected, found: found as u64 }),
    };
    let int32 = |width: usize| {
        check(t.int32_data.len())?;
        Ok(t.int32_data.iter().flat_map(|v| v.to_le_bytes().into_iter().take(width)).collect::<Vec<u8>>())
    };
    let data = match dtype {
        DType::F32 | DType::C64 => {
            check(t.float_data.len())?;
            t.float_data.iter().flat_map(|v| v.to_le_bytes()).collect()
        }
        DType::F64 | DType::C128 => {
            check(t.double_data.len())?;
            t.double_data.iter().flat_map(|v| v.to_le_bytes()).collect()
        }
        DType::I64 => {
            check(t.int64_data.len())?;
            t.int64_data.iter().flat_map(|v| v.to_le_bytes()).collect()
        }
        DType::U64 => {
            check(t.uint64_data.len())?;
            t.uint64_data.iter().flat_map(|v| v.to_le_bytes()).collect()
        }
        DType::U32 => {
            check(t.uint64_data.len())?;
            t.uint64_data.iter().flat_map(|v| (*v as u32).to_le_bytes()).collect()
        }
        DType::I32 => int32(4)?,
        DType::I16 | DType::U16 | DType::F16 | DType::BF16 => int32(2)?,
        _ => int32(1)?,
    };
    Ok(Bytes::from(data))
}

/// Bytes over 1 become 1: what reads a bool may rely on it.
fn normalise_bools(data: Bytes) -> Bytes {
    match data.iter().all(|b| *b <= 1) {
        true => data,
        false => data.iter().map(|b| u8::from(*b != 0)).collect::<Vec<u8>>().into(),
    }
}
