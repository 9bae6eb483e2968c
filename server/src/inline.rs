//! A load request that carries the model's files: the repository extension's way to upload.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::Value;

use crate::app::App;
use crate::describe::{BACKEND, PLATFORM};
use crate::error::Error;
use crate::repository::parse_version;

/// Bytes given to the store at a time.
const CHUNK_BYTES: usize = 1 << 20;

/// What a configuration may say: the rest of it is what the model was compiled to.
#[derive(Debug, Default)]
struct Config {
    /// 0 is none.
    max_batch_size: u32,
}

impl Config {
    /// Clients must send a whole configuration along with files, so only without files is it an error to ask for
    /// what cannot be had.
    fn parse(model: &str, text: &str, strict: bool) -> Result<Self, Error> {
        let fields: serde_json::Map<String, Value> = serde_json::from_str(text).map_err(|error| {
            Error::invalid(format!("load parameter `config` is not a JSON object: {error}"))
        })?;
        let mut config = Self::default();
        for (name, value) in fields {
            match (name.as_str(), &value) {
                ("max_batch_size", value) => {
                    config.max_batch_size = whole(value).ok_or_else(|| {
                        Error::invalid(
                            "field `max_batch_size` of the configuration is not a whole number from 0 on",
                        )
                    })?;
                }
                ("name", Value::String(name)) if name == model => {}
                ("backend", Value::String(backend)) if backend == BACKEND => {}
                ("platform", Value::String(platform)) if platform == PLATFORM => {}
                (name, _) if strict => {
                    let shown: String = name.chars().take(80).collect();
                    return Err(Error::Unsupported(format!(
                        "field `{}` of the configuration changes nothing here: a model is what it was compiled to",
                        shown.escape_debug()
                    )));
                }
                _ => {}
            }
        }
        Ok(config)
    }
}

/// A number, also as a text: so JSON made of protocol buffers has large ones.
fn whole(value: &Value) -> Option<u32> {
    let number = value.as_u64().or_else(|| value.as_str()?.parse().ok())?;
    // What the protocol's own field holds.
    u32::try_from(number).ok().filter(|&number| i32::try_from(number).is_ok())
}

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
            let shown: String = parameter.chars().take(80).collect();
            return Err(Error::invalid(format!(
                "load parameter `{}` is not supported; files are `file:VERSION/PATH`",
                shown.escape_debug()
            )));
        };
        self.files.entry(version).or_default().insert(path.to_owned(), content);
        Ok(())
    }

    /// Adds parameter `config`: what the client wants the model to be.
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
        let config = self.config.as_deref().map(|text| Config::parse(name, text, self.files.is_empty()));
        let config = config.transpose().map_err(|error| self.unless_unknown(app, name, error))?;
        let config = config.unwrap_or_default();
        self.upload(app, name).await?;
        app.load(name).await?;
        app.batches.declare(name, app.registry.find(name, "")?.entry(), config.max_batch_size)
    }

    /// The error, or that there is no such model to load: then it does not matter what is wrong with the rest.
    pub fn unless_unknown(&self, app: &App, name: &str, error: Error) -> Error {
        match app.registry.source(name, 0) {
            Err(unknown) if self.files.is_empty() => unknown,
            _ => error,
        }
    }

    async fn upload(self, app: &App, name: &str) -> Result<(), Error> {
        for (version, files) in self.files {
            let mut receiving = app.uploads.receive(name, Some(version))?.replace();
            // The model itself first.
            let is_main = |path: &&String| path.starts_with("model.") || files.len() == 1;
            let main = files.keys().find(is_main).cloned().ok_or_else(|| {
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
