//! Random numbers: of the right type and distribution, and the same in every call.

use ired_frontends::onnx::proto::NodeProto;
use ired_graph::{DType, Tensor};

use crate::build::*;
use crate::one_node::{Given, op, outputs_of};

fn drawn(node: NodeProto, given: &[Given]) -> Tensor {
    outputs_of(22, node, given, 1).remove(0)
}

fn moments(values: &[f64]) -> (f64, f64) {
    let mean = values.iter().sum::<f64>() / values.len() as f64;
    let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / values.len() as f64;
    (mean, variance)
}

#[test]
fn uniform_numbers_fill_their_range_evenly() {
    let node = op("RandomUniform")
        .ints("shape", &[100, 100])
        .float("low", -1.0)
        .float("high", 3.0)
        .float("seed", 7.0);
    let found = drawn(node, &[]);
    assert_eq!((found.dtype(), found.shape()), (DType::F32, &[100, 100][..]));
    let values = found.to_f64s();
    assert!(values.iter().all(|v| (-1.0..=3.0).contains(v)));
    let (mean, variance) = moments(&values);
    assert!((mean - 1.0).abs() < 0.05 && (variance - 16.0 / 12.0).abs() < 0.05, "{mean} {variance}");
}

#[test]
fn normal_numbers_have_the_mean_and_scale_asked_for() {
    let like = Tensor::from_f64s(DType::F64, &[50, 200], &vec![0.0; 10_000]);
    let node = op("RandomNormalLike").float("mean", 2.0).float("scale", 3.0).float("seed", 1.0);
    let found = drawn(node, &[Given::Data(like)]);
    assert_eq!((found.dtype(), found.shape()), (DType::F64, &[50, 200][..]));
    let (mean, variance) = moments(&found.to_f64s());
    assert!((mean - 2.0).abs() < 0.15 && (variance - 9.0).abs() < 0.5, "{mean} {variance}");
}

#[test]
fn a_seed_decides_the_numbers_and_another_gives_others() {
    let node = |seed| op("RandomUniform").ints("shape", &[64]).float("seed", seed);
    let first = drawn(node(1.0), &[]);
    assert_eq!(drawn(node(1.0), &[]), first);
    assert_ne!(drawn(node(2.0), &[]), first);
    let unseeded = || op("RandomUniform").ints("shape", &[64]);
    assert_eq!(drawn(unseeded(), &[]), drawn(unseeded(), &[]));
}

#[test]
fn bernoulli_hits_as_often_as_asked() {
    let probabilities = Tensor::from_f32s(&[10_000], &[0.25; 10_000]);
    let found = drawn(op("Bernoulli").float("seed", 3.0).int("dtype", 9), &[Given::Data(probabilities)]);
    assert_eq!(found.dtype(), DType::Bool);
    let hits = found.to_bools().into_iter().filter(|hit| *hit).count();
    assert!((2300..2700).contains(&hits), "{hits}");
}

#[test]
fn multinomial_draws_classes_by_their_shares() {
    let logits = Tensor::from_f32s(&[1, 3], &[0.0, f32::NEG_INFINITY, 3f32.ln()]);
    let found = drawn(op("Multinomial").int("sample_size", 8000).float("seed", 5.0), &[Given::Data(logits)]);
    assert_eq!((found.dtype(), found.shape()), (DType::I32, &[1, 8000][..]));
    let count = |class| found.to_i64s().into_iter().filter(|c| *c == class).count();
    assert_eq!(count(1), 0);
    assert!((1800..2200).contains(&count(0)) && count(0) + count(2) == 8000, "{}", count(0));
}
