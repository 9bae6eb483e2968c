//! Random graphs out of the builder's operations, and inputs for them.

use arbitrary::{Result, Unstructured};
use ired_graph::{
    ArgReduceFn, BinaryFn, Builder, CompareFn, DType, Dim, Graph, Op, PadMode, Param, PoolFn, ReduceFn, Tensor,
    TensorType, UnaryFn, ValueId, Window,
};

/// A graph of up to twenty steps on two inputs that share the symbol `n`.
///
/// # Errors
/// When the fuzzer's bytes do not suffice.
pub fn random_graph(u: &mut Unstructured<'_>) -> Result<Graph> {
    let mut graph = Graph::new("fuzz");
    let symbol = graph.symbols.named("n");
    graph.symbols.get_mut(symbol).max = 16;
    let n = Dim::symbol(symbol);
    let x = graph.add_input("x", TensorType::new(DType::F32, vec![n.clone(), Dim::constant(4), Dim::constant(6)]));
    let y = graph.add_input("y", TensorType::new(DType::F32, vec![n, Dim::constant(6)]));
    let mut values = vec![x, y];
    for number in 0..u.int_in_range(1..=20)? {
        if let Some(value) = add_step(&mut graph, &values, number, u)? {
            values.push(value);
        }
    }
    let mut outputs = vec![values[values.len() - 1]];
    if u.arbitrary()? {
        outputs.push(*u.choose(&values)?);
    }
    let body = graph.body;
    graph.set_outputs(body, outputs);
    Ok(graph)
}

/// Values for both inputs when `n` is `size`: moderate, so that sums stay finite, and no two alike.
pub fn inputs_of(size: u64) -> Vec<Tensor> {
    let tensor = |shape: &[u64]| {
        let count = shape.iter().product::<u64>();
        let values: Vec<f64> = (0..count).map(|i| (i as f64 * 0.7).sin() * 2.0).collect();
        Tensor::from_f64s(DType::F32, shape, &values)
    };
    vec![tensor(&[size, 4, 6]), tensor(&[size, 6])]
}

/// One more value; `None` where the operation does not fit what it was to work on, or would be large.
fn add_step(
    graph: &mut Graph,
    values: &[ValueId],
    number: usize,
    u: &mut Unstructured<'_>,
) -> Result<Option<ValueId>> {
    let (x, y) = (*u.choose(values)?, *u.choose(values)?);
    let shape = graph.ty(x).shape.clone();
    let c = usize::from(u.arbitrary::<u8>()?);
    let axis = if shape.is_empty() { 0 } else { c % shape.len() };
    let kind = u.int_in_range(0..=19)?;
    let weight = match (kind, shape.last().and_then(Dim::as_static)) {
        (16 | 17, Some(last)) => Some(add_weight(graph, last as u64, number)),
        _ => None,
    };
    let mut b = Builder::new(graph);
    let built = match kind {
        0 => b.unary([UnaryFn::Neg, UnaryFn::Abs, UnaryFn::Tanh, UnaryFn::Erf, UnaryFn::Sigmoid][c % 5], x),
        1 => b.binary_broadcast([BinaryFn::Add, BinaryFn::Sub, BinaryFn::Max, BinaryFn::Min][c % 4], x, y),
        2 => {
            let bounded = b.unary(UnaryFn::Tanh, y);
            bounded.and_then(|bounded| b.binary_broadcast(BinaryFn::Mul, x, bounded))
        }
        3 => b.binary_scalar([BinaryFn::Mul, BinaryFn::Div, BinaryFn::Pow][c % 3], x, [1.0, 2.0][c / 3 % 2]),
        4 => b.flatten(x, c % (shape.len() + 1)),
        5 => b.unsqueeze(x, &[c % (shape.len() + 1)]),
        6 => {
            let mut perm: Vec<usize> = (0..shape.len()).collect();
            perm.rotate_left(axis);
            b.transpose(x, perm)
        }
        7 => b.concat(&[x, y], axis),
        8 => b.reduce([ReduceFn::Sum, ReduceFn::Max, ReduceFn::Mean][c % 3], x, &[axis], c % 2 == 0),
        9 => b.softmax(x, axis, false),
        10 => b.matmul_broadcast(x, y),
        11 => {
            let amounts = vec![Dim::constant((c % 2) as i64); shape.len()];
            b.pad(x, amounts.clone(), amounts, [PadMode::Edge, PadMode::Wrap, PadMode::Reflect][c % 3], None)
        }
        12 => {
            let start = shape.iter().map(|d| d.clone() - 1.into()).collect();
            b.push(Op::Slice { start, size: shape.clone(), stride: vec![-1; shape.len()] }, &[x])
        }
        13 => b.reshape_infer(x, &[2.into(), Dim::constant(-1)]),
        14 => {
            let found = b.push(Op::ArgReduce { function: ArgReduceFn::Max, axis, last_on_tie: c % 2 == 0 }, &[x]);
            found.and_then(|found| b.cast(found, DType::F32))
        }
        15 => {
            let indices = b.constant_i64(&[0, -1, 0]);
            indices.and_then(|indices| b.gather(x, indices, axis))
        }
        16 | 17 => {
            let Some(weight) = weight else { return Ok(None) };
            let Ok(w) = b.param(weight) else { return Ok(None) };
            match c % 3 {
                0 => b.push(Op::LayerNorm { axis: shape.len() - 1, epsilon: 1e-3 }, &[x, w, w]),
                1 => b.binary_broadcast(BinaryFn::Mul, x, w),
                _ => b.binary_broadcast(BinaryFn::Add, x, w),
            }
        }
        18 => {
            // Comparisons look at an input, whose bits no pass changes.
            let of = values[0];
            let mask = b.binary_scalar(BinaryFn::Mul, of, 0.0).and_then(|zero| b.push(Op::Compare(CompareFn::Lt), &[of, zero]));
            let mask = mask.and_then(|mask| b.broadcast_to(mask, shape.clone()));
            mask.and_then(|mask| b.push(Op::Select, &[mask, x, x]))
        }
        _ => b.pool(PoolFn::Average, x, Window { ceil: c % 2 == 0, ..Window::dense(vec![2]) }, c % 3 == 0),
    };
    let small = |v: ValueId| graph.symbols.range(&graph.ty(v).elements()).max < 1 << 20;
    Ok(built.ok().filter(|v| small(*v) && graph.ty(*v).rank() < 7))
}

fn add_weight(graph: &mut Graph, size: u64, number: usize) -> ired_graph::ParamId {
    let numbers: Vec<f32> = (0..size).map(|i| ((i * 29 + number as u64) % 13) as f32 / 8.0 - 0.75).collect();
    let tensor = Tensor::from_f32s(&[size], &numbers);
    let (dtype, shape, data) = (tensor.dtype(), tensor.shape().to_vec(), tensor.data().clone());
    graph.add_param(Param { name: format!("w{number}"), dtype, shape, data })
}
