//! Names, sizes, weights, order, functions, branches.

use std::sync::LazyLock;

use ired_frontends::onnx::{Onnx, proto::*};
use ired_frontends::{DirectorySource, Frontend, MemorySource};
use ired_graph::{DType, Op, Tensor, interpret};
use prost::Message;

use crate::build::*;

static TWO_BY_TWO: LazyLock<Tensor> = LazyLock::new(|| f32s(&[2, 2], &[1.0, 2.0, 3.0, 4.0]));

#[test]
fn names_and_symbols_are_the_models() {
    let inputs = vec![
        input("x", DType::F32, ["batch".into(), 3.into(), "".into()]),
        input("y", DType::F32, ["batch".into(), 3.into(), 1.into()]),
    ];
    let imported =
        import(&model(graph(inputs, vec![node("Add", &["x", "y"], &["z"]).named("sum")], &["z"]))).unwrap();
    let ty = |index: usize| imported.ty(imported.inputs()[index]).clone();
    assert_eq!(ty(0).shape[0], ty(1).shape[0], "one name is one symbol");
    assert_eq!(imported.symbols.get(ty(0).shape[0].as_symbol().unwrap()).name, "batch");
    assert!(ty(0).shape[2].as_symbol().is_some_and(|s| Some(s) != ty(0).shape[0].as_symbol()));
    let name = |value| imported.value(value).name.clone().unwrap();
    assert_eq!(imported.inputs().iter().map(|v| name(*v)).collect::<Vec<_>>(), ["x", "y"]);
    assert_eq!(name(imported.outputs()[0]), "z");
    let origins: Vec<_> = imported.nodes.iter().filter_map(|n| n.origin.as_ref()).collect();
    assert!(!origins.is_empty() && origins.iter().all(|o| o.name == "sum" && o.op == "Add"));
}

#[test]
fn an_input_may_be_an_output_and_an_output_may_come_twice() {
    let m = model(graph(
        vec![input_f32("x", &[2])],
        vec![node("Identity", &["x"], &["a"]), node("Neg", &["x"], &["n"]), node("Identity", &["n"], &["m"])],
        &["x", "a", "n", "m"],
    ));
    let imported = import(&m).unwrap();
    let names: Vec<_> = imported.outputs().iter().map(|v| imported.value(*v).name.clone().unwrap()).collect();
    assert_eq!(names, ["x", "a", "n", "m"]);
    let outputs = run(&m, &[f32s(&[2], &[1.0, -2.0])]);
    assert_eq!(outputs.iter().map(|t| t.to_f32s()[0]).collect::<Vec<_>>(), [1.0, 1.0, -1.0, -1.0]);
}

#[test]
fn a_large_weight_stays_a_slice_of_the_file() {
    let weight = f32s(&[64, 64], &[0.5; 4096]);
    let mut g = graph(vec![input_f32("x", &[1, 64])], vec![node("MatMul", &["x", "w"], &["y"])], &["y"]);
    g.initializer.push(raw("w", &weight));
    // Listed as an input too, as old files do: still a weight.
    g.input.push(input_f32("w", &[64, 64]));
    let bytes = bytes::Bytes::from(model(g).encode_to_vec());
    let imported = Onnx.import(&MemorySource::new("m.onnx", bytes.clone())).unwrap();
    assert_eq!(imported.inputs().len(), 1);
    let [param] = imported.params.as_slice() else { panic!("{} weights", imported.params.len()) };
    assert_eq!((param.name.as_str(), param.shape.as_slice()), ("w", &[64, 64][..]));
    assert!(bytes.as_ptr_range().contains(&param.data.as_ptr()), "copied");
}

