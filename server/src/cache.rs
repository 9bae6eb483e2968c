//! Compiled modules: one per model, target, options and compiler build, compiled once.
//!
//! A key is the digest of everything that goes into a module. It is looked for among what is open, then on disk, then in
//! the store that replicas share; each is only a shorter way to what can be compiled again. Concurrent equal requests
//! share one `flight`.

mod disk;
mod flight;
mod record;
mod shared;
mod work;

use std::collections::HashMap;
use std::fs::File;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use anyhow::Context;
use ired_worker::{CompileOptions, CompileReport, TargetRequest};
use tokio::sync::Semaphore;

pub use flight::{FlightEvent, Step, Ticket};

use crate::config::Settings;
use crate::digest::Digest;
use crate::engine::Compiler;
use crate::error::CompileError;
use crate::metrics::{CompileMetrics, SharedCacheMetrics};
use crate::models::ModelSource;
use crate::registry::Residents;
use crate::store::{StoreError, blocking};
use disk::Disk;
use record::{Output, Record};
use shared::SharedCache;

/// Part of every key; a change of how keys are made changes it.
const KEY_DOMAIN: &str = "ired 2026 module key";
/// Crashes of the compiler after which a module is not tried again for a while.
const CRASHES_ALLOWED: u32 = 2;
/// Modules whose crashes are remembered; more would only let strangers fill memory.
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

/// Where a module was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tier {
    Memory,
    Disk,
    Shared,
}

/// All compiled modules and the compilations in progress.
pub struct ModuleCache {
    compiler: Arc<dyn Compiler>,
    disk: Arc<Disk>,
    shared: Option<SharedCache>,
    flights: Mutex<HashMap<Digest, Weak<flight::Flight>>>,
    slots: Semaphore,
    /// Gives a compilation the memory that it may take.
    residents: Arc<Residents>,
    compile_memory: u64,
    compile_wall: Duration,
    queue_limit: usize,
    /// How often the compiler crashed at each key, and how it last did. Another target or other options may do.
    crashes: moka::sync::Cache<Digest, (u32, String)>,
    quarantine: Duration,
    /// What "host" means here: a data directory may move to another machine.
    host: String,
    pub metrics: Arc<CompileMetrics>,
    shared_metrics: Arc<SharedCacheMetrics>,
}

impl ModuleCache {
    /// Opens the modules below `dir`. `host` names this machine's CPU and features.
    ///
    /// # Errors
    /// A directory that cannot be read, a shared cache whose settings cannot be used.
    pub async fn open(
        dir: &Path,
        settings: &Settings,
        compiler: Arc<dyn Compiler>,
        host: String,
        residents: Arc<Residents>,
    ) -> anyhow::Result<Self> {
        let (metrics, shared_metrics) = <(Arc<CompileMetrics>, Arc<SharedCacheMetrics>)>::default();
        let disk = {
            let (dir, limit_bytes, metrics) = (dir.to_path_buf(), settings.cache_bytes, metrics.clone());
            blocking(move || Disk::open(&dir, limit_bytes, metrics)).await?
        };
        let shared = SharedCache::open(settings, shared_metrics.clone());
        Ok(Self {
            compiler,
            disk: Arc::new(disk),
            shared: shared.context("the shared cache cannot be used")?,
            flights: Mutex::default(),
            slots: Semaphore::new(settings.compile_slots),
            residents,
            compile_memory: settings.compile_memory(),
            compile_wall: settings.compile_wall(),
            queue_limit: settings.compile_queue,
            crashes: moka::sync::Cache::builder()
                .max_capacity(CRASHES_REMEMBERED)
                .time_to_live(Duration::from_secs(settings.quarantine_s))
                .build(),
            quarantine: Duration::from_secs(settings.quarantine_s),
            host,
            metrics,
            shared_metrics,
        })
    }

    /// Checks what the settings of the cache name.
    ///
    /// # Errors
    /// The first that cannot be used.
    pub fn check_files(settings: &Settings) -> anyhow::Result<()> {
        SharedCache::check(settings)
    }

    /// Ends what goes on behind the answers; nothing is asked for any more.
    pub async fn stop(&self) {
        if let Some(shared) = &self.shared {
            shared.stop().await;
        }
    }

    /// What the cache that replicas share counts, if there is one.
    pub fn shared_metrics(&self) -> Option<&SharedCacheMetrics> {
        self.shared.as_ref().map(|_| &*self.shared_metrics)
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
        let identity = move || compiler.identity().map_err(StoreError::io("read the compiler", "".as_ref()));
        let identity = blocking(identity).await.map_err(|error| Arc::new(error.into()))?;
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

    /// Takes a flight that has ended from the list. Once its last ticket was dropped, another may stand there.
    fn leave(&self, key: &Digest, flight: &Weak<flight::Flight>) {
        let mut flights = self.flights.lock().unwrap_or_else(PoisonError::into_inner);
        if flights.get(key).is_some_and(|listed| listed.ptr_eq(flight)) {
            flights.remove(key);
        }
    }

    /// Forgets a module that turned out to be unusable.
    pub async fn discard(&self, key: &Digest) {
        if let Some(shared) = &self.shared {
            shared.refuse(key);
        }
        let (disk, key) = (self.disk.clone(), *key);
        let _ = tokio::task::spawn_blocking(move || disk.discard(&key)).await;
    }

    /// Modules on disk and their bytes.
    pub fn size(&self) -> (u64, u64) {
        self.disk.size()
    }

    /// The module of this key where this machine has it.
    async fn find(&self, key: &Digest) -> Option<CompiledModule> {
        let (disk, key) = (self.disk.clone(), *key);
        let (module, tier) = blocking(move || Ok(disk.find(&key))).await.ok()??;
        self.note_hit(tier);
        Some(module)
    }

    /// The module of this key where another replica put it.
    async fn fetch(&self, key: &Digest) -> Option<CompiledModule> {
        let disk = self.disk.clone();
        let (record, output) = self.shared.as_ref()?.fetch(key, move || disk.begin()).await?;
        let module = self.insert(record, output).await;
        let module =
            module.inspect_err(|error| tracing::warn!(%key, %error, "a fetched module was lost")).ok()?;
        self.note_hit(Tier::Shared);
        Some(CompiledModule { cached: true, ..module })
    }

    /// Takes a finished module.
    async fn insert(&self, record: Record, output: Output) -> Result<CompiledModule, StoreError> {
        let disk = self.disk.clone();
        blocking(move || disk.insert(&record, output)).await
    }

    fn note_hit(&self, tier: Tier) {
        let hits = match tier {
            Tier::Memory => &self.metrics.memory_hits,
            Tier::Disk => &self.metrics.disk_hits,
            Tier::Shared => &self.metrics.shared_hits,
        };
        hits.add(1);
    }

    fn check_quarantine(&self, key: &Digest, model: &Digest, name: &str) -> Result<(), CompileError> {
        match self.crashes.get(key) {
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

    fn note_crash(&self, key: &Digest, how: String) {
        let crashes = self.crashes.get(key).map_or(0, |(crashes, _)| crashes) + 1;
        self.crashes.insert(*key, (crashes, how));
    }
}
