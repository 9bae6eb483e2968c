//! Chains of shape arithmetic, as frameworks export them, leave nothing behind but symbolic dimensions.

use ired_graph::{BinaryFn, Builder, CompareFn, DType, Dim, Graph, Op, Shape, Tensor, TensorType, ValueId};

/// A graph with input `x: f32[batch, seq, 64]`.
fn with_input() -> (Graph, ValueId, Shape) {
    let mut graph = Graph::new("chains");
    let [batch, seq] = ["batch", "seq"].map(|name| Dim::symbol(graph.symbols.named(name)));
    let shape = vec![batch, seq, 64.into()];
    let x = graph.add_input("x", TensorType::new(DType::F32, shape.clone()));
    (graph, x, shape)
}

#[test]
fn shape_gather_concat_reshape_splits_heads() {
    let (mut graph, x, shape) = with_input();
    let mut b = Builder::new(&mut graph);
    let sizes = b.shape_of(x).unwrap();
    let picked: Vec<ValueId> = [0, 1]
        .map(|i| {
            let index = b.constant(Tensor::from_i64s(&[], &[i])).unwrap();
            let size = b.gather(sizes, index, 0).unwrap();
            b.unsqueeze(size, &[0]).unwrap()
        })
        .to_vec();
    let rest = b.constant_i64(&[-1, 16]).unwrap();
    let target = b.concat(&[picked[0], picked[1], rest], 0).unwrap();
    let target = b.dims_of(target).unwrap();
    let heads = b.reshape_infer(x, &target).unwrap();
    assert_eq!(graph.ty(heads).shape, [shape[0].clone(), shape[1].clone(), 4.into(), 16.into()]);
}

#[test]
fn arithmetic_through_i32_is_followed() {
    let (mut graph, x, shape) = with_input();
    let mut b = Builder::new(&mut graph);
    let sizes = b.shape_of(x).unwrap();
    let narrow = b.cast(sizes, DType::I32).unwrap();
    let doubled = b.binary_scalar(BinaryFn::Mul, narrow, 6.0).unwrap();
    let wide = b.cast(doubled, DType::I64).unwrap();
    let thirds = b.binary_scalar(BinaryFn::Div, wide, 3.0).unwrap();
    let expected: Vec<Dim> = shape.iter().map(|d| d.clone() * 2.into()).collect();
    assert_eq!(b.dims_of(thirds), Some(expected));
    assert!(matches!(graph.producer_op(thirds), Some(Op::Dims { .. })));
}

#[test]
fn a_size_is_known_not_to_be_minus_one() {
    let (mut graph, x, shape) = with_input();
    let mut b = Builder::new(&mut graph);
    let sizes = b.shape_of(x).unwrap();
    let minus_one = b.constant_i64(&[-1]).unwrap();
    let is_free = b.compare_broadcast(CompareFn::Eq, sizes, minus_one).unwrap();
    let ones = b.constant_i64(&[1, 1, 1]).unwrap();
    let chosen = b.select_broadcast(is_free, ones, sizes).unwrap();
    assert_eq!(b.dims_of(chosen), Some(shape));
}

#[test]
fn splats_stay_scalars() {
    let (mut graph, x, _) = with_input();
    let mut b = Builder::new(&mut graph);
    let y = b.binary_scalar(BinaryFn::Mul, x, 0.125).unwrap();
    let node = graph.node(graph.producer(y).unwrap());
    assert!(matches!(graph.producer_op(node.operands[1]), Some(Op::Broadcast { .. })));
}
