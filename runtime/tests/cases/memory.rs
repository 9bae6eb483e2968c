//! What calls take: known beforehand, bounded, used again.

use ired_hal::Timepoint;
use ired_module::DType;
use ired_module::code::{ArithOp, Inst};
use ired_module::signature::{DimSpec, PeakBytes};
use ired_runtime::{InstanceOptions, InvokeError, InvokeOptions, MemoryBudget};

use crate::harness::*;

on_each_device!(
    the_peak_is_known_from_dimensions_alone,
    a_peak_that_overflows_is_an_error,
    what_a_call_takes_is_known_before_it_runs,
    sizes_that_data_decides_count_as_little_as_they_can_be,
    a_budget_refuses_before_anything_is_allocated,
    transients_are_used_again_within_bounds,
    kept_transients_are_given_back_when_asked_for,
    a_dropped_call_gives_its_transients_back_when_done,
    released_transients_are_used_again_behind_barriers,
    rounds_of_a_loop_use_the_same_memory,
);

fn the_peak_is_known_from_dimensions_alone() {
    let module = load(&two_steps());
    assert_eq!(module.peak_bytes("main", &[vec![0]]).unwrap(), 0);
    assert_eq!(module.peak_bytes("main", &[vec![1 << 30]]).unwrap(), 4 << 30);
    let error = module.peak_bytes("main", &[vec![1, 1]]).unwrap_err();
    assert_eq!(error.to_string(), "input `x` has 2 dimensions, expected 1");
    assert!(module.peak_bytes("other", &[]).is_err());
}

fn a_peak_that_overflows_is_an_error() {
    let mut draft = two_steps();
    draft.functions[1].body[2] = arith(ArithOp::Mul, 2, 0, 0);
    let module = load(&draft);
    assert_eq!(module.peak_bytes("main", &[vec![100]]).unwrap(), 10_000);
    assert!(matches!(module.peak_bytes("main", &[vec![1 << 40]]), Err(InvokeError::Fault { .. })));
}

fn what_a_call_takes_is_known_before_it_runs() {
    let budget = MemoryBudget::new(1 << 20);
    let options = InstanceOptions { budget: Some(budget.clone()), ..InstanceOptions::default() };
    let instance = load(&two_steps()).instantiate(options);
    for length in [0u64, 1, 20] {
        let said = instance.call_bytes("main", &[vec![length]]).unwrap();
        let x = tensor(&instance, &[length], &vec![1; length as usize]);
        let invocation = instance.invoke("main", vec![x]).unwrap();
        assert_eq!((said, budget.used_bytes()), (8 * length, 8 * length));
        invocation.wait(None).unwrap();
    }
    // More than the budget has.
    assert_eq!(instance.call_bytes("main", &[vec![1 << 20]]).unwrap(), 8 << 20);
    let error = instance.call_bytes("main", &[vec![1, 1]]).unwrap_err();
    assert_eq!(error.to_string(), "input `x` has 2 dimensions, expected 1");
    assert!(instance.call_bytes("other", &[]).is_err());
}

fn sizes_that_data_decides_count_as_little_as_they_can_be() {
    let decided = DimSpec::Symbolic { name: "found".to_owned(), min: 2, max: 1 << 40 };
    let mut draft = draft(
        vec![spec("x", DType::I32, &[dynamic("n")])],
        vec![spec("y", DType::I32, &[dynamic("n"), decided])],
        vec![Inst::Await, input(0, 0), dim(0, 0, 0), constant(1, 2), output(0, 0, &[0, 1]), Inst::Return],
    );
    draft.signature.entries[0].peak = PeakBytes::Static(100);
    let instance = load(&draft).instantiate(InstanceOptions::default());
    assert_eq!(instance.call_bytes("main", &[vec![3]]).unwrap(), 100 + 3 * 2 * 4);
}

fn a_budget_refuses_before_anything_is_allocated() {
    let budget = MemoryBudget::new(118);
    let options = InstanceOptions { budget: Some(budget.clone()), ..InstanceOptions::default() };
    let instance = load(&two_steps()).instantiate(options);
    let x = |length: usize| tensor(&instance, &[length as u64], &vec![1; length]);

    // 4 bytes of output and 4 of arena each.
    let gate = Timepoint::new(&instance.module().device().create_semaphore(0), 1);
    let held = InvokeOptions { waits: vec![gate.clone()], ..InvokeOptions::default() };
    let calls: Vec<_> = (0..14).map(|_| instance.invoke_with("main", vec![x(1)], &held).unwrap()).collect();
    assert_eq!(budget.used_bytes(), 14 * 8);
    let error = instance.run("main", vec![x(1)], None).unwrap_err();
    assert!(
        matches!(error, InvokeError::OverBudget { needed_bytes: 8, available_bytes: 6, limit_bytes: 118 }),
        "{error:?}"
    );
    gate.semaphore.signal(1).unwrap();
    calls.iter().for_each(|call| call.wait(None).unwrap());
    drop(calls);
    assert_eq!(budget.used_bytes(), 0);
    assert!(instance.run("main", vec![x(1)], None).is_ok());
    assert!(matches!(instance.run("main", vec![x(200)], None), Err(InvokeError::OverBudget { .. })));
    assert_eq!(budget.used_bytes(), 0);
}

