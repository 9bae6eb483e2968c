//! Products and convolutions of bf16 operands, summed in f32: in tiles, by pairs, and where a machine has neither.

use ired_compiler::targets::CpuTarget;
use ired_graph::{BinaryFn, DType, Op, UnaryFn, ValueId, Window};

use crate::harness::{Case, Random, dims, is_foreign, targets};

/// This machine with and without tiles, as far as it multiplies bf16 at all; and the smallest x86-64.
pub(crate) fn all_targets() -> Vec<CpuTarget> {
    let mut all = targets();
    if is_foreign() {
        return all;
    }
    let present = ired_driver_cpu::features::host_features();
    let without: Vec<_> = present.iter().filter(|f| *f == "avx512f" || *f == "avx512bf16").collect();
    if without.len() == 2 {
        all.push(CpuTarget::parse("x86_64-linux,+avx512f,+avx512bf16").unwrap());
    }
    // Whatever this process may not use would end it.
    all.retain(|target| target.features.iter().all(|feature| present.contains(feature)));
    all
}

fn check(case: &mut Case, output: ValueId) {
    for target in all_targets() {
        case.check_on(&target, output, 3e-6);
    }
}

fn widened(case: &mut Case, value: ValueId) -> ValueId {
    case.op(Op::Cast(DType::F32), &[value])
}

/// Bias and an activation, as models have them.
fn epilogue(case: &mut Case, random: &mut Random, sum: ValueId) -> ValueId {
    let shape = case.graph.ty(sum).shape.clone();
    let columns = shape[shape.len() - 1].as_static().unwrap() as u64;
    let bias = case.param(random.tensor(DType::F32, &[columns], -1.0, 1.0));
    let bias = case.op(Op::Broadcast { shape }, &[bias]);
    let sum = case.op(Op::Binary(BinaryFn::Add), &[sum, bias]);
    let active = case.op(Op::Unary(UnaryFn::Sigmoid), &[sum]);
    case.op(Op::Binary(BinaryFn::Mul), &[sum, active])
}

#[test]
fn products_have_every_remainder() {
    let mut random = Random::new(71);
    for [m, k, n] in [
        [1u64, 64, 10],
        [2, 7, 16],
        [7, 33, 40],
        [15, 32, 32],
        [16, 32, 33],
        [17, 63, 64],
        [31, 96, 17],
        [32, 65, 1],
        [33, 100, 100],
        [50, 31, 48],
        [197, 128, 35],
        [70, 1100, 33],
        [0, 32, 4],
        [20, 0, 5],
    ] {
        for fixed in [true, false] {
            let mut case = Case::new();
            let rows = if fixed { (m as i64).into() } else { case.symbol("m", m) };
            let x = random.tensor(DType::BF16, &[m, k], -1.0, 1.0);
            let x = case.input_of(x, vec![rows, (k as i64).into()]);
            let w = case.param(random.tensor(DType::BF16, &[k, n], -1.0, 1.0));
            let (x, w) = (widened(&mut case, x), widened(&mut case, w));
            let y = case.root(Op::MatMul, &[x, w]);
            let y = epilogue(&mut case, &mut random, y);
            check(&mut case, y);
        }
    }
}

#[test]
fn weights_may_serve_all_batches() {
    let mut random = Random::new(72);
    let (batch, length, k, n) = (3u64, 11u64, 40u64, 24u64);
    let mut case = Case::new();
    let x = case.input(random.tensor(DType::BF16, &[batch, length, k], -1.0, 1.0));
    let w = case.param(random.tensor(DType::BF16, &[k, n], -1.0, 1.0));
    let (x, w) = (widened(&mut case, x), widened(&mut case, w));
    let w = case.op(Op::Broadcast { shape: dims(&[batch, k, n]) }, &[w]);
    let y = case.root(Op::MatMul, &[x, w]);
    check(&mut case, y);
}

