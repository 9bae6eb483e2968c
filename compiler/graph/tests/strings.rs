//! Strings and host functions: text form, verifier, interpreter, rewriting.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use ired_graph::{
    Builder, CompareFn, DType, Dim, Graph, InterpretError, Limits, Op, Tensor, TensorType, interpret,
    interpret_strings, parse, verify,
};
use ired_host::{Parse, RegexFullMatch, StringConcat, StringSplit, StringTable};

const SPLIT: &str = r#"graph split {
  symbol n
  symbol pieces
  string ","
  string "odd \"text\""
  string hex"ff"
  body(%0 "x" : string[n]) {
    %1, %2 = host %0 function="string_split.1" attributes=hex"01012c00" symbols=[pieces] : string[n, pieces], i64[n] from "/split" "StringSplit"
    %3 = constant [",", "", "odd \"text\""] : string[3]
    %4 = constant hex"0300000000000000" : string[1]
    %5 = reshape %1 : string[n*pieces]
    yield %5, %2, %3, %4
  }
}
"#;

fn strings(table: &mut StringTable, shape: &[u64], texts: &[&str]) -> Tensor {
    let handles: Vec<u64> = texts.iter().map(|t| table.intern(t.as_bytes()).unwrap()).collect();
    Tensor::from_handles(shape, &handles)
}

fn texts(table: &StringTable, tensor: &Tensor) -> Vec<String> {
    let text = |handle| String::from_utf8_lossy(table.get(handle).unwrap()).into_owned();
    tensor.to_handles().into_iter().map(text).collect()
}

#[test]
fn strings_and_host_functions_read_back_and_run() {
    let graph = parse(SPLIT).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(verify(&graph), Ok(()));
    assert_eq!(graph.to_string(), SPLIT);
    assert_eq!(graph.compact().to_string(), SPLIT);
    let mut table = graph.call_strings();
    let x = strings(&mut table, &[2], &["a,b", "c"]);
    let outputs = interpret_strings(&graph, &[x], Limits::default(), &mut table).unwrap();
    assert_eq!(texts(&table, &outputs[0]), ["a", "b", "c", ""]);
    assert_eq!(outputs[1], Tensor::from_i64s(&[2], &[2, 1]));
    assert_eq!(texts(&table, &outputs[2]), [",", "", "odd \"text\""]);
    assert_eq!(table.get(outputs[3].to_handles()[0]), Some(&b"\xff"[..]));
    assert_eq!(graph.strings.len(), 4, "a run adds nothing to the graph");
}

#[test]
fn what_a_function_gives_has_to_be_what_the_graph_says() {
    let wrong = SPLIT.replace("i64[n] from", "i64[7] from");
    let graph = parse(&wrong).unwrap();
    let mut table = graph.call_strings();
    let x = strings(&mut table, &[2], &["a", "b"]);
    let error = interpret_strings(&graph, &[x], Limits::default(), &mut table).unwrap_err();
    assert!(matches!(error, InterpretError::ResultType { .. }), "{error}");
}

#[test]
fn malformed_host_functions_are_refused() {
    let refused = |from: &str, to: &str, reason: &str| {
        let error = parse(&SPLIT.replace(from, to)).unwrap_err().to_string();
        assert!(error.contains(reason), "{error}");
    };
    refused("string_split.1", "string_split.9", "there is no host function `string_split.9`");
    refused("01012c00", "01", "the attributes of host function `string_split.1` cannot be read");
    refused("symbols=[pieces]", "symbols=[2]", "`symbols` is a list of symbols");
    refused("string[n, pieces]", "string[n, 3]", "which is no dimension of a result");
    refused("i64[n] from", "i4[n] from", "are of i4");
    refused("  string \",\"\n", "  string \",\"\n  string \",\"\n", "this string is declared twice");
}

#[test]
fn strings_move_and_compare_and_do_nothing_else() {
    let mut graph = Graph::new("strings");
    let x = graph.add_input("x", TensorType::of_sizes(DType::String, &[2]));
    let a = graph.intern(b"a").unwrap();
    let mut b = Builder::new(&mut graph);
    let a = b.constant(Tensor::from_handles(&[], &[a])).unwrap();
    let is_a = b.compare_broadcast(CompareFn::Eq, x, a).unwrap();
    let both = b.concat(&[x, x], 0).unwrap();
    assert!(b.compare_broadcast(CompareFn::Lt, x, a).is_err());
    assert!(b.push(Op::Cast(DType::F32), &[x]).is_err());
    assert!(b.push(Op::Cast(DType::String), &[is_a]).is_err());
    assert!(b.iota(DType::String, vec![2.into()], 0).is_err());
    assert!(b.unary(ired_graph::UnaryFn::Neg, x).is_err());
    graph.set_outputs(graph.body, vec![is_a, both]);
    assert_eq!(verify(&graph), Ok(()));
    let mut table = graph.call_strings();
    let x = strings(&mut table, &[2], &["b", "a"]);
    let outputs = interpret_strings(&graph, &[x], Limits::default(), &mut table).unwrap();
    assert_eq!(outputs[0], Tensor::from_bools(&[2], &[false, true]));
    assert_eq!(texts(&table, &outputs[1]), ["b", "a", "b", "a"]);
}

#[test]
fn a_failing_function_is_named_with_its_node() {
    let mut graph = Graph::new("numbers");
    let text = graph.intern(b"four").unwrap();
    let mut b = Builder::new(&mut graph);
    let text = b.constant(Tensor::from_handles(&[], &[text])).unwrap();
    let results = vec![TensorType::scalar(DType::F32)];
    let number = b.host(&Parse { to: ired_host::DType::F32 }, &[text], results, vec![]).unwrap();
    graph.set_outputs(graph.body, number);
    let InterpretError::Node { cause, .. } = interpret(&graph, &[]).unwrap_err() else { panic!() };
    assert_eq!(cause.to_string(), "`parse.1`: \"four\" is no f32");
}

#[test]
fn functions_whose_results_nobody_uses_are_dead_and_others_never_fold() {
    let mut graph = Graph::new("dead");
    let text = graph.intern(b"a").unwrap();
    let mut b = Builder::new(&mut graph);
    let text = b.constant(Tensor::from_handles(&[1], &[text])).unwrap();
    let n = b.graph.symbols.named("n");
    let shape = vec![Dim::constant(1), Dim::symbol(n)];
    let results = vec![TensorType::new(DType::String, shape), TensorType::of_sizes(DType::I64, &[1])];
    b.host(&StringSplit { delimiter: None, max_splits: None }, &[text], results, vec![n]).unwrap();
    let joined =
        b.host(&StringConcat, &[text, text], vec![TensorType::of_sizes(DType::String, &[1])], vec![]);
    let pattern = RegexFullMatch { pattern: "a+".to_owned() };
    let results = vec![TensorType::of_sizes(DType::Bool, &[1])];
    let matches = b.host(&pattern, &joined.unwrap(), results, vec![]).unwrap();
    graph.set_outputs(graph.body, matches);
    assert_eq!(verify(&graph), Ok(()));
    assert_eq!(graph.remove_dead_nodes(), 1);
    assert_eq!(verify(&graph), Ok(()));
    assert_eq!(interpret(&graph, &[]).unwrap(), [Tensor::from_bools(&[1], &[true])]);
}
