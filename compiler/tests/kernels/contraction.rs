//! Matrix products: every remainder, both kinds of right-hand side, prologues and epilogues.

use ired_graph::{BinaryFn, DType, Op, UnaryFn, ValueId};

use crate::harness::{Case, Random, dims};

/// Bias over columns, residual, an activation: what models put behind a product.
fn epilogue(case: &mut Case, random: &mut Random, product: ValueId, shape: &[u64]) -> ValueId {
    let n = shape[shape.len() - 1];
    let to = case.graph.ty(product).shape.clone();
    let bias = case.param(random.tensor(DType::F32, &[n], -1.0, 1.0));
    let bias = case.op(Op::Broadcast { shape: to.clone() }, &[bias]);
    let sum = case.op(Op::Binary(BinaryFn::Add), &[product, bias]);
    let active = case.op(Op::Unary(UnaryFn::Sigmoid), &[sum]);
    let scaled = case.op(Op::Binary(BinaryFn::Mul), &[sum, active]);
    let residual = case.input_of(random.tensor(DType::F32, shape, -1.0, 1.0), to.clone());
    let rows: Vec<u64> = shape[..shape.len() - 1].iter().copied().chain([1]).collect();
    let row = case.input(random.tensor(DType::F32, &rows, -1.0, 1.0));
    let row = case.op(Op::Broadcast { shape: to }, &[row]);
    let sum = case.op(Op::Binary(BinaryFn::Add), &[scaled, residual]);
    case.op(Op::Binary(BinaryFn::Mul), &[sum, row])
}

#[test]
fn packed_products_have_every_number_of_rows() {
    let mut random = Random::new(31);
    for [m, k, n] in [
        [1u64, 40, 10],
        [2, 7, 16],
        [3, 64, 32],
        [4, 13, 33],
        [5, 1, 64],
        [6, 20, 100],
        [7, 31, 256],
        [8, 16, 320],
        [13, 9, 17],
        [64, 24, 48],
        [97, 33, 65],
        [130, 8, 31],
        [0, 4, 4],
    ] {
        let mut case = Case::new();
        let rows = case.symbol("m", m);
        let x = case.input_of(random.tensor(DType::F32, &[m, k], -1.0, 1.0), vec![rows, (k as i64).into()]);
        let w = case.param(random.tensor(DType::F32, &[k, n], -1.0, 1.0));
        let y = case.root(Op::MatMul, &[x, w]);
        case.check(y, 2e-6);
    }
}

#[test]
fn fixed_sizes_have_one_remainder() {
    let mut random = Random::new(32);
    for [m, k, n] in [[1u64, 64, 10], [5, 33, 70], [8, 8, 512], [100, 12, 96], [6, 5, 256], [19, 4, 1]] {
        let mut case = Case::new();
        let x = case.input(random.tensor(DType::F32, &[m, k], -1.0, 1.0));
        let w = case.param(random.tensor(DType::F32, &[k, n], -1.0, 1.0));
        let y = case.root(Op::MatMul, &[x, w]);
        case.check(y, 2e-6);
        let mut case = Case::new();
        let x = case.input(random.tensor(DType::F32, &[m, k], -1.0, 1.0));
        let w = case.param(random.tensor(DType::F32, &[k, n], -1.0, 1.0));
        let y = case.root(Op::MatMul, &[x, w]);
        let y = epilogue(&mut case, &mut random, y, &[m, n]);
        case.check(y, 2e-6);
    }
}

#[test]
fn long_sums_are_made_in_passes() {
    let mut random = Random::new(37);
    for [m, k, n] in [[1u64, 1025, 40], [9, 1100, 16], [100, 1537, 48], [130, 1030, 50], [0, 2048, 4]] {
        for fixed in [true, false] {
            let mut case = Case::new();
            let rows = if fixed { (m as i64).into() } else { case.symbol("m", m) };
            let x = random.tensor(DType::F32, &[m, k], -1.0, 1.0);
            let x = case.input_of(x, vec![rows, (k as i64).into()]);
            let w = case.param(random.tensor(DType::F32, &[k, n], -1.0, 1.0));
            let y = case.root(Op::MatMul, &[x, w]);
            let y = epilogue(&mut case, &mut random, y, &[m, n]);
            case.check(y, 2e-6);
        }
    }
    for dtype in [DType::F64, DType::F16, DType::I32] {
        let mut case = Case::new();
        let x = case.input(random.tensor(dtype, &[11, 1200], -4.0, 4.0));
        let w = case.param(random.tensor(dtype, &[1200, 21], -4.0, 4.0));
        let y = case.root(Op::MatMul, &[x, w]);
        case.check(y, if dtype == DType::F16 { 1e-3 } else { 2e-6 });
    }
}

