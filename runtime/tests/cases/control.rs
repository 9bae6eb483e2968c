//! Schedules that decide: on dimensions, on results, with checks and loops.

use ired_module::code::{ArithOp, Inst, Label, OwnedInst};
use ired_module::signature::DimSpec;
use ired_module::{DType, ModuleDraft};
use ired_runtime::{Fault, InvokeError};

use crate::harness::*;

on_each_device!(
    a_check_ends_the_call_with_its_message,
    a_loop_over_a_dimension_is_recorded_whole,
    a_loop_over_results_waits_for_each,
    results_are_not_looked_at_before_they_are_there,
    every_loadable_type_is_read_as_a_number,
    dimensions_may_be_results,
    a_loop_carries_buffers_and_sizes,
    more_work_than_a_recording_holds_runs_in_pieces,
);

fn a_check_ends_the_call_with_its_message() {
    let n = [dynamic("n")];
    let draft = draft(
        vec![spec("x", DType::I32, &n)],
        vec![spec("y", DType::I32, &n)],
        vec![
            dim(0, 0, 0),
            constant(1, 2),
            arith(ArithOp::Mod, 2, 0, 1),
            constant(3, 0),
            arith(ArithOp::Eq, 4, 2, 3),
            Inst::Check { condition: s(4), message: 0 },
            input(0, 0),
            output(0, 0, &[0]),
            Inst::Return,
        ],
    );
    let instance = instance(&draft);
    assert_eq!(call(&instance, &[(&[2], &[1, 2])]).unwrap().1, [1, 2]);
    let error = call(&instance, &[(&[3], &[1, 2, 3])]).unwrap_err();
    assert_eq!(error.to_string(), "rows must be even");
}

/// A loop over a dimension records a dispatch for each round.
fn a_loop_over_a_dimension_is_recorded_whole() {
    let n = [dynamic("n")];
    let draft = draft(
        vec![spec("x", DType::I32, &n)],
        vec![spec("y", DType::I32, &[DimSpec::Static(1)])],
        vec![
            constant(0, 4),
            constant(1, 0),
            dim(2, 0, 0),
            input(0, 0),
            allocate(1, 0),
            Inst::Fill { dst: b(1), pattern: s(1), width: 4 },
            // 6: while s3 < n { y += x[s3] }
            arith(ArithOp::Lt, 4, 3, 2),
            Inst::JumpIf { condition: s(4), to: Label(10) },
            output(0, 1, &[ONE]),
            Inst::Return,
            // 10
            Inst::Barrier,
            arith(ArithOp::Mul, 5, 3, 0),
            Inst::Slice { dst: b(2), src: b(0), offset: s(5), bytes: s(0) },
            dispatch(ADD, ONE, &[1, 2, 1], &[]),
            arith(ArithOp::Add, 3, 3, ONE),
            Inst::Jump { to: Label(6) },
        ],
    );
    let instance = instance(&draft);
    for x in [vec![], vec![5], vec![1, 2, 3, 4]] {
        let sum: i32 = x.iter().sum();
        assert_eq!(call(&instance, &[(&[x.len() as u64], &x)]).unwrap().1, [sum]);
    }
}

/// `y = x + 1` again and again until it is at least 10; each round looks at the last.
fn count_to_ten(await_before_load: bool) -> ModuleDraft {
    let one = [DimSpec::Static(1)];
    let mut body: Vec<OwnedInst> = vec![
        constant(0, 4),
        constant(1, 10),
        constant(2, 0),
        input(0, 0),
        allocate(1, 0),
        Inst::Copy { src: b(0), dst: b(1) },
        Inst::Await,
        // 7: while y < 10
        Inst::Load { dst: s(3), src: b(1), offset: s(2), dtype: DType::I32 },
        arith(ArithOp::Le, 4, 1, 3),
        Inst::JumpIf { condition: s(4), to: Label(16) },
        allocate(2, 0),
        dispatch(ADD_CONSTANT, ONE, &[1, 2], &[ONE]),
        Inst::Barrier,
        Inst::Copy { src: b(2), dst: b(1) },
        Inst::Release { buffer: b(2) },
        Inst::Jump { to: Label(7) },
        // 16
        output(0, 1, &[ONE]),
        output(1, 0, &[ONE]),
        Inst::Return,
    ];
    if await_before_load {
        body[15] = Inst::Jump { to: Label(6) };
    }
    draft(
        vec![spec("x", DType::I32, &one)],
        vec![spec("y", DType::I32, &one), spec("x_again", DType::I32, &one)],
        body,
    )
}