fn transients_are_used_again_within_bounds() {
    let instance = load(&two_steps()).instantiate(InstanceOptions { pool_bytes: 300, ..Default::default() });
    for length in [10u64, 20, 30, 40, 1000, 10] {
        call(&instance, &[(&[length], &vec![1; length as usize])]).unwrap();
        assert!(instance.pooled_bytes() <= 300);
    }
    let kept = instance.pooled_bytes();
    assert!(kept > 0);
    call(&instance, &[(&[10], &[1; 10])]).unwrap();
    assert_eq!(instance.pooled_bytes(), kept);
}

fn kept_transients_are_given_back_when_asked_for() {
    let instance = instance(&two_steps());
    call(&instance, &[(&[10], &[1; 10])]).unwrap();
    assert_eq!(instance.pooled_bytes(), 40);
    instance.free_pooled();
    assert_eq!(instance.pooled_bytes(), 0);
    assert_eq!(call(&instance, &[(&[1], &[1])]).unwrap().1, [7]);
}

fn a_dropped_call_gives_its_transients_back_when_done() {
    let instance = instance(&two_steps());
    let gate = Timepoint::new(&instance.module().device().create_semaphore(0), 1);
    let held = InvokeOptions { waits: vec![gate.clone()], ..InvokeOptions::default() };
    let invocation = instance.invoke_with("main", vec![tensor(&instance, &[1], &[1])], &held).unwrap();
    let done = invocation.timepoint();
    drop(invocation);
    assert_eq!(instance.pooled_bytes(), 0);
    // Called back after the invocation is, which asked before.
    let (sender, receiver) = std::sync::mpsc::channel();
    done.semaphore.when_reached(done.value, Box::new(move |_| sender.send(()).unwrap()));
    gate.semaphore.signal(1).unwrap();
    receiver.recv().unwrap();
    assert_eq!(instance.pooled_bytes(), 4);
}

/// A chain of steps, each with its transient, needs two at a time; steps that may overlap each need their own.
fn released_transients_are_used_again_behind_barriers() {
    let one = [DimSpec::Static(1)];
    let step = |from, to| dispatch(ADD_CONSTANT, ONE, &[from, to], &[ONE]);
    let steps = |in_order: bool| {
        let mut body = vec![constant(0, 1 << 10), constant(1, 4), input(0, 0)];
        for number in 0..20 {
            let (from, to) = match number % 2 {
                _ if number == 0 || !in_order => (0, 1),
                0 => (2, 1),
                _ => (1, 2),
            };
            body.extend([allocate(to, 0), step(from, to)]);
            body.extend((from != 0).then_some(Inst::Release { buffer: b(from) }));
            body.push(if in_order { Inst::Barrier } else { Inst::Release { buffer: b(to) } });
        }
        let last = if in_order { 2 } else { 0 };
        body.extend([allocate(3, 1), step(last, 3), output(0, 3, &[ONE]), Inst::Return]);
        draft(vec![spec("x", DType::I32, &one)], vec![spec("y", DType::I32, &one)], body)
    };
    let run = |draft| {
        let budget = MemoryBudget::new(1 << 20);
        let options = InstanceOptions { budget: Some(budget.clone()), ..InstanceOptions::default() };
        let instance = load(&draft).instantiate(options);
        let invocation = instance.invoke("main", vec![tensor(&instance, &[1], &[1])]).unwrap();
        let used = budget.used_bytes();
        (used, values(&invocation.take_outputs(None).unwrap()[0]))
    };
    assert_eq!(run(steps(true)), (2 * 1024 + 4, vec![22]));
    assert_eq!(run(steps(false)), (20 * 1024 + 4, vec![2]));
}

/// A loop that looks at results holds what one round needs.
fn rounds_of_a_loop_use_the_same_memory() {
    use ired_module::code::Label;
    let one = [DimSpec::Static(1)];
    let draft = draft(
        vec![spec("x", DType::I32, &one)],
        vec![spec("y", DType::I32, &one)],
        vec![
            constant(0, 1 << 20),
            constant(1, 4),
            constant(2, 1000),
            input(0, 0),
            // 4
            allocate(1, 0),
            dispatch(ADD_CONSTANT, ONE, &[0, 1], &[3]),
            Inst::Await,
            Inst::Release { buffer: b(1) },
            Inst::Await,
            arith(ArithOp::Add, 3, 3, ONE),
            arith(ArithOp::Lt, 4, 3, 2),
            Inst::JumpIf { condition: s(4), to: Label(4) },
            allocate(2, 1),
            dispatch(ADD_CONSTANT, ONE, &[0, 2], &[3]),
            output(0, 2, &[ONE]),
            Inst::Return,
        ],
    );
    let budget = MemoryBudget::new(3 << 20);
    let options = InstanceOptions { budget: Some(budget.clone()), ..InstanceOptions::default() };
    let instance = load(&draft).instantiate(options);
    assert_eq!(call(&instance, &[(&[1], &[5])]).unwrap().1, [1005]);
    assert_eq!(budget.used_bytes(), 0);
}
