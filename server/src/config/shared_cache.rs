//! Settings of the modules that replicas share: the table `shared_cache`.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::bail;
use serde::{Deserialize, Serialize};

/// Compiled modules in an object store, where other replicas find them.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct SharedCacheSettings {
    /// Where: `s3://BUCKET/PREFIX`, `gs://BUCKET/PREFIX`, `az://CONTAINER/PREFIX` or `file:///DIRECTORY`; none: each
    /// daemon has its own modules only.
    pub url: Option<String>,
    /// `NAME=VALUE` for the store's client, by the names that its variables of the environment have, over which these
    /// win: `AWS_ENDPOINT=http://minio:9000`. Secrets belong in the environment.
    pub options: Vec<String>,
    /// A file with a secret that all replicas have. What was not put there by somebody who knows it is not taken. None:
    /// whoever may write to the store has code run here.
    pub key: Option<PathBuf>,
    /// How long a replica that compiles may give no sign before another takes over, in seconds. Long enough for a slow
    /// store and a busy machine, as taking over too early compiles twice.
    pub lease_s: u64,
    /// How long the store may take to answer, or to go on answering, in seconds. A compilation waits for it, so it is
    /// not much more than what compiling takes.
    pub timeout_s: u64,
}

impl Default for SharedCacheSettings {
    fn default() -> Self {
        Self { url: None, options: Vec::new(), key: None, lease_s: 15, timeout_s: 5 }
    }
}

impl SharedCacheSettings {
    pub(super) fn check(&self) -> anyhow::Result<()> {
        for (name, value) in [("lease_s", self.lease_s), ("timeout_s", self.timeout_s)] {
            if value == 0 {
                bail!("setting `shared_cache.{name}` is 0; it is at least 1");
            }
        }
        if self.url.is_none() && (self.key.is_some() || !self.options.is_empty()) {
            bail!("settings of `shared_cache` are there, and its `url` is missing");
        }
        Ok(())
    }

    pub(crate) fn lease(&self) -> Duration {
        Duration::from_secs(self.lease_s)
    }

    pub(crate) fn timeout(&self) -> Duration {
        Duration::from_secs(self.timeout_s)
    }
}