fn a_loop_over_results_waits_for_each() {
    let instance = instance(&count_to_ten(true));
    for x in [3, 9, 10, 50, -2000] {
        let inputs = vec![tensor(&instance, &[1], &[x])];
        let outputs = instance.run("main", inputs.clone(), None).unwrap();
        assert_eq!((values(&outputs[0]), values(&outputs[1])), (vec![x.max(10)], vec![x]));
        let invocation = instance.invoke("main", inputs).unwrap();
        assert_eq!(values(&invocation.take_outputs(None).unwrap()[0]), [x.max(10)]);
    }
}

fn results_are_not_looked_at_before_they_are_there() {
    let instance = instance(&count_to_ten(false));
    let error = instance.run("main", vec![tensor(&instance, &[1], &[3])], None).unwrap_err();
    assert!(matches!(error, InvokeError::Fault { fault: Fault::LoadBeforeAwait, .. }), "{error:?}");
    // Without a round there is nothing pending.
    assert!(instance.run("main", vec![tensor(&instance, &[1], &[10])], None).is_ok());
}

fn every_loadable_type_is_read_as_a_number() {
    for (dtype, stored, expected) in [
        (DType::Bool, [2, 0, 0, 0, 0, 0, 0, 0], 1),
        (DType::I8, [0xff, 0, 0, 0, 0, 0, 0, 0], -1),
        (DType::U8, [0xff, 0, 0, 0, 0, 0, 0, 0], 255),
        (DType::I16, [0, 0x80, 0, 0, 0, 0, 0, 0], -32768),
        (DType::U16, [0, 0x80, 0, 0, 0, 0, 0, 0], 32768),
        (DType::I32, [0xfe, 0xff, 0xff, 0xff, 1, 1, 1, 1], -2),
        (DType::U32, [0xfe, 0xff, 0xff, 0xff, 1, 1, 1, 1], 0xffff_fffe),
        (DType::I64, [0xfd, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff], -3),
        (DType::U64, [1, 0, 0, 0, 1, 0, 0, 0], (1 << 32) + 1),
    ] {
        let draft = draft(
            vec![spec("x", DType::I32, &[DimSpec::Static(2)])],
            vec![spec("y", DType::I32, &[dynamic("k")])],
            vec![
                constant(0, 0),
                constant(1, expected),
                input(0, 0),
                Inst::Load { dst: s(2), src: b(0), offset: s(0), dtype },
                arith(ArithOp::Eq, 3, 1, 2),
                Inst::Check { condition: s(3), message: 0 },
                output(0, 0, &[3]),
                Inst::Return,
            ],
        );
        let instance = instance(&draft);
        let x: Vec<i32> =
            stored.chunks_exact(4).map(|c| i32::from_le_bytes([c[0], c[1], c[2], c[3]])).collect();
        assert!(call(&instance, &[(&[2], &x)]).is_ok(), "{dtype}");
    }
}

/// The number of results is a result: `y` has as many elements as `x[0]` says.
fn dimensions_may_be_results() {
    let draft = draft(
        vec![spec("x", DType::I32, &[dynamic("n")])],
        vec![spec("y", DType::I32, &[dynamic("found")])],
        vec![
            constant(0, 0),
            constant(1, 4),
            input(0, 0),
            Inst::Load { dst: s(2), src: b(0), offset: s(0), dtype: DType::I32 },
            arith(ArithOp::Mul, 3, 2, 1),
            allocate(1, 3),
            dispatch(ADD_CONSTANT, 2, &[0, 1], &[1]),
            output(0, 1, &[2]),
            Inst::Return,
        ],
    );
    let instance = instance(&draft);
    assert_eq!(call(&instance, &[(&[3], &[2, 7, 7])]).unwrap(), (vec![2], vec![6, 11]));
    assert_eq!(call(&instance, &[(&[3], &[0, 7, 7])]).unwrap(), (vec![0], vec![]));
    let error = call(&instance, &[(&[3], &[-1, 7, 7])]).unwrap_err();
    assert!(
        matches!(error, InvokeError::Fault { fault: Fault::OutOfRange { found: -4, .. }, .. }),
        "{error:?}"
    );
}