#[test]
fn convolutions_along_one_axis_have_every_remainder() {
    let mut random = Random::new(74);
    for (length, channels, filters, extent, stride, pad, dilation) in [
        (50u64, 32u64, 40u64, 3u64, 1u64, 1u64, 1u64),
        (301, 16, 33, 3, 2, 1, 1),
        (40, 48, 32, 5, 3, 2, 2),
        (900, 160, 17, 3, 1, 1, 1),
        (33, 64, 48, 1, 2, 0, 1),
        (20, 20, 32, 4, 1, 3, 1),
    ] {
        let mut case = Case::new();
        let x = case.input(random.tensor(DType::BF16, &[2, length, channels], -1.0, 1.0));
        let weights = case.param(random.tensor(DType::BF16, &[filters, channels, extent], -1.0, 1.0));
        let (x, weights) = (widened(&mut case, x), widened(&mut case, weights));
        let window = Window {
            extent: vec![extent],
            stride: vec![stride],
            dilation: vec![dilation],
            pad_low: vec![pad],
            pad_high: vec![pad],
            ceil: false,
        };
        let y = case.root(Op::Conv { window, groups: 1, channels_last: true }, &[x, weights]);
        let y = epilogue(&mut case, &mut random, y);
        check(&mut case, y);
    }
}

#[test]
fn convolutions_have_every_remainder() {
    let mut random = Random::new(73);
    for ([h, w], channels, filters, extent, stride, pad, groups) in [
        ([7u64, 9u64], 32u64, 20u64, 3u64, 1u64, 1u64, 1u64),
        ([8, 8], 17, 33, 1, 1, 0, 1),
        ([9, 5], 5, 16, 3, 2, 1, 1),
        ([20, 16], 64, 40, 1, 1, 0, 1),
        ([6, 6], 12, 12, 3, 1, 1, 2),
        ([7, 7], 64, 50, 3, 1, 1, 1),
        ([14, 13], 48, 32, 3, 2, 1, 1),
        ([9, 9], 16, 17, 1, 2, 0, 1),
        ([12, 5], 32, 64, 5, 3, 2, 1),
        ([1, 1], 32, 40, 3, 1, 1, 1),
        ([40, 33], 160, 33, 3, 1, 1, 1),
        ([5, 70], 32, 18, 2, 1, 0, 1),
    ] {
        let mut case = Case::new();
        let x = case.input(random.tensor(DType::BF16, &[2, h, w, channels], -1.0, 1.0));
        let shape = [filters, channels / groups, extent, extent];
        let weights = case.param(random.tensor(DType::BF16, &shape, -1.0, 1.0));
        let (x, weights) = (widened(&mut case, x), widened(&mut case, weights));
        let window = Window {
            extent: vec![extent; 2],
            stride: vec![stride; 2],
            dilation: vec![1; 2],
            pad_low: vec![pad; 2],
            pad_high: vec![pad; 2],
            ceil: false,
        };
        let y = case.root(Op::Conv { window, groups, channels_last: true }, &[x, weights]);
        let y = epilogue(&mut case, &mut random, y);
        check(&mut case, y);
    }
}

/// A bf16 apart where sums were made in another order.
#[test]
fn results_are_rounded_to_bf16() {
    let mut random = Random::new(75);
    for (m, n) in [(40u64, 48u64), (17, 35), (5, 16)] {
        let mut case = Case::new();
        let x = case.input(random.tensor(DType::BF16, &[m, 64], -1.0, 1.0));
        let w = case.param(random.tensor(DType::BF16, &[64, n], -1.0, 1.0));
        let (x, w) = (widened(&mut case, x), widened(&mut case, w));
        let y = case.root(Op::MatMul, &[x, w]);
        let y = epilogue(&mut case, &mut random, y);
        let y = case.op(Op::Cast(DType::BF16), &[y]);
        for target in all_targets() {
            case.check_on(&target, y, 1.0 / 128.0);
        }
    }
}

#[test]
fn depthwise_convolutions_read_bf16() {
    let mut random = Random::new(76);
    for (size, channels, stride) in [(9u64, 16u64, 1u64), (12, 40, 2), (5, 7, 1)] {
        let mut case = Case::new();
        let x = case.input(random.tensor(DType::BF16, &[2, size, size + 1, channels], -1.0, 1.0));
        let x = widened(&mut case, x);
        let weights = case.param(random.tensor(DType::F32, &[channels, 1, 3, 3], -1.0, 1.0));
        let window = Window {
            extent: vec![3; 2],
            stride: vec![stride; 2],
            dilation: vec![1; 2],
            pad_low: vec![1; 2],
            pad_high: vec![1; 2],
            ceil: false,
        };
        let y = case.root(Op::Conv { window, groups: channels, channels_last: true }, &[x, weights]);
        let y = epilogue(&mut case, &mut random, y);
        check(&mut case, y);
    }
}
