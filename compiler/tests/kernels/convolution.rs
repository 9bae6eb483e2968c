//! Convolutions: channels last and first, every remainder, edge and grouping.

use ired_graph::{BinaryFn, DType, Op, Tensor, UnaryFn, Window};

use crate::harness::{Case, Random, dims, targets};
use crate::nested::window;

struct Shape {
    /// Batch, spatial sizes, channels.
    input: Vec<u64>,
    filters: u64,
    groups: u64,
    window: Window,
}

fn shape(input: &[u64], filters: u64, groups: u64, window: Window) -> Shape {
    Shape { input: input.to_vec(), filters, groups, window }
}

fn relu_with_bias(case: &mut Case, random: &mut Random, y: ired_graph::ValueId, filters: u64, last: bool) {
    let to = case.graph.ty(y).shape.clone();
    let bias_shape = if last { vec![filters] } else { vec![filters, 1, 1] };
    let bias = case.param(random.tensor(DType::F32, &bias_shape, -1.0, 1.0));
    let bias = case.op(Op::Broadcast { shape: to.clone() }, &[bias]);
    let sum = case.op(Op::Binary(BinaryFn::Add), &[y, bias]);
    let zero = case.constant(Tensor::from_f32s(&[], &[0.0]));
    let zero = case.op(Op::Broadcast { shape: to }, &[zero]);
    let relu = case.op(Op::Binary(BinaryFn::Max), &[sum, zero]);
    case.check(relu, 2e-6);
}

fn check(random: &mut Random, shape: &Shape, symbolic: &[usize]) {
    let mut case = Case::new();
    let x = random.tensor(DType::F32, &shape.input, -1.0, 1.0);
    let mut ty = dims(&shape.input);
    for axis in symbolic {
        ty[*axis] = case.symbol(&format!("d{axis}"), shape.input[*axis]);
    }
    let x = case.input_of(x, ty);
    let channels = shape.input[shape.input.len() - 1];
    let filter = [&[shape.filters, channels / shape.groups], shape.window.extent.as_slice()].concat();
    let w = case.param(random.tensor(DType::F32, &filter, -1.0, 1.0));
    let op = Op::Conv { window: shape.window.clone(), groups: shape.groups, channels_last: true };
    let y = case.root(op, &[x, w]);
    relu_with_bias(&mut case, random, y, shape.filters, true);
}

#[test]
fn direct_tiles_reach_every_edge() {
    let mut random = Random::new(41);
    let same = |n: u64| window([n, n], [1, 1], [1, 1], [n / 2, n / 2], [n / 2, n / 2]);
    for shape in [
        shape(&[2, 6, 17, 5], 32, 1, same(3)),
        shape(&[1, 7, 7, 8], 40, 1, same(3)),
        shape(&[1, 5, 30, 3], 16, 1, window([7, 7], [2, 2], [1, 1], [3, 3], [3, 3])),
        shape(&[1, 4, 1, 2], 7, 1, same(3)),
        shape(&[1, 8, 9, 4], 33, 1, window([3, 2], [2, 3], [1, 2], [0, 1], [1, 0])),
        shape(&[2, 6, 19, 6], 64, 2, window([3, 3], [1, 1], [2, 2], [2, 2], [2, 2])),
        shape(&[1, 5, 5, 12], 6, 3, same(5)),
        shape(&[1, 3, 3, 4], 4, 1, window([3, 3], [1, 1], [1, 1], [0, 0], [0, 0])),
        shape(&[0, 3, 3, 4], 4, 1, same(3)),
    ] {
        check(&mut random, &shape, &[]);
        check(&mut random, &shape, &[0]);
    }
}

/// The padding of a transposed convolution, or of a small image, may be all that most of a window sees.
#[test]
fn windows_may_be_larger_than_the_input() {
    let mut random = Random::new(47);
    for input in [1u64, 2, 3] {
        for (extent, padding, stride) in
            [(2, 1, 1), (3, 1, 1), (3, 2, 2), (4, 3, 1), (5, 2, 1), (5, 4, 3), (5, 6, 2)]
        {
            let window = window([extent; 2], [stride; 2], [1, 1], [padding; 2], [padding; 2]);
            for channels in [1, 3, 16] {
                check(&mut random, &shape(&[2, input, input, channels], 33, 1, window.clone()), &[]);
                check(
                    &mut random,
                    &shape(&[1, input, input, channels], channels, channels, window.clone()),
                    &[1, 2],
                );
                check(
                    &mut random,
                    &shape(&[1, input, input, channels], channels, channels, window.clone()),
                    &[],
                );
            }
        }
    }
}

