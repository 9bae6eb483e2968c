//! Random schedules that pass verification: each call ends, with outputs or an error, and the next call works.

use ired_hal::Inline;
use ired_module::DType;
use ired_module::code::{ArithOp, Inst, Label, OwnedInst};
use ired_runtime::{Instance, InstanceOptions, InvokeOptions, LoadedModule, MemoryBudget};
use proptest::prelude::*;

use crate::harness::*;

/// Any instruction over scalars 0..6, buffers 0..6, one input and one output of rank 1, and jumps below `length`.
fn any_inst(length: u32) -> impl Strategy<Value = OwnedInst> {
    let scalar = || (0u16..6).prop_map(s);
    let buffer = || (0u16..6).prop_map(b);
    let label = move || (0..length).prop_map(Label);
    let value = prop_oneof![
        4 => -2i64..40,
        1 => any::<i64>(),
        1 => prop_oneof![Just(i64::MAX), Just(i64::MIN), Just(1 << 31), Just(1 << 40)],
    ];
    prop_oneof![
        3 => (scalar(), value).prop_map(|(dst, value)| Inst::Constant { dst, value }),
        2 => (0usize..14, 0u16..6, 0u16..6, 0u16..6).prop_map(|(op, d, l, r)| arith(ArithOp::ALL[op], d, l, r)),
        1 => label().prop_map(|to| Inst::Jump { to }),
        2 => (scalar(), label()).prop_map(|(condition, to)| Inst::JumpIf { condition, to }),
        1 => scalar().prop_map(|dst| Inst::InputDim { dst, input: 0, axis: 0 }),
        1 => buffer().prop_map(|dst| Inst::Input { dst, input: 0 }),
        1 => buffer().prop_map(|dst| Inst::Param { dst, param: 0 }),
        4 => (buffer(), scalar()).prop_map(|(dst, bytes)| Inst::Allocate { dst, bytes }),
        1 => buffer().prop_map(|buffer| Inst::Release { buffer }),
        3 => (buffer(), buffer(), scalar(), scalar())
            .prop_map(|(dst, src, offset, bytes)| Inst::Slice { dst, src, offset, bytes }),
        1 => (buffer(), scalar()).prop_map(|(src, dim)| Inst::Output { output: 0, src, dims: vec![dim] }),
        4 => (buffer(), buffer(), buffer(), scalar()).prop_map(|(x, y, z, grid)| Inst::Dispatch {
            entry: ADD,
            grid: [grid, s(ONE), s(ONE)],
            bindings: vec![x, y, z],
            constants: vec![],
        }),
        2 => (buffer(), buffer()).prop_map(|(src, dst)| Inst::Copy { src, dst }),
        2 => (buffer(), scalar(), 0u32..4)
            .prop_map(|(dst, pattern, width)| Inst::Fill { dst, pattern, width: 1 << width }),
        1 => Just(Inst::Barrier),
        1 => Just(Inst::Await),
        1 => (scalar(), buffer(), scalar())
            .prop_map(|(dst, src, offset)| Inst::Load { dst, src, offset, dtype: DType::I16 }),
    ]
}

/// `body` where every buffer and the output are defined before, or `None` where the verifier still objects.
fn prepare(body: Vec<OwnedInst>) -> Option<Instance> {
    let mut all: Vec<OwnedInst> = vec![constant(0, 4), constant(1, 8), input(0, 0)];
    all.extend((1..6).map(|register| allocate(register, 1)));
    all.push(output(0, 0, &[0]));
    let start = all.len() as u32;
    all.extend(body);
    all.extend([Inst::Return]);
    for inst in &mut all[start as usize..] {
        if let Inst::Jump { to } | Inst::JumpIf { to, .. } = inst {
            to.0 += start;
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

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_schedules_end(
        body in proptest::collection::vec(any_inst(20), 20..30),
        keep_replayable in any::<bool>(),
    ) {
        let mut body = body;
        if keep_replayable {
            for inst in &mut body {
                if matches!(inst, Inst::Await | Inst::Load { .. }) {
                    *inst = Inst::Barrier;
                }
            }
        }
        let Some(instance) = prepare(body) else { return Ok(()) };
        // Kernels of the template are not bounded by fuel, so grids stay small by what fuel allows to multiply.
        let options = InvokeOptions { inline: Inline::Allowed, fuel: 300, ..InvokeOptions::default() };
        for length in [2u64, 2, 0] {
            let x = tensor(&instance, &[length], &vec![3; length as usize]);
            let outcome = instance.invoke_with("main", vec![x], &options);
            if let Ok(invocation) = outcome
                && let Ok(outputs) = invocation.take_outputs(None)
            {
                prop_assert_eq!(outputs[0].buffer.len_bytes, outputs[0].dims[0] * 4);
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
