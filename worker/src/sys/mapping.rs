//! Shared memory as slices.
//!
//! Other processes may write to what is mapped here. The owner of a [`Part`] is told by protocol when the other side may
//! look, and a reader must take bytes for bytes: a peer that breaks the protocol can change them at any time, which must
//! never matter for safety. Nothing here is read twice and trusted the second time.
#![allow(unsafe_code, reason = "mapping memory is outside of what the language can check")]

use std::io;
use std::ops::{Deref, Range};
use std::os::fd::AsFd;
use std::ptr::{self, NonNull};
use std::slice;
use std::sync::Arc;

use rustix::fs::fstat;
use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

/// Memory mapped until the last user is gone.
#[derive(Debug)]
pub(crate) struct Mapping {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: the mapping is plain memory, valid from every thread until it is dropped.
unsafe impl Send for Mapping {}
// SAFETY: shared references give out only shared slices; exclusive slices come from the one owner of a `Part`.
unsafe impl Sync for Mapping {}

impl Mapping {
    fn new(file: impl AsFd, len: usize, protection: ProtFlags, flags: MapFlags) -> io::Result<Self> {
        if len == 0 {
            return Ok(Self { start: NonNull::dangling(), len });
        }
        // SAFETY: a new mapping at an address of the kernel's choice overlaps nothing.
        let start = unsafe { mmap(ptr::null_mut(), len, protection, flags, file, 0) }?;
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        Ok(Self { start, len })
    }

    /// Maps the first `len` bytes for reading.
    pub(crate) fn read_only(file: impl AsFd, len: usize) -> io::Result<Self> {
        Self::new(file, len, ProtFlags::READ, MapFlags::SHARED)
    }

    /// The bytes in `range`.
    ///
    /// # Panics
    /// When `range` is not inside the mapping.
    pub(crate) fn bytes(&self, range: Range<usize>) -> &[u8] {
        assert!(range.start <= range.end && range.end <= self.len, "range inside the mapping");
        // SAFETY: inside the mapping, as just checked, and mapped while `self` lives.
        unsafe { slice::from_raw_parts(self.start.as_ptr().add(range.start), range.end - range.start) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        if self.len > 0 {
            // SAFETY: exactly what `new` mapped; every slice borrows `self` or a `Part` that keeps it alive.
            let _ = unsafe { munmap(self.start.as_ptr().cast(), self.len) };
        }
    }
}

/// A stretch of writable shared memory with one owner. Parts of one mapping never overlap.
#[derive(Debug)]
pub(crate) struct Part {
    mapping: Arc<Mapping>,
    start: usize,
    len: usize,
}

impl Part {
    /// Maps the first `count * len` bytes for reading and writing, as `count` parts in order.
    pub(crate) fn map_all(file: impl AsFd, count: usize, len: usize) -> io::Result<Vec<Self>> {
        let total = count.checked_mul(len).ok_or(io::ErrorKind::OutOfMemory)?;
        let writable = ProtFlags::READ | ProtFlags::WRITE;
        let mapping = Arc::new(Mapping::new(file, total, writable, MapFlags::SHARED)?);
        Ok((0..count).map(|i| Self { mapping: Arc::clone(&mapping), start: i * len, len }).collect())
    }

    /// Where it starts in its mapping.
    pub(crate) fn start(&self) -> usize {
        self.start
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        self.mapping.bytes(self.start..self.start + self.len)
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: inside the writable mapping by construction; parts do not overlap, this one is borrowed exclusively,
        // and the mapping lives as long as it.
        unsafe { slice::from_raw_parts_mut(self.mapping.start.as_ptr().add(self.start), self.len) }
    }
}

/// A file's content, mapped for reading.
///
/// Whoever can shorten the file while it is mapped ends this process with SIGBUS; in a worker that costs the one job it
/// was started for.
#[derive(Debug)]
pub struct MappedFile {
    mapping: Mapping,
}

impl MappedFile {
    /// Maps all of `file`; changes made to it later may or may not be seen.
    pub fn open(file: impl AsFd) -> io::Result<Self> {
        let size = fstat(&file)?.st_size;
        let len = usize::try_from(size).map_err(|_| io::ErrorKind::InvalidData)?;
        let mapping = Mapping::new(file, len, ProtFlags::READ, MapFlags::PRIVATE)?;
        Ok(Self { mapping })
    }
}

impl Deref for MappedFile {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.mapping.bytes(0..self.mapping.len)
    }
}

impl AsRef<[u8]> for MappedFile {
    fn as_ref(&self) -> &[u8] {
        self
    }
}
