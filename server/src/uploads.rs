//! Models that clients send: received into content-addressed files, then made known by one durable record.
//!
//! An upload that was answered survives a crash; one that was not leaves nothing.

mod receiving;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use tokio::sync::{OnceCell, Semaphore};

pub use receiving::Receiving;

use crate::config::Settings;
use crate::digest::Digest;
use crate::error::Error;
use crate::models::{self, ModelSource, Origin, SourceFile, check_name, take_config, take_trials};
use crate::store::{self, BlobStore, StoreError, blocking};
use crate::trust::Trust;

/// What is known of one uploaded version; the file beside the content.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Record {
    name: String,
    version: u64,
    digest: Digest,
    /// Load it when the daemon starts.
    loaded: bool,
    /// Main file first.
    files: Vec<StoredFile>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct StoredFile {
    path: String,
    digest: Digest,
    bytes: u64,
}

/// Every uploaded model.
#[derive(Debug)]
pub struct Uploads {
    blobs: Arc<BlobStore>,
    records_dir: PathBuf,
    records: Mutex<BTreeMap<(String, u64), Record>>,
    /// One commit or removal at a time: versions are counted and unused content is removed under it.
    commits: tokio::sync::Mutex<()>,
    slots: Arc<Semaphore>,
    limits: Limits,
    trust: Trust,
}

#[derive(Clone, Copy, Debug)]
struct Limits {
    bytes: u64,
    files: usize,
    uploads: usize,
}

/// What a commit did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    pub version: u64,
    pub digest: Digest,
    pub bytes: u64,
    /// The version was there with the same content.
    pub unchanged: bool,
}

impl Uploads {
    /// Reads the records below `dir` and removes content that none refers to. Blocks.
    pub fn open(dir: &Path, settings: &Settings, trust: Trust) -> Result<Self, StoreError> {
        let blobs = Arc::new(BlobStore::open(&dir.join("content"))?);
        let records_dir = dir.join("records");
        let mut records = BTreeMap::new();
        for (path, record) in store::read_records::<Record>(&records_dir)? {
            if path == record_path(&records_dir, &record.name, record.version) {
                records.insert((record.name.clone(), record.version), record);
            } else {
                tracing::warn!(path = %path.display(), "record has another name than its content; ignored");
            }
        }
        let limits =
            Limits { bytes: settings.upload_bytes, files: settings.model_files, uploads: settings.uploads };
        let uploads = Self {
            blobs,
            records_dir,
            records: Mutex::new(records),
            commits: tokio::sync::Mutex::new(()),
            slots: Arc::new(Semaphore::new(limits.uploads)),
            limits,
            trust,
        };
        uploads.remove_unused()?;
        Ok(uploads)
    }

    /// Whom compiled modules are taken from.
    pub fn trust(&self) -> &Trust {
        &self.trust
    }

    /// Every version of every uploaded model, and whether it is to be loaded. Blocks.
    pub fn sources(&self) -> Vec<(ModelSource, bool)> {
        let records: Vec<Record> = self.lock().values().cloned().collect();
        records.iter().filter_map(|record| Some((self.source(record)?, record.loaded))).collect()
    }

    /// The versions of one model, ascending. Blocks.
    pub fn sources_of(&self, name: &str) -> Vec<ModelSource> {
        let records: Vec<Record> = self.lock().values().filter(|r| r.name == name).cloned().collect();
        records.iter().filter_map(|record| self.source(record)).collect()
    }

    fn source(&self, record: &Record) -> Option<ModelSource> {
        let file = |stored: &StoredFile| SourceFile::at(stored.path.clone(), self.blobs.path(&stored.digest));
        let files: Result<Vec<_>, _> = record.files.iter().map(file).collect();
        match files {
            Ok(mut files) if !files.is_empty() => Some(ModelSource {
                name: record.name.clone(),
                version: record.version,
                origin: Origin::Upload,
                main: files.remove(0),
                config: take_config(&mut files),
                trials: take_trials(&mut files),
                others: files,
                digest: Arc::new(OnceCell::new_with(Some(record.digest))),
            }),
            Ok(_) => None,
            Err(error) => {
                tracing::error!(model = record.name, version = record.version, %error, "uploaded content is lost");
                None
            }
        }
    }

