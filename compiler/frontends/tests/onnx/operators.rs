//! Operators against numbers worked out by hand or stated by the ONNX specification.

use ired_frontends::onnx::proto::NodeProto;
use ired_graph::{DType, Tensor};

use crate::build::*;
use crate::one_node::{
    Given::{self, Data, Missing, Weight},
    *,
};

#[test]
fn activations() {
    let x = || vector(&[-2.0, -0.5, 0.0, 3.0]);
    let each = |node: NodeProto, opset, f: fn(f64) -> f64| {
        check(opset, node, &[x()], &[4], &[-2.0, -0.5, 0.0, 3.0].map(f));
    };
    each(op("Relu"), 14, |x| x.max(0.0));
    each(op("LeakyRelu").float("alpha", 0.5), 16, |x| if x < 0.0 { 0.5 * x } else { x });
    each(op("Elu").float("alpha", 2.0), 6, |x| if x < 0.0 { 2.0 * (x.exp() - 1.0) } else { x });
    each(op("Celu").float("alpha", 2.0), 12, |x| x.max(0.0) + (2.0 * ((x / 2.0).exp() - 1.0)).min(0.0));
    each(op("Selu"), 6, |x| {
        1.0507009873554805 * if x > 0.0 { x } else { 1.6732632423543772 * (x.exp() - 1.0) }
    });
    each(op("HardSigmoid"), 6, |x| (0.2 * x + 0.5).clamp(0.0, 1.0));
    each(op("HardSwish"), 14, |x| x * (x / 6.0 + 0.5).clamp(0.0, 1.0));
    each(op("Sigmoid"), 13, |x| 1.0 / (1.0 + (-x).exp()));
    each(op("Softplus"), 1, |x| (1.0 + x.exp()).ln());
    each(op("Softsign"), 1, |x| x / (1.0 + x.abs()));
    each(op("Mish"), 18, |x| x * (1.0 + x.exp()).ln().tanh());
    each(op("Swish").float("alpha", 2.0), 24, |x| x / (1.0 + (-2.0 * x).exp()));
    each(op("ThresholdedRelu"), 10, |x| if x > 1.0 { x } else { 0.0 });
    each(op("Shrink").float("bias", 0.25), 9, |x| match x {
        x if x < -0.5 => x + 0.25,
        x if x > 0.5 => x - 0.25,
        _ => 0.0,
    });
    each(op("Gelu").text("approximate", "tanh"), 20, |x| {
        0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x)).tanh())
    });
    check(20, op("Gelu"), &[vector(&[-1.0, 0.0, 1.0])], &[3], &[-0.158655, 0.0, 0.841345]);
    let slope = || Weight(f32s(&[1], &[0.25]));
    check(16, op("PRelu"), &[x(), slope()], &[4], &[-0.5, -0.125, 0.0, 3.0]);
    // A large input must not overflow on the way.
    check(1, op("Softplus"), &[vector(&[1000.0, -1000.0])], &[2], &[1000.0, 0.0]);
}

