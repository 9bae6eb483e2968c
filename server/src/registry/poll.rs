//! Following the model repository: what was put there, changed or taken away is loaded, replaced or unloaded.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use futures::StreamExt;

use super::Registry;
use crate::error::Error;
use crate::models::{ModelSource, Origin};
use crate::store::{StoreError, blocking};

/// Models whose changes are followed at the same time; a compilation uses every core anyway.
const AT_ONCE: usize = 4;

/// The versions of each model in the repository; `None` for one that cannot be read now.
type Look = BTreeMap<String, Option<Vec<ModelSource>>>;

impl Registry {
    /// Looks at the repository so often, forever. A model is taken as it is found once it has looked the same twice, so that
    /// one that is still being copied is left alone.
    pub async fn poll(self: Arc<Self>, every: Duration) {
        let mut before = Look::new();
        loop {
            tokio::time::sleep(every).await;
            let now = match self.look().await {
                Ok(now) => now,
                Err(error) => {
                    tracing::warn!(%error, "the model repository cannot be looked at; all stays as it is");
                    continue;
                }
            };
            let changed = self.changed(&before, &now);
            before = now;
            let follow = |name: String| {
                let registry = self.clone();
                // Done to the end even when the daemon stops meanwhile: a change is never left half made.
                let follow = tokio::spawn(async move {
                    tracing::info!(model = name, "changed in the model repository");
                    if let Err(error) = registry.follow(&name).await {
                        tracing::error!(model = name, %error, "the newest version is not served");
                    }
                });
                async { drop(follow.await) }
            };
            futures::stream::iter(changed).map(follow).buffer_unordered(AT_ONCE).collect::<()>().await;
        }
    }

    async fn look(&self) -> Result<Look, StoreError> {
        let Some(repository) = self.repository.clone() else { return Ok(Look::new()) };
        blocking(move || {
            let unreadable = |cause| StoreError::Repository { path: repository.dir.clone(), cause };
            let names = repository.names().map_err(unreadable)?;
            let look = |name: String| {
                let versions = repository.scan_model(&name);
                let versions = versions.inspect_err(|error| {
                    tracing::warn!(model = name, %error, "model of the repository is not readable");
                });
                (name, versions.ok())
            };
            Ok(names.into_iter().map(look).collect())
        })
        .await
    }

    /// The models that look as they did before, and not as they are known.
    fn changed(&self, before: &Look, now: &Look) -> Vec<String> {
        let mut known: BTreeMap<String, Vec<ModelSource>> = BTreeMap::new();
        for (name, versions) in self.models.read().unwrap_or_else(PoisonError::into_inner).iter() {
            let sources = versions.values().map(|slot| &slot.source);
            let of_repository = sources.filter(|source| source.origin == Origin::Repository).cloned();
            known.entry(name.clone()).or_default().extend(of_repository);
        }
        let nothing = Some(Vec::new());
        let names = known.keys().chain(now.keys().filter(|name| !known.contains_key(*name)));
        let is_new = |name: &&String| {
            let of = |look: &Look| look.get(*name).unwrap_or(&nothing).clone();
            let found = of(now);
            found.is_some()
                && found == of(before)
                && found.as_deref() != Some(known.get(*name).map_or(&[], Vec::as_slice))
        };
        names.filter(is_new).cloned().collect()
    }

    async fn follow(self: &Arc<Self>, name: &str) -> Result<(), Error> {
        let loaded = self.load(name).await;
        let _one_at_a_time = self.change(name).lock_owned().await;
        // Nothing is left to replace them.
        for version in self.gone(name) {
            self.retire(name, version, "its files are gone").await;
        }
        match loaded {
            Err(Error::UnknownModel { .. }) => Ok(()),
            loaded => loaded,
        }
    }

    fn gone(&self, name: &str) -> Vec<u64> {
        let models = self.models.read().unwrap_or_else(PoisonError::into_inner);
        let slots = models.get(name).into_iter().flatten();
        slots.filter(|(_, slot)| slot.gone).map(|(version, _)| *version).collect()
    }
}
