//! Index maps: every one by itself, and composed.

use ired_graph::{BinaryFn, DType, Dim, Op, PadMode, Tensor};

use crate::harness::{Case, Random, dims};

const TYPES: &[DType] = &[DType::F32, DType::I64, DType::F16, DType::U8, DType::Bool];

#[test]
fn transposes() {
    let mut random = Random::new(11);
    for dtype in TYPES {
        for perm in [[0usize, 2, 1], [2, 1, 0], [1, 0, 2], [0, 1, 2]] {
            for shape in [[2u64, 3, 5], [1, 17, 33], [4, 0, 3], [3, 4, 16]] {
                let mut case = Case::new();
                let x = case.input(random.tensor(*dtype, &shape, -50.0, 50.0));
                let y = case.op(Op::Transpose { perm: perm.to_vec() }, &[x]);
                case.check(y, 0.0);
            }
        }
    }
}

/// Short rows of sizes that only the run knows, so many that workgroups begin anywhere on a line of them.
#[test]
fn rows_are_walked_line_by_line() {
    let mut random = Random::new(19);
    for shape in [[2u64, 3, 81, 90], [1, 3, 7000, 1], [1, 5, 1, 6500], [2, 3, 4, 0], [0, 3, 4, 5]] {
        let mut case = Case::new();
        let ty: Vec<Dim> = (0..4)
            .map(|axis| match axis {
                1 => Dim::constant(shape[1] as i64),
                _ => case.symbol(&format!("d{axis}"), shape[axis]),
            })
            .collect();
        let x = case.input_of(random.tensor(DType::F32, &shape, -5.0, 5.0), ty.clone());
        let pixels = case.op(Op::Transpose { perm: vec![0, 2, 3, 1] }, &[x]);
        case.check(pixels, 0.0);
        let bias = case.input(random.tensor(DType::F32, &[shape[1], 1, 1], -5.0, 5.0));
        let bias = case.op(Op::Broadcast { shape: ty }, &[bias]);
        let sum = case.op(Op::Binary(BinaryFn::Add), &[x, bias]);
        case.check(sum, 0.0);
    }
}

#[test]
fn slices() {
    let mut random = Random::new(12);
    for (start, size, stride) in
        [([1i64, 2], [3i64, 4], [1i64, 1]), ([4, 6], [2, 3], [-2, -1]), ([0, 0], [5, 1], [1, 7])]
    {
        let mut case = Case::new();
        let x = case.input(random.tensor(DType::F32, &[5, 7], -5.0, 5.0));
        let constants = |v: [i64; 2]| v.iter().map(|d| Dim::constant(*d)).collect::<Vec<_>>();
        let op = Op::Slice { start: constants(start), size: constants(size), stride: stride.to_vec() };
        let y = case.op(op, &[x]);
        case.check(y, 0.0);
    }
    let mut case = Case::new();
    let n = case.symbol("n", 40);
    let x = case.input_of(random.tensor(DType::F32, &[40, 3], -5.0, 5.0), vec![n.clone(), 3.into()]);
    let start = vec![n.clone() - Dim::constant(1), 0.into()];
    let op = Op::Slice { start, size: vec![n.floor_div(&2.into()), 3.into()], stride: vec![-2, 1] };
    let y = case.op(op, &[x]);
    case.check(y, 0.0);
}

#[test]
fn concatenations() {
    let mut random = Random::new(13);
    for dtype in TYPES {
        for axis in 0..2usize {
            let mut case = Case::new();
            let parts: Vec<_> = [3u64, 0, 1, 18]
                .iter()
                .map(|size| {
                    let mut shape = [19, 19];
                    shape[axis] = *size;
                    case.input(random.tensor(*dtype, &shape, -50.0, 50.0))
                })
                .collect();
            let y = case.op(Op::Concat { axis }, &parts);
            case.check(y, 0.0);
        }
    }
}

