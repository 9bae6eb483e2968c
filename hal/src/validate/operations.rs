//! Operations and recordings: checked, and said again in terms of the device below.

use std::sync::Arc;

use super::ledger::{Ledger, MemoryChange, Use};
use super::objects::{CheckedBuffer, CheckedCommandBuffer, CheckedExecutable};
use super::{Violation, hazards};
use crate::{
    Access, Binding, BindingSource, Buffer, BufferRange, Command, CommandBuffer, Dispatch, HostCall, Limits,
    Operation, Pattern, RecordError, Recorder, Recording,
};

/// An operation that may run: what it touches, and what the device below is to do.
pub(super) struct Checked<'a> {
    pub(super) operation: Below<'a>,
    pub(super) uses: Vec<Use>,
    pub(super) memory: Option<MemoryChange<'a>>,
}

/// An operation over objects of the device below.
pub(super) enum Below<'a> {
    Alloca(&'a Arc<dyn Buffer>),
    Dealloca(&'a Arc<dyn Buffer>),
    Fill(BufferRange, Pattern),
    Copy(BufferRange, BufferRange),
    Update(&'a [u8], BufferRange),
    Execute(&'a Arc<dyn CommandBuffer>, Vec<BufferRange>),
    HostCall(HostCall),
    Barrier,
}

impl Below<'_> {
    pub(super) fn into_submission<R>(self, submit: impl FnOnce(Operation<'_>) -> R) -> R {
        let operation = match &self {
            Self::Alloca(buffer) => Operation::Alloca { buffer },
            Self::Dealloca(buffer) => Operation::Dealloca { buffer },
            Self::Fill(dst, pattern) => Operation::Fill { dst, pattern: *pattern },
            Self::Copy(src, dst) => Operation::Copy { src, dst },
            Self::Update(src, dst) => Operation::Update { src, dst },
            Self::Execute(commands, bindings) => Operation::Execute { commands, bindings },
            Self::Barrier => Operation::Barrier,
            Self::HostCall(_) => {
                let Self::HostCall(call) = self else { unreachable!("just matched") };
                return submit(Operation::HostCall(call));
            }
        };
        submit(operation)
    }
}

pub(super) fn check<'a>(
    ledger: &Arc<Ledger>,
    operation: Operation<'a>,
    alignment_bytes: u64,
) -> Result<Checked<'a>, Violation> {
    let plain = |operation, uses| Checked { operation, uses, memory: None };
    Ok(match operation {
        Operation::Alloca { buffer } => memory_change(ledger, buffer, true)?,
        Operation::Dealloca { buffer } => memory_change(ledger, buffer, false)?,
        Operation::Fill { dst, pattern } => {
            let width = u64::from(pattern.width());
            if !dst.offset_bytes.is_multiple_of(width) || !dst.len_bytes.is_multiple_of(width) {
                return Err(Violation::UnalignedFill { width: pattern.width() });
            }
            let (below, used) = range(ledger, dst, Access::Write)?;
            plain(Below::Fill(below, pattern), vec![used])
        }
        Operation::Copy { src, dst } => {
            let ((from, read), (to, written)) =
                (range(ledger, src, Access::Read)?, range(ledger, dst, Access::Write)?);
            check_lengths(src.len_bytes, dst.len_bytes)?;
            let apart = read.bytes.end <= written.bytes.start || written.bytes.end <= read.bytes.start;
            if read.buffer == written.buffer && !apart && src.len_bytes > 0 {
                return Err(Violation::OverlappingCopy);
            }
            plain(Below::Copy(from, to), vec![read, written])
        }
        Operation::Update { src, dst } => {
            let (below, used) = range(ledger, dst, Access::Write)?;
            check_lengths(src.len() as u64, dst.len_bytes)?;
            plain(Below::Update(src, below), vec![used])
        }
        Operation::Execute { commands, bindings } => {
            let commands = CheckedCommandBuffer::of(ledger, &**commands)?;
            let (below, uses) = execution(ledger, commands, bindings, alignment_bytes)?;
            plain(Below::Execute(&commands.inner, below), uses)
        }
        Operation::HostCall(call) => plain(Below::HostCall(call), vec![]),
        Operation::Barrier => plain(Below::Barrier, vec![]),
    })
}

fn memory_change<'a>(
    ledger: &Arc<Ledger>,
    buffer: &'a Arc<dyn Buffer>,
    allocate: bool,
) -> Result<Checked<'a>, Violation> {
    let buffer = CheckedBuffer::of(ledger, &**buffer)?;
    let below = if allocate { Below::Alloca(&buffer.inner) } else { Below::Dealloca(&buffer.inner) };
    let bytes = 0..buffer.len_bytes();
    let uses = vec![Use { buffer: buffer.number, bytes, access: Access::Write }];
    Ok(Checked { operation: below, uses, memory: Some(MemoryChange { buffer, allocate }) })
}

fn check_lengths(src_bytes: u64, dst_bytes: u64) -> Result<(), Violation> {
    if src_bytes == dst_bytes { Ok(()) } else { Err(Violation::UnequalLengths { src_bytes, dst_bytes }) }
}

