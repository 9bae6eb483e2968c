//! What the verifier refuses, each by name; and what no size, however large, can make the interpreter do.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use bytes::Bytes;
use ired_graph::interpret::Limits;
use ired_graph::{
    BinaryFn, Builder, DType, Dim, Graph, InterpretError, Op, Param, RegionId, ShapeError, Tensor,
    TensorType, UnaryFn, ValueId, VerifyError, interpret, interpret_within, parse, verify,
};

/// `y = -(x + x)` over `x: f32[n]`, and the two nodes' results.
fn small() -> (Graph, ValueId, ValueId) {
    let mut graph = Graph::new("small");
    let n = Dim::symbol(graph.symbols.named("n"));
    let x = graph.add_input("x", TensorType::new(DType::F32, vec![n]));
    let mut b = Builder::new(&mut graph);
    let sum = b.binary_broadcast(BinaryFn::Add, x, x).unwrap();
    let negated = b.unary(UnaryFn::Neg, sum).unwrap();
    let body = graph.body;
    graph.set_outputs(body, vec![negated]);
    (graph, sum, negated)
}

/// The problems of `small()` after `change`, printed.
fn problems(change: impl FnOnce(&mut Graph, ValueId, ValueId)) -> Vec<String> {
    let (mut graph, sum, negated) = small();
    assert_eq!(verify(&graph), Ok(()));
    change(&mut graph, sum, negated);
    let text = |e: &VerifyError| match e {
        VerifyError::Shape { place, cause } => format!("{place}: {cause}"),
        e => e.to_string(),
    };
    verify(&graph).unwrap_err().iter().map(text).collect()
}

#[test]
fn broken_graphs_are_refused_by_name() {
    let cases: [(Vec<String>, &str); 11] = [
        (
            problems(|g, _, _| g.regions[0].nodes.swap(0, 1)),
            "node 1 `neg` uses %1, which is not defined before it",
        ),
        (problems(|g, _, _| g.regions[0].nodes.push(ired_graph::NodeId(0))), "node 0 `add` appears twice"),
        (
            problems(|g, _, _| g.nodes[1].operands[0] = ValueId(9)),
            "node 1 `neg` names value 9; the graph has 3",
        ),
        (problems(|g, _, _| g.nodes[0].regions.push(RegionId(0))), "region 0 appears twice"),
        (
            problems(|g, _, y| g.values[y.index()].ty.dtype = DType::F16),
            "node 1 `neg` gives f32[n]; the type of its result %2 is f16[n]",
        ),
        (
            problems(|g, _, _| g.nodes[1].op = Op::Unary(UnaryFn::Not)),
            "node 1 `not`: `not` takes a type the function is defined on as operand 0; found f32",
        ),
        (
            problems(|g, sum, _| g.values[sum.index()].definition = g.value(ValueId(0)).definition),
            "%1 is said to be defined by Input(RegionId(0), 0); it is defined by Result(NodeId(0), 0)",
        ),
        (
            problems(|g, _, _| g.symbols.get_mut(ired_graph::SymbolId(0)).min = 1 << 50),
            "symbol `n` has bounds 1125899906842624 to 1099511627776 and divisor 1",
        ),
        (
            problems(|g, _, _| {
                let data = Bytes::from_static(&[0; 7]);
                g.add_param(Param { name: "w".to_owned(), dtype: DType::F32, shape: vec![2], data });
            }),
            "param `w`: f32[2] takes Some(8) bytes; found 7",
        ),
        (
            problems(|g, _, _| {
                g.add_input("huge", TensorType::of_sizes(DType::F32, &[1 << 30, 1 << 30]));
            }),
            "%3 `huge` is f32[1073741824, 1073741824]; tensors over 70368744177664 bytes or 64 axes are refused",
        ),
        (
            problems(|g, _, _| {
                g.add_input("negative", TensorType::new(DType::F32, vec![Dim::constant(-2)]));
            }),
            "%3 `negative` is f32[-2], which has a negative dimension",
        ),
    ];
    for (found, expected) in cases {
        assert_eq!(found, [expected]);
    }
}

#[test]
fn a_region_keeps_its_values() {
    let (mut graph, sum, _) = small();
    let condition =
        graph.push(graph.body, Op::Constant(Tensor::scalar(DType::Bool, 1.0)), &[], None).unwrap();
    let regions = [graph.add_region(), graph.add_region()];
    for region in regions {
        let inner = graph.push(region, Op::Unary(UnaryFn::Exp), &[sum], None).unwrap();
        graph.set_outputs(region, inner);
    }
    let out = graph.push_with_regions(graph.body, Op::If, &condition, regions.to_vec(), None).unwrap();
    graph.set_outputs(graph.body, out);
    assert_eq!(verify(&graph), Ok(()));
    let leaked = graph.region(regions[0]).outputs.clone();
    graph.set_outputs(graph.body, leaked);
    assert!(matches!(verify(&graph).unwrap_err()[..], [VerifyError::Undefined { .. }]));
}

#[test]
fn regions_nest_only_so_deep() {
    let nested = |depth: usize| {
        let wrap = |inner: String, level: usize| {
            format!("%{level} = if %0 : bool[] () {{ {inner} }} () {{ yield %0 }} yield %{level}")
        };
        let nodes = (1..=depth).rev().fold("yield %0".to_owned(), wrap);
        format!("graph g {{ body(%0 : bool[]) {{ {nodes} }} }}")
    };
    assert!(parse(&nested(60)).is_ok());
    assert!(parse(&nested(3000)).unwrap_err().problem.contains("deeper"));
}

