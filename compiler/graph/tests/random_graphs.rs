//! Random graphs: what the builder makes verifies, reads back from its text, runs at every size with the types it
//! claims, and means the same after being rewritten.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::collections::HashMap;

use ired_graph::{
    ArgReduceFn, BinaryFn, Builder, CompareFn, CumulativeFn, DType, Dim, Graph, Op, PadMode, PoolFn,
    ReduceFn, ScatterFn, Tensor, TensorType, UnaryFn, ValueId, Window, interpret, parse, verify,
};
use proptest::prelude::*;

/// What to add next: which operation, on which values, and two choices within it.
type Step = (u8, u8, u8, u8);

/// Applies a step; operations that do not fit their operands add nothing.
fn apply(b: &mut Builder<'_>, values: &mut Vec<ValueId>, (kind, x, y, choice): Step) {
    let pick = |i: u8| values[i as usize % values.len()];
    let (x, y, c) = (pick(x), pick(y), choice as usize);
    let shape = b.ty(x).shape.clone();
    let axis = if shape.is_empty() { 0 } else { c % shape.len() };
    let extent = shape.get(axis).cloned().unwrap_or(1.into());
    let built = match kind % 21 {
        0 => b.unary([UnaryFn::Neg, UnaryFn::Abs, UnaryFn::Tanh, UnaryFn::Erf][c % 4], x),
        1 => b.binary_broadcast([BinaryFn::Add, BinaryFn::Mul, BinaryFn::Max][c % 3], x, y),
        2 => b.compare_broadcast([CompareFn::Lt, CompareFn::Eq][c % 2], x, y),
        3 => b.cast(x, [DType::F32, DType::I64, DType::F16, DType::Bool, DType::I8][c % 5]),
        4 => b.flatten(x, c % (shape.len() + 1)),
        5 => b.unsqueeze(x, &[c % (shape.len() + 1)]),
        6 => b.transpose(x, (0..shape.len()).rev().collect()),
        7 => b.concat(&[x, y], axis),
        8 => b.reduce([ReduceFn::Sum, ReduceFn::Max, ReduceFn::Mean][c % 3], x, &[axis], c % 2 == 0),
        9 => b.softmax(x, axis, c % 2 == 0),
        10 => b.matmul_broadcast(x, y),
        11 => b.pad(x, vec![Dim::constant(1); shape.len()], shape, PadMode::Edge, None),
        12 => b.push(
            Op::Slice {
                start: shape.iter().map(|d| d.clone() - 1.into()).collect(),
                size: shape.clone(),
                stride: vec![-1; shape.len()],
            },
            &[x],
        ),
        13 => b.shape_of(x),
        14 => b.reshape_infer(x, &[2.into(), Dim::constant(-1)]),
        15 => b.push(Op::ArgReduce { function: ArgReduceFn::Max, axis, last_on_tie: c % 2 == 0 }, &[x]),
        16 => {
            let indices = b.constant_i64(&[0, -1, 0]);
            indices.and_then(|indices| b.gather(x, indices, axis))
        }
        17 => {
            let function = [CumulativeFn::Sum, CumulativeFn::Product][c % 2];
            b.push(Op::Cumulative { function, axis, exclusive: c % 3 == 0, reverse: c % 5 == 0 }, &[x])
        }
        18 => b.push(Op::Sort { axis, descending: c % 2 == 0 }, &[x]),
        19 => {
            let indices = b.constant(Tensor::from_i64s(&[3, 1], &[0, -1, 0]));
            let three = b.constant_i64(&[0, 1, 0]).and_then(|at| b.gather(x, at, 0));
            let function = [ScatterFn::Set, ScatterFn::Add, ScatterFn::Max][c % 3];
            indices.and_then(|at| b.push(Op::ScatterNd { function }, &[x, at, three?]))
        }
        _ => b.pool(PoolFn::Average, x, Window { ceil: c % 2 == 0, ..Window::dense(vec![2]) }, c % 3 == 0),
    };
    // Sizes grow by what is concatenated and padded; keep the runs short.
    let small = |b: &Builder<'_>, v: ValueId| b.graph.symbols.range(&b.ty(v).elements()).max < 1 << 30;
    if let Ok(value) = built
        && small(b, value)
        && extent.complexity() < 20
    {
        values.push(value);
    }
}

