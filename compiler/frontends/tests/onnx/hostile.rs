//! Models that are wrong on purpose: each is a named error, quickly and in little memory.

use ired_frontends::onnx::proto::*;
use ired_frontends::onnx::{Onnx, TensorError, WireError};
use ired_frontends::{DirectorySource, Frontend, ImportError, ImportErrorKind, MemorySource, Problem};
use ired_graph::{DType, Tensor};
use prost::Message;

use crate::build::*;

fn x() -> Vec<ValueInfoProto> {
    vec![input_f32("x", &[2])]
}

fn fails(graph: GraphProto) -> ImportError {
    import(&model(graph)).expect_err("imported")
}

/// The problem of the one invalid node.
fn problem(graph: GraphProto) -> Problem {
    match fails(graph) {
        ImportError::Invalid(mut nodes) if nodes.len() == 1 => nodes.remove(0).problem,
        other => panic!("{}", chain(&other)),
    }
}

/// A graph that passes on one weight.
fn weight(tensor: TensorProto) -> GraphProto {
    let mut g = graph(vec![], vec![node("Identity", &["w"], &["y"])], &["y"]);
    g.initializer.push(TensorProto { name: Some("w".to_owned()), ..tensor });
    g
}

fn tensor_error(tensor: TensorProto) -> TensorError {
    match fails(weight(tensor)) {
        ImportError::Tensor { tensor, cause } if tensor == "w" => cause,
        other => panic!("{}", chain(&other)),
    }
}

fn shaped(dims: &[i64]) -> TensorProto {
    TensorProto { data_type: Some(1), dims: dims.to_vec(), ..TensorProto::default() }
}

#[test]
fn a_file_cut_anywhere_is_an_error() {
    let m = model(graph(x(), vec![node("Relu", &["x"], &["y"])], &["y"])).encode_to_vec();
    for length in 0..m.len() {
        assert!(import_bytes(m[..length].to_vec()).is_err(), "{length} bytes");
    }
    assert!(matches!(import_bytes(m[..m.len() - 3].to_vec()), Err(ImportError::Malformed(_))));
    assert!(matches!(import_bytes(b"not a model".to_vec()), Err(ImportError::Malformed(_))));
}

#[test]
fn nesting_is_bounded() {
    let mut inner = graph(vec![], vec![node("Identity", &["x"], &["y"])], &["y"]);
    for _ in 0..200 {
        let holder =
            node("If", &["c"], &["y"]).graph("then_branch", inner.clone()).graph("else_branch", inner);
        // One branch only, so that the model stays small.
        let mut holder = holder;
        holder.attribute.truncate(1);
        inner = graph(vec![], vec![holder], &["y"]);
    }
    assert!(matches!(fails(inner), ImportError::Malformed(WireError::TooDeep { .. })));
}

#[test]
fn unknown_versions_are_named() {
    let g = || graph(x(), vec![node("Relu", &["x"], &["y"])], &["y"]);
    let m = ModelProto { ir_version: Some(99), ..model(g()) };
    assert!(matches!(import(&m), Err(ImportError::IrVersion { found: 99, .. })));
    assert!(matches!(import(&model_of(1000, g())), Err(ImportError::OperatorSet { found: 1000, .. })));
    let m = ModelProto { graph: None, ..model(g()) };
    assert!(matches!(import(&m), Err(ImportError::NoGraph)));
}

#[test]
fn cycles_are_named_by_their_nodes() {
    let nodes = vec![
        node("Neg", &["x"], &["before"]).named("before"),
        node("Add", &["before", "c"], &["a"]).named("first"),
        node("Neg", &["a"], &["b"]).named("second"),
        node("Neg", &["b"], &["c"]).named("third"),
    ];
    let ImportError::Cycle { nodes } = fails(graph(x(), nodes, &["c"])) else { panic!("no cycle") };
    assert_eq!(nodes.first(), nodes.last());
    for name in ["first", "second", "third"] {
        assert!(nodes.contains(&name.to_owned()), "{nodes:?}");
    }
    assert!(!nodes.contains(&"before".to_owned()));
}

