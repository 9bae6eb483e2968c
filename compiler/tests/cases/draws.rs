//! Random operators of ONNX: compiled code draws what the interpreter does, in every call.

use ired_frontends::onnx::proto::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorShapeProto, TypeProto,
    ValueInfoProto, tensor_shape_proto::Dimension, tensor_shape_proto::dimension, type_proto,
};
use ired_frontends::{Frontend, MemorySource, onnx::Onnx};
use ired_graph::{Graph, Tensor};
use prost::Message;

use crate::harness::{self, Compiled};

/// A draw of the input's shape, or from the numbers in it.
fn draw(op_type: &str, seed: Option<f32>) -> NodeProto {
    let output = format!("{op_type}{}", if seed.is_some() { "" } else { "_unseeded" });
    let attribute = |seed| AttributeProto {
        name: Some("seed".to_owned()),
        r#type: Some(1),
        f: Some(seed),
        ..AttributeProto::default()
    };
    NodeProto {
        name: Some(output.clone()),
        op_type: Some(op_type.to_owned()),
        input: vec!["x".to_owned()],
        output: vec![output],
        attribute: seed.map(attribute).into_iter().collect(),
        ..NodeProto::default()
    }
}

/// The nodes of one f32 input `[n, m]`, all their outputs given.
fn import(nodes: Vec<NodeProto>) -> Graph {
    let size = |name: &str| Dimension { value: Some(dimension::Value::DimParam(name.to_owned())) };
    let shape = TensorShapeProto { dim: ["n", "m"].map(size).to_vec() };
    let tensor = type_proto::Tensor { elem_type: Some(1), shape: Some(shape) };
    let ty = TypeProto { value: Some(type_proto::Value::TensorType(tensor)) };
    let value = |name: &str, ty| ValueInfoProto { name: Some(name.to_owned()), r#type: ty };
    let outputs = nodes.iter().map(|node| value(&node.output[0], None)).collect();
    let graph = GraphProto {
        name: Some("draws".to_owned()),
        input: vec![value("x", Some(ty))],
        output: outputs,
        node: nodes,
        ..GraphProto::default()
    };
    let opset = OperatorSetIdProto { domain: None, version: Some(22) };
    let model = ModelProto {
        ir_version: Some(10),
        opset_import: vec![opset],
        graph: Some(graph),
        ..ModelProto::default()
    };
    Onnx.import(&MemorySource::new("model.onnx", model.encode_to_vec().into())).expect("a sound model")
}

#[test]
fn compiled_draws_are_those_of_the_interpreter() {
    let graph = import(vec![
        draw("RandomUniformLike", Some(3.0)),
        draw("RandomUniformLike", None),
        draw("Bernoulli", Some(7.0)),
        draw("Multinomial", Some(2.0)),
        draw("RandomNormalLike", Some(5.0)),
    ]);
    let compiled = Compiled::new(&graph);
    for shape in [[1, 1], [3, 5], [17, 13]] {
        let count = shape.iter().product::<u64>();
        let shares: Vec<f32> = (0..count).map(|i| (i % 7) as f32 / 7.0).collect();
        let inputs = [Tensor::from_f32s(&shape, &shares)];
        let expected = harness::reference(&graph, &inputs).unwrap();
        let found = compiled.run(&inputs).unwrap();
        // Exactly, but for the logarithms and cosines that normal numbers are made with.
        assert_eq!(found[..4], expected[..4], "at {shape:?}");
        harness::compare(&expected[4..], &found[4..], 1e-6).unwrap();
        assert_ne!(found[0], found[1]);
        assert_eq!(compiled.run(&inputs).unwrap(), found);
    }
}