#[test]
fn spatial_sizes_may_be_unknown() {
    let mut random = Random::new(42);
    for (height, width) in [(1u64, 1u64), (6, 23), (5, 14), (3, 2)] {
        let padded = window([3, 3], [1, 1], [1, 1], [1, 1], [1, 1]);
        let strided = window([2, 3], [2, 2], [1, 1], [1, 2], [0, 1]);
        for window in [padded, strided] {
            check(&mut random, &shape(&[2, height, width, 5], 36, 1, window.clone()), &[0, 1, 2]);
            check(&mut random, &shape(&[1, height, width, 19], 19, 19, window), &[1, 2]);
        }
    }
}

/// Rows shorter and longer than tiles, with whatever is left of them, under windows that leave them on either side.
#[test]
fn rows_may_have_any_length() {
    let mut random = Random::new(48);
    for width in (1..=47).chain([97, 160]) {
        let mut pick = |low: i64, high: i64| random.integer(low, high) as u64;
        let (extent, dilation) = ([pick(1, 3), pick(1, 5)], [pick(1, 2), pick(1, 3)]);
        let reach = |axis: usize| (extent[axis] - 1) * dilation[axis];
        let low = [pick(0, 2), pick(0, reach(1) as i64 + 1)];
        let high = [reach(0), (reach(1) + pick(0, 2)).saturating_sub(low[1])];
        let window = window(extent, [pick(1, 2), pick(1, 3)], dilation, low, high);
        let input = |channels: u64| [1, 3, width, channels];
        let groups = pick(1, 3);
        let (channels, filters) = (groups * pick(1, 20), groups * pick(1, 40));
        check(&mut random, &shape(&input(channels), filters, groups, window.clone()), &[1, 2]);
        check(&mut random, &shape(&input(channels), channels, channels, window), &[2]);
    }
}

/// What a tile reads may be too much to be copied, or not be in memory.
#[test]
fn rows_of_unknown_length_without_copies() {
    let mut random = Random::new(49);
    let long = Window {
        extent: vec![40],
        stride: vec![3],
        dilation: vec![2],
        pad_low: vec![20],
        pad_high: vec![31],
        ceil: false,
    };
    check(&mut random, &shape(&[2, 61, 3], 5, 1, long.clone()), &[1]);
    check(&mut random, &shape(&[2, 61, 3], 3, 3, long.clone()), &[1]);
    check(&mut random, &shape(&[1, 31, 4500], 3, 1, long), &[1]);
    for groups in [1u64, 6] {
        let mut case = Case::new();
        let x = random.tensor(DType::F32, &[1, 4, 19, 6], -1.0, 1.0);
        let width = case.symbol("w", 19);
        let x = case.input_of(x, [dims(&[1, 4]), vec![width], dims(&[6])].concat());
        let x = case.op(Op::Unary(UnaryFn::Abs), &[x]);
        let w = case.param(random.tensor(DType::F32, &[6, 6 / groups, 3, 3], -1.0, 1.0));
        let window = window([3, 3], [1, 2], [1, 1], [1, 1], [1, 1]);
        let y = case.root(Op::Conv { window, groups, channels_last: true }, &[x, w]);
        case.check(y, 2e-6);
    }
}

#[test]
fn depthwise_windows() {
    let mut random = Random::new(43);
    for (channels, size, window) in [
        (16u64, 9u64, window([3, 3], [1, 1], [1, 1], [1, 1], [1, 1])),
        (32, 12, window([3, 3], [2, 2], [1, 1], [0, 0], [1, 1])),
        (35, 20, window([5, 5], [1, 1], [1, 1], [2, 2], [2, 2])),
        (3, 6, window([3, 1], [1, 2], [2, 1], [2, 0], [2, 0])),
        (1, 5, window([2, 2], [1, 1], [1, 1], [0, 0], [0, 0])),
    ] {
        check(&mut random, &shape(&[2, size, size, channels], channels, channels, window.clone()), &[]);
        // Two filters a channel.
        check(&mut random, &shape(&[1, size, size, channels], channels * 2, channels, window), &[0]);
    }
}

