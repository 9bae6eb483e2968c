//! Random small graphs: what a pass, or the whole compiler, makes of one computes the same.

use ired_compiler::passes::PASSES;
use ired_graph::{
    BinaryFn, Builder, CompareFn, DType, Dim, Graph, Op, Param, ReduceFn, Tensor, TensorType, UnaryFn,
    ValueId, verify,
};
use proptest::prelude::*;

use crate::harness::{self, Compiled};

/// Rounding may differ where sums are taken in another order or weights are folded.
const TOLERANCE: f64 = 2e-5;

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_pass_keeps_what_a_graph_computes(steps in prop::collection::vec(any::<[u8; 4]>(), 1..24)) {
        let graph = random_graph(&steps);
        prop_assert!(verify(&graph).is_ok(), "{:?}\n{graph}", verify(&graph));
        for size in [1, 3] {
            let inputs = harness::inputs(&graph, size);
            // Sizes that do not fit each other are the caller's fault, and found when the graph runs.
            let Ok(expected) = harness::reference(&graph, &inputs) else { continue };
            let mut after = graph.clone();
            for pass in PASSES {
                let before = after.to_string();
                pass.run(&mut after).map_err(|e| TestCaseError::fail(format!("{}: {e}", pass.name)))?;
                let outcome = verify(&after).map_err(|e| format!("{e:?}")).and_then(|()| {
                    harness::compare(&expected, &harness::reference(&after, &inputs)?, TOLERANCE)
                });
                prop_assert!(outcome.is_ok(), "{} at {size}: {outcome:?}\n{before}\nbecame\n{after}", pass.name);
            }
        }
    }
}

proptest! {
    // Each case compiles kernels.
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn compiled_graphs_compute_what_the_interpreter_does(
        steps in prop::collection::vec(any::<[u8; 4]>(), 1..16),
    ) {
        let graph = random_graph(&steps);
        let compiled = Compiled::new(&graph);
        for size in [1, 3, 18] {
            let inputs = harness::inputs(&graph, size);
            // Sizes that do not fit each other are the caller's fault, and found when the graph runs.
            let Ok(expected) = harness::reference(&graph, &inputs) else { continue };
            let found = compiled.run(&inputs).map_err(|e| TestCaseError::fail(format!("{e:?}")))?;
            let outcome = harness::compare(&expected, &found, TOLERANCE);
            prop_assert!(outcome.is_ok(), "at {size}: {outcome:?}\n{graph}");
        }
    }
}

/// A graph of one node a step or so. Steps that do not fit what is there are left out; numbers stay small, and
/// comparisons look at inputs only, whose bits no pass changes.
fn random_graph(steps: &[[u8; 4]]) -> Graph {
    let mut graph = Graph::new("random");
    let n = Dim::symbol(graph.symbols.named("n"));
    let shape = vec![n.clone(), Dim::constant(4), Dim::constant(6)];
    let x = graph.add_input("x", TensorType::new(DType::F32, shape.clone()));
    let y = graph.add_input("y", TensorType::new(DType::F32, vec![n, Dim::constant(6)]));
    let mut values = vec![x, y];
    for (number, step) in steps.iter().enumerate() {
        if let Some(value) = add_step(&mut graph, &values, *step, number) {
            values.push(value);
        }
    }
    let mut outputs = vec![values[values.len() - 1]];
    if steps[0][3].is_multiple_of(2) {
        outputs.push(values[values.len() / 2]);
    }
    let body = graph.body;
    graph.set_outputs(body, outputs);
    graph.remove_dead_nodes();
    graph
}

fn add_step(
    graph: &mut Graph,
    values: &[ValueId],
    [kind, a, b, c]: [u8; 4],
    number: usize,
) -> Option<ValueId> {
    let pick = |i: u8| values[values.len() - 1 - usize::from(i) % values.len()];
    let (x, y) = (pick(a), pick(b));
    let rank = graph.ty(x).rank();
    let axis = usize::from(c).checked_rem(rank);
    let unaries = [UnaryFn::Tanh, UnaryFn::Sigmoid, UnaryFn::Abs, UnaryFn::Neg, UnaryFn::Erf];
    let weight = |graph: &mut Graph, shape: &[u64]| {
        let count: u64 = shape.iter().product();
        let numbers: Vec<f32> =
            (0..count).map(|i| ((i * 29 + u64::from(c)) % 13) as f32 / 8.0 - 0.75).collect();
        let tensor = Tensor::from_f32s(shape, &numbers);
        let (dtype, shape) = (tensor.dtype(), tensor.shape().to_vec());
        graph.add_param(Param { name: format!("w{number}"), dtype, shape, data: tensor.data().clone() })
    };
    let last = graph.ty(x).shape.last().and_then(Dim::as_static).and_then(|d| u64::try_from(d).ok());
    let shape = graph.ty(x).shape.clone();
    let columns = 3 + u64::from(b % 4);
    let id = match kind % 16 {
        12 => Some(weight(graph, &[last?, columns])),
        13 => Some(weight(graph, &[last?])),
        _ => None,
    };
    let mut builder = Builder::new(graph);
    match kind % 16 {
        0 | 1 => builder.unary(unaries[usize::from(c) % unaries.len()], x),
        2 => builder.binary_broadcast(BinaryFn::Add, x, y),
        3 => {
            let bounded = builder.unary(UnaryFn::Tanh, y).ok()?;
            builder.binary_broadcast(BinaryFn::Mul, x, bounded)
        }
        4 => builder.binary_broadcast(BinaryFn::Max, x, y),
        5 => builder.binary_scalar([BinaryFn::Mul, BinaryFn::Sub, BinaryFn::Div][usize::from(c) % 3], x, 1.5),
        6 => builder.binary_scalar([BinaryFn::Mul, BinaryFn::Sub, BinaryFn::Pow][usize::from(c) % 3], x, 1.0),
        7 => {
            let mut perm: Vec<usize> = (0..rank).collect();
            perm.rotate_left(axis?);
            builder.transpose(x, perm)
        }
        8 => builder.flatten(x, axis?),
        9 => builder.unsqueeze(x, &[axis?]),
        10 => builder.reduce(
            [ReduceFn::Sum, ReduceFn::Max, ReduceFn::Mean][usize::from(b) % 3],
            x,
            &[axis?],
            c > 99,
        ),
        11 => builder.softmax(x, axis?, false),
        12 => {
            let w = builder.param(id?).ok()?;
            builder.matmul_broadcast(x, w)
        }
        13 => {
            let w = builder.param(id?).ok()?;
            match c % 3 {
                0 => builder.push(Op::LayerNorm { axis: rank - 1, epsilon: 1e-3 }, &[x, w, w]),
                1 => builder.binary_broadcast(BinaryFn::Mul, x, w),
                _ => builder.binary_broadcast(BinaryFn::Add, x, w),
            }
        }
        14 => builder.concat(&[x, y], axis?),
        _ => {
            // A mask that depends on an input alone, stretched over `x`.
            let first = values[0];
            let zero = builder.binary_scalar(BinaryFn::Mul, first, 0.0).ok()?;
            let mask = builder.push(Op::Compare(CompareFn::Lt), &[first, zero]).ok()?;
            let mask = builder.broadcast_to(mask, shape).ok()?;
            builder.push(Op::Select, &[mask, x, x])
        }
    }
    .ok()
}
