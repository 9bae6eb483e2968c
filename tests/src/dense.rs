//! A model that takes long for what it is sent: layers of products, as wide as is wanted.

use crate::onnx::{FLOAT, bytes, constant, model_of, node, number, tensor};

/// Numbers in a row of the input `x`.
pub const INPUT: usize = 64;
const OUTPUT: usize = 10;

/// Rows of `x` become rows of `y` by products with `INPUT x width`, `width x width` and `width x OUTPUT` numbers.
pub fn model(width: usize) -> Vec<u8> {
    let layer = |name, rows: usize, columns: usize| {
        // Sums stay about as large as what is summed, and no two columns are alike.
        let scale = 2.0 / (rows as f32).sqrt();
        let values = (0..rows * columns).map(|at| (at as f32 * 0.618).fract() - 0.5);
        constant(name, &[rows, columns], &values.map(|value| value * scale).collect::<Vec<_>>())
    };
    let shape = |size: usize| [bytes(2, b"N"), number(1, size as u64)];
    let ([rows, input], [_, output]) = (shape(INPUT), shape(OUTPUT));
    let graph = [
        node("MatMul", &["x", "first"], "a", &[]),
        node("Relu", &["a"], "b", &[]),
        node("MatMul", &["b", "second"], "c", &[]),
        node("Relu", &["c"], "d", &[]),
        node("MatMul", &["d", "third"], "y", &[]),
        bytes(2, b"dense"),
        layer("first", INPUT, width),
        layer("second", width, width),
        layer("third", width, OUTPUT),
        tensor(11, "x", FLOAT, &[&rows, &input]),
        tensor(12, "y", FLOAT, &[&rows, &output]),
    ];
    model_of(&graph.concat())
}
