//! Calls with the rows of two others, for tests of how rows depend on each other.

use ired_graph::{DType, Graph, InterpretError, Tensor, interpret};

/// Inputs of `rows` rows, each other size `other`; integers are 0 or 1. Rows of other calls are different.
pub(crate) fn inputs_of(graph: &Graph, rows: u64, other: u64) -> Vec<Tensor> {
    let inputs = graph.inputs().iter().enumerate();
    inputs
        .map(|(number, &input)| {
            let ty = graph.ty(input);
            let size = |(axis, dim): (usize, &ired_graph::Dim)| match dim.as_static() {
                Some(size) => size as u64,
                None if axis == 0 => rows,
                None => other,
            };
            let shape: Vec<u64> = ty.shape.iter().enumerate().map(size).collect();
            let count = shape.iter().product::<u64>();
            let element = |i: u64| ((i + 7 * rows + number as u64) as f64 * 0.83).sin() * 3.0;
            match ty.dtype {
                DType::I64 => {
                    let values = (0..count).map(|i| i64::from(element(i) > 0.0)).collect::<Vec<i64>>();
                    Tensor::from_i64s(&shape, &values)
                }
                dtype => Tensor::from_f64s(dtype, &shape, &(0..count).map(element).collect::<Vec<f64>>()),
            }
        })
        .collect()
}

/// The outputs of two calls, and of one with the rows of both.
pub(crate) fn alone_and_together(
    graph: &Graph,
    one: &[Tensor],
    other: &[Tensor],
) -> Result<([Vec<Tensor>; 2], Vec<Tensor>), InterpretError> {
    let joined = one.iter().zip(other).map(|(one, other)| {
        let mut shape = one.shape().to_vec();
        shape[0] += other.shape()[0];
        let data = [&one.data()[..], &other.data()[..]].concat();
        Tensor::new(one.dtype(), shape, data.into()).expect("the rows of both")
    });
    let together = interpret(graph, &joined.collect::<Vec<Tensor>>())?;
    Ok(([interpret(graph, one)?, interpret(graph, other)?], together))
}
