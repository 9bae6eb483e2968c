//! Each rule of the bytecode verifier, by a program that breaks it.

use ired_module::code::{Buffer, Function, Inst, Label, OwnedInst};
use ired_module::{CodeProblem, DType, VerifyError, WriteError};

use crate::sample::{b, draft, s};

/// What the writer says to a function of 2 scalars, 2 buffers, one input of rank 2, one output of rank 1.
fn problem(body: Vec<OwnedInst>) -> Option<(u32, CodeProblem)> {
    let mut draft = draft();
    draft.signature.entries[0].outputs[0].dims.truncate(1);
    draft.functions[0] = Function {
        name: "f".into(),
        scalars: 2,
        buffers: 2,
        input_ranks: vec![2],
        output_ranks: vec![1],
        body,
    };
    match draft.to_bytes() {
        Ok(_) => None,
        Err(
            WriteError::Code { instruction, problem, .. } | WriteError::Encode { instruction, problem, .. },
        ) => Some((instruction, problem)),
        Err(other) => panic!("{other:?}"),
    }
}

fn input(dst: Buffer) -> OwnedInst {
    Inst::Input { dst, input: 0 }
}

fn output(src: Buffer) -> OwnedInst {
    Inst::Output { output: 0, src, dims: vec![s(0)] }
}

/// `insts`, then a sound end.
fn then_end(mut insts: Vec<OwnedInst>) -> Vec<OwnedInst> {
    insts.extend([input(b(0)), output(b(0)), Inst::Return]);
    insts
}

#[test]
fn every_bound_is_checked() {
    use CodeProblem as P;
    let dispatch = |entry, grid, bindings, constants| Inst::Dispatch { entry, grid, bindings, constants };
    let zero = [s(0); 3];
    for (inst, expected) in [
        (Inst::Constant { dst: s(2), value: 0 }, P::Scalar { found: 2, count: 2 }),
        (Inst::Check { condition: s(0), message: 99 }, P::Message { found: 99, count: 22 }),
        (Inst::InputDim { dst: s(0), input: 1, axis: 0 }, P::Input { found: 1, count: 1 }),
        (Inst::InputDim { dst: s(0), input: 0, axis: 2 }, P::Axis { found: 2, rank: 2 }),
        (Inst::Input { dst: b(2), input: 0 }, P::Buffer { found: 2, count: 2 }),
        (Inst::Input { dst: b(0), input: 1 }, P::Input { found: 1, count: 1 }),
        (Inst::Param { dst: b(0), param: 3 }, P::Param { found: 3, count: 3 }),
        (Inst::Release { buffer: b(1) }, P::Undefined { found: 1 }),
        (Inst::Move { dst: s(2), src: s(0) }, P::Scalar { found: 2, count: 2 }),
        (Inst::Move { dst: s(0), src: s(3) }, P::Scalar { found: 3, count: 2 }),
        (Inst::MoveBuffer { dst: b(2), src: b(0) }, P::Buffer { found: 2, count: 2 }),
        (Inst::MoveBuffer { dst: b(0), src: b(1) }, P::Undefined { found: 1 }),
        (Inst::Output { output: 1, src: b(0), dims: vec![s(0)] }, P::Output { found: 1, count: 1 }),
        (Inst::Output { output: 0, src: b(0), dims: vec![] }, P::OutputRank { found: 0, rank: 1 }),
        (Inst::Output { output: 0, src: b(0), dims: vec![s(0); 65] }, P::Rank),
        (dispatch(1, zero, vec![], vec![]), P::Entry { found: 1, count: 1 }),
        (dispatch(0, [s(0), s(0), s(7)], vec![], vec![]), P::Scalar { found: 7, count: 2 }),
        (dispatch(0, zero, vec![b(0), b(1), b(0)], vec![s(0)]), P::Undefined { found: 1 }),
        (dispatch(0, zero, vec![b(0)], vec![s(0)]), P::Bindings { found: 1, expected: 3 }),
        (dispatch(0, zero, vec![b(0); 3], vec![]), P::Constants { found: 0, expected: 1 }),
        (dispatch(0, zero, vec![b(0); 3], vec![s(0)]), P::WritesReadOnly { found: 0 }),
        (dispatch(0, zero, vec![b(0); 70_000], vec![]), P::ListTooLong),
        (Inst::Fill { dst: b(0), pattern: s(0), width: 3 }, P::FillWidth { found: 3 }),
        (Inst::Load { dst: s(0), src: b(0), offset: s(0), dtype: DType::F32 }, P::DType { found: 14 }),
        (Inst::Load { dst: s(0), src: b(0), offset: s(0), dtype: DType::I4 }, P::DType { found: 2 }),
        (Inst::ReturnScalar { value: s(0) }, P::NotBuffers),
        (Inst::Return, P::OutputUnset { found: 0 }),
        (Inst::Jump { to: Label(99) }, P::Label { found: 99, count: 5 }),
    ] {
        // Register 0 is defined before, register 1 is not.
        let body = then_end(vec![input(b(0)), inst.clone()]);
        assert_eq!(problem(body), Some((1, expected)), "{inst:?}");
    }
}

#[test]
fn functions_end() {
    assert_eq!(problem(vec![]), Some((0, CodeProblem::FallsOffTheEnd)));
    assert_eq!(problem(vec![Inst::Barrier]), Some((1, CodeProblem::FallsOffTheEnd)));
    assert_eq!(problem(vec![Inst::Jump { to: Label(0) }]), None);
}

