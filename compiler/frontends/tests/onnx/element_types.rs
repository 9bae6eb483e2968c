//! Casts, quantisation to and from every type, and every operator on every type that it takes.

use ired_frontends::onnx::proto::NodeProto;
use ired_graph::{DType, Tensor};

use crate::build::*;
use crate::one_node::{Given, Given::*, *};

const NAN: f64 = f64::NAN;

fn of(dtype: DType, values: &[f64]) -> Tensor {
    Tensor::from_f64s(dtype, &[values.len() as u64], values)
}

#[track_caller]
fn cast(node: NodeProto, x: Tensor, to: DType, expected: &[f64]) {
    let node = node.int("to", i64::from(code(to)));
    let y = outputs_of(25, node, &[Data(x)], 1).remove(0);
    assert_eq!(y.dtype(), to);
    assert_near(&y, &[expected.len() as u64], expected);
}

#[test]
fn casts_to_floats_of_eight_bits_saturate_or_not() {
    let x = || of(DType::F32, &[0.3, 448.0, 464.0, 465.0, -1e9, f64::INFINITY, NAN]);
    let to = DType::F8E4M3FN;
    cast(op("Cast"), x(), to, &[0.3125, 448.0, 448.0, 448.0, -448.0, 448.0, NAN]);
    cast(op("Cast").int("saturate", 0), x(), to, &[0.3125, 448.0, 448.0, NAN, NAN, NAN, NAN]);
    let inf = f64::INFINITY;
    let x = || of(DType::F16, &[61440.0, 61408.0, -inf]);
    cast(op("Cast"), x(), DType::F8E5M2, &[57344.0, 57344.0, -57344.0]);
    cast(op("Cast").int("saturate", 0), x(), DType::F8E5M2, &[inf, 57344.0, -inf]);
    cast(op("Cast").int("saturate", 0), x(), DType::F8E5M2FNUZ, &[NAN, 57344.0, NAN]);
    cast(op("Cast"), of(DType::F32, &[0.75, -5.0, 100.0]), DType::F4E2M1, &[1.0, -4.0, 6.0]);
    cast(op("Cast"), of(DType::F32, &[-1.0, 5.5, 2.0]), DType::U2, &[3.0, 1.0, 2.0]);
}

#[test]
fn powers_of_two_round_as_asked() {
    let p = |exponent| f64::powi(2.0, exponent);
    let x = || of(DType::F32, &[1.0, 1.25, 1.5, 0.0, p(-127) * 1.25, f64::INFINITY, NAN, 1.9 * p(127)]);
    let to = |saturate, rounding, expected: &[f64]| {
        let node = op("Cast").int("saturate", saturate).text("round_mode", rounding);
        cast(node, x(), DType::F8E8M0, expected);
    };
    to(1, "up", &[1.0, 2.0, 2.0, p(-127), p(-126), p(127), NAN, p(127)]);
    to(1, "down", &[1.0, 1.0, 1.0, p(-127), p(-127), p(127), NAN, p(127)]);
    to(1, "nearest", &[1.0, 1.0, 2.0, p(-127), p(-127), p(127), NAN, p(127)]);
    to(0, "nearest", &[1.0, 1.0, 2.0, NAN, p(-127), NAN, NAN, NAN]);
    to(0, "up", &[1.0, 2.0, 2.0, NAN, p(-126), NAN, NAN, NAN]);
}

#[test]
fn bits_are_kept() {
    let node = || op("BitCast").int("to", i64::from(code(DType::I32)));
    let y = outputs_of(26, node(), &[vector(&[1.0, -0.0])], 1).remove(0);
    assert_eq!(y.to_integers(), [0x3f80_0000, i128::from(i32::MIN)]);
    let node = op("BitCast").int("to", i64::from(code(DType::U8)));
    let y = outputs_of(26, node, &[Data(Tensor::from_bools(&[2], &[true, false]))], 1).remove(0);
    assert_eq!((y.dtype(), y.to_integers()), (DType::U8, vec![1, 0]));
}

