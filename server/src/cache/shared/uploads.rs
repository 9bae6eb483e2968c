//! Modules on their way into the store, behind the answer to whoever had them compiled.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use futures::StreamExt;
use object_store::{MultipartUpload, ObjectStore, ObjectStoreExt, PutMode, PutPayload};
use tokio::sync::{Mutex as AsyncMutex, mpsc};
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;

use super::lease::Lease;
use super::object::Seal;
use super::store::{Store, StoreFailure};
use super::{module_path, transfer_time};
use crate::cache::record::Record;
use crate::digest::Digest;
use crate::metrics::SharedCacheMetrics;

/// Modules that wait to be put; they are open files, and more are not put.
const QUEUE: usize = 256;
const AT_ONCE: usize = 2;
/// What is sent, and in memory, at once; the least that S3 takes as a part is 5 MiB.
const PART_BYTES: u64 = 8 << 20;
/// A part may take longer than an answer by so much.
const PART_TIMEOUTS: u32 = 6;

struct Job {
    record: Record,
    file: Arc<File>,
    /// Others wait until the module is there.
    _lease: Option<Lease>,
}

pub(super) struct Uploads {
    jobs: Mutex<Option<mpsc::Sender<Job>>>,
    /// Ends when all were put and no more are taken, or with this.
    work: AsyncMutex<JoinSet<()>>,
    metrics: Arc<SharedCacheMetrics>,
}

impl Uploads {
    pub(super) fn start(
        store: Arc<Store>,
        seal: Arc<Seal>,
        refused: moka::sync::Cache<Digest, ()>,
        metrics: Arc<SharedCacheMetrics>,
    ) -> Self {
        let (jobs, queued) = mpsc::channel(QUEUE);
        let uploader = Arc::new(Uploader { store, seal, refused, metrics: metrics.clone() });
        let mut work = JoinSet::new();
        work.spawn(ReceiverStream::new(queued).for_each_concurrent(AT_ONCE, move |job| {
            let uploader = uploader.clone();
            async move { uploader.put(job).await }
        }));
        Self { jobs: Mutex::new(Some(jobs)), work: AsyncMutex::new(work), metrics }
    }

    pub(super) fn add(&self, record: Record, file: Arc<File>, lease: Option<Lease>) {
        let jobs = self.jobs.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(jobs) = jobs.as_ref() else { return };
        if let Err(error) = jobs.try_send(Job { record, file, _lease: lease }) {
            let (mpsc::error::TrySendError::Full(job) | mpsc::error::TrySendError::Closed(job)) = error;
            tracing::warn!(
                model = job.record.model,
                "{QUEUE} modules wait for the shared cache; one more is not put"
            );
            self.metrics.dropped.add(1);
        }
    }

    /// Takes no more, and waits for those that were taken.
    pub(super) async fn finish(&self) {
        self.jobs.lock().unwrap_or_else(PoisonError::into_inner).take();
        while self.work.lock().await.join_next().await.is_some() {}
    }
}

struct Uploader {
    store: Arc<Store>,
    seal: Arc<Seal>,
    refused: moka::sync::Cache<Digest, ()>,
    metrics: Arc<SharedCacheMetrics>,
}

impl Uploader {
    async fn put(&self, job: Job) {
        let record = &job.record;
        let Some(head) = self.seal.head(record) else {
            tracing::warn!(model = record.model, "the module's record is too long for the shared cache");
            return;
        };
        let within = transfer_time(self.store.timeout() * PART_TIMEOUTS, record.bytes);
        let transfer = self.transfer(&job, head);
        let result = tokio::time::timeout(within, transfer).await;
        match result.unwrap_or(Err(StoreFailure::Late(within))) {
            Ok(()) => {
                self.metrics.stored.add(1);
                self.metrics.stored_bytes.add(record.bytes);
                self.refused.invalidate(&record.key);
            }
            Err(error) => {
                self.metrics.failed.add(1);
                // That it is gone was told once.
                if matches!(error, StoreFailure::Gone) {
                    return;
                }
                tracing::warn!(model = record.model, key = %record.key, %error,
                               "the module is not in the shared cache");
            }
        }
    }

    async fn transfer(&self, job: &Job, head: Bytes) -> Result<(), StoreFailure> {
        let (path, objects) = (module_path(&job.record.key), &self.store.objects);
        if job.record.bytes <= PART_BYTES {
            let module = read(job, 0).await?;
            let object = PutPayload::from_iter([head, module]);
            self.send(objects.put_opts(&path, object, PutMode::Overwrite.into())).await?;
            return Ok(());
        }
        let mut upload = self.send(objects.put_multipart(&path)).await?;
        let sent = self.send_parts(job, head, upload.as_mut()).await;
        if sent.is_err() {
            // Parts without an end cost room until the store's own rules remove them.
            let _ = self.store.ask(upload.abort()).await;
        }
        sent
    }

    async fn send_parts(
        &self,
        job: &Job,
        head: Bytes,
        upload: &mut dyn MultipartUpload,
    ) -> Result<(), StoreFailure> {
        let (mut offset, mut head) = (0, Some(head));
        while offset < job.record.bytes {
            let piece = read(job, offset).await?;
            offset += piece.len() as u64;
            let part = PutPayload::from_iter(head.take().into_iter().chain([piece]));
            self.send(upload.put_part(part)).await?;
        }
        self.send(upload.complete()).await?;
        Ok(())
    }

    async fn send<T>(
        &self,
        request: impl Future<Output = Result<T, object_store::Error>>,
    ) -> Result<T, StoreFailure> {
        self.store.ask_within(self.store.timeout() * PART_TIMEOUTS, request).await
    }
}

/// The part of a module that begins at `offset`.
async fn read(job: &Job, offset: u64) -> Result<Bytes, StoreFailure> {
    let (file, bytes) = (job.file.clone(), (job.record.bytes - offset).min(PART_BYTES));
    let piece = tokio::task::spawn_blocking(move || {
        let mut piece = vec![0; bytes as usize];
        file.read_exact_at(&mut piece, offset)?;
        Ok(piece.into())
    });
    let piece = piece.await.unwrap_or_else(|join| Err(std::io::Error::other(join)));
    piece.map_err(|cause| StoreFailure::Unreadable { cause })
}