#[test]
fn shared_weights_make_batches_rows() {
    let mut random = Random::new(33);
    for (batch, length, transposed) in [(1u64, 5u64, false), (3, 7, false), (2, 1, true), (4, 16, true)] {
        let (k, n) = (24u64, 40u64);
        let mut case = Case::new();
        let (b, s) = (case.symbol("b", batch), case.symbol("s", length));
        let x = random.tensor(DType::F32, &[batch, length, k], -1.0, 1.0);
        let x = case.input_of(x, vec![b.clone(), s, (k as i64).into()]);
        let shape = if transposed { [n, k] } else { [k, n] };
        let mut w = case.param(random.tensor(DType::F32, &shape, -1.0, 1.0));
        if transposed {
            w = case.op(Op::Transpose { perm: vec![1, 0] }, &[w]);
        }
        let w = case.op(Op::Broadcast { shape: vec![b, (k as i64).into(), (n as i64).into()] }, &[w]);
        let y = case.root(Op::MatMul, &[x, w]);
        case.check(y, 2e-6);
        let shape = [batch, length, n];
        let y = epilogue_of_symbols(&mut case, &mut random, y, &shape);
        case.check(y, 2e-6);
    }
}

fn epilogue_of_symbols(case: &mut Case, random: &mut Random, product: ValueId, shape: &[u64]) -> ValueId {
    let to = case.graph.ty(product).shape.clone();
    let bias = case.param(random.tensor(DType::F32, &shape[2..], -1.0, 1.0));
    let bias = case.op(Op::Broadcast { shape: to.clone() }, &[bias]);
    let sum = case.op(Op::Binary(BinaryFn::Add), &[product, bias]);
    let residual = case.input_of(random.tensor(DType::F32, shape, -1.0, 1.0), to);
    let sum = case.op(Op::Binary(BinaryFn::Add), &[sum, residual]);
    case.op(Op::Unary(UnaryFn::Tanh), &[sum])
}

#[test]
fn computed_operands_multiply_batch_by_batch() {
    let mut random = Random::new(34);
    for [batch, m, k, n] in
        [[2u64, 5, 8, 7], [1, 1, 1, 1], [3, 16, 4, 33], [2, 9, 64, 64], [2, 17, 0, 5], [6, 8, 5, 40]]
    {
        let mut case = Case::new();
        let symbols = ["b", "m", "k", "n"].map(String::from);
        let [b, sm, sk, sn] = [batch, m, k, n]
            .iter()
            .zip(&symbols)
            .map(|(d, name)| case.symbol(name, *d))
            .collect::<Vec<_>>()
            .try_into()
            .unwrap();
        let x = random.tensor(DType::F32, &[batch, 2, m, k], -1.0, 1.0);
        let x = case.input_of(x, vec![b.clone(), 2.into(), sm, sk.clone()]);
        let y = random.tensor(DType::F32, &[batch, 2, k, n], -1.0, 1.0);
        let y = case.input_of(y, vec![b, 2.into(), sk, sn]);
        let z = case.root(Op::MatMul, &[x, y]);
        case.check(z, 2e-6);
        let half = case.constant(ired_graph::Tensor::from_f32s(&[], &[0.125]));
        let half = case.op(Op::Broadcast { shape: case.graph.ty(z).shape.clone() }, &[half]);
        let scaled = case.op(Op::Binary(BinaryFn::Mul), &[z, half]);
        case.check(scaled, 2e-6);
    }
}

#[test]
fn operands_may_be_index_maps() {
    let mut random = Random::new(35);
    let (b, s, h, d) = (2u64, 9u64, 3u64, 16u64);
    let mut case = Case::new();
    let q = case.input(random.tensor(DType::F32, &[b, s, h * d], -1.0, 1.0));
    let k = case.input(random.tensor(DType::F32, &[b, s, h * d], -1.0, 1.0));
    let split = Op::Reshape { shape: dims(&[b, s, h, d]) };
    let (q, k) = (case.op(split.clone(), &[q]), case.op(split, &[k]));
    let q = case.op(Op::Transpose { perm: vec![0, 2, 1, 3] }, &[q]);
    let k = case.op(Op::Transpose { perm: vec![0, 2, 3, 1] }, &[k]);
    let scores = case.root(Op::MatMul, &[q, k]);
    case.check(scores, 2e-6);
}

#[test]
fn other_types_go_through_the_same_tiles() {
    let mut random = Random::new(36);
    for dtype in [DType::F64, DType::F16, DType::BF16, DType::I8, DType::U8, DType::I32] {
        for constant in [true, false] {
            let mut case = Case::new();
            let x = case.input(random.tensor(dtype, &[11, 21], -4.0, 4.0));
            let w = random.tensor(dtype, &[21, 35], -4.0, 4.0);
            let w = if constant { case.param(w) } else { case.input(w) };
            let y = case.root(Op::MatMul, &[x, w]);
            let tolerance = if dtype == DType::BF16 { 8e-3 } else { 1e-3 };
            case.check(y, if dtype.bits() == 16 { tolerance } else { 1e-13 });
        }
    }
}
