//! Winograd convolutions: every remainder and edge, what follows them, and when they are used.

use ired_compiler::targets::CpuTarget;
use ired_graph::{BinaryFn, DType, Op, Tensor, UnaryFn, ValueId, Window};

use crate::harness::{Case, Random, dims, targets};
use crate::nested::window;

/// One rounding of a value, enlarged as much as the transforms can: `|A|·|G|·|B|`, row by row, is 9.14 times what it
/// would be of a sum of three taps, in each of two dimensions.
const TOLERANCE: f64 = 9.14 * 9.14 / (1 << 24) as f64;

fn padded(low: [u64; 2], high: [u64; 2]) -> Window {
    window([3, 3], [1, 1], [1, 1], low, high)
}

fn conv(case: &mut Case, random: &mut Random, x: ValueId, filters: u64, window: Window) -> ValueId {
    let channels = case.graph.ty(x).shape[3].as_static().unwrap() as u64;
    let w = case.param(random.tensor(DType::F32, &[filters, channels, 3, 3], -1.0, 1.0));
    case.root(Op::Conv { window, groups: 1, channels_last: true }, &[x, w])
}

fn forced() -> Case {
    let mut case = Case::new();
    case.family = Some("winograd");
    case
}

fn check(random: &mut Random, input: [u64; 4], filters: u64, window: Window, symbolic: &[usize]) {
    let mut case = forced();
    let x = random.tensor(DType::F32, &input, -1.0, 1.0);
    let mut ty = dims(&input);
    for axis in symbolic {
        ty[*axis] = case.symbol(&format!("d{axis}"), input[*axis]);
    }
    let x = case.input_of(x, ty);
    let y = conv(&mut case, random, x, filters, window);
    case.check(y, TOLERANCE);
}

#[test]
fn random_shapes_and_paddings() {
    let mut random = Random::new(81);
    for _ in 0..16 {
        let mut pick = |low: i64, high: i64| random.integer(low, high) as u64;
        let paddings = [[pick(0, 2), pick(0, 3)], [pick(0, 3), pick(0, 2)]];
        // No smaller than the window, with its padding.
        let least = |axis: usize| 3i64.saturating_sub_unsigned(paddings[0][axis] + paddings[1][axis]).max(1);
        let input = [pick(1, 3), pick(least(0), 19), pick(least(1), 19), pick(1, 40)];
        let filters = pick(1, 70);
        let axes: Vec<usize> = (0..3).filter(|_| random.integer(0, 1) == 1).collect();
        check(&mut random, input, filters, padded(paddings[0], paddings[1]), &axes);
    }
}

#[test]
fn sizes_at_the_edges_of_tiles_and_vectors() {
    let mut random = Random::new(82);
    let same = || padded([1, 1], [1, 1]);
    for (input, filters) in [
        ([1, 1, 1, 1], 1),
        ([1, 4, 4, 16], 32),
        ([1, 5, 3, 17], 33),
        ([1, 13, 31, 8], 16),
        ([3, 7, 7, 5], 40),
        ([2, 8, 4, 33], 15),
        ([1, 1, 37, 3], 64),
        ([1, 2, 2, 64], 128),
    ] {
        for symbolic in [&[] as &[usize], &[0], &[1, 2]] {
            check(&mut random, input, filters, same(), symbolic);
        }
    }
    for symbolic in [&[] as &[usize], &[0, 1, 2]] {
        check(&mut random, [1, 6, 6, 16], 32, padded([0, 0], [0, 0]), symbolic);
        check(&mut random, [1, 3, 3, 2], 2, padded([0, 0], [0, 0]), symbolic);
        // All of a tile's inputs may lie in the padding.
        check(&mut random, [1, 2, 3, 4], 5, padded([9, 0], [0, 12]), symbolic);
        check(&mut random, [0, 6, 6, 4], 5, same(), symbolic);
    }
    check(&mut random, [1, 0, 3, 4], 5, padded([2, 1], [3, 1]), &[1, 2]);
    check(&mut random, [1, 0, 0, 4], 5, padded([1, 2], [2, 3]), &[1, 2]);
}

/// Every number of tiles that a workgroup may have, and how they are shared out where there are several.
#[test]
fn the_run_may_tell_the_number_of_tiles() {
    let mut random = Random::new(88);
    for width in (1..=30).map(|tiles| 4 * tiles - 1).chain([117, 160, 233]) {
        check(&mut random, [1, 3, width, 3], 6, padded([1, 1], [1, 1]), &[2]);
    }
    // So many channels that few tiles fit.
    check(&mut random, [1, 5, 30, 1500], 5, padded([1, 1], [1, 1]), &[1, 2]);
}

/// Several workgroups along both axes of the grid, the last of them with fewer tiles.
#[test]
fn blocks_and_panels_are_shared_out() {
    let mut random = Random::new(83);
    for (size, channels, filters) in [(31, 3, 130), (14, 40, 200), (17, 256, 70)] {
        check(&mut random, [1, size, size, channels], filters, padded([1, 1], [1, 1]), &[]);
        check(&mut random, [3, size, size, channels], filters, padded([1, 1], [1, 1]), &[0]);
        check(&mut random, [2, size, size, channels], filters, padded([1, 1], [1, 1]), &[1, 2]);
    }
}

