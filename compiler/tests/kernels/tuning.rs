//! Tuned kernels: every way computes the same, and is the one that is taken.

use ired_compiler::dispatch::Packing;
use ired_compiler::targets::CpuTarget;
use ired_compiler::tuning::{Choice, Tile};
use ired_graph::{BinaryFn, DType, Op, Tensor, UnaryFn, ValueId};

use crate::harness::{Case, Random, dims, targets};
use crate::nested::window;

/// Small whole numbers: their sums are exact in any order.
fn whole_numbers(random: &mut Random, shape: &[u64]) -> Tensor {
    let count = shape.iter().product::<u64>();
    let values: Vec<f64> = (0..count).map(|_| random.integer(-8, 8) as f64).collect();
    Tensor::from_f64s(DType::F32, shape, &values)
}

/// `x @ w`, of two inputs where `batched`, with what follows it.
fn product(random: &mut Random, [m, k, n]: [u64; 3], fixed: bool, batched: bool) -> (Case, ValueId) {
    let mut case = Case::new();
    let rows = if fixed { (m as i64).into() } else { case.symbol("m", m) };
    let batch: &[u64] = if batched { &[3] } else { &[] };
    let x = whole_numbers(random, &[batch, &[m, k]].concat());
    let mut ty = dims(x.shape());
    ty[batch.len()] = rows;
    let x = case.input_of(x, ty);
    let w = whole_numbers(random, &[batch, &[k, n]].concat());
    let w = if batched { case.input(w) } else { case.param(w) };
    let y = case.root(Op::MatMul, &[x, w]);
    let y = case.op(Op::Unary(UnaryFn::Neg), &[y]);
    let y = case.op(Op::Binary(BinaryFn::Add), &[y, y]);
    (case, y)
}

#[test]
fn every_candidate_of_a_product_computes_the_same() {
    let mut random = Random::new(91);
    for sizes in [[1u64, 40, 10], [29, 300, 70], [100, 1100, 96], [33, 2056, 33]] {
        for (fixed, batched) in [(true, false), (false, false), (true, true)] {
            let (mut case, y) = product(&mut random, sizes, fixed, batched);
            for target in targets() {
                let tunable = case.tunable(&target, y).unwrap();
                assert!(!tunable.candidates.is_empty(), "{}", tunable.problem);
                for choice in tunable.candidates {
                    case.choice = Some(choice);
                    assert_eq!(case.tunable(&target, y).unwrap().problem, tunable.problem);
                    case.check_on(&target, y, 0.0);
                }
                case.choice = None;
            }
        }
    }
}

#[test]
fn tiles_at_the_bounds_compute_the_same() {
    let mut random = Random::new(92);
    let tile = |m0, n1, rows, k_block| Tile { m0, n1, rows, k_block };
    for sizes in [[1u64, 9, 10], [13, 40, 200], [59, 1030, 33]] {
        for fixed in [true, false] {
            let (mut case, y) = product(&mut random, sizes, fixed, false);
            for tile in [
                tile(1, 1, 1, Some(8)),
                tile(14, 1, 14, None),
                tile(13, 1, 1014, Some(16)),
                tile(7, 1, 1022, Some(1 << 16)),
                tile(2, 4, 4, Some(256)),
                tile(3, 3, 1023, Some(1024)),
            ] {
                case.choice = Some(Choice::Tile(tile));
                case.check(y, 0.0);
            }
        }
    }
}

#[test]
fn a_tile_is_what_its_weights_are_packed_for() {
    let mut random = Random::new(93);
    let (mut case, y) = product(&mut random, [128, 768, 768], true, false);
    for target in targets() {
        let widths: Vec<_> = [1, 2, 3]
            .map(|n1| {
                case.choice = Some(Choice::Tile(Tile { m0: 4, n1, rows: 32, k_block: None }));
                case.packing(&target, y).unwrap()
            })
            .into();
        let lanes = target.lanes(32) as u64;
        let expected: Vec<_> = [1, 2, 3].map(|n1| Packing::Panels { width: n1 * lanes, depth: 1 }).into();
        assert_eq!(widths, expected);
    }
}

#[test]
fn problems_are_named_by_their_sizes() {
    let mut random = Random::new(94);
    let target = &targets()[0];
    let name = |(case, y): (Case, ValueId)| case.tunable(target, y).unwrap().problem;
    assert_eq!(name(product(&mut random, [8, 4, 2], true, false)), "product f32 f32 m=8 k=4 n=2");
    assert_eq!(name(product(&mut random, [8, 4, 2], false, false)), "product f32 f32 m=? k=4 n=2");
    assert_eq!(name(product(&mut random, [8, 4, 2], true, true)), "batched f32 f32 batch=3 m=8 k=4 n=2");
}

#[test]
fn a_convolution_is_computed_by_the_family_that_is_chosen() {
    let mut random = Random::new(95);
    let mut case = Case::new();
    let x = case.input(random.tensor(DType::F32, &[1, 9, 11, 16], -1.0, 1.0));
    let w = case.param(random.tensor(DType::F32, &[24, 16, 3, 3], -1.0, 1.0));
    let window = window([3, 3], [1, 1], [1, 1], [1, 1], [1, 1]);
    let y = case.root(Op::Conv { window, groups: 1, channels_last: true }, &[x, w]);
    for target in targets() {
        case.choice = None;
        let usual = case.chosen(&target, y).unwrap();
        let tunable = case.tunable(&target, y).unwrap();
        assert_eq!(tunable.problem, "convolution f32 [1, 9, 11, 16] by [24, 16, 3, 3] to [1, 9, 11, 24]");
        for family in ["winograd", "convolution"] {
            assert_eq!(tunable.candidates.contains(&Choice::Family(family)), family != usual);
            case.choice = Some(Choice::Family(family));
            assert_eq!(case.chosen(&target, y), Some(family));
            case.check_on(&target, y, 1e-5);
        }
    }
}

#[test]
fn every_candidate_of_a_product_of_bf16_computes_the_same() {
    let mut random = Random::new(96);
    // The machine's tiles are not tuned.
    let host = targets()[0].clone();
    let features = host.features.iter().filter(|feature| !feature.starts_with("amx"));
    let text = features.fold(host.triple().to_owned(), |text, feature| format!("{text},+{feature}"));
    let target = CpuTarget::parse(&text).unwrap();
    for [m, k, n] in [[1u64, 33, 40], [29, 301, 70]] {
        let mut case = Case::new();
        let rows = case.symbol("m", m);
        let [x, w] = [[m, k], [k, n]].map(|shape| {
            let values = whole_numbers(&mut random, &shape);
            Tensor::from_f64s(DType::BF16, &shape, &values.to_f64s())
        });
        let x = case.input_of(x, vec![rows, (k as i64).into()]);
        let w = case.param(w);
        let [x, w] = [x, w].map(|value| case.op(Op::Cast(DType::F32), &[value]));
        let y = case.root(Op::MatMul, &[x, w]);
        let tunable = case.tunable(&target, y).unwrap();
        assert_eq!(tunable.problem.starts_with("dot bf16 bf16 "), target.has_bf16_products());
        assert!(!tunable.candidates.is_empty());
        for choice in tunable.candidates {
            case.choice = Some(choice);
            case.check_on(&target, y, 0.0);
        }
    }
}
