//! One model version that answers, and the bound on how many requests are inside it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ired_module::signature::EntryPoint;
use ired_worker::RuntimeFailure;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError};

use crate::cache::CompiledModule;
use crate::digest::Digest;
use crate::engine::Runner;
use crate::error::Error;
use crate::models::ModelSource;
use crate::schedule::{Lane, Refusal, Why};
use crate::stats::ModelStats;

/// A loaded model version.
pub struct Served {
    pub name: String,
    pub version: u64,
    /// Of the source that it was made from.
    pub model_digest: Digest,
    /// `None` for a module that came compiled.
    pub compiled: Option<CompiledModule>,
    pub runner: Arc<dyn Runner>,
    pub stats: Arc<ModelStats>,
    /// Where its requests wait for their turn.
    pub lane: Lane,
    entry: usize,
    places: Arc<Semaphore>,
    limit: u32,
    retired: AtomicBool,
}

/// The answer to a request that wants in.
pub enum Admission {
    /// Inside while this is held.
    Admitted(OwnedSemaphorePermit),
    /// The version was replaced; who asks the registry again finds its successor.
    Retired,
}

impl Served {
    /// # Errors
    /// [`RuntimeFailure::Load`] for a module without entry points.
    pub fn new(
        source: &ModelSource,
        model_digest: Digest,
        compiled: Option<CompiledModule>,
        runner: Arc<dyn Runner>,
        stats: Arc<ModelStats>,
        lane: Lane,
        limit: usize,
    ) -> Result<Self, Error> {
        let entries = &runner.module().signature.entries;
        if entries.is_empty() {
            return Err(RuntimeFailure::Load { message: "the module has no entry points".to_owned() }.into());
        }
        let entry = entries.iter().position(|entry| entry.name == "main").unwrap_or(0);
        let limit = u32::try_from(limit.min(Semaphore::MAX_PERMITS)).unwrap_or(u32::MAX);
        Ok(Self {
            name: source.name.clone(),
            version: source.version,
            model_digest,
            compiled,
            runner,
            stats,
            lane,
            entry,
            places: Arc::new(Semaphore::new(limit as usize)),
            limit,
            retired: AtomicBool::new(false),
        })
    }

    /// The entry point that inference requests run: `main`, or the first.
    pub fn entry(&self) -> &EntryPoint {
        &self.runner.module().signature.entries[self.entry]
    }

    /// Lets one more request in.
    ///
    /// # Errors
    /// [`Error::Refused`], at once, when there is no room.
    pub fn admit(&self) -> Result<Admission, Error> {
        match self.places.clone().try_acquire_owned() {
            Ok(place) => Ok(Admission::Admitted(place)),
            Err(_) if self.retired.load(Ordering::Acquire) => Ok(Admission::Retired),
            Err(TryAcquireError::Closed | TryAcquireError::NoPermits) => {
                let why = Why::Full { limit: self.limit as usize };
                Err(Refusal::new(&self.name, why, self.lane.retry_after()).into())
            }
        }
    }

    /// Lets the requests inside end, for so long at most, then ends the worker.
    pub async fn retire(&self, drain: Duration) {
        self.retired.store(true, Ordering::Release);
        // Who holds every place is alone.
        let alone = tokio::time::timeout(drain, self.places.acquire_many(self.limit)).await;
        self.places.close();
        if alone.is_err() {
            tracing::warn!(model = self.name, version = self.version, "requests did not end in time");
        }
        self.runner.shutdown().await;
    }
}