#[test]
fn what_follows_is_computed_before_storing() {
    let mut random = Random::new(84);
    for (size, filters) in [(7, 24), (9, 50)] {
        let mut case = forced();
        let x = case.input(random.tensor(DType::F32, &[2, size, size, 6], -1.0, 1.0));
        let y = conv(&mut case, &mut random, x, filters, padded([1, 1], [1, 1]));
        let to = case.graph.ty(y).shape.clone();
        let bias = case.param(random.tensor(DType::F32, &[filters], -1.0, 1.0));
        let bias = case.op(Op::Broadcast { shape: to.clone() }, &[bias]);
        let y = case.op(Op::Binary(BinaryFn::Add), &[y, bias]);
        let y = case.op(Op::Unary(UnaryFn::Sigmoid), &[y]);
        let residual = case.input(random.tensor(DType::F32, &[2, size, size, filters], -1.0, 1.0));
        let y = case.op(Op::Binary(BinaryFn::Add), &[y, residual]);
        let zero = case.constant(Tensor::from_f32s(&[], &[0.0]));
        let zero = case.op(Op::Broadcast { shape: to }, &[zero]);
        let y = case.op(Op::Binary(BinaryFn::Max), &[y, zero]);
        case.check(y, TOLERANCE);
    }
}

/// The input may be what is added: it is read for other tiles too.
#[test]
fn the_input_may_follow() {
    let mut random = Random::new(85);
    let mut case = forced();
    let x = case.input(random.tensor(DType::F32, &[1, 9, 9, 20], -1.0, 1.0));
    let y = conv(&mut case, &mut random, x, 20, padded([1, 1], [1, 1]));
    let y = case.op(Op::Binary(BinaryFn::Add), &[y, x]);
    case.check(y, TOLERANCE);
}

#[test]
fn what_it_cannot_compute_is_left_to_others() {
    let chosen = |shape: &[u64; 4], ty: DType, window: Window, groups: u64| {
        let mut case = forced();
        let mut random = Random::new(87);
        let x = case.input(random.tensor(ty, shape, -1.0, 1.0));
        let taps = [window.extent[0], window.extent[1]];
        let w = case.param(random.tensor(ty, &[8, shape[3] / groups, taps[0], taps[1]], -1.0, 1.0));
        let y = case.root(Op::Conv { window, groups, channels_last: true }, &[x, w]);
        case.chosen(&targets()[0], y)
    };
    let (shape, zero) = (&[1, 9, 9, 8], [0, 0]);
    assert_eq!(chosen(shape, DType::F32, padded(zero, zero), 1), Some("winograd"));
    assert_eq!(chosen(shape, DType::F64, padded(zero, zero), 1), None);
    assert_eq!(chosen(shape, DType::F16, padded(zero, zero), 1), None);
    assert_eq!(chosen(shape, DType::F32, padded(zero, zero), 2), None);
    assert_eq!(chosen(shape, DType::F32, window([3, 3], [2, 1], [1, 1], zero, zero), 1), None);
    assert_eq!(chosen(shape, DType::F32, window([3, 3], [1, 1], [1, 2], zero, zero), 1), None);
    assert_eq!(chosen(shape, DType::F32, window([3, 2], [1, 1], [1, 1], zero, zero), 1), None);
    // Not even the values of one tile are small.
    assert_eq!(chosen(&[1, 3, 3, 8192], DType::F32, padded(zero, zero), 1), None);
}

#[test]
fn it_is_used_where_multiplications_outweigh_filters() {
    let chosen = |size: u64, channels: u64, filters: u64| {
        let mut case = Case::new();
        let x = case.input(Tensor::from_f32s(
            &[1, size, size, channels],
            &vec![0.0; (size * size * channels) as usize],
        ));
        let w = Tensor::from_f32s(&[filters, channels, 3, 3], &vec![0.0; (filters * channels * 9) as usize]);
        let w = case.param(w);
        let op = Op::Conv { window: padded([1, 1], [1, 1]), groups: 1, channels_last: true };
        let y = case.root(op, &[x, w]);
        // Cost models are asked of one machine, whichever this is.
        case.chosen(&CpuTarget::parse("x86-64-v4").unwrap(), y).unwrap()
    };
    for (size, channels, filters) in
        [(56, 64, 64), (28, 128, 128), (14, 256, 256), (112, 32, 32), (16, 384, 128)]
    {
        assert_eq!(chosen(size, channels, filters), "winograd", "{channels} channels of {size} x {size}");
    }
    for (size, channels, filters) in [(7, 512, 512), (8, 256, 256), (224, 3, 64), (1, 64, 64), (3, 64, 64)] {
        assert_eq!(chosen(size, channels, filters), "convolution", "{channels} channels of {size} x {size}");
    }
}
