//! Compiled modules: one per model, target, options and compiler build, kept on disk and compiled once.
//!
//! A key is the digest of everything that goes into a module. The index in memory bounds what is on disk and
//! evicts the least recently used. Concurrent equal requests share one `flight`.

mod flight;

use std::collections::HashMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, SystemTime};

use ired_worker::{CompileOptions, CompileReport, TargetRequest};
use moka::policy::EvictionPolicy;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

pub use flight::{FlightEvent, Step, Ticket};

use crate::config::Settings;
use crate::digest::Digest;
use crate::engine::Compiler;
use crate::error::CompileError;
use crate::metrics::CompileMetrics;
use crate::models::ModelSource;
use crate::store::{self, BlobStore, Stamp, StoreError, blocking};

/// Part of every key; a change of how keys are made changes it.
const KEY_DOMAIN: &str = "ired 2026 module key";
/// Crashes of the compiler after which a model is refused for a while.
const CRASHES_ALLOWED: u32 = 2;
/// Models whose crashes are remembered; more would only let strangers fill memory.
const CRASHES_REMEMBERED: u64 = 10_000;

/// What to compile, for what and how.
#[derive(Clone, Debug)]
pub struct CompileRequest {
    pub source: ModelSource,
    pub target: TargetRequest,
    pub options: CompileOptions,
}

/// A module in the cache.
#[derive(Clone, Debug)]
pub struct CompiledModule {
    pub key: Digest,
    pub digest: Digest,
    pub bytes: u64,
    /// Open for reading; stays readable when the module is evicted.
    pub file: Arc<File>,
    /// It was there before it was asked for.
    pub cached: bool,
    /// How it was compiled.
    pub report: Arc<CompileReport>,
}

/// The record beside a module's file.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    key: Digest,
    digest: Digest,
    bytes: u64,
    model: String,
    target: String,
    options: String,
    compiler: String,
    report: CompileReport,
}

#[derive(Debug)]
struct Entry {
    digest: Digest,
    bytes: u64,
    report: Arc<CompileReport>,
    /// What the file looked like when its content was last found right in this process.
    verified: Mutex<Option<Stamp>>,
}

/// All compiled modules and the compilations in progress.
pub struct ModuleCache {
    compiler: Arc<dyn Compiler>,
    blobs: Arc<BlobStore>,
    records_dir: PathBuf,
    index: moka::future::Cache<Digest, Arc<Entry>>,
    flights: Mutex<HashMap<Digest, Weak<flight::Flight>>>,
    slots: Semaphore,
    queue_limit: usize,
    /// How often each model crashed the compiler, and how it last did.
    crashes: moka::sync::Cache<Digest, (u32, String)>,
    quarantine: Duration,
    /// What "host" means here: a data directory may move to another machine.
    host: String,
    pub metrics: Arc<CompileMetrics>,
}

impl ModuleCache {
    /// Opens the modules below `dir`. `host` names this machine's CPU and features.
    pub async fn open(
        dir: &Path,
        settings: &Settings,
        compiler: Arc<dyn Compiler>,
        host: String,
    ) -> Result<Self, StoreError> {
        let metrics = Arc::new(CompileMetrics::default());
        let records_dir = dir.join("records");
        let (blobs, found) = {
            let (dir, records_dir) = (dir.to_path_buf(), records_dir.clone());
            blocking(move || read_all(&dir, &records_dir)).await?
        };
        let blobs = Arc::new(blobs);
        let cache = Self {
            compiler,
            blobs: blobs.clone(),
            records_dir: records_dir.clone(),
            index: index(settings.cache_bytes, blobs, records_dir, metrics.clone()),
            flights: Mutex::default(),
            slots: Semaphore::new(settings.compile_slots),
            queue_limit: settings.compile_queue,
            crashes: moka::sync::Cache::builder()
                .max_capacity(CRASHES_REMEMBERED)
                .time_to_live(Duration::from_secs(settings.quarantine_s))
                .build(),
            quarantine: Duration::from_secs(settings.quarantine_s),
            host,
            metrics,
        };
        for record in found {
            cache.index.insert(record.key, Arc::new(Entry::of(&record))).await;
        }
        cache.index.run_pending_tasks().await;
        Ok(cache)
    }

