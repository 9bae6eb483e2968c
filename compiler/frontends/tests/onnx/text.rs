//! Strings, labels and images, by hand and as the ONNX specification states them.

use ired_frontends::onnx::proto::{NodeProto, TensorProto};
use ired_graph::{DType, Limits, Tensor, interpret_strings};
use ired_host::StringTable;

use crate::build::*;

/// A value with its strings spelled out.
#[derive(Clone, Debug, PartialEq)]
enum Value {
    Texts(Vec<u64>, Vec<String>),
    Numbers(Tensor),
}

fn texts(shape: &[u64], texts: &[&str]) -> Value {
    Value::Texts(shape.to_vec(), texts.iter().map(|t| (*t).to_owned()).collect())
}

fn numbers(tensor: Tensor) -> Value {
    Value::Numbers(tensor)
}

/// A tensor of strings as files hold it.
fn stored(name: &str, shape: &[i64], texts: &[&'static str]) -> TensorProto {
    TensorProto {
        name: Some(name.to_owned()),
        data_type: Some(8),
        dims: shape.to_vec(),
        string_data: texts.iter().map(|t| (*t).into()).collect(),
        ..TensorProto::default()
    }
}

/// What one node gives; sizes of its inputs are symbolic.
fn outputs_of(
    domain: &str,
    version: i64,
    mut node: NodeProto,
    inputs: &[Value],
    outputs: usize,
) -> Vec<Value> {
    let symbols = [["a", "b", "c"], ["d", "e", "f"], ["g", "h", "i"]];
    let mut infos = Vec::new();
    for (i, value) in inputs.iter().enumerate() {
        let (dtype, rank) = match value {
            Value::Texts(shape, _) => (DType::String, shape.len()),
            Value::Numbers(tensor) => (tensor.dtype(), tensor.shape().len()),
        };
        let name = format!("i{i}");
        infos.push(input(&name, dtype, symbols[i][..rank].iter().map(|s| Size::Named(s))));
        node.input.push(name);
    }
    let names: Vec<String> = (0..outputs).map(|i| format!("o{i}")).collect();
    node.output = names.clone();
    node.domain = Some(domain.to_owned());
    let mut model = model(graph(infos, vec![node], &names.iter().map(String::as_str).collect::<Vec<_>>()));
    model.opset_import.retain(|opset| domain != opset.domain());
    model.opset_import.push(opset_of(domain, version));
    let graph = import(&model).unwrap_or_else(|e| panic!("{}", chain(&e)));
    let mut strings = graph.call_strings();
    let fed: Vec<Tensor> = inputs.iter().map(|value| feed(value, &mut strings)).collect();
    let found = interpret_strings(&graph, &fed, Limits::default(), &mut strings);
    let found = found.unwrap_or_else(|e| panic!("{}", chain(&e)));
    found.into_iter().map(|tensor| spell(tensor, &strings)).collect()
}

fn feed(value: &Value, strings: &mut StringTable) -> Tensor {
    match value {
        Value::Numbers(tensor) => tensor.clone(),
        Value::Texts(shape, texts) => {
            let handles: Vec<u64> = texts.iter().map(|t| strings.intern(t.as_bytes()).unwrap()).collect();
            Tensor::from_handles(shape, &handles)
        }
    }
}

fn spell(tensor: Tensor, strings: &StringTable) -> Value {
    if tensor.dtype() != DType::String {
        return Value::Numbers(tensor);
    }
    let text = |handle| String::from_utf8(strings.get(handle).unwrap().to_vec()).unwrap();
    Value::Texts(tensor.shape().to_vec(), tensor.to_handles().into_iter().map(text).collect())
}

#[track_caller]
fn check(node: NodeProto, inputs: &[Value], expected: &[Value]) {
    assert_eq!(outputs_of("", OPSET, node, inputs, expected.len()), expected);
}

#[track_caller]
fn check_ml(version: i64, node: NodeProto, inputs: &[Value], expected: Value) {
    assert_eq!(outputs_of("ai.onnx.ml", version, node, inputs, 1), [expected]);
}

fn op(op_type: &str) -> NodeProto {
    node(op_type, &[], &[])
}

#[test]
fn strings_are_constants_and_move() {
    check(op("Constant").text("value_string", "a"), &[], &[texts(&[], &["a"])]);
    check(op("Constant").texts("value_strings", &["a", ""]), &[], &[texts(&[2], &["a", ""])]);
    check(
        op("Constant").tensor("value", stored("t", &[1, 2], &["x", "x"])),
        &[],
        &[texts(&[1, 2], &["x", "x"])],
    );
    let x = texts(&[2, 2], &["a", "b", "c", "d"]);
    check(op("Transpose"), std::slice::from_ref(&x), &[texts(&[2, 2], &["a", "c", "b", "d"])]);
    let last = numbers(Tensor::from_i64s(&[1], &[-1]));
    check(op("Gather"), &[x.clone(), last], &[texts(&[1, 2], &["c", "d"])]);
    let y = texts(&[1], &["b"]);
    check(
        op("Equal"),
        &[x.clone(), y.clone()],
        &[numbers(Tensor::from_bools(&[2, 2], &[false, true, false, false]))],
    );
    let condition = numbers(Tensor::from_bools(&[2, 2], &[true, false, false, true]));
    check(op("Where"), &[condition, x, y], &[texts(&[2, 2], &["a", "b", "b", "d"])]);
}

#[test]
fn strings_are_joined_split_matched_and_cleaned() {
    let x = texts(&[2, 1], &["a,b", "c"]);
    check(
        op("StringConcat"),
        &[x.clone(), texts(&[2], &["!", "?"])],
        &[texts(&[2, 2], &["a,b!", "a,b?", "c!", "c?"])],
    );
    let counts = numbers(Tensor::from_i64s(&[2, 1], &[2, 1]));
    check(
        op("StringSplit").text("delimiter", ","),
        std::slice::from_ref(&x),
        &[texts(&[2, 1, 2], &["a", "b", "c", ""]), counts],
    );
    let matches = numbers(Tensor::from_bools(&[2, 1], &[false, true]));
    check(op("RegexFullMatch").text("pattern", "[a-z]"), &[x], &[matches]);
    let words = texts(&[3], &["Monday", "tuesday", "MONDAY"]);
    let normalize = || op("StringNormalizer").text("case_change_action", "UPPER").text("locale", "en_US");
    check(normalize(), std::slice::from_ref(&words), &[texts(&[3], &["MONDAY", "TUESDAY", "MONDAY"])]);
    let stop = normalize().texts("stopwords", &["monday"]);
    check(stop.clone(), std::slice::from_ref(&words), &[texts(&[1], &["TUESDAY"])]);
    check(stop.int("is_case_sensitive", 1), &[words], &[texts(&[3], &["MONDAY", "TUESDAY", "MONDAY"])]);
    check(normalize(), &[texts(&[1, 0], &[])], &[texts(&[1, 1], &[""])]);
}

#[test]
fn strings_are_ordered_by_their_text() {
    let x = texts(&[4], &["pear", "apple", "", "pear"]);
    let expected = [
        texts(&[3], &["", "apple", "pear"]),
        numbers(ints(&[2, 1, 0])),
        numbers(ints(&[2, 1, 0, 2])),
        numbers(ints(&[1, 1, 2])),
    ];
    check(op("Unique"), &[x], &expected);
}

#[test]
fn numbers_become_strings_and_back() {
    let x = numbers(f32s(&[3], &[0.1, -2.0, f32::INFINITY]));
    check(op("Cast").int("to", 8), &[x], &[texts(&[3], &["0.1", "-2.0", "inf"])]);
    let x = texts(&[2], &["1e3", " 7 "]);
    check(op("Cast").int("to", 1), &[x], &[numbers(f32s(&[2], &[1000.0, 7.0]))]);
    let x = texts(&[2], &["-5", "7"]);
    check(op("Cast").int("to", 22), &[x], &[numbers(Tensor::from_integers(DType::I4, &[2], &[-5, 7]))]);
    let x = numbers(Tensor::from_integers(DType::U4, &[2], &[5, 15]));
    let like = texts(&[1], &["x"]);
    check(op("CastLike"), &[x, like], &[texts(&[2], &["5", "15"])]);
}

#[test]
fn labels_are_mapped_both_ways() {
    let encoder = || op("LabelEncoder");
    let words = texts(&[3], &["b", "?", "a"]);
    let to_int = encoder().texts("keys_strings", &["a", "b"]).ints("values_int64s", &[10, 20]);
    check_ml(2, to_int.clone(), std::slice::from_ref(&words), numbers(ints(&[20, -1, 10])));
    check_ml(2, to_int.int("default_int64", 0), std::slice::from_ref(&words), numbers(ints(&[20, 0, 10])));
    let to_text = encoder().ints("keys_int64s", &[1, 2]).texts("values_strings", &["one", "two"]);
    check_ml(2, to_text, &[numbers(ints(&[2, 3]))], texts(&[2], &["two", "_Unused"]));
    let tensors = encoder()
        .tensor("keys_tensor", stored("k", &[2], &["a", "b"]))
        .tensor("values_tensor", raw("v", &Tensor::from_i32s(&[2], &[7, 8])))
        .tensor("default_tensor", raw("d", &Tensor::from_i32s(&[1], &[42])));
    check_ml(4, tensors, std::slice::from_ref(&words), numbers(Tensor::from_i32s(&[3], &[8, 42, 7])));
    let floats = encoder().floats("keys_floats", &[f32::NAN, 0.0]).floats("values_floats", &[1.0, 2.0]);
    let x = numbers(f32s(&[3], &[-0.0, f32::NAN, 5.0]));
    check_ml(2, floats, &[x], numbers(f32s(&[3], &[2.0, 1.0, -0.0])));
    let classes = encoder().texts("classes_strings", &["a", "b"]).text("default_string", "none");
    check_ml(1, classes.clone(), std::slice::from_ref(&words), numbers(ints(&[1, -1, 0])));
    check_ml(1, classes, &[numbers(ints(&[1, 9]))], texts(&[2], &["b", "none"]));
    let mapper = op("CategoryMapper").texts("cats_strings", &["a", "b"]).ints("cats_int64s", &[3, 4]);
    check_ml(1, mapper.clone(), std::slice::from_ref(&words), numbers(ints(&[4, -1, 3])));
    check_ml(1, mapper, &[numbers(ints(&[4]))], texts(&[1], &["b"]));
    let one_hot = op("OneHotEncoder").texts("cats_strings", &["a", "b"]);
    check_ml(1, one_hot, &[words], numbers(f32s(&[3, 2], &[0.0, 1.0, 0.0, 0.0, 1.0, 0.0])));
}

#[test]
fn n_grams_are_counted_and_weighed() {
    let vectorizer = |mode| {
        op("TfIdfVectorizer")
            .text("mode", mode)
            .int("min_gram_length", 1)
            .int("max_gram_length", 2)
            .int("max_skip_count", 0)
            .ints("ngram_counts", &[0, 1])
            .ints("ngram_indexes", &[1, 0])
            .texts("pool_strings", &["a", "a", "b"])
    };
    let x = texts(&[2, 3], &["a", "a", "b", "c", "a", "c"]);
    let counts = numbers(f32s(&[2, 2], &[1.0, 2.0, 0.0, 1.0]));
    check(vectorizer("TF"), std::slice::from_ref(&x), &[counts]);
    let weighed = numbers(f32s(&[2, 2], &[0.5, 6.0, 0.0, 3.0]));
    check(vectorizer("TFIDF").floats("weights", &[0.5, 3.0]), std::slice::from_ref(&x), &[weighed]);
    let present = numbers(f32s(&[2, 2], &[0.5, 3.0, 0.0, 3.0]));
    check(vectorizer("IDF").floats("weights", &[0.5, 3.0]), &[x], &[present]);
}

#[test]
fn images_are_decoded() {
    let ppm = b"P6 2 1 255\n\x01\x02\x03\x04\x05\x06";
    let bytes: Vec<i128> = ppm.iter().map(|b| i128::from(*b)).collect();
    let x = numbers(Tensor::from_integers(DType::U8, &[bytes.len() as u64], &bytes));
    let pixels = numbers(Tensor::from_integers(DType::U8, &[1, 2, 3], &[3, 2, 1, 6, 5, 4]));
    check(op("ImageDecoder").text("pixel_format", "BGR"), &[x], &[pixels]);
}

#[test]
fn what_is_wrong_with_text_is_named() {
    let refused = |node: NodeProto, domain: &str, reason: &str| {
        let node = NodeProto { domain: Some(domain.to_owned()), ..node };
        let mut model = model(graph(vec![input("x", DType::String, [2.into()])], vec![node], &["y"]));
        model.opset_import.push(opset_of("ai.onnx.ml", 4));
        let error = chain(&import(&model).unwrap_err());
        assert!(error.contains(reason), "{error}");
    };
    let on_x = |op_type| node(op_type, &["x"], &["y"]);
    refused(on_x("RegexFullMatch").text("pattern", "(?=a)"), "", "look-around");
    refused(
        on_x("StringNormalizer").text("case_change_action", "TITLE"),
        "",
        "`case_change_action` is `TITLE`",
    );
    let unequal = on_x("LabelEncoder").texts("keys_strings", &["a"]).ints("values_int64s", &[1, 2]);
    refused(unequal, "ai.onnx.ml", "1 keys and 2 values");
    let short = node("Constant", &[], &["y"]).tensor("value", stored("t", &[3], &["x"]));
    refused(short, "", "takes 3 values in its typed data; found 1");
    refused(node("Less", &["x", "x"], &["y"]), "", "a number type");
}