#[test]
fn arithmetic_broadcasts_and_keeps_types() {
    let column = || Data(f32s(&[2, 1], &[10.0, 20.0]));
    let row = || Data(f32s(&[3], &[1.0, 2.0, 4.0]));
    check(14, op("Sub"), &[column(), row()], &[2, 3], &[9.0, 8.0, 6.0, 19.0, 18.0, 16.0]);
    check(
        13,
        op("Max"),
        &[column(), row(), Weight(f32s(&[], &[15.0]))],
        &[2, 3],
        &[15.0, 15.0, 15.0, 20.0, 20.0, 20.0],
    );
    check(13, op("Mean"), &[row(), row(), Weight(f32s(&[], &[4.0]))], &[3], &[2.0, 8.0 / 3.0, 4.0]);
    check(15, op("Pow"), &[row(), Weight(ints(&[2]))], &[3], &[1.0, 4.0, 16.0]);
    let whole = |v: &[i64]| Data(ints(v));
    check(14, op("Div"), &[whole(&[-7, 7]), list(&[2, -2])], &[2], &[-3.0, -3.0]);
    check(13, op("Mod"), &[whole(&[-7, 7]), list(&[3, -3])], &[2], &[2.0, -2.0]);
    check(13, op("Mod").int("fmod", 1), &[whole(&[-7, 7]), list(&[3, -3])], &[2], &[-1.0, 1.0]);
    check(11, op("Round"), &[vector(&[0.5, 1.5, -2.5, 2.4])], &[4], &[0.0, 2.0, -2.0, 2.0]);
    check(
        13,
        op("Clip"),
        &[vector(&[-5.0, 0.5, 9.0]), Missing, Weight(f32s(&[], &[6.0]))],
        &[3],
        &[-5.0, 0.5, 6.0],
    );
    check(
        6,
        op("Clip").float("min", 0.0).float("max", 6.0),
        &[vector(&[-5.0, 0.5, 9.0])],
        &[3],
        &[0.0, 0.5, 6.0],
    );
    let infinite = || vector(&[f32::NEG_INFINITY, 1.0, f32::INFINITY]);
    check(20, op("IsInf").int("detect_negative", 0), &[infinite()], &[3], &[0.0, 0.0, 1.0]);
    check(
        9,
        op("Where"),
        &[Data(Tensor::from_bools(&[2, 1], &[true, false])), row(), Weight(f32s(&[], &[-1.0]))],
        &[2, 3],
        &[1.0, 2.0, 4.0, -1.0, -1.0, -1.0],
    );
    check(13, op("Cast").int("to", 7), &[vector(&[-1.9, 2.9])], &[2], &[-1.0, 2.0]);
    // Version 6 broadcast from an axis on.
    let legacy = op("Add").int("broadcast", 1).int("axis", 0);
    check(
        6,
        legacy,
        &[Data(f32s(&[2, 3], &[0.0; 6])), Weight(f32s(&[2], &[1.0, 2.0]))],
        &[2, 3],
        &[1.0, 1.0, 1.0, 2.0, 2.0, 2.0],
    );
}

#[test]
fn shapes() {
    let x = || Data(counting(&[2, 3, 4]));
    let shape_of = |opset, node, given: &[Given]| outputs_of(opset, node, given, 1)[0].shape().to_vec();
    check(15, op("Shape").int("start", -2), &[x()], &[2], &[3.0, 4.0]);
    check(13, op("Size"), &[x()], &[], &[24.0]);
    assert_eq!(shape_of(14, op("Reshape"), &[x(), list(&[0, -1])]), [2, 12]);
    assert_eq!(shape_of(14, op("Reshape"), &[x(), list(&[-1, 2, 1])]), [12, 2, 1]);
    let none = || Data(f32s(&[0, 3], &[]));
    assert_eq!(shape_of(14, op("Reshape").int("allowzero", 1), &[none(), list(&[7, 0])]), [7, 0]);
    assert_eq!(shape_of(13, op("Flatten").int("axis", 2), &[x()]), [6, 4]);
    assert_eq!(shape_of(13, op("Flatten").int("axis", 0), &[x()]), [1, 24]);
    assert_eq!(shape_of(11, op("Unsqueeze").ints("axes", &[0, -1]), &[x()]), [1, 2, 3, 4, 1]);
    assert_eq!(shape_of(13, op("Unsqueeze"), &[x(), list(&[1])]), [2, 1, 3, 4]);
    let ones = || Weight(counting(&[1, 3, 1]));
    assert_eq!(shape_of(11, op("Squeeze").ints("axes", &[0]), &[ones()]), [3, 1]);
    assert_eq!(shape_of(13, op("Squeeze"), &[ones(), list(&[-1])]), [1, 3]);
    assert_eq!(shape_of(13, op("Squeeze"), &[ones()]), [3]);
    check(
        13,
        op("Expand"),
        &[Data(f32s(&[2, 1], &[1.0, 2.0])), list(&[3, 1, 2])],
        &[3, 2, 2],
        &[1.0, 1.0, 2.0, 2.0].repeat(3),
    );
    check(
        9,
        op("ConstantOfShape").tensor("value", raw_ints("v", &[5])),
        &[list(&[2, 2])],
        &[2, 2],
        &[5.0; 4],
    );
    check(11, op("Range"), &[scalar(10), scalar(1), scalar(-4)], &[3], &[10.0, 6.0, 2.0]);
    let float = |v| Weight(f32s(&[], &[v]));
    check(11, op("Range"), &[float(1.0), float(2.0), float(0.3)], &[4], &[1.0, 1.3, 1.6, 1.9]);
    check(
        9,
        op("EyeLike").int("k", 1),
        &[Data(f32s(&[2, 3], &[0.0; 6]))],
        &[2, 3],
        &[0.0, 1.0, 0.0, 0.0, 0.0, 1.0],
    );
}

