//! Command buffers as recorded data: commands over buffers and binding slots, checked when recorded.

use std::any::Any;
use std::fmt::Debug;
use std::sync::Arc;

use crate::{Access, Buffer, Executable};

/// A recording in a device's own form; see [`crate::Device::create_command_buffer`].
pub trait CommandBuffer: Any + Debug + Send + Sync {
    /// The binding slots it uses: what a binding table must give. Slot `i` is element `i`.
    fn slots(&self) -> &[SlotUse];
}

/// Commands in order. Those between two [`Command::Barrier`]s may overlap and run in any order; a barrier ends
/// all before it, with their writes, before any after it starts. Made by a [`Recorder`].
#[derive(Clone, Debug)]
pub struct Recording {
    commands: Vec<Command>,
    slots: Vec<SlotUse>,
}

/// What a recording asks of one binding slot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SlotUse {
    /// The least length of what is bound; 0 for a slot that no command uses.
    pub len_bytes: u64,
    pub access: Access,
}

#[derive(Clone, Debug)]
pub enum Command {
    Dispatch(Dispatch),
    /// Copies `src` to `dst`, of the same length.
    Copy {
        src: Binding,
        dst: Binding,
    },
    /// Repeats `pattern` over `dst`.
    Fill {
        dst: Binding,
        pattern: Pattern,
    },
    /// Orders what stands before it before what stands after.
    Barrier,
}

/// A kernel over a grid of workgroups, which run in any order and at once.
#[derive(Clone, Debug)]
pub struct Dispatch {
    pub executable: Arc<dyn Executable>,
    /// Index into [`Executable::entries`].
    pub entry: u32,
    /// Workgroups along x, y, z. A zero runs nothing.
    pub grid: [u32; 3],
    pub bindings: Vec<Binding>,
    pub constants: Vec<i64>,
    /// Whatever its recorder knows it by: comes back in [`Span::tag`](crate::Span::tag), and means nothing to devices.
    pub tag: u32,
}

/// Bytes that a command works on.
#[derive(Clone, Debug)]
pub struct Binding {
    pub source: BindingSource,
    /// From the start of the buffer, or of the range that the binding table gives for the slot.
    pub offset_bytes: u64,
    pub len_bytes: u64,
    pub access: Access,
}

/// A buffer named now, or by the binding table of each execution.
#[derive(Clone, Debug)]
pub enum BindingSource {
    Slot(u32),
    Buffer(Arc<dyn Buffer>),
}

impl Binding {
    /// Bytes of whatever the binding table gives for `slot`.
    pub fn slot(slot: u32, offset_bytes: u64, len_bytes: u64, access: Access) -> Self {
        Self { source: BindingSource::Slot(slot), offset_bytes, len_bytes, access }
    }

    /// Bytes of `buffer`, which the recording keeps alive.
    pub fn buffer(buffer: &Arc<dyn Buffer>, offset_bytes: u64, len_bytes: u64, access: Access) -> Self {
        Self { source: BindingSource::Buffer(buffer.clone()), offset_bytes, len_bytes, access }
    }
}

/// 1, 2, 4 or 8 bytes to repeat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pattern {
    bytes: [u8; 8],
    width: u8,
}

impl Pattern {
    /// The low `width` bytes of `value`, least significant first; `None` unless `width` is 1, 2, 4 or 8.
    pub fn new(value: u64, width: u8) -> Option<Self> {
        matches!(width, 1 | 2 | 4 | 8).then(|| {
            let mut bytes = value.to_le_bytes();
            bytes[usize::from(width)..].fill(0);
            Self { bytes, width }
        })
    }

    /// A byte to repeat.
    pub const fn byte(value: u8) -> Self {
        Self { bytes: [value, 0, 0, 0, 0, 0, 0, 0], width: 1 }
    }

    pub fn width(&self) -> u8 {
        self.width
    }

    pub fn bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.width)]
    }

    /// The pattern repeated to eight bytes.
    pub fn repeated(&self) -> [u8; 8] {
        std::array::from_fn(|i| self.bytes[i % usize::from(self.width)])
    }
}

