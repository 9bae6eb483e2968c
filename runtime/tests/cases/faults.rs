//! Verified schedules that still go wrong: each ends the call with its error, in bounded time and memory.

use ired_hal::{Inline, RecordError};
use ired_module::DType;
use ired_module::code::{ArithOp, Inst, Label, OwnedInst};
use ired_module::signature::DimSpec;
use ired_runtime::{Fault, InvokeError, InvokeOptions};

use crate::harness::*;

/// `insts` between `b0 = input, s0 = 0, s1 = 4, s2 = -1, b1 = allocate 4` and an output of `b1`.
fn error(insts: Vec<OwnedInst>) -> InvokeError {
    let mut body = vec![input(0, 0), constant(0, 0), constant(1, 4), constant(2, -1), allocate(1, 1)];
    body.extend(insts);
    body.extend([output(0, 1, &[ONE]), Inst::Return]);
    let one = [DimSpec::Static(1)];
    let draft = draft(vec![spec("x", DType::I32, &one)], vec![spec("y", DType::I32, &one)], body);
    let instance = instance(&draft);
    // Enough to fill a tape, and soon over.
    let options = InvokeOptions { inline: Inline::Allowed, fuel: 1 << 21, ..InvokeOptions::default() };
    let invoked = instance.invoke_with("main", vec![tensor(&instance, &[1], &[1])], &options);
    invoked.and_then(|invocation| invocation.wait(None)).expect_err("the schedule is wrong")
}

fn fault(insts: Vec<OwnedInst>) -> (u32, Fault) {
    match error(insts) {
        // One instruction before the schedule, five before `insts`.
        InvokeError::Fault { instruction, fault, function } if function == "schedule" => {
            (instruction - 6, fault)
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn each_fault_has_its_error() {
    let slice = |dst, src, offset, bytes| Inst::Slice {
        dst: b(dst),
        src: b(src),
        offset: s(offset),
        bytes: s(bytes),
    };
    let cases = [
        (vec![arith(ArithOp::FloorDiv, 3, 1, 0)], Fault::Arithmetic),
        (vec![allocate(2, 2)], Fault::OutOfRange { what: "size of an allocation", found: -1 }),
        (
            vec![dispatch(ADD_CONSTANT, 2, &[0, 1], &[0])],
            Fault::OutOfRange { what: "dimension of a grid", found: -1 },
        ),
        (vec![slice(2, 1, 1, 1)], Fault::OutOfBounds { offset: 4, bytes: 4, buffer_bytes: 4 }),
        (vec![slice(2, 1, 0, 2)], Fault::OutOfBounds { offset: 0, bytes: -1, buffer_bytes: 4 }),
        (vec![slice(2, 1, 2, 1)], Fault::OutOfBounds { offset: -1, bytes: 4, buffer_bytes: 4 }),
    ];
    for (insts, expected) in cases {
        assert_eq!(fault(insts), (0, expected));
    }
    assert_eq!(
        fault(vec![slice(2, 1, 0, 15), Inst::Copy { src: b(1), dst: b(2) }]),
        (1, Fault::CopyTooLong { src_bytes: 4, dst_bytes: 1 })
    );
    assert_eq!(fault(vec![slice(2, 1, 0, 0), Inst::Release { buffer: b(2) }]), (1, Fault::ReleasesSlice));
    let use_after = vec![
        slice(2, 1, 0, 1),
        Inst::Release { buffer: b(1) },
        Inst::Copy { src: b(2), dst: b(2) },
        allocate(1, 1),
    ];
    assert_eq!(fault(use_after), (2, Fault::Released));
}

#[test]
fn outputs_are_what_the_signature_says() {
    let static_four = [DimSpec::Static(4)];
    let body = |dims: u16| {
        vec![input(0, 0), constant(1, 4), constant(2, 8), allocate(1, 1), output(0, 1, &[dims]), Inst::Return]
    };
    let with = |dims| {
        let draft = draft(
            vec![spec("x", DType::I32, &static_four)],
            vec![spec("y", DType::I32, &static_four)],
            body(dims),
        );
        match call(&instance(&draft), &[(&[4], &[0; 4])]) {
            Err(InvokeError::Fault { fault, .. }) => fault,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(with(2), Fault::OutputDims { output: 0, found: vec![8] });
    assert_eq!(with(1), Fault::OutputTooShort { output: 0, needed_bytes: 16, buffer_bytes: 4 });
}

#[test]
fn schedules_without_an_end_end() {
    assert!(matches!(fault(vec![Inst::Jump { to: Label(5) }]).1, Fault::OutOfFuel { .. }));
    // Recording for ever happens in pieces, none of which fills memory.
    let record = vec![dispatch(ADD, ONE, &[0, 0, 1], &[]), Inst::Barrier, Inst::Jump { to: Label(5) }];
    assert!(matches!(fault(record).1, Fault::OutOfFuel { .. }));
    let allocate_ever = vec![allocate(2, 1), Inst::Jump { to: Label(5) }];
    assert!(matches!(fault(allocate_ever).1, Fault::TooManyAllocations { .. }));
    let wait_ever = vec![Inst::Await, Inst::Jump { to: Label(5) }];
    assert!(matches!(fault(wait_ever).1, Fault::OutOfFuel { .. }));
}

#[test]
fn memory_beyond_the_device_is_refused_before_it_is_asked_for() {
    for live in [false, true] {
        for bytes in [1 << 40, i64::MAX, i64::MAX - 64] {
            let mut insts = vec![constant(3, bytes), allocate(2, 3), allocate(3, 3), allocate(4, 3)];
            if live {
                insts.push(Inst::Await);
            }
            let error = error(insts);
            assert!(matches!(error, InvokeError::Allocate(_)), "{error:?}");
        }
    }
}

#[test]
fn what_the_device_refuses_to_record_is_an_error() {
    let odd = vec![
        constant(3, 3),
        Inst::Slice { dst: b(2), src: b(1), offset: s(0), bytes: s(3) },
        Inst::Fill { dst: b(2), pattern: s(0), width: 4 },
    ];
    let error = error(odd);
    assert!(matches!(error, InvokeError::Record(RecordError::UnalignedFill { .. })), "{error:?}");
}

/// A kernel that reads outside of its bindings fails the call, not the process.
#[test]
fn a_failing_device_fails_the_call() {
    for live in [vec![], vec![Inst::Await]] {
        let mut insts = vec![dispatch(ADD_CONSTANT, 1, &[0, 1], &[1])];
        insts.extend(live);
        let error = error(insts);
        assert!(matches!(error, InvokeError::Failed(_)), "{error:?}");
    }
}
