//! Steps of training's optimisers against their formulas; determinants and inverses against products by hand.

use ired_frontends::onnx::proto::NodeProto;

use crate::build::*;
use crate::one_node::{Given::*, *};

fn step_of(op_type: &str) -> NodeProto {
    op_of("ai.onnx.preview.training", op_type)
}

fn number(value: f32) -> Given {
    Data(f32s(&[1], &[value]))
}

fn rate_and_steps(steps: i64) -> [Given; 2] {
    [Weight(f32s(&[], &[0.5])), scalar(steps)]
}

#[test]
fn adagrad() {
    let node =
        step_of("Adagrad").float("decay_factor", 0.5).float("norm_coefficient", 0.25).float("epsilon", 0.0);
    let [rate, steps] = rate_and_steps(2);
    let outputs = outputs_of(17, node, &[rate, steps, number(4.0), number(2.0), number(16.0)], 2);
    // The gradient with its norm is 3, its squares 25, the rate 0.25.
    assert_near(&outputs[0], &[1], &[4.0 - 0.25 * 3.0 / 5.0]);
    assert_near(&outputs[1], &[1], &[25.0]);
}

#[test]
fn adam() {
    for steps in [0, 2] {
        let node = step_of("Adam").float("alpha", 0.5).float("beta", 0.75).float("epsilon", 0.5);
        let node = node.float("norm_coefficient_post", 0.5);
        let [rate, count] = rate_and_steps(steps);
        let given = [rate, count, number(4.0), number(2.0), number(1.0), number(4.0)];
        let outputs = outputs_of(17, node, &given, 3);
        let rate = if steps == 0 { 0.5 } else { 0.5 * (1.0 - 0.75f64.powi(2)).sqrt() / (1.0 - 0.25) };
        assert_near(&outputs[0], &[1], &[0.5 * (4.0 - rate * 1.5 / 2.5)]);
        assert_near(&outputs[1], &[1], &[1.5]);
        assert_near(&outputs[2], &[1], &[4.0]);
    }
}

/// Two tensors at once; the share of the gradient counts from the second step on.
#[test]
fn momentum_of_both_kinds() {
    for (mode, steps) in [("standard", 0), ("standard", 3), ("nesterov", 3)] {
        let node = step_of("Momentum").float("alpha", 0.5).float("beta", 0.25).text("mode", mode);
        let node = node.float("norm_coefficient", 0.0);
        let [rate, count] = rate_and_steps(steps);
        let tensors = [[4.0f32, 2.0, 8.0], [1.0, -2.0, 2.0]];
        let mut given = vec![rate, count];
        given.extend((0..3).flat_map(|kind| tensors.map(|tensor| number(tensor[kind]))));
        let outputs = outputs_of(17, node, &given, 4);
        for (i, [x, gradient, speed]) in tensors.map(|tensor| tensor.map(f64::from)).into_iter().enumerate() {
            let speed = 0.5 * speed + if steps == 0 { gradient } else { 0.25 * gradient };
            let direction = if mode == "nesterov" { gradient + 0.5 * speed } else { speed };
            assert_near(&outputs[i], &[1], &[x - 0.5 * direction]);
            assert_near(&outputs[2 + i], &[1], &[speed]);
        }
    }
}

/// The first pivot is zero, so rows change places; with five columns there is a loop.
#[test]
fn determinants() {
    let x = Data(f32s(&[2, 2, 2], &[0.0, 2.0, 3.0, 4.0, 1.0, 2.0, 2.0, 4.0]));
    check(11, op("Det"), &[x], &[2], &[-6.0, 0.0]);
    let mut big = [0.0f32; 25];
    for i in 0..5 {
        big[5 * i + (i + 1) % 5] = (i + 1) as f32;
        big[5 * i + i] = 1.0;
    }
    // A cycle of five is an even permutation.
    check(22, op("Det"), &[Data(f32s(&[5, 5], &big))], &[], &[121.0]);
}

#[test]
fn inverses() {
    let node = || op_of("com.microsoft", "Inverse");
    let x = Data(f32s(&[2, 2], &[0.0, 2.0, 4.0, 6.0]));
    check(17, node(), &[x], &[2, 2], &[-0.75, 0.25, 0.5, 0.0]);
    let mut big = [0.0f32; 25];
    let mut expected = [0.0; 25];
    for i in 0..5 {
        big[5 * i + (i + 1) % 5] = (i + 1) as f32;
        expected[5 * ((i + 1) % 5) + i] = 1.0 / (i + 1) as f64;
    }
    check(17, node(), &[Data(f32s(&[5, 5], &big))], &[5, 5], &expected);
}

/// The operators that onnxruntime has under a name of its own are the standard ones.
#[test]
fn standard_operators_in_another_domain() {
    let x = || Data(counting(&[2, 2]));
    let own = |op_type| op_of("com.microsoft", op_type);
    check(17, own("Pad"), &[x(), list(&[0, 1, 0, 0])], &[2, 3], &[0.0, 0.0, 1.0, 0.0, 2.0, 3.0]);
    check(17, own("Trilu").int("upper", 0), &[x()], &[2, 2], &[0.0, 0.0, 2.0, 3.0]);
    check(17, own("GatherND"), &[x(), Data(ired_graph::Tensor::from_i64s(&[1, 2], &[1, 0]))], &[1], &[2.0]);
}