#[test]
fn movement() {
    let x = || Data(counting(&[2, 3]));
    check(13, op("Transpose"), &[x()], &[3, 2], &[0.0, 3.0, 1.0, 4.0, 2.0, 5.0]);
    check(
        13,
        op("Concat").int("axis", -1),
        &[x(), Data(f32s(&[2, 1], &[8.0, 9.0]))],
        &[2, 4],
        &[0.0, 1.0, 2.0, 8.0, 3.0, 4.0, 5.0, 9.0],
    );
    check(
        13,
        op("Tile"),
        &[x(), list(&[1, 2])],
        &[2, 6],
        &[0.0, 1.0, 2.0, 0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 3.0, 4.0, 5.0],
    );
    let fill = || Weight(f32s(&[], &[7.0]));
    check(
        18,
        op("Pad"),
        &[x(), list(&[1, -1]), fill(), list(&[-1])],
        &[2, 3],
        &[7.0, 0.0, 1.0, 7.0, 3.0, 4.0],
    );
    check(
        2,
        op("Pad").ints("pads", &[0, 1, 0, 1]).text("mode", "edge"),
        &[x()],
        &[2, 5],
        &[0.0, 0.0, 1.0, 2.0, 2.0, 3.0, 3.0, 4.0, 5.0, 5.0],
    );
    check(
        14,
        op("Trilu").int("upper", 0),
        &[Data(counting(&[2, 3])), scalar(1)],
        &[2, 3],
        &[0.0, 1.0, 0.0, 3.0, 4.0, 5.0],
    );
    let image = || Weight(counting(&[1, 4, 1, 2]));
    check(
        13,
        op("DepthToSpace").int("blocksize", 2),
        &[image()],
        &[1, 1, 2, 4],
        &[0.0, 2.0, 1.0, 3.0, 4.0, 6.0, 5.0, 7.0],
    );
    let wide = || Weight(counting(&[1, 1, 2, 4]));
    check(
        13,
        op("SpaceToDepth").int("blocksize", 2),
        &[wide()],
        &[1, 4, 1, 2],
        &[0.0, 2.0, 1.0, 3.0, 4.0, 6.0, 5.0, 7.0],
    );
    let parts = outputs_of(13, op("Split").int("axis", 1), &[x(), list(&[1, 2])], 2);
    assert_near(&parts[1], &[2, 2], &[1.0, 2.0, 4.0, 5.0]);
    let uneven = outputs_of(18, op("Split").int("axis", 1).int("num_outputs", 2), &[x()], 2);
    assert_near(&uneven[1], &[2, 1], &[2.0, 5.0]);
    let old = outputs_of(11, op("Split").ints("split", &[1, 1]), &[x()], 2);
    assert_near(&old[1], &[1, 3], &[3.0, 4.0, 5.0]);
}

/// numpy's slices over sizes that are only known at run time.
#[test]
fn slices() {
    let x = || vector(&[0.0, 1.0, 2.0, 3.0, 4.0]);
    let slice = |start, end, step, expected: &[f64]| {
        let given = [x(), list(&[start]), list(&[end]), list(&[0]), list(&[step])];
        check(13, op("Slice"), &given, &[expected.len() as u64], expected);
    };
    slice(1, 4, 1, &[1.0, 2.0, 3.0]);
    slice(-2, i64::MAX, 1, &[3.0, 4.0]);
    slice(0, -1, 2, &[0.0, 2.0]);
    slice(-1, i64::MIN, -1, &[4.0, 3.0, 2.0, 1.0, 0.0]);
    slice(3, 0, -2, &[3.0, 1.0]);
    slice(-100, 100, 3, &[0.0, 3.0]);
    slice(4, 2, 1, &[]);
    slice(7, 9, 1, &[]);
    slice(0, 5, i64::MAX, &[0.0]);
    check(9, op("Slice").ints("starts", &[1]).ints("ends", &[3]), &[x()], &[2], &[1.0, 2.0]);
}

