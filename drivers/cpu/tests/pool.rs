//! The thread pool under load: exact sums, barriers that order, no more threads than asked for, nobody starved.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ired_driver_cpu::{CpuConfig, CpuDevice, test_support};
use ired_hal::{
    Access, Binding, Buffer, BufferRange, CommandBuffer, Device, Dispatch, Executable, ExecutableSource,
    Failure, Inline, Memory, Operation, Recorder, Submission, Timepoint, WaitError,
};

const SOURCE: &str = r#"
typedef unsigned int u32;
typedef long long i64;
#define KERNEL(name) __attribute__((visibility("default"))) \
    void name(void *const *bindings, const i64 *constants, u32 x, u32 y, u32 z)

// Counts the threads that are in here at once: {now, most}; takes constants[0] steps, plus as many again times x % 7.
KERNEL(probe) {
    u32 *now = bindings[0], *most = now + 1;
    u32 here = __atomic_add_fetch(now, 1, __ATOMIC_SEQ_CST);
    u32 seen = __atomic_load_n(most, __ATOMIC_SEQ_CST);
    while (seen < here && !__atomic_compare_exchange_n(most, &seen, here, 0, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) {}
    for (volatile i64 i = 0; i < constants[0] * (1 + x % 7); i++) {}
    __atomic_sub_fetch(now, 1, __ATOMIC_SEQ_CST);
}

// out[x] = in[(x + 1) % count] + 1; constants: count.
KERNEL(rotate) {
    const u32 *in = bindings[0];
    ((u32 *)bindings[1])[x] = in[(x + 1) % constants[0]] + 1;
}
"#;

const PROBE: u32 = 0;
const ROTATE: u32 = 1;

fn device(threads: u32) -> CpuDevice {
    CpuDevice::new(&CpuConfig { threads: Some(threads), ..CpuConfig::default() }).unwrap()
}

fn executable(device: &CpuDevice) -> Arc<dyn Executable> {
    static IMAGE: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
    let image = IMAGE.get_or_init(|| test_support::link(SOURCE, &[]));
    let entries = ["probe", "rotate"].map(String::from);
    let triple = &device.info().triple;
    let source = ExecutableSource { name: "pool", triple, features: &[], image, entries: &entries };
    device.prepare_executable(&source).unwrap()
}

fn record(device: &CpuDevice, dispatches: impl IntoIterator<Item = Dispatch>) -> Arc<dyn CommandBuffer> {
    let mut recorder = Recorder::new();
    for dispatch in dispatches {
        recorder.dispatch(dispatch).unwrap();
        recorder.barrier();
    }
    device.create_command_buffer(recorder.finish()).unwrap()
}

fn run(device: &CpuDevice, commands: &Arc<dyn CommandBuffer>, bindings: &[BufferRange], inline: Inline) {
    let done = Timepoint::new(&device.create_semaphore(0), 1);
    let submission = Submission::new(Operation::Execute { commands, bindings }).inline(inline);
    device.submit(submission.signals(std::slice::from_ref(&done))).unwrap();
    done.wait(Some(Instant::now() + Duration::from_secs(120))).unwrap();
}

fn u32s(device: &CpuDevice, values: impl IntoIterator<Item = u32>) -> Arc<dyn Buffer> {
    let bytes: Vec<u8> = values.into_iter().flat_map(u32::to_le_bytes).collect();
    let buffer = device.allocate(bytes.len() as u64, Memory::Host).unwrap();
    buffer.write(0, &bytes).unwrap();
    buffer
}

fn read(buffer: &Arc<dyn Buffer>) -> Vec<u32> {
    let mut bytes = vec![0; buffer.len_bytes() as usize];
    buffer.read(0, &mut bytes).unwrap();
    bytes.chunks_exact(4).map(|c| u32::from_le_bytes(c.try_into().unwrap())).collect()
}

fn probe(executable: &Arc<dyn Executable>, workgroups: u32, steps: i64) -> Dispatch {
    let bindings = vec![Binding::slot(0, 0, 8, Access::Unknown)];
    Dispatch {
        executable: executable.clone(),
        entry: PROBE,
        grid: [workgroups, 1, 1],
        bindings,
        constants: vec![steps],
        tag: 0,
    }
}

/// Sizes that are not round, without a pattern that a schedule could hide behind.
fn sizes(seed: u32) -> impl Iterator<Item = u32> {
    std::iter::successors(Some(seed), |x| Some(x.wrapping_mul(1_664_525).wrapping_add(1_013_904_223)))
        .map(|x| (x >> 20) % 400 + 1)
}

#[test]
fn every_workgroup_runs_once_and_barriers_order_them() {
    for threads in 1..=8 {
        let device = device(threads);
        let executable = executable(&device);
        thread::scope(|scope| {
            for submitter in 0..3 {
                let (device, executable) = (&device, &executable);
                scope.spawn(move || {
                    for (count, epochs) in sizes(submitter).zip(sizes(submitter + 50)).take(12) {
                        // Each epoch reads what other workgroups of the one before wrote.
                        let commands = record(
                            device,
                            (0..epochs).map(|epoch| {
                                let (from, to) = if epoch % 2 == 0 { (0, 1) } else { (1, 0) };
                                let bytes = u64::from(count) * 4;
                                let bindings = vec![
                                    Binding::slot(from, 0, bytes, Access::Read),
                                    Binding::slot(to, 0, bytes, Access::Write),
                                ];
                                let (executable, grid) = (executable.clone(), [count, 1, 1]);
                                Dispatch {
                                    executable,
                                    entry: ROTATE,
                                    grid,
                                    bindings,
                                    constants: vec![count.into()],
                                    tag: 0,
                                }
                            }),
                        );
                        let a = u32s(device, (0..count).map(|x| x * 1000));
                        let b = u32s(device, (0..count).map(|x| x * 1000));
                        let inline = if count % 3 == 0 { Inline::Forbidden } else { Inline::Allowed };
                        run(device, &commands, &[BufferRange::whole(&a), BufferRange::whole(&b)], inline);
                        let last = if epochs % 2 == 0 { a } else { b };
                        let expected = (0..count).map(|x| (x + epochs) % count * 1000 + epochs);
                        assert!(
                            read(&last).into_iter().eq(expected),
                            "{threads} threads, {count} x {epochs}"
                        );
                    }
                });
            }
        });
    }
}

#[test]
fn no_more_threads_compute_than_asked_for() {
    for threads in [1, 2, 3] {
        let device = device(threads);
        let executable = executable(&device);
        let counter = u32s(&device, [0, 0]);
        let bindings = [BufferRange::whole(&counter)];
        let commands = record(&device, (0..6).map(|epoch| probe(&executable, 1 + 9 * epoch, 2000)));
        thread::scope(|scope| {
            for submitter in 0..6 {
                let (device, commands, bindings) = (&device, &commands, &bindings);
                let inline = if submitter < 4 { Inline::Allowed } else { Inline::Forbidden };
                scope.spawn(move || (0..15).for_each(|_| run(device, commands, bindings, inline)));
            }
        });
        let [now, most] = read(&counter)[..] else { panic!("two counts") };
        assert_eq!(now, 0);
        assert!(most <= threads, "{most} threads computed at once; {threads} were asked for");
    }
}

#[test]
fn long_work_is_shared() {
    let device = device(2);
    let counter = u32s(&device, [0, 0]);
    let commands = record(&device, [probe(&executable(&device), 64, 20_000)]);
    // A second processor may be late; the work comes again until it is there.
    let deadline = Instant::now() + Duration::from_secs(60);
    while read(&counter)[1] < 2 {
        assert!(Instant::now() < deadline, "no second thread ever helped");
        run(&device, &commands, &[BufferRange::whole(&counter)], Inline::Allowed);
    }
}

#[test]
fn background_work_is_not_starved_by_callers() {
    let device = device(1);
    let executable = executable(&device);
    let counter = u32s(&device, [0, 0]);
    let bindings = [BufferRange::whole(&counter)];
    let commands = record(&device, (0..20).map(|_| probe(&executable, 10, 1000)));
    let finished = AtomicBool::new(false);
    let calls = AtomicU64::new(0);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !finished.load(Ordering::Relaxed) {
                    run(&device, &commands, &bindings, Inline::Allowed);
                    calls.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        (0..20).for_each(|_| run(&device, &commands, &bindings, Inline::Forbidden));
        // Nor are the callers by it.
        while calls.load(Ordering::Relaxed) < 4 {
            run(&device, &commands, &bindings, Inline::Forbidden);
        }
        finished.store(true, Ordering::Relaxed);
    });
    assert_eq!(read(&counter), [0, 1]);
}

