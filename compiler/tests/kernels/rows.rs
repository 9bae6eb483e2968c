//! Rows with what models compute before and after them.

use ired_graph::{BinaryFn, DType, Op, ReduceFn, Tensor, UnaryFn};

use crate::harness::{Case, Random, dims, targets};

#[test]
fn attention_scores_are_scaled_masked_and_normalised() {
    let mut random = Random::new(51);
    for length in [1u64, 5, 16, 33, 64, 150] {
        let mut case = Case::new();
        let (b, s) = (case.symbol("b", 2), case.symbol("s", length));
        let shape = vec![b.clone(), 3.into(), s.clone(), s.clone()];
        let x = random.tensor(DType::F32, &[2, 3, length, length], -9.0, 9.0);
        let x = case.input_of(x, shape.clone());
        let mask = random.tensor(DType::F32, &[2, 1, 1, length], 0.0, 1.0);
        let mask = case.input_of(mask, vec![b, 1.into(), 1.into(), s]);
        let scale = case.constant(Tensor::from_f32s(&[], &[0.125]));
        let scale = case.op(Op::Broadcast { shape: shape.clone() }, &[scale]);
        let scaled = case.op(Op::Binary(BinaryFn::Mul), &[x, scale]);
        let mask = case.op(Op::Broadcast { shape }, &[mask]);
        let sum = case.op(Op::Binary(BinaryFn::Add), &[scaled, mask]);
        let y = case.root(Op::Softmax { axis: 3, log: false }, &[sum]);
        case.check(y, 2e-6);
        let z = case.op(Op::Unary(UnaryFn::Sqrt), &[y]);
        case.check(z, 2e-6);
    }
}

#[test]
fn a_residual_is_added_before_and_a_cast_comes_after() {
    let mut random = Random::new(52);
    for (rows, width) in [(3u64, 768u64), (1, 5), (4, 100), (0, 8)] {
        let mut case = Case::new();
        let n = case.symbol("n", rows);
        let shape = vec![n, (width as i64).into()];
        let x = case.input_of(random.tensor(DType::F32, &[rows, width], -4.0, 4.0), shape.clone());
        let y = case.input_of(random.tensor(DType::F32, &[rows, width], -4.0, 4.0), shape);
        let scale = case.param(random.tensor(DType::F32, &[width], -1.0, 1.0));
        let bias = case.param(random.tensor(DType::F32, &[width], -1.0, 1.0));
        let sum = case.op(Op::Binary(BinaryFn::Add), &[x, y]);
        let z = case.root(Op::LayerNorm { axis: 1, epsilon: 1e-12 }, &[sum, scale, bias]);
        case.check(z, 4e-6);
        let half = case.op(Op::Cast(DType::F16), &[z]);
        case.check(half, 2e-3);
    }
}

#[test]
fn means_over_pixels_and_over_everything() {
    let mut random = Random::new(53);
    for (shape, axes) in [
        (vec![2u64, 7, 7, 19], vec![1usize, 2]),
        (vec![2, 19, 7, 7], vec![2, 3]),
        (vec![3, 5, 20], vec![0, 2]),
        (vec![1000], vec![0]),
        (vec![2, 3, 4], vec![0, 1, 2]),
    ] {
        let mut case = Case::new();
        let x = case.input(random.tensor(DType::F32, &shape, -1.0, 2.0));
        let y = case.root(Op::Reduce { function: ReduceFn::Mean, axes }, &[x]);
        case.check(y, 2e-6);
        let z = case.op(Op::Unary(UnaryFn::Exp), &[y]);
        case.check(z, 2e-6);
    }
}

#[test]
fn a_row_with_nothing_finite_is_nan_like_the_model_says() {
    let mut case = Case::new();
    let values = [f32::NEG_INFINITY, 0.0, f32::NEG_INFINITY, 1.0];
    let x = case.input(Tensor::from_f32s(&[2, 2], &values));
    let y = case.root(Op::Softmax { axis: 1, log: false }, &[x]);
    case.check(y, 1e-6);
}

#[test]
fn reduced_axes_may_be_index_maps() {
    let mut random = Random::new(54);
    let mut case = Case::new();
    let x = case.input(random.tensor(DType::F32, &[6, 20, 3], -1.0, 1.0));
    let t = case.op(Op::Transpose { perm: vec![2, 0, 1] }, &[x]);
    let r = case.op(Op::Reshape { shape: dims(&[3, 120]) }, &[t]);
    let y = case.root(Op::Reduce { function: ReduceFn::Max, axes: vec![1] }, &[r]);
    case.check(y, 0.0);
}

/// Along an axis that others follow; what is read is computed, and something follows.
#[test]
fn softmax_of_columns() {
    let mut random = Random::new(57);
    for (shape, axis) in [
        ([2u64, 3, 16, 50], 2usize),
        ([1, 21, 7, 33], 1),
        ([5, 2, 3, 4], 0),
        ([2, 4, 1, 19], 2),
        ([2, 4, 70, 3], 2),
        ([1, 0, 3, 16], 1),
        ([1, 3, 2, 700], 1),
    ] {
        for symbolic in [false, true] {
            let mut case = Case::new();
            let mut ty = dims(&shape);
            if symbolic {
                ty = (0..4).map(|i| case.symbol(&format!("d{i}"), shape[i])).collect();
            }
            let x = case.input_of(random.tensor(DType::F32, &shape, -30.0, 30.0), ty.clone());
            let x = case.op(Op::Unary(UnaryFn::Neg), &[x]);
            let y = case.root(Op::Softmax { axis, log: symbolic }, &[x]);
            let factor = case.input_of(random.tensor(DType::F32, &shape, -1.0, 1.0), ty);
            let y = case.op(Op::Binary(BinaryFn::Mul), &[y, factor]);
            case.check(y, 2e-6);
        }
    }
    let mut case = Case::new();
    let x = case.input(random.tensor(DType::F32, &[2, 5, 8], -4.0, 4.0));
    let y = case.root(Op::Softmax { axis: 1, log: false }, &[x]);
    assert_eq!(case.chosen(&targets()[0], y), Some("columns"));
}
