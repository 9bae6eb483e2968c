//! Loop and Scan: how often they run, what they carry, what they stack, what they see of the graph around them.

use ired_frontends::onnx::proto::*;
use ired_graph::{DType, Graph, Op, Tensor};

use crate::build::*;

fn scalar(name: &str, dtype: DType) -> ValueInfoProto {
    input(name, dtype, [])
}

fn int(value: i64) -> Tensor {
    Tensor::from_i64s(&[], &[value])
}

fn truth(value: bool) -> Tensor {
    Tensor::from_bools(&[], &[value])
}

fn has(graph: &Graph, wanted: fn(&Op) -> bool) -> bool {
    graph.live_nodes().iter().any(|(_, id)| wanted(&graph.node(*id).op))
}

/// `a, s = Loop(trips, condition, x)`: the body adds the outer `y` to what it carries, and stacks it.
fn accumulate(condition: NodeProto, symbolic: bool) -> ModelProto {
    let body = graph(
        vec![scalar("i", DType::I64), scalar("c", DType::Bool), input_f32("carried", &[2])],
        vec![condition, node("Add", &["carried", "y"], &["next"]), node("Identity", &["next"], &["slice"])],
        &["goes_on", "next", "slice"],
    );
    let sizes = |size: i64| if symbolic { [Size::from("n")] } else { [Size::from(size)] };
    model(graph(
        vec![scalar("trips", DType::I64), input("x", DType::F32, sizes(2)), input("y", DType::F32, sizes(2))],
        vec![node("Loop", &["trips", "", "x"], &["a", "s"]).graph("body", body)],
        &["a", "s"],
    ))
}

#[test]
fn a_loop_of_a_number_of_trips_waits_for_nothing() {
    for symbolic in [false, true] {
        let model = accumulate(node("Identity", &["c"], &["goes_on"]), symbolic);
        let imported = import(&model).unwrap();
        assert!(has(&imported, |op| matches!(op, Op::Repeat { .. })));
        let data = |trips| [int(trips), f32s(&[2], &[1.0, 2.0]), f32s(&[2], &[10.0, 20.0])];
        let found = run(&model, &data(2));
        assert_eq!(found[0], f32s(&[2], &[21.0, 42.0]));
        assert_eq!(found[1], f32s(&[2, 2], &[11.0, 22.0, 21.0, 42.0]));
        let found = run(&model, &data(-1));
        assert_eq!((&found[0], &found[1]), (&f32s(&[2], &[1.0, 2.0]), &f32s(&[0, 2], &[])));
    }
}

#[test]
fn a_loop_ends_when_its_condition_does() {
    // As long as the first iterations are.
    let three = raw("three", &int(2));
    let mut model = accumulate(node("Less", &["i", "three"], &["goes_on"]), true);
    model.graph.as_mut().unwrap().initializer.push(three);
    let imported = import(&model).unwrap();
    assert!(has(&imported, |op| matches!(op, Op::While)));
    let data = |trips| [int(trips), f32s(&[1], &[0.0]), f32s(&[1], &[1.0])];
    assert_eq!(run(&model, &data(100)), [f32s(&[1], &[3.0]), f32s(&[3, 1], &[1.0, 2.0, 3.0])]);
    assert_eq!(run(&model, &data(1)), [f32s(&[1], &[1.0]), f32s(&[1, 1], &[1.0])]);
}

#[test]
fn a_condition_that_does_not_hold_runs_nothing() {
    let body = graph(
        vec![scalar("i", DType::I64), scalar("c", DType::Bool), scalar("x0", DType::F32)],
        vec![node("Identity", &["c"], &["d"]), node("Neg", &["x0"], &["x1"])],
        &["d", "x1"],
    );
    let model = model(graph(
        vec![scalar("trips", DType::I64), scalar("go", DType::Bool), scalar("x", DType::F32)],
        vec![node("Loop", &["trips", "go", "x"], &["y"]).graph("body", body)],
        &["y"],
    ));
    let of = |go| run(&model, &[int(3), truth(go), f32s(&[], &[1.0])]).remove(0);
    assert_eq!((of(true), of(false)), (f32s(&[], &[-1.0]), f32s(&[], &[1.0])));
}

#[test]
fn what_a_loop_carries_may_grow() {
    // Each iteration appends as many copies of its number as that says, and stacks the size it then has.
    let body = graph(
        vec![scalar("i", DType::I64), scalar("c", DType::Bool), input("all", DType::I64, [Size::from("k")])],
        vec![
            node("Identity", &["c"], &["d"]),
            node("Unsqueeze", &["i", "zero"], &["many"]),
            node("Expand", &["i", "many"], &["copies"]),
            node("Concat", &["all", "copies"], &["more"]).int("axis", 0),
            node("Shape", &["more"], &["size"]),
        ],
        &["d", "more", "size"],
    );
    let mut model = model(graph(
        vec![scalar("trips", DType::I64)],
        vec![node("Loop", &["trips", "", "none"], &["all", "sizes"]).graph("body", body)],
        &["all", "sizes"],
    ));
    let outer = model.graph.as_mut().unwrap();
    outer.initializer = vec![raw_ints("none", &[]), raw_ints("zero", &[0])];
    let found = run(&model, &[int(4)]);
    assert_eq!(found[0], ints(&[1, 2, 2, 3, 3, 3]));
    assert_eq!(found[1], Tensor::from_i64s(&[4, 1], &[0, 1, 3, 6]));
    assert_eq!(run(&model, &[int(0)])[0], ints(&[]));
}