#[test]
fn a_function_that_calls_itself_is_named() {
    let calling = |name: &str, other: &str| {
        let mut call = node(other, &["a"], &["r"]);
        call.domain = Some("mine".to_owned());
        FunctionProto {
            name: Some(name.to_owned()),
            domain: Some("mine".to_owned()),
            input: vec!["a".to_owned()],
            output: vec!["r".to_owned()],
            node: vec![call],
            ..FunctionProto::default()
        }
    };
    let mut call = node("F", &["x"], &["y"]);
    call.domain = Some("mine".to_owned());
    let mut m = model(graph(x(), vec![call], &["y"]));
    m.functions = vec![calling("F", "G"), calling("G", "F")];
    let Err(ImportError::Invalid(nodes)) = import(&m) else { panic!("imported") };
    assert!(matches!(&nodes[0].problem, Problem::RecursiveFunction { function } if function == "F"));

    // Functions that each call the next one twice: 2^40 nodes.
    m.functions = (0..40)
        .map(|i| {
            let mut function = calling(&format!("F{i}"), &format!("F{}", i + 1));
            let again = NodeProto { output: vec!["s".to_owned()], ..function.node[0].clone() };
            function.node.push(again);
            function
        })
        .collect();
    m.graph.as_mut().unwrap().node[0].op_type = Some("F0".to_owned());
    let error = import(&m).unwrap_err();
    assert!(matches!(error, ImportError::Limit { .. }), "{error}");
    assert_eq!(error.kind(), ImportErrorKind::Limit);

    // A chain deeper than any stack.
    m.functions = (0..20_000).map(|i| calling(&format!("F{i}"), &format!("F{}", i + 1))).collect();
    assert!(matches!(import(&m), Err(ImportError::Limit { .. })));
}

/// Functions and branches that hold each other in turn, each shallow enough on its own.
#[test]
fn branches_and_functions_together_are_bounded() {
    let function = |i: usize| {
        let mut call = node(&format!("F{}", i + 1), &["a"], &["r"]);
        call.domain = Some("mine".to_owned());
        let mut body = graph(vec![], vec![call], &["r"]);
        for _ in 0..25 {
            let holder = node("If", &["c"], &["r"])
                .graph("then_branch", body)
                .graph("else_branch", graph(vec![], vec![], &[]));
            body = graph(vec![], vec![holder], &["r"]);
        }
        let always =
            node("Constant", &[], &["c"]).tensor("value", raw("c", &Tensor::from_bools(&[], &[true])));
        FunctionProto {
            name: Some(format!("F{i}")),
            domain: Some("mine".to_owned()),
            input: vec!["a".to_owned()],
            output: vec!["r".to_owned()],
            node: [vec![always], body.node].concat(),
            ..FunctionProto::default()
        }
    };
    let mut call = node("F0", &["x"], &["y"]);
    call.domain = Some("mine".to_owned());
    let mut m = model(graph(x(), vec![call], &["y"]));
    m.functions = (0..60).map(function).collect();
    assert!(matches!(import(&m), Err(ImportError::Limit { .. })));
}

#[test]
fn names_defined_twice_or_never_are_named() {
    let relu = || node("Relu", &["x"], &["y"]);
    let duplicate = |g| match fails(g) {
        ImportError::DuplicateName { name } => name,
        other => panic!("{other}"),
    };
    assert_eq!(duplicate(graph(x(), vec![relu(), relu()], &["y"])), "y");
    assert_eq!(duplicate(graph(x(), vec![node("Relu", &["x"], &["x"])], &["x"])), "x");
    assert_eq!(duplicate(graph([x(), x()].concat(), vec![relu()], &["y"])), "x");
    let mut g = graph(x(), vec![relu()], &["y"]);
    g.initializer = vec![raw_ints("k", &[1]), raw_ints("k", &[2])];
    assert_eq!(duplicate(g), "k");

    let undefined = problem(graph(x(), vec![node("Add", &["x", "ghost"], &["y"])], &["y"]));
    assert_eq!(undefined, Problem::UndefinedInput { value: "ghost".to_owned() });
    let missing = fails(graph(x(), vec![relu()], &["y", "ghost"]));
    assert!(matches!(missing, ImportError::Output { output, .. } if output == "ghost"));
    assert_eq!(fails(graph(x(), vec![relu()], &[])).to_string(), "the model has no outputs");
    assert_eq!(
        problem(graph(x(), vec![node("Add", &["x"], &["y"])], &["y"])),
        Problem::MissingInput { index: 1 }
    );
}

