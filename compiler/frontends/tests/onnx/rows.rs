//! Usual networks, written as exporters write them, treat each row of a batch alone, and that is seen; those of which
//! it is not so say where rows meet.

use ired_frontends::onnx::proto::*;
use ired_graph::rows::independent_rows;
use ired_graph::{DType, Graph, Tensor, interpret};

use crate::build::*;

/// Weights that are no multiples of each other.
fn weight(name: &str, shape: &[u64]) -> TensorProto {
    let count = shape.iter().product::<u64>();
    let values: Vec<f32> = (0..count).map(|i| ((i as f32 + 1.3) * 0.7).sin() * 0.5).collect();
    raw(name, &f32s(shape, &values))
}

fn with_weights(mut model: ModelProto, weights: Vec<TensorProto>) -> ModelProto {
    model.graph.as_mut().unwrap().initializer = weights;
    model
}

fn batch_of(name: &str, row: &[i64]) -> ValueInfoProto {
    let sizes = [Size::Named("batch")].into_iter().chain(row.iter().map(|size| Size::Number(*size)));
    input(name, DType::F32, sizes)
}

/// `rows` rows of f32, or of integers under 4, from one place of a long list of numbers on.
fn rows(graph: &Graph, rows: u64, from: u64) -> Vec<Tensor> {
    let of = |input: &ired_graph::ValueId| {
        let ty = graph.ty(*input);
        let row = ty.shape[1..].iter().map(|dim| dim.as_static().unwrap_or(5) as u64);
        let row: Vec<u64> = row.collect();
        let length = row.iter().product::<u64>();
        let numbers = (from * length..(from + rows) * length).map(|i| (i as f64 * 0.37).sin() * 2.0);
        let shape = [&[rows], &row[..]].concat();
        match ty.dtype {
            DType::F32 => Tensor::from_f64s(DType::F32, &shape, &numbers.collect::<Vec<f64>>()),
            _ => Tensor::from_i64s(&shape, &numbers.map(|v| (v * 10.0) as i64 & 3).collect::<Vec<i64>>()),
        }
    };
    graph.inputs().iter().map(of).collect()
}

/// It is seen, and so: five rows give what two and three give.
#[track_caller]
fn independent(model: &ModelProto) {
    let graph = import(model).unwrap_or_else(|e| panic!("{}", chain(&e)));
    assert_eq!(independent_rows(&graph), Ok(()), "{graph}");
    let run = |count, from| {
        interpret(&graph, &rows(&graph, count, from)).unwrap_or_else(|e| panic!("{}", chain(&e)))
    };
    let (together, one, two) = (run(5, 0), run(2, 0), run(3, 2));
    for (together, (one, two)) in together.iter().zip(one.iter().zip(&two)) {
        assert_eq!(together.data()[..], [&one.data()[..], &two.data()[..]].concat()[..]);
    }
}

#[track_caller]
fn dependent(model: &ModelProto, expected: &str) {
    let graph = import(model).unwrap_or_else(|e| panic!("{}", chain(&e)));
    assert_eq!(independent_rows(&graph).unwrap_err().to_string(), expected);
}

#[test]
fn a_convolutional_network() {
    let nodes = vec![
        node("Conv", &["x", "w1"], &["c"]).ints("pads", &[1, 1, 1, 1]),
        node("BatchNormalization", &["c", "s", "b", "m", "v"], &["n"]),
        node("Relu", &["n"], &["r"]),
        node("MaxPool", &["r"], &["p"]).ints("kernel_shape", &[2, 2]).ints("strides", &[2, 2]),
        node("Conv", &["p", "w2"], &["d"]).int("group", 4).ints("pads", &[1, 1, 1, 1]),
        node("Add", &["d", "p"], &["residual"]),
        node("GlobalAveragePool", &["residual"], &["g"]),
        node("Flatten", &["g"], &["f"]),
        node("Gemm", &["f", "w3", "b3"], &["logits"]).int("transB", 1),
        node("Softmax", &["logits"], &["y"]).int("axis", -1),
    ];
    let vector = |name| raw(name, &f32s(&[4], &[0.5, 1.5, 0.25, 1.0]));
    let weights = vec![
        weight("w1", &[4, 3, 3, 3]),
        vector("s"),
        vector("b"),
        vector("m"),
        vector("v"),
        weight("w2", &[4, 1, 3, 3]),
        weight("w3", &[6, 4]),
        weight("b3", &[6]),
    ];
    independent(&with_weights(model(graph(vec![batch_of("x", &[3, 6, 6])], nodes, &["y"])), weights));
}

