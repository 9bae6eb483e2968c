//! Memory for code: reserved, then filled from a sealed memfd.

#![allow(unsafe_code, reason = "maps memory")]

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::ptr;

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use rustix::io::Errno;
use rustix::mm::{MapFlags, ProtFlags, mmap, mmap_anonymous, munmap};

use super::LoadError;
use super::layout::{Rights, Segment};

/// A range of addresses that belongs to one image.
#[derive(Debug)]
pub(super) struct Mapping {
    address: *mut u8,
    len: usize,
}

// SAFETY: the range is this value's alone and is only read, executed, or written by code in it; the handle itself
// holds no state that threads could disagree on.
unsafe impl Send for Mapping {}
// SAFETY: as above; `&Mapping` gives an address and nothing else.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Takes `len` bytes of addresses, without rights or memory.
    pub(super) fn reserve(len: usize) -> Result<Self, LoadError> {
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
        // SAFETY: the kernel chooses a range that is free.
        let address = unsafe { mmap_anonymous(ptr::null_mut(), len, ProtFlags::empty(), flags) };
        Ok(Self { address: address.map_err(refused("reserve addresses for code"))?.cast(), len })
    }

    pub(super) fn address(&self) -> *const u8 {
        self.address
    }

    /// Maps each segment's pages of `memory`, which is as long as the reservation.
    pub(super) fn fill(self, memory: &[u8], segments: &[Segment]) -> Result<Self, LoadError> {
        let sealed = seal(memory)?;
        for segment in segments {
            let rights = match segment.rights {
                Rights::Read | Rights::ReadAfterRelocation => ProtFlags::READ,
                Rights::ReadWrite => ProtFlags::READ | ProtFlags::WRITE,
                Rights::ReadExecute => ProtFlags::READ | ProtFlags::EXEC,
            };
            let (start, len) = (segment.pages.start, segment.pages.len());
            assert!(start + len <= self.len, "layout keeps segments inside of its span");
            // SAFETY: the range is inside of the reservation (asserted), so no other mapping is replaced, and nothing
            // refers to it yet. Writes to a private mapping stay in this process.
            let mapped = unsafe {
                let at = self.address.add(start).cast();
                mmap(at, len, rights, MapFlags::PRIVATE | MapFlags::FIXED, &sealed, start as u64)
            };
            mapped.map_err(refused("map code from sealed memory"))?;
        }
        Ok(self)
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the range came from `mmap` with this length and is this value's alone. Callers of code in it hold
        // the `LoadedImage` while it runs.
        let _ = unsafe { munmap(self.address.cast(), self.len) };
    }
}

/// A memfd with these bytes that nobody can change any more.
fn seal(memory: &[u8]) -> Result<OwnedFd, LoadError> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    // Kernels before 6.3 do not know the flag, and let every memfd be executed.
    let created = match memfd_create("ired-code", flags | MemfdFlags::EXEC) {
        Err(Errno::INVAL) => memfd_create("ired-code", flags),
        created => created,
    };
    let mut file = File::from(created.map_err(refused("create memory for code"))?);
    file.write_all(memory).map_err(|cause| LoadError::System { action: "write code to memory", cause })?;
    let seals = SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
    fcntl_add_seals(&file, seals).map_err(refused("seal memory for code"))?;
    Ok(file.into())
}

fn refused(action: &'static str) -> impl Fn(Errno) -> LoadError {
    move |errno| LoadError::System { action, cause: io::Error::from(errno) }
}
