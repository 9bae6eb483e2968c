//! Operators of onnxruntime's own domain.

use ired_frontends::onnx::proto::NodeProto;
use ired_graph::{DType, Tensor};

use crate::build::*;
use crate::one_node::{Given::*, *};

fn own(op_type: &str) -> NodeProto {
    op_of("com.microsoft", op_type)
}

fn gelu(x: f64) -> f64 {
    0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x)).tanh())
}

#[test]
fn activations_with_biases() {
    let (x, bias) = (|| vector(&[1.0, -2.0]), || vector(&[0.5, 1.0]));
    check(17, own("FastGelu"), &[x(), bias()], &[2], &[gelu(1.5), gelu(-1.0)]);
    check(17, own("BiasGelu"), &[x(), bias()], &[2], &[1.399789, -0.158655]);
    let quick = |x: f64| x / (1.0 + (-1.5 * x).exp());
    check(17, own("QuickGelu").float("alpha", 1.5), &[x()], &[2], &[1.0, -2.0].map(quick));
    check(17, own("BiasSplitGelu"), &[x(), bias()], &[1], &[1.5 * -0.158655]);
    check(17, own("BiasAdd"), &[x(), bias(), x()], &[2], &[2.5, -3.0]);
    let scores = Data(f32s(&[1, 2], &[0.0, 1.0]));
    check(17, own("BiasSoftmax"), &[scores, vector(&[1.0, 0.0])], &[1, 2], &[0.5, 0.5]);
}

/// Halves are rounded once: 1 + erf of -3 is 0 in them.
#[test]
fn activations_of_halves_are_computed_in_floats() {
    let half = |values: &[f64]| Tensor::from_f64s(DType::F16, &[1], values);
    let given = [Data(half(&[-3.0])), Data(half(&[-0.25]))];
    let found = outputs_of(17, own("BiasGelu"), &given, 1).remove(0);
    assert_eq!(found, half(&[-0.001_875_331]));
}

#[test]
fn normalisation_of_sums() {
    let x = || Data(f32s(&[1, 1, 2], &[1.0, 2.0]));
    let skip = || Data(f32s(&[1, 2], &[1.0, 4.0]));
    let weight = |a, b| Weight(f32s(&[2], &[a, b]));
    let given = [x(), skip(), weight(2.0, 3.0), weight(0.5, 0.0), weight(1.0, -1.0)];
    let outputs = outputs_of(17, own("SkipLayerNormalization"), &given, 4);
    // The sum is 3, 5: mean 4, deviation 1.
    assert_near(&outputs[0], &[1, 1, 2], &[-1.5, 3.0]);
    assert_near(&outputs[1], &[1, 1, 1], &[4.0]);
    assert_near(&outputs[2], &[1, 1, 1], &[1.0]);
    assert_near(&outputs[3], &[1, 1, 2], &[3.0, 5.0]);
    let given = [x(), skip(), weight(1.0, 2.0)];
    let outputs = outputs_of(17, own("SkipSimplifiedLayerNormalization"), &given, 4);
    let root = 20f64.sqrt();
    assert_near(&outputs[0], &[1, 1, 2], &[2.0 / root, 12.0 / root]);
    assert_near(&outputs[3], &[1, 1, 2], &[2.0, 6.0]);
    let given = [x(), weight(1.0, 1.0)];
    let root = 2.5f64.sqrt();
    check(
        17,
        op("SimplifiedLayerNormalization").float("epsilon", 0.0),
        &given,
        &[1, 1, 2],
        &[1.0 / root, 2.0 / root],
    );
}

#[test]
fn embeddings_of_three_kinds() {
    let ids = Data(Tensor::from_i32s(&[1, 2], &[1, 0]));
    let segments = Data(Tensor::from_i32s(&[1, 2], &[0, 1]));
    let table = |values: &[f32]| Weight(f32s(&[2, 2], values));
    let weight = |v| Weight(f32s(&[2], &[v, v]));
    let mask = Data(Tensor::from_i32s(&[1, 2], &[1, 0]));
    let (words, places) = (table(&[1.0, 2.0, 3.0, 5.0]), table(&[0.0, 0.0, 0.0, 1.0]));
    let given = [ids, segments, words, places, table(&[1.0, 1.0, 2.0, 2.0]), weight(1.0), weight(0.0), mask];
    let outputs = outputs_of(17, own("EmbedLayerNormalization"), &given, 3);
    assert_near(&outputs[0], &[1, 2, 2], &[-1.0, 1.0, -1.0, 1.0]);
    assert_eq!(outputs[1].to_integers(), [1]);
    assert_near(&outputs[2], &[1, 2, 2], &[4.0, 6.0, 3.0, 5.0]);
}

