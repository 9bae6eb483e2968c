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
        node("Boxes", &["x", "x"], &["a"]).named("boxes"),
        node("Relu", &["a"], &["b"]).named("fine"),
        custom,
        node("Cast", &["c"], &["d"]).int("to", 14).named("behind two"),
        node("Cast", &["p"], &["e"]).int("to", 14).named("cast"),
        node("Softplus", &["p"], &["f"]).int("novelty", 1).named("attribute"),
        node("Tides", &["d"], &["g"]).named("last"),
    ];
    let inputs = vec![input_f32("x", &[1, 1, 4]), input_f32("p", &[1, 1, 4])];
    let mut m = model(graph(inputs, nodes, &["e", "f", "g"]));
    m.opset_import.push(opset_of("com.example", 3));
    let found = refused(&m);
    let names: Vec<&str> = found.iter().map(|n| n.name.as_str()).collect();
    assert_eq!(names, ["boxes", "custom", "cast", "attribute", "last"]);
    assert_eq!(
        (found[1].op_type.as_str(), found[1].domain.as_str(), found[1].version),
        ("Fancy", "com.example", 3)
    );
    assert_eq!((found[0].domain.as_str(), found[0].version), ("", OPSET));
    assert!(found[2].reason.contains("a cast from f32 to c64"), "{}", found[2].reason);
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
        node("Cast", &["a"], &["y"]).int("to", 14).named("behind"),
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
            node("Cast", &["i"], &["b"]).int("to", 14).named("complex"),
            node("Identity", &["words"], &["c"]).named("after words"),
        ],
        &["a", "b", "c"],
    );
    g.initializer.push(TensorProto {
        name: Some("words".to_owned()),
        data_type: Some(99),
        dims: vec![1],
        ..TensorProto::default()
    });
    let found = refused(&model(g));
    let reasons: Vec<&str> = found.iter().map(|n| n.reason.as_str()).collect();
    assert_eq!(
        found.iter().map(|n| n.name.as_str()).collect::<Vec<_>>(),
        ["words", "integer root", "complex"]
    );
    assert!(
        reasons[0].contains("number 99") && reasons[1].contains("i32") && reasons[2].contains("i32 to c64"),
        "{reasons:?}"
    );

    let old = model_of(8, graph(vec![input_f32("x", &[2])], vec![node("Erf", &["x"], &["y"])], &["y"]));
    assert!(refused(&old)[0].reason.contains("from 9 on"));
    let unimported = ModelProto { opset_import: vec![], ..old };
    assert!(refused(&unimported)[0].reason.contains("imports no version"));
}

fn names(found: &[UnsupportedNode]) -> Vec<&str> {
    found.iter().map(|n| n.name.as_str()).collect()
}

/// A graph of one node, which takes `x` from around it; its output has its name.
fn holding(op_type: &str, name: &str) -> GraphProto {
    graph(vec![], vec![node(op_type, &["x"], &[name]).named(name)], &[name])
}

/// An `If` on `condition`, with an operator in either branch that is not supported.
fn branches(condition: &str, output: &str) -> NodeProto {
    node("If", &[condition], &[output])
        .graph("then_branch", holding("Bar", "then"))
        .graph("else_branch", holding("Ripples", "else"))
        .named("if")
}

#[test]
fn both_branches_are_reported() {
    let inputs = || vec![input_f32("x", &[4]), input("c", DType::Bool, [])];
    let nodes = vec![branches("c", "a"), node("Tides", &["x", "a"], &["y"]).named("later")];
    assert_eq!(names(&refused(&model(graph(inputs(), nodes, &["y"])))), ["then", "else", "later"]);

    // Nor does the condition have to be known; and what the branches hold is then looked at in full.
    let novel = graph(vec![], vec![node("Relu", &["x"], &["n"]).int("novelty", 1).named("novel")], &["n"]);
    let nodes = vec![
        node("Mystery", &["x"], &["m"]).named("mystery"),
        branches("m", "a"),
        node("If", &["m"], &["y"]).graph("then_branch", novel).graph("else_branch", holding("Relu", "r")),
    ];
    let found = refused(&model(graph(inputs(), nodes, &["y"])));
    assert_eq!(names(&found), ["mystery", "then", "else", "novel"]);
}

/// Of a constant condition, only the branch that runs matters.
#[test]
fn a_branch_that_never_runs_is_not_reported() {
    let mut g = graph(vec![input_f32("x", &[4])], vec![branches("c", "y")], &["y"]);
    g.initializer.push(raw("c", &ired_graph::Tensor::new(DType::Bool, vec![], vec![0u8].into()).unwrap()));
    assert_eq!(names(&refused(&model(g))), ["else"]);
}

