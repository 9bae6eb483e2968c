//! Rules of queue operations and their order.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use super::{Case, Context, bytes_of, outcome, table};
use crate::{BufferRange, Failure, Inline, Memory, Operation, Pattern, Submission, Timepoint};

pub(super) const CASES: &[Case] = &[
    ("queue_barrier_signals_all_its_points", barrier_signals_all),
    ("queue_waits_for_all_its_points", waits_for_all),
    ("queue_takes_work_before_what_it_waits_for", wait_before_signal),
    ("queue_runs_a_long_chain_without_recursion", long_chain),
    ("queue_failure_travels_along_the_chain", failure_travels),
    ("queue_work_that_can_never_start_fails", abandoned),
    ("queue_fill_repeats_every_pattern_width", fill_patterns),
    ("queue_copy_and_update_move_exact_ranges", copy_and_update),
    ("queue_update_takes_its_bytes_at_submission", update_takes_bytes),
    ("queue_host_calls_run_in_their_place", host_calls_in_order),
    ("queue_host_call_errors_and_panics_are_failures", host_call_failures),
    ("queue_allocates_and_frees_in_order", alloca_in_order),
    ("queue_lets_go_before_it_signals", lets_go_first),
    ("queue_takes_submissions_from_many_threads", many_threads),
];

fn barrier_signals_all(context: &Context) {
    let (a, b) = (context.semaphore(), context.semaphore());
    let signals = [Timepoint::new(&a, 5), Timepoint::new(&b, 1)];
    context.submit(Operation::Barrier, &[], &signals);
    signals.iter().for_each(|point| outcome(point).expect("signalled"));
    assert_eq!((a.value().expect("not failed"), b.value().expect("not failed")), (5, 1));
}

fn waits_for_all(context: &Context) {
    let (a, b, done) = (context.semaphore(), context.semaphore(), context.semaphore());
    let waits = [Timepoint::new(&a, 1), Timepoint::new(&b, 2)];
    context.submit(Operation::Barrier, &waits, &[Timepoint::new(&done, 1)]);
    a.signal(1).expect("increasing");
    b.signal(1).expect("increasing");
    assert_eq!(done.value().expect("not failed"), 0, "one point is not reached");
    b.signal(2).expect("increasing");
    outcome(&Timepoint::new(&done, 1)).expect("all points are reached");
}

fn wait_before_signal(context: &Context) {
    let (first, second) = (context.semaphore(), context.semaphore());
    let buffer = context.buffer_of(&[0; 64]);
    let whole = BufferRange::whole(&buffer);
    let (one, two) = (Timepoint::new(&first, 1), Timepoint::new(&second, 1));
    let late = Operation::Fill { dst: &whole, pattern: Pattern::byte(2) };
    context.submit(late, std::slice::from_ref(&one), std::slice::from_ref(&two));
    let early = Operation::Fill { dst: &whole, pattern: Pattern::byte(1) };
    context.submit(early, &[], &[one]);
    outcome(&two).expect("both ran");
    assert_eq!(bytes_of(&buffer), [2; 64]);
}

fn long_chain(context: &Context) {
    const LINKS: u64 = 20_000;
    let chain = context.semaphore();
    for link in (1..LINKS).rev() {
        let (waits, signals) = ([Timepoint::new(&chain, link)], [Timepoint::new(&chain, link + 1)]);
        context.submit(Operation::Barrier, &waits, &signals);
    }
    chain.signal(1).expect("increasing");
    outcome(&Timepoint::new(&chain, LINKS)).expect("every link ran");
}

fn failure_travels(context: &Context) {
    let (start, middle, end) = (context.semaphore(), context.semaphore(), context.semaphore());
    let points = [&start, &middle, &end].map(|s| Timepoint::new(s, 1));
    let ran = Arc::new(AtomicU32::new(0));
    for link in points.windows(2) {
        let ran = ran.clone();
        let call = Box::new(move || {
            ran.fetch_add(1, Ordering::Relaxed);
            Ok(())
        });
        context.submit(Operation::HostCall(call), &link[..1], &link[1..]);
    }
    start.fail(Failure::OutOfMemory { bytes: 3 });
    let failure = outcome(&points[2]);
    assert!(matches!(failure, Err(Failure::OutOfMemory { bytes: 3 })), "{failure:?}");
    assert_eq!(ran.load(Ordering::Relaxed), 0, "work behind a failure does not run");
}

fn abandoned(context: &Context) {
    let (never, other) = (context.semaphore(), context.semaphore());
    let done = Timepoint::new(&context.semaphore(), 1);
    let waits = [Timepoint::new(&never, 1), Timepoint::new(&other, 1)];
    context.submit(Operation::Barrier, &waits, std::slice::from_ref(&done));
    drop((waits, never));
    let failure = outcome(&done);
    assert!(matches!(failure, Err(Failure::Abandoned)), "{failure:?}");
    drop(other);
}

fn fill_patterns(context: &Context) {
    for len in [64, 200_000] {
        for width in [1, 2, 4, 8] {
            let pattern = Pattern::new(0x8877_6655_4433_2211, width).expect("a valid width");
            let buffer = context.buffer_of(&vec![0xee; len + 16]);
            let dst = BufferRange::new(&buffer, 8, len as u64);
            context.complete(Operation::Fill { dst: &dst, pattern }).expect("runs");
            let bytes = bytes_of(&buffer);
            let body = bytes[8..len + 8].chunks(usize::from(width));
            assert!(body.into_iter().all(|chunk| chunk == pattern.bytes()), "width {width}");
            assert_eq!((&bytes[..8], &bytes[len + 8..]), (&[0xee; 8][..], &[0xee; 8][..]));
        }
    }
}