#[test]
fn group_norm_with_channels_last() {
    let x = Data(f32s(&[1, 1, 1, 4], &[1.0, 3.0, 2.0, 6.0]));
    let weight = |v: f32| Weight(f32s(&[4], &[v; 4]));
    let node = own("GroupNorm").int("groups", 2).float("epsilon", 0.0);
    let given = [x, weight(1.0), weight(2.0)];
    check(17, node, &given, &[1, 1, 1, 4], &[1.0, 3.0, 1.0, 3.0]);
}

#[test]
fn products_with_transposes() {
    let (x, y) = (|| Data(counting(&[2, 3])), || Data(counting(&[2, 3])));
    let node = own("FusedMatMul").int("transB", 1).float("alpha", 0.5);
    check(17, node, &[x(), y()], &[2, 2], &[2.5, 7.0, 7.0, 25.0]);
    // The batch stands in the middle: rows 0 and 2 are of one matrix, 1 and 3 of the other.
    let left = Data(counting(&[2, 2, 1]));
    let right = Data(f32s(&[2, 1, 1], &[1.0, 10.0]));
    let node = own("FusedMatMul").int("transBatchA", 1);
    check(17, node, &[left, right], &[2, 2, 1], &[0.0, 2.0, 10.0, 30.0]);
    let node =
        own("FusedGemm").text("activation", "LeakyRelu").float("activation_alpha", 0.5).int("transB", 1);
    let negative = Data(f32s(&[1, 3], &[-1.0, 0.0, 1.0]));
    check(17, node, &[negative, y(), Missing], &[1, 2], &[2.0, 2.0]);
    check(
        17,
        own("CDist").text("metric", "euclidean"),
        &[x(), y()],
        &[2, 2],
        &[0.0, 27f64.sqrt(), 27f64.sqrt(), 0.0],
    );
    let (one, other) = (vector(&[1.0, 2.0]), vector(&[3.0, 4.0]));
    check(17, own("ComplexMul"), &[one, other], &[2], &[-5.0, 10.0]);
}

#[test]
fn weights_of_four_bits() {
    // Sixteen columns in one block, of which two are used: 3 and 10, less 8, times 0.5.
    let mut bytes = vec![0x88u8; 8];
    bytes[0] = 0xa3;
    let bytes = Tensor::new(DType::U8, vec![1, 1, 8], bytes.into()).unwrap();
    let x = Data(f32s(&[1, 2], &[1.0, 10.0]));
    let scale = || Weight(f32s(&[1, 1], &[0.5]));
    let node = || own("MatMulNBits").int("K", 2).int("N", 1).int("block_size", 16).int("bits", 4);
    let given = [x, Weight(bytes), scale()];
    check(17, node(), &given, &[1, 1], &[7.5]);
    let [x, bytes, scale] = given;
    let zero = Tensor::new(DType::U8, vec![1, 1], vec![0xf2u8].into()).unwrap();
    check(17, node(), &[x, bytes, scale, Weight(zero)], &[1, 1], &[0.5 + 40.0]);
}

/// Three blocks, the last of which is half used, and of zero points in bytes half a byte. Results are onnxruntime's.
#[test]
fn weights_of_few_bits_in_several_blocks() {
    let bytes = |shape: &[u64], step: u64, first: u64| {
        let data: Vec<u8> = (0..shape.iter().product()).map(|i| (i * step + first) as u8).collect();
        Weight(Tensor::new(DType::U8, shape.to_vec(), data.into()).unwrap())
    };
    let x = || Data(f32s(&[1, 40], &(0..40).map(|i| (i % 7) as f32 - 3.0).collect::<Vec<_>>()));
    let scales = || Weight(f32s(&[3, 3], &(0..9).map(|i| 0.25 + 0.125 * i as f32).collect::<Vec<_>>()));
    let node = |bits| own("MatMulNBits").int("K", 40).int("N", 3).int("block_size", 16).int("bits", bits);
    let given = [x(), bytes(&[3, 3, 8], 37, 11), scales()];
    check(17, node(4), &given, &[1, 3], &[31.25, -75.25, 43.25]);
    let given = [x(), bytes(&[3, 3, 8], 37, 11), scales(), bytes(&[3, 2], 73, 5)];
    check(17, node(4), &given, &[1, 3], &[21.5, -70.625, 49.0]);
    let given = [x(), bytes(&[3, 3, 16], 37, 11), scales(), bytes(&[3, 3], 73, 5)];
    check(17, node(8), &given, &[1, 3], &[1763.625, 3416.375, 1598.375]);
}

