//! Arithmetic on every element type, and the elementary functions.

use ired_graph::{BinaryFn, CompareFn, DType, Op, Tensor, UnaryFn};

use crate::harness::{Case, Random, dims};

const FLOATS: &[DType] = &[DType::F16, DType::BF16, DType::F32, DType::F64];
const INTEGERS: &[DType] =
    &[DType::I8, DType::I16, DType::I32, DType::I64, DType::U8, DType::U16, DType::U32, DType::U64];

fn tolerance(dtype: DType) -> f64 {
    match dtype {
        DType::F16 => 1e-3,
        DType::BF16 => 8e-3,
        DType::F32 => 1e-6,
        _ => 1e-11,
    }
}

fn unary(function: UnaryFn, x: Tensor, tolerance: f64) {
    let mut case = Case::new();
    let x = case.input(x);
    let y = case.op(Op::Unary(function), &[x]);
    case.check(y, tolerance);
}

/// Points over a function's domain, ends included, compared each by itself: one element per scale.
fn domain(function: UnaryFn) -> (f64, f64) {
    match function {
        UnaryFn::Asin | UnaryFn::Acos | UnaryFn::Atanh => (-0.999, 0.999),
        UnaryFn::Acosh => (1.0, 40.0),
        UnaryFn::Log | UnaryFn::Sqrt | UnaryFn::Rsqrt => (1e-6, 50.0),
        UnaryFn::Exp | UnaryFn::Sinh | UnaryFn::Cosh => (-8.0, 8.0),
        UnaryFn::Tan => (-1.4, 1.4),
        _ => (-6.0, 6.0),
    }
}

const ELEMENTARY: &[UnaryFn] = &[
    UnaryFn::Abs,
    UnaryFn::Neg,
    UnaryFn::Sign,
    UnaryFn::Reciprocal,
    UnaryFn::Sqrt,
    UnaryFn::Rsqrt,
    UnaryFn::Exp,
    UnaryFn::Log,
    UnaryFn::Sin,
    UnaryFn::Cos,
    UnaryFn::Tan,
    UnaryFn::Asin,
    UnaryFn::Acos,
    UnaryFn::Atan,
    UnaryFn::Sinh,
    UnaryFn::Cosh,
    UnaryFn::Tanh,
    UnaryFn::Asinh,
    UnaryFn::Acosh,
    UnaryFn::Atanh,
    UnaryFn::Erf,
    UnaryFn::Sigmoid,
    UnaryFn::Floor,
    UnaryFn::Ceil,
    UnaryFn::Round,
    UnaryFn::IsNan,
    UnaryFn::IsInf,
];

#[test]
fn functions_of_floats() {
    let mut random = Random::new(1);
    for function in ELEMENTARY {
        for dtype in FLOATS {
            let (low, high) = domain(*function);
            unary(*function, random.tensor(*dtype, &[67], low, high), tolerance(*dtype));
        }
    }
}

#[test]
fn functions_of_f32_are_accurate_relative_to_each_value() {
    let scales = [1e-30, 1e-10, 1e-4, 0.01, 0.3, 0.9, 1.5, 3.0, 7.0, 20.0, 80.0, 1e4];
    for function in ELEMENTARY {
        let mut inputs = Vec::new();
        for scale in scales {
            inputs.extend([scale, -scale, scale * 1.37, -scale * 1.93]);
        }
        // Within an ulp of tan's poles and beyond reduction, no f32 answer is right or wrong.
        if matches!(function, UnaryFn::Sin | UnaryFn::Cos | UnaryFn::Tan) {
            inputs.retain(|x: &f64| x.abs() < 100.0);
        }
        let inputs: Vec<f32> = inputs.into_iter().map(|x| x as f32).collect();
        let expected: Vec<f64> = inputs
            .iter()
            .map(|x| {
                let mut case = Case::new();
                let value = case.input(Tensor::from_f64s(DType::F64, &[1], &[f64::from(*x)]));
                let y = case.op(Op::Unary(*function), &[value]);
                case.graph.set_outputs(case.graph.body, vec![y]);
                ired_graph::interpret(&case.graph, &case.inputs).unwrap()[0].to_f64s()[0]
            })
            .collect();
        let mut case = Case::new();
        let x = case.input(Tensor::from_f32s(&[inputs.len() as u64], &inputs));
        let y = case.op(Op::Unary(*function), &[x]);
        for target in crate::harness::targets() {
            let found = case.run(&target, y).to_f64s();
            for ((x, found), wanted) in inputs.iter().zip(&found).zip(&expected) {
                let wanted = f64::from(*wanted as f32);
                let same = *found == wanted || (found.is_nan() && wanted.is_nan());
                let close = (found - wanted).abs() <= 1e-6 * wanted.abs() + 1e-44;
                assert!(same || close, "{function:?}({x}) gave {found} instead of {wanted}");
            }
        }
    }
}