fn graph_of(steps: &[Step], outputs: [u8; 2]) -> Graph {
    let mut graph = Graph::new("random");
    let symbols = ["n", "m"].map(|name| {
        let id = graph.symbols.named(name);
        let symbol = graph.symbols.get_mut(id);
        (symbol.min, symbol.max, symbol.divisor) = (2, 16, 2);
        Dim::symbol(id)
    });
    let [n, m] = symbols;
    let x = graph.add_input("x", TensorType::new(DType::F32, vec![n.clone(), m.clone(), 4.into()]));
    let y = graph.add_input("y", TensorType::new(DType::F32, vec![4.into(), n]));
    let mut values = vec![x, y];
    let mut b = Builder::new(&mut graph);
    for &step in steps {
        apply(&mut b, &mut values, step);
    }
    let outputs = outputs.map(|i| values[values.len() - 1 - i as usize % values.len()]).to_vec();
    graph.set_outputs(graph.body, outputs);
    graph
}

fn inputs(n: u64, m: u64) -> Vec<Tensor> {
    let tensor = |shape: &[u64]| {
        let count = shape.iter().product::<u64>();
        let values: Vec<f64> = (0..count).map(|i| (i as f64 * 0.7).sin() * 3.0).collect();
        Tensor::from_f64s(DType::F32, shape, &values)
    };
    vec![tensor(&[n, m, 4]), tensor(&[4, n])]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn random_graphs_hold_together(
        steps in prop::collection::vec(any::<Step>(), 1..14),
        outputs in any::<[u8; 2]>(),
    ) {
        let graph = graph_of(&steps, outputs);
        prop_assert_eq!(verify(&graph), Ok(()));

        let text = graph.to_string();
        let read = parse(&text).map_err(|e| TestCaseError::fail(format!("{e}\n{text}")))?;
        prop_assert_eq!(read.to_string(), text.clone());

        // Dead nodes go, and a copy of every node takes the place of the first half.
        let mut rewritten = graph.compact();
        rewritten.remove_dead_nodes();
        let mut copies = HashMap::new();
        for (region, node) in rewritten.live_nodes() {
            let node = rewritten.node(node).clone();
            let copy = rewritten.push(region, node.op, &node.operands, None).unwrap();
            copies.insert(node.results[0], copy[0]);
        }
        rewritten.replace_uses(&copies);
        let before = rewritten.live_nodes().len();
        // Operands of the copies are replaced too, so that only copies, in order, are left.
        prop_assert_eq!(rewritten.remove_dead_nodes(), before / 2);
        let rewritten = rewritten.compact();
        prop_assert_eq!(verify(&rewritten), Ok(()), "{}", rewritten);

        for (n, m) in [(2, 4), (4, 2)] {
            let ran = interpret(&graph, &inputs(n, m));
            if let Err(e) = &ran {
                // Unrelated sizes may turn out not to fit, but types never lie.
                prop_assert!(!matches!(e, ired_graph::InterpretError::ResultType { .. }), "{e:?}\n{text}");
            }
            let text_of = |ran: &Result<Vec<Tensor>, _>| format!("{ran:?}");
            let same = interpret(&read, &inputs(n, m));
            prop_assert_eq!(ran.is_ok(), same.is_ok());
            if ran.is_ok() {
                prop_assert_eq!(text_of(&same), text_of(&ran));
                prop_assert_eq!(text_of(&interpret(&rewritten, &inputs(n, m))), text_of(&ran));
            }
        }
    }
}