#[test]
fn rows_of_few_bits() {
    let bytes: Vec<u8> = [vec![0x21u8; 8], vec![0xf0; 8]].concat();
    let data = Tensor::new(DType::U8, vec![2, 8], bytes.into()).unwrap();
    let scales = f32s(&[2, 1], &[1.0, 2.0]);
    let node = own("GatherBlockQuantized").int("block_size", 16).int("bits", 4);
    let at = Data(ints(&[-1, 7]));
    let given = [Weight(data), at, Weight(scales)];
    let output = outputs_of(17, node, &given, 1).remove(0);
    let pairs = [-16.0, 14.0].repeat(8);
    assert_near(&output, &[2, 16], &[pairs, vec![0.0; 16]].concat());
}

/// With one head of size 1 and equal scores, attention is the mean of what is seen.
#[test]
fn attention_of_merged_projections() {
    let x = || Data(f32s(&[1, 3, 1], &[1.0, 2.0, 6.0]));
    let weights = || Weight(f32s(&[1, 3], &[0.0, 0.0, 1.0]));
    let bias = || Weight(f32s(&[3], &[0.0, 0.0, 1.0]));
    let node = || own("Attention").int("num_heads", 1);
    check(17, node(), &[x(), weights(), bias()], &[1, 3, 1], &[4.0, 4.0, 4.0]);
    let causal = node().int("unidirectional", 1);
    check(17, causal, &[x(), weights(), bias()], &[1, 3, 1], &[2.0, 2.5, 4.0]);
    let mask = Data(Tensor::from_i32s(&[1, 3], &[0, 1, 1]));
    check(17, node(), &[x(), weights(), bias(), mask], &[1, 3, 1], &[5.0, 5.0, 5.0]);
    let past = Data(f32s(&[2, 1, 1, 1, 1], &[0.0, 8.0]));
    let outputs = outputs_of(17, node(), &[x(), weights(), bias(), Missing, past], 2);
    assert_near(&outputs[0], &[1, 3, 1], &[5.0, 5.0, 5.0]);
    assert_near(&outputs[1], &[2, 1, 1, 4, 1], &[0.0, 0.0, 0.0, 0.0, 8.0, 2.0, 3.0, 7.0]);
}

#[test]
fn attention_of_many_heads() {
    let zero = |shape: &[u64]| Data(f32s(shape, &vec![0.0; shape.iter().product::<u64>() as usize]));
    let values = || Data(f32s(&[1, 2, 2], &[1.0, 10.0, 3.0, 30.0]));
    let node = || own("MultiHeadAttention").int("num_heads", 2);
    check(17, node(), &[zero(&[1, 1, 2]), zero(&[1, 2, 2]), values()], &[1, 1, 2], &[2.0, 20.0]);
    // Lengths of items, and all packed into one tensor.
    let lengths = Data(Tensor::from_i32s(&[1], &[1]));
    let given = [zero(&[1, 1, 2]), zero(&[1, 2, 2]), values(), Missing, lengths];
    check(17, node(), &given, &[1, 1, 2], &[1.0, 10.0]);
    let packed = f32s(&[1, 2, 2, 3, 1], &[0.0, 0.0, 1.0, 0.0, 0.0, 10.0, 0.0, 0.0, 3.0, 0.0, 0.0, 30.0]);
    check(17, node(), &[Data(packed)], &[1, 2, 2], &[2.0, 20.0, 2.0, 20.0]);
}

/// A cache of four places of which the first item has two filled, the second one; one step is added.
#[test]
fn attention_over_a_shared_cache() {
    let zero = |shape: &[u64]| Data(f32s(shape, &vec![0.0; shape.iter().product::<u64>() as usize]));
    let cache = Data(f32s(&[2, 1, 4, 1], &[1.0, 2.0, 9.0, 9.0, 5.0, 9.0, 9.0, 9.0]));
    let new = Data(f32s(&[2, 1, 1], &[6.0, 7.0]));
    let last = Data(Tensor::from_i32s(&[2], &[2, 1]));
    let total = Weight(Tensor::from_i32s(&[], &[3]));
    let node = own("GroupQueryAttention").int("num_heads", 2).int("kv_num_heads", 1);
    let given = [zero(&[2, 1, 2]), zero(&[2, 1, 1]), new, zero(&[2, 1, 4, 1]), cache, last, total];
    let outputs = outputs_of(17, node, &given, 3);
    assert_near(&outputs[0], &[2, 1, 2], &[3.0, 3.0, 6.0, 6.0]);
    assert_near(&outputs[2], &[2, 1, 4, 1], &[1.0, 2.0, 6.0, 0.0, 5.0, 7.0, 0.0, 0.0]);
}