#[test]
fn every_invalid_node_is_reported() {
    let nodes = vec![
        node("Add", &["x", "ghost"], &["a"]).named("one"),
        node("Transpose", &["x"], &["b"]).ints("perm", &[0, 1, 2]).named("two"),
        node("Relu", &["a"], &["c"]).named("depends on one"),
        node("Gather", &["x", "x"], &["d"]).text("axis", "0").named("three"),
    ];
    let ImportError::Invalid(invalid) = fails(graph(x(), nodes, &["c"])) else { panic!("imported") };
    assert_eq!(invalid.iter().map(|n| n.name.as_str()).collect::<Vec<_>>(), ["one", "two", "three"]);
}

#[test]
fn sizes_that_no_tensor_has_are_refused() {
    let sized =
        |size: i64| fails(graph(vec![input_f32("x", &[size])], vec![node("Relu", &["x"], &["y"])], &["y"]));
    for size in [-2, i64::MIN, 1 << 60, i64::MAX] {
        assert!(matches!(sized(size), ImportError::Input { input, .. } if input == "x"), "{size}");
    }
    let rank = input_f32("x", &[1; 1000]);
    assert!(matches!(fails(graph(vec![rank], vec![], &["x"])), ImportError::Input { .. }));
    let symbols = (0..5000).map(|i| input(&format!("x{i}"), DType::F32, ["".into()])).collect();
    assert!(matches!(fails(graph(symbols, vec![], &["x0"])), ImportError::Input { .. }));

    assert_eq!(tensor_error(shaped(&[-5])), TensorError::NegativeDimension { dim: -5 });
    assert!(matches!(tensor_error(shaped(&[1 << 60, 1 << 60])), TensorError::TooLarge { .. }));
    assert!(matches!(tensor_error(shaped(&[i64::MAX])), TensorError::TooLarge { .. }));
    assert_eq!(tensor_error(shaped(&[1; 1000])), TensorError::Rank { found: 1000 });
}

#[test]
fn data_that_does_not_fill_its_shape_is_refused() {
    let bytes = TensorProto { raw_data: Some(vec![0; 7].into()), ..shaped(&[2]) };
    assert!(matches!(tensor_error(bytes), TensorError::DataBytes { expected: 8, found: 7, .. }));
    let values = TensorProto { float_data: vec![1.0; 3], ..shaped(&[2]) };
    assert!(matches!(tensor_error(values), TensorError::DataCount { expected: 2, found: 3, .. }));
    // Data in the field of another type is as good as none.
    let wrong_field = TensorProto { int64_data: vec![1, 2], ..shaped(&[2]) };
    assert!(matches!(tensor_error(wrong_field), TensorError::DataCount { expected: 2, found: 0, .. }));
    let huge = TensorProto { raw_data: Some(vec![0; 7].into()), ..shaped(&[1 << 40]) };
    assert!(matches!(tensor_error(huge), TensorError::DataBytes { .. }));
}

fn external(entries: &[(&str, &str)]) -> TensorProto {
    let entry = |(key, value): &(&str, &str)| StringStringEntryProto {
        key: Some((*key).to_owned()),
        value: Some((*value).to_owned()),
    };
    TensorProto { data_location: Some(1), external_data: entries.iter().map(entry).collect(), ..shaped(&[2]) }
}

#[test]
fn external_data_stays_within_its_file() {
    let import = |entries: &[(&str, &str)]| {
        let source = MemorySource::new("m.onnx", model(weight(external(entries))).encode_to_vec().into())
            .with_sibling("w.bin", vec![0; 16].into());
        Onnx.import(&source)
    };
    assert!(import(&[("location", "w.bin"), ("offset", "8")]).is_ok());
    let refused = |entries: &[(&str, &str)]| match import(entries) {
        Err(ImportError::Tensor { cause, .. }) => cause,
        Err(other) => panic!("{}", chain(&other)),
        Ok(_) => panic!("imported"),
    };
    let at = |offset: &'static str| [("location", "w.bin"), ("offset", offset)];
    assert!(matches!(refused(&at("12")), TensorError::ExternalRange { offset: 12, .. }));
    assert!(matches!(refused(&at("18446744073709551615")), TensorError::ExternalRange { .. }));
    assert!(matches!(refused(&at("-1")), TensorError::ExternalNumber { .. }));
    assert!(matches!(refused(&at("99999999999999999999999")), TensorError::ExternalNumber { .. }));
    let long = [("location", "w.bin"), ("length", "1000000000000")];
    assert!(matches!(refused(&long), TensorError::ExternalRange { .. }));
    assert!(matches!(refused(&[("location", "w.bin"), ("length", "4")]), TensorError::DataBytes { .. }));
    assert!(matches!(refused(&[("offset", "0")]), TensorError::ExternalUnnamed));
    let absent = import(&[("location", "other.bin")]).unwrap_err();
    assert_eq!(absent.kind(), ImportErrorKind::MissingFile);
}

