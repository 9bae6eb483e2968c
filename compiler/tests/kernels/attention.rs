//! Attention: every remainder of queries, keys and depths, masks, and rows of which nothing is attended to.

use ired_graph::{BinaryFn, DType, Dim, Op, Tensor, UnaryFn, ValueId};

use crate::harness::{Case, Random};

const BATCH: u64 = 2;

/// What is done between the first product and the softmax, and after it.
#[derive(Clone, Copy)]
enum Between {
    Nothing,
    /// A factor, and a mask that is added: the same for each query, or one that leaves some queries nothing.
    Masked {
        all: bool,
    },
    /// The same, with the NaN of queries that have nothing made zeros.
    ZeroNans,
}

struct Sizes {
    queries: u64,
    keys: u64,
    depth: u64,
    width: u64,
}

fn attention(random: &mut Random, sizes: &Sizes, between: Between, symbolic: bool) {
    let Sizes { queries, keys, depth, width } = *sizes;
    let mut case = Case::new();
    let fixed = |size: u64| Dim::constant(size as i64);
    let (mut m, mut n, mut batch) = (fixed(queries), fixed(keys), fixed(BATCH));
    if symbolic {
        m = case.symbol("m", queries);
        n = case.symbol("n", keys);
        batch = case.symbol("b", BATCH);
    }
    let (d, w) = (fixed(depth), fixed(width));
    let scores_shape = vec![batch.clone(), m.clone(), n.clone()];
    let q = random.tensor(DType::F32, &[BATCH, queries, depth], -1.0, 1.0);
    // Scores of a few units, whatever the depth, so that their own rounding does not decide.
    let most = 6.0 / (depth as f64).sqrt();
    let k = random.tensor(DType::F32, &[BATCH, depth, keys], -most, most);
    let v = random.tensor(DType::F32, &[BATCH, keys, width], -1.0, 1.0);
    let q = case.input_of(q, vec![batch.clone(), m.clone(), d.clone()]);
    let k = case.input_of(k, vec![batch.clone(), d, n.clone()]);
    let v = case.input_of(v, vec![batch, n.clone(), w]);
    let mut scores = case.op(Op::MatMul, &[q, k]);
    if let Between::Masked { .. } | Between::ZeroNans = between {
        let all = matches!(between, Between::Masked { all: true });
        let masked: Vec<f32> = (0..queries * keys)
            .map(|at| {
                let (query, key) = (at / keys, at % keys);
                let hidden = if all { key % 3 == 1 } else { query % 4 == 1 || key > query };
                if hidden { f32::NEG_INFINITY } else { 0.5 }
            })
            .collect();
        let mask = case.input_of(Tensor::from_f32s(&[1, queries, keys], &masked), vec![1.into(), m, n]);
        let mask = case.op(Op::Broadcast { shape: scores_shape.clone() }, &[mask]);
        let scale = case.constant(Tensor::from_f32s(&[], &[0.37]));
        let scale = case.op(Op::Broadcast { shape: scores_shape.clone() }, &[scale]);
        scores = case.op(Op::Binary(BinaryFn::Mul), &[scores, scale]);
        scores = case.op(Op::Binary(BinaryFn::Add), &[scores, mask]);
    }
    let mut weights = case.op(Op::Softmax { axis: 2, log: false }, &[scores]);
    if let Between::ZeroNans = between {
        weights = zeroed(&mut case, weights, scores_shape);
    }
    let y = case.root(Op::MatMul, &[weights, v]);
    case.check(y, 5e-6);
}

fn zeroed(case: &mut Case, weights: ValueId, shape: Vec<Dim>) -> ValueId {
    let nan = case.op(Op::Unary(UnaryFn::IsNan), &[weights]);
    let zero = case.constant(Tensor::from_f32s(&[], &[0.0]));
    let zero = case.op(Op::Broadcast { shape }, &[zero]);
    case.op(Op::Select, &[nan, zero, weights])
}

#[test]
fn every_size_of_queries_and_keys() {
    let mut random = Random::new(81);
    for (queries, keys) in
        [(1, 1), (2, 5), (0, 3), (3, 0), (12, 32), (13, 33), (97, 131), (200, 300), (31, 257)]
    {
        let sizes = Sizes { queries, keys, depth: 16, width: 16 };
        attention(&mut random, &sizes, Between::Nothing, false);
        attention(&mut random, &sizes, Between::Nothing, true);
    }
}

#[test]
fn every_depth() {
    let mut random = Random::new(82);
    for (depth, width) in
        [(1, 1), (2, 2), (3, 7), (17, 15), (64, 64), (80, 80), (33, 129), (256, 256), (5, 40)]
    {
        let sizes = Sizes { queries: 19, keys: 150, depth, width };
        attention(&mut random, &sizes, Between::Nothing, false);
        attention(&mut random, &sizes, Between::Masked { all: true }, true);
    }
}

#[test]
fn masks_may_hide_blocks_and_whole_rows() {
    let mut random = Random::new(83);
    for (queries, keys, depth) in [(9, 9, 4), (1, 200, 40), (300, 300, 64), (40, 290, 2), (290, 40, 32)] {
        for between in [Between::Masked { all: true }, Between::Masked { all: false }, Between::ZeroNans] {
            let sizes = Sizes { queries, keys, depth, width: depth };
            attention(&mut random, &sizes, between, false);
            attention(&mut random, &sizes, between, true);
        }
    }
}

/// As models write it that take a mask of a length of its own.
#[test]
fn a_mask_may_have_a_length_of_its_own() {
    let mut random = Random::new(84);
    for (queries, keys, mask_keys) in [(5u64, 40u64, 40u64), (14, 33, 1)] {
        let mut case = Case::new();
        let (m, n, t) = (case.symbol("m", queries), case.symbol("n", keys), case.symbol("t", mask_keys));
        let q = random.tensor(DType::F32, &[1, queries, 8], -1.0, 1.0);
        let k = random.tensor(DType::F32, &[1, 8, keys], -1.0, 1.0);
        let v = random.tensor(DType::F32, &[1, keys, 20], -1.0, 1.0);
        let mask = random.tensor(DType::F32, &[1, queries, mask_keys], -1.0, 1.0);
        let q = case.input_of(q, vec![1.into(), m.clone(), 8.into()]);
        let k = case.input_of(k, vec![1.into(), 8.into(), n.clone()]);
        let v = case.input_of(v, vec![1.into(), n.clone(), 20.into()]);
        let mask = case.input_of(mask, vec![1.into(), m.clone(), t.clone()]);
        let both = n.maximum(&t) * n.minimum(&t).minimum(&1.into());
        let wide = vec![1.into(), m, both];
        let scores = case.op(Op::MatMul, &[q, k]);
        let scores = case.op(Op::Unary(UnaryFn::Neg), &[scores]);
        let scores = case.op(Op::Broadcast { shape: wide.clone() }, &[scores]);
        let mask = case.op(Op::Broadcast { shape: wide }, &[mask]);
        let scores = case.op(Op::Binary(BinaryFn::Add), &[scores, mask]);
        let weights = case.op(Op::Softmax { axis: 2, log: false }, &[scores]);
        let y = case.root(Op::MatMul, &[weights, v]);
        case.check(y, 5e-6);
    }
}