#[test]
fn typed_data_of_every_width_is_read() {
    let typed = |data_type, count| TensorProto {
        name: Some("w".to_owned()),
        data_type: Some(data_type),
        dims: vec![count],
        ..TensorProto::default()
    };
    let cases = [
        (TensorProto { float_data: vec![1.5, -2.0], ..typed(1, 2) }, vec![1.5, -2.0]),
        (TensorProto { double_data: vec![1.5, -2.0], ..typed(11, 2) }, vec![1.5, -2.0]),
        (TensorProto { int64_data: vec![-7, 1 << 40], ..typed(7, 2) }, vec![-7.0, (1u64 << 40) as f64]),
        (TensorProto { int32_data: vec![-7, 300], ..typed(6, 2) }, vec![-7.0, 300.0]),
        (TensorProto { int32_data: vec![-7, 127], ..typed(3, 2) }, vec![-7.0, 127.0]),
        (TensorProto { int32_data: vec![200, 3], ..typed(2, 2) }, vec![200.0, 3.0]),
        (TensorProto { int32_data: vec![0x3e00, 0xc000], ..typed(10, 2) }, vec![1.5, -2.0]),
        (TensorProto { int32_data: vec![0x3fc0, 0xc000], ..typed(16, 2) }, vec![1.5, -2.0]),
        (TensorProto { uint64_data: vec![7, 1 << 31], ..typed(12, 2) }, vec![7.0, (1u64 << 31) as f64]),
        (TensorProto { uint64_data: vec![7, 1 << 40], ..typed(13, 2) }, vec![7.0, (1u64 << 40) as f64]),
        (TensorProto { int32_data: vec![0, 5], ..typed(9, 2) }, vec![0.0, 1.0]),
    ];
    for (tensor, expected) in cases {
        let mut g = graph(vec![], vec![node("Cast", &["w"], &["y"]).int("to", 11)], &["y"]);
        let data_type = tensor.data_type();
        g.initializer.push(tensor);
        assert_eq!(run(&model(g), &[])[0].to_f64s(), expected, "data type {data_type}");
    }
}

#[test]
fn external_data_is_read_from_beside_the_model() {
    let entry = |key: &str, value: &str| StringStringEntryProto {
        key: Some(key.to_owned()),
        value: Some(value.to_owned()),
    };
    let mut g = graph(vec![input_f32("x", &[2])], vec![node("Add", &["x", "w"], &["y"])], &["y"]);
    g.initializer.push(TensorProto {
        name: Some("w".to_owned()),
        data_type: Some(1),
        dims: vec![2],
        data_location: Some(1),
        external_data: vec![entry("location", "weights/w.bin"), entry("offset", "4"), entry("length", "8")],
        ..TensorProto::default()
    });
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("weights")).unwrap();
    let data: Vec<u8> = [9.0f32, 10.0, 20.0].iter().flat_map(|v| v.to_le_bytes()).collect();
    std::fs::write(folder.path().join("weights/w.bin"), data).unwrap();
    std::fs::write(folder.path().join("m.onnx"), model(g).encode_to_vec()).unwrap();
    let source = DirectorySource::open(&folder.path().join("m.onnx")).unwrap();
    let imported = ired_frontends::import(&source).unwrap();
    let outputs = interpret(&imported, &[f32s(&[2], &[1.0, 2.0])]).unwrap();
    assert_eq!(outputs[0].to_f32s(), [11.0, 22.0]);
}

#[test]
fn unsorted_nodes_are_sorted() {
    let nodes = vec![node("Neg", &["b"], &["c"]), node("Exp", &["a"], &["b"]), node("Sqrt", &["x"], &["a"])];
    let outputs = run(&model(graph(vec![input_f32("x", &[1])], nodes, &["c"])), &[f32s(&[1], &[4.0])]);
    assert!((outputs[0].to_f32s()[0] + 2f32.exp()).abs() < 1e-5);
}