    /// Starts to receive a model; `None` takes the next version when it is committed.
    pub fn receive(&self, name: &str, version: Option<u64>) -> Result<Receiving, Error> {
        check_name(name)?;
        let busy = |_| Error::Busy { what: "uploads", limit: self.limits.uploads as u64 };
        Ok(Receiving {
            name: name.to_owned(),
            version,
            replace: false,
            blobs: self.blobs.clone(),
            limits: self.limits,
            files: Vec::new(),
            bytes: 0,
            _slot: self.slots.clone().try_acquire_owned().map_err(busy)?,
        })
    }

    /// Makes a received model known. `taken` are versions that others than uploads have.
    pub async fn commit(
        self: &Arc<Self>,
        mut received: Receiving,
        taken: &BTreeSet<u64>,
    ) -> Result<Committed, Error> {
        received.finish_file().await?;
        let Some(main) = received.files.first() else {
            return Err(Error::invalid("the upload has no files"));
        };
        if models::is_module_name(&main.path) {
            let (trust, file) = (self.trust.clone(), main.pending.handle()?);
            blocking(move || Ok(trust.check(file.into()))).await??;
        }
        let digests = received.files.iter().map(|file| Ok((file.path.as_str(), file.digest)));
        let digest = models::digest(&main.path, digests)
            .map_err(|cause| StoreError::io("hash an upload", &self.records_dir)(cause))?;
        let bytes = received.bytes;

        let _one_at_a_time = self.commits.lock().await;
        let (newest, known) = {
            let records = self.lock();
            let of_model = records.values().filter(|record| record.name == received.name);
            let newest = of_model.map(|record| (record.version, record.digest)).max();
            let asked = received.version.or(newest.map(|(version, _)| version));
            let known = asked.and_then(|v| records.get(&(received.name.clone(), v))).map(|r| r.digest);
            (newest.map(|(version, _)| version), known)
        };
        let version = match (received.version, newest) {
            // A push of what is newest anyway makes no new version.
            (None, Some(newest)) if known == Some(digest) => newest,
            (None, _) => newest.into_iter().chain(taken.iter().copied()).max().unwrap_or(0) + 1,
            (Some(version), _) => version,
        };
        let unchanged = known == Some(digest) && !taken.contains(&version);
        if !unchanged {
            let exists = known.is_some() && received.version.is_some();
            if taken.contains(&version) || exists && !received.replace {
                return Err(Error::AlreadyExists { model: received.name, version });
            }
            self.record(received, version, digest).await?;
            if exists {
                let uploads = self.clone();
                blocking(move || uploads.remove_unused()).await?;
            }
        }
        Ok(Committed { version, digest, bytes, unchanged })
    }

    async fn record(&self, received: Receiving, version: u64, digest: Digest) -> Result<(), StoreError> {
        let (blobs, records_dir) = (self.blobs.clone(), self.records_dir.clone());
        let record = blocking(move || {
            let mut files = Vec::with_capacity(received.files.len());
            for file in &received.files {
                blobs.keep(&file.pending, &file.digest)?;
                files.push(StoredFile { path: file.path.clone(), digest: file.digest, bytes: file.bytes });
            }
            let record = Record { name: received.name.clone(), version, digest, loaded: false, files };
            store::write_record(&record_path(&records_dir, &record.name, version), &record)?;
            Ok(record)
        })
        .await?;
        self.lock().insert((record.name.clone(), version), record);
        Ok(())
    }

    /// True when the version is to be loaded when the daemon starts.
    pub fn is_loaded(&self, name: &str, version: u64) -> bool {
        self.lock().get(&(name.to_owned(), version)).is_some_and(|record| record.loaded)
    }

    /// Notes which versions of a model are to be loaded when the daemon starts: these and no others.
    pub async fn set_loaded(&self, name: &str, versions: &BTreeSet<u64>) -> Result<(), StoreError> {
        let _one_at_a_time = self.commits.lock().await;
        let changed: Vec<Record> = {
            let records = self.lock();
            let of_model = records.values().filter(|record| record.name == name);
            of_model.filter(|record| record.loaded != versions.contains(&record.version)).cloned().collect()
        };
        for record in changed {
            let record = Record { loaded: !record.loaded, ..record };
            let path = record_path(&self.records_dir, name, record.version);
            let written = record.clone();
            blocking(move || store::write_record(&path, &written)).await?;
            self.lock().insert((record.name.clone(), record.version), record);
        }
        Ok(())
    }

