//! Casts between all element types, types of less than a byte, and their movement.

use ired_graph::{DType, Op, PadMode, Tensor};

use crate::harness::{Case, Random, dims, targets};

const NARROW: [DType; 6] =
    [DType::F4E2M1, DType::F8E4M3FN, DType::F8E4M3FNUZ, DType::F8E5M2, DType::F8E5M2FNUZ, DType::F8E8M0];

/// Every type that is cast by value.
fn numbers() -> impl Iterator<Item = DType> {
    DType::ALL.into_iter().filter(|dtype| *dtype != DType::String && !dtype.is_complex())
}

/// Every code of a type of at most eight bits.
fn all_codes(dtype: DType) -> Tensor {
    let count = 1u64 << dtype.bits();
    let codes: Vec<u8> = (0..count).map(|code| code as u8).collect();
    let data = match dtype.bits() {
        2 => vec![0b1110_0100],
        4 => codes.chunks(2).map(|pair| pair[0] | pair[1] << 4).collect(),
        _ => codes,
    };
    Tensor::new(dtype, vec![count], data.into()).unwrap()
}

/// Values of which every type has some, as far as they fit.
fn some(random: &mut Random, dtype: DType, count: u64) -> Tensor {
    match dtype.bits() {
        2 | 4 => {
            let bytes = dtype.bytes(count).unwrap();
            let data: Vec<u8> = (0..bytes).map(|_| random.integer(0, 255) as u8).collect();
            Tensor::new(dtype, vec![count], data.into()).unwrap()
        }
        _ => random.tensor(dtype, &[count], -120.0, 120.0),
    }
}

fn cast(x: Tensor, to: DType) {
    let mut case = Case::new();
    let x = case.input(x);
    let y = case.op(Op::Cast(to), &[x]);
    case.check(y, 0.0);
}

#[test]
fn casts_between_all_types() {
    let mut random = Random::new(5);
    let targets = targets();
    // A pair on one of the targets only: there are hundreds.
    for (i, from) in numbers().enumerate() {
        for (j, to) in numbers().enumerate() {
            let mut case = Case::new();
            let x = case.input(some(&mut random, from, 37));
            let y = case.op(Op::Cast(to), &[x]);
            case.check_on(&targets[(i + j) % targets.len()], y, 0.0);
        }
    }
}

#[test]
fn every_code_of_a_narrow_type_is_cast() {
    for from in NARROW {
        for to in
            [DType::F32, DType::F64, DType::F16, DType::BF16, DType::I32, DType::Bool].iter().chain(&NARROW)
        {
            cast(all_codes(from), *to);
        }
    }
}

#[test]
fn floats_round_once() {
    let mut random = Random::new(9);
    // Every code, the middle between it and the next, and what f64 has on both sides of that.
    for to in NARROW.into_iter().chain([DType::F16, DType::BF16]) {
        let codes = match to.bits() {
            16 => random.tensor(to, &[200], -500.0, 500.0),
            _ => all_codes(to),
        };
        let numbers = codes.to_f64s();
        let middles = numbers.windows(2).map(|pair| (pair[0] + pair[1]) / 2.0);
        let around = middles.flat_map(|m| [m, m * (1.0 + 1e-15), m * (1.0 - 1e-15)]);
        let special = [0.0, -0.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e300, -1e300, 1e-300, 1e-45];
        let values: Vec<f64> = numbers.iter().copied().chain(around).chain(special).collect();
        for from in [DType::F64, DType::F32] {
            cast(Tensor::from_f64s(from, &[values.len() as u64], &values), to);
        }
    }
}

#[test]
fn integers_round_once() {
    let near = |bits: u32| (-1..=1).flat_map(move |d| [(1i128 << bits) + d, 3 * (1i128 << bits) + d]);
    let steps: Vec<i128> = (8..62).flat_map(near).chain([0, 1, -1]).flat_map(|v| [v, -v]).collect();
    for to in [DType::F16, DType::BF16, DType::F8E4M3FN, DType::F8E8M0] {
        for from in [DType::I64, DType::U64, DType::I32, DType::U32] {
            cast(Tensor::from_integers(from, &[steps.len() as u64], &steps), to);
        }
    }
}