#[test]
fn external_data_cannot_leave_the_folder() {
    let folder = tempfile::tempdir().unwrap();
    let inside = folder.path().join("models");
    std::fs::create_dir(&inside).unwrap();
    std::fs::write(folder.path().join("secret"), [0; 8]).unwrap();
    std::os::unix::fs::symlink("../secret", inside.join("link")).unwrap();
    let import = |location: &str| {
        let m = model(weight(external(&[("location", location)])));
        std::fs::write(inside.join("m.onnx"), m.encode_to_vec()).unwrap();
        ired_frontends::import(&DirectorySource::open(&inside.join("m.onnx")).unwrap()).unwrap_err()
    };
    let absolute = folder.path().join("secret");
    for location in ["../secret", "/etc/passwd", "a/../../secret", absolute.to_str().unwrap(), ""] {
        let error = import(location);
        assert!(matches!(error, ImportError::ExternalName { .. }), "{location}: {}", chain(&error));
    }
    let error = import("link");
    assert!(matches!(error, ImportError::ExternalFile { .. }), "{}", chain(&error));
    assert!(chain(&error).contains("outside"), "{}", chain(&error));
}

/// Small files that say "a tensor of terabytes": nothing of that size is made while importing.
#[test]
fn enormous_constants_are_never_made() {
    let fill = |dims: &[i64]| {
        let mut g = graph(vec![], vec![node("ConstantOfShape", &["shape"], &["y"])], &["y"]);
        g.initializer.push(raw_ints("shape", dims));
        import(&model(g))
    };
    assert!(fill(&[1 << 20, 1 << 20]).is_ok(), "a broadcast scalar has no size");
    for dims in [&[1 << 40, 1 << 40][..], &[-1], &[i64::MAX, 2], &[1 << 60]] {
        assert!(matches!(fill(dims), Err(ImportError::Invalid(_))), "{dims:?}");
    }

    // Each doubles the last: 2^200 elements.
    let mut nodes = Vec::new();
    for i in 0..200 {
        let (from, to) = (format!("v{i}"), format!("v{}", i + 1));
        nodes.push(node("Concat", &[&from, &from], &[&to]).int("axis", 0));
    }
    let mut g = graph(vec![], nodes, &["v200"]);
    g.initializer.push(raw_ints("v0", &[1; 100]));
    assert!(matches!(fails(g), ImportError::Invalid(_)));

    let mut g = graph(
        vec![],
        vec![
            node("Range", &["zero", "limit", "one"], &["r"]),
            node("Tile", &["r", "repeats"], &["t"]),
            node("Expand", &["t", "shape"], &["e"]),
            node("OneHot", &["zero", "limit", "values"], &["o"]),
            node("Add", &["e", "e"], &["y"]),
        ],
        &["y", "o"],
    );
    for (name, value) in [("zero", 0), ("one", 1), ("limit", 1 << 32)] {
        g.initializer.push(raw(name, &Tensor::from_i64s(&[], &[value])));
    }
    g.initializer.push(raw_ints("repeats", &[2]));
    g.initializer.push(raw_ints("shape", &[100, 1]));
    g.initializer.push(raw_ints("values", &[0, 1]));
    let imported = import(&model(g)).unwrap();
    for node in &imported.nodes {
        if let ired_graph::Op::Constant(tensor) = &node.op {
            assert!(tensor.data().len() < 1 << 20, "{:?}", tensor.shape());
        }
    }
}