    /// Forgets one version; its content goes when no other version has it.
    pub async fn remove(self: &Arc<Self>, name: &str, version: u64) -> Result<(), StoreError> {
        let _one_at_a_time = self.commits.lock().await;
        let path = record_path(&self.records_dir, name, version);
        blocking(move || store::remove(&path)).await?;
        self.lock().remove(&(name.to_owned(), version));
        let uploads = self.clone();
        blocking(move || uploads.remove_unused()).await
    }

    fn remove_unused(&self) -> Result<(), StoreError> {
        let used: BTreeSet<Digest> =
            self.lock().values().flat_map(|record| record.files.iter().map(|file| file.digest)).collect();
        for digest in self.blobs.list()? {
            if !used.contains(&digest) {
                self.blobs.remove(&digest)?;
            }
        }
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<(String, u64), Record>> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn record_path(dir: &Path, name: &str, version: u64) -> PathBuf {
    // `@` is in no model name.
    dir.join(format!("{name}@{version}.json"))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    async fn send(
        uploads: &Arc<Uploads>,
        version: Option<u64>,
        files: &[(&str, &str)],
    ) -> Result<Committed, Error> {
        let mut receiving = uploads.receive("m", version)?;
        for (path, data) in files {
            receiving.file(path, data.len() as u64).await?;
            receiving.chunk(Bytes::copy_from_slice(data.as_bytes())).await?;
        }
        uploads.commit(receiving, &BTreeSet::from([1])).await
    }

    #[tokio::test]
    async fn versions_count_up_and_equal_content_makes_none() {
        let dir = tempfile::tempdir().unwrap();
        let uploads = Arc::new(Uploads::open(dir.path(), &Settings::default(), Trust::default()).unwrap());
        let first = send(&uploads, None, &[("model.onnx", "one")]).await.unwrap();
        assert_eq!((first.version, first.unchanged), (2, false), "1 is taken");
        let again = send(&uploads, None, &[("model.onnx", "one")]).await.unwrap();
        assert_eq!((again.version, again.unchanged), (2, true));
        let next = send(&uploads, None, &[("model.onnx", "one"), ("w.bin", "w")]).await.unwrap();
        assert_eq!(next.version, 3);
        assert!(matches!(
            send(&uploads, Some(2), &[("model.onnx", "two")]).await,
            Err(Error::AlreadyExists { version: 2, .. })
        ));
        assert!(matches!(
            send(&uploads, Some(1), &[("model.onnx", "two")]).await,
            Err(Error::AlreadyExists { version: 1, .. })
        ));
    }

    #[tokio::test]
    async fn content_is_shared_and_goes_with_its_last_version() {
        let dir = tempfile::tempdir().unwrap();
        let uploads = Arc::new(Uploads::open(dir.path(), &Settings::default(), Trust::default()).unwrap());
        send(&uploads, None, &[("model.onnx", "one"), ("w.bin", "shared")]).await.unwrap();
        send(&uploads, None, &[("model.onnx", "two"), ("w.bin", "shared")]).await.unwrap();
        assert_eq!(uploads.blobs.list().unwrap().len(), 3);
        uploads.remove("m", 2).await.unwrap();
        assert_eq!(uploads.blobs.list().unwrap().len(), 2);
        drop(uploads);
        let uploads = Uploads::open(dir.path(), &Settings::default(), Trust::default()).unwrap();
        let sources = uploads.sources_of("m");
        assert_eq!(sources.len(), 1);
        assert_eq!(std::fs::read(&sources[0].others[0].path).unwrap(), b"shared");
    }

    #[tokio::test]
    async fn an_upload_that_ends_early_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let uploads = Arc::new(Uploads::open(dir.path(), &Settings::default(), Trust::default()).unwrap());
        let mut receiving = uploads.receive("m", None).unwrap();
        receiving.file("model.onnx", 10).await.unwrap();
        receiving.chunk(Bytes::from_static(b"half")).await.unwrap();
        let error = uploads.commit(receiving, &BTreeSet::new()).await.unwrap_err();
        assert_eq!(error.to_string(), "file `model.onnx` has 4 bytes, announced were 10");
        assert!(uploads.blobs.list().unwrap().is_empty());
        assert_eq!(std::fs::read_dir(dir.path().join("content/pending")).unwrap().count(), 0);
    }
}