#[test]
fn host_calls_may_submit() {
    let device = Arc::new(device(1));
    let executable = executable(&device);
    let counter = u32s(&device, [0, 0]);
    let commands = record(&device, [probe(&executable, 100, 10)]);
    for inline in [Inline::Allowed, Inline::Forbidden] {
        let done = Timepoint::new(&device.create_semaphore(0), 1);
        let call = {
            let (device, commands, done) = (device.clone(), commands.clone(), done.clone());
            let bindings = [BufferRange::whole(&counter)];
            Box::new(move || {
                let operation = Operation::Execute { commands: &commands, bindings: &bindings };
                device.submit(Submission::new(operation).signals(&[done]).inline(inline))?;
                Ok(())
            })
        };
        device.submit(Submission::new(Operation::HostCall(call)).inline(inline)).unwrap();
        done.wait(Some(Instant::now() + Duration::from_secs(60))).unwrap();
    }
    assert_eq!(read(&counter), [0, 1]);
}

#[test]
fn dropping_the_device_fails_what_has_not_started() {
    let device = device(2);
    let gate = device.create_semaphore(0);
    let points = [Timepoint::new(&gate, 1), Timepoint::new(&device.create_semaphore(0), 1)];
    let call = Box::new(|| panic!("the device is gone"));
    device
        .submit(Submission::new(Operation::HostCall(call)).waits(&points[..1]).signals(&points[1..]))
        .unwrap();
    drop(device);
    gate.signal(1).unwrap();
    let outcome = points[1].wait(Some(Instant::now() + Duration::from_secs(60)));
    assert!(matches!(outcome, Err(WaitError::Failed(Failure::DeviceLost { .. }))), "{outcome:?}");
}