#[test]
fn quantisation_to_every_type() {
    let scale = || Weight(Tensor::from_f32s(&[], &[2.0]));
    for (to, expected) in [
        (DType::F8E4M3FN, [0.5, -448.0, 3.0]),
        (DType::F8E5M2, [0.5, -512.0, 3.0]),
        (DType::F4E2M1, [0.5, -6.0, 3.0]),
        (DType::I4, [0.0, -8.0, 3.0]),
        (DType::U2, [0.0, 0.0, 3.0]),
        (DType::I2, [0.0, -2.0, 1.0]),
        (DType::I16, [0.0, -500.0, 3.0]),
    ] {
        let node = op("QuantizeLinear").int("output_dtype", i64::from(code(to)));
        let y = outputs_of(25, node, &[vector(&[1.0, -1000.0, 6.0]), scale()], 1).remove(0);
        assert_eq!(y.dtype(), to);
        assert_near(&y, &[3], &expected);
        let back = outputs_of(25, op("DequantizeLinear"), &[Data(y), scale()], 1).remove(0);
        assert_eq!(back.dtype(), DType::F32);
        assert_near(&back, &[3], &expected.map(|v| v * 2.0));
    }
}

#[test]
fn quantisation_divides_in_the_type_asked_for() {
    let x = || Data(of(DType::F16, &[2049.0, 7.0]));
    let scale = |dtype| Weight(Tensor::scalar(dtype, 3.0));
    let quantized = |node: NodeProto, scale| {
        let node = node.int("output_dtype", i64::from(code(DType::I16)));
        outputs_of(25, node, &[x(), scale], 1).remove(0).to_integers()
    };
    // 2048 / 3 is 682.67, in bf16 684.
    assert_eq!(quantized(op("QuantizeLinear"), scale(DType::F32)), [683, 2]);
    assert_eq!(quantized(op("QuantizeLinear"), scale(DType::BF16)), [684, 2]);
    let precise = op("QuantizeLinear").int("precision", i64::from(code(DType::F32)));
    assert_eq!(quantized(precise, scale(DType::BF16)), [683, 2]);
    // Powers of two as scales, in blocks.
    let scales = Tensor::from_f64s(DType::F8E8M0, &[1, 2], &[0.5, 4.0]);
    let node = op("DequantizeLinear").int("block_size", 2).int("output_dtype", i64::from(code(DType::F16)));
    let x = Tensor::from_integers(DType::I4, &[1, 3], &[-8, 7, 3]);
    let y = outputs_of(25, node, &[Data(x), Weight(scales)], 1).remove(0);
    assert_eq!(y.dtype(), DType::F16);
    assert_near(&y, &[1, 3], &[-4.0, 3.5, 12.0]);
}

#[test]
fn a_whole_power_of_an_integer_is_exact() {
    let bases = Tensor::from_integers(DType::I64, &[4], &[5, 3, -7, 10]);
    let y = outputs_of(15, op("Pow"), &[Data(bases), vector(&[3.0, 39.0, 3.0, 0.5])], 1).remove(0);
    assert_eq!(y.to_integers(), [125, 3i128.pow(39), -343, 3]);
}

const FLOATS: &[DType] = &[DType::F16, DType::BF16, DType::F32, DType::F64];
const WHOLE: &[DType] =
    &[DType::I8, DType::I16, DType::I32, DType::I64, DType::U8, DType::U16, DType::U32, DType::U64];
const SMALL: &[DType] = &[
    DType::I2,
    DType::U2,
    DType::I4,
    DType::U4,
    DType::F4E2M1,
    DType::F8E4M3FN,
    DType::F8E4M3FNUZ,
    DType::F8E5M2,
    DType::F8E5M2FNUZ,
];