/// Every power of two that an f32 has, and its neighbours: the reduction is right all the way.
#[test]
fn sine_and_cosine_of_every_scale() {
    let mut inputs: Vec<f32> = vec![f32::MAX, f32::MIN, 16_367_173.0 * 2f32.powi(72), 1e38, -1e38];
    for exponent in -40..128 {
        let power = 2f32.powi(exponent);
        inputs.extend([power, -power * 1.234_567, power.next_down(), power * 1.999_999]);
    }
    for (function, exact) in
        [(UnaryFn::Sin, f64::sin as fn(f64) -> f64), (UnaryFn::Cos, f64::cos), (UnaryFn::Tan, f64::tan)]
    {
        let mut case = Case::new();
        let x = case.input(Tensor::from_f32s(&[inputs.len() as u64], &inputs));
        let y = case.op(Op::Unary(function), &[x]);
        for target in crate::harness::targets() {
            for (x, found) in inputs.iter().zip(case.run(&target, y).to_f64s()) {
                let wanted = exact(f64::from(*x));
                let close = (found - wanted).abs() <= 1e-7 * wanted.abs();
                assert!(close, "{function:?}({x:e}) gave {found} instead of {wanted}");
            }
        }
        let ends = [f64::MAX, f64::MIN, 1e18, -1e18, 1e300, f64::INFINITY, f64::NEG_INFINITY, f64::NAN];
        let narrow = ends.map(|x| x as f32);
        let mut case = Case::new();
        let x = case.input(Tensor::from_f64s(DType::F64, &[8], &ends));
        let y = case.op(Op::Unary(function), &[x]);
        let mut narrow_case = Case::new();
        let x = narrow_case.input(Tensor::from_f32s(&[8], &narrow));
        let narrow_y = narrow_case.op(Op::Unary(function), &[x]);
        for target in crate::harness::targets() {
            let found = case.run(&target, y).to_f64s();
            if !matches!(function, UnaryFn::Tan) {
                assert!(found[..5].iter().all(|y| y.abs() <= 1.0), "{found:?}");
            }
            assert!(found[5..].iter().all(|y| y.is_nan()), "{found:?}");
            assert!(narrow_case.run(&target, narrow_y).to_f64s()[5..].iter().all(|y| y.is_nan()));
        }
    }
}

#[test]
fn functions_at_the_ends_of_their_range() {
    let special =
        [0.0, -0.0, f32::INFINITY, f32::NEG_INFINITY, f32::NAN, 88.7, 89.5, -87.0, -103.0, -150.0, 1e-40];
    for function in [
        UnaryFn::Exp,
        UnaryFn::Log,
        UnaryFn::Tanh,
        UnaryFn::Erf,
        UnaryFn::Sigmoid,
        UnaryFn::Sqrt,
        UnaryFn::Abs,
        UnaryFn::Sign,
        UnaryFn::IsNan,
        UnaryFn::IsInf,
        UnaryFn::Atan,
        UnaryFn::Sinh,
        UnaryFn::Asinh,
    ] {
        unary(function, Tensor::from_f32s(&[11], &special), 1e-6);
        let wide: Vec<f64> = special.iter().map(|x| f64::from(*x)).collect();
        unary(function, Tensor::from_f64s(DType::F64, &[11], &wide), 1e-13);
    }
}

