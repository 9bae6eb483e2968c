//! Memory: aligned for any vector, big blocks straight from the system in huge pages, imports in place.

#![allow(unsafe_code, reason = "owns and copies raw memory")]

mod storage;

use std::any::Any;
use std::fmt::{self, Debug};
use std::ops::Range;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicPtr, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ired_hal::{Buffer, FrozenBuffer, HostAccessError, HostMemory};

pub(crate) use storage::{Recycler, Storage};

/// Every allocation starts at a multiple of this: a cache line, and the widest vector.
pub(crate) const ALIGNMENT_BYTES: usize = 64;

/// Memory of this device.
pub(crate) struct CpuBuffer {
    len: usize,
    writable: bool,
    /// Start of the storage; null without one.
    address: AtomicPtr<u8>,
    storage: Mutex<Storage>,
}

impl CpuBuffer {
    pub(crate) fn new(len: usize, storage: Storage) -> Arc<Self> {
        let writable = !matches!(storage, Storage::Imported { writable: false, .. });
        let address = AtomicPtr::new(storage.address());
        Arc::new(Self { len, writable, address, storage: Mutex::new(storage) })
    }

    pub(crate) fn import(mut memory: HostMemory) -> Arc<Self> {
        let (bytes, writable) = match &mut memory {
            HostMemory::ReadOnly(owner) => (NonNull::from((**owner).as_ref()), false),
            HostMemory::Writable(owner) => (NonNull::from((**owner).as_mut()), true),
        };
        Self::new(bytes.len(), Storage::Imported { address: bytes.cast(), writable, _owner: memory })
    }

    /// The buffer behind the interface. Validation has seen that it is one of ours.
    pub(crate) fn of(buffer: &dyn Buffer) -> &Self {
        (buffer as &dyn Any).downcast_ref().expect("validation admits only this driver's buffers")
    }

    /// Where the bytes start; null while the buffer has no memory.
    pub(crate) fn address(&self) -> *mut u8 {
        self.address.load(Ordering::Acquire)
    }

    /// Gives memory to the buffer, or takes it away; what it had is freed.
    pub(crate) fn set_storage(&self, storage: Storage) {
        let mut held = self.lock();
        self.address.store(storage.address(), Ordering::Release);
        *held = storage;
    }

    fn lock(&self) -> MutexGuard<'_, Storage> {
        self.storage.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn range(&self, offset_bytes: u64, len: usize) -> Result<Range<usize>, HostAccessError> {
        match offset_bytes.checked_add(len as u64) {
            Some(end) if end <= self.len as u64 => Ok(offset_bytes as usize..end as usize),
            _ => Err(HostAccessError::OutOfRange {
                offset_bytes,
                len_bytes: len as u64,
                buffer_bytes: self.len as u64,
            }),
        }
    }
}

impl Buffer for CpuBuffer {
    fn len_bytes(&self) -> u64 {
        self.len as u64
    }

    fn is_writable(&self) -> bool {
        self.writable
    }

    fn read(&self, offset_bytes: u64, into: &mut [u8]) -> Result<(), HostAccessError> {
        let range = self.range(offset_bytes, into.len())?;
        let storage = self.lock();
        if !storage.is_some() {
            return Err(HostAccessError::NotAllocated);
        }
        // SAFETY: the storage, kept by the lock, has `self.len` bytes, of which `range` is a part; `into` is a
        // reference, so it is no part of them. The interface has the caller order this against queued work.
        unsafe { storage.address().add(range.start).copy_to_nonoverlapping(into.as_mut_ptr(), into.len()) };
        Ok(())
    }

    fn write(&self, offset_bytes: u64, from: &[u8]) -> Result<(), HostAccessError> {
        let range = self.range(offset_bytes, from.len())?;
        let storage = self.lock();
        if !storage.is_some() {
            return Err(HostAccessError::NotAllocated);
        }
        if !self.writable {
            return Err(HostAccessError::ReadOnly);
        }
        // SAFETY: as in `read`; the storage is writable (checked).
        unsafe { storage.address().add(range.start).copy_from_nonoverlapping(from.as_ptr(), from.len()) };
        Ok(())
    }

    fn map(&mut self) -> Result<&mut [u8], HostAccessError> {
        if !self.writable {
            return Err(HostAccessError::ReadOnly);
        }
        let len = self.len;
        let storage = self.storage.get_mut().unwrap_or_else(PoisonError::into_inner);
        if !storage.is_some() {
            return Err(HostAccessError::NotAllocated);
        }
        // SAFETY: `&mut self` means that no work holds the buffer (work holds an `Arc`, or borrows one while it
        // runs); the bytes live as long as `storage`, and were initialised when allocated.
        Ok(unsafe { std::slice::from_raw_parts_mut(storage.address(), len) })
    }

    fn freeze(self: Arc<Self>) -> Result<FrozenBuffer, HostAccessError> {
        let buffer = Arc::try_unwrap(self).map_err(|_| HostAccessError::Shared)?;
        let storage = buffer.storage.into_inner().unwrap_or_else(PoisonError::into_inner);
        if !storage.is_some() {
            return Err(HostAccessError::NotAllocated);
        }
        Ok(FrozenBuffer::new(Frozen { storage, len: buffer.len }))
    }
}

impl Debug for CpuBuffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CpuBuffer({} bytes at {:p})", self.len, self.address())
    }
}

struct Frozen {
    storage: Storage,
    len: usize,
}

impl AsRef<[u8]> for Frozen {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: the storage has `len` initialised bytes, lives as long as `self`, and nothing else refers to it:
        // it came out of the last reference to its buffer.
        unsafe { std::slice::from_raw_parts(self.storage.address(), self.len) }
    }
}