fn copy_and_update(context: &Context) {
    for len in [0, 1, 100, 1_000_003] {
        let bytes: Vec<u8> = (0..len).map(|i| (i % 253) as u8).collect();
        let (src, dst) = (context.buffer_of(&vec![0; len + 8]), context.buffer_of(&vec![7; len + 8]));
        let src_range = BufferRange::new(&src, 3, len as u64);
        let dst_range = BufferRange::new(&dst, 5, len as u64);
        context.complete(Operation::Update { src: &bytes, dst: &src_range }).expect("runs");
        context.complete(Operation::Copy { src: &src_range, dst: &dst_range }).expect("runs");
        let found = bytes_of(&dst);
        assert!(found[5..len + 5] == bytes, "{len} bytes arrive");
        assert_eq!((&found[..5], &found[len + 5..]), (&[7; 5][..], &[7; 3][..]));
    }
}

fn update_takes_bytes(context: &Context) {
    let (gate, done) = (context.semaphore(), Timepoint::new(&context.semaphore(), 1));
    let buffer = context.buffer_of(&[0; 4]);
    let mut bytes = [1, 2, 3, 4];
    let dst = BufferRange::whole(&buffer);
    let operation = Operation::Update { src: &bytes, dst: &dst };
    context.submit(operation, &[Timepoint::new(&gate, 1)], std::slice::from_ref(&done));
    bytes.fill(9);
    gate.signal(1).expect("increasing");
    outcome(&done).expect("runs");
    assert_eq!((bytes_of(&buffer), bytes), (vec![1, 2, 3, 4], [9; 4]));
}

fn host_calls_in_order(context: &Context) {
    let timeline = context.semaphore();
    let calls = Arc::new(Mutex::new(Vec::new()));
    for step in (0..50_u64).rev() {
        let calls = calls.clone();
        let call = Box::new(move || {
            calls.lock().expect("no panic").push(step);
            Ok(())
        });
        let (waits, signals) = ([Timepoint::new(&timeline, step)], [Timepoint::new(&timeline, step + 1)]);
        context.submit(Operation::HostCall(call), &waits, &signals);
    }
    outcome(&Timepoint::new(&timeline, 50)).expect("all ran");
    assert!(calls.lock().expect("no panic").iter().copied().eq(0..50));
}

fn host_call_failures(context: &Context) {
    let failure = context.complete(Operation::HostCall(Box::new(|| Err("no ink".into()))));
    let Err(Failure::HostCall(cause)) = &failure else { panic!("{failure:?}") };
    assert_eq!(cause.to_string(), "no ink");
    let failure = context.complete(Operation::HostCall(Box::new(|| panic!("no paper"))));
    let Err(Failure::HostCall(cause)) = &failure else { panic!("{failure:?}") };
    assert!(cause.to_string().contains("no paper"), "{cause}");
    context.complete(Operation::Barrier).expect("the device goes on");
}

fn alloca_in_order(context: &Context) {
    let timeline = context.semaphore();
    let at = |value| [Timepoint::new(&timeline, value)];
    let buffer = context.device.reserve(1 << 20, Memory::Device).expect("only a handle");
    let result = context.allocate(1 << 20);
    let (range, whole) = (BufferRange::whole(&buffer), BufferRange::whole(&result));
    context.submit(Operation::Alloca { buffer: &buffer }, &at(1), &at(2));
    context.submit(Operation::Fill { dst: &range, pattern: Pattern::byte(3) }, &at(2), &at(3));
    context.submit(Operation::Copy { src: &range, dst: &whole }, &at(3), &at(4));
    context.submit(Operation::Dealloca { buffer: &buffer }, &at(4), &at(5));
    timeline.signal(1).expect("increasing");
    outcome(&at(5)[0]).expect("all ran");
    assert!(bytes_of(&result).iter().all(|byte| *byte == 3));
}

fn lets_go_first(context: &Context) {
    let commands = context.commands(|recorder| {
        let dst = crate::Binding::slot(0, 0, 64, crate::Access::Write);
        recorder.fill(dst, Pattern::byte(4)).expect("a valid fill");
    });
    for _ in 0..100 {
        let buffer = context.buffer_of(&[0; 64]);
        let done = Timepoint::new(&context.semaphore(), 1);
        let bindings = table(&[&buffer]);
        let operation = Operation::Execute { commands: &commands, bindings: &bindings };
        context.submit(operation, &[], std::slice::from_ref(&done));
        drop(bindings);
        outcome(&done).expect("runs");
        assert_eq!(&*buffer.freeze().expect("nobody else holds it any more"), [4; 64]);
    }
}

fn many_threads(context: &Context) {
    const PER_THREAD: u64 = 200;
    thread::scope(|scope| {
        for thread in 0..4_u8 {
            scope.spawn(move || {
                let timeline = context.semaphore();
                let buffer = context.buffer_of(&[0; 32]);
                let range = BufferRange::whole(&buffer);
                for step in 0..PER_THREAD {
                    let pattern = Pattern::byte(thread.wrapping_mul(50).wrapping_add(step as u8));
                    let inline = if step % 3 == 0 { Inline::Allowed } else { context.inline };
                    let submission = Submission::new(Operation::Fill { dst: &range, pattern });
                    let (waits, signals) =
                        (Timepoint::new(&timeline, step), Timepoint::new(&timeline, step + 1));
                    let submission = submission.waits(std::slice::from_ref(&waits)).inline(inline);
                    context.device.submit(submission.signals(&[signals])).expect("valid");
                }
                outcome(&Timepoint::new(&timeline, PER_THREAD)).expect("all ran");
                assert_eq!(
                    bytes_of(&buffer),
                    [thread.wrapping_mul(50).wrapping_add(PER_THREAD as u8 - 1); 32]
                );
            });
        }
    });
}
