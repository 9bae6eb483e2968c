//! Random schedules that pass verification: each call ends, with outputs or an error, and the next call works.
//! Recorded whole or piece by piece, a schedule gives the same.

use ired_hal::Inline;
use ired_module::DType;
use ired_module::code::{ArithOp, Inst, Label, OwnedInst};
use ired_runtime::{Instance, InstanceOptions, InvokeError, InvokeOptions, LoadedModule, MemoryBudget};
use proptest::prelude::*;

use crate::harness::*;

/// Any instruction over scalars 0..6, buffers 0..6, one input and one output of rank 1, and jumps below `length`.
fn any_inst(length: u32) -> impl Strategy<Value = OwnedInst> {
    let scalar = || (0u16..6).prop_map(s);
    let buffer = || (0u16..6).prop_map(b);
    // What may be written to: register 0 holds inputs and parameters.
    let own = || (1u16..6).prop_map(b);
    let label = move || (0..length).prop_map(Label);
    let value = prop_oneof![
        12 => prop_oneof![Just(0i64), Just(1), Just(4), Just(8)],
        4 => -2i64..40,
        1 => prop_oneof![any::<i64>(), Just(i64::MAX), Just(i64::MIN), Just(1 << 31), Just(1 << 40)],
    ];
    prop_oneof![
        3 => (scalar(), value).prop_map(|(dst, value)| Inst::Constant { dst, value }),
        2 => (0usize..14, 0u16..6, 0u16..6, 0u16..6).prop_map(|(op, d, l, r)| arith(ArithOp::ALL[op], d, l, r)),
        1 => (scalar(), scalar()).prop_map(|(dst, src)| Inst::Move { dst, src }),
        2 => (buffer(), own()).prop_map(|(dst, src)| Inst::MoveBuffer { dst, src }),
        1 => label().prop_map(|to| Inst::Jump { to }),
        2 => (scalar(), label()).prop_map(|(condition, to)| Inst::JumpIf { condition, to }),
        1 => scalar().prop_map(|dst| Inst::InputDim { dst, input: 0, axis: 0 }),
        1 => Just(Inst::Input { dst: b(0), input: 0 }),
        1 => Just(Inst::Param { dst: b(0), param: 0 }),
        4 => (buffer(), scalar()).prop_map(|(dst, bytes)| Inst::Allocate { dst, bytes }),
        1 => buffer().prop_map(|buffer| Inst::Release { buffer }),
        3 => (buffer(), own(), scalar(), scalar())
            .prop_map(|(dst, src, offset, bytes)| Inst::Slice { dst, src, offset, bytes }),
        1 => (buffer(), scalar()).prop_map(|(src, dim)| Inst::Output { output: 0, src, dims: vec![dim] }),
        4 => (buffer(), buffer(), own(), scalar()).prop_map(|(x, y, z, grid)| Inst::Dispatch {
            entry: ADD,
            grid: [grid, s(ONE), s(ONE)],
            bindings: vec![x, y, z],
            constants: vec![],
        }),
        2 => (buffer(), own()).prop_map(|(src, dst)| Inst::Copy { src, dst }),
        2 => (own(), scalar(), 0u32..4)
            .prop_map(|(dst, pattern, width)| Inst::Fill { dst, pattern, width: 1 << width }),
        1 => Just(Inst::Barrier),
        1 => Just(Inst::Await),
        1 => (scalar(), buffer(), scalar())
            .prop_map(|(dst, src, offset)| Inst::Load { dst, src, offset, dtype: DType::I16 }),
    ]
}

/// `body` where every buffer and the output are defined before; `None` where the verifier still objects.
///
/// Each instruction becomes those that `expand` gives for it.
fn prepare(body: &[OwnedInst], expand: impl Fn(&OwnedInst) -> Vec<OwnedInst>) -> Option<Instance> {
    let mut all: Vec<OwnedInst> = vec![constant(0, 4), constant(1, 8), input(0, 0)];
    all.extend((1..6).flat_map(|register| expand(&allocate(register, 1))));
    all.push(output(0, 0, &[ONE]));
    let mut starts = Vec::new();
    for inst in body {
        starts.push(all.len() as u32);
        all.extend(expand(inst));
    }
    starts.push(all.len() as u32);
    all.push(Inst::Return);
    for inst in &mut all {
        if let Inst::Jump { to } | Inst::JumpIf { to, .. } = inst {
            to.0 = starts[to.0 as usize];
        }
    }
    let specs = |name| vec![spec(name, DType::I32, &[dynamic(name)])];
    let mut draft = draft(specs("x"), specs("y"), all);
    draft.params = vec![param(&[1, 2, 3, 4])];
    let bytes = draft.to_bytes().ok()?;
    let module = LoadedModule::load(device(), bytes).expect("what the writer takes is sound");
    let options = InstanceOptions { budget: Some(MemoryBudget::new(1 << 20)), ..InstanceOptions::default() };
    Some(module.instantiate(options))
}

fn run(instance: &Instance, length: u64, fuel: u64) -> Result<(Vec<u64>, Vec<i32>), InvokeError> {
    let options = InvokeOptions { inline: Inline::Allowed, fuel, ..InvokeOptions::default() };
    let x = tensor(instance, &[length], &vec![3; length as usize]);
    let outputs = instance.invoke_with("main", vec![x], &options)?.take_outputs(None)?;
    assert_eq!(outputs[0].buffer.len_bytes, outputs[0].dims[0] * 4);
    Ok((outputs[0].dims.clone(), values(&outputs[0])))
}

