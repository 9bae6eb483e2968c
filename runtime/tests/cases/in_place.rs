//! Outputs where inputs are, as a cache that each call changes; and memory of outputs that is used again.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ired_hal::{
    AllocateError, Buffer, BufferRange, CommandBuffer, Device, DeviceInfo, Executable, ExecutableSource,
    HostMemory, Memory, PrepareError, RecordError, Recording, Semaphore, Submission, SubmitError,
};
use ired_module::code::{ArithOp, Inst, OwnedInst};
use ired_module::signature::DimSpec;
use ired_module::{DType, ModuleDraft};
use ired_runtime::{
    BoundTensor, Instance, InstanceOptions, InvokeError, InvokeOptions, LoadedModule, OutputPool,
};

use crate::harness::*;

on_each_device!(
    a_cache_is_updated_where_it_is,
    who_reads_the_old_cache_gets_it,
    kernels_that_are_not_made_for_it_write_elsewhere,
    outputs_that_are_each_others_inputs_change_places,
    other_overlaps_are_refused,
    a_growing_loop_takes_no_new_memory,
);

const LENGTH: u64 = 4;

/// Memory that the device may write to.
fn writable(instance: &Instance, values: &[i32]) -> BoundTensor {
    let device = instance.module().device();
    let buffer = device.allocate(values.len() as u64 * 4, Memory::Host).unwrap();
    buffer.write(0, &bytes(values)).unwrap();
    BoundTensor::new(DType::I32, [values.len() as u64], BufferRange::whole(&buffer))
}

/// `cache`, `row` -> `new`, `other`: the cache with element 1 replaced, and what `body` makes in `b4` of `b0`, the old
/// cache; `b3` is the new one.
fn cache_module(body: &[OwnedInst]) -> ModuleDraft {
    let spec = |name| spec(name, DType::I32, &[DimSpec::Static(LENGTH)]);
    let mut insts = vec![
        constant(0, LENGTH as i64),
        constant(1, LENGTH as i64 * 4),
        constant(2, 1),
        input(0, 0),
        input(1, 1),
        allocate(3, 1),
        allocate(4, 1),
    ];
    insts.extend_from_slice(body);
    insts.extend([output(0, 3, &[0]), output(1, 4, &[0]), Inst::Return]);
    let inputs = vec![spec("cache"), crate::harness::spec("row", DType::I32, &[DimSpec::Static(1)])];
    draft(inputs, vec![spec("new"), spec("other")], insts)
}

fn update() -> OwnedInst {
    dispatch(UPDATE, ONE, &[0, 1, 3], &[0, 2])
}

/// `b4 = from + 1`.
fn other(from: u16) -> OwnedInst {
    dispatch(ADD_CONSTANT, 0, &[from, 4], &[2])
}

/// Calls with the new cache where the old one is.
fn call_in_place(instance: &Instance, cache: &BoundTensor, row: i32) -> Result<Vec<Vec<i32>>, InvokeError> {
    let places = vec![Some(cache.buffer.clone())];
    let options = InvokeOptions { outputs: Some(Arc::new(places)), ..InvokeOptions::default() };
    let inputs = vec![cache.clone(), tensor(instance, &[1], &[row])];
    let outputs = instance.invoke_with("main", inputs, &options)?.take_outputs(None)?;
    assert!(Arc::ptr_eq(&outputs[0].buffer.buffer, &cache.buffer.buffer));
    Ok(outputs.iter().map(values).collect())
}

fn a_cache_is_updated_where_it_is() {
    let instance = instance(&cache_module(&[update(), Inst::Barrier, other(3)]));
    let cache = writable(&instance, &[10, 20, 30, 40]);
    for row in [7, 8, 9] {
        let before = values(&cache);
        let apart = instance.run("main", vec![cache.clone(), tensor(&instance, &[1], &[row])], None).unwrap();
        assert_eq!(values(&cache), before);
        let here = call_in_place(&instance, &cache, row).unwrap();
        assert_eq!(here, [vec![10, row, 30, 40], vec![11, row + 1, 31, 41]]);
        assert_eq!(here, apart.iter().map(values).collect::<Vec<_>>());
    }
    assert_eq!(instance.pooled_bytes(), 0, "nothing was made elsewhere");
}

