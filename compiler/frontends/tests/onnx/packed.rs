//! Attention of packed tokens, and of one token at a time. With one head of size 1 and equal scores it is the mean of what
//! is seen.

use ired_frontends::onnx::proto::NodeProto;
use ired_graph::Tensor;

use crate::build::*;
use crate::one_node::{Given::*, *};

fn own(op_type: &str) -> NodeProto {
    op_of("com.microsoft", op_type).int("num_heads", 1)
}

/// Two items of up to two tokens: the first has one.
fn places() -> [crate::one_node::Given; 2] {
    let ints = |shape: &[u64], values: &[i32]| Data(Tensor::from_i32s(shape, values));
    [ints(&[2, 2], &[0, 2, 3, 1]), ints(&[3], &[0, 1, 3])]
}

#[test]
fn packed_tokens_see_those_of_their_item() {
    let [offsets, sums] = places();
    let x = Data(f32s(&[3, 1], &[1.0, 2.0, 6.0]));
    let weights = Weight(f32s(&[1, 3], &[0.0, 0.0, 1.0]));
    let bias = Weight(f32s(&[3], &[0.0, 0.0, 1.0]));
    let given = [x, weights, bias, offsets, sums];
    check(17, own("PackedAttention"), &given, &[3, 1], &[2.0, 5.0, 5.0]);
    let [offsets, sums] = places();
    let packed = f32s(&[3, 1, 3, 1], &[0.0, 0.0, 1.0, 0.0, 0.0, 2.0, 0.0, 0.0, 6.0]);
    let given = [Data(packed), Missing, Missing, Missing, offsets, sums];
    check(17, own("PackedMultiHeadAttention"), &given, &[3, 1], &[1.0, 4.0, 4.0]);
}

#[test]
fn padding_goes_and_comes_back() {
    let own = |op_type| op_of("com.microsoft", op_type);
    let x = Data(f32s(&[2, 3, 1], &[1.0, 9.0, 9.0, 2.0, 3.0, 9.0]));
    let counts = Data(Tensor::from_i32s(&[2], &[1, 2]));
    let outputs = outputs_of(17, own("RemovePadding"), &[x, counts], 4);
    assert_near(&outputs[0], &[3, 1], &[1.0, 2.0, 3.0]);
    assert_eq!(outputs[1], Tensor::from_i32s(&[2, 3], &[0, 3, 4, 1, 2, 5]));
    assert_eq!(outputs[2], Tensor::from_i32s(&[3], &[0, 1, 3]));
    assert_eq!(outputs[3], Tensor::from_i32s(&[1], &[2]));
    let [tokens, places, _, _]: [Tensor; 4] = outputs.try_into().unwrap();
    let restored = [1.0, 0.0, 0.0, 2.0, 3.0, 0.0];
    check(17, own("RestorePadding"), &[Data(tokens), Data(places)], &[2, 3, 1], &restored);
}

#[test]
fn one_token_sees_all_before_it() {
    let new = |value: f32| Data(f32s(&[1, 1, 1], &[value]));
    let past = |values: &[f32]| Data(f32s(&[1, 1, values.len() as u64, 1], values));
    let node = || own("DecoderMaskedMultiHeadAttention");
    let given = [new(0.0), new(0.0), new(6.0), Missing, Missing, past(&[0.0, 0.0]), past(&[1.0, 2.0])];
    let outputs = outputs_of(17, node(), &given, 3);
    assert_near(&outputs[0], &[1, 1, 1], &[3.0]);
    assert_near(&outputs[2], &[1, 1, 3, 1], &[1.0, 2.0, 6.0]);
    // A cache with room for more: what is not filled yet stays, and is not seen.
    let filled = Data(Tensor::from_i32s(&[1], &[2]));
    let caches = [past(&[0.0; 4]), past(&[1.0, 2.0, 9.0, 8.0])];
    let [keys, values] = caches;
    let given = [new(0.0), new(0.0), new(6.0), Missing, Missing, keys, values, filled];
    let outputs = outputs_of(17, node().int("past_present_share_buffer", 1), &given, 3);
    assert_near(&outputs[0], &[1, 1, 1], &[3.0]);
    assert_near(&outputs[2], &[1, 1, 4, 1], &[1.0, 2.0, 6.0, 8.0]);
}

/// Two heads of sixteen numbers packed with their key and value, turned by their positions, after one position that is
/// in the cache; the numbers are ONNX Runtime's.
#[test]
fn packed_queries_are_turned_and_see_a_window() {
    let pattern = |count: usize| (0..count).map(|i| ((i * 7 % 11) as f32 - 5.0) / 5.0);
    let mut packed: Vec<f32> = pattern(128).collect();
    for (step, value) in [(0, 1.0), (1, 2.0)] {
        packed[step * 64 + 48..][..16].fill(0.0);
        packed[step * 64 + 48] = value;
    }
    let speeds = [1.0, 0.5, 2.0, 0.2].repeat(2);
    let angles = || (0..4).flat_map(|p| speeds.iter().map(move |speed| 0.5 * p as f32 * speed));
    let table = |f: fn(f32) -> f32| Weight(f32s(&[4, 8], &angles().map(f).collect::<Vec<_>>()));
    let mut value = [0.0; 16];
    value[0] = 4.0;
    let cache = |values: &[f32]| Data(f32s(&[1, 1, 1, 16], values));
    let given = || {
        let key: Vec<f32> = pattern(16).collect();
        let last = Data(Tensor::from_i32s(&[1], &[2]));
        let total = Weight(Tensor::from_i32s(&[], &[3]));
        let caches = (cache(&key), cache(&value));
        let x = Data(f32s(&[1, 2, 64], &packed));
        [x, Missing, Missing, caches.0, caches.1, last, total, table(f32::cos), table(f32::sin)]
    };
    let node = || {
        let node = op_of("com.microsoft", "GroupQueryAttention").int("num_heads", 2);
        node.int("kv_num_heads", 1).int("do_rotary", 1)
    };
    #[track_caller]
    fn check_firsts(node: NodeProto, given: &[crate::one_node::Given], expected: [f64; 4]) {
        let outputs = outputs_of(17, node, given, 3);
        let mut all = vec![0.0; 64];
        for (first, expected) in all.iter_mut().step_by(16).zip(expected) {
            *first = expected;
        }
        assert_near(&outputs[0], &[1, 2, 32], &all);
        let key = &outputs[1].to_f64s()[32..36];
        let turned = [0.072_640_8, 0.143_009_1, 0.083_229_36, -0.821_131_1];
        assert!(key.iter().zip(turned).all(|(a, b)| (a - b).abs() < 1e-5), "{key:?} is not {turned:?}");
    }
    let all = [3.639_735_9, 2.609_291_1, 2.229_260_4, 2.362_546_9];
    check_firsts(node(), &given(), all);
    let window = [3.639_735_9, 2.609_291_1, 1.431_824, 1.608_855];
    check_firsts(node().int("local_window_size", 2), &given(), window);
    let capped = [3.137_158_9, 2.586_873_8, 2.292_551_5, 2.335_050_1];
    check_firsts(node().float("softcap", 0.5), &given(), capped);
}
