//! Each rule of the device interface, broken once: the validating device names it.

#![allow(clippy::unwrap_used, reason = "a test")]

use std::sync::Arc;

use ired_driver_template::{Kernel, TemplateDevice};
use ired_hal::validate::{Validated, Violation};
use ired_hal::{
    Access, Binding, Buffer, BufferRange, CommandBuffer, Device, Dispatch, Executable, ExecutableSource,
    HostAccessError, HostMemory, Memory, Operation, Pattern, RecordError, Recorder, Semaphore, Submission,
    SubmitError, Timepoint,
};

const ZERO: Pattern = Pattern::byte(0);

fn device() -> Arc<dyn Device> {
    let nothing: Kernel = Arc::new(|_| Ok(()));
    Arc::new(Validated::new(Arc::new(TemplateDevice::new([("nothing".to_owned(), nothing)]))))
}

fn allocate(device: &Arc<dyn Device>, bytes: u64) -> Arc<dyn Buffer> {
    device.allocate(bytes, Memory::Host).unwrap()
}

fn nothing(device: &Arc<dyn Device>) -> Arc<dyn Executable> {
    let (features, entries) = (&[][..], &["nothing".to_owned()][..]);
    let source = ExecutableSource { name: "test", triple: "template", features, image: &[], entries };
    device.prepare_executable(&source).unwrap()
}

fn record(device: &Arc<dyn Device>, commands: &[Dispatch]) -> Result<Arc<dyn CommandBuffer>, RecordError> {
    let mut recorder = Recorder::new();
    for dispatch in commands {
        recorder.dispatch(dispatch.clone())?;
    }
    device.create_command_buffer(recorder.finish())
}

fn dispatch(executable: &Arc<dyn Executable>, bindings: Vec<Binding>) -> Dispatch {
    Dispatch { executable: executable.clone(), entry: 0, grid: [1; 3], bindings, constants: vec![], tag: 0 }
}

/// The rule that submitting `operation` breaks.
fn submitted(
    device: &Arc<dyn Device>,
    operation: Operation<'_>,
    waits: &[Timepoint],
    signals: &[Timepoint],
) -> Violation {
    match device.submit(Submission::new(operation).waits(waits).signals(signals)) {
        Err(SubmitError::Invalid { cause, .. }) => cause,
        other => panic!("{other:?}"),
    }
}

fn broken(device: &Arc<dyn Device>, operation: Operation<'_>) -> Violation {
    submitted(device, operation, &[], &[])
}

fn recorded(result: Result<Arc<dyn CommandBuffer>, RecordError>) -> Violation {
    match result {
        Err(RecordError::Invalid(cause)) => cause,
        other => panic!("{other:?}"),
    }
}

fn submit(device: &Arc<dyn Device>, operation: Operation<'_>, waits: &[Timepoint], signals: &[Timepoint]) {
    device.submit(Submission::new(operation).waits(waits).signals(signals)).unwrap();
}

fn at(semaphore: &Arc<dyn Semaphore>, value: u64) -> [Timepoint; 1] {
    [Timepoint::new(semaphore, value)]
}

#[test]
fn objects_of_another_device_are_foreign() {
    let (device, other) = (device(), device());
    let (buffer, semaphore) = (allocate(&other, 8), other.create_semaphore(0));
    let range = BufferRange::whole(&buffer);
    let fill = || Operation::Fill { dst: &range, pattern: ZERO };
    assert_eq!(broken(&device, fill()), Violation::Foreign { what: "a buffer" });
    let wait = submitted(&device, Operation::Barrier, &at(&semaphore, 1), &[]);
    assert_eq!(wait, Violation::Foreign { what: "a semaphore" });
    let signal = submitted(&device, Operation::Barrier, &[], &at(&semaphore, 1));
    assert_eq!(signal, Violation::Foreign { what: "a semaphore" });
    let commands = record(&other, &[]).unwrap();
    let execute = broken(&device, Operation::Execute { commands: &commands, bindings: &[] });
    assert_eq!(execute, Violation::Foreign { what: "a command buffer" });
    let dispatch = dispatch(&nothing(&other), vec![]);
    assert_eq!(recorded(record(&device, &[dispatch])), Violation::Foreign { what: "an executable" });
}

#[test]
fn queues_and_ranges_exist() {
    let device = device();
    let refused = device.submit(Submission { queue: 3, ..Submission::new(Operation::Barrier) });
    let Err(SubmitError::Invalid { cause, .. }) = refused else { panic!("{refused:?}") };
    assert_eq!(cause, Violation::NoSuchQueue { queue: 3, queues: 1 });
    let buffer = allocate(&device, 8);
    for (offset_bytes, len_bytes) in [(0, 9), (8, 1), (u64::MAX, 2)] {
        let range = BufferRange::new(&buffer, offset_bytes, len_bytes);
        let cause = broken(&device, Operation::Fill { dst: &range, pattern: ZERO });
        assert_eq!(cause, Violation::OutOfRange { offset_bytes, len_bytes, buffer_bytes: 8 });
    }
}

