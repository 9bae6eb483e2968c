//! Products and convolutions of bytes: exact in i32, with every remainder, and scaled into bytes again behind them.

use ired_compiler::targets::CpuTarget;
use ired_graph::{BinaryFn, DType, Op, UnaryFn, ValueId, Window};

use crate::harness::{Case, Random, host};

const TYPES: [(DType, DType); 6] = [
    (DType::U8, DType::I8),
    (DType::I8, DType::I8),
    (DType::U8, DType::U8),
    (DType::I8, DType::U8),
    // Bytes on machines that multiply words.
    (DType::I16, DType::I8),
    (DType::I16, DType::U8),
];

fn bytes(random: &mut Random, dtype: DType, shape: &[u64]) -> ired_graph::Tensor {
    // All of the range, its ends above all: sums of pairs in 16 bits would overflow.
    match dtype {
        DType::U8 => random.tensor(dtype, shape, 0.0, 255.0),
        DType::I16 => random.tensor(dtype, shape, -32768.0, 32767.0),
        _ => random.tensor(dtype, shape, -128.0, 127.0),
    }
}

/// Scaled by channel, rounded and shifted, as quantised models do.
fn requantized(case: &mut Case, random: &mut Random, sum: ValueId) -> ValueId {
    let shape = case.graph.ty(sum).shape.clone();
    let channels = shape[shape.len() - 1].as_static().unwrap() as u64;
    let scale = case.param(random.tensor(DType::F32, &[channels], 1e-4, 1e-3));
    let scale = case.op(Op::Broadcast { shape: shape.clone() }, &[scale]);
    let real = case.op(Op::Cast(DType::F32), &[sum]);
    let scaled = case.op(Op::Binary(BinaryFn::Mul), &[real, scale]);
    let rounded = case.op(Op::Unary(UnaryFn::Round), &[scaled]);
    let zero = case.op(Op::Constant(ired_graph::Tensor::scalar(DType::F32, 117.0)), &[]);
    let zero = case.op(Op::Broadcast { shape }, &[zero]);
    let shifted = case.op(Op::Binary(BinaryFn::Add), &[rounded, zero]);
    case.op(Op::Cast(DType::U8), &[shifted])
}

/// On every target, and on those of wide registers that lack tiles, or the instruction for bytes as well.
fn check(case: &mut Case, output: ValueId) {
    case.check(output, 0.0);
    let host = host();
    for text in ["x86_64-linux,+avx512f,+avx512vnni", "x86_64-linux,+avx512f"] {
        let target = CpuTarget::parse(text).unwrap();
        if target != host && target.features.iter().all(|feature| host.has(feature)) {
            case.check_on(&target, output, 0.0);
        }
    }
}

#[test]
fn products_of_bytes_are_exact() {
    let mut random = Random::new(61);
    for (i, [m, k, n]) in [
        [1u64, 40, 10],
        [2, 7, 16],
        [5, 1, 64],
        [6, 64, 256],
        [7, 31, 257],
        [8, 3, 320],
        [13, 258, 17],
        [97, 33, 65],
        [0, 4, 4],
        [3, 0, 5],
    ]
    .into_iter()
    .enumerate()
    {
        for (lhs, rhs) in TYPES {
            let mut case = Case::new();
            let rows = case.symbol("m", m);
            let x = bytes(&mut random, lhs, &[m, k]);
            let x = case.input_of(x, vec![rows, (k as i64).into()]);
            let transposed = i % 2 == 1;
            let shape = if transposed { [n, k] } else { [k, n] };
            let mut w = case.param(bytes(&mut random, rhs, &shape));
            if transposed {
                w = case.op(Op::Transpose { perm: vec![1, 0] }, &[w]);
            }
            let y = case.root(Op::MatMul, &[x, w]);
            let y = if i % 3 == 0 { requantized(&mut case, &mut random, y) } else { y };
            check(&mut case, y);
        }
    }
}

/// Sizes around those of tiles, with the types that tiles multiply.
#[test]
fn products_of_bytes_in_tiles_are_exact() {
    let mut random = Random::new(64);
    for (i, [m, k, n]) in [
        [16u64, 64, 32],
        [15, 64, 33],
        [17, 65, 1],
        [31, 128, 40],
        [33, 63, 32],
        [50, 191, 64],
        [197, 259, 35],
    ]
    .into_iter()
    .enumerate()
    {
        let mut case = Case::new();
        let rows = if i % 2 == 0 { (m as i64).into() } else { case.symbol("m", m) };
        let x = bytes(&mut random, DType::U8, &[m, k]);
        let x = case.input_of(x, vec![rows, (k as i64).into()]);
        let w = case.param(bytes(&mut random, DType::I8, &[k, n]));
        let y = case.root(Op::MatMul, &[x, w]);
        let y = if i % 3 == 0 { requantized(&mut case, &mut random, y) } else { y };
        check(&mut case, y);
    }
}

