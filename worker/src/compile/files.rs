//! The broker for files that a model refers to: the worker has no file system, so it asks by name.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Component, Path};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, fstat, open, openat2};
use rustix::io::Errno;

/// Opens the files beside a model for a worker that cannot. Called from a blocking thread.
pub trait ModelFiles: Send + Sync {
    /// Opens `name`, as written in the model, for reading.
    ///
    /// # Errors
    /// Whatever the worker should be told; the error's text reaches the user.
    fn open(&self, name: &str) -> io::Result<OwnedFd>;
}

/// No files at all: for models that arrive alone.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoFiles;

impl ModelFiles for NoFiles {
    fn open(&self, _name: &str) -> io::Result<OwnedFd> {
        Err(io::Error::new(io::ErrorKind::NotFound, "the model came without further files"))
    }
}

/// The regular files beneath one folder. Names that leave it, also through links, are refused.
#[derive(Debug)]
pub struct DirectoryFiles {
    folder: OwnedFd,
}

impl DirectoryFiles {
    /// Opens the folder once; renaming it later changes nothing.
    pub fn new(folder: &Path) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self { folder: open(folder, flags, Mode::empty())? })
    }
}

impl ModelFiles for DirectoryFiles {
    fn open(&self, name: &str) -> io::Result<OwnedFd> {
        let plain = |part| matches!(part, Component::Normal(_) | Component::CurDir);
        if name.is_empty() || name.contains('\0') || !Path::new(name).components().all(plain) {
            return Err(leaves_folder());
        }
        // NONBLOCK: opening a FIFO must not wait for its writer.
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOCTTY | OFlags::NONBLOCK;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        let file =
            openat2(&self.folder, name, flags, Mode::empty(), resolve).map_err(|cause| match cause {
                Errno::XDEV | Errno::LOOP => leaves_folder(),
                cause => cause.into(),
            })?;
        if FileType::from_raw_mode(fstat(&file)?.st_mode) != FileType::RegularFile {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        Ok(file)
    }
}

fn leaves_folder() -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, "the name leaves the model's folder")
}
