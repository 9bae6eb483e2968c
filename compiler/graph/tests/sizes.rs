//! Sizes that only the run knows, and loops that run a number of times.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use ired_graph::interpret::Limits;
use ired_graph::{
    BinaryFn, Builder, DType, Dim, Graph, InterpretError, Op, Tensor, TensorType, VerifyError, interpret,
    interpret_within, parse, verify,
};

const REPEAT: &str = r#"graph counted {
  symbol n
  symbol i
  symbol s
  body(%0 "count" : i64[1], %1 "x" : f32[3, 2]) {
    %2 = read_dims %0 symbols=[n] : i64[1]
    %3 = slice %1 start=[0, 0] size=[1, 2] stride=[1, 1] : f32[1, 2]
    %4, %5 = repeat %3 count=[n] index=[i] : f32[s, 2], f32[n, 1, 2] (%6 : f32[s, 2]) {
      %7 = slice %1 start=[i, 0] size=[1, 2] stride=[1, 1] : f32[1, 2]
      %8 = concat %6, %7 axis=0 : f32[s + 1, 2]
      yield %8, %7
    }
    yield %4, %5, %2
  }
}
"#;

fn count(n: i64) -> Tensor {
    Tensor::from_i64s(&[1], &[n])
}

#[test]
fn a_counted_loop_carries_state_and_stacks_slices() {
    let graph = parse(REPEAT).unwrap();
    assert_eq!(verify(&graph), Ok(()));
    assert_eq!(graph.to_string(), REPEAT);
    assert_eq!(graph.compact().to_string(), REPEAT);
    let x = Tensor::from_f32s(&[3, 2], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    let run = |n: i64| interpret(&graph, &[count(n), x.clone()]);
    let found = run(2).unwrap();
    assert_eq!(found[0], Tensor::from_f32s(&[3, 2], &[1.0, 2.0, 1.0, 2.0, 3.0, 4.0]));
    assert_eq!(found[1], Tensor::from_f32s(&[2, 1, 2], &[1.0, 2.0, 3.0, 4.0]));
    assert_eq!(found[2], count(2));
    let found = run(0).unwrap();
    assert_eq!((found[0].shape(), found[1].shape()), (&[1, 2][..], &[0, 1, 2][..]));
    assert!(matches!(run(4), Err(InterpretError::Node { .. })), "slice 3 of 3");
    let negative = InterpretError::Symbol {
        symbol: "n".to_owned(),
        expected: format!("0 to {}", ired_graph::dim::UNBOUNDED),
        found: -1,
    };
    assert_eq!(run(-1), Err(negative));
    let limits = Limits { live_bytes: 1 << 20, iterations: 1 };
    assert_eq!(
        interpret_within(&graph, &[count(2), x.clone()], limits),
        Err(InterpretError::Iterations { limit: 1 })
    );
}

#[test]
fn stacks_count_as_memory() {
    let text = "graph g { symbol n symbol i body(%0 : i64[1], %1 : f32[1000]) {
        %2 = read_dims %0 symbols=[n] : i64[1]
        %3 = repeat count=[n] index=[i] : f32[n, 1000] () { yield %1 }
        yield %3 } }";
    let x = Tensor::from_f32s(&[1000], &[0.0; 1000]);
    let limits = Limits { live_bytes: 1 << 20, iterations: 1 << 40 };
    let found = interpret_within(&parse(text).unwrap(), &[count(1 << 38), x], limits);
    assert!(matches!(found, Err(InterpretError::Memory { .. })), "{found:?}");
}

#[test]
fn a_size_is_known_after_it_is_read_and_in_its_region_only() {
    let wrong = [
        "%1 = broadcast %0 : i64[n] %2 = read_dims %0 symbols=[n] : i64[1] yield %1, %2",
        "%1 = constant [true] : bool[]
         %2 = if %1 : i64[1] () { %3 = read_dims %0 symbols=[n] : i64[1] yield %3 } () { yield %0 }
         %4 = broadcast %0 : i64[n] yield %4, %2",
    ];
    for body in wrong {
        let graph = parse(&format!("graph g {{ symbol n body(%0 : i64[1]) {{ {body} }} }}")).unwrap();
        let errors = verify(&graph).unwrap_err();
        assert!(
            matches!(&errors[..], [VerifyError::Unbound { symbol, .. }, ..] if symbol == "n"),
            "{errors:?}"
        );
    }
    let twice = "graph g { symbol n body(%0 : i64[1]) { %1 = read_dims %0 symbols=[n] : i64[1]
        %2 = read_dims %0 symbols=[n] : i64[1] yield %1, %2 } }";
    assert!(matches!(verify(&parse(twice).unwrap()).unwrap_err()[..], [VerifyError::Rebound { .. }]));
    let slice =
        "graph g { symbol n symbol i body(%0 : i64[1], %1 : f32[]) { %2 = read_dims %0 symbols=[n] : i64[1]
        %3 = repeat count=[n] index=[i] : f32[n, i] () { %4 = broadcast %1 : f32[i] yield %4 } yield %3 } }";
    assert!(matches!(verify(&parse(slice).unwrap()).unwrap_err()[..], [VerifyError::Unbound { .. }, ..]));
}

#[test]
fn a_read_lives_while_its_symbols_are_used() {
    let mut graph = Graph::new("g");
    let n = Dim::symbol(graph.symbols.named("n"));
    let sizes = graph.add_input("sizes", TensorType::of_sizes(DType::I64, &[2]));
    let x = graph.add_input("x", TensorType::new(DType::F32, vec![n.clone()]));
    let mut b = Builder::new(&mut graph);
    let doubled = b.binary_broadcast(BinaryFn::Add, sizes, sizes).unwrap();
    let known = b.dims(vec![n.clone(), Dim::constant(7)]).unwrap();
    let list = b.concat(&[known, doubled], 0).unwrap();
    let dims = b.read_dims(list, "read").unwrap();
    assert_eq!(dims[..2], [n, Dim::constant(7)], "what is known is not read");
    assert_eq!(b.read_dims(doubled, "again").unwrap(), dims[2..], "nor what is read already");
    let one = b.reshape(x, vec![Dim::constant(1), dims[0].clone(), Dim::constant(1)]).unwrap();
    let out = b.broadcast_to(one, vec![dims[2].clone(), dims[0].clone(), dims[3].clone()]).unwrap();
    let unused = b.read_dims(sizes, "unused").unwrap();
    b.dims(unused).unwrap();
    let body = graph.body;
    graph.set_outputs(body, vec![out]);
    graph.remove_dead_nodes();
    let reads = graph.nodes.iter().filter(|n| matches!(n.op, Op::ReadDims { .. })).count();
    let live = graph.live_nodes();
    let live = live.iter().filter(|(_, id)| matches!(graph.node(*id).op, Op::ReadDims { .. })).count();
    assert_eq!((reads, live), (2, 1));
    assert_eq!(verify(&graph.compact()), Ok(()));
    let x = Tensor::from_f32s(&[2], &[1.0, 2.0]);
    let found = interpret(&graph, &[Tensor::from_i64s(&[2], &[1, 2]), x]).unwrap();
    assert_eq!(found[0].shape(), [2, 2, 4]);
}
