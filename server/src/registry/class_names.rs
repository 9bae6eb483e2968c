//! What the classes of outputs are called: the lines of the files that a configuration names as `label_filename`.

use std::collections::BTreeMap;

use ired_proto::inference::ModelConfig;

use super::Registry;
use crate::error::{Error, shown};
use crate::models::{ModelSource, Origin, SourceFile, check_path};
use crate::store::{StoreError, blocking};

/// Bytes of all such files of a version, at most.
const FILES_BYTES: u64 = 4 << 20;
/// Lines of all of them, at most: each costs more than its bytes.
const NAMES: usize = 1 << 20;
/// Bytes of one name: answers repeat it for each row.
const NAME_BYTES: usize = 512;

/// The names of each output's classes, by index.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct ClassNames(BTreeMap<String, Vec<String>>);

impl ClassNames {
    /// Those of an output; none where no file names them.
    pub fn of(&self, output: &str) -> &[String] {
        self.0.get(output).map_or(&[], Vec::as_slice)
    }
}

impl Registry {
    /// Reads what a version's configuration says of its classes.
    ///
    /// # Errors
    /// A file that is not there, not text, or too large.
    pub(super) async fn class_names(
        &self,
        source: &ModelSource,
        config: Option<&ModelConfig>,
    ) -> Result<ClassNames, Error> {
        let mut names = ClassNames::default();
        let (mut left, mut names_left) = (FILES_BYTES, NAMES);
        let outputs = config.into_iter().flat_map(|config| &config.output);
        for output in outputs.filter(|output| !output.label_filename.is_empty()) {
            let wrong = |what: String| {
                let file = shown(&output.label_filename);
                Error::invalid(format!(
                    "the configuration of `{}`: `label_filename` `{file}` {what}",
                    source.name
                ))
            };
            let path = check_path(&output.label_filename)
                .map_err(|_| wrong("does not stay in the model's folder".to_owned()))?;
            let file = self.file_of(source, path).await?;
            let file = file.ok_or_else(|| wrong("is no file of the model's folder".to_owned()))?;
            let content = file.read(left).await?;
            left -= content.len() as u64;
            let text = String::from_utf8(content).map_err(|_| wrong("is not UTF-8".to_owned()))?;
            let found = text.lines().count();
            names_left = names_left.checked_sub(found).ok_or_else(|| {
                wrong(format!("has {found} lines; at most {NAMES} are accepted for all outputs"))
            })?;
            if let Some((at, line)) = text.lines().enumerate().find(|(_, line)| line.len() > NAME_BYTES) {
                let (number, found) = (at + 1, line.len());
                return Err(wrong(format!(
                    "has {found} bytes in line {number}; at most {NAME_BYTES} are accepted"
                )));
            }
            names.0.insert(output.name.clone(), text.lines().map(str::to_owned).collect());
        }
        Ok(names)
    }

    /// A file beside a version's model, or one that all versions of the model share.
    async fn file_of(&self, source: &ModelSource, name: String) -> Result<Option<SourceFile>, Error> {
        let own = source.others.iter().find(|file| file.name == name);
        let repository = self.repository.clone().filter(|_| source.origin == Origin::Repository);
        let (Some(repository), None) = (repository, own) else { return Ok(own.cloned()) };
        let model = source.name.clone();
        let find = move || {
            let cannot_read = StoreError::io("look for a file of a model", &repository.dir);
            repository.shared_file(&model, &name).map_err(cannot_read)
        };
        Ok(blocking(find).await?)
    }
}