#[test]
fn copies_updates_and_fills_fit() {
    let device = device();
    let buffer = allocate(&device, 16);
    let [first, shifted, short] = [(0, 8), (4, 8), (8, 4)].map(|(o, n)| BufferRange::new(&buffer, o, n));
    let overlapping = broken(&device, Operation::Copy { src: &first, dst: &shifted });
    assert_eq!(overlapping, Violation::OverlappingCopy);
    let unequal = broken(&device, Operation::Copy { src: &first, dst: &short });
    assert_eq!(unequal, Violation::UnequalLengths { src_bytes: 8, dst_bytes: 4 });
    let unequal = broken(&device, Operation::Update { src: &[0; 3], dst: &short });
    assert_eq!(unequal, Violation::UnequalLengths { src_bytes: 3, dst_bytes: 4 });
    let wide = Pattern::new(0, 8).unwrap();
    assert_eq!(
        broken(&device, Operation::Fill { dst: &short, pattern: wide }),
        Violation::UnalignedFill { width: 8 }
    );
}

#[test]
fn read_only_memory_is_not_written_to() {
    let device = device();
    let constant = device.import(HostMemory::read_only(vec![0_u8; 8])).unwrap();
    let range = BufferRange::whole(&constant);
    assert_eq!(broken(&device, Operation::Fill { dst: &range, pattern: ZERO }), Violation::WritesReadOnly);
    let writes = dispatch(&nothing(&device), vec![Binding::slot(0, 0, 8, Access::Write)]);
    let commands = record(&device, &[writes]).unwrap();
    let bindings = [range];
    let execute = broken(&device, Operation::Execute { commands: &commands, bindings: &bindings });
    assert_eq!(execute, Violation::WritesReadOnly);
}

#[test]
fn reserved_memory_is_used_between_alloca_and_dealloca() {
    let device = device();
    let (plain, reserved) = (allocate(&device, 8), device.reserve(8, Memory::Device).unwrap());
    assert_eq!(broken(&device, Operation::Alloca { buffer: &plain }), Violation::NotReserved);
    let range = BufferRange::whole(&reserved);
    let fill = || Operation::Fill { dst: &range, pattern: ZERO };
    assert_eq!(broken(&device, fill()), Violation::NotAllocated);
    assert_eq!(broken(&device, Operation::Dealloca { buffer: &reserved }), Violation::NotAllocated);
    submit(&device, Operation::Alloca { buffer: &reserved }, &[], &[]);
    assert_eq!(broken(&device, Operation::Alloca { buffer: &reserved }), Violation::AllocatedTwice);
    submit(&device, fill(), &[], &[]);
    submit(&device, Operation::Dealloca { buffer: &reserved }, &[], &[]);
    assert_eq!(broken(&device, fill()), Violation::NotAllocated);
}

#[test]
fn memory_in_use_is_not_taken_back() {
    let device = device();
    let (gate, timeline) = (device.create_semaphore(0), device.create_semaphore(0));
    let reserved = device.reserve(8, Memory::Device).unwrap();
    let range = BufferRange::whole(&reserved);
    submit(&device, Operation::Alloca { buffer: &reserved }, &[], &[]);
    submit(&device, Operation::Fill { dst: &range, pattern: ZERO }, &at(&gate, 1), &at(&timeline, 1));
    assert_eq!(broken(&device, Operation::Dealloca { buffer: &reserved }), Violation::InUse);
    submit(&device, Operation::Dealloca { buffer: &reserved }, &at(&timeline, 1), &at(&timeline, 2));
    gate.signal(1).unwrap();
    timeline.wait(2, None).unwrap();
}

#[test]
fn binding_tables_give_what_slots_need() {
    let device = device();
    let buffer = allocate(&device, 8);
    let uses = dispatch(&nothing(&device), vec![Binding::slot(1, 4, 8, Access::Read)]);
    let commands = record(&device, &[uses]).unwrap();
    let table = [BufferRange::whole(&buffer), BufferRange::whole(&buffer)];
    let execute = |bindings| broken(&device, Operation::Execute { commands: &commands, bindings });
    assert_eq!(execute(&table[..1]), Violation::TooFewBindings { found: 1, expected: 2 });
    assert_eq!(execute(&table), Violation::BindingTooShort { slot: 1, found_bytes: 8, expected_bytes: 12 });
}

#[test]
fn limits_hold() {
    let device = device();
    let executable = nothing(&device);
    let wide = Dispatch { grid: [u32::MAX, 2, 1], ..dispatch(&executable, vec![]) };
    let cause = recorded(record(&device, &[wide]));
    let (found, limit) = (2 * u64::from(u32::MAX), 1 << 32);
    assert_eq!(cause, Violation::AboveLimit { command: 0, what: "grid", found, limit });
    let many = dispatch(&executable, vec![Binding::slot(0, 0, 1, Access::Read); 65]);
    let cause = recorded(record(&device, &[many]));
    assert_eq!(cause, Violation::AboveLimit { command: 0, what: "number of bindings", found: 65, limit: 64 });
}

