//! Tensors in files: npz archives, ONNX test data, KServe JSON; and how two of them differ.

pub(crate) mod compare;
pub(crate) mod json;
mod narrow;
pub(crate) mod npz;
pub(crate) mod onnx_data;
pub(crate) mod onnx_model;

use bytes::Bytes;
use ired_module::DType;

/// A tensor with its name: dense, row-major, little-endian; strings as [`ired_module::texts`] lays them out.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct NamedTensor {
    pub(crate) name: String,
    pub(crate) dtype: DType,
    pub(crate) dims: Vec<u64>,
    pub(crate) data: Bytes,
}

impl NamedTensor {
    pub(crate) fn element_count(&self) -> u64 {
        self.dims.iter().product()
    }

    /// `f32[1, 3, 224, 224]`.
    pub(crate) fn type_text(&self) -> String {
        let dims: Vec<String> = self.dims.iter().map(u64::to_string).collect();
        format!("{}[{}]", self.dtype, dims.join(", "))
    }
}
