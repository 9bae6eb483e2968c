//! Waiting, deadlines, cancelling, many calls at once.

use std::sync::mpsc;
use std::time::{Duration, Instant};

use ired_hal::{Failure, Timepoint};
use ired_module::DType;
use ired_module::code::{Inst, Label};
use ired_module::signature::DimSpec;
use ired_runtime::{InvokeError, InvokeOptions};

use crate::harness::*;

on_each_device!(
    a_call_waits_for_what_it_is_told_to,
    a_deadline_ends_the_wait_and_not_the_call,
    a_cancelled_call_ends_at_once_and_harms_no_other,
    what_a_call_waits_for_may_fail,
    an_endless_call_ends_at_its_deadline_or_when_cancelled,
    many_calls_at_once_keep_apart,
    calls_in_flight_share_no_transients,
);

/// A call that waits for a semaphore of ours, and that semaphore.
fn held(instance: &ired_runtime::Instance) -> (ired_runtime::Invocation, Timepoint) {
    let gate = Timepoint::new(&instance.module().device().create_semaphore(0), 1);
    let options = InvokeOptions { waits: vec![gate.clone()], ..InvokeOptions::default() };
    let x = tensor(instance, &[2], &[1, 2]);
    (instance.invoke_with("main", vec![x], &options).expect("the inputs fit"), gate)
}

fn a_call_waits_for_what_it_is_told_to() {
    let instance = instance(&two_steps());
    let (invocation, gate) = held(&instance);
    assert!(!invocation.is_done());
    let (sender, receiver) = mpsc::channel();
    invocation.when_done(move || sender.send(()).unwrap());
    assert!(receiver.try_recv().is_err());
    gate.semaphore.signal(1).unwrap();
    receiver.recv().unwrap();
    assert!(invocation.is_done());
    assert_eq!(values(&invocation.take_outputs(None).unwrap()[0]), [7, 9]);
}

fn a_deadline_ends_the_wait_and_not_the_call() {
    let instance = instance(&two_steps());
    let (invocation, gate) = held(&instance);
    let soon = Some(Instant::now() + Duration::from_millis(1));
    assert!(matches!(invocation.wait(soon), Err(InvokeError::DeadlinePassed)));
    gate.semaphore.signal(1).unwrap();
    assert!(invocation.wait(None).is_ok());

    let past = InvokeOptions { deadline: Some(Instant::now()), ..InvokeOptions::default() };
    let x = tensor(&instance, &[1], &[1]);
    let refused = instance.invoke_with("main", vec![x], &past);
    assert!(matches!(refused, Err(InvokeError::DeadlinePassed)));
}

fn a_cancelled_call_ends_at_once_and_harms_no_other() {
    let instance = instance(&two_steps());
    let (invocation, gate) = held(&instance);
    invocation.cancel();
    assert!(matches!(invocation.take_outputs(None), Err(InvokeError::Cancelled)));
    gate.semaphore.signal(1).unwrap();
    assert_eq!(call(&instance, &[(&[1], &[1])]).unwrap().1, [7]);
    // Done calls stay done.
    let (invocation, gate) = held(&instance);
    gate.semaphore.signal(1).unwrap();
    invocation.wait(None).unwrap();
    invocation.cancel();
    assert!(invocation.take_outputs(None).is_ok());
}

fn what_a_call_waits_for_may_fail() {
    let instance = instance(&two_steps());
    let (invocation, gate) = held(&instance);
    gate.semaphore.fail(Failure::DeviceLost { reason: "unplugged".into() });
    let error = invocation.wait(None).unwrap_err();
    assert!(matches!(error, InvokeError::Failed(Failure::DeviceLost { .. })), "{error:?}");
}

/// A schedule that never ends by itself, one look after the other.
fn endless() -> ired_runtime::Instance {
    let one = [DimSpec::Static(1)];
    let draft = draft(
        vec![spec("x", DType::I32, &one)],
        vec![spec("y", DType::I32, &one)],
        vec![
            constant(0, 4),
            input(0, 0),
            allocate(1, 0),
            dispatch(ADD_CONSTANT, ONE, &[0, 1], &[0]),
            Inst::Await,
            Inst::JumpIf { condition: s(ONE), to: Label(3) },
            output(0, 1, &[ONE]),
            Inst::Return,
        ],
    );
    instance(&draft)
}

fn an_endless_call_ends_at_its_deadline_or_when_cancelled() {
    let instance = endless();
    let x = tensor(&instance, &[1], &[1]);
    let deadline = Some(Instant::now() + Duration::from_millis(20));
    let error = instance.run("main", vec![x.clone()], deadline).unwrap_err();
    assert!(matches!(error, InvokeError::DeadlinePassed), "{error:?}");

    // The template device runs work on the thread that makes it ready, so another one opens the gate.
    let gate = Timepoint::new(&instance.module().device().create_semaphore(0), 1);
    let options = InvokeOptions { waits: vec![gate.clone()], fuel: u64::MAX, ..InvokeOptions::default() };
    let invocation = instance.invoke_with("main", vec![x], &options).unwrap();
    let runner = std::thread::spawn(move || gate.semaphore.signal(1));
    invocation.cancel();
    assert!(matches!(invocation.wait(None), Err(InvokeError::Cancelled)));
    runner.join().unwrap().unwrap();
}

fn many_calls_at_once_keep_apart() {
    let instance = instance(&two_steps());
    std::thread::scope(|scope| {
        for thread in 0..8i32 {
            let instance = &instance;
            scope.spawn(move || {
                for round in 0..50 {
                    let x: Vec<i32> = (0..1 + (thread + round) % 5).map(|i| i * 100 + thread).collect();
                    let expected: Vec<i32> = x.iter().map(|x| 2 * x + 5).collect();
                    let found = call(instance, &[(&[x.len() as u64], &x)]).unwrap().1;
                    assert_eq!(found, expected);
                }
            });
        }
    });
}

fn calls_in_flight_share_no_transients() {
    let instance = instance(&two_steps());
    let device = instance.module().device().clone();
    let gate = Timepoint::new(&device.create_semaphore(0), 1);
    let options = InvokeOptions { waits: vec![gate.clone()], ..InvokeOptions::default() };
    let calls: Vec<_> = (0..10)
        .map(|i| instance.invoke_with("main", vec![tensor(&instance, &[1], &[i])], &options).unwrap())
        .collect();
    gate.semaphore.signal(1).unwrap();
    for (i, call) in (0..).zip(calls) {
        assert_eq!(values(&call.take_outputs(None).unwrap()[0]), [2 * i + 5]);
    }
}
