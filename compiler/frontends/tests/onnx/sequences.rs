//! Sequences and optional values: composed, taken apart, carried by loops, given and taken by the model.

use ired_frontends::onnx::proto::*;
use ired_graph::{DType, Tensor, interpret};
use prost::Message;

use crate::build::*;

/// `x` of 2 x 3 and a scalar position.
fn inputs() -> Vec<ValueInfoProto> {
    vec![input("x", DType::F32, ["n", "m"].map(Size::from)), input("at", DType::I64, [])]
}

fn data(at: i64) -> [Tensor; 2] {
    [f32s(&[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]), Tensor::from_i64s(&[], &[at])]
}

fn of(nodes: Vec<NodeProto>, at: i64) -> Tensor {
    run(&model(graph(inputs(), nodes, &["y"])), &data(at)).remove(0)
}

/// The columns of `x`, as a sequence of 2 x 1.
fn columns() -> NodeProto {
    node("SplitToSequence", &["x"], &["s"]).int("axis", 1)
}

#[test]
fn tensors_of_a_sequence_are_found_by_position() {
    let at = |position| of(vec![columns(), node("SequenceAt", &["s", "at"], &["y"])], position);
    assert_eq!(at(0), f32s(&[2, 1], &[1.0, 4.0]));
    assert_eq!(at(-1), f32s(&[2, 1], &[3.0, 6.0]));
}

#[test]
fn sequences_grow_and_shrink() {
    let joined = |change: NodeProto, at: i64| {
        let join = node("ConcatFromSequence", &["t"], &["y"]).int("axis", 1);
        of(vec![columns(), node("Neg", &["x"], &["minus"]), change, join], at)
    };
    let inserted = joined(node("SequenceInsert", &["s", "minus", "at"], &["t"]), 1);
    let row = [1.0, -1.0, -2.0, -3.0, 2.0, 3.0, 4.0, -4.0, -5.0, -6.0, 5.0, 6.0];
    assert_eq!(inserted, f32s(&[2, 6], &row));
    let erased = joined(node("SequenceErase", &["s", "at"], &["t"]), -2);
    assert_eq!(erased, f32s(&[2, 2], &[1.0, 3.0, 4.0, 6.0]));
    let length =
        of(vec![columns(), node("SequenceErase", &["s"], &["t"]), node("SequenceLength", &["t"], &["y"])], 0);
    assert_eq!(length, Tensor::from_i64s(&[], &[2]));
}

#[test]
fn sequences_are_stacked_or_joined() {
    let chunks = node("SplitToSequence", &["x", "two"], &["s"]).int("axis", 1);
    let run_with = |nodes: Vec<NodeProto>| {
        let mut g = graph(inputs(), nodes, &["y"]);
        g.initializer = vec![raw("two", &Tensor::from_i64s(&[], &[2])), raw_ints("parts", &[1, 2])];
        run(&model(g), &data(0)).remove(0)
    };
    let last = run_with(vec![chunks.clone(), node("SequenceAt", &["s", "at"], &["y"])]);
    assert_eq!(last, f32s(&[2, 2], &[1.0, 2.0, 4.0, 5.0]));
    let whole = run_with(vec![chunks, node("ConcatFromSequence", &["s"], &["y"]).int("axis", 1)]);
    assert_eq!(whole, data(0)[0]);
    let parts = node("SplitToSequence", &["x", "parts"], &["s"]).int("axis", 1);
    let whole = run_with(vec![parts, node("ConcatFromSequence", &["s"], &["y"]).int("axis", -1)]);
    assert_eq!(whole, data(0)[0]);
    let stacked = run_with(vec![
        node("SequenceConstruct", &["x", "x"], &["s"]),
        node("ConcatFromSequence", &["s"], &["y"]).int("axis", 2).int("new_axis", 1),
    ]);
    assert_eq!(stacked.shape(), [2, 3, 2]);
}

#[test]
fn a_loop_carries_a_sequence() {
    let body = graph(
        vec![input("i", DType::I64, []), input("c", DType::Bool, []), input_f32("s0", &[])],
        vec![
            node("Identity", &["c"], &["d"]),
            node("Add", &["i", "one"], &["end"]),
            node("Unsqueeze", &["end", "zero"], &["ends"]),
            node("Slice", &["x", "zero", "ends", "second"], &["part"]),
            node("SequenceInsert", &["s0", "part"], &["s1"]),
        ],
        &["d", "s1"],
    );
    let mut g = graph(
        inputs(),
        vec![
            node("SequenceEmpty", &[], &["none"]),
            node("Loop", &["at", "", "none"], &["s"]).graph("body", body),
            node("ConcatFromSequence", &["s"], &["y"]).int("axis", 1),
        ],
        &["y"],
    );
    g.initializer =
        vec![raw("one", &Tensor::from_i64s(&[], &[1])), raw_ints("zero", &[0]), raw_ints("second", &[1])];
    let found = run(&model(g), &data(2)).remove(0);
    assert_eq!(found, f32s(&[2, 3], &[1.0, 1.0, 2.0, 4.0, 4.0, 5.0]));
}