#[test]
fn indexing() {
    let x = || Data(counting(&[2, 3]));
    check(13, op("Gather").int("axis", 1), &[x(), list(&[2, -3])], &[2, 2], &[2.0, 0.0, 5.0, 3.0]);
    check(13, op("Gather").int("axis", 1), &[x(), scalar(-1)], &[2], &[2.0, 5.0]);
    let at = || Weight(Tensor::from_i64s(&[2, 1], &[1, -1]));
    check(13, op("GatherElements").int("axis", 1), &[x(), at()], &[2, 1], &[1.0, 5.0]);
    check(13, op("GatherND"), &[x(), Weight(Tensor::from_i64s(&[2, 2], &[0, 1, 1, 0]))], &[2], &[1.0, 3.0]);
    check(13, op("GatherND").int("batch_dims", 1), &[x(), at()], &[2], &[1.0, 5.0]);
    let values = || Weight(f32s(&[2], &[0.5, 9.0]));
    check(
        11,
        op("OneHot"),
        &[Data(ints(&[1, -1, 7])), scalar(2), values()],
        &[3, 2],
        &[0.5, 9.0, 0.5, 9.0, 0.5, 0.5],
    );
}

#[test]
fn products() {
    let a = || Data(f32s(&[2, 2], &[1.0, 2.0, 3.0, 4.0]));
    let b = || Weight(f32s(&[2, 3], &[1.0, 0.0, 1.0, 0.0, 1.0, 1.0]));
    check(13, op("MatMul"), &[a(), b()], &[2, 3], &[1.0, 2.0, 3.0, 3.0, 4.0, 7.0]);
    check(13, op("MatMul"), &[vector(&[1.0, 2.0]), b()], &[3], &[1.0, 2.0, 3.0]);
    let batch = || Data(f32s(&[2, 1, 2], &[1.0, 2.0, 3.0, 4.0]));
    check(13, op("MatMul"), &[batch(), b()], &[2, 1, 3], &[1.0, 2.0, 3.0, 3.0, 4.0, 7.0]);
    let c = || Weight(f32s(&[3], &[1.0, 2.0, 3.0]));
    let gemm = op("Gemm").float("alpha", 2.0).float("beta", 0.5).int("transA", 1);
    check(13, gemm, &[a(), b(), c()], &[2, 3], &[2.5, 7.0, 9.5, 4.5, 9.0, 13.5]);
    let transposed = || Weight(f32s(&[3, 2], &[1.0, 0.0, 0.0, 1.0, 1.0, 1.0]));
    check(13, op("Gemm").int("transB", 1), &[a(), transposed()], &[2, 3], &[1.0, 2.0, 3.0, 3.0, 4.0, 7.0]);
    let bytes = |dtype, v: &[f64]| Tensor::from_f64s(dtype, &[v.len() as u64 / 2, 2], v);
    let x = Data(bytes(DType::U8, &[11.0, 7.0, 3.0, 10.0]));
    let y = Weight(bytes(DType::I8, &[1.0, -4.0, -2.0, 3.0]));
    let zero = Weight(Tensor::scalar(DType::U8, 12.0));
    check(10, op("MatMulInteger"), &[x, y, zero], &[2, 2], &[9.0, -11.0, -5.0, 30.0]);
}

