//! Recurrent nets against their equations written out in loops, for one item and one hidden element or two.

use crate::build::*;
use crate::one_node::{Given::*, *};

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

fn node_of(op_type: &str) -> ired_frontends::onnx::proto::NodeProto {
    op(op_type).int("hidden_size", 1)
}

/// One item of one number a step, `[3, 1, 1]`.
fn steps() -> Given {
    Data(f32s(&[3, 1, 1], &[1.0, -2.0, 0.5]))
}

const X: [f64; 3] = [1.0, -2.0, 0.5];

#[test]
fn rnn_in_both_directions() {
    let weights = || Weight(f32s(&[2, 1, 1], &[0.5, -1.0]));
    let recurrence = || Weight(f32s(&[2, 1, 1], &[2.0, 0.25]));
    let biases = || Weight(f32s(&[2, 2], &[0.1, 0.2, 0.0, -0.3]));
    let run = |x: &[f64], w: f64, r: f64, bias: f64, mut h: f64| -> Vec<f64> {
        x.iter()
            .map(|x| {
                h = (w * x + r * h + bias).tanh();
                h
            })
            .collect()
    };
    let forward = run(&X, 0.5, 2.0, f64::from(0.1f32) + f64::from(0.2f32), 0.0);
    let mut reversed = X;
    reversed.reverse();
    let mut backward = run(&reversed, -1.0, 0.25, f64::from(-0.3f32), 0.0);
    backward.reverse();
    let node = node_of("RNN").text("direction", "bidirectional");
    let outputs = outputs_of(22, node, &[steps(), weights(), recurrence(), biases()], 2);
    let both: Vec<f64> = (0..3).flat_map(|t| [forward[t], backward[t]]).collect();
    assert_near(&outputs[0], &[3, 2, 1, 1], &both);
    assert_near(&outputs[1], &[2, 1, 1], &[forward[2], backward[0]]);
    // Reversed, and with the batch first.
    let node = node_of("RNN").text("direction", "reverse").int("layout", 1);
    let one = |v: f32| Weight(f32s(&[1, 1, 1], &[v]));
    let batch_first = Data(f32s(&[1, 3, 1], &[1.0, -2.0, 0.5]));
    let given = [batch_first, one(-1.0), one(0.25), Weight(f32s(&[1, 2], &[0.0, -0.3]))];
    let outputs = outputs_of(14, node, &given, 2);
    assert_near(&outputs[0], &[1, 3, 1, 1], &backward);
    assert_near(&outputs[1], &[1, 1, 1], &[backward[0]]);
}

/// After the end of its sequence an item's state stays, and its steps are zero.
#[test]
fn rnn_over_sequences_of_different_lengths() {
    let x = Data(f32s(&[2, 2, 1], &[1.0, 2.0, 3.0, 4.0]));
    let one = || Weight(f32s(&[1, 1, 1], &[1.0]));
    let lengths = Data(ired_graph::Tensor::from_i32s(&[2], &[2, 1]));
    let initial = Data(f32s(&[1, 2, 1], &[0.0, 10.0]));
    let node = || node_of("RNN").texts("activations", &["Relu"]);
    let given = [x, one(), one(), Missing, lengths, initial];
    let outputs = outputs_of(22, node(), &given, 2);
    assert_near(&outputs[0], &[2, 1, 2, 1], &[1.0, 12.0, 4.0, 0.0]);
    assert_near(&outputs[1], &[1, 2, 1], &[4.0, 12.0]);
    let outputs = outputs_of(22, node().text("direction", "reverse"), &given, 2);
    assert_near(&outputs[0], &[2, 1, 2, 1], &[4.0, 12.0, 3.0, 0.0]);
    assert_near(&outputs[1], &[1, 2, 1], &[4.0, 12.0]);
}

#[test]
fn lstm_with_peepholes() {
    let w = [0.5f32, -0.5, 1.5, 2.0];
    let r = [1.0f32, 0.25, -1.0, 0.5];
    let bias = [0.1f32, 0.2, 0.3, 0.4, 0.0, 0.0, 0.0, -0.4];
    let peep = [0.5f32, -1.0, 0.75];
    let given = [
        steps(),
        Weight(f32s(&[1, 4, 1], &w)),
        Weight(f32s(&[1, 4, 1], &r)),
        Weight(f32s(&[1, 8], &bias)),
        Missing,
        Data(f32s(&[1, 1, 1], &[0.5])),
        Data(f32s(&[1, 1, 1], &[-1.0])),
        Weight(f32s(&[1, 3], &peep)),
    ];
    let [w, r, p] = [&w[..], &r[..], &peep[..]].map(|v| v.iter().map(|v| f64::from(*v)).collect::<Vec<_>>());
    let both = |i: usize| f64::from(bias[i]) + f64::from(bias[4 + i]);
    for couples in [false, true] {
        let (mut h, mut c) = (0.5, -1.0);
        let mut steps = Vec::new();
        for x in X {
            let sum = |i: usize| w[i] * x + r[i] * h + both(i);
            let input = sigmoid(sum(0) + p[0] * c);
            let forget = if couples { 1.0 - input } else { sigmoid(sum(2) + p[2] * c) };
            let candidate = sum(3).tanh();
            let cell = forget * c + input * candidate;
            h = sigmoid(sum(1) + p[1] * cell) * cell.tanh();
            c = cell;
            steps.push(h);
        }
        let node = node_of("LSTM").int("input_forget", i64::from(couples));
        let outputs = outputs_of(22, node, &given, 3);
        assert_near(&outputs[0], &[3, 1, 1, 1], &steps);
        assert_near(&outputs[1], &[1, 1, 1], &[h]);
        assert_near(&outputs[2], &[1, 1, 1], &[c]);
    }
}

