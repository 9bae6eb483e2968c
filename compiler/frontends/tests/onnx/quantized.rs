//! Operators on quantised tensors against numbers worked out by hand.

use ired_frontends::onnx::proto::NodeProto;
use ired_graph::{DType, Tensor};

use crate::build::*;

/// What a node of either domain gives on constant inputs; the first is fed when the model runs.
#[track_caller]
fn output_of(domain: &'static str, mut node: NodeProto, given: &[Tensor]) -> Tensor {
    node.domain = Some(domain.to_owned());
    node.input = (0..given.len()).map(|i| format!("i{i}")).collect();
    node.output = vec!["o".to_owned()];
    let first = &given[0];
    let sizes = first.shape().iter().map(|size| Size::Number(*size as i64));
    let mut g = graph(vec![input("i0", first.dtype(), sizes)], vec![node], &["o"]);
    g.initializer = given.iter().enumerate().skip(1).map(|(i, t)| raw(&format!("i{i}"), t)).collect();
    let mut model = model_of(21, g);
    model.opset_import.push(opset_of("com.microsoft", 1));
    run(&model, &given[..1]).remove(0)
}

fn op(op_type: &str) -> NodeProto {
    node(op_type, &[], &[])
}

fn bytes(shape: &[u64], values: &[i128]) -> Tensor {
    Tensor::from_integers(DType::U8, shape, values)
}

fn signed(shape: &[u64], values: &[i128]) -> Tensor {
    Tensor::from_integers(DType::I8, shape, values)
}

fn scale(value: f32) -> Tensor {
    f32s(&[], &[value])
}

#[track_caller]
fn check(found: &Tensor, expected: &Tensor) {
    assert_eq!((found.dtype(), found.shape()), (expected.dtype(), expected.shape()));
    assert_eq!(found.to_f64s(), expected.to_f64s());
}

#[test]
fn products_less_their_zero_points_are_exact() {
    let (x, w) = (bytes(&[2, 2], &[0, 255, 7, 9]), signed(&[2, 2], &[-128, 127, 3, -4]));
    let sums = |values: &[i128]| Tensor::from_integers(DType::I32, &[2, 2], values);
    let found = output_of("", op("MatMulInteger"), &[x.clone(), w.clone()]);
    check(&found, &sums(&[765, -1020, -869, 853]));
    let found =
        output_of("", op("MatMulInteger"), &[x.clone(), w.clone(), bytes(&[], &[7]), signed(&[2], &[1, -1])]);
    // (x - 7) by columns of w less 1 and plus 1.
    check(&found, &sums(&[-7 * -129 + 248 * 2, -7 * 128 + 248 * -3, 4, -6]));
    // A zero point a row on the left, and weights of u8.
    let w = bytes(&[2, 1], &[200, 100]);
    let found = output_of("", op("MatMulInteger"), &[x, w, bytes(&[2], &[0, 7]), bytes(&[], &[128])]);
    check(&found, &Tensor::from_integers(DType::I32, &[2, 1], &[255 * -28, 2 * -28]));
}

#[test]
fn results_round_half_to_even_and_saturate() {
    let x = bytes(&[4, 1], &[1, 3, 5, 255]);
    let given = |zero: Tensor| {
        [
            x.clone(),
            scale(0.5),
            bytes(&[], &[0]),
            bytes(&[1, 1], &[1]),
            scale(1.0),
            bytes(&[], &[0]),
            scale(1.0),
            zero,
        ]
    };
    let found = output_of("", op("QLinearMatMul"), &given(bytes(&[], &[200])));
    check(&found, &bytes(&[4, 1], &[200, 202, 202, 255]));
    let found = output_of("", op("QLinearMatMul"), &given(signed(&[], &[-1])));
    check(&found, &signed(&[4, 1], &[-1, 1, 1, 127]));
}