#[test]
fn convolutions_and_pools() {
    let x = || Data(counting(&[1, 1, 3, 3]));
    let w = || Weight(f32s(&[1, 1, 2, 2], &[1.0, 0.0, 0.0, -1.0]));
    check(11, op("Conv"), &[x(), w()], &[1, 1, 2, 2], &[-4.0; 4]);
    check(
        11,
        op("Conv").ints("strides", &[2, 2]),
        &[x(), w(), Weight(f32s(&[1], &[1.0]))],
        &[1, 1, 1, 1],
        &[-3.0],
    );
    let padded = &[-4.0, -4.0, 2.0, -4.0, -4.0, 5.0, 6.0, 7.0, 8.0];
    check(11, op("Conv").ints("pads", &[0, 0, 1, 1]), &[x(), w()], &[1, 1, 3, 3], padded);
    check(11, op("Conv").text("auto_pad", "SAME_UPPER"), &[x(), w()], &[1, 1, 3, 3], padded);
    let two = || Data(counting(&[1, 2, 3]));
    let grouped = op("Conv").int("group", 2);
    check(
        11,
        grouped,
        &[two(), Weight(f32s(&[2, 1, 2], &[1.0, 1.0, 1.0, -1.0]))],
        &[1, 2, 2],
        &[1.0, 3.0, -1.0, -1.0],
    );

    // Each input element paints the weights, stride apart; what overlaps adds up.
    let line = || Data(f32s(&[1, 1, 2], &[1.0, 10.0]));
    let brush = || Weight(f32s(&[1, 2, 3], &[1.0, 2.0, 3.0, 1.0, 0.0, 0.0]));
    let transposed = |node: NodeProto, shape: &[u64], expected: &[f64]| {
        check(11, node, &[line(), brush()], shape, expected);
    };
    let strided = || op("ConvTranspose").ints("strides", &[2]);
    transposed(op("ConvTranspose"), &[1, 2, 4], &[1.0, 12.0, 23.0, 30.0, 1.0, 10.0, 0.0, 0.0]);
    transposed(strided(), &[1, 2, 5], &[1.0, 2.0, 13.0, 20.0, 30.0, 1.0, 0.0, 10.0, 0.0, 0.0]);
    transposed(strided().ints("pads", &[1, 1]), &[1, 2, 3], &[2.0, 13.0, 20.0, 0.0, 10.0, 0.0]);
    let padded = strided().ints("pads", &[1, 2]).ints("output_padding", &[1]);
    transposed(padded, &[1, 2, 3], &[2.0, 13.0, 20.0, 0.0, 10.0, 0.0]);

    let kernel = |name: &str| op(name).ints("kernel_shape", &[2, 2]);
    check(12, kernel("MaxPool"), &[x()], &[1, 1, 2, 2], &[4.0, 5.0, 7.0, 8.0]);
    check(
        12,
        kernel("MaxPool").ints("strides", &[2, 2]).int("ceil_mode", 1),
        &[x()],
        &[1, 1, 2, 2],
        &[4.0, 5.0, 7.0, 8.0],
    );
    let corner = kernel("AveragePool").ints("pads", &[1, 1, 0, 0]).ints("strides", &[2, 2]);
    check(19, corner.clone(), &[x()], &[1, 1, 2, 2], &[0.0, 1.5, 4.5, 6.0]);
    check(19, corner.int("count_include_pad", 1), &[x()], &[1, 1, 2, 2], &[0.0, 0.75, 2.25, 6.0]);
    check(1, op("GlobalAveragePool"), &[x()], &[1, 1, 1, 1], &[4.0]);
    check(1, op("GlobalMaxPool"), &[two()], &[1, 2, 1], &[2.0, 5.0]);
}