#[test]
fn paddings() {
    let mut random = Random::new(14);
    for mode in [PadMode::Constant, PadMode::Reflect, PadMode::Edge, PadMode::Wrap] {
        for (low, high) in [([1i64, 2], [2i64, 1]), ([0, 3], [0, 0]), ([2, 0], [1, 0])] {
            let mut case = Case::new();
            let x = case.input(random.tensor(DType::F32, &[4, 20], -5.0, 5.0));
            let fill = case.input(Tensor::from_f32s(&[], &[7.5]));
            let constants = |v: [i64; 2]| v.iter().map(|d| Dim::constant(*d)).collect::<Vec<_>>();
            let op = Op::Pad { low: constants(low), high: constants(high), mode };
            let operands = if mode == PadMode::Constant { vec![x, fill] } else { vec![x] };
            let y = case.op(op, &operands);
            if mode != PadMode::Constant {
                case.graph.set_outputs(case.graph.body, vec![y]);
            }
            case.check(y, 0.0);
        }
    }
    let mut case = Case::new();
    let x = case.input(random.tensor(DType::I32, &[6, 6], -5.0, 5.0));
    let fill = case.constant(Tensor::from_integers(DType::I32, &[], &[-1]));
    let low = vec![Dim::constant(-1), Dim::constant(2)];
    let op = Op::Pad { low, high: vec![Dim::constant(1), Dim::constant(-3)], mode: PadMode::Constant };
    let y = case.op(op, &[x, fill]);
    case.check(y, 0.0);
}

#[test]
fn gathers() {
    let mut random = Random::new(15);
    for (axis, index_shape) in [(0usize, vec![2u64, 3]), (1, vec![4]), (2, vec![]), (2, vec![17])] {
        for index_type in [DType::I32, DType::I64] {
            let mut case = Case::new();
            let data = case.input(random.tensor(DType::F32, &[3, 4, 18], -5.0, 5.0));
            let limit = [3.0, 4.0, 18.0][axis];
            let indices = case.input(random.tensor(index_type, &index_shape, -limit, limit - 1.0));
            let y = case.op(Op::Gather { axis }, &[data, indices]);
            case.check(y, 0.0);
        }
    }
    for axis in 0..2usize {
        let mut case = Case::new();
        let data = case.input(random.tensor(DType::F32, &[5, 20], -5.0, 5.0));
        let limit = [5.0, 20.0][axis];
        let mut shape = [5, 20];
        shape[axis] = 19;
        let indices = case.input(random.tensor(DType::I64, &shape, -limit, limit - 1.0));
        let y = case.op(Op::GatherElements { axis }, &[data, indices]);
        case.check(y, 0.0);
    }
    for (batch_dims, index_shape, data_shape) in [
        (0usize, vec![3u64, 2], vec![4u64, 4, 33]),
        (1, vec![2, 5, 1], vec![2, 4, 3]),
        (0, vec![7, 2], vec![4, 4]),
    ] {
        let mut case = Case::new();
        let data = case.input(random.tensor(DType::F32, &data_shape, -5.0, 5.0));
        let indices = case.input(random.tensor(DType::I64, &index_shape, -4.0, 3.0));
        let y = case.op(Op::GatherNd { batch_dims }, &[data, indices]);
        case.check(y, 0.0);
    }
}

#[test]
fn a_gather_out_of_range_stays_inside() {
    let mut case = Case::new();
    let data = case.input(Tensor::from_f32s(&[3], &[10.0, 20.0, 30.0]));
    let indices = case.input(Tensor::from_i64s(&[4], &[i64::MAX, i64::MIN, 5, -9]));
    let y = case.op(Op::Gather { axis: 0 }, &[data, indices]);
    for target in crate::harness::targets() {
        let found = case.run(&target, y).to_f64s();
        assert!(found.iter().all(|v| [10.0, 20.0, 30.0].contains(v)), "{found:?}");
    }
}

#[test]
fn sources() {
    let mut case = Case::new();
    let n = case.symbol("n", 21);
    let _ = case.input_of(Random::new(1).tensor(DType::F32, &[21], 0.0, 1.0), vec![n.clone()]);
    let rows = case.op(Op::Iota { dtype: DType::F32, shape: vec![3.into(), n.clone()], axis: 0 }, &[]);
    let columns = case.op(Op::Iota { dtype: DType::F32, shape: vec![3.into(), n.clone()], axis: 1 }, &[]);
    let sum = case.op(Op::Binary(ired_graph::BinaryFn::Add), &[rows, columns]);
    case.check(sum, 0.0);

    let mut case = Case::new();
    let n = case.symbol("n", 21);
    let _ = case.input_of(Random::new(1).tensor(DType::F32, &[21], 0.0, 1.0), vec![n.clone()]);
    let values = vec![n.clone(), n.clone() * Dim::constant(2) + Dim::constant(1), n.ceil_div(&4.into())];
    let y = case.op(Op::Dims { values, shape: vec![3] }, &[]);
    case.check(y, 0.0);

    for dtype in [DType::F32, DType::F64, DType::I32, DType::U8, DType::Bool, DType::F16, DType::BF16] {
        let mut random = Random::new(16);
        let mut case = Case::new();
        let x = case.input(random.tensor(dtype, &[4, 18], 0.0, 9.0));
        let constant = case.constant(random.tensor(dtype, &[18], 0.0, 9.0));
        let row = case.op(Op::Broadcast { shape: dims(&[4, 18]) }, &[constant]);
        let same = case.op(Op::Compare(ired_graph::CompareFn::Eq), &[x, row]);
        let y = case.op(Op::Select, &[same, x, row]);
        case.check(y, 0.0);
    }
}

