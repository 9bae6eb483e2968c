//! Types as files state them: dimensions that are numbers, names, or left out.

use ired_graph::{Dim, Shape, Symbols, TensorType, dim::UNBOUNDED};

use super::super::proto::tensor_shape_proto::dimension;
use super::super::proto::{TensorShapeProto, TypeProto, ValueInfoProto, type_proto};
use super::super::tensor::{self, MAX_RANK};
use crate::ImportError;

/// Named and unnamed sizes that one model may have: looking one up takes as long as there are many.
const MAX_SYMBOLS: usize = 4096;

/// The type of a model input, or what of it is not supported. Named dimensions of one name are one symbol; unnamed
/// ones are fresh.
///
/// # Errors
/// [`ImportError::Input`] for an input without a type, or with sizes that no tensor has.
pub(super) fn input_type(
    symbols: &mut Symbols,
    input: &ValueInfoProto,
) -> Result<Result<TensorType, String>, ImportError> {
    let invalid = |problem: String| ImportError::Input { input: input.name().to_owned(), problem };
    let value = input.r#type.as_ref().and_then(|ty| ty.value.as_ref());
    let tensor = match value {
        Some(type_proto::Value::TensorType(tensor)) => tensor,
        Some(other) => return Ok(Err(format!("{}; only tensors are supported", kind(other)))),
        None => return Err(invalid("has no type".to_owned())),
    };
    let dtype = match tensor::dtype(tensor.elem_type()) {
        Ok(dtype) => dtype,
        Err(error) => return Ok(Err(error.to_string())),
    };
    let Some(shape) = &tensor.shape else { return Ok(Err("a tensor whose rank is not known".to_owned())) };
    Ok(Ok(TensorType { dtype, shape: dims(symbols, shape).map_err(invalid)? }))
}

/// A type stated for a value that is not computed; `None` where it says too little.
pub(super) fn stated_type(symbols: &mut Symbols, ty: &TypeProto) -> Option<TensorType> {
    let Some(type_proto::Value::TensorType(tensor)) = &ty.value else { return None };
    let dtype = tensor::dtype(tensor.elem_type()).ok()?;
    let shape = dims(symbols, tensor.shape.as_ref()?).ok()?;
    Some(TensorType { dtype, shape })
}

fn dims(symbols: &mut Symbols, shape: &TensorShapeProto) -> Result<Shape, String> {
    if shape.dim.len() > MAX_RANK {
        return Err(format!("has rank {}; at most {MAX_RANK} is supported", shape.dim.len()));
    }
    let mut dims = Shape::with_capacity(shape.dim.len());
    for dim in &shape.dim {
        if symbols.len() >= MAX_SYMBOLS {
            return Err(format!("brings the model's named dimensions over {MAX_SYMBOLS}"));
        }
        dims.push(match &dim.value {
            Some(dimension::Value::DimValue(d)) if (0..=UNBOUNDED).contains(d) => Dim::constant(*d),
            Some(dimension::Value::DimValue(d)) => {
                return Err(format!("has dimension {d}; expected 0 to {UNBOUNDED}"));
            }
            Some(dimension::Value::DimParam(name)) if !name.is_empty() => Dim::symbol(symbols.named(name)),
            _ => Dim::symbol(symbols.fresh("d")),
        });
    }
    Ok(dims)
}

fn kind(value: &type_proto::Value) -> &'static str {
    match value {
        type_proto::Value::TensorType(_) => "a tensor",
        type_proto::Value::SequenceType(_) => "a sequence",
        type_proto::Value::MapType(_) => "a map",
        type_proto::Value::SparseTensorType(_) => "a sparse tensor",
        type_proto::Value::OptionalType(_) => "an optional value",
    }
}
