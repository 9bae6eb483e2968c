//! Random ONNX models: every operator the importer knows, on inputs, attributes and constants that may or may not suit
//! it. Most are refused; what is accepted has types to be held to.

use arbitrary::{Result, Unstructured};
use ired_frontends::onnx::proto::tensor_shape_proto::{Dimension, dimension};
use ired_frontends::onnx::proto::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, TensorShapeProto,
    TypeProto, ValueInfoProto, type_proto,
};
use ired_frontends::onnx::operators;

/// Attributes that many operators have: others are rarely hit by chance.
const ATTRIBUTES: [&str; 24] = [
    "axis", "axes", "keepdims", "perm", "to", "mode", "pads", "strides", "dilations", "kernel_shape", "group",
    "alpha", "beta", "epsilon", "shape", "split", "num_outputs", "largest", "sorted", "exclusive", "reverse",
    "allowzero", "batch_dims", "hidden_size",
];

/// Element types by ONNX's numbers, common ones first.
const TYPES: [i32; 12] = [1, 7, 6, 9, 10, 11, 2, 3, 16, 12, 13, 5];

/// A model of a few nodes.
///
/// # Errors
/// When the fuzzer's bytes do not suffice.
pub fn random_model(u: &mut Unstructured<'_>) -> Result<ModelProto> {
    let known: Vec<_> = operators().collect();
    let mut graph = GraphProto { name: Some("fuzz".to_owned()), ..GraphProto::default() };
    let mut names = Vec::new();
    for i in 0..u.int_in_range(1..=3)? {
        let name = format!("x{i}");
        graph.input.push(value_info(&name, *u.choose(&TYPES)?, &shape(u)?));
        names.push(name);
    }
    for i in 0..u.int_in_range(0..=2)? {
        let name = format!("c{i}");
        graph.initializer.push(constant(&name, u)?);
        names.push(name);
    }
    for i in 0..u.int_in_range(1..=5)? {
        let (domain, op, _) = *u.choose(&known)?;
        let mut node = NodeProto {
            op_type: Some(op.to_owned()),
            domain: Some(domain.to_owned()),
            name: Some(format!("n{i}")),
            ..NodeProto::default()
        };
        for _ in 0..u.int_in_range(1..=4)? {
            node.input.push(if u.ratio(1, 12)? { String::new() } else { u.choose(&names)?.clone() });
        }
        for _ in 0..u.int_in_range(0..=3)? {
            node.attribute.push(attribute(u)?);
        }
        for j in 0..u.int_in_range(1..=2)? {
            node.output.push(format!("y{i}_{j}"));
        }
        names.extend(node.output.iter().take(1).cloned());
        graph.node.push(node);
    }
    let last = format!("y{}_0", graph.node.len() - 1);
    graph.output.push(ValueInfoProto { name: Some(last), ..ValueInfoProto::default() });
    let set = |domain: &str, version| OperatorSetIdProto { domain: Some(domain.to_owned()), version: Some(version) };
    Ok(ModelProto {
        ir_version: Some(10),
        opset_import: vec![set("", u.int_in_range(1..=28)?), set("ai.onnx.ml", u.int_in_range(1..=5)?), set("com.microsoft", 1)],
        graph: Some(graph),
        ..ModelProto::default()
    })
}

fn shape(u: &mut Unstructured<'_>) -> Result<Vec<dimension::Value>> {
    let mut dims = Vec::new();
    for _ in 0..u.int_in_range(0..=4)? {
        dims.push(match u.int_in_range(0..=9)? {
            0 => dimension::Value::DimParam("n".to_owned()),
            1 => dimension::Value::DimParam("m".to_owned()),
            2 => dimension::Value::DimValue(0),
            size => dimension::Value::DimValue(size - 2),
        });
    }
    Ok(dims)
}

fn value_info(name: &str, elem_type: i32, dims: &[dimension::Value]) -> ValueInfoProto {
    let dim = dims.iter().map(|value| Dimension { value: Some(value.clone()), ..Dimension::default() }).collect();
    let tensor = type_proto::Tensor { elem_type: Some(elem_type), shape: Some(TensorShapeProto { dim }) };
    let value = Some(type_proto::Value::TensorType(tensor));
    ValueInfoProto {
        name: Some(name.to_owned()),
        r#type: Some(TypeProto { value, ..TypeProto::default() }),
        ..ValueInfoProto::default()
    }
}

/// Integers mostly: shapes, axes and indices are what decides types.
fn constant(name: &str, u: &mut Unstructured<'_>) -> Result<TensorProto> {
    let count = u.int_in_range(0..=4)?;
    let mut tensor = TensorProto { name: Some(name.to_owned()), ..TensorProto::default() };
    tensor.dims = if count == 1 && u.arbitrary()? { Vec::new() } else { vec![count] };
    if u.ratio(3, 4)? {
        tensor.data_type = Some(7);
        tensor.int64_data = (0..count).map(|_| number(u)).collect::<Result<_>>()?;
    } else {
        tensor.data_type = Some(1);
        tensor.float_data = (0..count).map(|_| Ok(number(u)? as f32 / 2.0)).collect::<Result<_>>()?;
    }
    Ok(tensor)
}

/// Small as a rule, now and then anything.
fn number(u: &mut Unstructured<'_>) -> Result<i64> {
    if u.ratio(1, 16)? { u.arbitrary() } else { u.int_in_range(-3..=6) }
}

fn attribute(u: &mut Unstructured<'_>) -> Result<AttributeProto> {
    let name = Some((*u.choose(&ATTRIBUTES)?).to_owned());
    let attribute = AttributeProto { name, ..AttributeProto::default() };
    Ok(match u.int_in_range(0..=3)? {
        0 => AttributeProto { r#type: Some(1), f: Some(number(u)? as f32 / 4.0), ..attribute },
        1 | 2 => AttributeProto { r#type: Some(2), i: Some(number(u)?), ..attribute },
        _ => {
            let count = u.int_in_range(0..=4)?;
            let ints = (0..count).map(|_| number(u)).collect::<Result<_>>()?;
            AttributeProto { r#type: Some(7), ints, ..attribute }
        }
    })
}