impl Recording {
    pub fn commands(&self) -> &[Command] {
        &self.commands
    }

    /// Length and access that each slot needs, over all commands.
    pub fn slots(&self) -> &[SlotUse] {
        &self.slots
    }

    pub fn into_commands(self) -> Vec<Command> {
        self.commands
    }
}

/// Makes a [`Recording`]. Every command is checked as far as can be without a device and a binding table.
#[derive(Debug, Default)]
pub struct Recorder {
    commands: Vec<Command>,
    slots: Vec<SlotUse>,
}

/// Slots are counted from 0 without holes worth keeping; this bounds what one wrong number can cost.
pub const MAX_SLOTS: u32 = 1 << 16;

impl Recorder {
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a dispatch. A grid with a zero is kept and runs nothing.
    pub fn dispatch(&mut self, dispatch: Dispatch) -> Result<(), RecordError> {
        let command = self.commands.len();
        let entries = dispatch.executable.entries().len();
        if dispatch.entry as usize >= entries {
            return Err(RecordError::NoSuchEntry { command, entry: dispatch.entry, entries });
        }
        for (index, binding) in dispatch.bindings.iter().enumerate() {
            check_binding(binding, binding.access).map_err(|cause| cause.at(command, index))?;
        }
        for binding in &dispatch.bindings {
            self.note(binding, binding.access);
        }
        self.commands.push(Command::Dispatch(dispatch));
        Ok(())
    }

    /// Adds a copy between ranges of equal length that do not overlap. The accesses in the bindings are ignored.
    pub fn copy(&mut self, src: Binding, dst: Binding) -> Result<(), RecordError> {
        let command = self.commands.len();
        if src.len_bytes != dst.len_bytes {
            return Err(RecordError::UnequalCopy {
                command,
                src_bytes: src.len_bytes,
                dst_bytes: dst.len_bytes,
            });
        }
        check_binding(&src, Access::Read).map_err(|cause| cause.at(command, 0))?;
        check_binding(&dst, Access::Write).map_err(|cause| cause.at(command, 1))?;
        if same_source(&src.source, &dst.source) && overlap(&src, &dst) {
            return Err(RecordError::OverlappingCopy { command });
        }
        let (src, dst) = (Binding { access: Access::Read, ..src }, Binding { access: Access::Write, ..dst });
        self.note(&src, Access::Read);
        self.note(&dst, Access::Write);
        self.commands.push(Command::Copy { src, dst });
        Ok(())
    }

    /// Adds a fill; offset and length are multiples of the pattern's width. The access in `dst` is ignored.
    pub fn fill(&mut self, dst: Binding, pattern: Pattern) -> Result<(), RecordError> {
        let command = self.commands.len();
        let width = u64::from(pattern.width());
        if !dst.offset_bytes.is_multiple_of(width) || !dst.len_bytes.is_multiple_of(width) {
            return Err(RecordError::UnalignedFill { command, width: pattern.width() });
        }
        check_binding(&dst, Access::Write).map_err(|cause| cause.at(command, 0))?;
        let dst = Binding { access: Access::Write, ..dst };
        self.note(&dst, Access::Write);
        self.commands.push(Command::Fill { dst, pattern });
        Ok(())
    }

    /// Adds a barrier; two in a row, or one at the start, are one too many and are not kept.
    pub fn barrier(&mut self) {
        if !matches!(self.commands.last(), None | Some(Command::Barrier)) {
            self.commands.push(Command::Barrier);
        }
    }

    pub fn finish(mut self) -> Recording {
        if matches!(self.commands.last(), Some(Command::Barrier)) {
            self.commands.pop();
        }
        Recording { commands: self.commands, slots: self.slots }
    }

    fn note(&mut self, binding: &Binding, access: Access) {
        let BindingSource::Slot(slot) = binding.source else { return };
        let slot = slot as usize;
        if slot >= self.slots.len() {
            self.slots.resize(slot + 1, SlotUse::default());
        }
        let used = &mut self.slots[slot];
        used.len_bytes = used.len_bytes.max(binding.offset_bytes + binding.len_bytes);
        used.access = used.access.and(access);
    }
}