/// Sizes multiplied by sizes: expressions grow with each step, and must not grow without end.
#[test]
fn expressions_over_sizes_stay_small() {
    let mut nodes = vec![node("Shape", &["x"], &["s0"])];
    for i in 0..64 {
        let (from, t, to) = (format!("s{i}"), format!("t{i}"), format!("s{}", i + 1));
        nodes.push(node("Gather", &[&from, "reverse"], &[&t]));
        let (sum, product) = (format!("u{i}"), format!("v{i}"));
        nodes.push(node("Add", &[&from, &t], &[&sum]));
        nodes.push(node("Mul", &[&sum, &t], &[&product]));
        nodes.push(node("Add", &[&product, &sum], &[&to]));
    }
    nodes.push(node("Expand", &["one", "s64"], &["y"]));
    let sizes = ["a", "b", "c", "d", "e", "f"].map(Size::Named);
    let mut g = graph(vec![input("x", DType::F32, sizes)], nodes, &["y"]);
    g.initializer.push(raw_ints("reverse", &[5, 4, 3, 2, 1, 0]));
    g.initializer.push(raw_ints("one", &[1]));
    // Whether it is refused or not matters less than that it ends.
    let started = std::time::Instant::now();
    let _ = import(&model(g));
    assert!(started.elapsed().as_secs() < 10, "took {:?}", started.elapsed());
}

/// Numbers in attributes at the ends of their range.
#[test]
fn extreme_attributes_are_refused_or_harmless() {
    let image = || vec![input_f32("x", &[1, 1, 4, 4])];
    let extremes = [i64::MIN, i64::MIN + 1, -1, 0, 1 << 31, 1 << 62, i64::MAX];
    for v in extremes {
        let pair = [v, v];
        let four = [v, v, v, v];
        let candidates = vec![
            node("MaxPool", &["x"], &["y"]).ints("kernel_shape", &pair),
            node("MaxPool", &["x"], &["y"]).ints("kernel_shape", &[2, 2]).ints("strides", &pair),
            node("MaxPool", &["x"], &["y"]).ints("kernel_shape", &[2, 2]).ints("dilations", &pair),
            node("AveragePool", &["x"], &["y"]).ints("kernel_shape", &[2, 2]).ints("pads", &four),
            node("MaxPool", &["x"], &["y"]).ints("kernel_shape", &pair).text("auto_pad", "SAME_UPPER"),
            node("MaxPool", &["x"], &["y"])
                .ints("kernel_shape", &[3, 3])
                .ints("strides", &pair)
                .text("auto_pad", "SAME_LOWER"),
            node("Softmax", &["x"], &["y"]).int("axis", v),
            node("Flatten", &["x"], &["y"]).int("axis", v),
            node("Transpose", &["x"], &["y"]).ints("perm", &four),
            node("Shape", &["x"], &["y"]).int("start", v).int("end", v),
            node("DepthToSpace", &["x"], &["y"]).int("blocksize", v),
            node("SpaceToDepth", &["x"], &["y"]).int("blocksize", v),
            node("GroupNormalization", &["x", "v", "v"], &["y"]).int("num_groups", v),
            node("EyeLike", &["m"], &["y"]).int("k", v),
            node("Cast", &["x"], &["y"]).int("to", v),
            node("Reshape", &["x", "v"], &["y"]),
            node("Expand", &["x", "v"], &["y"]),
            node("Tile", &["x", "v4"], &["y"]),
            node("Pad", &["x", "v8"], &["y"]),
            node("Slice", &["x", "v", "v", "v"], &["y"]),
            node("Slice", &["x", "v", "v", "zero", "v"], &["y"]),
            node("Slice", &["x", "zero", "end", "zero", "v"], &["y"]),
            node("Gather", &["x", "v"], &["y"]),
            node("Split", &["x", "v"], &["y"]),
            node("Squeeze", &["x", "v"], &["y"]),
            node("Unsqueeze", &["x", "v"], &["y"]),
            node("ReduceSum", &["x", "v"], &["y"]),
            node("Range", &["zero", "v", "v"], &["y"]),
            node("Range", &["v", "zero", "v"], &["y"]),
            node("Trilu", &["x", "v"], &["y"]),
            node("OneHot", &["v", "v", "v2"], &["y"]),
            node("ConstantOfShape", &["v4"], &["y"]),
        ];
        for candidate in candidates {
            let mut g = graph(image(), vec![candidate], &["y"]);
            g.input.push(input_f32("m", &[2, 2]));
            g.initializer.push(raw_ints("zero", &[0]));
            g.initializer.push(raw_ints("end", &[i64::MAX]));
            for (name, count) in [("v", 1), ("v2", 2), ("v4", 4), ("v8", 8)] {
                g.initializer.push(raw_ints(name, &vec![v; count]));
            }
            // Not panicking, overflowing or allocating is what is tested.
            let _ = import(&model(g));
        }
    }
}