#[test]
fn padding_of_a_convolution_holds_the_zero_point() {
    // One row of two pixels, a window of two with padding on the left.
    let (x, w) = (bytes(&[1, 1, 2], &[10, 14]), bytes(&[1, 1, 2], &[129, 126]));
    let zeros = [bytes(&[], &[10]), bytes(&[], &[128])];
    let node = op("ConvInteger").ints("pads", &[1, 0]);
    let given = [&[x.clone(), w.clone()], &zeros[..]].concat();
    check(&output_of("", node, &given), &Tensor::from_integers(DType::I32, &[1, 1, 2], &[0, -8]));
    let node = op("QLinearConv").ints("pads", &[1, 0]);
    let given = [
        x,
        scale(0.5),
        zeros[0].clone(),
        w,
        f32s(&[1], &[1.0]),
        bytes(&[1], &[128]),
        scale(2.0),
        bytes(&[], &[100]),
        Tensor::from_integers(DType::I32, &[1], &[40]),
    ];
    check(&output_of("", node, &given), &bytes(&[1, 1, 2], &[110, 108]));
}

#[test]
fn matrices_with_a_bias_are_scaled_once() {
    let given = [
        bytes(&[1, 2], &[130, 127]),
        scale(0.5),
        bytes(&[], &[128]),
        signed(&[1, 2], &[3, -2]),
        scale(0.5),
        signed(&[], &[0]),
        Tensor::from_integers(DType::I32, &[1], &[8]),
    ];
    let node = op("QGemm").int("transB", 1);
    check(&output_of("com.microsoft", node.clone(), &given), &f32s(&[1, 1], &[4.0]));
    let quantised = [&given[..], &[scale(0.5), bytes(&[], &[3])]].concat();
    check(&output_of("com.microsoft", node, &quantised), &bytes(&[1, 1], &[11]));
    let given = [f32s(&[1, 2], &[0.0, 255.0]), signed(&[2, 1], &[5, 2]), scale(0.5)];
    check(&output_of("com.microsoft", op("DynamicQuantizeMatMul"), &given), &f32s(&[1, 1], &[255.0]));
}

#[test]
fn elements_are_computed_on_as_real_numbers() {
    let two = |op_type: &str| {
        let x = bytes(&[2], &[12, 250]);
        let y = [bytes(&[1], &[20]), scale(0.25), bytes(&[], &[0])];
        let given = [&[x, scale(0.5), bytes(&[], &[10])], &y[..], &[scale(0.5), bytes(&[], &[1])]].concat();
        output_of("com.microsoft", op(op_type), &given)
    };
    check(&two("QLinearAdd"), &bytes(&[2], &[13, 251]));
    check(&two("QLinearMul"), &bytes(&[2], &[11, 255]));
    let one = |node: NodeProto, shape: &[u64]| {
        let given =
            [bytes(shape, &[10, 20, 60, 30]), scale(0.5), bytes(&[], &[20]), scale(0.25), bytes(&[], &[40])];
        output_of("com.microsoft", node, &given)
    };
    check(&one(op("QLinearLeakyRelu").float("alpha", 0.5), &[4]), &bytes(&[4], &[30, 40, 120, 60]));
    check(&one(op("QLinearSigmoid"), &[4]), &bytes(&[4], &[40, 42, 44, 44]));
    check(&one(op("QLinearGlobalAveragePool"), &[1, 1, 4]), &bytes(&[1, 1, 1], &[60]));
    check(
        &one(op("QLinearAveragePool").ints("kernel_shape", &[2]), &[1, 2, 2]),
        &bytes(&[1, 2, 1], &[30, 90]),
    );
}

#[test]
fn parts_of_a_join_get_its_scale() {
    let given = [
        bytes(&[2], &[10, 11]),
        scale(1.0),
        bytes(&[], &[10]),
        bytes(&[1], &[9]),
        scale(0.5),
        bytes(&[], &[0]),
    ];
    let mut node = op("QLinearConcat").int("axis", 0);
    node.domain = Some("com.microsoft".to_owned());
    node.input = ["s", "z", "i0", "i1", "i2", "i3", "i4", "i5"].map(str::to_owned).to_vec();
    node.output = vec!["o".to_owned()];
    let mut g = graph(vec![input("i0", DType::U8, [Size::Number(2)])], vec![node], &["o"]);
    g.initializer = given.iter().enumerate().skip(1).map(|(i, t)| raw(&format!("i{i}"), t)).collect();
    g.initializer.extend([raw("s", &scale(0.5)), raw("z", &bytes(&[], &[0]))]);
    let mut model = model_of(21, g);
    model.opset_import.push(opset_of("com.microsoft", 1));
    check(&run(&model, &given[..1])[0], &bytes(&[3], &[0, 2, 9]));
}

