//! Files that survive a crash: content named by its digest, and small JSON records beside it.
//!
//! Everything is written under a temporary name, synced, then renamed; a reader sees all of a file or none.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::digest::Digest;

/// Why something could not be stored or read back.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    #[error("cannot {action} in the data directory: {cause}")]
    Io { action: &'static str, path: PathBuf, cause: io::Error },
    #[error("cannot read the model repository directory `{}`: {cause}", path.display())]
    Repository { path: PathBuf, cause: io::Error },
    #[error("`{}` has digest {found}, expected {expected}", path.display())]
    Corrupt { path: PathBuf, found: Digest, expected: Digest },
    #[error("data directory `{}` is in use by another daemon", path.display())]
    InUse { path: PathBuf },
}

impl StoreError {
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_path_buf();
        move |cause| Self::Io { action, path, cause }
    }

    /// True when there is no room left.
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Io { cause, .. }
            if matches!(cause.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded))
    }
}

/// Runs blocking work off the async threads.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(join) => {
            Err(StoreError::Io { action: "finish work", path: PathBuf::new(), cause: io::Error::other(join) })
        }
    }
}

/// Holds a data directory against other daemons; the kernel lets go when the process ends.
#[derive(Debug)]
pub struct DirectoryLock(#[expect(dead_code, reason = "the open file is the lock")] File);

impl DirectoryLock {
    /// Creates the directory where needed. Blocks.
    pub fn take(dir: &Path) -> Result<Self, StoreError> {
        create_dir(dir)?;
        let path = dir.join("lock");
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(StoreError::io("create the lock", &path))?;
        match file.try_lock() {
            Ok(()) => Ok(Self(file)),
            Err(fs::TryLockError::WouldBlock) => Err(StoreError::InUse { path: dir.to_path_buf() }),
            Err(fs::TryLockError::Error(cause)) => Err(StoreError::io("take the lock", &path)(cause)),
        }
    }
}

/// What a file looked like; equal stamps mean that it has not been written since.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    device: u64,
    inode: u64,
    pub bytes: u64,
    modified: (i64, i64),
}

impl Stamp {
    pub fn of(file: &File) -> io::Result<Self> {
        Ok(Self::from(&file.metadata()?))
    }
}

impl From<&fs::Metadata> for Stamp {
    fn from(meta: &fs::Metadata) -> Self {
        Self {
            device: meta.dev(),
            inode: meta.ino(),
            bytes: meta.size(),
            modified: (meta.mtime(), meta.mtime_nsec()),
        }
    }
}

/// A directory of files named by their content. All methods block.
#[derive(Debug)]
pub struct BlobStore {
    dir: PathBuf,
    pending: PathBuf,
    next: AtomicU64,
}

impl BlobStore {
    /// Opens or creates; removes what a crash left half written. One process at a time: see [`DirectoryLock`].
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        let pending = dir.join("pending");
        if pending.exists() {
            fs::remove_dir_all(&pending).map_err(StoreError::io("remove unfinished files", &pending))?;
        }
        create_dir(&pending)?;
        Ok(Self { dir: dir.to_path_buf(), pending, next: AtomicU64::new(0) })
    }

    /// Where content with this digest is, or would be.
    pub fn path(&self, digest: &Digest) -> PathBuf {
        let hex = digest.to_string();
        self.dir.join(&hex[..2]).join(&hex)
    }

    /// A new, empty file that is not part of the store yet.
    pub fn begin(&self) -> Result<Pending, StoreError> {
        let path = self.pending.join(self.next.fetch_add(1, Ordering::Relaxed).to_string());
        let file = OpenOptions::new()
            .create_new(true)
            .read(true)
            .write(true)
            .open(&path)
            .map_err(StoreError::io("create a file", &path))?;
        Ok(Pending { file, path })
    }

    /// Makes a finished file part of the store under its digest; durable when this returns.
    pub fn keep(&self, pending: &Pending, digest: &Digest) -> Result<PathBuf, StoreError> {
        let path = self.path(digest);
        pending.file.sync_all().map_err(StoreError::io("write a file", &pending.path))?;
        let folder = path.parent().unwrap_or(&self.dir);
        if !folder.exists() {
            create_dir(folder)?;
            sync_dir(&self.dir)?;
        }
        // Over an equal file, or over one that rotted.
        fs::rename(&pending.path, &path).map_err(StoreError::io("write a file", &path))?;
        sync_dir(folder)?;
        Ok(path)
    }

    /// Removes content; not there is fine. Open files stay readable.
    pub fn remove(&self, digest: &Digest) -> Result<(), StoreError> {
        remove(&self.path(digest))
    }

    /// Every digest in the store, in no order.
    pub fn list(&self) -> Result<Vec<Digest>, StoreError> {
        let mut found = Vec::new();
        for folder in read_dir(&self.dir)? {
            if folder.is_dir() && folder != self.pending {
                let names = read_dir(&folder)?.into_iter();
                found.extend(names.filter_map(|path| path.file_name()?.to_str()?.parse::<Digest>().ok()));
            }
        }
        Ok(found)
    }
}

