//! What cannot be imported is reported at once, all of it, with what to do.

use ired_frontends::onnx::proto::*;
use ired_frontends::{ImportError, ImportErrorKind, UnsupportedNode};
use ired_graph::DType;

use crate::build::*;

fn refused(model: &ModelProto) -> Vec<UnsupportedNode> {
    match import(model) {
        Err(error @ ImportError::Unsupported(_)) => {
            assert_eq!(error.kind(), ImportErrorKind::Unsupported);
            let ImportError::Unsupported(nodes) = error else { unreachable!() };
            assert!(nodes.iter().all(|n| !n.reason.is_empty() && !n.hint.is_empty()), "{nodes:?}");
            nodes
        }
        Err(other) => panic!("{}", chain(&other)),
        Ok(_) => panic!("imported"),
    }
}

#[test]
fn all_unsupported_nodes_are_named_even_those_behind_others() {
    let mut custom = node("Fancy", &["b"], &["c"]).named("custom");
    custom.domain = Some("com.example".to_owned());
    let nodes = vec![
        node("NonMaxSuppression", &["x", "x"], &["a"]).named("boxes"),
        node("Relu", &["a"], &["b"]).named("fine"),
        custom,
        node("MaxPool", &["c"], &["d", "indices"]).ints("kernel_shape", &[2]).named("behind two"),
        node("MaxPool", &["p"], &["e", "places"]).ints("kernel_shape", &[2]).named("pool"),
        node("Softplus", &["p"], &["f"]).int("novelty", 1).named("attribute"),
        node("DFT", &["d"], &["g"]).named("last"),
    ];
    let inputs = vec![input_f32("x", &[1, 1, 4]), input_f32("p", &[1, 1, 4])];
    let mut m = model(graph(inputs, nodes, &["e", "f", "g"]));
    m.opset_import.push(opset_of("com.example", 3));
    let found = refused(&m);
    let names: Vec<&str> = found.iter().map(|n| n.name.as_str()).collect();
    assert_eq!(names, ["boxes", "custom", "pool", "attribute", "last"]);
    assert_eq!(
        (found[1].op_type.as_str(), found[1].domain.as_str(), found[1].version),
        ("Fancy", "com.example", 3)
    );
    assert_eq!((found[0].domain.as_str(), found[0].version), ("", OPSET));
    assert!(found[2].reason.contains("places"), "{}", found[2].reason);
    assert!(found[3].reason.contains("novelty"), "{}", found[3].reason);
    let report = import(&m).unwrap_err().to_string();
    for name in names {
        assert!(report.contains(name), "{report}");
    }
}

/// Where the file states the type of what a refused node gives, nodes behind it are checked fully.
#[test]
fn stated_types_stand_in_for_refused_nodes() {
    let nodes = vec![
        node("Mystery", &["x"], &["a"]).named("unknown"),
        node("MaxPool", &["a"], &["y", "indices"]).ints("kernel_shape", &[2]).named("behind"),
    ];
    let mut g = graph(vec![input_f32("x", &[1, 1, 4])], nodes, &["y"]);
    g.value_info.push(input_f32("a", &[1, 1, 4]));
    let names: Vec<String> = refused(&model(g)).into_iter().map(|n| n.name).collect();
    assert_eq!(names, ["unknown", "behind"]);
}

#[test]
fn element_types_and_versions_at_fault_are_said() {
    let mut g = graph(
        vec![input("i", DType::I32, [2.into()])],
        vec![
            node("Sqrt", &["i"], &["a"]).named("integer root"),
            node("Cast", &["i"], &["b"]).int("to", 8).named("text"),
            node("Identity", &["words"], &["c"]).named("after words"),
        ],
        &["a", "b", "c"],
    );
    g.initializer.push(TensorProto {
        name: Some("words".to_owned()),
        data_type: Some(8),
        dims: vec![1],
        ..TensorProto::default()
    });
    let found = refused(&model(g));
    let reasons: Vec<&str> = found.iter().map(|n| n.reason.as_str()).collect();
    assert_eq!(found.iter().map(|n| n.name.as_str()).collect::<Vec<_>>(), ["words", "integer root", "text"]);
    assert!(
        reasons[0].contains("string") && reasons[1].contains("i32") && reasons[2].contains("string"),
        "{reasons:?}"
    );

    let old = model_of(8, graph(vec![input_f32("x", &[2])], vec![node("Erf", &["x"], &["y"])], &["y"]));
    assert!(refused(&old)[0].reason.contains("from 9 on"));
    let unimported = ModelProto { opset_import: vec![], ..old };
    assert!(refused(&unimported)[0].reason.contains("imports no version"));
}

#[test]
fn shapes_that_depend_on_data_are_said_to() {
    let inputs = vec![input_f32("x", &[4]), input("shape", DType::I64, [2.into()])];
    let found = refused(&model(graph(inputs, vec![node("Reshape", &["x", "shape"], &["y"])], &["y"])));
    assert!(found[0].reason.contains("run time"), "{}", found[0].reason);
}