#[test]
fn convolutions_of_bytes_in_tiles_are_exact() {
    let mut random = Random::new(65);
    for (i, ([h, w], channels, filters, extent, stride, pad)) in [
        ([7u64, 9u64], 64u64, 20u64, 3u64, 1u64, 1u64),
        ([9, 5], 32, 33, 3, 2, 1),
        ([14, 13], 96, 32, 3, 2, 1),
        ([9, 9], 64, 64, 1, 2, 0),
        ([12, 5], 32, 40, 5, 3, 2),
        ([1, 1], 128, 40, 3, 1, 1),
        ([20, 33], 64, 17, 3, 1, 1),
    ]
    .into_iter()
    .enumerate()
    {
        let mut case = Case::new();
        let x = case.input(bytes(&mut random, DType::U8, &[2, h, w, channels]));
        let weights = case.param(bytes(&mut random, DType::I8, &[filters, channels, extent, extent]));
        let window = Window {
            stride: vec![stride; 2],
            pad_low: vec![pad; 2],
            pad_high: vec![pad; 2],
            ..Window::dense(vec![extent; 2])
        };
        let y = case.root(Op::Conv { window, groups: 1, channels_last: true }, &[x, weights]);
        if host().has("amx-int8") {
            assert_eq!(case.chosen(&host(), y), Some("tiled convolution"));
        }
        let y = if i % 2 == 0 { requantized(&mut case, &mut random, y) } else { y };
        check(&mut case, y);
    }
}

#[test]
fn two_computed_operands_of_bytes_are_multiplied_batch_by_batch() {
    let mut random = Random::new(62);
    for [batch, m, k, n] in [[2u64, 3, 17, 9], [1, 8, 32, 16], [3, 1, 5, 33]] {
        for (lhs, rhs) in TYPES {
            let mut case = Case::new();
            let x = case.input(bytes(&mut random, lhs, &[batch, m, k]));
            let w = case.input(bytes(&mut random, rhs, &[batch, k, n]));
            let y = case.root(Op::MatMul, &[x, w]);
            case.check(y, 0.0);
        }
    }
}

#[test]
fn convolutions_of_bytes_are_exact() {
    let mut random = Random::new(63);
    // Input size, channels and filters a group, groups, window, stride, padding.
    for (i, [size, channels, filters, groups, extent, stride, pad]) in [
        [9u64, 3, 8, 1, 3, 1, 1],
        [12, 4, 17, 1, 3, 2, 1],
        [7, 8, 33, 1, 1, 1, 0],
        [7, 5, 16, 1, 1, 2, 0],
        [10, 16, 40, 1, 3, 1, 1],
        [8, 6, 5, 2, 3, 1, 1],
        [17, 3, 16, 1, 7, 2, 3],
        [1, 8, 16, 1, 5, 1, 4],
        [0, 8, 16, 1, 4, 1, 3],
        [11, 1, 1, 19, 3, 1, 1],
        [11, 1, 1, 32, 5, 2, 2],
    ]
    .into_iter()
    .enumerate()
    {
        for (data, weights) in TYPES {
            for symbolic in [false, true] {
                let mut case = Case::new();
                let x = bytes(&mut random, data, &[2, size, size + 1, channels * groups]);
                let shape = [2, size as i64, size as i64 + 1, (channels * groups) as i64].map(Into::into);
                let mut shape: Vec<ired_graph::Dim> = shape.to_vec();
                if symbolic {
                    shape[0] = case.symbol("n", 2);
                    shape[1] = case.symbol("h", size);
                    shape[2] = case.symbol("w", size + 1);
                }
                let x = case.input_of(x, shape);
                let w =
                    case.param(bytes(&mut random, weights, &[filters * groups, channels, extent, extent]));
                let window = Window {
                    stride: vec![stride; 2],
                    pad_low: vec![pad; 2],
                    pad_high: vec![pad; 2],
                    ..Window::dense(vec![extent; 2])
                };
                let y = case.root(Op::Conv { window, groups, channels_last: true }, &[x, w]);
                let y = if i % 2 == 0 { requantized(&mut case, &mut random, y) } else { y };
                check(&mut case, y);
            }
        }
    }
}
