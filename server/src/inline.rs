//! A load request that carries the model's files: the repository extension's way to upload.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::app::App;
use crate::error::Error;
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
            let shown: String = parameter.chars().take(80).collect();
            return Err(Error::invalid(format!(
                "load parameter `{}` is not supported; files are `file:VERSION/PATH`",
                shown.escape_debug()
            )));
        };
        self.files.entry(version).or_default().insert(path.to_owned(), content);
        Ok(())
    }

    /// Adds parameter `config`: accepted beside files, as clients must send one with them.
    pub fn config(&mut self, config: String) {
        self.config = Some(config);
    }

    /// Stores the files as versions of the model.
    pub async fn upload(self, app: &App, name: &str) -> Result<(), Error> {
        if let Some(config) = &self.config {
            let object = serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(config).map_err(
                |error| Error::invalid(format!("load parameter `config` is not a JSON object: {error}")),
            )?;
            if self.files.is_empty() && !object.is_empty() {
                return Err(Error::Unsupported(
                    "load parameter `config` changes nothing here: a model's configuration is what it was \
                     compiled to"
                        .to_owned(),
                ));
            }
        }
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
