//! Sizes, axes, ends and amounts that are inputs of the model, so that only the run knows them.

use ired_frontends::onnx::proto::NodeProto;
use ired_graph::{DType, Tensor};

use crate::build::*;

/// Runs one node on f32 data of symbolic sizes and on vectors of i64, each an input of its own.
fn run_node(node: NodeProto, x: &Tensor, lists: &[&[i64]]) -> Tensor {
    let names = ["a", "b", "c", "d"];
    let sizes = ["n", "m", "k", "l"].into_iter().take(x.shape().len());
    let mut inputs = vec![input("x", DType::F32, sizes.map(Size::from))];
    let mut data = vec![x.clone()];
    for (name, list) in names.iter().zip(lists) {
        inputs.push(input(name, DType::I64, [Size::from(list.len() as i64)]));
        data.push(ints(list));
    }
    run(&model(graph(inputs, vec![node], &["y"])), &data).remove(0)
}

fn counted(shape: &[u64]) -> Tensor {
    let count = shape.iter().product::<u64>();
    f32s(shape, &(0..count).map(|i| i as f32).collect::<Vec<_>>())
}

#[test]
fn reshapes_keep_and_infer() {
    let x = counted(&[2, 3, 4]);
    let shape = |allow: i64, target: &[i64]| {
        let node = node("Reshape", &["x", "a"], &["y"]).int("allowzero", allow);
        run_node(node, &x, &[target]).shape().to_vec()
    };
    assert_eq!(shape(0, &[4, 6]), [4, 6]);
    assert_eq!(shape(0, &[0, -1]), [2, 12]);
    assert_eq!(shape(0, &[-1, 0, 2]), [4, 3, 2]);
    let empty = node("Reshape", &["x", "a"], &["y"]).int("allowzero", 1);
    assert_eq!(run_node(empty, &counted(&[0, 3]), &[&[7, 0]]).shape(), [7, 0]);
}

#[test]
fn slices_count_from_either_end_and_go_either_way() {
    let x = counted(&[3, 5]);
    let slice = |starts: &[i64], ends: &[i64], axes: &[i64], steps: &[i64]| {
        run_node(node("Slice", &["x", "a", "b", "c", "d"], &["y"]), &x, &[starts, ends, axes, steps])
    };
    assert_eq!(slice(&[1], &[i64::MAX], &[-1], &[2]), f32s(&[3, 2], &[1.0, 3.0, 6.0, 8.0, 11.0, 13.0]));
    assert_eq!(slice(&[-1, -2], &[i64::MIN, -1], &[0, 1], &[-2, 1]), f32s(&[2, 1], &[13.0, 3.0]));
    assert_eq!(slice(&[4, 0], &[1, 1], &[1, 0], &[1, 1]), f32s(&[1, 0], &[]));
    let empty = run_node(
        node("Slice", &["x", "a", "b", "c", "d"], &["y"]),
        &counted(&[0, 2]),
        &[&[-1], &[i64::MIN], &[0], &[-1]],
    );
    assert_eq!(empty.shape(), [0, 2]);
    let ends = node("Slice", &["x", "a", "b"], &["y"]);
    assert_eq!(run_node(ends, &x, &[&[1, -9], &[2, 2]]), f32s(&[1, 2], &[5.0, 6.0]));
}

/// The axes tell how many ends there are, where nothing else does.
#[test]
fn ends_may_be_lists_of_unknown_length() {
    let nodes = vec![
        node("Slice", &["at", "from", "to", "zero"], &["start"]),
        node("Slice", &["x", "start", "end", "zero"], &["y"]),
    ];
    let lists = ["at", "from", "to", "zero", "end"].map(|name| match name {
        "at" => input(name, DType::I64, [Size::from("k")]),
        _ => input(name, DType::I64, [Size::from(1)]),
    });
    let mut inputs = vec![input("x", DType::F32, [Size::from("n")])];
    inputs.extend(lists);
    let mut model = graph(inputs, nodes, &["y"]);
    model.input.retain(|input| input.name() != "zero");
    model.initializer.push(raw_ints("zero", &[0]));
    let data = [counted(&[6]), ints(&[9, 2, 9]), ints(&[1]), ints(&[2]), ints(&[5])];
    assert_eq!(run(&self::model(model), &data)[0], f32s(&[3], &[2.0, 3.0, 4.0]));
}