#[test]
fn a_map_makes_a_sequence_of_a_sequence() {
    let body = graph(vec![input_f32("e", &[2, 1])], vec![node("Shape", &["e"], &["o"])], &["o"]);
    let mapped = of(
        vec![
            columns(),
            node("SequenceMap", &["s"], &["t"]).graph("body", body),
            node("ConcatFromSequence", &["t"], &["y"]).int("axis", 0).int("new_axis", 1),
        ],
        0,
    );
    assert_eq!(mapped, Tensor::from_i64s(&[3, 2], &[2, 1, 2, 1, 2, 1]));
}

#[test]
fn a_model_gives_a_sequence_as_its_elements_and_shapes() {
    let model = model(graph(inputs(), vec![columns()], &["s"]));
    let imported = import(&model).unwrap();
    let names = imported.outputs().iter().map(|v| imported.value(*v).name.clone().unwrap());
    assert_eq!(names.collect::<Vec<_>>(), ["s.values", "s.shapes"]);
    let found = run(&model, &data(0));
    assert_eq!(found[0], f32s(&[6], &[1.0, 4.0, 2.0, 5.0, 3.0, 6.0]));
    assert_eq!(found[1], Tensor::from_i64s(&[3, 2], &[2, 1, 2, 1, 2, 1]));
}

#[test]
fn optional_values_say_whether_they_are_there() {
    let has = |nodes: Vec<NodeProto>| of(nodes, 0).to_bools();
    assert_eq!(has(vec![node("OptionalHasElement", &["x"], &["y"])]), [true]);
    let empty = vec![node("Optional", &[], &["o"]), node("OptionalHasElement", &["o"], &["y"])];
    assert_eq!(has(empty), [false]);
    let held = vec![node("Optional", &["x"], &["o"]), node("OptionalGetElement", &["o"], &["y"])];
    assert_eq!(of(held, 0), data(0)[0]);
}

/// What is not there is an error where it is asked for, and only there.
#[test]
fn an_absent_value_is_an_error_of_the_run() {
    let held = input_f32("o", &[2]).r#type;
    let held = HeldTypeProto { elem_type: held }.encode_to_vec().into();
    let optional = TypeProto { value: Some(type_proto::Value::OptionalType(held)) };
    let inputs = vec![ValueInfoProto { name: Some("o".to_owned()), r#type: Some(optional) }];
    let get = || node("OptionalGetElement", &["o"], &["y"]).named("get");
    let model = model(graph(inputs.clone(), vec![get()], &["y"]));
    let g = import(&model).unwrap();
    let x = f32s(&[2], &[1.0, 2.0]);
    let flag = |there| Tensor::from_bools(&[], &[there]);
    assert_eq!(interpret(&g, &[flag(true), x.clone()]).unwrap(), [x]);
    let error = interpret(&g, &[flag(false), f32s(&[0], &[])]).unwrap_err();
    assert!(chain(&error).contains("present"), "{}", chain(&error));
    // Behind a question nothing is asked for.
    let otherwise = node("Constant", &[], &["z"]).floats("value_floats", &[7.0, 8.0]);
    let guarded = node("If", &["there"], &["y"])
        .graph("then_branch", graph(vec![], vec![node("OptionalGetElement", &["o"], &["z"])], &["z"]))
        .graph("else_branch", graph(vec![], vec![otherwise], &["z"]));
    let nodes = vec![node("OptionalHasElement", &["o"], &["there"]), guarded];
    let g = import(&crate::build::model(graph(inputs, nodes, &["y"]))).unwrap();
    let found = interpret(&g, &[flag(false), f32s(&[0], &[])]).unwrap();
    assert_eq!(found, [f32s(&[2], &[7.0, 8.0])]);
}

#[test]
fn parts_that_do_not_add_up_are_an_error_of_the_run() {
    let split = node("Split", &["x", "sizes"], &["y", "z"]).int("axis", 1);
    let inputs = vec![input_f32("x", &[2, 3]), input("sizes", DType::I64, [2.into()])];
    let g = import(&model(graph(inputs, vec![split], &["y", "z"]))).unwrap();
    let x = f32s(&[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    let found = interpret(&g, &[x.clone(), ints(&[1, 2])]).unwrap();
    assert_eq!(found, [f32s(&[2, 1], &[1.0, 4.0]), f32s(&[2, 2], &[2.0, 3.0, 5.0, 6.0])]);
    for sizes in [[1, 1], [2, 2]] {
        interpret(&g, &[x.clone(), ints(&sizes)]).unwrap_err();
    }
}
