//! Inputs and outputs of a model that are sequences or optional values: a tensor each for what they consist of.

use bytes::Bytes;
use ired_graph::{DType, Dim, Graph, Symbols, TensorType};
use prost::Message;

use super::super::optional::{Held, Optional};
use super::super::proto::{HeldTypeProto, TypeProto, ValueInfoProto, type_proto};
use super::super::sequence::Sequence;
use super::super::tensor;
use super::Binding;
use crate::ImportError;

/// Adds the inputs that `input` consists of, if it is a sequence or an optional value of tensors.
///
/// # Errors
/// [`ImportError::Input`] where its type says nothing of what it holds.
pub(super) fn add_input(graph: &mut Graph, input: &ValueInfoProto) -> Result<Option<Binding>, ImportError> {
    let name = input.name();
    let value = input.r#type.as_ref().and_then(|ty| ty.value.as_ref());
    let incomplete = || {
        let problem = "is of a type that does not say what it holds".to_owned();
        ImportError::Input { input: name.to_owned(), problem }
    };
    match value {
        Some(type_proto::Value::SequenceType(sequence)) => {
            let element = held(sequence).ok_or_else(incomplete)?;
            Ok(add_sequence(graph, name, &element).map(Binding::Sequence))
        }
        Some(type_proto::Value::OptionalType(optional)) => {
            let element = held(optional).ok_or_else(incomplete)?;
            if held_type(&element).is_none() {
                return Ok(None);
            }
            let present = graph.add_input(format!("{name}.present"), TensorType::scalar(DType::Bool));
            let held = match &element.value {
                Some(type_proto::Value::SequenceType(sequence)) => {
                    let element = held(sequence).ok_or_else(incomplete)?;
                    add_sequence(graph, name, &element).map_or(Held::Nothing, Held::Sequence)
                }
                Some(type_proto::Value::TensorType(tensor)) => {
                    let dtype = tensor::dtype(tensor.elem_type()).unwrap_or(DType::F32);
                    let rank = tensor.shape.as_ref().map_or(0, |shape| shape.dim.len());
                    if rank > tensor::MAX_RANK {
                        let problem = format!("has rank {rank}; at most {} is supported", tensor::MAX_RANK);
                        return Err(ImportError::Input { input: name.to_owned(), problem });
                    }
                    let shape: Vec<Dim> = (0..rank).map(|_| fresh(&mut graph.symbols, "d")).collect();
                    Held::Value(graph.add_input(name, TensorType::new(dtype, shape)))
                }
                _ => Held::Nothing,
            };
            Ok(Some(Binding::Optional(Optional { present, held })))
        }
        _ => Ok(None),
    }
}

/// The type that the bytes of a sequence's or an optional value's type say it holds.
fn held(bytes: &Bytes) -> Option<TypeProto> {
    HeldTypeProto::decode(bytes.clone()).ok()?.elem_type
}

/// The type of the tensors that a value holds, if they are supported.
fn held_type(ty: &TypeProto) -> Option<DType> {
    match &ty.value {
        Some(type_proto::Value::TensorType(tensor)) => tensor::dtype(tensor.elem_type()).ok(),
        Some(type_proto::Value::SequenceType(sequence)) => match &held(sequence)?.value {
            Some(type_proto::Value::TensorType(tensor)) => tensor::dtype(tensor.elem_type()).ok(),
            _ => None,
        },
        _ => None,
    }
}

/// A sequence whose tensors have the rank that the model states, unless that is 0: exporters write an empty shape for
/// one they do not know.
fn add_sequence(graph: &mut Graph, name: &str, element: &TypeProto) -> Option<Sequence> {
    let Some(type_proto::Value::TensorType(tensor)) = &element.value else { return None };
    let dtype = tensor::dtype(tensor.elem_type()).ok()?;
    let rank = match tensor.shape.as_ref().map(|shape| shape.dim.len()) {
        None | Some(0) => fresh(&mut graph.symbols, "rank"),
        Some(rank) if rank <= tensor::MAX_RANK => Dim::constant(rank as i64),
        Some(_) => return None,
    };
    let [total, length] = ["total", "length"].map(|prefix| fresh(&mut graph.symbols, prefix));
    let values = graph.add_input(format!("{name}.values"), TensorType::new(dtype, vec![total]));
    let shapes = graph.add_input(format!("{name}.shapes"), TensorType::new(DType::I64, vec![length, rank]));
    Some(Sequence { values, shapes })
}

fn fresh(symbols: &mut Symbols, prefix: &str) -> Dim {
    Dim::symbol(symbols.fresh(prefix))
}

/// The names of the outputs that a sequence, an optional value or a sequence of maps consists of.
pub(super) fn names(name: &str, binding: Binding) -> Vec<String> {
    let part = |part: &str| format!("{name}.{part}");
    match binding {
        Binding::Sequence(_) => vec![part("values"), part("shapes")],
        Binding::Maps(_) => vec![part("keys"), part("values")],
        Binding::Optional(Optional { held: Held::Nothing, .. }) => vec![part("present")],
        Binding::Optional(Optional { held: Held::Value(_), .. }) => vec![part("present"), name.to_owned()],
        Binding::Optional(Optional { held: Held::Sequence(_), .. }) => {
            vec![part("present"), part("values"), part("shapes")]
        }
        Binding::Value(_) | Binding::Unknown | Binding::Absent => vec![name.to_owned()],
    }
}