fn who_reads_the_old_cache_gets_it() {
    let readers = [
        // Before, which leaves the cache to be updated in place.
        (vec![other(0), Inst::Barrier, update()], true),
        // At the same time, or afterwards.
        (vec![other(0), update()], false),
        (vec![update(), other(0)], false),
        (vec![update(), Inst::Barrier, other(0)], false),
        (vec![update(), Inst::Barrier, Inst::Copy { src: b(0), dst: b(4) }], false),
        // In a schedule that waits.
        (vec![update(), Inst::Await, other(0)], false),
    ];
    for (body, in_place) in readers {
        let copies = body.iter().any(|inst| matches!(inst, Inst::Copy { .. }));
        let instance = instance(&cache_module(&body));
        let cache = writable(&instance, &[10, 20, 30, 40]);
        for (row, old) in [(7, 20), (8, 7)] {
            let one = i32::from(!copies);
            let expected = [vec![10, row, 30, 40], [10, old, 30, 40].map(|x| x + one).to_vec()];
            assert_eq!(call_in_place(&instance, &cache, row).unwrap(), expected, "{body:?}");
        }
        assert_eq!(instance.pooled_bytes() == 0, in_place, "{body:?}");
    }
}

fn kernels_that_are_not_made_for_it_write_elsewhere() {
    let add = dispatch(ADD, 0, &[0, 0, 3], &[]);
    let instance = instance(&cache_module(&[add, Inst::Barrier, other(3)]));
    let cache = writable(&instance, &[1, 2, 3, 4]);
    for factor in [2, 4] {
        let doubled = [1, 2, 3, 4].map(|x| x * factor);
        let outputs = call_in_place(&instance, &cache, 0).unwrap();
        assert_eq!(outputs, [doubled.to_vec(), doubled.map(|x| x + 1).to_vec()]);
    }
    assert!(instance.pooled_bytes() > 0);
}

fn outputs_that_are_each_others_inputs_change_places() {
    let four = [DimSpec::Static(LENGTH)];
    let specs = |names: [&str; 2]| names.map(|name| spec(name, DType::I32, &four)).to_vec();
    for waits in [false, true] {
        let mut body = vec![constant(0, LENGTH as i64), input(0, 0), input(1, 1)];
        body.extend(waits.then_some(Inst::Await));
        body.extend([output(0, 1, &[0]), output(1, 0, &[0]), Inst::Return]);
        let instance = instance(&draft(specs(["a", "b"]), specs(["x", "y"]), body));
        let (a, b) = (writable(&instance, &[1, 2, 3, 4]), writable(&instance, &[5, 6, 7, 8]));
        let places = vec![Some(a.buffer.clone()), Some(b.buffer.clone())];
        let options = InvokeOptions { outputs: Some(Arc::new(places)), ..InvokeOptions::default() };
        let call = instance.invoke_with("main", vec![a.clone(), b.clone()], &options).unwrap();
        call.wait(None).unwrap();
        assert_eq!((values(&a), values(&b)), (vec![5, 6, 7, 8], vec![1, 2, 3, 4]));
    }
}

fn other_overlaps_are_refused() {
    for waits in [false, true] {
        let mut body = vec![update(), Inst::Barrier, other(3)];
        body.extend(waits.then_some(Inst::Await));
        let instance = instance(&cache_module(&body));
        let memory = writable(&instance, &[0; 16]).buffer.buffer;
        let place = |start: u64| BufferRange::new(&memory, start * 4, LENGTH * 4);
        let call = |new: u64, other: u64| {
            let cache = BoundTensor::new(DType::I32, [LENGTH], place(0));
            let places = vec![Some(place(new)), Some(place(other))];
            let options = InvokeOptions { outputs: Some(Arc::new(places)), ..InvokeOptions::default() };
            let inputs = vec![cache, tensor(&instance, &[1], &[1])];
            instance.invoke_with("main", inputs, &options)?.wait(None)
        };
        let refused = |outcome: Result<(), InvokeError>, expected: &str| match outcome {
            Err(error @ InvokeError::OutputOverlaps { .. }) => {
                assert!(error.to_string().contains(expected), "{error}");
            }
            other => panic!("{other:?}"),
        };
        refused(call(1, 8), "output `new` overlaps input `cache`");
        refused(call(4, 6), "output `other` overlaps output `new`");
        refused(call(4, 4), "output `other` overlaps output `new`");
        call(0, 4).unwrap();
        call(4, 8).unwrap();
    }
}

