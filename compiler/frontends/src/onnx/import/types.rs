//! Types as files state them: dimensions that are numbers, names, or left out.

use ired_graph::{Dim, Shape, Symbols, TensorType, dim::UNBOUNDED};

use super::super::proto::tensor_shape_proto::{self, dimension};
use super::super::proto::{TensorShapeProto, TypeProto, ValueInfoProto, type_proto};
use super::super::tensor::{self, MAX_RANK};
use crate::ImportError;

/// Named and unnamed sizes that one model may have: looking one up takes as long as there are many.
const MAX_SYMBOLS: usize = 4096;

/// The hint for a tensor whose element type is not supported.
pub(super) const OTHER_DTYPE: &str = "use tensors of a supported element type";

/// The type of a model input, or what of it is not supported and a hint. Named dimensions of one name are one symbol; unnamed
/// ones are fresh.
///
/// # Errors
/// [`ImportError::Input`] for an input without a type, or with sizes that no tensor has.
pub(super) fn input_type(
    symbols: &mut Symbols,
    input: &ValueInfoProto,
) -> Result<Result<TensorType, (String, &'static str)>, ImportError> {
    let invalid = |problem: String| ImportError::Input { input: input.name().to_owned(), problem };
    let value = input.r#type.as_ref().and_then(|ty| ty.value.as_ref());
    let tensor = match value {
        Some(type_proto::Value::TensorType(tensor)) => tensor,
        Some(other) => return Ok(Err((kind(other).to_owned(), "make it a dense tensor"))),
        None => return Err(invalid("has no type".to_owned())),
    };
    let dtype = match tensor::dtype(tensor.elem_type()) {
        Ok(dtype) => dtype,
        Err(error) => return Ok(Err((error.to_string(), OTHER_DTYPE))),
    };
    let Some(shape) = &tensor.shape else {
        let hint =
            "state its shape, `?` for a size that varies: `--shape NAME=2x3x?`, or in the model itself";
        return Ok(Err(("a tensor whose rank is not known".to_owned(), hint)));
    };
    Ok(Ok(TensorType { dtype, shape: dims(symbols, shape).map_err(invalid)? }))
}

/// A type stated for a value that is not computed; `None` where it says too little.
pub(super) fn stated_type(symbols: &mut Symbols, ty: &TypeProto) -> Option<TensorType> {
    let Some(type_proto::Value::TensorType(tensor)) = &ty.value else { return None };
    let dtype = tensor::dtype(tensor.elem_type()).ok()?;
    let shape = dims(symbols, tensor.shape.as_ref()?).ok()?;
    Some(TensorType { dtype, shape })
}

/// Compares the type that a model states for an output with the one its nodes give: the element type, the rank, and
/// each dimension that is a number on both sides. What the model leaves open is not compared.
pub(super) fn check_declared(declared: &TypeProto, ty: &TensorType, symbols: &Symbols) -> Result<(), String> {
    let tensor = match &declared.value {
        Some(type_proto::Value::TensorType(tensor)) => tensor,
        Some(other) => return Err(format!("is declared as {}; the graph gives a tensor", kind(other))),
        None => return Ok(()),
    };
    let code = tensor.elem_type();
    if code != 0 && tensor::dtype(code).ok() != Some(ty.dtype) {
        let declared = tensor::dtype(code).map_or_else(|_| tensor::dtype_name(code), |d| d.to_string());
        return Err(format!("is declared with element type {declared}; the graph gives {}", ty.dtype));
    }
    let Some(shape) = &tensor.shape else { return Ok(()) };
    let number = |dim: &tensor_shape_proto::Dimension| match &dim.value {
        // Some exporters write -1 for a size that is not known.
        Some(dimension::Value::DimValue(d)) if *d >= 0 => Some(*d),
        _ => None,
    };
    let agrees = |(declared, found): (&tensor_shape_proto::Dimension, &Dim)| match (
        number(declared),
        found.as_static(),
    ) {
        (Some(declared), Some(found)) => declared == found,
        _ => true,
    };
    if shape.dim.len() == ty.shape.len() && shape.dim.iter().zip(&ty.shape).all(agrees) {
        return Ok(());
    }
    let declared: Vec<String> = shape
        .dim
        .iter()
        .map(|dim| match &dim.value {
            Some(dimension::Value::DimValue(d)) => d.to_string(),
            Some(dimension::Value::DimParam(name)) => name.clone(),
            None => "?".to_owned(),
        })
        .collect();
    let found: Vec<String> = ty.shape.iter().map(|dim| dim.display(symbols).to_string()).collect();
    Err(format!("is declared with shape [{}]; the graph gives [{}]", declared.join(", "), found.join(", ")))
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
            // Some exporters write so what varies.
            Some(dimension::Value::DimValue(-1)) => Dim::symbol(symbols.fresh("d")),
            Some(dimension::Value::DimValue(d)) => {
                return Err(format!("has dimension {d}; expected 0 to {UNBOUNDED}, or -1"));
            }
            // `?` is how some write that they do not know.
            Some(dimension::Value::DimParam(name)) if !name.is_empty() && name != "?" => {
                Dim::symbol(symbols.named(name))
            }
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
