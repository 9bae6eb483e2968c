//! ONNX: protobuf messages whose weights stay slices of the file, and operators composed from graph operations.

mod activation;
mod attention;
mod attributes;
mod bounds;
mod call;
mod cast;
mod causal_convolution;
mod classical;
mod col2im;
mod complex;
mod computed;
mod constant;
mod control;
mod convolution;
mod cropping;
mod cubic;
mod einsum;
mod elementwise;
mod elimination;
mod filters;
mod image;
mod import;
mod indexing;
mod labels;
mod linear;
mod linear_attention;
mod loops;
mod loss;
mod microsoft;
mod movement;
mod normalization;
mod opset;
mod optimizer;
mod optional;
mod order;
mod pooling;
mod quantization;
mod quantized;
mod random;
mod ranking;
mod recurrent;
mod reduction;
mod registry;
mod repeat;
mod resize;
mod roi;
mod rotary;
mod sampling;
mod scatter;
mod selection;
mod sequence;
mod shape;
mod signal;
mod slicing;
mod softmax;
mod stated;
mod suppression;
mod tensor;
mod text;
mod transposed;
mod windows;
mod wire;

/// The messages of `proto/onnx.proto`.
pub mod proto {
    #![allow(missing_docs, clippy::all, reason = "generated")]
    include!(concat!(env!("OUT_DIR"), "/onnx.rs"));
}

pub use tensor::TensorError;
pub use wire::WireError;

use bytes::Bytes;
use ired_graph::{DType, Graph, Tensor};
use ired_host::StringTable;
use prost::Message;

use crate::{Frontend, ImportError, InputShape, MemorySource, ModelSource};

/// The ONNX frontend: models of operator sets 7 and later, some operators of earlier ones.
#[derive(Clone, Copy, Debug)]
pub struct Onnx;

impl Frontend for Onnx {
    fn name(&self) -> &'static str {
        "ONNX"
    }

    fn recognises(&self, file_name: &str, head: &[u8]) -> bool {
        // A serialized model has no magic; writers begin with field 1, the IR version, which is small.
        file_name.ends_with(".onnx") || matches!(head, [0x08, 1..=64, ..])
    }

    fn import_shaped(&self, source: &dyn ModelSource, shapes: &[InputShape]) -> Result<Graph, ImportError> {
        let bytes = source.model()?;
        wire::check(&bytes)?;
        let mut model = proto::ModelProto::decode(bytes)?;
        if let Some(graph) = &mut model.graph {
            stated::state_shapes(graph, shapes)?;
        }
        import::import_model(&model, source)
    }
}

/// Every operator that is imported, a line a version in which it changed its meaning: domain (empty for `ai.onnx`), name
/// and the version of the operator set it is read from.
pub fn operators() -> impl Iterator<Item = (&'static str, &'static str, i64)> {
    registry::entries()
}

/// A tensor as ONNX's test cases store it: one serialized `TensorProto` a file. Strings are added to `strings`.
///
/// # Errors
/// When the bytes are no tensor, or one of an element type that is not supported.
pub fn read_test_tensor(bytes: Bytes, strings: &mut StringTable) -> Result<Tensor, ImportError> {
    let nothing = MemorySource::default();
    tensor::read(&proto::TensorProto::decode(bytes)?, &tensor::ExternalFiles::new(&nothing), strings)
}

/// A sequence of tensors as ONNX's test cases store it, one serialized `SequenceProto` a file: what a module takes for
/// it, the elements of all tensors and their shapes. An empty one, which does not say, is of the `kind` given, an element
/// type and a rank.
///
/// # Errors
/// As [`read_test_tensor`], and when the tensors differ in type or rank.
pub fn read_test_sequence(
    bytes: Bytes,
    kind: (DType, usize),
    strings: &mut StringTable,
) -> Result<[Tensor; 2], ImportError> {
    test_sequence(&proto::SequenceProto::decode(bytes)?, kind, strings)
}

fn test_sequence(
    sequence: &proto::SequenceProto,
    (dtype, rank): (DType, usize),
    strings: &mut StringTable,
) -> Result<[Tensor; 2], ImportError> {
    let nothing = MemorySource::default();
    let files = tensor::ExternalFiles::new(&nothing);
    let tensors = sequence.tensor_values.iter().map(|t| tensor::read(t, &files, strings));
    let tensors = tensors.collect::<Result<Vec<_>, _>>()?;
    let (dtype, rank) = tensors.first().map_or((dtype, rank), |t| (t.dtype(), t.shape().len()));
    let uneven = || ImportError::Input {
        input: "a sequence".to_owned(),
        problem: "has tensors of different types or ranks, or of elements that share bytes".to_owned(),
    };
    if tensors.iter().any(|t| t.dtype() != dtype || t.shape().len() != rank) {
        return Err(uneven());
    }
    if tensors.iter().any(|t| t.data().len() * 8 != t.len() * dtype.bits()) {
        return Err(uneven());
    }
    let elements = tensors.iter().map(Tensor::len).sum::<usize>();
    let data: Vec<u8> = tensors.iter().flat_map(|t| t.data().iter().copied()).collect();
    let shapes: Vec<i64> = tensors.iter().flat_map(|t| t.shape().iter().map(|d| *d as i64)).collect();
    let values = Tensor::new(dtype, vec![elements as u64], data.into()).map_err(|_| uneven())?;
    Ok([values, Tensor::from_i64s(&[tensors.len() as u64, rank as u64], &shapes)])
}

/// What a test case stores of an optional value.
#[derive(Debug)]
pub enum TestOptional {
    Nothing,
    Tensor(Tensor),
    /// As [`read_test_sequence`] gives it.
    Sequence([Tensor; 2]),
}

/// An optional value as ONNX's test cases store it, one serialized `OptionalProto` a file.
///
/// # Errors
/// As [`read_test_sequence`].
pub fn read_test_optional(
    bytes: Bytes,
    kind: (DType, usize),
    strings: &mut StringTable,
) -> Result<TestOptional, ImportError> {
    let optional = proto::OptionalProto::decode(bytes)?;
    if let Some(sequence) = &optional.sequence_value {
        return Ok(TestOptional::Sequence(test_sequence(sequence, kind, strings)?));
    }
    match &optional.tensor_value {
        Some(value) => {
            let nothing = MemorySource::default();
            Ok(TestOptional::Tensor(tensor::read(value, &tensor::ExternalFiles::new(&nothing), strings)?))
        }
        None => Ok(TestOptional::Nothing),
    }
}
