//! Random small graphs: what a pass, or the whole compiler, makes of one computes the same.

use ired_compiler::passes::{PASSES, Precision};
use ired_graph::{
    BinaryFn, Builder, CompareFn, DType, Dim, Graph, Op, Param, ReduceFn, Tensor, TensorType, UnaryFn,
    ValueId, verify,
};
use proptest::prelude::*;

use crate::{emulated, harness};

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
            for pass in PASSES.iter().filter(|pass| pass.runs_for(Precision::Exact)) {
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
        let runs = emulated::compile(&graph);
        for size in [1, 3, 18] {
            let inputs = harness::inputs(&graph, size);
            // Sizes that do not fit each other are the caller's fault, and found when the graph runs.
            let Ok(expected) = harness::reference(&graph, &inputs) else { continue };
            for run in &runs {
                let outcome = run(&inputs).and_then(|found| harness::compare(&expected, &found, TOLERANCE));
                prop_assert!(outcome.is_ok(), "at {size}: {outcome:?}\n{graph}");
            }
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
    if kind % 5 == 4 {
        return add_control(graph, values[0], x, [kind, b, c]);
    }
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

/// Sizes that data decides, branches and loops; what they look at is an input, whose bits no pass changes.
fn add_control(graph: &mut Graph, input: ValueId, x: ValueId, [kind, b, c]: [u8; 3]) -> Option<ValueId> {
    let shape = graph.ty(x).shape.clone();
    let axis = usize::from(c).checked_rem(shape.len())?;
    match (kind / 5) % 4 {
        0 => {
            let mut builder = Builder::new(graph);
            let zero = builder.binary_scalar(BinaryFn::Mul, input, 0.0).ok()?;
            let mask = builder.push(Op::Compare(CompareFn::Lt), &[zero, input]).ok()?;
            let ones = builder.cast(mask, DType::I64).ok()?;
            let axes: Vec<usize> = (0..builder.ty(ones).rank()).collect();
            let count = builder.reduce(ReduceFn::Sum, ones, &axes, false).ok()?;
            let count = builder.reshape(count, vec![Dim::constant(1)]).ok()?;
            let size = builder.read_dims(count, "read").ok()?.remove(0).minimum(&shape[axis]);
            builder.slice_axis(x, axis, Dim::constant(0), size).ok()
        }
        1 => {
            let mut builder = Builder::new(graph);
            let zero = builder.binary_scalar(BinaryFn::Mul, input, 0.0).ok()?;
            let mask = builder.push(Op::Compare(CompareFn::Lt), &[input, zero]).ok()?;
            let axes: Vec<usize> = (0..builder.ty(mask).rank()).collect();
            let function = if b % 2 == 0 { ReduceFn::Any } else { ReduceFn::All };
            let condition = builder.reduce(function, mask, &axes, false).ok()?;
            let (then, other) = (graph.add_region(), graph.add_region());
            let mut inside = Builder::in_region(graph, then);
            let y = inside.unary(UnaryFn::Sigmoid, x).ok()?;
            let y = if c % 2 == 0 { inside.concat(&[y, x], axis).ok()? } else { y };
            graph.set_outputs(then, vec![y]);
            let given =
                if b % 3 == 0 { x } else { Builder::in_region(graph, other).unary(UnaryFn::Neg, x).ok()? };
            graph.set_outputs(other, vec![given]);
            Builder::new(graph)
                .push_with_regions(Op::If, &[condition], vec![then, other])
                .ok()?
                .first()
                .copied()
        }
        2 => {
            let count = if b % 2 == 0 { Dim::constant(3) } else { shape[axis].clone() };
            let index = graph.symbols.fresh("i");
            let grows = c % 2 == 0;
            let body = graph.add_region();
            let mut state = shape.clone();
            if grows {
                state[axis] = Dim::symbol(graph.symbols.fresh("s"));
            }
            let now = graph.add_region_input(body, TensorType::new(DType::F32, state));
            let mut inside = Builder::in_region(graph, body);
            let next = inside.unary(UnaryFn::Tanh, now).ok()?;
            let turn = inside.dim(Dim::symbol(index)).ok()?;
            let turn = inside.cast(turn, DType::F32).ok()?;
            let slice = inside.binary_broadcast(BinaryFn::Add, x, turn).ok()?;
            let next = if grows { inside.concat(&[next, x], axis).ok()? } else { next };
            graph.set_outputs(body, vec![next, slice]);
            let op = Op::Repeat { count, index };
            let results = Builder::new(graph).push_with_regions(op, &[x], vec![body]).ok()?;
            results.get(usize::from(b / 2) % 2).copied()
        }
        _ => {
            let start = Builder::new(graph).scalar(DType::I64, 0.0).ok()?;
            let (condition, body) = (graph.add_region(), graph.add_region());
            let mut state = shape.clone();
            state[axis] = Dim::symbol(graph.symbols.fresh("s"));
            let types = [TensorType::scalar(DType::I64), TensorType::new(DType::F32, state)];
            let add_inputs =
                |graph: &mut Graph, region| types.clone().map(|ty| graph.add_region_input(region, ty));
            let tested = add_inputs(graph, condition);
            let mut inside = Builder::in_region(graph, condition);
            let limit = inside.scalar(DType::I64, f64::from(b % 3)).ok()?;
            let holds = inside.push(Op::Compare(CompareFn::Lt), &[tested[0], limit]).ok()?;
            graph.set_outputs(condition, vec![holds]);
            let now = add_inputs(graph, body);
            let mut inside = Builder::in_region(graph, body);
            let next = inside.binary_scalar(BinaryFn::Add, now[0], 1.0).ok()?;
            let half = inside.binary_scalar(BinaryFn::Mul, now[1], 0.5).ok()?;
            let grown = inside.concat(&[half, x], axis).ok()?;
            graph.set_outputs(body, vec![next, grown]);
            let results =
                Builder::new(graph).push_with_regions(Op::While, &[start, x], vec![condition, body]).ok()?;
            results.get(1).copied()
        }
    }
}