#[test]
fn operations_refuse_what_cannot_fit() {
    let (mut graph, sum, _) = small();
    let body = graph.body;
    let mut refuse = |op: Op, operands: &[ValueId]| graph.push(body, op, operands, None).unwrap_err();
    let huge =
        Op::Broadcast { shape: vec![Dim::constant(1 << 60), Dim::constant(1 << 60), Dim::constant(1)] };
    assert!(matches!(refuse(huge, &[sum]), ShapeError::TooLarge { .. }));
    let negative = Op::Reshape { shape: vec![Dim::constant(-1)] };
    assert!(matches!(refuse(negative, &[sum]), ShapeError::Attribute { .. }));
    assert!(matches!(refuse(Op::MatMul, &[sum, sum]), ShapeError::OperandRank { .. }));
    assert!(matches!(refuse(Op::Select, &[sum]), ShapeError::OperandCount { .. }));
    assert!(matches!(refuse(Op::Transpose { perm: vec![1] }, &[sum]), ShapeError::Attribute { .. }));
    let sizes = graph.nodes.len();
    assert_eq!(sizes, 2, "a refused node leaves nothing behind");
}

#[test]
fn sizes_that_disagree_at_run_time_are_named() {
    let mut graph = Graph::new("g");
    let [n, m] = ["n", "m"].map(|name| Dim::symbol(graph.symbols.named(name)));
    let x = graph.add_input("x", TensorType::new(DType::F32, vec![n]));
    let y = graph.add_input("y", TensorType::new(DType::F32, vec![m]));
    let sum = Builder::new(&mut graph).binary_broadcast(BinaryFn::Add, x, y).unwrap();
    graph.set_outputs(graph.body, vec![sum]);
    let run = |n: usize, m: usize| {
        let tensor = |n: usize| Tensor::from_f32s(&[n as u64], &vec![1.0; n]);
        interpret(&graph, &[tensor(n), tensor(m)]).map(|outputs| outputs[0].len())
    };
    assert_eq!((run(3, 3), run(1, 4), run(4, 1), run(0, 1)), (Ok(3), Ok(4), Ok(4), Ok(0)));
    assert!(matches!(run(3, 2), Err(InterpretError::Node { .. })));
}

#[test]
fn runs_end_at_their_limits() {
    let forever = "graph g { body(%0 : i64[]) {
        %1 = while %0 : i64[] (%2 : i64[]) { %3 = constant [true] : bool[] yield %3 } (%4 : i64[]) { yield %4 }
        yield %1 } }";
    let limits = Limits { live_bytes: 1 << 20, iterations: 1000 };
    let zero = Tensor::scalar(DType::I64, 0.0);
    let run = |text: &str| {
        interpret_within(&parse(text).unwrap(), std::slice::from_ref(&zero), limits).unwrap_err()
    };
    assert_eq!(run(forever), InterpretError::Iterations { limit: 1000 });
    let large = "graph g { body(%0 : i64[]) { %1 = broadcast %0 : i64[1099511627776] yield %1 } }";
    assert!(matches!(run(large), InterpretError::Node { .. }));
    let many = "graph g { body(%0 : i64[]) { %1 = broadcast %0 : i64[100000] %2 = neg %1 : i64[100000] yield %1, %2 } }";
    assert!(matches!(run(many), InterpretError::Memory { .. }));
    // Empty tensors have no size, whatever their other axes say.
    let empty = "graph g { body(%0 : f32[0, 1099511627776, 1099511627776]) {
        %1 = reduce_sum %0 axes=[0, 1, 2] : f32[] %2 = neg %0 : f32[0, 1099511627776, 1099511627776]
        yield %1, %2 } }";
    let x = Tensor::from_f32s(&[0, 1 << 40, 1 << 40], &[]);
    assert_eq!(interpret(&parse(empty).unwrap(), &[x]).unwrap()[0].to_f32s(), [0.0]);
}

#[test]
fn symbols_get_their_values_once() {
    let looped = |operand: &str, state: &str| {
        format!(
            "graph g {{ symbol n symbol m symbol k body(%0 : bool[], %1 : f32[n], %2 : f32[m]) {{
            %3 = while {operand} : f32[{state}] (%4 : f32[{state}]) {{ yield %0 }} (%5 : f32[{state}]) {{ yield %5 }}
            yield %3 }} }}"
        )
    };
    let check = |text: String| verify(&parse(&text).unwrap()).map_err(|e| e[0].to_string());
    assert_eq!(check(looped("%1", "n")), Ok(()));
    assert_eq!(check(looped("%1", "k")), Ok(()));
    let rebound = "node 0 `while` gives symbol `m` a value, which it has from elsewhere";
    assert_eq!(check(looped("%1", "m")), Err(rebound.to_owned()));
    let unbound =
        "graph g { symbol n symbol k body(%0 : f32[n]) { %1 = broadcast %0 : f32[2*k, n] yield %1 } }";
    let expected = "node 0 `broadcast` has the size 2*k; nothing gives symbol `k` a value";
    assert_eq!(check(unbound.to_owned()), Err(expected.to_owned()));
}
