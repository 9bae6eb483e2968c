//! A model on its way in, file by file.

use std::fs::File;
use std::sync::Arc;

use bytes::Bytes;
use tokio::io::AsyncWriteExt;
use tokio::sync::OwnedSemaphorePermit;

use super::Limits;
use crate::digest::Digest;
use crate::error::Error;
use crate::models::check_path;
use crate::store::{BlobStore, Pending, StoreError, blocking};

/// A model on its way in; dropping it removes what has arrived.
#[derive(Debug)]
pub struct Receiving {
    pub(super) name: String,
    pub(super) version: Option<u64>,
    pub(super) replace: bool,
    pub(super) blobs: Arc<BlobStore>,
    pub(super) limits: Limits,
    pub(super) files: Vec<ReceivedFile>,
    pub(super) bytes: u64,
    pub(super) _slot: OwnedSemaphorePermit,
}

#[derive(Debug)]
pub(super) struct ReceivedFile {
    pub(super) path: String,
    /// What the sender announced; 0 for nothing.
    announced: u64,
    pub(super) pending: Pending,
    writer: Option<tokio::fs::File>,
    hasher: blake3::Hasher,
    pub(super) bytes: u64,
    pub(super) digest: Digest,
}

impl Receiving {
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether nothing has arrived yet.
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Lets the upload take the place of a version that is there.
    pub fn replace(mut self) -> Self {
        self.replace = true;
        self
    }

    /// Begins the next file, the model itself first.
    pub async fn file(&mut self, path: &str, announced: u64) -> Result<(), Error> {
        self.finish_file().await?;
        let path = check_path(path)?;
        if self.files.len() >= self.limits.files {
            return Err(Error::invalid(format!("the upload has more than {} files", self.limits.files)));
        }
        if self.files.iter().any(|file| file.path == path) {
            return Err(Error::invalid(format!("file `{path}` is in the upload twice")));
        }
        self.check_room(announced)?;
        let blobs = self.blobs.clone();
        let (pending, writer) = blocking(move || {
            let pending = blobs.begin()?;
            let writer = File::from(pending.handle()?);
            Ok((pending, writer))
        })
        .await?;
        self.files.push(ReceivedFile {
            path,
            announced,
            pending,
            writer: Some(tokio::fs::File::from_std(writer)),
            hasher: blake3::Hasher::new(),
            bytes: 0,
            digest: Digest([0; 32]),
        });
        Ok(())
    }

    /// Adds bytes to the current file.
    pub async fn chunk(&mut self, chunk: Bytes) -> Result<(), Error> {
        self.check_room(chunk.len() as u64)?;
        let Some(file) = self.files.last_mut() else {
            return Err(Error::invalid("the upload has a chunk before its first file"));
        };
        let Some(writer) = &mut file.writer else {
            return Err(Error::invalid("the upload has a chunk after its last file"));
        };
        file.bytes += chunk.len() as u64;
        if file.announced != 0 && file.bytes > file.announced {
            return Err(Error::invalid(format!(
                "file `{}` is longer than the announced {} bytes",
                file.path, file.announced
            )));
        }
        file.hasher.update(&chunk);
        writer.write_all(&chunk).await.map_err(StoreError::io("write an upload", file.pending.path()))?;
        self.bytes += chunk.len() as u64;
        Ok(())
    }

    /// Ends the current file, if there is one.
    pub(super) async fn finish_file(&mut self) -> Result<(), Error> {
        let Some(file) = self.files.last_mut() else { return Ok(()) };
        let Some(mut writer) = file.writer.take() else { return Ok(()) };
        writer.flush().await.map_err(StoreError::io("write an upload", file.pending.path()))?;
        if file.announced != 0 && file.bytes != file.announced {
            return Err(Error::invalid(format!(
                "file `{}` has {} bytes, announced were {}",
                file.path, file.bytes, file.announced
            )));
        }
        file.digest = Digest(*file.hasher.finalize().as_bytes());
        Ok(())
    }

    fn check_room(&self, more: u64) -> Result<(), Error> {
        let found = self.bytes.saturating_add(more);
        if found > self.limits.bytes {
            let what = format!("the upload of `{}`", self.name);
            return Err(Error::TooLarge { what, found, limit: self.limits.bytes });
        }
        Ok(())
    }
}