#[test]
fn slices_of_a_size_that_the_loop_finds_are_stacked() {
    let body = graph(
        vec![scalar("i", DType::I64), scalar("c", DType::Bool)],
        vec![node("Identity", &["c"], &["d"]), node("Range", &["zero", "end", "one"], &["r"])],
        &["d", "r"],
    );
    let mut model = model(graph(
        vec![scalar("trips", DType::I64), scalar("end", DType::I64)],
        vec![node("Loop", &["trips", ""], &["y"]).graph("body", body)],
        &["y"],
    ));
    model.graph.as_mut().unwrap().initializer = vec![raw("zero", &int(0)), raw("one", &int(1))];
    let found = run(&model, &[int(2), int(3)]).remove(0);
    assert_eq!(found, Tensor::from_i64s(&[2, 3], &[0, 1, 2, 0, 1, 2]));
}

#[test]
fn a_loop_that_nothing_can_end_or_carry_is_refused() {
    let body = || {
        graph(
            vec![scalar("i", DType::I64), scalar("c", DType::Bool), scalar("x0", DType::F32)],
            vec![node("Identity", &["c"], &["d"]), node("Unsqueeze", &["x0", "axes"], &["x1"])],
            &["d", "x1"],
        )
    };
    let mut model = model(graph(
        vec![scalar("trips", DType::I64), scalar("x", DType::F32)],
        vec![node("Loop", &["trips", "", "x"], &["y"]).graph("body", body())],
        &["y"],
    ));
    model.graph.as_mut().unwrap().initializer = vec![raw_ints("axes", &[0])];
    let problem = chain(&import(&model).unwrap_err());
    assert!(problem.contains("rank"), "{problem}");
}

#[test]
fn scans_go_either_way_along_any_axis() {
    let body = || {
        graph(
            vec![scalar("s", DType::F32), scalar("e", DType::F32)],
            vec![node("Add", &["s", "e"], &["t"]), node("Identity", &["t"], &["o"])],
            &["t", "o"],
        )
    };
    let scan = |reverse: i64, out: i64| {
        node("Scan", &["s", "x"], &["last", "all"])
            .int("num_scan_inputs", 1)
            .ints("scan_input_directions", &[reverse])
            .ints("scan_output_directions", &[out])
            .graph("body", body())
    };
    let inputs = || vec![scalar("s", DType::F32), input("x", DType::F32, [Size::from("n")])];
    let of = |node| {
        run(
            &model(graph(inputs(), vec![node], &["last", "all"])),
            &[f32s(&[], &[1.0]), f32s(&[3], &[1.0, 2.0, 4.0])],
        )
    };
    assert_eq!(of(scan(0, 0)), [f32s(&[], &[8.0]), f32s(&[3], &[2.0, 4.0, 8.0])]);
    assert_eq!(of(scan(1, 0)), [f32s(&[], &[8.0]), f32s(&[3], &[5.0, 7.0, 8.0])]);
    assert_eq!(of(scan(1, 1)), [f32s(&[], &[8.0]), f32s(&[3], &[8.0, 7.0, 5.0])]);
    let columns =
        graph(vec![input("e", DType::F32, [Size::from("r")])], vec![node("Neg", &["e"], &["o"])], &["o"]);
    let along = node("Scan", &["x"], &["y"])
        .int("num_scan_inputs", 1)
        .ints("scan_input_axes", &[1])
        .ints("scan_output_axes", &[-1])
        .graph("body", columns);
    let x = f32s(&[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    let sizes = ["r", "k"].map(Size::from);
    let found = run(&model(graph(vec![input("x", DType::F32, sizes)], vec![along], &["y"])), &[x]);
    assert_eq!(found[0], f32s(&[2, 3], &[-1.0, -2.0, -3.0, -4.0, -5.0, -6.0]));
}

#[test]
fn the_first_scan_has_batches_of_sequences() {
    let body = graph(
        vec![scalar("s", DType::F32), scalar("e", DType::F32)],
        vec![node("Add", &["s", "e"], &["t"]), node("Identity", &["t"], &["o"])],
        &["t", "o"],
    );
    let scan = node("Scan", &["lengths", "s", "x"], &["last", "all"]).int("num_scan_inputs", 1);
    let model = model_of(
        8,
        graph(
            vec![input("lengths", DType::I64, [2.into()]), input_f32("s", &[2]), input_f32("x", &[2, 3])],
            vec![scan.graph("body", body)],
            &["last", "all"],
        ),
    );
    let x = f32s(&[2, 3], &[1.0, 2.0, 3.0, 10.0, 20.0, 30.0]);
    let found = run(&model, &[ints(&[3, 2]), f32s(&[2], &[0.0, 1.0]), x]);
    assert_eq!(found[0], f32s(&[2], &[6.0, 31.0]));
    assert_eq!(found[1], f32s(&[2, 3], &[1.0, 3.0, 6.0, 11.0, 31.0, 0.0]));
}