/// A device that counts allocations.
#[derive(Debug)]
struct Counting {
    device: Arc<dyn Device>,
    allocations: AtomicUsize,
}

impl Device for Counting {
    fn info(&self) -> &DeviceInfo {
        self.device.info()
    }

    fn allocate(&self, len_bytes: u64, memory: Memory) -> Result<Arc<dyn Buffer>, AllocateError> {
        self.allocations.fetch_add(1, Ordering::Relaxed);
        self.device.allocate(len_bytes, memory)
    }

    fn reserve(&self, len_bytes: u64, memory: Memory) -> Result<Arc<dyn Buffer>, AllocateError> {
        self.device.reserve(len_bytes, memory)
    }

    fn import(&self, memory: HostMemory) -> Result<Arc<dyn Buffer>, AllocateError> {
        self.device.import(memory)
    }

    fn prepare_executable(&self, source: &ExecutableSource<'_>) -> Result<Arc<dyn Executable>, PrepareError> {
        self.device.prepare_executable(source)
    }

    fn create_semaphore(&self, initial: u64) -> Arc<dyn Semaphore> {
        self.device.create_semaphore(initial)
    }

    fn create_command_buffer(&self, recording: Recording) -> Result<Arc<dyn CommandBuffer>, RecordError> {
        self.device.create_command_buffer(recording)
    }

    fn submit(&self, submission: Submission<'_>) -> Result<(), SubmitError> {
        self.device.submit(submission)
    }
}

/// A past that each call makes longer by one, through a transient as long: what decoders do with what they have seen.
fn a_growing_loop_takes_no_new_memory() {
    let draft = draft(
        vec![spec("past", DType::I32, &[dynamic("n")])],
        vec![spec("present", DType::I32, &[dynamic("m")])],
        vec![
            dim(0, 0, 0),
            constant(1, 4),
            arith(ArithOp::Mul, 2, 0, 1),
            arith(ArithOp::Add, 3, 0, ONE),
            arith(ArithOp::Add, 4, 2, 1),
            input(0, 0),
            allocate(1, 2),
            allocate(2, 4),
            Inst::Copy { src: b(0), dst: b(1) },
            Inst::Fill { dst: b(2), pattern: s(0), width: 4 },
            Inst::Barrier,
            Inst::Copy { src: b(1), dst: b(2) },
            output(0, 2, &[3]),
            Inst::Return,
        ],
    );
    let device = Arc::new(Counting { device: device(), allocations: AtomicUsize::new(0) });
    let module = LoadedModule::load(device.clone(), draft.to_bytes().unwrap()).unwrap();
    let instance = module.instantiate(InstanceOptions::default());
    let options = InvokeOptions {
        outputs: Some(OutputPool::new(instance.module().device())),
        ..InvokeOptions::default()
    };
    // Large enough that sizes matter.
    let start = 20_000;
    let mut past = vec![tensor(&instance, &[start], &(0..start as i32).collect::<Vec<_>>())];
    let mut counts = Vec::new();
    for length in start..start + 50 {
        past = instance.invoke_with("main", past, &options).unwrap().take_outputs(None).unwrap();
        assert_eq!(past[0].dims, [length + 1]);
        counts.push(device.allocations.load(Ordering::Relaxed));
    }
    assert_eq!(values(&past[0]), (0..start as i32 + 50).collect::<Vec<_>>());
    assert_eq!(counts[49], counts[1], "{counts:?}");
}
