//! Attention and what stands around it, against the definition written out in loops.

use ired_graph::Tensor;

use crate::build::*;
use crate::one_node::{Given::*, *};

/// Numbers that differ, between -1 and 1.
fn mixed(shape: &[u64], seed: u32) -> Tensor {
    let count: u64 = shape.iter().product();
    let value = |i: u64| ((i as u32 + 1).wrapping_mul(2_654_435_761).wrapping_add(seed * 97) >> 16) as f32;
    f32s(shape, &(0..count).map(|i| value(i) / 32_768.0 - 1.0).collect::<Vec<_>>())
}

/// What query `i` adds to its score of key `j`; minus infinity where it may not look.
type Bias<'b> = &'b dyn Fn(usize, usize) -> f64;

/// Attention of tensors `[batch, heads, length, size]` as the standard defines it.
fn defined(q: &Tensor, k: &Tensor, v: &Tensor, cap: f64, bias: Bias<'_>) -> Vec<f64> {
    let size = |t: &Tensor, axis: usize| t.shape()[axis] as usize;
    let [batch, heads, queries, width] = [0, 1, 2, 3].map(|axis| size(q, axis));
    let [groups, keys, out] = [size(k, 1), size(k, 2), size(v, 3)];
    let (q, k, v) = (q.to_f64s(), k.to_f64s(), v.to_f64s());
    let mut result = Vec::new();
    for (item, head, i) in
        (0..batch).flat_map(|b| (0..heads).flat_map(move |h| (0..queries).map(move |i| (b, h, i))))
    {
        let group = item * groups + head * groups / heads;
        let score = |j: usize| {
            let at = ((item * heads + head) * queries + i) * width;
            let dot: f64 = (0..width).map(|d| q[at + d] * k[(group * keys + j) * width + d]).sum();
            let dot = dot / (width as f64).sqrt();
            bias(i, j) + if cap > 0.0 { cap * (dot / cap).tanh() } else { dot }
        };
        let weights: Vec<f64> = (0..keys).map(|j| score(j).exp()).collect();
        let sum: f64 = weights.iter().sum();
        let of = |d: usize| (0..keys).map(|j| weights[j] * v[(group * keys + j) * out + d]).sum::<f64>();
        result.extend((0..out).map(|d| if sum == 0.0 { 0.0 } else { of(d) / sum }));
    }
    result
}

fn open(_: usize, _: usize) -> f64 {
    0.0
}

fn allow(allowed: bool) -> f64 {
    if allowed { 0.0 } else { f64::NEG_INFINITY }
}

#[test]
fn attention_of_groups_of_heads() {
    let (q, k, v) = (mixed(&[2, 4, 3, 2], 1), mixed(&[2, 2, 5, 2], 2), mixed(&[2, 2, 5, 3], 3));
    let given = || [Data(q.clone()), Data(k.clone()), Data(v.clone())];
    check(23, op("Attention"), &given(), &[2, 4, 3, 3], &defined(&q, &k, &v, 0.0, &open));
    let capped = op("Attention").float("softcap", 0.5);
    check(24, capped, &given(), &[2, 4, 3, 3], &defined(&q, &k, &v, 0.5, &open));
    let causal = op("Attention").int("is_causal", 1);
    check(23, causal, &given(), &[2, 4, 3, 3], &defined(&q, &k, &v, 0.0, &|i, j| allow(j <= i)));
    let window = op("Attention").int("left_window_size", 1).int("right_window_size", 2);
    let seen = |i: usize, j: usize| allow(j + 1 >= i && j <= i + 2);
    check(25, window, &given(), &[2, 4, 3, 3], &defined(&q, &k, &v, 0.0, &seen));
}