#[test]
fn out_of_range_floats_saturate_as_integers() {
    let values = [1e20, -1e20, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 3.99, -3.99, 255.5, 2147483648.0];
    for to in numbers().filter(|dtype| dtype.is_integer()) {
        cast(Tensor::from_f64s(DType::F64, &[9], &values), to);
    }
}

#[test]
fn bits_are_those_of_another_type() {
    let mut random = Random::new(11);
    let all = || numbers().chain([DType::C64, DType::C128]);
    for from in all() {
        for to in all().filter(|to| to.bits() == from.bits()) {
            let bytes = from.bytes(37).unwrap();
            let byte = |random: &mut Random| match from {
                DType::Bool => random.integer(0, 1) as u8,
                _ => random.integer(0, 255) as u8,
            };
            let data: Vec<u8> = (0..bytes).map(|_| byte(&mut random)).collect();
            let x = Tensor::new(from, vec![37], data.into()).unwrap();
            let mut case = Case::new();
            let value = case.input(x);
            let y = case.op(Op::BitCast(to), &[value]);
            case.check_bits(y);
        }
    }
}

#[test]
fn packed_results_of_any_size() {
    let mut random = Random::new(12);
    for dtype in [DType::I2, DType::U2, DType::I4, DType::U4, DType::F4E2M1] {
        for size in [0u64, 1, 2, 3, 4, 5, 31, 1000, 100_003] {
            let mut case = Case::new();
            let n = case.symbol("n", size);
            let x = case.input_of(random.tensor(DType::F32, &[size], -3.0, 3.0), vec![n]);
            let y = case.op(Op::Cast(dtype), &[x]);
            case.check(y, 0.0);
        }
    }
}

#[test]
fn narrow_elements_move() {
    let mut random = Random::new(13);
    for dtype in [DType::I2, DType::U4, DType::F4E2M1, DType::F8E5M2] {
        for [m, n] in [[3u64, 5], [1, 7], [8, 2], [5, 1]] {
            let matrix = |random: &mut Random, shape: &[u64]| {
                some(random, dtype, shape.iter().product()).with_shape(shape.to_vec()).unwrap()
            };
            let mut case = Case::new();
            let (rows, columns) = (case.symbol("m", m), case.symbol("n", n));
            let x = case.input_of(matrix(&mut random, &[m, n]), vec![rows.clone(), columns.clone()]);
            let row = case.input_of(matrix(&mut random, &[n]), vec![columns.clone()]);
            let condition = case
                .input_of(random.tensor(DType::Bool, &[m, n], 0.0, 1.0), vec![rows.clone(), columns.clone()]);
            let row = case.op(Op::Broadcast { shape: vec![rows, columns] }, &[row]);
            let y = case.op(Op::Select, &[condition, x, row]);
            let y = case.op(Op::Transpose { perm: vec![1, 0] }, &[y]);
            case.check(y, 0.0);

            let mut case = Case::new();
            let x = case.input(matrix(&mut random, &[m, n]));
            let fill = case.constant(Tensor::from_f64s(dtype, &[], &[1.0]));
            let pad = Op::Pad { low: dims(&[1, 0]), high: dims(&[0, 2]), mode: PadMode::Constant };
            let y = case.op(pad, &[x, fill]);
            let z = case.op(Op::Concat { axis: 1 }, &[y, y]);
            case.check(z, 0.0);

            let mut case = Case::new();
            let x = case.input(matrix(&mut random, &[m, n]));
            let indices = case.input(random.tensor(DType::I64, &[3], 0.0, m as f64 - 1.0));
            let y = case.op(Op::Gather { axis: 0 }, &[x, indices]);
            case.check(y, 0.0);
        }
    }
}
