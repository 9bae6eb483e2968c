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
mod computed;
mod constant;
mod control;
mod convolution;
mod cropping;
mod cubic;
mod determinant;
mod einsum;
mod elementwise;
mod filters;
mod image;
mod import;
mod indexing;
mod labels;
mod linear;
mod linear_attention;
mod loss;
mod microsoft;
mod movement;
mod normalization;
mod opset;
mod order;
mod pooling;
mod quantization;
mod quantized;
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
mod shape;
mod signal;
mod slicing;
mod softmax;
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
use ired_graph::{Graph, Tensor};
use ired_host::StringTable;
use prost::Message;

use crate::{Frontend, ImportError, MemorySource, ModelSource};

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

    fn import(&self, source: &dyn ModelSource) -> Result<Graph, ImportError> {
        let bytes = source.model()?;
        wire::check(&bytes)?;
        let model = proto::ModelProto::decode(bytes)?;
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