#[test]
fn functions_are_inlined_with_their_attributes() {
    let referring = AttributeProto { ref_attr_name: Some("slope".to_owned()), ..attribute("alpha", 1) };
    let function = FunctionProto {
        name: Some("Twice".to_owned()),
        domain: Some("mine".to_owned()),
        input: vec!["a".to_owned(), "unused".to_owned()],
        output: vec!["r".to_owned()],
        attribute_proto: vec![AttributeProto { f: Some(0.5), ..attribute("slope", 1) }],
        node: vec![
            node("LeakyRelu", &["a"], &["t"]).with(referring),
            node("Add", &["t", "t"], &["r"]).named("add"),
        ],
        opset_import: vec![opset_of("", 16)],
        ..FunctionProto::default()
    };
    let mut call = node("Twice", &["x"], &["default"]).named("first");
    call.domain = Some("mine".to_owned());
    let given =
        NodeProto { output: vec!["given".to_owned()], ..call.clone() }.float("slope", 0.25).named("second");
    let mut m = model(graph(vec![input_f32("x", &[1])], vec![call, given], &["default", "given"]));
    m.opset_import.push(opset_of("mine", 1));
    m.functions.push(function);
    let outputs = run(&m, &[f32s(&[1], &[-8.0])]);
    assert_eq!([outputs[0].to_f32s()[0], outputs[1].to_f32s()[0]], [-8.0, -4.0]);
    let imported = import(&m).unwrap();
    assert!(imported.nodes.iter().filter_map(|n| n.origin.as_ref()).any(|o| o.name == "second/add"));
}

fn branches() -> NodeProto {
    let branch = |op: &str, constant: f32| {
        let value = raw("k", &f32s(&[], &[constant]));
        graph(
            vec![],
            vec![node("Constant", &[], &["k"]).tensor("value", value), node(op, &["x", "k"], &["r"])],
            &["r"],
        )
    };
    node("If", &["condition"], &["y"])
        .graph("then_branch", branch("Add", 1.0))
        .graph("else_branch", branch("Mul", 3.0))
}

#[test]
fn a_constant_condition_leaves_no_branch() {
    for (condition, expected) in [(true, 11.0), (false, 30.0)] {
        let mut g = graph(vec![input_f32("x", &[1])], vec![branches()], &["y"]);
        g.initializer.push(raw("condition", &Tensor::from_bools(&[], &[condition])));
        let imported = import(&model(g.clone())).unwrap();
        assert!(imported.nodes.iter().all(|n| n.op != Op::If));
        assert_eq!(run(&model(g), &[f32s(&[1], &[10.0])])[0].to_f32s(), [expected]);
    }
}

#[test]
fn a_condition_of_run_time_keeps_both_branches() {
    let inputs = vec![input_f32("x", &[1]), input("condition", DType::Bool, [])];
    let m = model(graph(inputs, vec![branches()], &["y"]));
    for (condition, expected) in [(true, 11.0), (false, 30.0)] {
        let outputs = run(&m, &[f32s(&[1], &[10.0]), Tensor::from_bools(&[], &[condition])]);
        assert_eq!(outputs[0].to_f32s(), [expected]);
    }
}

/// What exporters write for `x.reshape(x.shape[0], -1)` and an attention mask: all of it folds to expressions over
/// the sizes, for every batch.
#[test]
fn shape_arithmetic_folds_and_sizes_stay_dynamic() {
    let mut g = graph(
        vec![input("x", DType::F32, ["batch".into(), "seq".into(), 2.into()])],
        vec![
            node("Shape", &["x"], &["shape"]),
            node("Gather", &["shape", "zero"], &["batch"]).int("axis", 0),
            node("Unsqueeze", &["batch", "axis0"], &["batch1"]),
            node("Concat", &["batch1", "minus"], &["target"]).int("axis", 0),
            node("Reshape", &["x", "target"], &["flat"]),
            node("Gather", &["shape", "one"], &["seq"]).int("axis", 0),
            node("Range", &["zero", "seq", "one"], &["positions"]),
            node("Unsqueeze", &["positions", "axis0"], &["row"]),
            node("ConstantOfShape", &["grid"], &["ones"]).tensor("value", raw_ints("v", &[1])),
            node("Shape", &["x"], &["grid"]).int("start", 0).int("end", 2),
            node("Mul", &["row", "ones"], &["counted"]),
        ],
        &["flat", "counted"],
    );
    for (name, value) in [("zero", 0), ("one", 1)] {
        g.initializer.push(raw(name, &Tensor::from_i64s(&[], &[value])));
    }
    g.initializer.push(raw_ints("axis0", &[0]));
    g.initializer.push(raw_ints("minus", &[-1]));
    let m = model(g);
    let imported = import(&m).unwrap();
    let symbols = &imported.symbols;
    let shown: Vec<String> =
        imported.outputs().iter().map(|o| imported.ty(*o).display(symbols).to_string()).collect();
    assert_eq!(shown, ["f32[batch, 2*seq]", "i64[batch, seq]"]);
    for (batch, seq) in [(1u64, 3u64), (4, 1), (0, 2)] {
        let x = f32s(&[batch, seq, 2], &vec![1.0; (batch * seq * 2) as usize]);
        let outputs = run(&m, &[x]);
        assert_eq!(outputs[0].shape(), [batch, 2 * seq]);
        assert_eq!(
            outputs[1].to_i64s(),
            (0..seq as i64).cycle().take((batch * seq) as usize).collect::<Vec<_>>()
        );
    }
}