/// As images are enlarged, by factors that divide lanes and others, in one step and several.
#[test]
fn elements_are_repeated() {
    let mut random = Random::new(18);
    for dtype in TYPES {
        for (times, width) in [(2u64, 9u64), (4, 1), (8, 16), (16, 3), (32, 5), (3, 7), (2, 0)] {
            let mut case = Case::new();
            let w = case.symbol("w", width);
            let x = random.tensor(*dtype, &[3, width], -50.0, 50.0);
            let x = case.input_of(x, vec![3.into(), w.clone()]);
            let apart = case.op(Op::Reshape { shape: vec![3.into(), w.clone(), 1.into()] }, &[x]);
            let shape = vec![3.into(), w.clone(), Dim::constant(times as i64)];
            let y = case.op(Op::Broadcast { shape: shape.clone() }, &[apart]);
            case.check(y, 0.0);
            let apart = case.op(Op::Reshape { shape: [shape.clone(), vec![1.into()]].concat() }, &[y]);
            let twice = case.op(Op::Broadcast { shape: [shape, vec![2.into()]].concat() }, &[apart]);
            case.check(twice, 0.0);
        }
    }
}

#[test]
fn reshapes_inside_of_chains() {
    let mut random = Random::new(17);
    // [b, s, h * d] seen as [b, h, s, d] and back.
    for (batch, length) in [(2u64, 5u64), (1, 1), (3, 16)] {
        let mut case = Case::new();
        let (b, s) = (case.symbol("b", batch), case.symbol("s", length));
        let x = random.tensor(DType::F32, &[batch, length, 96], -5.0, 5.0);
        let x = case.input_of(x, vec![b.clone(), s.clone(), 96.into()]);
        let split = case.op(Op::Reshape { shape: vec![b.clone(), s.clone(), 3.into(), 32.into()] }, &[x]);
        let heads = case.op(Op::Transpose { perm: vec![0, 2, 1, 3] }, &[split]);
        case.check(heads, 0.0);
        let joined = case.op(Op::Transpose { perm: vec![0, 2, 1, 3] }, &[heads]);
        let back = case.op(Op::Reshape { shape: vec![b.clone() * s.clone(), 96.into()] }, &[joined]);
        case.check(back, 0.0);
        let columns = case.op(Op::Transpose { perm: vec![0, 2, 3, 1] }, &[split]);
        let flat = case.op(Op::Reshape { shape: vec![b, s * Dim::constant(96)] }, &[columns]);
        case.check(flat, 0.0);
    }
    for (from, to) in [(vec![6u64, 4], vec![8u64, 3]), (vec![2, 3, 4], vec![24]), (vec![35], vec![5, 7])] {
        let mut case = Case::new();
        let x = case.input(random.tensor(DType::I32, &from, -5.0, 5.0));
        let transposed = match from.len() {
            1 => x,
            n => case.op(Op::Transpose { perm: (0..n).rev().collect() }, &[x]),
        };
        let y = case.op(Op::Reshape { shape: dims(&to) }, &[transposed]);
        case.check(y, 0.0);
    }
}

#[test]
fn transposes_in_tiles() {
    let mut random = Random::new(18);
    for dtype in [DType::F32, DType::F64, DType::F16, DType::BF16, DType::I64, DType::U8, DType::Bool] {
        for (shape, perm) in [
            ([1u64, 40, 35], [0usize, 2, 1]),
            ([20, 3, 33], [1, 2, 0]),
            ([17, 16, 32], [2, 1, 0]),
            ([2, 64, 64], [0, 2, 1]),
        ] {
            let mut case = Case::new();
            let symbolic: Vec<Dim> =
                shape.iter().enumerate().map(|(i, d)| case.symbol(&format!("d{i}"), *d)).collect();
            let x = case.input_of(random.tensor(dtype, &shape, 0.0, 50.0), symbolic);
            let y = case.op(Op::Transpose { perm: perm.to_vec() }, &[x]);
            case.check(y, 0.0);
        }
    }
}