#[test]
fn rotary_embedding_from_a_position_on() {
    let x = Data(f32s(&[1, 2, 2], &[1.0, 2.0, 3.0, 4.0]));
    let (cos, sin) = (Weight(f32s(&[3, 1], &[1.0, 1.0, 0.6])), Weight(f32s(&[3, 1], &[0.0, 0.0, 0.8])));
    let given = [x, Data(ints(&[1])), cos, sin];
    check(17, own("RotaryEmbedding"), &given, &[1, 2, 2], &[1.0, 2.0, -1.4, 4.8]);
}

#[test]
fn buckets_of_distances() {
    let table = Weight(f32s(&[4, 1], &[0.0, 1.0, 2.0, 3.0]));
    let node = own("RelativePositionBias").int("max_distance", 4);
    let given = [table, list(&[3]), list(&[3])];
    check(17, node, &given, &[1, 1, 3, 3], &[0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 2.0, 1.0, 0.0]);
}

#[test]
fn forms_of_standard_operators() {
    let bytes = |shape: &[u64], values: &[i128]| Data(Tensor::from_integers(DType::U8, shape, values));
    let x = bytes(&[1, 2, 2, 2], &[1, 9, 2, 8, 7, 3, 4, 5]);
    check(17, own("NhwcMaxPool").ints("kernel_shape", &[2, 2]), &[x], &[1, 1, 1, 2], &[7.0, 9.0]);
    let outputs = outputs_of(17, own("Unique"), &[vector(&[2.0, 1.0, 1.0, 3.0])], 3);
    assert_near(&outputs[0], &[3], &[2.0, 1.0, 3.0]);
    assert_eq!(outputs[1].to_i64s(), [0, 1, 1, 2]);
    assert_eq!(outputs[2].to_i64s(), [1, 2, 1]);
    let slices = own("UnfoldTensor").int("dim", 0).int("size", 2).int("step", 3);
    check(17, slices, &[Data(counting(&[6, 1]))], &[2, 1, 2], &[0.0, 1.0, 3.0, 4.0]);
    let shorts = |shape: &[u64], values: &[i128]| Data(Tensor::from_integers(DType::I16, shape, values));
    let given = [shorts(&[1, 2], &[300, -2]), shorts(&[2, 1], &[200, 1])];
    check(17, own("MatMulInteger16"), &given, &[1, 1], &[59_998.0]);
    let given = [Data(f32s(&[1, 1], &[1.0])), Weight(f32s(&[1, 1], &[2.0])), Weight(f32s(&[1], &[0.5]))];
    check(17, own("GemmFastGelu"), &given, &[1, 1], &[gelu(2.5)]);
    let ends = [Data(Tensor::from_i64s(&[], &[2])), Data(Tensor::from_i64s(&[], &[5]))];
    check(17, own("Range"), &ends, &[3], &[2.0, 3.0, 4.0]);
    let x = || Data(f32s(&[1, 1, 2], &[1.0, 2.0]));
    let window = || Weight(f32s(&[1, 1, 2], &[1.0, 10.0]));
    let bias = Weight(f32s(&[1], &[0.5]));
    let given = [x(), window(), Data(ints(&[1, 0])), bias];
    check(17, own("ConvTransposeWithDynamicPads"), &given, &[1, 1, 2], &[12.5, 20.5]);
    check(17, own("ConvTransposeWithDynamicPads"), &[x(), window()], &[1, 1, 3], &[1.0, 12.0, 20.0]);
}

#[test]
fn one_side_of_a_spectrum_and_back() {
    let one_sided = |op_type| own(op_type).int("onesided", 1).int("normalized", 0).int("signal_ndim", 1);
    let signal = [1.0, 2.0, 3.0, 4.0];
    let sides = [10.0, 0.0, -2.0, 2.0, -2.0, 0.0];
    let x = Data(f32s(&[1, 4], &signal.map(|v| v as f32)));
    check(17, one_sided("Rfft"), &[x], &[1, 3, 2], &sides);
    let x = Data(f32s(&[1, 3, 2], &sides.map(|v| v as f32)));
    check(17, one_sided("Irfft"), &[x], &[1, 4], &signal);
}
