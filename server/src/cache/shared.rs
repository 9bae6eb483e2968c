//! The cache that replicas share in an object store: modules that one of them compiled, and who compiles what.
//!
//! Nothing here fails a compilation. What is lost, late, wrong or full costs a module that is compiled once more.

mod conditions;
mod lease;
mod object;
mod place;
mod store;
mod uploads;

use std::fs::File;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use futures::StreamExt;
use object_store::ObjectStoreExt;
use object_store::path::Path;
use tokio::io::AsyncWriteExt;
use tokio::sync::OnceCell;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use conditions::Conditions;
use lease::{Asked, Leases};
use object::{Reading, Refused, Seal};
use store::{Store, StoreFailure};
use uploads::Uploads;

pub(super) use lease::{Lease, Seen, Waited};

use super::record::{Output, Record};
use crate::config::Settings;
use crate::digest::Digest;
use crate::metrics::SharedCacheMetrics;
use crate::store::{StoreError, blocking};

/// The slowest transfer that is waited for, beyond the time for an answer: compiling is mostly faster then.
const LEAST_BYTES_PER_S: u64 = 1 << 20;
/// Modules in the store that are known to be of no use here, which are not fetched until they were replaced.
const REFUSED_REMEMBERED: u64 = 10_000;

/// Why a module was not fetched.
#[derive(Debug, thiserror::Error)]
enum FetchError {
    #[error(transparent)]
    Store(#[from] StoreFailure),
    #[error(transparent)]
    Refused(#[from] Refused),
    #[error(transparent)]
    Disk(#[from] StoreError),
    #[error("only {bytes} bytes arrived within {within:?}")]
    Slow { bytes: u64, within: Duration },
}

/// Whether this replica compiles.
pub(super) enum Turn {
    /// It does, and others wait for it.
    Ours(Lease),
    /// Another does.
    Others(Seen),
    /// Nobody can tell; it does.
    Unknown,
}

pub(super) struct SharedCache {
    store: Arc<Store>,
    seal: Arc<Seal>,
    leases: Leases,
    conditions: OnceCell<Conditions>,
    uploads: Uploads,
    refused: moka::sync::Cache<Digest, ()>,
    module_bytes: u64,
    /// How long another's compilation is waited for.
    patience: Duration,
    stop_within: Duration,
    metrics: Arc<SharedCacheMetrics>,
    /// Ends with the cache.
    _watch: JoinSet<()>,
}

impl SharedCache {
    /// The shared cache of these settings, if they have one. Asks nothing of the store yet.
    ///
    /// # Errors
    /// A URL, an option or a key file that cannot be used.
    pub(super) fn open(
        settings: &Settings,
        metrics: Arc<SharedCacheMetrics>,
    ) -> anyhow::Result<Option<Self>> {
        let shared = &settings.shared_cache;
        let Some(url) = &shared.url else { return Ok(None) };
        let objects = place::open(url, shared)?;
        let seal = Arc::new(Seal::open(shared)?);
        if !seal.has_key() {
            tracing::warn!(
                url,
                "whoever may write to the shared cache has code run here (no `shared_cache.key`)"
            );
        }
        metrics.set_up(true);
        let store = Arc::new(Store::new(objects, shared.timeout(), metrics.clone()));
        let refused = moka::sync::Cache::builder().max_capacity(REFUSED_REMEMBERED).build();
        let mut watch = JoinSet::new();
        watch.spawn({
            let store = store.clone();
            async move { store.watch().await }
        });
        Ok(Some(Self {
            leases: Leases {
                store: store.clone(),
                replica: replica_name(),
                term: shared.lease(),
                tasks: TaskTracker::new(),
                stopped: CancellationToken::new(),
            },
            conditions: OnceCell::new(),
            uploads: Uploads::start(store.clone(), seal.clone(), refused.clone(), metrics.clone()),
            store,
            seal,
            refused,
            module_bytes: settings.module_bytes,
            patience: Duration::from_secs(settings.compile_wall_s) * 2 + shared.lease(),
            stop_within: settings.drain(),
            metrics,
            _watch: watch,
        }))
    }

    /// Checks what the settings name.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub(super) fn check(settings: &Settings) -> anyhow::Result<()> {
        let shared = &settings.shared_cache;
        let Some(url) = &shared.url else { return Ok(()) };
        place::open(url, shared).context("the shared cache cannot be used")?;
        Seal::open(shared).map(drop)
    }

    /// The module of this key, if the store has it and it is right, written to what `begin` gives. `begin` blocks.
    pub(super) async fn fetch(
        &self,
        key: &Digest,
        begin: impl FnOnce() -> Result<Output, StoreError> + Send + 'static,
    ) -> Option<(Record, Output)> {
        if self.refused.contains_key(key) || self.store.is_gone() {
            return None;
        }
        let mut fetched = self.try_fetch(key, begin).await;
        if let Err(FetchError::Disk(error)) = &fetched {
            tracing::warn!(%key, %error, "a module from the shared cache is kept in memory only");
            fetched = self.try_fetch(key, Output::in_memory).await;
        }
        match fetched {
            Ok((record, output)) => {
                self.metrics.fetched_bytes.add(record.bytes);
                Some((record, output))
            }
            Err(FetchError::Store(StoreFailure::Store(object_store::Error::NotFound { .. }))) => None,
            Err(FetchError::Refused(why)) => {
                tracing::warn!(%key, %why, "a module in the shared cache is not taken; it is compiled");
                self.metrics.refused.add(1);
                self.refuse(key);
                None
            }
            Err(error) => {
                tracing::warn!(%key, %error, "a module could not be fetched from the shared cache");
                None
            }
        }
    }

    async fn try_fetch(
        &self,
        key: &Digest,
        begin: impl FnOnce() -> Result<Output, StoreError> + Send + 'static,
    ) -> Result<(Record, Output), FetchError> {
        let path = module_path(key);
        let found = self.store.ask(self.store.objects.get(&path)).await?;
        let (began, mut bytes) = (Instant::now(), 0);
        let output = blocking(begin).await?;
        let cannot_write = || StoreError::io("write a module", "".as_ref());
        let mut file = tokio::fs::File::from_std(output.file().try_clone().map_err(cannot_write())?);
        let mut chunks = found.into_stream();
        let mut reading = Reading::new(&self.seal, *key, self.module_bytes);
        while let Some(chunk) = self.store.ask(async { chunks.next().await.transpose() }).await? {
            bytes += chunk.len() as u64;
            // By what has come, as how much there is to come is only the store's word.
            if began.elapsed() > transfer_time(self.store.timeout(), bytes) {
                return Err(FetchError::Slow { bytes, within: began.elapsed() });
            }
            file.write_all(&reading.take(chunk)?).await.map_err(cannot_write())?;
        }
        file.flush().await.map_err(cannot_write())?;
        Ok((reading.finish()?, output))
    }

    /// Does not take the module of this key from the store until it was replaced.
    pub(super) fn refuse(&self, key: &Digest) {
        self.refused.insert(*key, ());
    }

    /// Asks whether to compile the module of this key. `dead` is a lease that may be replaced.
    pub(super) async fn turn(&self, key: &Digest, dead: Option<Seen>) -> Turn {
        let conditions = match self.conditions().await {
            Some(conditions) if conditions != Conditions::None => conditions,
            _ => return Turn::Unknown,
        };
        let takes_over = dead.is_some();
        match self.leases.ask(&lease_path(key), dead, conditions).await {
            Ok(Asked::Granted(lease)) => {
                self.metrics.takeovers.add(u64::from(takes_over));
                Turn::Ours(lease)
            }
            Ok(Asked::Taken(seen)) => Turn::Others(seen),
            Err(error) => {
                tracing::warn!(%key, %error, "it is not known whether another replica compiles this");
                Turn::Unknown
            }
        }
    }

    /// Waits for another's compilation.
    pub(super) async fn wait(&self, key: &Digest, seen: Seen) -> Waited {
        self.metrics.waits.add(1);
        let _waiting = self.metrics.waiting.enter();
        self.leases.wait(&lease_path(key), seen, self.patience).await
    }

    /// How many wait for others' compilations.
    pub(super) fn waiting(&self) -> u64 {
        self.metrics.waiting.get()
    }

    /// Found out once; `None` while the store does not answer.
    async fn conditions(&self) -> Option<Conditions> {
        let found = self.conditions.get_or_try_init(|| async {
            let found = Conditions::of(&self.store).await?;
            match found {
                Conditions::CreateAndReplace => {}
                Conditions::CreateOnly => tracing::info!(
                    "the shared cache's store replaces without conditions: two replicas may take over from a dead one"
                ),
                Conditions::None => tracing::warn!(
                    "the shared cache's store passes over conditions of puts: replicas may compile the same at once"
                ),
            }
            Ok::<_, StoreFailure>(found)
        });
        found.await.ok().copied()
    }

    /// Puts a module into the store, some time; the lease is given back after that.
    pub(super) fn put(&self, record: Record, file: Arc<File>, lease: Option<Lease>) {
        self.uploads.add(record, file, lease);
    }

    /// Ends the uploads, and gives leases back.
    pub(super) async fn stop(&self) {
        if tokio::time::timeout(self.stop_within, self.uploads.finish()).await.is_err() {
            tracing::warn!("not all modules that were made here are in the shared cache");
        }
        self.leases.stop().await;
    }
}

fn module_path(key: &Digest) -> Path {
    let hex = key.to_string();
    Path::from_iter(["modules", &hex[..2], &hex])
}

fn lease_path(key: &Digest) -> Path {
    Path::from_iter(["leases".to_owned(), key.to_string()])
}

/// How long so many bytes may take.
fn transfer_time(timeout: Duration, bytes: u64) -> Duration {
    timeout + Duration::from_secs(bytes / LEAST_BYTES_PER_S)
}

/// What people call this replica.
fn replica_name() -> String {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    format!("{host} ({})", std::process::id())
}
