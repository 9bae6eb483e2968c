//! Command buffers as programs: epochs between barriers, each a flat range of workgroups over its commands.

#![allow(unsafe_code, reason = "calls kernels and copies raw memory")]

use std::any::Any;
use std::fmt::{self, Debug};
use std::ops::Range;
use std::sync::Arc;

use ired_hal::{
    Binding, BindingSource, Buffer, BufferRange, Command, CommandBuffer, Dispatch, Executable, Failure,
    Pattern, RecordError, Recording, SlotUse,
};

use crate::buffer::CpuBuffer;
use crate::executable::{CpuExecutable, Kernel};
use crate::pool::Pace;
use crate::profile::Profiler;

/// Bytes of a copy or a fill that count as one workgroup.
const PIECE_BYTES: usize = 128 << 10;

/// Of an epoch; one less than what counts them can hold.
const MAX_WORKGROUPS: u32 = u32::MAX - 1;

/// A recording in this device's form, with what it keeps alive.
#[derive(Debug)]
pub(crate) struct CpuCommandBuffer {
    pub(crate) program: Arc<Program>,
    slots: Vec<SlotUse>,
    /// Buffers that commands name directly; their addresses follow those of the slots.
    buffers: Vec<Arc<dyn Buffer>>,
    _executables: Vec<Arc<dyn Executable>>,
}

/// What to run, without owning anything that it refers to.
pub(crate) struct Program {
    epochs: Vec<Epoch>,
    steps: Vec<Step>,
    bindings: Vec<BoundTo>,
    constants: Vec<i64>,
    profiler: Arc<Profiler>,
    pub(crate) pace: Pace,
}

#[derive(Debug)]
struct Epoch {
    steps: Range<usize>,
    workgroups: u32,
}

#[derive(Debug)]
struct Step {
    /// Its first workgroup within the epoch.
    first: u32,
    /// Where its bindings start.
    bindings: usize,
    work: Work,
}

#[derive(Debug)]
enum Work {
    Dispatch {
        kernel: Kernel,
        grid: [u32; 3],
        constants: usize,
        /// Both for profiles.
        name: Arc<str>,
        tag: u32,
    },
    /// From binding 0 to binding 1.
    Copy {
        len: usize,
    },
    Fill {
        len: usize,
        pattern: [u8; 8],
    },
}

/// One binding: an offset into a slot, or into a buffer named directly.
#[derive(Clone, Copy, Debug)]
struct BoundTo {
    root: usize,
    offset: usize,
}

/// The addresses of a program's bindings for one execution, in the program's order.
#[derive(Debug, Default)]
pub(crate) struct Bound(Vec<*mut u8>);

// SAFETY: addresses of memory that any thread may use; the interface orders the uses, and `Leader::run` keeps the
// memory valid while threads use them.
unsafe impl Send for Bound {}
// SAFETY: as above.
unsafe impl Sync for Bound {}

impl CommandBuffer for CpuCommandBuffer {
    fn slots(&self) -> &[SlotUse] {
        &self.slots
    }
}

impl CpuCommandBuffer {
    pub(crate) fn new(recording: Recording, profiler: &Arc<Profiler>) -> Result<Self, RecordError> {
        let slots = recording.slots().to_vec();
        let mut build = Build::new(slots.len(), profiler);
        for (command, recorded) in recording.into_commands().into_iter().enumerate() {
            match recorded {
                Command::Dispatch(dispatch) => build.dispatch(command, dispatch)?,
                Command::Copy { src, dst } => build.copy(&src, &dst),
                Command::Fill { dst, pattern } => build.fill(&dst, pattern),
                Command::Barrier => build.end_epoch(),
            }
        }
        build.end_epoch();
        let Build { buffers, executables, program, .. } = build;
        Ok(Self { program: Arc::new(program), slots, buffers, _executables: executables })
    }

    /// The command buffer behind the interface. Validation has seen that it is one of ours.
    pub(crate) fn of(commands: &dyn CommandBuffer) -> &Self {
        (commands as &dyn Any).downcast_ref().expect("validation admits only this driver's command buffers")
    }

    /// Finds the address of each binding.
    pub(crate) fn bind(&self, table: &[BufferRange], bound: &mut Bound) -> Result<(), Failure> {
        let Bound(addresses) = bound;
        addresses.clear();
        for to in &self.program.bindings {
            let (buffer, start) = match table.get(to.root) {
                Some(range) if to.root < self.slots.len() => (&range.buffer, range.offset_bytes as usize),
                _ => match self.buffers.get(to.root.wrapping_sub(self.slots.len())) {
                    Some(buffer) => (buffer, 0),
                    None => {
                        let message = format!("binding table lacks slot {}", to.root);
                        return Err(Failure::Invalid { message });
                    }
                },
            };
            let address = CpuBuffer::of(&**buffer).address();
            if address.is_null() {
                let message = "a binding's buffer has no memory".into();
                return Err(Failure::Invalid { message });
            }
            addresses.push(address.wrapping_add(start + to.offset));
        }
        Ok(())
    }
}

