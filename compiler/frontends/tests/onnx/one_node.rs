//! Models of one node, whose results are compared with numbers.

use ired_frontends::onnx::proto::NodeProto;
use ired_graph::Tensor;

use crate::build::*;

/// An input of the one node under test.
pub enum Given {
    /// Fed at run time.
    Data(Tensor),
    /// In the file.
    Weight(Tensor),
    Missing,
}

use Given::{Data, Missing, Weight};

/// What a node of `opset` gives as its first `outputs` outputs; its inputs and outputs are named here.
pub fn outputs_of(opset: i64, mut node: NodeProto, given: &[Given], outputs: usize) -> Vec<Tensor> {
    let domain = node.domain().to_owned();
    let (mut inputs, mut weights, mut fed) = (Vec::new(), Vec::new(), Vec::new());
    for (i, given) in given.iter().enumerate() {
        let name = format!("i{i}");
        match given {
            Data(tensor) => {
                // Sizes of the first input are symbolic; of the others numbers, for they must fit the first.
                let size = |(axis, size): (usize, &u64)| match i {
                    0 => Size::Named(["p", "q", "r", "s", "t"][axis]),
                    _ => Size::Number(*size as i64),
                };
                inputs.push(input(&name, tensor.dtype(), tensor.shape().iter().enumerate().map(size)));
                fed.push(tensor.clone());
            }
            Weight(tensor) => weights.push(raw(&name, tensor)),
            Missing => {
                node.input.push(String::new());
                continue;
            }
        }
        node.input.push(name);
    }
    node.output = (0..outputs).map(|i| format!("o{i}")).collect();
    let names: Vec<String> = node.output.clone();
    let mut g = graph(inputs, vec![node], &names.iter().map(String::as_str).collect::<Vec<_>>());
    g.initializer = weights;
    let mut model = model_of(opset, g);
    if !domain.is_empty() {
        model.opset_import.push(opset_of(&domain, 1));
    }
    run(&model, &fed)
}

pub fn op(op_type: &str) -> NodeProto {
    node(op_type, &[], &[])
}

pub fn op_of(domain: &str, op_type: &str) -> NodeProto {
    NodeProto { domain: Some(domain.to_owned()), ..op(op_type) }
}

/// Checks shape and numbers of one output, to 1e-5 relative.
#[track_caller]
pub fn check(opset: i64, node: NodeProto, given: &[Given], shape: &[u64], expected: &[f64]) {
    let output = outputs_of(opset, node, given, 1).remove(0);
    assert_near(&output, shape, expected);
}

#[track_caller]
pub fn assert_near(output: &Tensor, shape: &[u64], expected: &[f64]) {
    assert_eq!(output.shape(), shape);
    let found = output.to_f64s();
    let near =
        |(a, b): (&f64, &f64)| (a - b).abs() < 1e-5 * b.abs().max(1.0) || a == b || a.is_nan() && b.is_nan();
    assert!(
        found.len() == expected.len() && found.iter().zip(expected).all(near),
        "{found:?} is not {expected:?}"
    );
}

pub fn vector(values: &[f32]) -> Given {
    Data(f32s(&[values.len() as u64], values))
}

pub fn scalar(value: i64) -> Given {
    Weight(Tensor::from_i64s(&[], &[value]))
}

pub fn list(values: &[i64]) -> Given {
    Weight(ints(values))
}

/// `shape` filled with 0, 1, 2…
pub fn counting(shape: &[u64]) -> Tensor {
    let count: u64 = shape.iter().product();
    f32s(shape, &(0..count).map(|i| i as f32).collect::<Vec<_>>())
}