#[test]
fn constant_indices_are_checked() {
    let gather = |op: &str, indices: Tensor, data: ValueInfoProto| {
        let mut g = graph(vec![data], vec![node(op, &["data", "at"], &["y"]).named("pick")], &["y"]);
        g.initializer.push(raw("at", &indices));
        import(&model(g)).map(|_| ())
    };
    let refused = |op, indices, data, index: i64, axis: usize, size: &str| {
        let error = gather(op, indices, data).unwrap_err();
        let problem = format!("index {index} is outside of axis {axis}, whose size is {size}");
        assert_eq!(error.to_string(), format!("1 node is invalid:\n  `pick` ({op}): {problem}"));
    };
    let data = || input_f32("data", &[3, 4]);
    for index in [3, -4, i64::MIN, i64::MAX] {
        refused("Gather", ints(&[0, index, 1]), data(), index, 0, "3");
        refused("Gather", Tensor::from_i64s(&[], &[index]), data(), index, 0, "3");
        refused("GatherElements", Tensor::from_i64s(&[1, 2], &[0, index]), data(), index, 0, "3");
    }
    refused("GatherND", Tensor::from_i64s(&[2, 2], &[2, 0, 0, 4]), data(), 4, 1, "4");
    // More than is kept as a constant.
    refused("Gather", ints(&[vec![0; 10_000], vec![3]].concat()), data(), 3, 0, "3");
    for index in [2, -3] {
        gather("Gather", ints(&[index]), data()).unwrap();
        gather("GatherElements", Tensor::from_i64s(&[1, 1], &[index]), data()).unwrap();
        gather("GatherND", ints(&[index, 3]), data()).unwrap();
    }
    // A size that is only known at run time may be any.
    gather("Gather", ints(&[300]), input("data", DType::F32, ["n".into()])).unwrap();
    gather("Gather", ints(&[-300]), input("data", DType::F32, ["n".into()])).unwrap();
}

#[test]
fn indices_are_integers() {
    let inputs = || vec![input_f32("data", &[3, 4]), input_f32("at", &[1, 1])];
    for op in ["Gather", "GatherElements", "GatherND"] {
        let problem = problem(graph(inputs(), vec![node(op, &["data", "at"], &["y"])], &["y"]));
        assert_eq!(problem.to_string(), "takes i32 or i64 as input 1; found f32");
    }
}

#[test]
fn outputs_are_what_they_are_declared_as() {
    let declared = |ty: ValueInfoProto| {
        let mut g = graph(x(), vec![node("Relu", &["x"], &["y"])], &["y"]);
        g.output[0].r#type = ty.r#type;
        import(&model(g)).map(|_| ()).map_err(|error| error.to_string())
    };
    for agreeing in [
        input("y", DType::F32, [2.into()]),
        input("y", DType::F32, ["n".into()]),
        input("y", DType::F32, [(-1).into()]),
    ] {
        declared(agreeing).unwrap();
    }
    let refused = |ty, text: &str| assert_eq!(declared(ty).unwrap_err(), text);
    refused(
        input("y", DType::I64, [2.into()]),
        "model output `y` is declared with element type i64; the graph gives f32",
    );
    refused(input_f32("y", &[3]), "model output `y` is declared with shape [3]; the graph gives [2]");
    refused(input_f32("y", &[2, 1]), "model output `y` is declared with shape [2, 1]; the graph gives [2]");
}

#[test]
fn inputs_and_outputs_are_counted() {
    let names: Vec<String> = (0..16_385).map(|i| format!("v{i}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let nodes = names.iter().map(|name| node("Relu", &["x"], &[name])).collect();
    let error = fails(graph(x(), nodes, &names));
    assert_eq!(error.to_string(), "the model has more than 16384 outputs");
    assert_eq!(error.kind(), ImportErrorKind::Limit);
    let inputs: Vec<_> = names.iter().map(|name| input_f32(name, &[2])).collect();
    let mut g = graph(inputs, vec![node("Relu", &["v0"], &["y"])], &["y"]);
    assert_eq!(fails(g.clone()).to_string(), "the model has more than 16384 inputs");
    // What has a value in the file is a weight.
    g.initializer.push(raw("v7", &f32s(&[2], &[0.0; 2])));
    import(&model(g)).unwrap();
}
