//! Small models, said briefly.

use ired_frontends::onnx::proto::*;
use ired_frontends::{Frontend, ImportError, MemorySource, onnx::Onnx};
use ired_graph::{DType, Graph, Tensor, interpret, verify};
use prost::Message;

/// The operator set of models that do not say.
pub const OPSET: i64 = 21;

pub fn model(graph: GraphProto) -> ModelProto {
    model_of(OPSET, graph)
}

pub fn model_of(opset: i64, graph: GraphProto) -> ModelProto {
    ModelProto {
        ir_version: Some(10),
        opset_import: vec![opset_of("", opset)],
        graph: Some(graph),
        ..ModelProto::default()
    }
}

pub fn opset_of(domain: &str, version: i64) -> OperatorSetIdProto {
    OperatorSetIdProto { domain: Some(domain.to_owned()), version: Some(version) }
}

pub fn graph(inputs: Vec<ValueInfoProto>, nodes: Vec<NodeProto>, outputs: &[&str]) -> GraphProto {
    GraphProto {
        name: Some("test".to_owned()),
        input: inputs,
        node: nodes,
        output: outputs
            .iter()
            .map(|o| ValueInfoProto { name: Some((*o).to_owned()), r#type: None })
            .collect(),
        ..GraphProto::default()
    }
}

pub fn node(op_type: &str, inputs: &[&str], outputs: &[&str]) -> NodeProto {
    NodeProto {
        op_type: Some(op_type.to_owned()),
        input: inputs.iter().map(|s| (*s).to_owned()).collect(),
        output: outputs.iter().map(|s| (*s).to_owned()).collect(),
        ..NodeProto::default()
    }
}

impl NodeExt for NodeProto {}

/// Attributes in passing: `node(..).int("axis", 1)`.
pub trait NodeExt: Into<NodeProto> {
    fn with(self, attribute: AttributeProto) -> NodeProto {
        let mut node = self.into();
        node.attribute.push(attribute);
        node
    }

    fn named(self, name: &str) -> NodeProto {
        NodeProto { name: Some(name.to_owned()), ..self.into() }
    }

    fn int(self, name: &str, i: i64) -> NodeProto {
        self.with(AttributeProto { i: Some(i), ..attribute(name, 2) })
    }

    fn float(self, name: &str, f: f32) -> NodeProto {
        self.with(AttributeProto { f: Some(f), ..attribute(name, 1) })
    }

    fn ints(self, name: &str, ints: &[i64]) -> NodeProto {
        self.with(AttributeProto { ints: ints.to_vec(), ..attribute(name, 7) })
    }

    fn text(self, name: &str, s: &'static str) -> NodeProto {
        self.with(AttributeProto { s: Some(s.into()), ..attribute(name, 3) })
    }

    fn texts(self, name: &str, strings: &[&'static str]) -> NodeProto {
        let strings = strings.iter().map(|s| (*s).into()).collect();
        self.with(AttributeProto { strings, ..attribute(name, 8) })
    }

    fn floats(self, name: &str, floats: &[f32]) -> NodeProto {
        self.with(AttributeProto { floats: floats.to_vec(), ..attribute(name, 6) })
    }

    fn tensor(self, name: &str, t: TensorProto) -> NodeProto {
        self.with(AttributeProto { t: Some(t), ..attribute(name, 4) })
    }

    fn graph(self, name: &str, g: GraphProto) -> NodeProto {
        self.with(AttributeProto { g: Some(g), ..attribute(name, 5) })
    }
}

pub fn attribute(name: &str, kind: i32) -> AttributeProto {
    AttributeProto { name: Some(name.to_owned()), r#type: Some(kind), ..AttributeProto::default() }
}

/// A size of an input: a number, or a name, or neither when the name is empty.
pub enum Size {
    Number(i64),
    Named(&'static str),
}

impl From<i64> for Size {
    fn from(number: i64) -> Self {
        Self::Number(number)
    }
}

impl From<&'static str> for Size {
    fn from(name: &'static str) -> Self {
        Self::Named(name)
    }
}

pub fn input(name: &str, dtype: DType, sizes: impl IntoIterator<Item = Size>) -> ValueInfoProto {
    use tensor_shape_proto::{Dimension, dimension::Value};
    let dim = |size| Dimension {
        value: match size {
            Size::Number(number) => Some(Value::DimValue(number)),
            Size::Named("") => None,
            Size::Named(name) => Some(Value::DimParam(name.to_owned())),
        },
    };
    let shape = TensorShapeProto { dim: sizes.into_iter().map(dim).collect() };
    let tensor = type_proto::Tensor { elem_type: Some(code(dtype)), shape: Some(shape) };
    let ty = TypeProto { value: Some(type_proto::Value::TensorType(tensor)) };
    ValueInfoProto { name: Some(name.to_owned()), r#type: Some(ty) }
}

/// An f32 input.
pub fn input_f32(name: &str, sizes: &[i64]) -> ValueInfoProto {
    input(name, DType::F32, sizes.iter().map(|s| Size::Number(*s)))
}

pub fn code(dtype: DType) -> i32 {
    match dtype {
        DType::F32 => 1,
        DType::U8 => 2,
        DType::I8 => 3,
        DType::U16 => 4,
        DType::I16 => 5,
        DType::I32 => 6,
        DType::I64 => 7,
        DType::String => 8,
        DType::Bool => 9,
        DType::F16 => 10,
        DType::F64 => 11,
        DType::U32 => 12,
        DType::U64 => 13,
        DType::C64 => 14,
        DType::C128 => 15,
        DType::BF16 => 16,
        DType::F8E4M3FN => 17,
        DType::F8E4M3FNUZ => 18,
        DType::F8E5M2 => 19,
        DType::F8E5M2FNUZ => 20,
        DType::U4 => 21,
        DType::I4 => 22,
        DType::F4E2M1 => 23,
        DType::F8E8M0 => 24,
        DType::U2 => 25,
        DType::I2 => 26,
        other => panic!("no test uses {other}"),
    }
}

/// A tensor as files hold it, in raw bytes.
pub fn raw(name: &str, tensor: &Tensor) -> TensorProto {
    TensorProto {
        name: Some(name.to_owned()),
        data_type: Some(code(tensor.dtype())),
        dims: tensor.shape().iter().map(|d| *d as i64).collect(),
        raw_data: Some(tensor.data().clone()),
        ..TensorProto::default()
    }
}

pub fn raw_ints(name: &str, values: &[i64]) -> TensorProto {
    raw(name, &ints(values))
}

pub fn f32s(shape: &[u64], values: &[f32]) -> Tensor {
    Tensor::from_f32s(shape, values)
}

/// A vector of i64.
pub fn ints(values: &[i64]) -> Tensor {
    Tensor::from_i64s(&[values.len() as u64], values)
}

pub fn import(model: &ModelProto) -> Result<Graph, ImportError> {
    import_bytes(model.encode_to_vec())
}

pub fn import_bytes(model: Vec<u8>) -> Result<Graph, ImportError> {
    let graph = Onnx.import(&MemorySource::new("model.onnx", model.into()))?;
    if let Err(error) = verify(&graph) {
        panic!("an invalid graph was imported: {error:?}");
    }
    Ok(graph)
}

/// What the model computes on these inputs.
pub fn run(model: &ModelProto, inputs: &[Tensor]) -> Vec<Tensor> {
    let graph = import(model).unwrap_or_else(|e| panic!("{}", chain(&e)));
    interpret(&graph, inputs).unwrap_or_else(|e| panic!("{}", chain(&e)))
}

/// An error with its causes.
pub fn chain(error: &dyn std::error::Error) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {}", chain(cause)),
        None => error.to_string(),
    }
}