#[test]
fn arithmetic_on_floats() {
    let mut random = Random::new(2);
    let functions = [
        BinaryFn::Add,
        BinaryFn::Sub,
        BinaryFn::Mul,
        BinaryFn::Div,
        BinaryFn::Rem,
        BinaryFn::Mod,
        BinaryFn::Max,
        BinaryFn::Min,
    ];
    for dtype in FLOATS {
        for function in functions {
            let mut case = Case::new();
            let x = case.input(random.tensor(*dtype, &[3, 13], -9.0, 9.0));
            let y = case.input(random.tensor(*dtype, &[3, 13], -3.0, 3.0));
            let z = case.op(Op::Binary(function), &[x, y]);
            case.check(z, tolerance(*dtype));
        }
        let mut case = Case::new();
        let x = case.input(random.tensor(*dtype, &[40], 0.1, 4.0));
        let y = case.input(random.tensor(*dtype, &[40], -3.0, 3.0));
        let z = case.op(Op::Binary(BinaryFn::Pow), &[x, y]);
        case.check(z, tolerance(*dtype));
    }
    let mut case = Case::new();
    let x = [-2.0, -2.0, -2.0, 0.0, 0.0, 1.0, f32::NAN, 4.0, f32::INFINITY, -8.0];
    let y = [3.0, 2.0, 0.5, 2.0, -1.0, f32::NAN, 0.0, 0.5, -1.0, 1.0 / 3.0];
    let x = case.input(Tensor::from_f32s(&[10], &x));
    let y = case.input(Tensor::from_f32s(&[10], &y));
    let z = case.op(Op::Binary(BinaryFn::Pow), &[x, y]);
    case.check(z, 1e-6);
}

#[test]
fn maximum_and_minimum_pass_nan_on() {
    for function in [BinaryFn::Max, BinaryFn::Min] {
        let mut case = Case::new();
        let x = case.input(Tensor::from_f32s(&[4], &[f32::NAN, 1.0, f32::NAN, -1.0]));
        let y = case.input(Tensor::from_f32s(&[4], &[1.0, f32::NAN, f32::NAN, -2.0]));
        let z = case.op(Op::Binary(function), &[x, y]);
        case.check(z, 0.0);
    }
}

#[test]
fn arithmetic_on_integers() {
    let mut random = Random::new(3);
    let functions = [
        BinaryFn::Add,
        BinaryFn::Sub,
        BinaryFn::Mul,
        BinaryFn::Div,
        BinaryFn::Rem,
        BinaryFn::Mod,
        BinaryFn::Max,
        BinaryFn::Min,
        BinaryFn::And,
        BinaryFn::Or,
        BinaryFn::Xor,
    ];
    for dtype in INTEGERS {
        for function in functions {
            let mut case = Case::new();
            let x = case.input(random.tensor(*dtype, &[5, 7], -100.0, 100.0));
            let y = case.input(random.tensor(*dtype, &[5, 7], -3.0, 3.0));
            let z = case.op(Op::Binary(function), &[x, y]);
            case.check(z, 0.0);
        }
        for function in [BinaryFn::ShiftLeft, BinaryFn::ShiftRight, BinaryFn::Pow] {
            let mut case = Case::new();
            let x = case.input(random.tensor(*dtype, &[33], -9.0, 9.0));
            let y = case.input(random.tensor(*dtype, &[33], 0.0, 10.0));
            let z = case.op(Op::Binary(function), &[x, y]);
            case.check(z, 0.0);
        }
        for function in [UnaryFn::Abs, UnaryFn::Neg, UnaryFn::Sign, UnaryFn::BitNot] {
            if dtype.is_signed_integer() || function == UnaryFn::BitNot {
                unary(function, random.tensor(*dtype, &[2, 21], -100.0, 100.0), 0.0);
            }
        }
    }
}

#[test]
fn comparisons_selections_and_logic() {
    let mut random = Random::new(4);
    let functions =
        [CompareFn::Eq, CompareFn::Ne, CompareFn::Lt, CompareFn::Le, CompareFn::Gt, CompareFn::Ge];
    for dtype in [DType::F32, DType::F64, DType::I8, DType::U8, DType::I32, DType::I64, DType::BF16] {
        for function in functions {
            let mut case = Case::new();
            let x = case.input(random.tensor(dtype, &[45], -3.0, 3.0));
            let y = case.input(random.tensor(dtype, &[45], -3.0, 3.0));
            let less = case.op(Op::Compare(function), &[x, y]);
            case.check(less, 0.0);
            let not = case.op(Op::Unary(UnaryFn::Not), &[less]);
            let picked = case.op(Op::Select, &[not, x, y]);
            case.check(picked, 0.0);
        }
    }
    for function in [BinaryFn::And, BinaryFn::Or, BinaryFn::Xor] {
        let mut case = Case::new();
        let x = case.input(random.tensor(DType::Bool, &[45], 0.0, 1.0));
        let y = case.input(random.tensor(DType::Bool, &[45], 0.0, 1.0));
        let z = case.op(Op::Binary(function), &[x, y]);
        case.check(z, 0.0);
    }
}