/// A row that may look at no key is zero.
#[test]
fn attention_under_masks() {
    let (q, k, v) = (mixed(&[1, 2, 3, 2], 4), mixed(&[1, 2, 3, 2], 5), mixed(&[1, 2, 3, 2], 6));
    let given = |mask: Tensor| [Data(q.clone()), Data(k.clone()), Data(v.clone()), Data(mask)];
    let bools = [true, false, true, false, false, false, true, true, true];
    let mask = Tensor::from_bools(&[3, 3], &bools);
    let expected = defined(&q, &k, &v, 0.0, &|i, j| allow(bools[3 * i + j]));
    assert_eq!(expected[2..4], [0.0, 0.0]);
    check(23, op("Attention"), &given(mask), &[1, 2, 3, 2], &expected);
    let bias = mixed(&[3, 3], 7);
    let added = bias.to_f64s();
    let causal = op("Attention").int("is_causal", 1);
    let expected = defined(&q, &k, &v, 0.0, &|i, j| added[3 * i + j] + allow(j <= i));
    check(23, causal, &given(bias), &[1, 2, 3, 2], &expected);
    // From version 24 on a mask may be for the first keys only, and the rest of the keys is not looked at.
    let short = mixed(&[3, 2], 8);
    let added = short.to_f64s();
    let seen = |i: usize, j: usize| if j < 2 { added[2 * i + j] } else { f64::NEG_INFINITY };
    check(24, op("Attention"), &given(short), &[1, 2, 3, 2], &defined(&q, &k, &v, 0.0, &seen));
}

#[test]
fn attention_with_a_past() {
    let (q, k, v) = (mixed(&[1, 1, 2, 2], 1), mixed(&[1, 1, 2, 2], 2), mixed(&[1, 1, 2, 2], 3));
    let (past_k, past_v) = (mixed(&[1, 1, 1, 2], 4), mixed(&[1, 1, 1, 2], 5));
    let join = |a: &Tensor, b: &Tensor| {
        let values: Vec<f32> = [a.to_f64s(), b.to_f64s()].concat().iter().map(|v| *v as f32).collect();
        f32s(&[1, 1, 3, 2], &values)
    };
    let (all_k, all_v) = (join(&past_k, &k), join(&past_v, &v));
    // Heads side by side, of which there is one.
    let flat =
        |t: &Tensor| Data(f32s(&[1, 2, 2], &t.to_f64s().iter().map(|v| *v as f32).collect::<Vec<_>>()));
    let given = [flat(&q), flat(&k), flat(&v), Missing, Data(past_k), Data(past_v)];
    let node = op("Attention").int("is_causal", 1).int("q_num_heads", 1).int("kv_num_heads", 1);
    let outputs = outputs_of(23, node.int("qk_matmul_output_mode", 3), &given, 4);
    let seen = |i: usize, j: usize| allow(j <= i + 1);
    assert_near(&outputs[0], &[1, 2, 2], &defined(&q, &all_k, &all_v, 0.0, &seen));
    assert_near(&outputs[1], &[1, 1, 3, 2], &all_k.to_f64s());
    assert_near(&outputs[2], &[1, 1, 3, 2], &all_v.to_f64s());
    let row: f64 = outputs[3].to_f64s()[..3].iter().sum();
    assert!((row - 1.0).abs() < 1e-6 && outputs[3].to_f64s()[2] == 0.0);
}

/// Of a cache, the first keys of each item are filled, and the queries are the last of those.
#[test]
fn attention_over_a_cache() {
    let (q, k, v) = (mixed(&[1, 1, 2, 2], 1), mixed(&[1, 1, 4, 2], 2), mixed(&[1, 1, 4, 2], 3));
    let given = |filled| {
        [Data(q.clone()), Data(k.clone()), Data(v.clone()), Missing, Missing, Missing, Data(ints(&[filled]))]
    };
    let causal = || op("Attention").int("is_causal", 1);
    let expected = defined(&q, &k, &v, 0.0, &|i, j| allow(j < 3 && j <= i + 1));
    check(24, causal(), &given(3), &[1, 1, 2, 2], &expected);
    // The first query stands before the first key.
    let expected = defined(&q, &k, &v, 0.0, &|i, j| allow(j < i));
    assert_eq!(expected[..2], [0.0, 0.0]);
    check(24, causal(), &given(1), &[1, 1, 2, 2], &expected);
}

