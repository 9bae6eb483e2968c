//! What a correct driver does, as a suite that every driver's tests run.
//!
//! Each case is a rule of the interface under the name of that rule, on a device of its own, once with operations
//! that may run inline and once without. A new rule of the interface is a new case here.

mod buffers;
mod commands;
mod executables;
mod queue;
mod semaphores;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::{
    Access, Binding, Buffer, BufferRange, CommandBuffer, Device, Dispatch, Executable, ExecutableSource,
    Failure, Inline, Memory, Operation, Recorder, Semaphore, Submission, Timepoint, WaitError,
};

/// An executable with [`ENTRIES`] for the device under test.
#[derive(Clone, Debug)]
pub struct Kernels {
    pub triple: String,
    pub features: Vec<String>,
    pub image: Vec<u8>,
}

/// The kernels that cases use. Those with a block work on elements `x * block .. min(count, (x + 1) * block)`.
///
/// - `add_f32(lhs, rhs, out; count, block)`: `out[i] = lhs[i] + rhs[i]`.
/// - `copy_bytes(src, dst; count, block)`: `dst[i] = src[i]`, in bytes.
/// - `scale_by_constant(in, out; count, block, factor)`: `out[i] = in[i] * factor`, in f32; in place allowed.
/// - `count_ids(out; width, height)`: adds `index + 1` to the u32 at `index = (z * height + y) * width + x`.
pub const ENTRIES: [&str; 4] = ["add_f32", "copy_bytes", "scale_by_constant", "count_ids"];

const ADD_F32: u32 = 0;
const COPY_BYTES: u32 = 1;
const SCALE_BY_CONSTANT: u32 = 2;
const COUNT_IDS: u32 = 3;

/// Longer than anything here takes; a case that gets here has hung.
const PATIENCE: Duration = Duration::from_secs(60);

/// A rule and its name.
type Case = (&'static str, fn(&Context));

/// Runs every case on devices that `make` makes.
///
/// # Panics
/// With the names of the cases that failed.
pub fn run(make: &dyn Fn() -> Arc<dyn Device>, kernels: &Kernels) {
    let families = [semaphores::CASES, buffers::CASES, executables::CASES, queue::CASES, commands::CASES];
    let mut failed = Vec::new();
    for (name, case) in families.into_iter().flatten() {
        for inline in [Inline::Allowed, Inline::Forbidden] {
            let context = Context { device: make(), kernels: kernels.clone(), inline };
            if catch_unwind(AssertUnwindSafe(|| case(&context))).is_err() {
                failed.push(format!("{name} (inline {inline:?})"));
            }
        }
    }
    assert!(failed.is_empty(), "{} cases failed: {}", failed.len(), failed.join(", "));
}

/// The device under test, with what most cases need.
struct Context {
    device: Arc<dyn Device>,
    kernels: Kernels,
    inline: Inline,
}

impl Context {
    fn semaphore(&self) -> Arc<dyn Semaphore> {
        self.device.create_semaphore(0)
    }

    fn allocate(&self, len_bytes: u64) -> Arc<dyn Buffer> {
        self.device.allocate(len_bytes, Memory::Host).expect("memory for a test")
    }

    fn buffer_of(&self, bytes: &[u8]) -> Arc<dyn Buffer> {
        let buffer = self.allocate(bytes.len() as u64);
        buffer.write(0, bytes).expect("host memory can be written to");
        buffer
    }

    fn buffer_of_f32(&self, values: &[f32]) -> Arc<dyn Buffer> {
        self.buffer_of(&values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>())
    }

    fn submit(&self, operation: Operation<'_>, waits: &[Timepoint], signals: &[Timepoint]) {
        let submission = Submission::new(operation).waits(waits).signals(signals).inline(self.inline);
        self.device.submit(submission).expect("a valid submission");
    }

    /// Submits, and waits until it is done.
    fn complete(&self, operation: Operation<'_>) -> Result<(), Failure> {
        let done = Timepoint::new(&self.semaphore(), 1);
        self.submit(operation, &[], std::slice::from_ref(&done));
        outcome(&done)
    }

    fn executable(&self) -> Arc<dyn Executable> {
        let entries: Vec<String> = ENTRIES.iter().map(|&name| name.into()).collect();
        let Kernels { triple, features, image } = &self.kernels;
        let source = ExecutableSource { name: "conformance", triple, features, image, entries: &entries };
        self.device.prepare_executable(&source).expect("the suite's kernels load")
    }

    fn commands(&self, record: impl FnOnce(&mut Recorder)) -> Arc<dyn CommandBuffer> {
        let mut recorder = Recorder::new();
        record(&mut recorder);
        self.device.create_command_buffer(recorder.finish()).expect("a valid recording")
    }
}

fn outcome(point: &Timepoint) -> Result<(), Failure> {
    match point.wait(Some(Instant::now() + PATIENCE)) {
        Ok(()) => Ok(()),
        Err(WaitError::Failed(failure)) => Err(failure),
        Err(error) => panic!("{error}"),
    }
}

fn bytes_of(buffer: &Arc<dyn Buffer>) -> Vec<u8> {
    let mut bytes = vec![0; buffer.len_bytes() as usize];
    buffer.read(0, &mut bytes).expect("host memory can be read");
    bytes
}

fn f32s_of(buffer: &Arc<dyn Buffer>) -> Vec<f32> {
    let bytes = bytes_of(buffer);
    bytes.chunks_exact(4).map(|c| f32::from_le_bytes([c[0], c[1], c[2], c[3]])).collect()
}

fn u32s_of(buffer: &Arc<dyn Buffer>) -> Vec<u32> {
    let bytes = bytes_of(buffer);
    bytes.chunks_exact(4).map(|c| u32::from_le_bytes([c[0], c[1], c[2], c[3]])).collect()
}

fn whole(buffer: &Arc<dyn Buffer>, access: Access) -> Binding {
    Binding::buffer(buffer, 0, buffer.len_bytes(), access)
}

fn table(buffers: &[&Arc<dyn Buffer>]) -> Vec<BufferRange> {
    buffers.iter().map(|buffer| BufferRange::whole(buffer)).collect()
}

/// A dispatch along x.
fn dispatch(
    executable: &Arc<dyn Executable>,
    entry: u32,
    workgroups: u32,
    bindings: Vec<Binding>,
    constants: Vec<i64>,
) -> Dispatch {
    Dispatch { executable: executable.clone(), entry, grid: [workgroups, 1, 1], bindings, constants, tag: 0 }
}
