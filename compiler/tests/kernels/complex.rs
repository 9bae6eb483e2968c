//! Complex numbers: moved whole, taken apart and put together, at sizes around the edges of vectors.

use ired_graph::{BinaryFn, DType, Dim, Op, PadMode, Tensor, UnaryFn};

use crate::harness::{Case, Random, dims};

const TYPES: [DType; 2] = [DType::C64, DType::C128];
const SHAPES: [[u64; 2]; 6] = [[1, 1], [3, 5], [1, 17], [8, 2], [16, 16], [2, 0]];

fn random(random: &mut Random, dtype: DType, shape: &[u64]) -> Tensor {
    random.tensor(dtype, shape, -50.0, 50.0)
}

#[test]
fn chains_of_movement() {
    let mut numbers = Random::new(81);
    for dtype in TYPES {
        for [m, n] in SHAPES {
            let mut case = Case::new();
            let shape = vec![case.symbol("m", m), case.symbol("n", n)];
            let x = case.input_of(random(&mut numbers, dtype, &[m, n]), shape.clone());
            let row = case.input_of(random(&mut numbers, dtype, &[n]), shape[1..].to_vec());
            let chosen = numbers.tensor(DType::Bool, &[m, n], 0.0, 1.0);
            let chosen = case.input_of(chosen, shape.clone());
            let rows = case.op(Op::Broadcast { shape }, &[row]);
            let y = case.op(Op::Select, &[chosen, x, rows]);
            case.check_bits(y);
            let turned = case.op(Op::Transpose { perm: vec![1, 0] }, &[y]);
            case.check_bits(turned);
            let both = case.op(Op::Concat { axis: 1 }, &[turned, turned]);
            case.check_bits(both);
        }
    }
}

#[test]
fn slices_and_paddings() {
    let mut numbers = Random::new(82);
    for dtype in TYPES {
        for [m, n] in SHAPES.into_iter().filter(|[_, n]| *n > 0) {
            for fill in [vec![0.0, 0.0], vec![-1.5, 2.0]] {
                let mut case = Case::new();
                let x = case.input(random(&mut numbers, dtype, &[m, n]));
                let parts = Tensor::from_f64s(dtype.part().unwrap(), &[2], &fill);
                let fill = case.constant(Tensor::new(dtype, vec![], parts.data().clone()).unwrap());
                let pad = Op::Pad { low: dims(&[1, 0]), high: dims(&[0, 3]), mode: PadMode::Constant };
                let padded = case.op(pad, &[x, fill]);
                case.check_bits(padded);
                let (m, n) = (m as i64, n as i64);
                let start = vec![Dim::constant(m), Dim::constant(0)];
                let size = vec![Dim::constant(m), Dim::constant((n + 4) / 2)];
                let sliced = case.op(Op::Slice { start, size, stride: vec![-1, 2] }, &[padded]);
                case.check_bits(sliced);
            }
        }
    }
}

#[test]
fn reads_at_computed_positions() {
    let mut numbers = Random::new(83);
    for dtype in TYPES {
        for [m, n] in [[1u64, 1], [5, 7], [3, 16]] {
            let index = |numbers: &mut Random, shape: &[u64], size: u64| {
                numbers.tensor(DType::I64, shape, -(size as f64), size as f64 - 1.0)
            };
            let mut case = Case::new();
            let x = case.input(random(&mut numbers, dtype, &[m, n]));
            let at = case.input(index(&mut numbers, &[6], m));
            let y = case.op(Op::Gather { axis: 0 }, &[x, at]);
            case.check_bits(y);

            let mut case = Case::new();
            let x = case.input(random(&mut numbers, dtype, &[m, n]));
            let at = case.input(index(&mut numbers, &[m, 9], n));
            let y = case.op(Op::GatherElements { axis: 1 }, &[x, at]);
            case.check_bits(y);

            let mut case = Case::new();
            let x = case.input(random(&mut numbers, dtype, &[m, n]));
            let at = case.input(index(&mut numbers, &[4, 2], m.min(n)));
            let y = case.op(Op::GatherNd { batch_dims: 0 }, &[x, at]);
            case.check_bits(y);
        }
    }
}

#[test]
fn constants_of_one_value_and_of_several() {
    let mut numbers = Random::new(84);
    for dtype in TYPES {
        let x = random(&mut numbers, dtype, &[3, 18]);
        let one = random(&mut numbers, dtype, &[1]);
        let negative = Tensor::from_f64s(dtype.part().unwrap(), &[2], &[-0.0, -f64::MIN_POSITIVE]);
        let negative = Tensor::new(dtype, vec![1], negative.data().clone()).unwrap();
        for constant in [random(&mut numbers, dtype, &[18]), one, negative] {
            let mut case = Case::new();
            let x = case.input(x.clone());
            let chosen = case.input(numbers.tensor(DType::Bool, &[3, 18], 0.0, 1.0));
            let constant = case.constant(constant);
            let row = case.op(Op::Broadcast { shape: dims(&[3, 18]) }, &[constant]);
            let y = case.op(Op::Select, &[chosen, x, row]);
            case.check_bits(y);
        }
    }
}

#[test]
fn parts_apart_and_together() {
    let mut numbers = Random::new(85);
    for dtype in TYPES {
        for [m, n] in SHAPES {
            let mut case = Case::new();
            let shape = vec![case.symbol("m", m), case.symbol("n", n)];
            let x = case.input_of(random(&mut numbers, dtype, &[m, n]), shape);
            let re = case.op(Op::Unary(UnaryFn::Real), &[x]);
            case.check_bits(re);
            let im = case.op(Op::Unary(UnaryFn::Imag), &[x]);
            case.check_bits(im);
            let sum = case.op(Op::Binary(BinaryFn::Add), &[re, im]);
            case.check_bits(sum);
            let joined = case.op(Op::Binary(BinaryFn::Complex), &[im, sum]);
            case.check_bits(joined);
            let turned = case.op(Op::Transpose { perm: vec![1, 0] }, &[joined]);
            case.check_bits(turned);
        }
    }
}