    /// Finds or compiles a module. Equal requests at the same time share the work; it ends when the last
    /// ticket for it is dropped.
    pub async fn request(self: &Arc<Self>, request: CompileRequest) -> Result<Ticket, Arc<CompileError>> {
        if request.source.is_module() {
            return Err(Arc::new(CompileError::IsModule { model: request.source.name }));
        }
        let model = match request.source.digest().await {
            Ok(digest) => digest,
            Err(cause) => {
                tracing::info!(model = %request.source, %cause, "model cannot be read");
                return Err(Arc::new(CompileError::SourceChanged { model: request.source.name }));
            }
        };
        let compiler = self.compiler.clone();
        let path = self.records_dir.clone();
        let identity =
            blocking(move || compiler.identity().map_err(StoreError::io("read the compiler", &path)))
                .await
                .map_err(|error| Arc::new(error.into()))?;
        let key = self.key(&model, &request, &identity);
        Ok(self.join(key, model, identity, request))
    }

    fn key(&self, model: &Digest, request: &CompileRequest, identity: &str) -> Digest {
        let target = request.target.canonical();
        let options = request.options.canonical();
        let mut targets = [&request.target].into_iter().chain(&request.options.fallbacks);
        let host = if targets.any(|target| target.triple.is_none()) { self.host.as_str() } else { "" };
        let fields =
            [&model.0[..], target.as_bytes(), host.as_bytes(), options.as_bytes(), identity.as_bytes()];
        Digest::of_fields(KEY_DOMAIN, &fields)
    }

    fn join(
        self: &Arc<Self>,
        key: Digest,
        model: Digest,
        identity: String,
        request: CompileRequest,
    ) -> Ticket {
        let mut flights = self.flights.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(flight) = flights.get(&key).and_then(Weak::upgrade) {
            return Ticket::on(flight, request.source.name);
        }
        // Those whose callers all went away.
        flights.retain(|_, flight| flight.strong_count() > 0);
        let (flight, ticket) = flight::Flight::start(self.clone(), key, model, identity, request);
        flights.insert(key, flight);
        ticket
    }

    /// Forgets a module that turned out to be unusable.
    pub async fn discard(&self, key: &Digest) {
        self.index.invalidate(key).await;
        self.index.run_pending_tasks().await;
    }

    /// Modules on disk and their bytes.
    pub fn size(&self) -> (u64, u64) {
        let bytes = self.index.iter().map(|(_, entry)| entry.bytes).sum();
        (self.index.entry_count(), bytes)
    }

    /// The module of this key, provided that its file is what was written.
    async fn find(&self, key: &Digest) -> Option<CompiledModule> {
        let entry = self.index.get(key).await?;
        let (path, record) = (self.blobs.path(key), record_path(&self.records_dir, key));
        let checked = entry.clone();
        let opened = blocking(move || {
            let file = checked.open_verified(&path)?;
            // The time of the record's change is that of the last use: eviction goes on after a restart.
            if let Ok(record) = File::options().write(true).open(record) {
                let _ = record.set_modified(SystemTime::now());
            }
            Ok(file)
        })
        .await;
        match opened {
            Ok(file) => Some(CompiledModule {
                key: *key,
                digest: entry.digest,
                bytes: entry.bytes,
                file: Arc::new(file),
                cached: true,
                report: entry.report.clone(),
            }),
            Err(error) => {
                tracing::warn!(%key, %error, "cached module is not usable; it is compiled again");
                self.metrics.corrupt.add(1);
                self.discard(key).await;
                None
            }
        }
    }

    /// Stores a finished module; durable when this returns.
    async fn insert(&self, record: Record, pending: store::Pending) -> Result<CompiledModule, StoreError> {
        let (blobs, records_dir) = (self.blobs.clone(), self.records_dir.clone());
        let (record, file, stamp) = blocking(move || {
            let path = blobs.keep(&pending, &record.key)?;
            store::write_record(&record_path(&records_dir, &record.key), &record)?;
            let file = File::open(&path).map_err(StoreError::io("open a module", &path))?;
            let stamp = Stamp::of(&file).map_err(StoreError::io("open a module", &path))?;
            Ok((record, file, stamp))
        })
        .await?;
        let entry = Arc::new(Entry::of(&record));
        *entry.verified.lock().unwrap_or_else(PoisonError::into_inner) = Some(stamp);
        self.index.insert(record.key, entry.clone()).await;
        self.index.run_pending_tasks().await;
        Ok(CompiledModule {
            key: record.key,
            digest: record.digest,
            bytes: record.bytes,
            file: Arc::new(file),
            cached: false,
            report: entry.report.clone(),
        })
    }