#[test]
fn a_window_of_one_is_a_product() {
    let mut random = Random::new(44);
    let one = window([1, 1], [1, 1], [1, 1], [0, 0], [0, 0]);
    for (input, filters) in [([1u64, 3, 5, 20], 30), ([2, 7, 7, 8], 64), ([3, 2, 2, 33], 320)] {
        check(&mut random, &shape(&input, filters, 1, one.clone()), &[0]);
        check(&mut random, &shape(&input, filters, 1, one.clone()), &[]);
    }
    let strided = window([1, 1], [2, 2], [1, 1], [0, 0], [0, 0]);
    check(&mut random, &shape(&[1, 6, 6, 8], 40, 1, strided), &[0]);
}

#[test]
fn one_and_three_axes() {
    let mut random = Random::new(45);
    let line = Window {
        extent: vec![3],
        stride: vec![2],
        dilation: vec![1],
        pad_low: vec![1],
        pad_high: vec![1],
        ceil: false,
    };
    check(&mut random, &shape(&[2, 21, 6], 20, 2, line), &[0]);
    let cube = Window {
        extent: vec![2, 3, 3],
        stride: vec![1, 2, 1],
        dilation: vec![1, 1, 1],
        pad_low: vec![1, 1, 1],
        pad_high: vec![0, 1, 1],
        ceil: false,
    };
    let mut case = Case::new();
    let x = case.input(random.tensor(DType::F32, &[2, 4, 5, 6, 3], -1.0, 1.0));
    let w = case.param(random.tensor(DType::F32, &[18, 3, 2, 3, 3], -1.0, 1.0));
    let y = case.root(Op::Conv { window: cube, groups: 1, channels_last: true }, &[x, w]);
    case.check(y, 2e-6);
}

#[test]
fn channels_first_and_computed_weights() {
    let mut random = Random::new(46);
    let padded = window([3, 3], [1, 2], [1, 1], [1, 1], [1, 1]);
    for groups in [1u64, 2, 4] {
        let mut case = Case::new();
        let n = case.symbol("n", 2);
        let x = random.tensor(DType::F32, &[2, 4, 6, 7], -1.0, 1.0);
        let x = case.input_of(x, [vec![n], dims(&[4, 6, 7])].concat());
        let w = case.param(random.tensor(DType::F32, &[8, 4 / groups, 3, 3], -1.0, 1.0));
        let y = case.root(Op::Conv { window: padded.clone(), groups, channels_last: false }, &[x, w]);
        relu_with_bias(&mut case, &mut random, y, 8, false);

        let mut case = Case::new();
        let x = case.input(random.tensor(DType::F32, &[2, 6, 7, 4], -1.0, 1.0));
        let w = case.input(random.tensor(DType::F32, &[8, 4 / groups, 3, 3], -1.0, 1.0));
        let y = case.root(Op::Conv { window: padded.clone(), groups, channels_last: true }, &[x, w]);
        case.check(y, 2e-6);
    }
}

#[test]
fn other_types() {
    let mut random = Random::new(47);
    for dtype in [DType::F64, DType::F16, DType::BF16] {
        for groups in [1u64, 18] {
            let mut case = Case::new();
            let x = case.input(random.tensor(dtype, &[1, 5, 9, 18], -1.0, 1.0));
            let w = case.param(random.tensor(dtype, &[18, 18 / groups, 3, 3], -1.0, 1.0));
            let padded = window([3, 3], [1, 1], [1, 1], [1, 1], [1, 1]);
            let y = case.root(Op::Conv { window: padded, groups, channels_last: true }, &[x, w]);
            let tolerance = if dtype == DType::F64 { 1e-13 } else { 8e-3 };
            case.check_on(&targets()[0], y, tolerance);

            let mut case = Case::new();
            let x = random.tensor(dtype, &[1, 5, 27, 18], -1.0, 1.0);
            let size = ["h", "w"].map(|name| case.symbol(name, if name == "h" { 5 } else { 27 }));
            let x = case.input_of(x, [dims(&[1]), size.to_vec(), dims(&[18])].concat());
            let w = case.param(random.tensor(dtype, &[18, 18 / groups, 3, 3], -1.0, 1.0));
            let window = window([3, 3], [2, 2], [1, 1], [1, 1], [1, 1]);
            let y = case.root(Op::Conv { window, groups, channels_last: true }, &[x, w]);
            case.check_on(&targets()[0], y, tolerance);
        }
    }
}