impl Program {
    /// A program of one copy of `len` bytes, and the addresses for it.
    pub(crate) fn of_copy(
        src: *mut u8,
        dst: *mut u8,
        len: usize,
        profiler: &Arc<Profiler>,
    ) -> (Arc<Self>, Bound) {
        let mut build = Build::new(2, profiler);
        let binding = |slot| Binding::slot(slot, 0, len as u64, Default::default());
        build.copy(&binding(0), &binding(1));
        build.end_epoch();
        (Arc::new(build.program), Bound(vec![src, dst]))
    }

    /// A program of one fill of `len` bytes, and the address for it.
    pub(crate) fn of_fill(
        dst: *mut u8,
        len: usize,
        pattern: Pattern,
        profiler: &Arc<Profiler>,
    ) -> (Arc<Self>, Bound) {
        let mut build = Build::new(1, profiler);
        build.fill(&Binding::slot(0, 0, len as u64, Default::default()), pattern);
        build.end_epoch();
        (Arc::new(build.program), Bound(vec![dst]))
    }

    pub(crate) fn epochs(&self) -> u32 {
        self.epochs.len() as u32
    }

    /// Workgroups of an epoch, at least one; `None` past the last.
    pub(crate) fn epoch_workgroups(&self, epoch: u32) -> Option<u32> {
        self.epochs.get(epoch as usize).map(|epoch| epoch.workgroups)
    }

    pub(crate) fn is_last(&self, epoch: u32) -> bool {
        epoch as usize + 1 >= self.epochs.len()
    }

    /// Whether there is never anything for a second thread to do.
    pub(crate) fn is_serial(&self) -> bool {
        self.epochs.iter().all(|epoch| epoch.workgroups == 1)
    }

    /// Runs workgroups `start..end` of an epoch.
    pub(crate) fn run(&self, bound: &Bound, epoch: u32, start: u32, end: u32) {
        let Epoch { steps, workgroups } = &self.epochs[epoch as usize];
        let steps = &self.steps[steps.clone()];
        let mut index = if start == 0 { 0 } else { steps.partition_point(|step| step.first <= start) - 1 };
        let mut start = start;
        while start < end {
            let step = &steps[index];
            let next = steps.get(index + 1).map_or(*workgroups, |next| next.first);
            let step_end = next.min(end);
            let begun = self.profiler.begin();
            self.run_step(bound, step, start - step.first, step_end - step.first);
            if let Some(begun) = begun {
                let (work, tag) = step.work.name();
                self.profiler.note(begun, work, tag, step_end - start, next - step.first);
            }
            start = step_end;
            index += 1;
        }
    }

    fn run_step(&self, Bound(addresses): &Bound, step: &Step, start: u32, end: u32) {
        let bindings = &addresses[step.bindings..];
        match &step.work {
            Work::Dispatch { kernel, grid, constants, .. } => {
                let constants = &self.constants[*constants..];
                let [width, height, _] = *grid;
                let (mut x, mut y, mut z) = (start % width, start / width % height, start / width / height);
                for _ in start..end {
                    // SAFETY: the image's code, kept mapped by the command buffer, obeys the kernel ABI; the addresses
                    // are those of buffers that the submission keeps until it has run, of the lengths recorded,
                    // as validation or the verified module says.
                    unsafe { kernel(bindings.as_ptr(), constants.as_ptr(), x, y, z) };
                    x += 1;
                    if x == width {
                        (x, y) = (0, y + 1);
                        if y == height {
                            (y, z) = (0, z + 1);
                        }
                    }
                }
            }
            Work::Copy { len } => {
                let piece = pieces(start, end, *len);
                // SAFETY: both ranges have `len` bytes and do not overlap, as above.
                unsafe {
                    let src = bindings[0].add(piece.start);
                    src.copy_to_nonoverlapping(bindings[1].add(piece.start), piece.len());
                }
            }
            Work::Fill { len, pattern } => {
                let piece = pieces(start, end, *len);
                // SAFETY: the range has `len` bytes that only this workgroup writes to, as above. Its bytes may
                // be uninitialised for the language, so they are written through a pointer.
                unsafe { fill(bindings[0].add(piece.start), piece.len(), pattern) };
            }
        }
    }
}

impl Work {
    /// What profiles call it.
    fn name(&self) -> (Arc<str>, Option<u32>) {
        match self {
            Self::Dispatch { name, tag, .. } => (name.clone(), Some(*tag)),
            Self::Copy { .. } => ("copy".into(), None),
            Self::Fill { .. } => ("fill".into(), None),
        }
    }
}