#[test]
fn bodies_of_nodes_that_are_not_imported_are_reported() {
    let mut custom = node("Fancy", &["x"], &["f"]).named("custom");
    custom.domain = Some("com.example".to_owned());
    let scan = node("Sweep", &["x"], &["s"]).graph("body", holding("Erf", "known")).named("scan");
    let body = graph(vec![], vec![custom, node("Relu", &["f"], &["r"]), branches("r", "i"), scan], &["i"]);
    let nodes = vec![
        node("Unroll", &["", "", "x"], &["a"]).graph("body", body).named("loop"),
        node("Tides", &["a"], &["y"]).named("later"),
    ];
    let mut m = model_of(8, graph(vec![input_f32("x", &[4])], nodes, &["y"]));
    m.opset_import.push(opset_of("com.example", 3));
    let found = refused(&m);
    assert_eq!(names(&found), ["loop", "custom", "then", "else", "scan", "known", "later"]);
    assert_eq!((found[1].domain.as_str(), found[1].version), ("com.example", 3));
    assert_eq!((found[5].op_type.as_str(), found[5].version), ("Erf", 8));
    assert!(found[5].reason.contains("from 9 on"), "{}", found[5].reason);
}

/// A function of the model's own operator set, which gives `y` from `x`.
fn function(name: &str, nodes: Vec<NodeProto>) -> FunctionProto {
    FunctionProto {
        name: Some(name.to_owned()),
        domain: Some("local".to_owned()),
        input: vec!["x".to_owned()],
        output: vec!["y".to_owned()],
        opset_import: vec![opset_of("", 17), opset_of("local", 1)],
        node: nodes,
        ..FunctionProto::default()
    }
}

#[test]
fn functions_called_inside_bodies_are_reported() {
    let call = |function: &str, input: &str, output: &str| NodeProto {
        domain: Some("local".to_owned()),
        ..node(function, &[input], &[output]).named(&format!("call {function}"))
    };
    // The graph that the caller of `Outer` gives is the body of a node in it; `Again` calls itself.
    let mut given = attribute("body", 5);
    given.ref_attr_name = Some("step".to_owned());
    let outer =
        vec![node("Circle", &["", "", "x"], &["l"]).with(given).named("loop"), call("Again", "l", "y")];
    let again = vec![node("Bar", &["x"], &["b"]).named("bar"), call("Again", "b", "y")];
    let body = graph(vec![], vec![call("Outer", "x", "o").graph("step", holding("Tides", "step"))], &["o"]);
    let nodes = vec![node("Sweep", &["x"], &["y"]).graph("body", body).named("scan")];
    let mut m = model(graph(vec![input_f32("x", &[4])], nodes, &["y"]));
    m.opset_import.push(opset_of("local", 1));
    m.functions = vec![function("Outer", outer), function("Again", again)];
    let found = refused(&m);
    assert_eq!(names(&found), ["scan", "call Outer/loop", "call Outer/step", "call Outer/call Again/bar"]);
    assert_eq!((found[0].version, found[1].version), (OPSET, 17));
}

/// Functions that call each other are bounded where nothing of them is imported, too.
#[test]
fn bodies_that_stand_for_any_number_of_nodes_are_refused() {
    let call = |function: String, output: &str| NodeProto {
        domain: Some("local".to_owned()),
        ..node(&function, &["x"], &[output])
    };
    let twice = |i: usize| vec![call(format!("f{}", i + 1), "a"), call(format!("f{}", i + 1), "y")];
    let body = graph(vec![], vec![call("f0".to_owned(), "o")], &["o"]);
    let nodes = vec![node("Circle", &["", "", "x"], &["y"]).graph("body", body)];
    let mut m = model(graph(vec![input_f32("x", &[4])], nodes, &["y"]));
    m.functions = (0..40).map(|i| function(&format!("f{i}"), twice(i))).collect();
    assert_eq!(import(&m).unwrap_err().kind(), ImportErrorKind::Limit);
}

#[test]
fn hints_say_what_to_do_about_the_reason() {
    let mut custom = node("Fancy", &["x"], &["a"]).named("custom");
    custom.domain = Some("com.example".to_owned());
    let inputs = vec![input_f32("x", &[4]), input("i", DType::I32, [4.into()])];
    let nodes = vec![
        node("Bar", &["x"], &["b"]),
        custom,
        node("Erf", &["x"], &["e"]),
        node("Relu", &["x"], &["r"]).int("novelty", 1),
        node("Sqrt", &["i"], &["s"]),
    ];
    let found = refused(&model_of(8, graph(inputs, nodes, &["a"])));
    let words = ["without the operator", "function", "that version", "remove the attribute", "cast"];
    assert_eq!(found.len(), words.len(), "{found:?}");
    for (node, word) in found.iter().zip(words) {
        assert!(node.hint.contains(word), "{node}");
    }
}

/// Exporters squeeze an axis if it is one, which a size that varies leaves open.
#[test]
fn branches_of_different_ranks_say_that_sizes_may_decide() {
    let branch = |op: &str| graph(vec![], vec![node(op, &["x"], &["r"])], &["r"]);
    let choice = node("If", &["condition"], &["y"])
        .graph("then_branch", branch("Squeeze"))
        .graph("else_branch", branch("Identity"));
    let inputs = vec![input_f32("x", &[1, 4]), input("condition", DType::Bool, [])];
    let found = refused(&model(graph(inputs, vec![choice], &["y"])));
    assert_eq!(found[0].reason, "its branches give tensors of ranks 1 and 2");
    assert!(found[0].hint.contains("--shape"), "{}", found[0].hint);
}