    fn check_quarantine(&self, model: &Digest, name: &str) -> Result<(), CompileError> {
        match self.crashes.get(model) {
            Some((crashes, last)) if crashes >= CRASHES_ALLOWED => Err(CompileError::Quarantined {
                model: name.to_owned(),
                digest: *model,
                crashes,
                last,
                quarantine: self.quarantine,
            }),
            _ => Ok(()),
        }
    }

    fn note_crash(&self, model: &Digest, how: String) {
        let crashes = self.crashes.get(model).map_or(0, |(crashes, _)| crashes) + 1;
        self.crashes.insert(*model, (crashes, how));
    }
}

impl Entry {
    fn of(record: &Record) -> Self {
        Self {
            digest: record.digest,
            bytes: record.bytes,
            report: Arc::new(record.report.clone()),
            verified: Mutex::new(None),
        }
    }

    /// Blocks; reads the whole file unless it was found right before and has not been written since.
    fn open_verified(&self, path: &Path) -> Result<File, StoreError> {
        let file = File::open(path).map_err(StoreError::io("open a module", path))?;
        let stamp = Stamp::of(&file).map_err(StoreError::io("open a module", path))?;
        let mut verified = self.verified.lock().unwrap_or_else(PoisonError::into_inner);
        if *verified != Some(stamp) {
            let found = Digest::of_file(path).map_err(StoreError::io("read a module", path))?;
            if found != self.digest {
                return Err(StoreError::Corrupt { path: path.to_path_buf(), found, expected: self.digest });
            }
            *verified = Some(stamp);
        }
        Ok(file)
    }
}

fn record_path(dir: &Path, key: &Digest) -> PathBuf {
    dir.join(format!("{key}.json"))
}

/// Opens the files and gives their records, least recently used first. Files without a record go. Blocks.
fn read_all(dir: &Path, records_dir: &Path) -> Result<(BlobStore, Vec<Record>), StoreError> {
    let blobs = BlobStore::open(dir)?;
    let mut dated = Vec::new();
    for (path, record) in store::read_records::<Record>(records_dir)? {
        if blobs.path(&record.key).is_file() && path == record_path(records_dir, &record.key) {
            let used = std::fs::metadata(&path).and_then(|m| m.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
            dated.push((used, record));
        } else {
            store::remove(&path)?;
        }
    }
    dated.sort_by_key(|(used, _)| *used);
    let records: Vec<Record> = dated.into_iter().map(|(_, record)| record).collect();
    let known: std::collections::HashSet<Digest> = records.iter().map(|record| record.key).collect();
    for digest in blobs.list()? {
        if !known.contains(&digest) {
            blobs.remove(&digest)?;
        }
    }
    Ok((blobs, records))
}

/// The index in memory; what it lets go is removed from disk.
fn index(
    cache_bytes: u64,
    blobs: Arc<BlobStore>,
    records_dir: PathBuf,
    metrics: Arc<CompileMetrics>,
) -> moka::future::Cache<Digest, Arc<Entry>> {
    moka::future::Cache::builder()
        // Weights are 32 bits wide, so they count KiB.
        .weigher(|_, entry: &Arc<Entry>| u32::try_from(entry.bytes.div_ceil(1024)).unwrap_or(u32::MAX))
        .max_capacity(cache_bytes / 1024)
        .eviction_policy(EvictionPolicy::lru())
        .async_eviction_listener(move |key: Arc<Digest>, _, cause| {
            let (blobs, records_dir, metrics) = (blobs.clone(), records_dir.clone(), metrics.clone());
            Box::pin(async move {
                if cause == moka::notification::RemovalCause::Replaced {
                    return;
                }
                if cause.was_evicted() {
                    metrics.evicted.add(1);
                }
                let removed = blocking(move || {
                    store::remove(&record_path(&records_dir, &key))?;
                    blobs.remove(&key)
                });
                if let Err(error) = removed.await {
                    tracing::error!(%error, "evicted module cannot be removed");
                }
            })
        })
        .build()
}
