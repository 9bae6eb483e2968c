//! What the services share: the parts of the daemon behind its front door.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use crate::activity::CpuMeter;
use crate::auth::Gate;
use crate::cache::ModuleCache;
use crate::config::Settings;
use crate::devices::Host;
use crate::error::Error;
use crate::infer::Inference;
use crate::registry::Registry;
use crate::shared_memory::Regions;
use crate::trace::Traces;
use crate::uploads::Uploads;

/// The daemon as the services see it.
pub struct App {
    pub settings: Arc<Settings>,
    pub host: Host,
    pub uploads: Arc<Uploads>,
    pub cache: Arc<ModuleCache>,
    pub registry: Arc<Registry>,
    pub inference: Inference,
    pub regions: Regions,
    pub traces: Traces,
    pub cpu: CpuMeter,
    /// When the daemon began.
    pub since: Instant,
    pub(crate) serving: AtomicBool,
    /// What the doors count, and the tenants.
    pub(crate) gate: Arc<Gate>,
}

impl App {
    /// True once the start-up loads have ended, until the daemon is told to stop.
    pub fn is_serving(&self) -> bool {
        self.serving.load(Ordering::Acquire)
    }

    /// Whether requests should be sent here: it is serving, and what it was to serve from the start.
    pub fn is_ready(&self) -> bool {
        self.is_serving() && (!self.settings.strict_readiness || self.registry.missing().is_empty())
    }

    /// Loads a model to the end even when the caller goes away: a change is never left half made.
    pub async fn load(&self, name: &str) -> Result<(), Error> {
        let (registry, name) = (self.registry.clone(), name.to_owned());
        let load = tokio::spawn(async move {
            let loaded = registry.load(&name).await;
            if let Err(error) = &loaded {
                tracing::warn!(model = name, %error, "load failed");
            }
            loaded
        });
        finish(load).await
    }

    /// Unloads a model to the end even when the caller goes away.
    pub async fn unload(&self, name: &str) -> Result<(), Error> {
        let (registry, name) = (self.registry.clone(), name.to_owned());
        finish(tokio::spawn(async move { registry.unload(&name).await })).await
    }

    /// Deletes uploaded versions to the end even when the caller goes away.
    pub async fn delete(&self, name: &str, version: u64) -> Result<Vec<u64>, Error> {
        let (registry, name) = (self.registry.clone(), name.to_owned());
        finish(tokio::spawn(async move { registry.delete(&name, version).await })).await
    }

    /// Sets a label, and retires what only the old one kept, to the end even when the caller goes away.
    pub async fn set_label(&self, name: &str, label: &str, version: u64) -> Result<Option<u64>, Error> {
        let (registry, name, label) = (self.registry.clone(), name.to_owned(), label.to_owned());
        finish(tokio::spawn(async move { registry.set_label(&name, &label, version).await })).await
    }

    /// Takes a label away, and what only it kept, to the end even when the caller goes away.
    pub async fn delete_label(&self, name: &str, label: &str) -> Result<u64, Error> {
        let (registry, name, label) = (self.registry.clone(), name.to_owned(), label.to_owned());
        finish(tokio::spawn(async move { registry.delete_label(&name, &label).await })).await
    }
}

async fn finish<T>(task: tokio::task::JoinHandle<Result<T, Error>>) -> Result<T, Error> {
    // The task ends early only with the daemon.
    task.await.unwrap_or(Err(Error::Stopping))
}