#[test]
fn chains_of_any_size_fuse() {
    let mut random = Random::new(6);
    for size in [0u64, 1, 2, 15, 16, 17, 31, 1000, 100_003] {
        let mut case = Case::new();
        let n = case.symbol("n", size);
        let tensor = random.tensor(DType::F32, &[size], -3.0, 3.0);
        let x = case.input_of(tensor, vec![n.clone()]);
        // gelu(x) = x / 2 * (1 + erf(x / sqrt(2)))
        let full = |case: &mut Case, value: f32| {
            let scalar = case.constant(Tensor::from_f32s(&[], &[value]));
            case.op(Op::Broadcast { shape: vec![n.clone()] }, &[scalar])
        };
        let (root, one, half) = (full(&mut case, 0.5f32.sqrt()), full(&mut case, 1.0), full(&mut case, 0.5));
        let scaled = case.op(Op::Binary(BinaryFn::Mul), &[x, root]);
        let erf = case.op(Op::Unary(UnaryFn::Erf), &[scaled]);
        let sum = case.op(Op::Binary(BinaryFn::Add), &[erf, one]);
        let halved = case.op(Op::Binary(BinaryFn::Mul), &[x, half]);
        let y = case.op(Op::Binary(BinaryFn::Mul), &[halved, sum]);
        case.check(y, 1e-6);
    }
}

#[test]
fn rows_and_columns_are_broadcast() {
    let mut random = Random::new(7);
    for [m, n] in [[3u64, 5], [1, 33], [7, 1], [0, 4], [4, 0], [5, 64]] {
        for shape in [vec![n], vec![m, 1], vec![1, n], vec![1, 1], vec![]] {
            let mut case = Case::new();
            let (rows, columns) = (case.symbol("m", m), case.symbol("n", n));
            let to = vec![rows.clone(), columns.clone()];
            let x = case.input_of(random.tensor(DType::F32, &[m, n], -1.0, 1.0), to.clone());
            let symbolic: Vec<_> = shape
                .iter()
                .enumerate()
                .map(|(i, d)| match (*d, i + 2 - shape.len()) {
                    (1, _) => 1.into(),
                    (_, 0) => rows.clone(),
                    _ => columns.clone(),
                })
                .collect();
            let y = case.input_of(random.tensor(DType::F32, &shape, -1.0, 1.0), symbolic);
            let y = case.op(Op::Broadcast { shape: to }, &[y]);
            let z = case.op(Op::Binary(BinaryFn::Add), &[x, y]);
            case.check(z, 0.0);
        }
    }
    // One or equal, known only at run time.
    for size in [1u64, 6] {
        let mut case = Case::new();
        let (s, n) = (case.symbol("s", size), case.symbol("n", 6));
        let x = case.input_of(random.tensor(DType::F32, &[size], -1.0, 1.0), vec![s]);
        let _ = case.input_of(random.tensor(DType::F32, &[6], -1.0, 1.0), vec![n.clone()]);
        let y = case.op(Op::Broadcast { shape: [dims(&[2]), vec![n]].concat() }, &[x]);
        case.check(y, 0.0);
    }
}

#[test]
fn narrowed_remainders_of_known_length_stay_inside() {
    let mut random = Random::new(8);
    for length in [1u64, 2, 3, 9, 17, 18, 31, 33] {
        for (from, to) in [
            (DType::F32, DType::BF16),
            (DType::F32, DType::F16),
            (DType::I32, DType::I8),
            (DType::I64, DType::I32),
            (DType::F32, DType::Bool),
            (DType::F64, DType::F32),
        ] {
            // The last axis of two, so that its remainder is a constant.
            let mut case = Case::new();
            let x = case.input(random.tensor(from, &[2, length], -100.0, 100.0));
            let t = case.input(random.tensor(from, &[length], -100.0, 100.0));
            let t = case.op(Op::Broadcast { shape: dims(&[2, length]) }, &[t]);
            let sum = case.op(Op::Binary(BinaryFn::Add), &[x, t]);
            let y = case.op(Op::Cast(to), &[sum]);
            case.check(y, tolerance(to));
        }
    }
}