#[test]
fn normalisations() {
    let channels = |v: &[f32]| Weight(f32s(&[2], v));
    let x = || Data(f32s(&[1, 2, 2], &[1.0, 3.0, 10.0, 30.0]));
    let given =
        [x(), channels(&[2.0, 1.0]), channels(&[0.0, 5.0]), channels(&[1.0, 10.0]), channels(&[4.0, 100.0])];
    check(15, op("BatchNormalization").float("epsilon", 0.0), &given, &[1, 2, 2], &[0.0, 2.0, 5.0, 7.0]);
    // In training the input's own statistics normalise, and the stored ones follow them.
    let node = op("BatchNormalization").int("training_mode", 1).float("momentum", 0.5).float("epsilon", 0.0);
    let batch = Data(f32s(&[2, 1, 2], &[1.0, 3.0, 1.0, 3.0]));
    let one = |v: f32| Weight(f32s(&[1], &[v]));
    let outputs = outputs_of(15, node, &[batch, one(2.0), one(1.0), one(4.0), one(5.0)], 3);
    assert_near(&outputs[0], &[2, 1, 2], &[-1.0, 3.0, -1.0, 3.0]);
    assert_near(&outputs[1], &[1], &[3.0]);
    assert_near(&outputs[2], &[1], &[3.0]);
    let instance = [x(), channels(&[2.0, 1.0]), channels(&[0.0, 5.0])];
    check(
        6,
        op("InstanceNormalization").float("epsilon", 0.0),
        &instance,
        &[1, 2, 2],
        &[-2.0, 2.0, 4.0, 6.0],
    );
    let group = op("GroupNormalization").int("num_groups", 2).float("epsilon", 0.0);
    check(
        21,
        group,
        &[x(), channels(&[2.0, 1.0]), channels(&[0.0, 5.0])],
        &[1, 2, 2],
        &[-2.0, 2.0, 4.0, 6.0],
    );
    let layer =
        outputs_of(17, op("LayerNormalization").float("epsilon", 0.0), &[x(), channels(&[1.0, 2.0])], 3);
    assert_near(&layer[0], &[1, 2, 2], &[-1.0, 2.0, -1.0, 2.0]);
    assert_near(&layer[1], &[1, 2, 1], &[2.0, 20.0]);
    assert_near(&layer[2], &[1, 2, 1], &[1.0, 0.1]);
    let rms = op("RMSNormalization").float("epsilon", 0.0);
    check(
        23,
        rms,
        &[Data(f32s(&[1, 2], &[3.0, 4.0])), channels(&[1.0, 2.0])],
        &[1, 2],
        &[3.0 / 12.5f64.sqrt(), 8.0 / 12.5f64.sqrt()],
    );
    check(22, op("LpNormalization"), &[Data(f32s(&[1, 2], &[3.0, 4.0]))], &[1, 2], &[0.6, 0.8]);
    let response = op("LRN").int("size", 3).float("alpha", 3.0).float("beta", 1.0);
    let three = Data(f32s(&[1, 3, 1], &[1.0, 2.0, 3.0]));
    check(13, response, &[three], &[1, 3, 1], &[1.0 / 6.0, 2.0 / 15.0, 3.0 / 14.0]);
    // Both forms of softmax: along an axis, and over everything from an axis on.
    let zeros = || Data(f32s(&[1, 2, 2], &[0.0; 4]));
    check(13, op("Softmax").int("axis", 1), &[zeros()], &[1, 2, 2], &[0.5; 4]);
    check(11, op("Softmax").int("axis", 1), &[zeros()], &[1, 2, 2], &[0.25; 4]);
    check(13, op("LogSoftmax"), &[zeros()], &[1, 2, 2], &[-std::f64::consts::LN_2; 4]);
    check(13, op("Hardmax"), &[Data(f32s(&[1, 3], &[1.0, 5.0, 5.0]))], &[1, 3], &[0.0, 1.0, 0.0]);
}

#[test]
fn resized_images() {
    let line = |v: &[f32]| Weight(f32s(&[1, v.len() as u64], v));
    let scales = |v: f32| Weight(f32s(&[2], &[1.0, v]));
    let nearest = || op("Resize").text("mode", "nearest");
    let twice = |node: NodeProto, expected: &[f64]| {
        check(13, node, &[line(&[1.0, 3.0]), Missing, scales(2.0)], &[1, 4], expected);
    };
    twice(nearest(), &[1.0, 1.0, 3.0, 3.0]);
    twice(op("Resize").text("mode", "linear"), &[1.0, 1.5, 2.5, 3.0]);
    twice(
        op("Resize").text("mode", "linear").text("coordinate_transformation_mode", "asymmetric"),
        &[1.0, 2.0, 3.0, 3.0],
    );
    twice(op("Resize").text("mode", "cubic"), &[0.7890625, 1.453125, 2.546875, 3.2109375]);
    let sizes = [line(&[1.0, 2.0, 3.0, 4.0]), Missing, Missing, list(&[1, 2])];
    check(
        13,
        nearest().text("coordinate_transformation_mode", "align_corners"),
        &sizes,
        &[1, 2],
        &[1.0, 4.0],
    );
    // A size that is only known at run time can be repeated whole times.
    check(
        13,
        nearest(),
        &[Data(f32s(&[1, 2], &[1.0, 3.0])), Missing, scales(3.0)],
        &[1, 6],
        &[1.0, 1.0, 1.0, 3.0, 3.0, 3.0],
    );
    check(9, op("Upsample"), &[line(&[1.0, 3.0]), scales(2.0)], &[1, 4], &[1.0, 1.0, 3.0, 3.0]);
}

