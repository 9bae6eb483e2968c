//! Scatters, running sums and sorting in every type, at sizes where loops begin and end.

use ired_graph::{BinaryFn, CumulativeFn, DType, Dim, Op, ScatterFn, Tensor, UnaryFn};

use crate::harness::{Case, Random, targets};

const NUMBERS: [DType; 12] = [
    DType::F16,
    DType::BF16,
    DType::F32,
    DType::F64,
    DType::I8,
    DType::I16,
    DType::I32,
    DType::I64,
    DType::U8,
    DType::U16,
    DType::U32,
    DType::U64,
];

/// What is rounded at every step, and not once.
fn tolerance(dtype: DType) -> f64 {
    match dtype {
        DType::F16 => 4e-3,
        DType::BF16 => 3e-2,
        DType::F32 => 2e-6,
        _ => 1e-12,
    }
}

/// Tuples of indices into `shape`, some of them outside of it.
fn indices(random: &mut Random, outer: &[u64], shape: &[u64]) -> Tensor {
    let tuples: u64 = outer.iter().product();
    let index = |size: u64, random: &mut Random| random.integer(-(size as i64) - 1, size as i64);
    let values: Vec<i64> =
        (0..tuples).flat_map(|_| shape.iter().map(|s| index(*s, random)).collect::<Vec<_>>()).collect();
    Tensor::from_i64s(&[outer, &[shape.len() as u64]].concat(), &values)
}

fn scatter(
    random: &mut Random,
    dtype: DType,
    function: ScatterFn,
    shape: &[u64],
    k: usize,
    outer: &[u64],
) -> Case {
    let mut case = Case::new();
    let data = random.tensor(dtype, shape, 1.0, 3.0);
    let symbols: Vec<Dim> =
        shape.iter().enumerate().map(|(i, d)| case.symbol(&format!("d{i}"), *d)).collect();
    let data = case.input_of(data, symbols.clone());
    let at = indices(random, outer, &shape[..k]);
    let n: Vec<Dim> = outer.iter().enumerate().map(|(i, d)| case.symbol(&format!("n{i}"), *d)).collect();
    let at = case.input_of(at, [&n[..], &[Dim::constant(k as i64)]].concat());
    let updates = random.tensor(dtype, &[outer, &shape[k..]].concat(), 1.0, 3.0);
    let updates = case.input_of(updates, [&n, &symbols[k..]].concat());
    case.root(Op::ScatterNd { function }, &[data, at, updates]);
    case
}

fn check_scatter(
    random: &mut Random,
    dtype: DType,
    function: ScatterFn,
    shape: &[u64],
    k: usize,
    outer: &[u64],
) {
    let mut case = scatter(random, dtype, function, shape, k, outer);
    let output = case.root_value();
    case.check_on(&targets()[0], output, tolerance(dtype));
}

const SCATTERS: [ScatterFn; 5] =
    [ScatterFn::Set, ScatterFn::Add, ScatterFn::Mul, ScatterFn::Max, ScatterFn::Min];

#[test]
fn scatters_of_every_type() {
    let mut random = Random::new(71);
    for (i, dtype) in NUMBERS.into_iter().chain([DType::Bool]).enumerate() {
        for function in [SCATTERS[0], SCATTERS[1 + i % 4]] {
            check_scatter(&mut random, dtype, function, &[4, 19], 1, &[6]);
            check_scatter(&mut random, dtype, function, &[17], 1, &[5, 2]);
        }
    }
}

#[test]
fn scatters_of_complex_numbers() {
    let mut random = Random::new(77);
    for dtype in [DType::C64, DType::C128] {
        for (shape, k, outer) in
            [(&[4u64, 19][..], 1, &[6u64][..]), (&[17], 1, &[5, 2]), (&[3, 1], 2, &[4]), (&[0, 3], 1, &[0])]
        {
            let mut case = scatter(&mut random, dtype, ScatterFn::Set, shape, k, outer);
            let output = case.root_value();
            case.check_bits(output);
        }
    }
}

#[test]
fn scatters_of_every_shape() {
    let mut random = Random::new(72);
    for function in SCATTERS {
        check_scatter(&mut random, DType::F32, function, &[3, 5, 7], 2, &[4]);
    }
    let shapes: [(&[u64], usize, &[u64]); 9] = [
        (&[], 0, &[3]),
        (&[5], 0, &[2]),
        (&[0, 3], 1, &[0]),
        (&[4, 3], 1, &[0]),
        (&[2, 3, 4], 3, &[2, 2, 2]),
        (&[1, 2, 3, 5], 2, &[3, 1]),
        (&[3, 5000], 1, &[2]),
        (&[9, 2100], 1, &[12]),
        (&[40000], 1, &[70]),
    ];
    for (shape, k, outer) in shapes {
        check_scatter(&mut random, DType::F32, ScatterFn::Add, shape, k, outer);
        check_scatter(&mut random, DType::I64, ScatterFn::Set, shape, k, outer);
    }
}

#[test]
fn a_scatter_into_many_workgroups_keeps_the_order_of_duplicates() {
    let mut random = Random::new(73);
    check_scatter(&mut random, DType::I32, ScatterFn::Set, &[50000], 1, &[120_000]);
}

