//! Attention: every remainder of queries, keys and depths, masks, and rows of which nothing is attended to.

use ired_graph::{BinaryFn, DType, Dim, Op, Tensor, UnaryFn, ValueId};

use crate::bf16;
use crate::harness::{Case, Random, targets};

const BATCH: u64 = 2;

/// What operands are, and how keys lie in memory.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Operands {
    F32,
    /// The same with keys one after another.
    KeyRows,
    /// Rounded to bf16, and so are weights; keys element by element.
    Bf16,
    /// The same with keys one after another.
    Bf16KeyRows,
}

impl Operands {
    /// What the result may be wrong by, relative to the greatest.
    fn tolerance(self) -> f64 {
        match self {
            Self::F32 | Self::KeyRows => 5e-6,
            // Weights have 8 bits in both, but are rounded at different scales: each by at most 2^-9 of itself, and values
            // are positive.
            _ => 1.0 / 256.0 + 1e-5,
        }
    }
}

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
    attention_of(Operands::F32, random, sizes, between, symbolic);
}

fn attention_of(operands: Operands, random: &mut Random, sizes: &Sizes, between: Between, symbolic: bool) {
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
    let is_narrow = matches!(operands, Operands::Bf16 | Operands::Bf16KeyRows);
    let dtype = if is_narrow { DType::BF16 } else { DType::F32 };
    let q = random.tensor(dtype, &[BATCH, queries, depth], -1.0, 1.0);
    // Scores of a few units, whatever the depth, so that their own rounding does not decide.
    let most = 6.0 / (depth as f64).sqrt();
    let (least, greatest) = if is_narrow { (0.5, 1.5) } else { (-1.0, 1.0) };
    let v = random.tensor(dtype, &[BATCH, keys, width], least, greatest);
    let q = case.input_of(q, vec![batch.clone(), m.clone(), d.clone()]);
    let k = if matches!(operands, Operands::KeyRows | Operands::Bf16KeyRows) {
        let k = random.tensor(dtype, &[BATCH, keys, depth], -most, most);
        let k = case.input_of(k, vec![batch.clone(), n.clone(), d]);
        case.op(Op::Transpose { perm: vec![0, 2, 1] }, &[k])
    } else {
        let k = random.tensor(dtype, &[BATCH, depth, keys], -most, most);
        case.input_of(k, vec![batch.clone(), d, n.clone()])
    };
    let v = case.input_of(v, vec![batch, n.clone(), w]);
    let [q, k, v] = [q, k, v].map(|x| if is_narrow { case.op(Op::Cast(DType::F32), &[x]) } else { x });
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
    if is_narrow {
        weights = rounded(&mut case, weights);
    }
    let y = case.root(Op::MatMul, &[weights, v]);
    for target in if is_narrow { bf16::all_targets() } else { targets() } {
        case.check_on(&target, y, operands.tolerance());
    }
}