/// Repeats `pattern` over `len` bytes.
///
/// # Safety
/// The bytes are valid for writes.
unsafe fn fill(dst: *mut u8, len: usize, pattern: &[u8; 8]) {
    if pattern.iter().all(|byte| *byte == pattern[0]) {
        // SAFETY: the caller's.
        unsafe { dst.write_bytes(pattern[0], len) };
        return;
    }
    for start in (0..len).step_by(8) {
        // SAFETY: `start + min(8, len - start)` is at most `len`.
        unsafe { dst.add(start).copy_from_nonoverlapping(pattern.as_ptr(), (len - start).min(8)) };
    }
}

fn pieces(start: u32, end: u32, len: usize) -> Range<usize> {
    start as usize * PIECE_BYTES..len.min(end as usize * PIECE_BYTES)
}

impl Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Program({} steps in {} epochs)", self.steps.len(), self.epochs.len())
    }
}

/// A program being made.
struct Build {
    slots: usize,
    buffers: Vec<Arc<dyn Buffer>>,
    executables: Vec<Arc<dyn Executable>>,
    program: Program,
    /// Of the epoch that is open.
    first_step: usize,
    workgroups: u32,
}

impl Build {
    fn new(slots: usize, profiler: &Arc<Profiler>) -> Self {
        let program = Program {
            epochs: Vec::new(),
            steps: Vec::new(),
            bindings: Vec::new(),
            constants: Vec::new(),
            profiler: profiler.clone(),
            pace: Pace::default(),
        };
        Self { slots, buffers: Vec::new(), executables: Vec::new(), program, first_step: 0, workgroups: 0 }
    }

    fn dispatch(&mut self, command: usize, dispatch: Dispatch) -> Result<(), RecordError> {
        let grid = dispatch.grid;
        let workgroups: u128 = grid.iter().map(|&n| u128::from(n)).product();
        let few = u32::try_from(workgroups).ok().filter(|workgroups| *workgroups <= MAX_WORKGROUPS);
        let Some(workgroups) = few else {
            let found = u64::try_from(workgroups).unwrap_or(u64::MAX);
            return Err(RecordError::AboveLimit {
                command,
                what: "grid",
                found,
                limit: MAX_WORKGROUPS.into(),
            });
        };
        if workgroups == 0 {
            return Ok(());
        }
        let executable = CpuExecutable::of(&*dispatch.executable);
        let kernel = executable.kernels[dispatch.entry as usize];
        let name = executable.labels[dispatch.entry as usize].clone();
        let (tag, constants) = (dispatch.tag, self.program.constants.len());
        self.program.constants.extend_from_slice(&dispatch.constants);
        self.step(
            workgroups,
            dispatch.bindings.iter(),
            Work::Dispatch { kernel, grid, constants, name, tag },
        );
        if !self.executables.iter().any(|held| Arc::ptr_eq(held, &dispatch.executable)) {
            self.executables.push(dispatch.executable);
        }
        Ok(())
    }

    fn copy(&mut self, src: &Binding, dst: &Binding) {
        let len = src.len_bytes as usize;
        self.pieces(len, &[src, dst], |len| Work::Copy { len });
    }

    fn fill(&mut self, dst: &Binding, pattern: Pattern) {
        let pattern = pattern.repeated();
        self.pieces(dst.len_bytes as usize, &[dst], |len| Work::Fill { len, pattern });
    }

    fn pieces(&mut self, len: usize, bindings: &[&Binding], work: impl Fn(usize) -> Work) {
        let workgroups = len.div_ceil(PIECE_BYTES);
        if workgroups > 0 {
            // Buffers are bounded so that this holds; see `MAX_BUFFER_BYTES`.
            let workgroups = u32::try_from(workgroups).expect("a buffer has fewer than 2^32 pieces");
            self.step(workgroups, bindings.iter().copied(), work(len));
        }
    }

    fn step<'a>(&mut self, workgroups: u32, bindings: impl Iterator<Item = &'a Binding>, work: Work) {
        if self.workgroups > MAX_WORKGROUPS - workgroups {
            // One barrier more than asked for keeps the count in range.
            self.end_epoch();
        }
        let start = self.program.bindings.len();
        for binding in bindings {
            let root = self.root(&binding.source);
            self.program.bindings.push(BoundTo { root, offset: binding.offset_bytes as usize });
        }
        self.program.steps.push(Step { first: self.workgroups, bindings: start, work });
        self.workgroups += workgroups;
    }

    fn root(&mut self, source: &BindingSource) -> usize {
        let buffer = match source {
            BindingSource::Slot(slot) => return *slot as usize,
            BindingSource::Buffer(buffer) => buffer,
        };
        let known = self.buffers.iter().position(|held| Arc::ptr_eq(held, buffer));
        self.slots
            + known.unwrap_or_else(|| {
                self.buffers.push(buffer.clone());
                self.buffers.len() - 1
            })
    }

    fn end_epoch(&mut self) {
        let steps = self.first_step..self.program.steps.len();
        if !steps.is_empty() {
            self.first_step = steps.end;
            let workgroups = std::mem::take(&mut self.workgroups);
            self.program.epochs.push(Epoch { steps, workgroups });
        }
    }
}
