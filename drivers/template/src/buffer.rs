//! Host memory behind a lock.

use std::any::Any;
use std::fmt::{self, Debug};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ired_hal::{Buffer, FrozenBuffer, HostAccessError, HostMemory};

/// Memory of this device.
pub struct TemplateBuffer {
    len_bytes: u64,
    writable: bool,
    storage: Mutex<Storage>,
}

/// Where the bytes are.
pub(crate) enum Storage {
    /// Reserved: no memory now.
    None,
    Owned(Vec<u8>),
    Imported(HostMemory),
}

impl Storage {
    fn bytes(&mut self) -> Result<&[u8], HostAccessError> {
        match self {
            Self::None => Err(HostAccessError::NotAllocated),
            Self::Owned(bytes) => Ok(bytes),
            Self::Imported(HostMemory::ReadOnly(owner)) => Ok((**owner).as_ref()),
            Self::Imported(HostMemory::Writable(owner)) => Ok((**owner).as_mut()),
        }
    }

    fn bytes_mut(&mut self) -> Result<&mut [u8], HostAccessError> {
        match self {
            Self::None => Err(HostAccessError::NotAllocated),
            Self::Owned(bytes) => Ok(bytes),
            Self::Imported(HostMemory::ReadOnly(_)) => Err(HostAccessError::ReadOnly),
            Self::Imported(HostMemory::Writable(owner)) => Ok((**owner).as_mut()),
        }
    }
}

impl TemplateBuffer {
    pub(crate) fn new(len_bytes: u64, writable: bool, storage: Storage) -> Arc<Self> {
        Arc::new(Self { len_bytes, writable, storage: Mutex::new(storage) })
    }

    /// The buffer behind the interface. Validation has seen that it is one of ours.
    pub(crate) fn of(buffer: &dyn Buffer) -> &Self {
        (buffer as &dyn Any).downcast_ref().expect("validation admits only this driver's buffers")
    }

    pub(crate) fn set_storage(&self, storage: Storage) {
        *self.lock() = storage;
    }

    fn lock(&self) -> MutexGuard<'_, Storage> {
        self.storage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn range(&self, offset_bytes: u64, len: usize) -> Result<std::ops::Range<usize>, HostAccessError> {
        let outside =
            HostAccessError::OutOfRange { offset_bytes, len_bytes: len as u64, buffer_bytes: self.len_bytes };
        match offset_bytes.checked_add(len as u64) {
            Some(end) if end <= self.len_bytes => Ok(offset_bytes as usize..end as usize),
            _ => Err(outside),
        }
    }
}

impl Buffer for TemplateBuffer {
    fn len_bytes(&self) -> u64 {
        self.len_bytes
    }

    fn is_writable(&self) -> bool {
        self.writable
    }

    fn read(&self, offset_bytes: u64, into: &mut [u8]) -> Result<(), HostAccessError> {
        let range = self.range(offset_bytes, into.len())?;
        into.copy_from_slice(&self.lock().bytes()?[range]);
        Ok(())
    }

    fn write(&self, offset_bytes: u64, from: &[u8]) -> Result<(), HostAccessError> {
        let range = self.range(offset_bytes, from.len())?;
        self.lock().bytes_mut()?[range].copy_from_slice(from);
        Ok(())
    }

    fn map(&mut self) -> Result<&mut [u8], HostAccessError> {
        self.storage.get_mut().unwrap_or_else(PoisonError::into_inner).bytes_mut()
    }

    fn freeze(self: Arc<Self>) -> Result<FrozenBuffer, HostAccessError> {
        let buffer = Arc::try_unwrap(self).map_err(|_| HostAccessError::Shared)?;
        match buffer.storage.into_inner().unwrap_or_else(PoisonError::into_inner) {
            Storage::None => Err(HostAccessError::NotAllocated),
            Storage::Owned(bytes) => Ok(FrozenBuffer::new(bytes)),
            Storage::Imported(HostMemory::ReadOnly(owner)) => Ok(FrozenBuffer::new(Shared(owner))),
            // `AsMut` gives bytes to one owner at a time; shared bytes are a copy.
            Storage::Imported(HostMemory::Writable(mut owner)) => {
                Ok(FrozenBuffer::new((*owner).as_mut().to_vec()))
            }
        }
    }
}

struct Shared(Box<dyn AsRef<[u8]> + Send + Sync>);

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        (*self.0).as_ref()
    }
}

impl Debug for TemplateBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TemplateBuffer({} bytes)", self.len_bytes)
    }
}

/// What a kernel sees of a binding. Views of one workgroup may be of the same bytes.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    pub(crate) buffer: &'a TemplateBuffer,
    pub(crate) offset_bytes: u64,
    pub(crate) len_bytes: u64,
}

impl View<'_> {
    pub fn len_bytes(&self) -> u64 {
        self.len_bytes
    }

    /// `N` bytes at `N * index`.
    pub fn get<const N: usize>(&self, index: usize) -> Result<[u8; N], HostAccessError> {
        let mut bytes = [0; N];
        self.buffer.read(self.at::<N>(index)?, &mut bytes)?;
        Ok(bytes)
    }

    /// Stores `N` bytes at `N * index`.
    pub fn set<const N: usize>(&self, index: usize, bytes: [u8; N]) -> Result<(), HostAccessError> {
        self.buffer.write(self.at::<N>(index)?, &bytes)
    }

    fn at<const N: usize>(&self, index: usize) -> Result<u64, HostAccessError> {
        let offset_bytes = (index as u64).saturating_mul(N as u64);
        let len_bytes = N as u64;
        if offset_bytes.saturating_add(len_bytes) > self.len_bytes {
            return Err(HostAccessError::OutOfRange {
                offset_bytes,
                len_bytes,
                buffer_bytes: self.len_bytes,
            });
        }
        Ok(self.offset_bytes + offset_bytes)
    }
}
