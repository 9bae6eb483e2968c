//! Tensors in sealed shared memory: the side that writes owns the memory, the side that reads says when it has.
//!
//! A region is a memfd whose size is sealed before the other side hears of it, so that no peer can make a reader fail
//! by shrinking it.

mod pool;
mod reader;

use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};

pub(crate) use pool::Pool;
pub use pool::SharedBuffer;
pub use reader::View;
pub(crate) use reader::{RegionError, Regions};

/// What every region must be sealed against.
pub(crate) const SEALS: SealFlags = SealFlags::SHRINK.union(SealFlags::GROW).union(SealFlags::SEAL);

/// New shared memory of `len` bytes, sealed. It takes no pages until it is written.
pub(crate) fn create(name: &str, len: u64) -> io::Result<OwnedFd> {
    let sealable = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    // Kernels before 6.3 do not know NOEXEC_SEAL.
    let memory =
        memfd_create(name, sealable | MemfdFlags::NOEXEC_SEAL).or_else(|_| memfd_create(name, sealable))?;
    ftruncate(&memory, len)?;
    fcntl_add_seals(&memory, SEALS)?;
    Ok(memory)
}
