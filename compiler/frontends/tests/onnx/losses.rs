//! Losses against the standard's own examples.

use crate::build::*;
use crate::one_node::{Given::*, *};

fn scores() -> crate::one_node::Given {
    Data(f32s(&[2, 3, 2], &[1.0, 2.0, 2.0, 2.0, 3.0, 2.0, 0.0, 1.0, 2.0, 2.0, 1.0, 2.0]))
}

fn labels(values: [i64; 4]) -> crate::one_node::Given {
    Data(ired_graph::Tensor::from_i64s(&[2, 2], &values))
}

#[test]
fn negative_log_likelihood() {
    let loss = |reduction| op("NegativeLogLikelihoodLoss").text("reduction", reduction);
    let given = || [scores(), labels([2, 1, 0, 2])];
    check(13, loss("none"), &given(), &[2, 2], &[-3.0, -2.0, 0.0, -2.0]);
    let [scores, labels_] = given();
    let weighted = [scores, labels_, Weight(f32s(&[3], &[0.2, 0.3, 0.1]))];
    check(13, loss("sum"), &weighted, &[], &[-1.1]);
    check(13, loss("mean"), &weighted, &[], &[-1.1 / 0.7]);
    check(13, op("NegativeLogLikelihoodLoss"), &given(), &[], &[-7.0 / 4.0]);
}

/// An ignored label need not be a class, and does not count.
#[test]
fn labels_that_are_ignored() {
    let loss =
        |reduction| op("NegativeLogLikelihoodLoss").int("ignore_index", -7).text("reduction", reduction);
    let given = || [scores(), labels([2, -7, -7, 2])];
    check(13, loss("none"), &given(), &[2, 2], &[-3.0, 0.0, 0.0, -2.0]);
    check(13, loss("mean"), &given(), &[], &[-2.5]);
}

#[test]
fn softmax_cross_entropy() {
    let given = [Data(f32s(&[1, 2], &[0.0, 0.0])), Data(ints(&[1]))];
    let outputs = outputs_of(13, op("SoftmaxCrossEntropyLoss"), &given, 2);
    let half = 0.5f64.ln();
    assert_near(&outputs[0], &[], &[-half]);
    assert_near(&outputs[1], &[1, 2], &[half, half]);
}
