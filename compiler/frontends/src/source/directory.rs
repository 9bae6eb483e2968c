//! A model in a folder: files are mapped, and names cannot lead out of the folder.
#![allow(
    unsafe_code,
    reason = "mapping a file is unsafe: another process may truncate it while it is mapped"
)]

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::Path;

use bytes::Bytes;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags};

use super::{ModelSource, SiblingName, SourceError};

/// The model file at a path and the files in its folder. Symbolic links may be followed to the main file, which the
/// caller chose, but names in the model never lead outside the folder that path is in.
#[derive(Debug)]
pub struct DirectorySource {
    file_name: String,
    model: File,
    folder: OwnedFd,
}

impl DirectorySource {
    /// Opens the model at `path` and the folder it is in.
    ///
    /// # Errors
    /// [`SourceError::Read`] when either cannot be opened, [`SourceError::NotAFile`] for folders and devices.
    pub fn open(path: &Path) -> Result<Self, SourceError> {
        let shown = path.display().to_string();
        let read = |cause: rustix::io::Errno| SourceError::Read { name: shown.clone(), cause: cause.into() };
        let Some(file_name) = path.file_name() else { return Err(SourceError::NotAFile { name: shown }) };
        let folder = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let directory = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let folder = rustix::fs::open(folder, directory, Mode::empty()).map_err(read)?;
        let model = rustix::fs::open(path, READ, Mode::empty()).map_err(read)?;
        Ok(Self {
            file_name: file_name.to_string_lossy().into_owned(),
            model: regular(model, &shown)?,
            folder,
        })
    }
}

impl ModelSource for DirectorySource {
    fn file_name(&self) -> &str {
        &self.file_name
    }

    fn model(&self) -> Result<Bytes, SourceError> {
        map(&self.model, &self.file_name)
    }

    fn sibling(&self, name: &SiblingName) -> Result<Bytes, SourceError> {
        let file = open_beneath(&self.folder, name)?;
        map(&regular(file, name.as_str())?, name.as_str())
    }
}

// NONBLOCK: opening a fifo must not wait for its writer; it does nothing for regular files.
const READ: OFlags = OFlags::RDONLY.union(OFlags::CLOEXEC).union(OFlags::NONBLOCK).union(OFlags::NOCTTY);

/// Opens `name` so that neither its parts nor symbolic links leave `folder`.
fn open_beneath(folder: &OwnedFd, name: &SiblingName) -> Result<OwnedFd, SourceError> {
    use rustix::io::Errno;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    let opened = match rustix::fs::openat2(folder, name.as_str(), READ, Mode::empty(), resolve) {
        // Kernels and sandboxes without openat2: follow no symbolic link at all.
        Err(Errno::NOSYS | Errno::PERM) => open_without_links(folder, name),
        other => other,
    };
    opened.map_err(|cause| match cause {
        Errno::XDEV | Errno::LOOP => SourceError::Escapes { name: name.to_string() },
        cause => SourceError::Read { name: name.to_string(), cause: cause.into() },
    })
}

fn open_without_links(folder: &OwnedFd, name: &SiblingName) -> Result<OwnedFd, rustix::io::Errno> {
    let mut at = rustix::io::dup(folder)?;
    let (parents, file) = name.as_str().rsplit_once('/').map_or((None, name.as_str()), |(p, f)| (Some(p), f));
    for part in parents.into_iter().flat_map(|p| p.split('/')) {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        // A symbolic link fails DIRECTORY under NOFOLLOW; tell it apart from a plain file.
        at = rustix::fs::openat(&at, part, flags, Mode::empty()).or_else(|cause| {
            let stat = rustix::fs::statat(&at, part, AtFlags::SYMLINK_NOFOLLOW)?;
            Err(match FileType::from_raw_mode(stat.st_mode) {
                FileType::Symlink => rustix::io::Errno::LOOP,
                _ => cause,
            })
        })?;
    }
    rustix::fs::openat(&at, file, READ | OFlags::NOFOLLOW, Mode::empty())
}

fn regular(fd: OwnedFd, name: &str) -> Result<File, SourceError> {
    let file = File::from(fd);
    let metadata = file.metadata().map_err(|cause| SourceError::Read { name: name.to_owned(), cause })?;
    match metadata.is_file() {
        true => Ok(file),
        false => Err(SourceError::NotAFile { name: name.to_owned() }),
    }
}

/// Maps a whole file for reading, for a [`ModelSource`] that is handed open files.
///
/// The bytes change or end the process (SIGBUS) if another process writes to or truncates the file meanwhile: give it
/// sealed memory, or files that nobody else writes.
///
/// # Errors
/// When the file cannot be mapped.
pub fn map_file(file: &File) -> std::io::Result<Bytes> {
    // An empty file cannot be mapped.
    if file.metadata()?.len() == 0 {
        return Ok(Bytes::new());
    }
    // SAFETY: the mapping is private and only read, and stays mapped as long as the `Bytes` made from it live. That
    // nobody truncates the file is asked of the caller above.
    let mapping = unsafe { memmap2::Mmap::map(file) }?;
    Ok(Bytes::from_owner(mapping))
}

fn map(file: &File, name: &str) -> Result<Bytes, SourceError> {
    map_file(file).map_err(|cause| SourceError::Read { name: name.to_owned(), cause })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sibling(source: &DirectorySource, name: &str) -> Result<Bytes, SourceError> {
        source.sibling(&SiblingName::new(name).unwrap())
    }

    #[test]
    fn siblings_are_read_and_escapes_refused() {
        let outside = tempfile::tempdir().unwrap();
        std::fs::write(outside.path().join("secret"), b"secret").unwrap();
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        std::fs::write(path("model.onnx"), b"model").unwrap();
        std::fs::write(path("w.bin"), b"weights").unwrap();
        std::fs::write(path("empty.bin"), b"").unwrap();
        std::fs::create_dir(path("sub")).unwrap();
        std::fs::write(path("sub/v.bin"), b"nested").unwrap();
        std::os::unix::fs::symlink(outside.path().join("secret"), path("link")).unwrap();
        std::os::unix::fs::symlink(outside.path(), path("linked_dir")).unwrap();
        std::os::unix::fs::symlink("loop", path("loop")).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, path("fifo"), FileType::Fifo, Mode::RUSR, 0).unwrap();

        let source = DirectorySource::open(&path("model.onnx")).unwrap();
        assert_eq!(source.file_name(), "model.onnx");
        assert_eq!(source.model().unwrap(), &b"model"[..]);
        assert_eq!(sibling(&source, "w.bin").unwrap(), &b"weights"[..]);
        assert_eq!(sibling(&source, "sub/v.bin").unwrap(), &b"nested"[..]);
        assert_eq!(sibling(&source, "empty.bin").unwrap(), &b""[..]);
        for name in ["link", "linked_dir/secret", "loop"] {
            assert!(matches!(sibling(&source, name), Err(SourceError::Escapes { .. })), "{name}");
            let name = SiblingName::new(name).unwrap();
            assert!(open_without_links(&source.folder, &name).is_err(), "{name} without openat2");
        }
        let without = open_without_links(&source.folder, &SiblingName::new("sub/v.bin").unwrap());
        assert!(without.is_ok());
        assert!(matches!(sibling(&source, "sub"), Err(SourceError::NotAFile { .. })));
        assert!(matches!(sibling(&source, "fifo"), Err(SourceError::NotAFile { .. })));
        assert!(matches!(sibling(&source, "absent"), Err(SourceError::Read { .. })));
    }
}