#[test]
fn a_buffer_defined_on_one_way_only_is_undefined() {
    let either = |then_defines: bool| {
        vec![
            input(b(0)),
            Inst::JumpIf { condition: s(0), to: Label(4) },
            input(b(1)),
            Inst::Jump { to: Label(5) },
            if then_defines { input(b(1)) } else { Inst::Barrier },
            output(b(1)),
            Inst::Return,
        ]
    };
    assert_eq!(problem(either(true)), None);
    assert_eq!(problem(either(false)), Some((5, CodeProblem::Undefined { found: 1 })));
}

#[test]
fn constants_of_a_dispatch_are_registers() {
    let body = then_end(vec![
        Inst::Allocate { dst: b(1), bytes: s(0) },
        Inst::Dispatch { entry: 0, grid: [s(0); 3], bindings: vec![b(1); 3], constants: vec![s(3)] },
    ]);
    assert_eq!(problem(body), Some((1, CodeProblem::Scalar { found: 3, count: 2 })));
}

/// By copies, fills and kernels, through slices and around loops.
#[test]
fn what_is_written_is_never_an_input_or_a_parameter() {
    let own = |dst| Inst::Allocate { dst, bytes: s(0) };
    let slice = |dst, src| Inst::Slice { dst, src, offset: s(0), bytes: s(0) };
    let writes = |dst| {
        [
            Inst::Fill { dst, pattern: s(0), width: 1 },
            Inst::Copy { src: dst, dst },
            Inst::Dispatch { entry: 0, grid: [s(0); 3], bindings: vec![dst; 3], constants: vec![s(0)] },
        ]
    };
    for write in writes(b(1)) {
        let with = |before: &[OwnedInst]| {
            let mut body = before.to_vec();
            body.push(write.clone());
            problem(then_end(body))
        };
        assert_eq!(with(&[own(b(1))]), None);
        assert_eq!(with(&[own(b(1)), slice(b(1), b(1))]), None);
        let read_only = CodeProblem::WritesReadOnly { found: 1 };
        for source in [input(b(1)), Inst::Param { dst: b(1), param: 0 }] {
            assert_eq!(with(std::slice::from_ref(&source)), Some((1, read_only)));
            assert_eq!(with(&[source.clone(), slice(b(1), b(1))]), Some((2, read_only)));
            let moved = |source| with(&[source, Inst::MoveBuffer { dst: b(1), src: b(0) }]);
            let zero = |inst: &OwnedInst| match *inst {
                Inst::Param { param, .. } => Inst::Param { dst: b(0), param },
                _ => input(b(0)),
            };
            assert_eq!(moved(zero(&source)), Some((2, read_only)));
            assert_eq!(with(&[own(b(1)), Inst::MoveBuffer { dst: b(1), src: b(1) }]), None);
            // Whatever else it may hold.
            assert_eq!(with(&[source.clone(), own(b(1))]), Some((2, read_only)));
            assert_eq!(with(&[own(b(1)), source]), Some((1, CodeProblem::TakesReadOnly { found: 1 })));
        }
        let body = vec![
            own(b(1)),
            input(b(0)),
            output(b(0)),
            // 3: what the second round writes to is the input
            write.clone(),
            slice(b(1), b(0)),
            Inst::JumpIf { condition: s(0), to: Label(3) },
            Inst::Return,
        ];
        assert_eq!(problem(body), Some((4, CodeProblem::TakesReadOnly { found: 1 })));
    }
}

#[test]
fn a_release_in_a_loop_is_seen_by_the_next_round() {
    let body = vec![
        Inst::Allocate { dst: b(0), bytes: s(0) },
        output(b(0)),
        Inst::Copy { src: b(0), dst: b(0) },
        Inst::Release { buffer: b(0) },
        Inst::JumpIf { condition: s(0), to: Label(2) },
        Inst::Return,
    ];
    assert_eq!(problem(body), Some((2, CodeProblem::Undefined { found: 0 })));
}

#[test]
fn code_that_is_never_reached_is_bounded_but_may_stay() {
    let mut body = then_end(vec![]);
    body.extend([
        Inst::Load { dst: s(0), src: b(1), offset: s(0), dtype: DType::I8 },
        Inst::Jump { to: Label(4) },
        Inst::Jump { to: Label(0) },
    ]);
    assert_eq!(problem(body.clone()), None);
    body[3] = Inst::Copy { src: b(2), dst: b(0) };
    assert_eq!(problem(body), Some((3, CodeProblem::Buffer { found: 2, count: 2 })));
}

#[test]
fn scalar_functions_only_compute() {
    let mut draft = draft();
    draft.functions[1].body.insert(0, Inst::Barrier);
    let error = draft.to_bytes().unwrap_err();
    assert!(matches!(error, WriteError::Code { problem: CodeProblem::NotScalar, .. }), "{error:?}");
}

#[test]
fn signatures_fit_their_functions() {
    let refused = |change: fn(&mut ired_module::ModuleDraft)| {
        let mut draft = draft();
        change(&mut draft);
        match draft.to_bytes() {
            Err(WriteError::Invalid(VerifyError::EntryPoint { problem, .. })) => problem,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(refused(|d| d.signature.entries[0].function = 7), "there is no such function");
    assert_eq!(refused(|d| d.signature.entries[0].function = 1), "the function has no outputs");
    assert_eq!(refused(|d| drop(d.signature.entries[0].inputs.pop())), "inputs differ in number or rank");
    assert_eq!(
        refused(|d| drop(d.signature.entries[0].outputs[0].dims.pop())),
        "outputs differ in number or rank"
    );
    assert_eq!(
        refused(|d| d.functions[1].input_ranks = vec![2, 2]),
        "the function for its peak memory is not scalar or has other inputs"
    );
}

#[test]
fn names_are_found_once() {
    let mut draft = draft();
    let twin = draft.signature.entries[0].clone();
    draft.signature.entries.push(twin);
    assert!(matches!(draft.to_bytes(), Err(WriteError::Duplicate { what: "entry points", .. })));
}