/// Positions cut to the length of the input: the table's length is a bound on the input's, and no `min` is left.
#[test]
fn a_table_that_is_cut_to_length_bounds_the_length() {
    let mut g = graph(
        vec![input("x", DType::F32, ["seq".into(), 1.into()])],
        vec![
            node("Shape", &["x"], &["seq"]).int("end", 1),
            node("Slice", &["table", "zero", "seq"], &["positions"]),
            node("Add", &["x", "positions"], &["y"]),
        ],
        &["y"],
    );
    g.initializer.push(raw("table", &f32s(&[4, 1], &[1.0, 2.0, 3.0, 4.0])));
    g.initializer.push(raw_ints("zero", &[0]));
    let m = model(g);
    let imported = import(&m).unwrap();
    let seq = imported.symbols.find("seq").unwrap();
    assert_eq!(imported.symbols.get(seq).max, 4);
    assert!(
        imported.values.iter().all(|v| v
            .ty
            .shape
            .iter()
            .all(|d| d.as_static().is_some() || d.as_symbol().is_some()))
    );
    assert_eq!(run(&m, &[f32s(&[3, 1], &[10.0; 3])])[0].to_f32s(), [11.0, 12.0, 13.0]);
    assert!(interpret(&imported, &[f32s(&[5, 1], &[0.0; 5])]).is_err(), "longer than the table");
}

#[test]
fn files_are_recognised_by_name_or_beginning() {
    let bytes = model(graph(vec![], vec![], &[])).encode_to_vec();
    assert!(Onnx.recognises("noname", &bytes));
    assert!(Onnx.recognises("model.onnx", &[]));
    assert!(!Onnx.recognises("model.irm", b"IRED"));
    let x = MemorySource::new("model.txt", bytes::Bytes::from_static(b"hello"));
    assert!(matches!(ired_frontends::import(&x), Err(ired_frontends::ImportError::Unrecognised { .. })));
    let m = model(graph(vec![input_f32("x", &[2, 2])], vec![node("Relu", &["x"], &["y"])], &["y"]));
    let source = MemorySource::new("m.onnx", m.encode_to_vec().into());
    let imported = ired_frontends::import(&source).unwrap();
    assert_eq!(interpret(&imported, std::slice::from_ref(&*TWO_BY_TWO)).unwrap()[0], *TWO_BY_TWO);
}

#[test]
fn nodes_of_one_name_may_state_weights_each() {
    let numbers: Vec<f32> = (0..400).map(|i| i as f32).collect();
    let constant = |output: &str| {
        let tensor = raw("", &f32s(&[400], &numbers));
        node("Constant", &[], &[output]).named("weights").tensor("value", tensor)
    };
    let nodes = vec![constant("a"), constant("b"), node("Add", &["a", "b"], &["y"])];
    let model = model(graph(vec![input_f32("x", &[1])], nodes, &["y"]));
    let y = run(&model, &[f32s(&[1], &[0.0])]).remove(0);
    assert_eq!(y, f32s(&[400], &numbers.iter().map(|x| x + x).collect::<Vec<_>>()));
}