/// What the node gives in each type is what it gives in f64: on 0 and 1, of which every type has both.
#[track_caller]
fn on(types: &[&[DType]], node: &NodeProto, inputs: &[&[u64]], rest: &[Tensor]) {
    let run = |dtype: DType| {
        let tensor = |(salt, shape): (usize, &&[u64])| {
            let count = shape.iter().product::<u64>() as usize;
            let values: Vec<f64> = (0..count).map(|i| f64::from((i * 5 + salt) % 3 < 1)).collect();
            Data(Tensor::from_f64s(dtype, shape, &values))
        };
        let mut given: Vec<Given> = inputs.iter().enumerate().map(tensor).collect();
        given.extend(rest.iter().map(|tensor| Weight(tensor.clone())));
        outputs_of(25, node.clone(), &given, 1).remove(0)
    };
    let wide = run(DType::F64);
    for dtype in types.iter().copied().flatten() {
        let found = run(*dtype);
        if wide.dtype() == DType::F64 {
            assert_eq!(found.dtype(), *dtype, "{}", node.op_type());
        }
        assert_near(&found, wide.shape(), &wide.to_f64s());
    }
}

#[test]
fn arithmetic_on_every_number_type() {
    let numbers = &[FLOATS, WHOLE];
    for name in ["Add", "Mul", "Max", "Min", "Equal", "Less", "GreaterOrEqual"] {
        on(numbers, &op(name), &[&[2, 3], &[3]], &[]);
    }
    for name in ["Abs", "Sign", "Relu"] {
        on(numbers, &op(name), &[&[2, 3]], &[]);
    }
    for name in ["ReduceSum", "ReduceProd", "ReduceMax", "ReduceMin", "ReduceL1", "ReduceSumSquare"] {
        on(numbers, &op(name), &[&[2, 3]], &[ints(&[1])]);
    }
    for name in ["ArgMax", "ArgMin"] {
        on(numbers, &op(name).int("axis", 1), &[&[2, 3]], &[]);
    }
    on(numbers, &op("Clip"), &[&[2, 3], &[], &[]], &[]);
    // Products are of integers of at least 32 bits only; bytes have operators of their own.
    let products = &[FLOATS, &WHOLE[2..4], &WHOLE[6..]];
    on(products, &op("MatMul"), &[&[2, 3], &[3, 2]], &[]);
    on(products, &op("Gemm"), &[&[2, 3], &[3, 2], &[2]], &[]);
    on(numbers, &op("Trilu"), &[&[3, 3]], &[]);
}

#[test]
fn windows_and_normalisations_on_every_float() {
    on(&[FLOATS], &op("Conv"), &[&[1, 2, 4, 4], &[3, 2, 2, 2]], &[]);
    let pooled = |name| op(name).ints("kernel_shape", &[2, 2]);
    on(&[FLOATS, &[DType::I8, DType::U8]], &pooled("MaxPool"), &[&[1, 2, 4, 4]], &[]);
    on(&[FLOATS], &pooled("AveragePool"), &[&[1, 2, 4, 4]], &[]);
    for name in ["GlobalAveragePool", "GlobalMaxPool"] {
        on(&[FLOATS], &op(name), &[&[1, 2, 2, 2]], &[]);
    }
}

#[test]
fn movement_on_every_type() {
    let all = &[FLOATS, WHOLE, SMALL, &[DType::Bool]];
    on(all, &op("Identity"), &[&[2, 3]], &[]);
    on(all, &op("Transpose"), &[&[2, 3]], &[]);
    on(all, &op("Concat").int("axis", 1), &[&[2, 3], &[2, 3]], &[]);
    on(all, &op("Reshape"), &[&[2, 3]], &[ints(&[3, 2])]);
    on(all, &op("Expand"), &[&[1, 3]], &[ints(&[2, 3])]);
    on(all, &op("Slice"), &[&[4, 3]], &[ints(&[1]), ints(&[4]), ints(&[0])]);
    on(all, &op("Tile"), &[&[2, 3]], &[ints(&[2, 1])]);
    on(all, &op("Gather"), &[&[2, 3]], &[ints(&[1, 0])]);
    on(all, &op("Flatten"), &[&[2, 3]], &[]);
    on(all, &op("Unsqueeze"), &[&[2, 3]], &[ints(&[0])]);
    on(all, &op("Pad"), &[&[2, 3]], &[ints(&[1, 0, 0, 2])]);
}
