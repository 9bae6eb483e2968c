//! Rules of timeline semaphores.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use super::{Case, Context, PATIENCE};
use crate::{Failure, SignalError, WaitError};

pub(super) const CASES: &[Case] = &[
    ("semaphore_starts_at_its_initial_value", starts_at_initial),
    ("semaphore_value_only_grows", only_grows),
    ("semaphore_wait_ends_at_its_deadline", wait_ends_at_deadline),
    ("semaphore_wait_sees_a_signal_from_another_thread", wait_sees_signal),
    ("semaphore_failure_is_final_and_spares_reached_points", failure_is_final),
    ("semaphore_failure_ends_waits", failure_ends_waits),
    ("semaphore_callbacks_run_once_when_due", callbacks_run_once),
];

fn starts_at_initial(context: &Context) {
    let semaphore = context.device.create_semaphore(7);
    assert_eq!(semaphore.value().expect("not failed"), 7);
    semaphore.wait(7, None).expect("reached");
    semaphore.wait(0, None).expect("reached");
}

fn only_grows(context: &Context) {
    let semaphore = context.semaphore();
    semaphore.signal(5).expect("5 is above 0");
    for value in [5, 4, 0] {
        let refused = semaphore.signal(value);
        assert!(matches!(refused, Err(SignalError::NotIncreasing { current: 5, .. })), "{refused:?}");
    }
    semaphore.signal(6).expect("6 is above 5");
    assert_eq!(semaphore.value().expect("not failed"), 6);
}

fn wait_ends_at_deadline(context: &Context) {
    let semaphore = context.semaphore();
    for wait in [Duration::ZERO, Duration::from_millis(2)] {
        let outcome = semaphore.wait(1, Some(Instant::now() + wait));
        assert!(matches!(outcome, Err(WaitError::DeadlinePassed { value: 1 })), "{outcome:?}");
    }
}

fn wait_sees_signal(context: &Context) {
    let (there, back) = (context.semaphore(), context.semaphore());
    thread::scope(|scope| {
        scope.spawn(|| {
            for value in 1..=200 {
                there.wait(value, Some(Instant::now() + PATIENCE)).expect("signalled");
                back.signal(value).expect("increasing");
            }
        });
        for value in 1..=200 {
            there.signal(value).expect("increasing");
            back.wait(value, Some(Instant::now() + PATIENCE)).expect("signalled");
        }
    });
}

fn failure_is_final(context: &Context) {
    let semaphore = context.semaphore();
    semaphore.signal(3).expect("increasing");
    semaphore.fail(Failure::OutOfMemory { bytes: 17 });
    semaphore.fail(Failure::Cancelled);
    assert!(matches!(semaphore.value(), Err(Failure::OutOfMemory { bytes: 17 })));
    assert!(matches!(semaphore.signal(4), Err(SignalError::Failed(Failure::OutOfMemory { bytes: 17 }))));
    semaphore.wait(3, None).expect("3 was reached before the failure");
    let outcome = semaphore.wait(4, None);
    assert!(matches!(outcome, Err(WaitError::Failed(Failure::OutOfMemory { bytes: 17 }))), "{outcome:?}");
}

fn failure_ends_waits(context: &Context) {
    let semaphore = context.semaphore();
    thread::scope(|scope| {
        let waiter = scope.spawn(|| semaphore.wait(1, Some(Instant::now() + PATIENCE)));
        semaphore.fail(Failure::Cancelled);
        let outcome = waiter.join().expect("no panic");
        assert!(matches!(outcome, Err(WaitError::Failed(Failure::Cancelled))), "{outcome:?}");
    });
}

fn callbacks_run_once(context: &Context) {
    let semaphore = context.semaphore();
    let calls = Arc::new(AtomicU32::new(0));
    let (sender, received) = mpsc::channel();
    for value in [2, 1, 3] {
        let (sender, calls) = (sender.clone(), calls.clone());
        semaphore.when_reached(
            value,
            Box::new(move |outcome| {
                calls.fetch_add(1, Ordering::Relaxed);
                sender.send((value, outcome.is_ok())).expect("the test listens");
            }),
        );
    }
    assert_eq!(calls.load(Ordering::Relaxed), 0);
    semaphore.signal(2).expect("increasing");
    let take = || received.recv_timeout(PATIENCE).expect("called");
    assert_eq!([take(), take()], [(1, true), (2, true)], "lower points come first");
    semaphore.fail(Failure::Cancelled);
    assert_eq!(take(), (3, false));
    let later = calls.clone();
    semaphore.when_reached(
        1,
        Box::new(move |_| {
            later.fetch_add(1, Ordering::Relaxed);
        }),
    );
    assert_eq!(calls.load(Ordering::Relaxed), 4, "a reached point calls back at once");
}