/// `y` has one element, and one more for each round; a round takes a new buffer and lets go of the one before.
fn growing(count: OwnedInst) -> ModuleDraft {
    draft(
        vec![spec("x", DType::I32, &[dynamic("n")])],
        vec![spec("y", DType::I32, &[dynamic("rounds")])],
        vec![
            constant(0, 0),
            constant(1, 4),
            input(0, 0),
            count,
            // What is carried: b1, s3 elements; s2 rounds are left.
            Inst::Move { dst: s(3), src: s(ONE) },
            allocate(2, 1),
            Inst::Fill { dst: b(2), pattern: s(2), width: 4 },
            Inst::Barrier,
            Inst::MoveBuffer { dst: b(1), src: b(2) },
            // 9
            Inst::JumpIf { condition: s(2), to: Label(12) },
            output(0, 1, &[3]),
            Inst::Return,
            // 12
            arith(ArithOp::Add, 4, 3, ONE),
            arith(ArithOp::Mul, 5, 4, 1),
            allocate(3, 5),
            Inst::Copy { src: b(1), dst: b(3) },
            arith(ArithOp::Mul, 6, 3, 1),
            Inst::Slice { dst: b(4), src: b(3), offset: s(6), bytes: s(1) },
            Inst::Fill { dst: b(4), pattern: s(2), width: 4 },
            Inst::Barrier,
            Inst::Release { buffer: b(1) },
            Inst::MoveBuffer { dst: b(1), src: b(3) },
            Inst::Move { dst: s(3), src: s(4) },
            arith(ArithOp::Sub, 2, 2, ONE),
            Inst::Jump { to: Label(9) },
        ],
    )
}

fn a_loop_carries_buffers_and_sizes() {
    let loaded = Inst::Load { dst: s(2), src: b(0), offset: s(0), dtype: DType::I32 };
    let of_dimension = instance(&growing(dim(2, 0, 0)));
    let of_data = instance(&growing(loaded));
    for n in [0, 1, 5] {
        let expected: Vec<i32> = std::iter::once(n).chain((1..=n).rev()).collect();
        let x = vec![n; n as usize];
        let found = call(&of_dimension, &[(&[n as u64], &x)]).unwrap();
        assert_eq!(found, (vec![n as u64 + 1], expected.clone()));
        let found = call(&of_data, &[(&[1], &[n])]).unwrap();
        assert_eq!(found, (vec![n as u64 + 1], expected));
    }
}

/// Also where looking at results is no reason for pieces.
fn more_work_than_a_recording_holds_runs_in_pieces() {
    let one = [DimSpec::Static(1)];
    let draft = draft(
        vec![spec("x", DType::I32, &one)],
        vec![spec("y", DType::I32, &one)],
        vec![
            constant(0, 1_100_000),
            constant(1, 4),
            input(0, 0),
            allocate(1, 1),
            dispatch(ADD_CONSTANT, ONE, &[0, 1], &[ONE]),
            // 5
            Inst::Barrier,
            arith(ArithOp::Sub, 0, 0, ONE),
            Inst::JumpIf { condition: s(0), to: Label(5) },
            allocate(2, 1),
            dispatch(ADD_CONSTANT, ONE, &[1, 2], &[ONE]),
            output(0, 2, &[ONE]),
            Inst::Return,
        ],
    );
    assert_eq!(call(&instance(&draft), &[(&[1], &[5])]).unwrap().1, [7]);
}
