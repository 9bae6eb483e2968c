//! How models are to be run, as their owners say: a file beside the model, or what the last load request said.

use std::sync::{Arc, PoisonError};

use ired_proto::inference::ModelConfig;

use super::Registry;
use crate::error::Error;
use crate::model_config::{self, CONFIG_BYTES};
use crate::models::{JSON_CONFIG, ModelSource};
use crate::store::{StoreError, blocking};

/// Models whose configuration came with a load request, at most.
const OVERRIDES: usize = 10_000;

impl Registry {
    /// How a version is to be run: what the last load request said, or the file beside it.
    pub(super) async fn configuration(
        &self,
        source: &ModelSource,
    ) -> Result<Option<Arc<ModelConfig>>, Error> {
        let requested =
            self.overrides.lock().unwrap_or_else(PoisonError::into_inner).get(&source.name).cloned();
        if requested.is_some() {
            return Ok(requested);
        }
        let Some(file) = source.config.clone() else { return Ok(None) };
        let found = file.stamp.bytes;
        if found > CONFIG_BYTES {
            let what = format!("the configuration of `{}`", source.name);
            return Err(Error::TooLarge { what, found, limit: CONFIG_BYTES });
        }
        let is_json = file.name == JSON_CONFIG;
        let read = move || {
            let cannot_read = StoreError::io("read a configuration", &file.path);
            std::fs::read_to_string(&file.path).map_err(cannot_read)
        };
        let text = blocking(read).await?;
        let config = if is_json { model_config::from_json(&text) } else { model_config::from_text(&text) };
        config.map(|config| Some(Arc::new(config)))
    }

    /// Has the next load of a model go by this configuration; `None`: by its file again.
    pub fn set_override(&self, name: &str, config: Option<ModelConfig>) -> Result<(), Error> {
        crate::models::check_name(name)?;
        let mut overrides = self.overrides.lock().unwrap_or_else(PoisonError::into_inner);
        match config {
            None => drop(overrides.remove(name)),
            Some(_) if !overrides.contains_key(name) && overrides.len() >= OVERRIDES => {
                return Err(Error::Busy { what: "configurations of load requests", limit: OVERRIDES as u64 });
            }
            Some(config) => drop(overrides.insert(name.to_owned(), Arc::new(config))),
        }
        Ok(())
    }

    /// The configuration that says which versions there are to be: that of the newest whose own can be read. What is wrong
    /// with others is told when they are loaded.
    pub(super) async fn choosing(&self, newest_first: &[ModelSource]) -> Option<Arc<ModelConfig>> {
        for source in newest_first {
            if let Ok(config) = self.configuration(source).await {
                return config;
            }
        }
        None
    }
}