/// A range in terms of the device below, and what touching it means.
fn range(ledger: &Arc<Ledger>, range: &BufferRange, access: Access) -> Result<(BufferRange, Use), Violation> {
    let buffer = CheckedBuffer::of(ledger, &*range.buffer)?;
    let BufferRange { offset_bytes, len_bytes, .. } = *range;
    let buffer_bytes = buffer.len_bytes();
    let end = offset_bytes.checked_add(len_bytes).filter(|end| *end <= buffer_bytes);
    let end = end.ok_or(Violation::OutOfRange { offset_bytes, len_bytes, buffer_bytes })?;
    if access.writes() && !buffer.is_writable() {
        return Err(Violation::WritesReadOnly);
    }
    if !buffer.has_memory() {
        return Err(Violation::NotAllocated);
    }
    let used = Use { buffer: buffer.number, bytes: offset_bytes..end, access };
    Ok((BufferRange::new(&buffer.inner, offset_bytes, len_bytes), used))
}

/// The binding table in terms of the device below, and everything that the commands touch through it and directly.
fn execution(
    ledger: &Arc<Ledger>,
    commands: &CheckedCommandBuffer,
    table: &[BufferRange],
    alignment_bytes: u64,
) -> Result<(Vec<BufferRange>, Vec<Use>), Violation> {
    let slots = commands.recording.slots();
    if table.len() < slots.len() {
        return Err(Violation::TooFewBindings { found: table.len(), expected: slots.len() });
    }
    let mut below = Vec::new();
    for (slot, bound) in table.iter().enumerate() {
        let used = slots.get(slot).copied().unwrap_or_default();
        below.push(range(ledger, bound, used.access)?.0);
        if bound.len_bytes < used.len_bytes {
            let (found_bytes, expected_bytes) = (bound.len_bytes, used.len_bytes);
            return Err(Violation::BindingTooShort { slot, found_bytes, expected_bytes });
        }
    }
    let mut uses = Vec::new();
    for (command, recorded) in commands.recording.commands().iter().enumerate() {
        for (index, binding) in hazards::bindings(recorded).into_iter().enumerate() {
            let (buffer, start) = source(binding, table);
            let offset_bytes = start + binding.offset_bytes;
            let bound = BufferRange::new(buffer, offset_bytes, binding.len_bytes);
            uses.push(range(ledger, &bound, binding.access)?.1);
            let kernel = matches!(recorded, Command::Dispatch(_));
            if kernel && !offset_bytes.is_multiple_of(alignment_bytes) {
                let binding = index;
                return Err(Violation::MisalignedBinding { command, binding, offset_bytes, alignment_bytes });
            }
        }
    }
    hazards::check(commands.recording.commands(), |binding| {
        let (buffer, start) = source(binding, table);
        CheckedBuffer::of(ledger, &**buffer).ok().map(|buffer| (buffer.number, start))
    })?;
    Ok((below, uses))
}

/// What a binding stands for in an execution: a buffer, and where in it the binding's source starts.
fn source<'a>(binding: &'a Binding, table: &'a [BufferRange]) -> (&'a Arc<dyn Buffer>, u64) {
    match &binding.source {
        BindingSource::Slot(slot) => (&table[*slot as usize].buffer, table[*slot as usize].offset_bytes),
        BindingSource::Buffer(buffer) => (buffer, 0),
    }
}

/// A recording over objects of the device below. Hazards between slots show only when they are bound.
pub(super) fn translate_recording(
    ledger: &Arc<Ledger>,
    recording: &Recording,
    limits: &Limits,
) -> Result<Recording, RecordError> {
    let mut below = Recorder::new();
    for (command, recorded) in recording.commands().iter().enumerate() {
        match recorded {
            Command::Dispatch(dispatch) => {
                check_limits(command, dispatch, limits)?;
                let executable = CheckedExecutable::of(ledger, &*dispatch.executable)?.inner.clone();
                let bindings = dispatch.bindings.iter().map(|b| translate(ledger, b));
                let bindings = bindings.collect::<Result<_, _>>()?;
                below.dispatch(Dispatch { executable, bindings, ..dispatch.clone() })?;
            }
            Command::Copy { src, dst } => below.copy(translate(ledger, src)?, translate(ledger, dst)?)?,
            Command::Fill { dst, pattern } => below.fill(translate(ledger, dst)?, *pattern)?,
            Command::Barrier => below.barrier(),
        }
    }
    hazards::check(recording.commands(), |binding| {
        Some(match &binding.source {
            BindingSource::Slot(slot) => ((0, u64::from(*slot)), 0),
            BindingSource::Buffer(buffer) => ((1, CheckedBuffer::of(ledger, &**buffer).ok()?.number), 0),
        })
    })?;
    Ok(below.finish())
}

fn translate(ledger: &Arc<Ledger>, binding: &Binding) -> Result<Binding, Violation> {
    let source = match &binding.source {
        BindingSource::Slot(slot) => BindingSource::Slot(*slot),
        BindingSource::Buffer(buffer) => {
            BindingSource::Buffer(CheckedBuffer::of(ledger, &**buffer)?.inner.clone())
        }
    };
    Ok(Binding { source, ..binding.clone() })
}

fn check_limits(command: usize, dispatch: &Dispatch, limits: &Limits) -> Result<(), Violation> {
    let workgroups = dispatch.grid.iter().map(|&n| u128::from(n)).product::<u128>();
    let counts = [
        ("grid", u64::try_from(workgroups).unwrap_or(u64::MAX), limits.workgroups),
        ("number of bindings", dispatch.bindings.len() as u64, limits.bindings.into()),
        ("number of constants", dispatch.constants.len() as u64, limits.constants.into()),
    ];
    match counts.into_iter().find(|(_, found, limit)| found > limit) {
        Some((what, found, limit)) => Err(Violation::AboveLimit { command, what, found, limit }),
        None => Ok(()),
    }
}