/// As attention of merged projections in floats: values are 1, 2 and 6, and the scores are equal.
#[test]
fn attention_of_bytes() {
    use crate::one_node::{Given::*, assert_near, op_of, outputs_of};
    let given = || {
        let (x, weights) = (bytes(&[1, 3, 1], &[10, 12, 20]), signed(&[1, 3], &[0, 0, 2]));
        let bias = Weight(f32s(&[3], &[0.0, 0.0, 1.0]));
        let zeros = (Weight(bytes(&[], &[10])), Weight(signed(&[], &[0])));
        let scales = (Weight(scale(0.5)), Weight(scale(0.5)));
        [Data(x), Weight(weights), bias, scales.0, scales.1, Missing, zeros.0, zeros.1]
    };
    let node = || op_of("com.microsoft", "QAttention").int("num_heads", 1);
    let all = outputs_of(17, node(), &given(), 1).remove(0);
    assert_near(&all, &[1, 3, 1], &[8.0 / 3.0 + 1.0 / 3.0; 3]);
    let before = outputs_of(17, node().int("unidirectional", 1), &given(), 2);
    assert_near(&before[0], &[1, 3, 1], &[1.0, 1.5, 3.0]);
    assert_near(&before[1], &[2, 1, 1, 3, 1], &[0.0, 0.0, 0.0, 1.0, 2.0, 6.0]);
}

/// Only the candidate has weights: 1 for the input, -1 for the state. What is multiplied is 0 or the largest of its
/// tensor, which quantise exactly.
#[test]
fn states_are_quantised_step_by_step() {
    use crate::one_node::{Given::*, assert_near, op_of, outputs_of};
    let weights = |last| Weight(signed(&[1, 1, 4], &[0, 0, 0, last]));
    let scale = |v| Weight(f32s(&[1], &[v]));
    let zero = || Weight(signed(&[1], &[0]));
    let mut given = vec![Data(f32s(&[2, 1, 1], &[1.0, 0.0])), weights(10), weights(-5)];
    given.extend([Missing, Missing, Missing, Missing, Missing]);
    given.extend([scale(0.1), zero(), scale(0.2), zero()]);
    let node = op_of("com.microsoft", "DynamicQuantizeLSTM").int("hidden_size", 1);
    let outputs = outputs_of(17, node, &given, 3);
    let first_cell = 0.5 * 1f64.tanh();
    let first = 0.5 * first_cell.tanh();
    let cell = 0.5 * first_cell + 0.5 * (-first).tanh();
    let last = 0.5 * cell.tanh();
    assert_near(&outputs[0], &[2, 1, 1, 1], &[first, last]);
    assert_near(&outputs[1], &[1, 1, 1], &[last]);
    assert_near(&outputs[2], &[1, 1, 1], &[cell]);
}

#[test]
fn weights_that_number_a_table() {
    let mut table = vec![0x77; 8];
    table[0] = 0xf0;
    let mut x = vec![0.0; 16];
    x[..2].copy_from_slice(&[3.0, 1.0]);
    let node = |kind| {
        let node = op("MatMulBnb4").int("K", 16).int("N", 1).int("block_size", 16);
        node.int("quant_type", kind)
    };
    let given = |table: &[i128]| [f32s(&[1, 16], &x), bytes(&[8], table), f32s(&[1], &[2.0])];
    let quantiles = output_of("com.microsoft", node(1), &given(&table));
    check(&quantiles, &f32s(&[1, 1], &[2.0 * (3.0 - 1.0)]));
    let mut table = vec![0; 8];
    table[0] = 0x3d;
    let floats = output_of("com.microsoft", node(0), &given(&table));
    check(&floats, &f32s(&[1, 1], &[2.0 * (3.0 - 0.5)]));
}

#[test]
fn products_of_small_floats() {
    let small = |shape: &[u64], values: &[f64]| Tensor::from_f64s(DType::F8E4M3FN, shape, values);
    let zero = || small(&[], &[0.0]);
    let (x, y) = (small(&[1, 2], &[1.5, -2.0]), small(&[2, 1], &[4.0, 0.5]));
    let given = [x, scale(2.0), zero(), y, scale(0.5), zero(), scale(0.25), zero()];
    let product = output_of("", op("QLinearMatMul"), &given);
    check(&product, &small(&[1, 1], &[20.0]));
}