/// A file being written; removed on drop unless it was kept.
#[derive(Debug)]
pub struct Pending {
    file: File,
    path: PathBuf,
}

impl Pending {
    pub fn file(&self) -> &File {
        &self.file
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Another handle on the file, for a worker to write to.
    pub fn handle(&self) -> Result<OwnedFd, StoreError> {
        Ok(self.file.try_clone().map_err(StoreError::io("share a file", &self.path))?.into())
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        // After `keep` the name is gone already.
        let _ = fs::remove_file(&self.path);
    }
}

/// Writes a JSON record; durable when this returns. Blocks.
pub fn write_record(path: &Path, record: &impl Serialize) -> Result<(), StoreError> {
    let text = serde_json::to_vec_pretty(record)
        .map_err(|cause| StoreError::io("encode a record", path)(io::Error::other(cause)))?;
    let folder = path.parent().unwrap_or(Path::new("."));
    create_dir(folder)?;
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".tmp");
    let temporary = PathBuf::from(temporary);
    let mut file = File::create(&temporary).map_err(StoreError::io("write a record", &temporary))?;
    file.write_all(&text).map_err(StoreError::io("write a record", &temporary))?;
    file.sync_all().map_err(StoreError::io("write a record", &temporary))?;
    fs::rename(&temporary, path).map_err(StoreError::io("write a record", path))?;
    sync_dir(folder)
}

/// Every readable record of a directory with its path; others are logged and left alone. Blocks.
pub fn read_records<T: DeserializeOwned>(dir: &Path) -> Result<Vec<(PathBuf, T)>, StoreError> {
    create_dir(dir)?;
    let mut records = Vec::new();
    for path in read_dir(dir)? {
        match path.extension().and_then(|e| e.to_str()) {
            Some("json") => {}
            // A record that a crash left half written; its writer was never answered.
            Some("tmp") => {
                remove(&path)?;
                continue;
            }
            _ => continue,
        }
        let parsed = fs::read(&path).and_then(|text| Ok(serde_json::from_slice(&text)?));
        match parsed {
            Ok(record) => records.push((path, record)),
            Err(error) => tracing::warn!(path = %path.display(), %error, "record is not readable; ignored"),
        }
    }
    Ok(records)
}

/// Removes a file durably; not there is fine. Blocks.
pub fn remove(path: &Path) -> Result<(), StoreError> {
    match fs::remove_file(path) {
        Err(cause) if cause.kind() != io::ErrorKind::NotFound => {
            Err(StoreError::io("remove a file", path)(cause))
        }
        _ => path.parent().map_or(Ok(()), sync_dir),
    }
}

fn create_dir(dir: &Path) -> Result<(), StoreError> {
    fs::create_dir_all(dir).map_err(StoreError::io("create a directory", dir))
}

fn read_dir(dir: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let read = || fs::read_dir(dir)?.map(|entry| Ok(entry?.path())).collect::<io::Result<Vec<_>>>();
    read().map_err(StoreError::io("list a directory", dir))
}

fn sync_dir(dir: &Path) -> Result<(), StoreError> {
    let sync = || File::open(dir)?.sync_all();
    match sync() {
        Err(cause) if cause.kind() != io::ErrorKind::NotFound => {
            Err(StoreError::io("sync a directory", dir)(cause))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_found_again_and_what_is_not_is_gone() {
        let dir = tempfile::tempdir().unwrap();
        let digest = Digest::of(b"content");
        {
            let store = BlobStore::open(dir.path()).unwrap();
            let kept = store.begin().unwrap();
            kept.file().write_all(b"content").unwrap();
            store.keep(&kept, &digest).unwrap();
            std::mem::forget(store.begin().unwrap());
        }
        let store = BlobStore::open(dir.path()).unwrap();
        assert_eq!(store.list().unwrap(), [digest]);
        assert_eq!(Digest::of_file(&store.path(&digest)).unwrap(), digest);
        assert_eq!(fs::read_dir(dir.path().join("pending")).unwrap().count(), 0);
        store.remove(&digest).unwrap();
        assert!(store.list().unwrap().is_empty());
    }

    #[test]
    fn two_daemons_cannot_share_a_directory() {
        let dir = tempfile::tempdir().unwrap();
        let held = DirectoryLock::take(dir.path()).unwrap();
        assert!(matches!(DirectoryLock::take(dir.path()), Err(StoreError::InUse { .. })));
        drop(held);
        DirectoryLock::take(dir.path()).unwrap();
    }
}