#[test]
fn gru_before_and_after_reset() {
    let (w, r) = ([0.5f32, -0.5, 1.5], [1.0f32, 0.25, -1.0]);
    let bias = [0.1f32, 0.2, 0.3, 0.0, 0.5, -0.7];
    let given =
        [steps(), Weight(f32s(&[1, 3, 1], &w)), Weight(f32s(&[1, 3, 1], &r)), Weight(f32s(&[1, 6], &bias))];
    let [w, r, bias] =
        [&w[..], &r[..], &bias[..]].map(|v| v.iter().map(|v| f64::from(*v)).collect::<Vec<_>>());
    for linear in [false, true] {
        let mut h = 0.0;
        let mut steps = Vec::new();
        for x in X {
            let gate = |i: usize| sigmoid(w[i] * x + r[i] * h + bias[i] + bias[3 + i]);
            let (update, reset) = (gate(0), gate(1));
            let seen = if linear { reset * (r[2] * h + bias[5]) } else { r[2] * (reset * h) + bias[5] };
            let candidate = (w[2] * x + bias[2] + seen).tanh();
            h = (1.0 - update) * candidate + update * h;
            steps.push(h);
        }
        let node = node_of("GRU").int("linear_before_reset", i64::from(linear));
        let outputs = outputs_of(22, node, &given, 2);
        assert_near(&outputs[0], &[3, 1, 1, 1], &steps);
        assert_near(&outputs[1], &[1, 1, 1], &[h]);
    }
}

#[test]
fn activations_with_numbers_and_clipping() {
    let one = || Weight(f32s(&[1, 1, 1], &[1.0]));
    let zero = || Weight(f32s(&[1, 1, 1], &[0.0]));
    let each = |name: &'static str, alpha: f32, beta: f32, f: &dyn Fn(f64) -> f64| {
        let node = node_of("RNN").texts("activations", &[name]);
        let node = node.with(floats("activation_alpha", &[alpha])).with(floats("activation_beta", &[beta]));
        check(22, node, &[steps(), one(), zero()], &[3, 1, 1, 1], &X.map(f));
    };
    each("Affine", 2.0, 0.5, &|x| 2.0 * x + 0.5);
    each("LeakyRelu", 0.5, 0.0, &|x| if x < 0.0 { 0.5 * x } else { x });
    each("ThresholdedRelu", 0.75, 0.0, &|x| if x >= 0.75 { x } else { 0.0 });
    each("ScaledTanh", 2.0, 0.5, &|x| 2.0 * (0.5 * x).tanh());
    each("HardSigmoid", 0.25, 0.5, &|x| (0.25 * x + 0.5).clamp(0.0, 1.0));
    each("Elu", 2.0, 0.0, &|x| if x < 0.0 { 2.0 * (x.exp() - 1.0) } else { x });
    each("softsign", 0.0, 0.0, &|x| x / (1.0 + x.abs()));
    each("Softplus", 0.0, 0.0, &|x| (1.0 + x.exp()).ln());
    let node = node_of("RNN").float("clip", 0.75);
    check(22, node, &[steps(), one(), zero()], &[3, 1, 1, 1], &X.map(|x| x.clamp(-0.75, 0.75).tanh()));
}

fn floats(name: &str, values: &[f32]) -> ired_frontends::onnx::proto::AttributeProto {
    ired_frontends::onnx::proto::AttributeProto { floats: values.to_vec(), ..attribute(name, 6) }
}

/// A head of one key and one value, so that the state is a number.
#[test]
fn linear_attention_of_every_rule() {
    let (q, k, v) = ([1.0, 2.0, -1.0], [0.5, 1.0, -0.5], [2.0, -1.0, 3.0]);
    let (decay, rate) = ([-0.5, -1.0, 0.0], [0.5, 1.0, 0.25]);
    let data = |values: [f64; 3]| Data(f32s(&[1, 3, 1], &values.map(|v| v as f32)));
    for (rule, decays, corrects) in [
        ("linear", false, false),
        ("gated", true, false),
        ("delta", false, true),
        ("gated_delta", true, true),
    ] {
        let mut state = 0.5;
        let mut expected = Vec::new();
        for t in 0..3 {
            if decays {
                state *= f64::exp(decay[t]);
            }
            let value = if corrects { rate[t] * (v[t] - state * k[t]) } else { v[t] };
            state += k[t] * value;
            expected.push(2.0 * q[t] * state);
        }
        let node = op("LinearAttention").int("q_num_heads", 1).int("kv_num_heads", 1).float("scale", 2.0);
        let past = Data(f32s(&[1, 1, 1, 1], &[0.5]));
        let mut given = vec![data(q), data(k), data(v), past];
        given.push(if decays { data(decay) } else { Missing });
        given.push(if corrects { data(rate) } else { Missing });
        let outputs = outputs_of(27, node.text("update_rule", rule), &given, 2);
        assert_near(&outputs[0], &[1, 3, 1], &expected);
        assert_near(&outputs[1], &[1, 1, 1, 1], &[state]);
    }
}
