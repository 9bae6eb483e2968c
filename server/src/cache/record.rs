//! A module before it is in the cache: what is known of it, and where it is written.

use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::Path;

use ired_worker::CompileReport;
use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::store::{Pending, StoreError};

/// What is kept beside a module.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) key: Digest,
    pub(super) digest: Digest,
    pub(super) bytes: u64,
    pub(super) model: String,
    pub(super) target: String,
    pub(super) options: String,
    pub(super) compiler: String,
    pub(super) report: CompileReport,
}

/// Where a module is written to.
#[derive(Debug)]
pub(super) enum Output {
    Disk(Pending),
    Memory(File),
}

impl Output {
    pub(super) fn in_memory() -> Result<Self, StoreError> {
        let flags = rustix::fs::MemfdFlags::CLOEXEC;
        let file = rustix::fs::memfd_create("ired-module", flags);
        file.map(|fd| Self::Memory(fd.into()))
            .map_err(|errno| failed("keep a module in memory")(errno.into()))
    }

    pub(super) fn file(&self) -> &File {
        match self {
            Self::Disk(pending) => pending.file(),
            Self::Memory(file) => file,
        }
    }

    /// Another handle on the file, for a worker to write to.
    pub(super) fn handle(&self) -> Result<OwnedFd, StoreError> {
        Ok(self.file().try_clone().map_err(failed("share a file"))?.into())
    }

    /// What was written. Blocks.
    pub(super) fn measure(&self) -> Result<(Digest, u64), StoreError> {
        let digest = Digest::of_open(self.file()).map_err(failed("read a module"))?;
        let bytes = self.file().metadata().map_err(failed("read a module"))?.len();
        Ok((digest, bytes))
    }

    /// Has the disk take what was written. Blocks.
    pub(super) fn sync(&self) -> Result<(), StoreError> {
        match self {
            Self::Disk(pending) => pending.file().sync_all().map_err(failed("write a file")),
            Self::Memory(_) => Ok(()),
        }
    }

    /// Whether the disk takes no more of it: whoever writes elsewhere, as a worker does, cannot tell. Blocks.
    pub(super) fn is_out_of_room(&self) -> bool {
        /// More than a writer holds back before it writes.
        const MORE_BYTES: u64 = 4 << 20;
        let Self::Disk(pending) = self else { return false };
        let length = pending.file().metadata().map_or(0, |metadata| metadata.len());
        let more =
            rustix::fs::fallocate(pending.file(), rustix::fs::FallocateFlags::KEEP_SIZE, length, MORE_BYTES);
        matches!(more, Err(rustix::io::Errno::NOSPC | rustix::io::Errno::DQUOT))
    }

    /// The file for reading only; it stays readable when it has no name any more.
    pub(super) fn reopen(&self) -> Result<File, StoreError> {
        let path = format!("/proc/self/fd/{}", self.file().as_raw_fd());
        File::open(path).map_err(failed("open a module"))
    }
}

fn failed(action: &'static str) -> impl FnOnce(std::io::Error) -> StoreError {
    StoreError::io(action, Path::new(""))
}