#[test]
fn quantised_numbers() {
    let bytes = |v: &[f64]| Tensor::from_f64s(DType::U8, &[1, v.len() as u64], v);
    let scale = || Weight(f32s(&[], &[0.5]));
    let zero = || Weight(Tensor::scalar(DType::U8, 10.0));
    let x = || Data(f32s(&[1, 4], &[0.25, 0.75, -100.0, 1e9]));
    // Ties go to even, and what does not fit to the nearest end.
    check(13, op("QuantizeLinear"), &[x(), scale(), zero()], &[1, 4], &[10.0, 12.0, 0.0, 255.0]);
    check(13, op("DequantizeLinear"), &[Data(bytes(&[0.0, 12.0])), scale(), zero()], &[1, 2], &[-5.0, 1.0]);
    let per_axis = Weight(f32s(&[2], &[1.0, 0.1]));
    check(13, op("DequantizeLinear"), &[Data(bytes(&[7.0, 7.0])), per_axis], &[1, 2], &[7.0, 0.7]);
    let blocks = op("DequantizeLinear").int("axis", 1).int("block_size", 2);
    let scales = Weight(f32s(&[1, 2], &[1.0, 10.0]));
    check(21, blocks, &[Weight(bytes(&[1.0, 2.0, 3.0])), scales], &[1, 3], &[1.0, 2.0, 30.0]);
    let dynamic = outputs_of(11, op("DynamicQuantizeLinear"), &[vector(&[-1.0, 0.0, 4.1])], 3);
    assert_near(&dynamic[0], &[3], &[0.0, 50.0, 255.0]);
    assert_near(&dynamic[1], &[], &[0.02]);
}

#[test]
fn reductions() {
    let x = || Data(f32s(&[2, 2], &[1.0, -2.0, 3.0, 4.0]));
    check(11, op("ReduceSum").ints("axes", &[1]).int("keepdims", 0), &[x()], &[2], &[-1.0, 7.0]);
    check(13, op("ReduceSum"), &[x(), list(&[-2])], &[1, 2], &[4.0, 2.0]);
    check(13, op("ReduceSum"), &[x()], &[1, 1], &[6.0]);
    check(13, op("ReduceSum").int("noop_with_empty_axes", 1), &[x()], &[2, 2], &[1.0, -2.0, 3.0, 4.0]);
    check(18, op("ReduceL1").int("noop_with_empty_axes", 1), &[x()], &[2, 2], &[1.0, 2.0, 3.0, 4.0]);
    check(18, op("ReduceMean"), &[x(), list(&[1])], &[2, 1], &[-0.5, 3.5]);
    check(18, op("ReduceProd").int("keepdims", 0), &[x()], &[], &[-24.0]);
    check(18, op("ReduceL2"), &[x(), list(&[1])], &[2, 1], &[5f64.sqrt(), 5.0]);
    check(18, op("ReduceSumSquare"), &[x(), list(&[0])], &[1, 2], &[10.0, 20.0]);
    let large = || vector(&[1000.0, 1000.0]);
    check(18, op("ReduceLogSumExp").int("keepdims", 0), &[large()], &[], &[1000.0 + std::f64::consts::LN_2]);
    check(13, op("ArgMax").int("axis", 1), &[x()], &[2, 1], &[0.0, 1.0]);
    let ties = || vector(&[2.0, 1.0, 1.0]);
    check(13, op("ArgMin").int("keepdims", 0).int("select_last_index", 1), &[ties()], &[], &[2.0]);
}