/// An instruction that is seldom wrong: over memory of 4 to 16 bytes, writing to buffers 1..6 only, jumping forward.
///
/// Scalars 0, 1, 6 and 15 are the sizes 4, 8, 0 and 1; 2..5 are small numbers.
fn mild_inst(at: u32, length: u32) -> impl Strategy<Value = OwnedInst> {
    let any = || (0u16..6).prop_map(b);
    let to = || (1u16..6).prop_map(b);
    let size = || prop_oneof![Just(s(0)), Just(s(1))];
    let number = || (2u16..6).prop_map(s);
    let forward = move || (at + 1..length.max(at + 2)).prop_map(Label);
    let op = prop_oneof![Just(ArithOp::Add), Just(ArithOp::Min), Just(ArithOp::Eq), Just(ArithOp::Lt)];
    prop_oneof![
        2 => (number(), 0i64..5).prop_map(|(dst, value)| Inst::Constant { dst, value }),
        2 => (op, number(), number(), number()).prop_map(|(op, dst, lhs, rhs)| Inst::Arith { op, dst, lhs, rhs }),
        2 => (number(), forward()).prop_map(|(condition, to)| Inst::JumpIf { condition, to }),
        1 => Just(Inst::InputDim { dst: s(2), input: 0, axis: 0 }),
        1 => Just(Inst::Param { dst: b(0), param: 0 }),
        4 => (to(), size()).prop_map(|(dst, bytes)| Inst::Allocate { dst, bytes }),
        2 => to().prop_map(|buffer| Inst::Release { buffer }),
        1 => (to(), to()).prop_map(|(dst, src)| Inst::Slice { dst, src, offset: s(6), bytes: s(0) }),
        1 => (to(), to()).prop_map(|(dst, src)| Inst::MoveBuffer { dst, src }),
        2 => any().prop_map(|src| Inst::Output { output: 0, src, dims: vec![s(ONE)] }),
        6 => (any(), any(), to()).prop_map(|(x, y, z)| dispatch(ADD, ONE, &[x.0, y.0, z.0], &[])),
        2 => (to(), number()).prop_map(|(dst, pattern)| Inst::Fill { dst, pattern, width: 4 }),
        1 => (to(), to()).prop_filter("overlap", |(src, dst)| src != dst).prop_map(|(src, dst)| Inst::Copy { src, dst }),
    ]
}

fn mild_body() -> impl Strategy<Value = Vec<OwnedInst>> {
    (0..25u32).map(|at| mild_inst(at, 25)).collect::<Vec<_>>()
}

/// Without what looks at results.
fn without_looks(body: &[OwnedInst]) -> Vec<OwnedInst> {
    let looks = |inst: &OwnedInst| matches!(inst, Inst::Await | Inst::Load { .. });
    body.iter().map(|inst| if looks(inst) { Inst::Barrier } else { inst.clone() }).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_schedules_end(body in proptest::collection::vec(any_inst(20), 20..30), looks in any::<bool>()) {
        let body = if looks { body } else { without_looks(&body) };
        let Some(instance) = prepare(&body, |inst| vec![inst.clone()]) else { return Ok(()) };
        for length in [2u64, 2, 0] {
            let _ = run(&instance, length, 300);
        }
    }

    /// One oracle for the other: memory packed into an arena with reuse, and memory of its own for each allocation.
    #[test]
    fn whole_and_in_pieces_is_the_same(body in mild_body()) {
        // No undefined content, and everything in order.
        let defined = |inst: &OwnedInst| match inst {
            Inst::Allocate { dst, .. } => {
                vec![inst.clone(), Inst::Fill { dst: *dst, pattern: s(14), width: 1 }, Inst::Barrier]
            }
            Inst::Dispatch { .. } | Inst::Copy { .. } | Inst::Fill { .. } => vec![inst.clone(), Inst::Barrier],
            _ => vec![inst.clone()],
        };
        let in_pieces = |inst: &OwnedInst| {
            let to_await = |inst| if inst == Inst::Barrier { Inst::Await } else { inst };
            defined(inst).into_iter().map(to_await).collect()
        };
        let (Some(whole), Some(pieces)) = (prepare(&body, defined), prepare(&body, in_pieces)) else {
            return Ok(())
        };
        for length in [1u64, 1, 3] {
            match (run(&whole, length, 1000), run(&pieces, length, 1000)) {
                (Ok(whole), Ok(pieces)) => prop_assert_eq!(whole, pieces),
                // Pieces hold more at a time.
                (Err(_), Err(_)) | (Ok(_), Err(InvokeError::OverBudget { .. })) => {}
                (whole, pieces) => prop_assert!(false, "{:?} whole, {:?} in pieces", whole, pieces),
            }
        }
    }
}

#[test]
fn what_callers_hold_may_move_between_threads() {
    fn shared<T: Send + Sync>() {}
    shared::<Instance>();
    shared::<LoadedModule>();
    shared::<ired_runtime::Invocation>();
    shared::<ired_runtime::InvokeError>();
}