#[test]
fn one_epoch_has_no_hazards() {
    let device = device();
    let (executable, buffer) = (nothing(&device), allocate(&device, 64));
    let touch = |offset, access| dispatch(&executable, vec![Binding::buffer(&buffer, offset, 8, access)]);
    let missing = Violation::MissingBarrier { first: 0, second: 1 };
    for (first, second) in
        [(Access::Write, Access::Read), (Access::Read, Access::Write), (Access::Write, Access::Write)]
    {
        assert_eq!(recorded(record(&device, &[touch(0, first), touch(7, second)])), missing);
        record(&device, &[touch(0, first), touch(8, second)]).expect("ranges that only meet do not overlap");
    }
    record(&device, &[touch(0, Access::Read), touch(0, Access::Read)]).expect("reads may overlap");

    let mut ordered = Recorder::new();
    ordered.dispatch(touch(0, Access::Write)).unwrap();
    ordered.barrier();
    ordered.dispatch(touch(0, Access::Read)).unwrap();
    device.create_command_buffer(ordered.finish()).expect("a barrier orders");

    let both = |offset| {
        let bindings = vec![Binding::slot(0, 0, 8, Access::Read), Binding::slot(0, offset, 8, Access::Write)];
        record(&device, &[dispatch(&executable, bindings)])
    };
    both(0).expect("a kernel may work in place");
    assert_eq!(recorded(both(4)), Violation::AliasedBindings { command: 0, first: 0, second: 1 });
}

#[test]
fn slots_bound_to_the_same_bytes_are_a_hazard_when_bound() {
    let device = device();
    let (executable, buffer) = (nothing(&device), allocate(&device, 64));
    let commands = [(0, Access::Write), (1, Access::Read)]
        .map(|(slot, access)| dispatch(&executable, vec![Binding::slot(slot, 0, 8, access)]));
    let commands = record(&device, &commands).expect("different slots may be different bytes");
    let bound = |offset| [BufferRange::new(&buffer, 0, 8), BufferRange::new(&buffer, offset, 8)];
    let (apart, overlapping) = (bound(8), bound(4));
    submit(&device, Operation::Execute { commands: &commands, bindings: &apart }, &[], &[]);
    let cause = broken(&device, Operation::Execute { commands: &commands, bindings: &overlapping });
    assert_eq!(cause, Violation::MissingBarrier { first: 0, second: 1 });
}

#[test]
fn submissions_that_touch_the_same_bytes_are_ordered() {
    let device = device();
    let semaphores = [(); 3].map(|()| device.create_semaphore(0));
    let [gate, first, second] = &semaphores;
    let buffer = allocate(&device, 64);
    let (low, high) = (BufferRange::new(&buffer, 0, 32), BufferRange::new(&buffer, 16, 32));
    let fill = |dst| Operation::Fill { dst, pattern: ZERO };
    submit(&device, fill(&low), &at(gate, 1), &at(first, 1));
    let unordered = Violation::Unordered { offset_bytes: 16, len_bytes: 16 };
    assert_eq!(broken(&device, fill(&high)), unordered);
    // Ordered through a third submission that touches nothing.
    submit(&device, Operation::Barrier, &at(first, 1), &at(second, 1));
    submit(&device, fill(&high), &at(second, 1), &at(second, 2));
    let mut bytes = [0; 8];
    assert_eq!(buffer.read(40, &mut bytes), Err(HostAccessError::InUse));
    buffer.read(56, &mut bytes).expect("nobody touches these bytes");
    gate.signal(1).unwrap();
    second.wait(2, None).unwrap();
    buffer.write(40, &bytes).expect("all work has completed");
}

#[test]
fn order_may_be_given_by_what_is_submitted_later() {
    let device = device();
    let (gate, timeline) = (device.create_semaphore(0), device.create_semaphore(0));
    let buffer = allocate(&device, 8);
    let range = BufferRange::whole(&buffer);
    let fill = || Operation::Fill { dst: &range, pattern: ZERO };
    submit(&device, fill(), &at(&timeline, 1), &at(&timeline, 2));
    submit(&device, fill(), &at(&gate, 1), &at(&timeline, 1));
    gate.signal(1).unwrap();
    timeline.wait(2, None).unwrap();
}

#[test]
fn semaphores_grow() {
    let device = device();
    let (gate, semaphore) = (device.create_semaphore(0), device.create_semaphore(4));
    let signal = |value| submitted(&device, Operation::Barrier, &[], &at(&semaphore, value));
    for value in [0, 4] {
        assert_eq!(signal(value), Violation::SignalNotIncreasing { value, current: 4 });
    }
    submit(&device, Operation::Barrier, &at(&gate, 1), &at(&semaphore, 6));
    assert_eq!(signal(6), Violation::SignalNotIncreasing { value: 6, current: 4 });
    let itself = submitted(&device, Operation::Barrier, &at(&semaphore, 7), &at(&semaphore, 7));
    assert_eq!(itself, Violation::WaitsForItself { value: 7, signalled: 7 });
    let twice = [at(&semaphore, 7), at(&semaphore, 8)].concat();
    assert_eq!(submitted(&device, Operation::Barrier, &[], &twice), Violation::SignalsTwice);
}