#[test]
fn a_host_call_may_drop_the_device() {
    for inline in [Inline::Allowed, Inline::Forbidden] {
        let device = Arc::new(device(2));
        let done = Timepoint::new(&device.create_semaphore(0), 1);
        let last = device.clone();
        let gate = Timepoint::new(&device.create_semaphore(0), 1);
        let call = Box::new(move || {
            drop(last);
            Ok(())
        });
        let submission = Submission::new(Operation::HostCall(call)).inline(inline);
        let submission = submission.waits(std::slice::from_ref(&gate)).signals(std::slice::from_ref(&done));
        device.submit(submission).unwrap();
        drop(device);
        gate.semaphore.signal(1).unwrap();
        done.wait(Some(Instant::now() + Duration::from_secs(60))).unwrap();
    }
}

#[test]
fn a_profile_says_which_dispatch_each_span_is_of_and_all_workgroups_are_in_one() {
    let device = device(2);
    let executable = executable(&device);
    let tagged = |tag, workgroups| Dispatch { tag, ..probe(&executable, workgroups, 1000) };
    let commands = record(&device, [tagged(7, 3), tagged(9, 50)]);
    let counts = u32s(&device, [0, 0]);
    device.start_profile();
    run(&device, &commands, &[BufferRange::whole(&counts)], Inline::Allowed);
    let spans = device.take_profile();
    for (tag, workgroups) in [(7, 3), (9, 50)] {
        let of_tag: Vec<_> = spans.iter().filter(|span| span.tag == Some(tag)).collect();
        assert!(of_tag.iter().all(|span| span.of_workgroups == workgroups && &*span.work == "probe"));
        assert_eq!(of_tag.iter().map(|span| span.workgroups).sum::<u32>(), workgroups);
    }
}