fn rounded(case: &mut Case, value: ValueId) -> ValueId {
    let narrow = case.op(Op::Cast(DType::BF16), &[value]);
    case.op(Op::Cast(DType::F32), &[narrow])
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
fn keys_may_lie_one_after_another() {
    let mut random = Random::new(88);
    for (queries, keys, depth) in [
        (1, 1, 16),
        (1, 7, 64),
        (1, 300, 80),
        (1, 257, 72),
        (1, 40, 256),
        (2, 5, 32),
        (0, 3, 16),
        (3, 0, 16),
        (13, 33, 48),
        (97, 131, 64),
        (31, 257, 20),
    ] {
        let sizes = Sizes { queries, keys, depth, width: depth };
        for between in [Between::Nothing, Between::Masked { all: false }] {
            attention_of(Operands::KeyRows, &mut random, &sizes, between, true);
            attention_of(Operands::KeyRows, &mut random, &sizes, between, false);
        }
    }
}

/// As models write it whose heads share keys and values: these are repeated first.
#[test]
fn queries_of_several_heads_may_share_keys_and_values() {
    const HEADS: u64 = 2;
    const SHARING: u64 = 3;
    let mut random = Random::new(89);
    for (queries, keys, depth) in [(1, 100, 64), (1, 3, 16), (5, 70, 32), (50, 51, 16)] {
        let mut case = Case::new();
        let [b, m, n] =
            [("b", BATCH), ("m", queries), ("n", keys)].map(|(name, size)| case.symbol(name, size));
        let fixed = |size: u64| Dim::constant(size as i64);
        let heads = fixed(HEADS * SHARING);
        let q = random.tensor(DType::F32, &[BATCH, HEADS * SHARING, queries, depth], -1.0, 1.0);
        let q = case.input_of(q, vec![b.clone(), heads.clone(), m, fixed(depth)]);
        let [k, v] = [(); 2].map(|()| {
            let x = random.tensor(DType::F32, &[BATCH, HEADS, keys, depth], -1.0, 1.0);
            let x = case.input_of(x, vec![b.clone(), fixed(HEADS), n.clone(), fixed(depth)]);
            let shape = |sharing| vec![b.clone(), fixed(HEADS), fixed(sharing), n.clone(), fixed(depth)];
            let x = case.op(Op::Reshape { shape: shape(1) }, &[x]);
            let x = case.op(Op::Broadcast { shape: shape(SHARING) }, &[x]);
            let shape = vec![b.clone(), heads.clone(), n.clone(), fixed(depth)];
            case.op(Op::Reshape { shape }, &[x])
        });
        let k = case.op(Op::Transpose { perm: vec![0, 1, 3, 2] }, &[k]);
        let scores = case.op(Op::MatMul, &[q, k]);
        let weights = case.op(Op::Softmax { axis: 3, log: false }, &[scores]);
        let y = case.root(Op::MatMul, &[weights, v]);
        case.check(y, 5e-6);
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

#[test]
fn bf16_has_every_remainder() {
    let mut random = Random::new(85);
    for operands in [Operands::Bf16, Operands::Bf16KeyRows] {
        for (queries, keys, depth, width) in [
            (16, 1, 16, 16),
            (17, 2, 17, 33),
            (16, 0, 32, 16),
            (33, 31, 64, 64),
            (31, 33, 40, 48),
            (65, 257, 33, 17),
            (300, 131, 63, 65),
            (50, 512, 80, 80),
            (19, 600, 256, 256),
        ] {
            let sizes = Sizes { queries, keys, depth, width };
            attention_of(operands, &mut random, &sizes, Between::Nothing, false);
            attention_of(operands, &mut random, &sizes, Between::Masked { all: true }, true);
        }
    }
}

#[test]
fn bf16_masks_may_hide_blocks_and_whole_rows() {
    let mut random = Random::new(86);
    for (queries, keys, depth) in [(1, 200, 40), (300, 300, 64), (290, 40, 32)] {
        for between in [Between::Masked { all: false }, Between::ZeroNans] {
            let sizes = Sizes { queries, keys, depth, width: depth };
            attention_of(Operands::Bf16, &mut random, &sizes, between, false);
            attention_of(Operands::Bf16KeyRows, &mut random, &sizes, between, true);
        }
    }
}

/// Where one key has all the weight nothing is rounded: every value has to be in its place.
#[test]
fn bf16_of_one_key_is_its_value() {
    let mut random = Random::new(87);
    for (heads, queries, keys, depth, width) in [(3u64, 40u64, 300u64, 32u64, 48u64), (2, 33, 37, 24, 20)] {
        let mut case = Case::new();
        let bf16 = |case: &mut Case, random: &mut Random, shape: &[u64]| {
            case.input(random.tensor(DType::BF16, shape, -1.0, 1.0))
        };
        // Heads side by side, as products leave them.
        let q = bf16(&mut case, &mut random, &[queries, heads, depth]);
        let k = bf16(&mut case, &mut random, &[keys, heads, depth]);
        let v = bf16(&mut case, &mut random, &[keys, heads, width]);
        let q = case.op(Op::Transpose { perm: vec![1, 0, 2] }, &[q]);
        let k = case.op(Op::Transpose { perm: vec![1, 2, 0] }, &[k]);
        let v = case.op(Op::Transpose { perm: vec![1, 0, 2] }, &[v]);
        let [q, k, v] = [q, k, v].map(|x| case.op(Op::Cast(DType::F32), &[x]));
        let seen = |at: u64| (at / keys * 7 + at / keys / queries) % keys == at % keys;
        let mask: Vec<_> =
            (0..heads * queries * keys).map(|at| if seen(at) { 0.25 } else { f32::NEG_INFINITY }).collect();
        let mask = case.input(Tensor::from_f32s(&[heads, queries, keys], &mask));
        let scores = case.op(Op::MatMul, &[q, k]);
        let scores = case.op(Op::Binary(BinaryFn::Add), &[scores, mask]);
        let weights = case.op(Op::Softmax { axis: 2, log: false }, &[scores]);
        let weights = rounded(&mut case, weights);
        let y = case.root(Op::MatMul, &[weights, v]);
        for target in bf16::all_targets() {
            case.check_on(&target, y, 1e-6);
        }
    }
}
