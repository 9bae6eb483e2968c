//! Shapes of inputs that are stated beside the model.

use ired_frontends::onnx::proto::*;
use ired_frontends::{Frontend, ImportError, InputShape, MemorySource, onnx::Onnx};
use ired_graph::{DType, Graph, interpret};
use prost::Message;

use crate::build::*;

/// An input and its sizes.
type Stated<'a> = (&'a str, &'a [Option<u64>]);

fn stated(model: &ModelProto, shapes: &[Stated<'_>]) -> Result<Graph, ImportError> {
    let shape = |(input, dims): &Stated<'_>| InputShape { input: (*input).to_owned(), dims: dims.to_vec() };
    let shapes: Vec<InputShape> = shapes.iter().map(shape).collect();
    Onnx.import_shaped(&MemorySource::new("m.onnx", model.encode_to_vec().into()), &shapes)
}

fn of_unknown_rank(name: &str) -> ValueInfoProto {
    let tensor = type_proto::Tensor { elem_type: Some(code(DType::F32)), shape: None };
    let ty = TypeProto { value: Some(type_proto::Value::TensorType(tensor)) };
    ValueInfoProto { name: Some(name.to_owned()), r#type: Some(ty) }
}

fn input_text(graph: &Graph, index: usize) -> String {
    graph.ty(graph.inputs()[index]).display(&graph.symbols).to_string()
}

#[test]
fn an_input_of_unknown_rank_takes_the_shape_that_is_stated() {
    let m = model(graph(vec![of_unknown_rank("x")], vec![node("Transpose", &["x"], &["y"])], &["y"]));
    let error = import(&m).unwrap_err().to_string();
    assert!(error.contains("`x` (Input of ai.onnx 21): a tensor whose rank is not known"), "{error}");
    assert!(error.contains("`--shape NAME=2x3x?`"), "{error}");
    let imported = stated(&m, &[("x", &[Some(2), None])]).unwrap();
    assert!(input_text(&imported, 0).starts_with("f32[2, d"), "{}", input_text(&imported, 0));
    let y = interpret(&imported, &[f32s(&[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0])]).unwrap().remove(0);
    assert_eq!(y, f32s(&[3, 2], &[1.0, 4.0, 2.0, 5.0, 3.0, 6.0]));
    // A scalar is a shape too.
    assert_eq!(input_text(&stated(&m, &[("x", &[])]).unwrap(), 0), "f32[]");
}

#[test]
fn a_named_size_is_stated_for_every_input() {
    let inputs =
        vec![input("a", DType::F32, ["n".into(), "".into(), 3.into()]), input("b", DType::F32, ["n".into()])];
    let nodes = vec![node("Identity", &["a"], &["y"]), node("Identity", &["b"], &["z"])];
    let m = model(graph(inputs, nodes, &["y", "z"]));
    let imported = stated(&m, &[("a", &[Some(4), Some(5), None])]).unwrap();
    assert_eq!(
        (input_text(&imported, 0).as_str(), input_text(&imported, 1).as_str()),
        ("f32[4, 5, 3]", "f32[4]")
    );
    let problem = |shapes: &[Stated<'_>]| stated(&m, shapes).unwrap_err().to_string();
    let wrong: [(&[Stated<'_>], &str); 5] = [
        (&[("a", &[None])], "model input `a` is stated with rank 1; the model says 3"),
        (
            &[("a", &[None, None, Some(2)])],
            "model input `a` is stated with size 2 on axis 2; elsewhere it is 3",
        ),
        (
            &[("a", &[Some(1), None, None]), ("b", &[Some(2)])],
            "model input `b` is stated with size 2 on axis 0; elsewhere it is 1",
        ),
        (&[("c", &[])], "model input `c` is stated with a shape, and not there"),
        (&[("b", &[Some(u64::MAX)])], "model input `b` is stated with size 18446744073709551615"),
    ];
    for (shapes, expected) in wrong {
        assert_eq!(problem(shapes), expected);
    }
}

/// `-1` and `?` say that a size is not known, and nothing of which others it equals.
#[test]
fn sizes_that_exporters_do_not_know_are_symbols_of_their_own() {
    let sizes = [Size::Number(-1), Size::Named("?"), Size::Named("?"), Size::Number(3)];
    let x = input("x", DType::F32, sizes);
    let imported = import(&model(graph(vec![x], vec![node("Relu", &["x"], &["y"])], &["y"]))).unwrap();
    let shape = &imported.ty(imported.inputs()[0]).shape;
    let [a, b, c, d] = shape.as_slice() else { panic!("rank {}", shape.len()) };
    assert!([a, b, c].iter().all(|size| size.as_symbol().is_some()) && a != b && b != c && a != c);
    assert_eq!(d.as_static(), Some(3));
}