enum BindingFault {
    OutOfRange { end_bytes: Option<u64>, buffer_bytes: u64 },
    ReadOnly,
    SlotTooLarge { slot: u32 },
}

impl BindingFault {
    fn at(self, command: usize, binding: usize) -> RecordError {
        match self {
            Self::OutOfRange { end_bytes: Some(end_bytes), buffer_bytes } => {
                RecordError::BindingOutOfRange { command, binding, end_bytes, buffer_bytes }
            }
            Self::OutOfRange { end_bytes: None, .. } => RecordError::BindingOverflows { command, binding },
            Self::ReadOnly => RecordError::WritesReadOnly { command, binding },
            Self::SlotTooLarge { slot } => RecordError::SlotTooLarge { command, slot },
        }
    }
}

fn check_binding(binding: &Binding, access: Access) -> Result<(), BindingFault> {
    let end_bytes = binding.offset_bytes.checked_add(binding.len_bytes);
    match &binding.source {
        BindingSource::Slot(slot) if *slot >= MAX_SLOTS => Err(BindingFault::SlotTooLarge { slot: *slot }),
        BindingSource::Slot(_) if end_bytes.is_none() => {
            Err(BindingFault::OutOfRange { end_bytes, buffer_bytes: 0 })
        }
        BindingSource::Slot(_) => Ok(()),
        BindingSource::Buffer(buffer) => {
            let buffer_bytes = buffer.len_bytes();
            if end_bytes.is_none_or(|end| end > buffer_bytes) {
                return Err(BindingFault::OutOfRange { end_bytes, buffer_bytes });
            }
            if access.writes() && !buffer.is_writable() {
                return Err(BindingFault::ReadOnly);
            }
            Ok(())
        }
    }
}

fn same_source(a: &BindingSource, b: &BindingSource) -> bool {
    match (a, b) {
        (BindingSource::Slot(a), BindingSource::Slot(b)) => a == b,
        (BindingSource::Buffer(a), BindingSource::Buffer(b)) => Arc::ptr_eq(a, b),
        _ => false,
    }
}

fn overlap(a: &Binding, b: &Binding) -> bool {
    a.offset_bytes < b.offset_bytes + b.len_bytes && b.offset_bytes < a.offset_bytes + a.len_bytes
}

/// Why a command was not recorded, or a recording not taken. `command` counts from 0.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    #[error("command {command}: entry {entry} is not one of the executable's {entries}")]
    NoSuchEntry { command: usize, entry: u32, entries: usize },
    #[error(
        "command {command}: binding {binding} ends at byte {end_bytes} of a buffer of {buffer_bytes} bytes"
    )]
    BindingOutOfRange { command: usize, binding: usize, end_bytes: u64, buffer_bytes: u64 },
    #[error("command {command}: offset and length of binding {binding} overflow")]
    BindingOverflows { command: usize, binding: usize },
    #[error("command {command}: binding {binding} writes to a read-only buffer")]
    WritesReadOnly { command: usize, binding: usize },
    #[error("command {command}: slot {slot} is not below {MAX_SLOTS}")]
    SlotTooLarge { command: usize, slot: u32 },
    #[error("command {command}: copies {src_bytes} bytes to a range of {dst_bytes}")]
    UnequalCopy { command: usize, src_bytes: u64, dst_bytes: u64 },
    #[error("command {command}: source and destination of a copy overlap")]
    OverlappingCopy { command: usize },
    #[error("command {command}: range to fill is not a multiple of the pattern's {width} bytes")]
    UnalignedFill { command: usize, width: u8 },
    #[error("command {command}: {what} is {found}; this device takes at most {limit}")]
    AboveLimit { command: usize, what: &'static str, found: u64, limit: u64 },
    /// [`crate::validate`] found a broken rule.
    #[error("a recording breaks a rule of the device interface")]
    Invalid(#[from] crate::validate::Violation),
}