#[test]
fn attention_with_graphs_of_its_own() {
    let (q, k, v) = (mixed(&[1, 2, 3, 2], 1), mixed(&[1, 1, 3, 2], 2), mixed(&[1, 1, 3, 2], 3));
    let given = [Data(q.clone()), Data(k.clone()), Data(v.clone())];
    let weights = raw("w", &f32s(&[], &[2.0]));
    let change = |op_type: &str| {
        let mut g =
            graph(vec![input_f32("x", &[1, 2, 3, 3])], vec![node(op_type, &["x", "w"], &["y"])], &["y"]);
        g.initializer = vec![weights.clone()];
        g
    };
    // Adding to all scores changes nothing; what doubles probabilities doubles the result.
    let node = op_of("ai.onnx.preview", "FlexAttention").graph("score_mod", change("Add"));
    let node = node.graph("prob_mod", change("Mul"));
    let expected: Vec<f64> = defined(&q, &k, &v, 0.0, &open).iter().map(|v| 2.0 * v).collect();
    check(26, node, &given, &[1, 2, 3, 2], &expected);
}

#[test]
fn rotary_embedding() {
    let x = || Data(f32s(&[1, 1, 1, 4], &[1.0, 2.0, 3.0, 4.0]));
    let (cos, sin) = (f32s(&[2, 2], &[1.0, 1.0, 0.6, 0.0]), f32s(&[2, 2], &[0.0, 0.0, 0.8, 1.0]));
    let at = |position| Data(Tensor::from_i64s(&[1, 1], &[position]));
    let given = |p| [x(), Weight(cos.clone()), Weight(sin.clone()), at(p)];
    check(23, op("RotaryEmbedding"), &given(0), &[1, 1, 1, 4], &[1.0, 2.0, 3.0, 4.0]);
    check(23, op("RotaryEmbedding"), &given(1), &[1, 1, 1, 4], &[-1.8, -4.0, 2.6, 2.0]);
    let neighbours = op("RotaryEmbedding").int("interleaved", 1);
    check(23, neighbours, &given(1), &[1, 1, 1, 4], &[-1.0, 2.0, -4.0, 3.0]);
    // The tables hold a row for each place, and only the first two elements are turned.
    let row = |v: f32| Weight(f32s(&[1, 1, 1], &[v]));
    let part = op("RotaryEmbedding").int("rotary_embedding_dim", 2).int("num_heads", 1);
    let flat = Data(f32s(&[1, 1, 4], &[1.0, 2.0, 3.0, 4.0]));
    check(23, part, &[flat, row(0.6), row(0.8)], &[1, 1, 4], &[-1.0, 2.0, 3.0, 4.0]);
}

#[test]
fn causal_convolution() {
    let x = || Data(f32s(&[1, 2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]));
    let w = || Weight(f32s(&[2, 1, 2], &[1.0, 10.0, 1.0, 0.0]));
    let bias = || Weight(f32s(&[2], &[0.0, 0.5]));
    let outputs = outputs_of(27, op("CausalConvWithState"), &[x(), w(), bias()], 2);
    assert_near(&outputs[0], &[1, 2, 3], &[10.0, 21.0, 32.0, 0.5, 4.5, 5.5]);
    assert_near(&outputs[1], &[1, 2, 1], &[3.0, 6.0]);
    let state = Data(f32s(&[1, 2, 1], &[7.0, 8.0]));
    let node = op("CausalConvWithState").text("activation", "silu");
    let silu = |x: f64| x / (1.0 + (-x).exp());
    let expected = [17.0, 21.0, 32.0, 8.5, 4.5, 5.5].map(silu);
    check(27, node, &[x(), w(), bias(), state], &[1, 2, 3], &expected);
    // A window too long to be written out.
    let ones = |shape: &[u64]| f32s(shape, &vec![1.0; shape.iter().product::<u64>() as usize]);
    let given = [Data(ones(&[1, 1, 30])), Weight(ones(&[1, 1, 20]))];
    let expected: Vec<f64> = (1..=30).map(|n| f64::from(n.min(20))).collect();
    check(27, op("CausalConvWithState"), &given, &[1, 1, 30], &expected);
}

#[test]
fn swiglu() {
    let node = op("SwiGLU").float("alpha", 2.0);
    let expected = [1.0, -2.0].map(|x: f64| 3.0 * x / (1.0 + (-2.0 * x).exp()));
    check(28, node, &[vector(&[1.0, -2.0]), vector(&[3.0, 3.0])], &[2], &expected);
}
