//! A load request that carries the model's files: the repository extension's way to upload.

use std::collections::BTreeMap;

use bytes::Bytes;
use ired_proto::inference::ModelConfig;

use crate::app::App;
use crate::error::{Error, shown};
use crate::model_config;
use crate::models::JSON_CONFIG;
use crate::repository::parse_version;

/// Bytes given to the store at a time.
const CHUNK_BYTES: usize = 1 << 20;

/// What came with a load request.
#[derive(Debug, Default)]
pub struct Inline {
    /// By version, then by path within it.
    files: BTreeMap<u64, BTreeMap<String, Bytes>>,
    config: Option<String>,
}

impl Inline {
    /// Adds parameter `file:VERSION/PATH`.
    pub fn file(&mut self, parameter: &str, content: Bytes) -> Result<(), Error> {
        let place = parameter.strip_prefix("file:").and_then(|place| place.split_once('/'));
        let place = place.and_then(|(version, path)| Some((parse_version(version)?, path)));
        let Some((version, path)) = place else {
            return Err(Error::invalid(format!(
                "load parameter `{}` is not supported; files are `file:VERSION/PATH`",
                shown(parameter)
            )));
        };
        self.files.entry(version).or_default().insert(path.to_owned(), content);
        Ok(())
    }

    /// Adds parameter `config`: how the model is to be run. Clients must send one with files; an empty one says nothing.
    pub fn config(&mut self, config: String) {
        self.config = Some(config);
    }

    /// Stores the files as versions of the model, loads it, and lets it be what the configuration says.
    ///
    /// # Errors
    /// [`Error::Load`] with the reason.
    pub async fn load(self, app: &App, name: &str) -> Result<(), Error> {
        self.try_load(app, name)
            .await
            .map_err(|cause| Error::Load { model: name.chars().take(200).collect(), cause: Box::new(cause) })
    }

    async fn try_load(self, app: &App, name: &str) -> Result<(), Error> {
        let config = self.config.as_deref().map(model_config::from_json).transpose();
        let config = config.map_err(|error| self.unless_unknown(app, name, error))?;
        let config = config.filter(|config| *config != ModelConfig::default());
        // With files it is kept beside them, without it is this daemon's only.
        let own = config.clone().filter(|_| self.files.is_empty());
        app.registry.set_override(name, own)?;
        self.upload(app, name, config.is_some()).await?;
        let loaded = app.load(name).await;
        if loaded.is_err() {
            app.registry.set_override(name, None)?;
        }
        loaded
    }

    /// The error, or that there is no such model to load: then it does not matter what is wrong with the rest.
    pub fn unless_unknown(&self, app: &App, name: &str, error: Error) -> Error {
        match app.registry.source(name, 0) {
            Err(unknown) if self.files.is_empty() => unknown,
            _ => error,
        }
    }

    async fn upload(self, app: &App, name: &str, configured: bool) -> Result<(), Error> {
        let config = self.config.filter(|_| configured);
        for (version, mut files) in self.files {
            if let Some(config) = &config {
                files.insert(JSON_CONFIG.to_owned(), config.clone().into());
            }
            let mut receiving = app.uploads.receive(name, Some(version))?.replace();
            // The model itself first.
            let mut models = files.keys().filter(|path| *path != JSON_CONFIG);
            let main = match (models.next(), models.next()) {
                (only, None) => only,
                _ => files.keys().find(|path| path.starts_with("model.")),
            };
            let main = main.cloned().ok_or_else(|| {
                Error::invalid(format!("none of the files of version {version} is named `model.…`"))
            })?;
            let others = files.iter().filter(|(path, _)| **path != main);
            for (path, content) in files.get_key_value(&main).into_iter().chain(others) {
                receiving.file(path, content.len() as u64).await?;
                for start in (0..content.len()).step_by(CHUNK_BYTES) {
                    receiving.chunk(content.slice(start..content.len().min(start + CHUNK_BYTES))).await?;
                }
            }
            app.registry.add(receiving).await?;
        }
        Ok(())
    }
}