#[test]
fn axes_may_be_computed() {
    let x = counted(&[2, 1, 3]);
    let shape =
        |op: &str, axes: &[i64]| run_node(node(op, &["x", "a"], &["y"]), &x, &[axes]).shape().to_vec();
    assert_eq!(shape("Squeeze", &[-2]), [2, 3]);
    assert_eq!(shape("Unsqueeze", &[0, -1]), [1, 2, 1, 3, 1]);
    let reduce = |op: &str, keep: i64, axes: &[i64]| {
        run_node(node(op, &["x", "a"], &["y"]).int("keepdims", keep), &x, &[axes])
    };
    assert_eq!(reduce("ReduceSum", 1, &[-1]), f32s(&[2, 1, 1], &[3.0, 12.0]));
    assert_eq!(reduce("ReduceMax", 0, &[0, 1]), f32s(&[3], &[3.0, 4.0, 5.0]));
    assert_eq!(reduce("ReduceMean", 0, &[2, 0, 1]), f32s(&[], &[2.5]));
}

#[test]
fn amounts_may_be_computed() {
    let x = counted(&[2, 2]);
    let padded = run_node(node("Pad", &["x", "a"], &["y"]), &x, &[&[0, -1, 1, 0]]);
    assert_eq!(padded, f32s(&[3, 1], &[1.0, 3.0, 0.0]));
    let along = node("Pad", &["x", "a", "", "b"], &["y"]);
    assert_eq!(run_node(along, &x, &[&[1, 0], &[-1]]), f32s(&[2, 3], &[0.0, 0.0, 1.0, 0.0, 2.0, 3.0]));
    let tiled = run_node(node("Tile", &["x", "a"], &["y"]), &x, &[&[1, 2]]);
    assert_eq!(tiled, f32s(&[2, 4], &[0.0, 1.0, 0.0, 1.0, 2.0, 3.0, 2.0, 3.0]));
    let expanded = run_node(node("Expand", &["x", "a"], &["y"]), &counted(&[1, 2]), &[&[2, 1]]);
    assert_eq!(expanded, f32s(&[2, 2], &[0.0, 1.0, 0.0, 1.0]));
}

#[test]
fn ranges_have_the_length_their_ends_say() {
    let scalars = |dtype| ["a", "b", "c"].map(|name| input(name, dtype, [])).to_vec();
    let range = |dtype: DType, ends: [f64; 3]| {
        let data = ends.map(|end| Tensor::scalar(dtype, end));
        let graph = graph(scalars(dtype), vec![node("Range", &["a", "b", "c"], &["y"])], &["y"]);
        run(&model(graph), &data).remove(0).to_f64s()
    };
    assert_eq!(range(DType::I64, [1.0, 8.0, 3.0]), [1.0, 4.0, 7.0]);
    assert_eq!(range(DType::I32, [10.0, 4.0, -3.0]), [10.0, 7.0]);
    assert_eq!(range(DType::I64, [3.0, 3.0, 1.0]), []);
    assert_eq!(range(DType::F32, [0.0, 1.25, 0.5]), [0.0, 0.5, 1.0]);
}

/// Every step mentions the size before it twice: written out, the last one would take thousands of calls.
#[test]
fn sizes_that_grow_long_get_names() {
    let (mut nodes, mut last, mut length) = (Vec::new(), "x".to_owned(), 37);
    for step in 0..12 {
        let (halved, joined) = (format!("halved{step}"), format!("joined{step}"));
        let pool = node("MaxPool", &[&last], &[&halved]).ints("kernel_shape", &[2]).ints("strides", &[2]);
        nodes.extend([pool, node("Concat", &[&last, &halved], &[&joined]).int("axis", 2)]);
        (last, length) = (joined, length + length / 2);
    }
    let x = input("x", DType::F32, [Size::from("n"), Size::from(1), Size::from("k")]);
    let model = model(graph(vec![x], nodes, &[&last]));
    assert!(import(&model).unwrap().to_string().contains("read_dims"));
    assert_eq!(run(&model, &[counted(&[2, 1, 37])])[0].shape(), [2, 1, length]);
}
