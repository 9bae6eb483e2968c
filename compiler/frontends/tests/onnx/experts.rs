//! Mixtures of experts, by hand: two experts of one number each, of which the router prefers the first by three to one.

use ired_frontends::onnx::proto::NodeProto;
use ired_graph::{DType, Tensor};

use crate::build::*;
use crate::one_node::{Given::*, *};

fn tokens() -> crate::one_node::Given {
    Data(f32s(&[1, 1], &[2.0]))
}

fn scores() -> crate::one_node::Given {
    Data(f32s(&[1, 2], &[3f32.ln(), 0.0]))
}

fn mixture(k: i64) -> NodeProto {
    op_of("com.microsoft", "MoE").int("k", k)
}

#[test]
fn experts_are_weighed_by_the_router() {
    let given = || {
        let first = Weight(f32s(&[2, 1, 1], &[3.0, -1.0]));
        let second = Weight(f32s(&[2, 1, 1], &[0.5, 7.0]));
        let bias = Weight(f32s(&[2, 1], &[0.0, 4.0]));
        [tokens(), scores(), first, Missing, second, bias]
    };
    // The first gives 3, the second only its bias.
    check(17, mixture(1), &given(), &[1, 1], &[0.75 * 3.0]);
    check(17, mixture(2), &given(), &[1, 1], &[0.75 * 3.0 + 0.25 * 4.0]);
    check(17, mixture(1).int("normalize_routing_weights", 1), &given(), &[1, 1], &[3.0]);
}

#[test]
fn a_gate_stands_beside_what_it_gates() {
    let node = || mixture(1).text("activation_type", "swiglu").int("normalize_routing_weights", 1);
    let given = |layout: &[f32]| {
        let second = Weight(f32s(&[2, 1, 1], &[1.0, 1.0]));
        [tokens(), scores(), Weight(f32s(&[2, 2, 1], layout)), Missing, second]
    };
    // g = 1, l = 4; l is cut to 3, and gets 1 more.
    let expected = 1.0 / (1.0 + (-2f64).exp()) * 4.0;
    let node = || {
        let node = node().float("activation_alpha", 2.0).float("activation_beta", 1.0);
        node.float("swiglu_limit", 3.0)
    };
    for fusion in [1, 2] {
        let node = node().int("swiglu_fusion", fusion);
        check(17, node, &given(&[0.5, 2.0, 0.0, 0.0]), &[1, 1], &[expected]);
    }
}

#[test]
fn experts_of_few_bits() {
    let bytes = |values: &[i128]| Weight(Tensor::from_integers(DType::U8, &[2, 1, 1], values));
    let scale = |v| Weight(f32s(&[2, 1], &[v, v]));
    let node = op_of("com.microsoft", "QMoE").int("k", 1).int("expert_weight_bits", 8);
    let node = node.int("normalize_routing_weights", 1);
    let given = [tokens(), scores(), bytes(&[131, 0]), scale(0.5), Missing, bytes(&[120, 0]), scale(0.25)];
    check(17, node, &given, &[1, 1], &[2.0 * 1.5 * -2.0]);
}