/// Embeddings, what normalises them from `e` to `h`, a mask, heads that are split with sizes read from tensors' shapes, and two outputs.
fn encoder(normalized: Vec<NodeProto>) -> ModelProto {
    let size = |of: &str, axis: &str, name: &str| {
        [
            node("Shape", &[of], &[&format!("{name}.shape")]),
            node("Gather", &[&format!("{name}.shape"), axis], &[&format!("{name}.size")]).int("axis", 0),
            node("Unsqueeze", &[&format!("{name}.size"), "axis0"], &[name]),
        ]
    };
    let heads = |of: &str, weight: &str, name: &str, perm: &[i64]| {
        [
            node("MatMul", &["h", weight], &[of]),
            node("Reshape", &[of, "split"], &[&format!("{of}.split")]),
            node("Transpose", &[&format!("{of}.split")], &[name]).ints("perm", perm),
        ]
    };
    let mut nodes = vec![node("Gather", &["table", "ids"], &["words"])];
    nodes.extend(size("ids", "zero", "b"));
    nodes.extend(size("ids", "one", "l"));
    nodes.extend([
        node("Slice", &["places", "starts", "l", "axis1"], &["place"]),
        node("Add", &["words", "place"], &["e"]),
    ]);
    nodes.extend(normalized);
    nodes.extend([
        node("Concat", &["b", "l", "heads"], &["split"]).int("axis", 0),
        node("Concat", &["b", "l", "width"], &["merge"]).int("axis", 0),
    ]);
    nodes.extend(heads("q", "wq", "queries", &[0, 2, 1, 3]));
    nodes.extend(heads("k", "wk", "keys", &[0, 2, 3, 1]));
    nodes.extend(heads("v", "wv", "values", &[0, 2, 1, 3]));
    nodes.extend([
        node("Unsqueeze", &["mask", "axes12"], &["wide"]),
        node("Cast", &["wide"], &["flags"]).int("to", 1),
        node("Sub", &["unit", "flags"], &["off"]),
        node("Mul", &["off", "least"], &["bias"]),
        node("MatMul", &["queries", "keys"], &["scores"]),
        node("Add", &["scores", "bias"], &["masked"]),
        node("Softmax", &["masked"], &["p"]).int("axis", -1),
        node("MatMul", &["p", "values"], &["context"]),
        node("Transpose", &["context"], &["back"]).ints("perm", &[0, 2, 1, 3]),
        node("Reshape", &["back", "merge"], &["merged"]),
        node("Slice", &["merged", "starts", "one1", "axis1"], &["token"]),
        node("Squeeze", &["token", "axis1"], &["first"]),
        node("Gemm", &["first", "wk"], &["pooled"]),
        node("Tanh", &["pooled"], &["pooler"]),
    ]);
    let ids = |name| input(name, DType::I64, ["batch".into(), "length".into()]);
    let weights = vec![
        weight("table", &[4, 8]),
        weight("places", &[1, 16, 8]),
        weight("scale", &[8]),
        weight("wq", &[8, 8]),
        weight("wk", &[8, 8]),
        weight("wv", &[8, 8]),
        raw("unit", &f32s(&[], &[1.0])),
        raw("least", &f32s(&[], &[-1e4])),
        raw("zero", &Tensor::from_i64s(&[], &[0])),
        raw("one", &Tensor::from_i64s(&[], &[1])),
        raw_ints("one1", &[1]),
        raw_ints("starts", &[0]),
        raw_ints("axis0", &[0]),
        raw_ints("axis1", &[1]),
        raw_ints("axes12", &[1, 2]),
        raw_ints("heads", &[2, 4]),
        raw_ints("width", &[8]),
    ];
    with_weights(model(graph(vec![ids("ids"), ids("mask")], nodes, &["merged", "pooler"])), weights)
}

#[test]
fn a_transformer_encoder() {
    independent(&encoder(vec![node("LayerNormalization", &["e", "scale"], &["h"]).int("axis", -1)]));
    let over_rows = vec![
        node("ReduceMean", &["e", "axis0"], &["mean"]).named("/norm"),
        node("Sub", &["e", "mean"], &["h"]),
    ];
    dependent(
        &encoder(over_rows),
        "rows of output `merged` depend on each other: `/norm` (ReduceMean) works along the rows",
    );
}

#[test]
fn a_recurrent_network() {
    let nodes = vec![
        node("Transpose", &["x"], &["steps"]).ints("perm", &[1, 0, 2]),
        node("LSTM", &["steps", "w", "r"], &["all", "last"])
            .int("hidden_size", 3)
            .text("direction", "bidirectional"),
        node("Transpose", &["all"], &["rows"]).ints("perm", &[2, 0, 1, 3]),
        node("Reshape", &["rows", "merged"], &["joined"]),
        node("MatMul", &["joined", "out"], &["y"]),
    ];
    let weights = vec![
        weight("w", &[2, 12, 4]),
        weight("r", &[2, 12, 3]),
        weight("out", &[6, 2]),
        raw_ints("merged", &[0, 0, 6]),
    ];
    let x = input("x", DType::F32, ["batch".into(), "length".into(), 4.into()]);
    independent(&with_weights(model(graph(vec![x], nodes, &["y"])), weights));
}

#[test]
fn quantised_layers_with_scales_of_their_own_and_with_those_of_the_batch() {
    let static_scales = vec![
        node("QuantizeLinear", &["x", "scale", "zero"], &["q"]),
        node("DequantizeLinear", &["q", "scale", "zero"], &["d"]),
        node("MatMul", &["d", "w"], &["y"]),
    ];
    let weights = || {
        vec![
            raw("scale", &f32s(&[], &[0.02])),
            raw("zero", &Tensor::from_integers(DType::U8, &[], &[128])),
            weight("w", &[4, 3]),
        ]
    };
    let of = |nodes| with_weights(model(graph(vec![batch_of("x", &[4])], nodes, &["y"])), weights());
    independent(&of(static_scales));
    let scale_of_all = vec![
        node("DynamicQuantizeLinear", &["x"], &["q", "s", "z"]).named("/quantize"),
        node("DequantizeLinear", &["q", "s", "z"], &["y"]),
    ];
    dependent(
        &of(scale_of_all),
        "rows of output `y` depend on each other: `/quantize` (DynamicQuantizeLinear) works along the rows",
    );
}