#[test]
fn updates_may_be_computed_on_the_way() {
    let mut random = Random::new(74);
    for (shape, k) in [(vec![6u64, 37], 1usize), (vec![6, 3, 5], 1), (vec![30], 1)] {
        let mut case = Case::new();
        let data = case.input(random.tensor(DType::F32, &shape, -1.0, 1.0));
        let at = case.input(indices(&mut random, &[4], &shape[..k]));
        let like = case.input(random.tensor(DType::F32, &[&[4], &shape[k..]].concat(), -1.0, 1.0));
        let updates = case.op(Op::Unary(UnaryFn::Neg), &[like]);
        let y = case.root(Op::ScatterNd { function: ScatterFn::Add }, &[data, at, updates]);
        case.check(y, 1e-6);
    }
}

#[test]
fn running_sums_of_every_type_and_axis() {
    let mut random = Random::new(75);
    for (i, dtype) in NUMBERS.into_iter().enumerate() {
        for axis in 0..3usize {
            let function = [CumulativeFn::Sum, CumulativeFn::Product][(i + axis) % 2];
            let (exclusive, reverse) = (i % 3 == 0, (i + axis) % 3 == 1);
            let mut case = Case::new();
            let shape = [3u64, 6, 19];
            let names = ["a", "b", "c"];
            let symbols = names.iter().zip(shape).map(|(name, d)| case.symbol(name, d)).collect();
            let x = case.input_of(random.tensor(dtype, &shape, 1.0, 2.0), symbols);
            let y = case.root(Op::Cumulative { function, axis, exclusive, reverse }, &[x]);
            case.check_on(&targets()[0], y, tolerance(dtype));
        }
    }
}

#[test]
fn running_sums_of_every_shape() {
    let mut random = Random::new(76);
    for shape in [
        vec![1u64],
        vec![0],
        vec![1000],
        vec![0, 4],
        vec![5, 1],
        vec![3, 2, 67],
        vec![2, 300, 16],
        vec![700, 3],
    ] {
        for axis in 0..shape.len() {
            for (exclusive, reverse) in [(false, false), (true, false), (false, true), (true, true)] {
                let mut case = Case::new();
                let x = case.input(random.tensor(DType::F32, &shape, -1.0, 1.0));
                let op = Op::Cumulative { function: CumulativeFn::Sum, axis, exclusive, reverse };
                let y = case.root(op, &[x]);
                case.check_on(&targets()[0], y, 1e-5);
            }
        }
    }
    let mut case = Case::new();
    let x = case.input(random.tensor(DType::F32, &[4, 30], -1.0, 1.0));
    let z = case.op(Op::Binary(BinaryFn::Mul), &[x, x]);
    let y = case.root(
        Op::Cumulative { function: CumulativeFn::Sum, axis: 0, exclusive: false, reverse: false },
        &[z],
    );
    let z = case.op(Op::Unary(UnaryFn::Sqrt), &[y]);
    case.check(z, 1e-6);
}

#[test]
fn sorting_of_every_type() {
    let mut random = Random::new(77);
    for dtype in NUMBERS.into_iter().chain([DType::Bool]) {
        for descending in [false, true] {
            for (shape, axis) in [([3u64, 41], 1usize), ([40, 3], 0), ([2, 9], 1)] {
                let mut case = Case::new();
                let symbols = vec![case.symbol("r", shape[0]), case.symbol("c", shape[1])];
                // Whole numbers tie often.
                let x = random.tensor(DType::I64, &shape, -9.0, 9.0).to_f64s();
                let x: Vec<f64> =
                    x.iter().map(|x| if dtype.is_float() { x * 0.5 } else { x * 13.0 }).collect();
                let x = case.input_of(Tensor::from_f64s(dtype, &shape, &x), symbols);
                let y = case.root(Op::Sort { axis, descending }, &[x]);
                case.check_on(&targets()[0], y, 0.0);
            }
        }
    }
}

#[test]
fn sorting_of_every_length() {
    let mut random = Random::new(78);
    for length in [0u64, 1, 2, 3, 31, 32, 33, 100, 1000, 5003] {
        for rows in [1u64, 7] {
            let mut case = Case::new();
            let x = case.input(random.tensor(DType::F32, &[rows, length], -1e3, 1e3));
            let y = case.root(Op::Sort { axis: 1, descending: rows == 7 }, &[x]);
            case.check_on(&targets()[0], y, 0.0);
        }
    }
    let mut case = Case::new();
    let x = case.input(random.tensor(DType::F32, &[300, 70, 3], -1.0, 1.0));
    let y = case.root(Op::Sort { axis: 1, descending: false }, &[x]);
    let z = case.op(Op::Binary(BinaryFn::Add), &[y, y]);
    case.check(z, 0.0);
}

#[test]
fn zeros_are_equal_and_nan_is_greatest() {
    for dtype in [DType::F16, DType::BF16, DType::F32, DType::F64] {
        for descending in [false, true] {
            for repeats in [1, 6] {
                let values = [2.0, f64::NAN, -0.0, f64::INFINITY, 0.0, f64::NEG_INFINITY, -f64::NAN, -1.0];
                let mut case = Case::new();
                let x =
                    case.input(Tensor::from_f64s(dtype, &[8 * repeats], &values.repeat(repeats as usize)));
                let y = case.root(Op::Sort { axis: 0, descending }, &[x]);
                case.check_on(&targets()[0], y, 0.0);
            }
        }
    }
}
