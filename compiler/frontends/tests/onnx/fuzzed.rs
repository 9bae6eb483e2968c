//! What fuzzers found, each as small as it gets.

use ired_frontends::ImportError;
use ired_frontends::onnx::proto::*;
use ired_graph::DType;
use prost::Message;

use crate::build::*;

/// Small files that state more support vectors or duels between classes than any memory holds.
#[test]
fn support_vectors_are_counted_before_they_are_made() {
    let classifier = |counts: &[i64]| {
        let labels: Vec<i64> = (0..counts.len() as i64).collect();
        let mut node = node("SVMClassifier", &["x"], &["y", "z"]).ints("vectors_per_class", counts);
        node.domain = Some("ai.onnx.ml".to_owned());
        let node = node.ints("classlabels_ints", &labels);
        let mut m = model(graph(vec![input("x", DType::F32, [1.into(), "".into()])], vec![node], &["y"]));
        m.opset_import.push(opset_of("ai.onnx.ml", 1));
        m
    };
    // The sum is 2 once more than 64 bits are left out.
    assert!(import(&classifier(&[i64::MAX, i64::MAX, 4])).is_err());
    // Ten billion duels.
    let mut many = vec![0; 150_000];
    many[0] = 1;
    assert!(import(&classifier(&many)).is_err());
}

#[test]
fn an_optional_input_has_no_more_axes_than_others() {
    let held = |rank: usize| {
        let held = input("x", DType::F32, (0..rank).map(|_| 1.into())).r#type;
        let bytes = HeldTypeProto { elem_type: held }.encode_to_vec();
        let value = Some(type_proto::Value::OptionalType(bytes.into()));
        let x = ValueInfoProto { name: Some("x".to_owned()), r#type: Some(TypeProto { value }) };
        model(graph(vec![x], vec![node("OptionalHasElement", &["x"], &["y"])], &["y"]))
    };
    assert!(import(&held(3)).is_ok());
    assert!(matches!(import(&held(100)), Err(ImportError::Input { input, .. }) if input == "x"));
}

#[test]
fn channels_of_a_scalar_are_refused() {
    for x in [&[][..], &[1]] {
        let inputs = ["scale", "bias", "mean", "variance"].map(|name| input_f32(name, &[1]));
        let names = ["x", "scale", "bias", "mean", "variance"];
        let node = node("BatchNormalization", &names, &["y"]);
        let all = [vec![input_f32("x", x)], inputs.to_vec()].concat();
        assert!(matches!(import(&model(graph(all, vec![node], &["y"]))), Err(ImportError::Invalid(_))));
    }
}

#[test]
fn rows_of_coefficients_are_counted_without_wrapping() {
    let mut node = node("LinearRegressor", &["x"], &["y"]).int("targets", i64::MAX);
    node.domain = Some("ai.onnx.ml".to_owned());
    let mut m = model(graph(vec![input_f32("x", &[1, 4])], vec![node], &["y"]));
    m.opset_import.push(opset_of("ai.onnx.ml", 1));
    assert!(matches!(import(&m), Err(ImportError::Invalid(_))));
}

#[test]
fn a_mask_of_attention_may_be_a_scalar() {
    for mask in [DType::F32, DType::Bool] {
        let inputs = ["q", "k", "v"].map(|name| input_f32(name, &[1, 1, 2, 2]));
        let all = [inputs.to_vec(), vec![input("mask", mask, [])]].concat();
        let g = graph(all, vec![node("Attention", &["q", "k", "v", "mask"], &["y"])], &["y"]);
        import(&model_of(23, g)).unwrap_or_else(|error| panic!("{}", chain(&error)));
    }
}
