//! Device memory: allocated, imported from the host, or reserved now and backed by memory when a queue says so.

use std::any::Any;
use std::fmt::{self, Debug};
use std::ops::Deref;
use std::sync::Arc;

/// Where an allocation should live.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Memory {
    /// Fastest for the device; the host may not see it.
    #[default]
    Device,
    /// The host can read and write it.
    Host,
}

/// A range of device memory. Dropping the last reference frees it; queued work keeps its own references.
///
/// Host access and queue work are ordered by semaphores alone: the caller sees to it that no work in flight
/// touches the bytes it reads or writes.
pub trait Buffer: Any + Debug + Send + Sync {
    /// Size in bytes.
    fn len_bytes(&self) -> u64;

    /// Whether device and host may write to it; memory imported read-only they may not.
    fn is_writable(&self) -> bool;

    /// Copies `into.len()` bytes from `offset_bytes` to the host.
    fn read(&self, offset_bytes: u64, into: &mut [u8]) -> Result<(), HostAccessError>;

    /// Copies `from` to `offset_bytes`.
    fn write(&self, offset_bytes: u64, from: &[u8]) -> Result<(), HostAccessError>;

    /// The bytes themselves, without a copy, while nobody else can reach the buffer (`Arc::get_mut`).
    fn map(&mut self) -> Result<&mut [u8], HostAccessError>;

    /// Turns the last reference into bytes that no device work can change any more, without a copy.
    ///
    /// Work lets go of its buffers before it signals, so after waiting for it the caller's reference is the
    /// last one unless a command buffer names the buffer directly.
    ///
    /// # Errors
    /// [`HostAccessError::Shared`] when other references exist; the caller's is dropped.
    fn freeze(self: Arc<Self>) -> Result<FrozenBuffer, HostAccessError>;
}

/// `len_bytes` bytes of a buffer from `offset_bytes`.
#[derive(Clone, Debug)]
pub struct BufferRange {
    pub buffer: Arc<dyn Buffer>,
    pub offset_bytes: u64,
    pub len_bytes: u64,
}

impl BufferRange {
    /// The whole of `buffer`.
    pub fn whole(buffer: &Arc<dyn Buffer>) -> Self {
        Self { buffer: buffer.clone(), offset_bytes: 0, len_bytes: buffer.len_bytes() }
    }

    pub fn new(buffer: &Arc<dyn Buffer>, offset_bytes: u64, len_bytes: u64) -> Self {
        Self { buffer: buffer.clone(), offset_bytes, len_bytes }
    }
}

/// What work does to the bytes it is bound to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Access {
    Read,
    Write,
    ReadWrite,
    /// Nobody has said; nothing can be checked.
    #[default]
    Unknown,
}

impl Access {
    pub fn writes(self) -> bool {
        matches!(self, Self::Write | Self::ReadWrite)
    }

    pub fn reads(self) -> bool {
        matches!(self, Self::Read | Self::ReadWrite)
    }

    /// What is done when both are done. [`Access::Unknown`] adds nothing.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        match (self, other) {
            (a, Self::Unknown) => a,
            (Self::Unknown, b) => b,
            (a, b) if a == b => a,
            _ => Self::ReadWrite,
        }
    }
}

/// Host memory that a device uses in place, with the value that keeps it alive.
///
/// The owner is dropped when the last reference to the buffer is: a pool gets its memory back that way.
pub enum HostMemory {
    ReadOnly(Box<dyn AsRef<[u8]> + Send + Sync>),
    Writable(Box<dyn AsMut<[u8]> + Send + Sync>),
}

impl HostMemory {
    /// Memory that device and host only read, such as mapped parameters.
    pub fn read_only(owner: impl AsRef<[u8]> + Send + Sync + 'static) -> Self {
        Self::ReadOnly(Box::new(owner))
    }

    /// Memory that the device may write to, such as a region shared with another process.
    pub fn writable(owner: impl AsMut<[u8]> + Send + Sync + 'static) -> Self {
        Self::Writable(Box::new(owner))
    }
}

impl Debug for HostMemory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ReadOnly(_) => "HostMemory::ReadOnly",
            Self::Writable(_) => "HostMemory::Writable",
        })
    }
}

/// Bytes of a buffer that nobody can change any more; clones share them. See [`Buffer::freeze`].
#[derive(Clone)]
pub struct FrozenBuffer(Arc<dyn AsRef<[u8]> + Send + Sync>);

impl FrozenBuffer {
    /// For drivers: `owner` gives the same bytes for as long as it lives.
    pub fn new(owner: impl AsRef<[u8]> + Send + Sync + 'static) -> Self {
        Self(Arc::new(owner))
    }
}

impl Deref for FrozenBuffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        (*self.0).as_ref()
    }
}

impl AsRef<[u8]> for FrozenBuffer {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl Debug for FrozenBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FrozenBuffer({} bytes)", self.len())
    }
}

/// Why memory was not given.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AllocateError {
    #[error("device memory has no room for {bytes} bytes")]
    OutOfMemory { bytes: u64 },
    #[error("a buffer of {bytes} bytes is above the device's limit of {limit_bytes}")]
    TooLarge { bytes: u64, limit_bytes: u64 },
    #[error("device `{device}` cannot use host memory in place: {reason}")]
    CannotImport { device: String, reason: String },
}

/// Why the host could not reach a buffer's bytes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HostAccessError {
    #[error("bytes {offset_bytes}..+{len_bytes} are outside of a buffer of {buffer_bytes} bytes")]
    OutOfRange { offset_bytes: u64, len_bytes: u64, buffer_bytes: u64 },
    #[error("buffer is read-only")]
    ReadOnly,
    #[error("buffer has no memory: it is reserved and not allocated")]
    NotAllocated,
    #[error("buffer is not visible to the host")]
    NotHostVisible,
    #[error("buffer has other references")]
    Shared,
    #[error("buffer is in use by work that has not completed")]
    InUse,
}
