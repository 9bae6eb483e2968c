//! Names for versions that requests may use in place of the number: `stable`, `canary`.
//!
//! Callers set them, and these are kept on disk; or a model's configuration does, and then callers cannot.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};

use ired_proto::inference::ModelConfig;
use serde::{Deserialize, Serialize};

use super::Registry;
use crate::error::{Error, shown};
use crate::store::{self, StoreError, blocking};

/// Parameters of a configuration that set labels begin with this.
const PARAMETER: &str = "ired.label.";
/// The longest label.
const LABEL_BYTES: usize = 64;
/// Labels of one model.
const LABELS: usize = 64;

/// Versions by their labels.
pub(super) type Labelled = BTreeMap<String, u64>;

/// All labels, by model.
pub struct Labels {
    dir: PathBuf,
    known: RwLock<Known>,
}

#[derive(Default)]
struct Known {
    /// What callers set; as it is on disk.
    set: BTreeMap<String, Labelled>,
    /// What configurations set, of versions that were ready then.
    configured: BTreeMap<String, Labelled>,
}

/// What callers set for one model; the file.
#[derive(Serialize, Deserialize)]
struct Record {
    name: String,
    labels: Labelled,
}

impl Labels {
    /// Reads what is kept in `dir`. Blocks.
    pub fn open(dir: PathBuf) -> Result<Self, StoreError> {
        let mut set = BTreeMap::new();
        for (path, record) in store::read_records::<Record>(&dir)? {
            if path == record_path(&dir, &record.name) {
                set.insert(record.name, record.labels);
            } else {
                tracing::warn!(path = %path.display(), "record has another name than its content; ignored");
            }
        }
        Ok(Self { dir, known: RwLock::new(Known { set, ..Known::default() }) })
    }

    /// The version that has a label.
    pub(super) fn find(&self, model: &str, label: &str) -> Option<u64> {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let find = |labels: &BTreeMap<String, Labelled>| labels.get(model)?.get(label).copied();
        find(&known.configured).or_else(|| find(&known.set))
    }

    /// Every label of a model.
    pub(super) fn of(&self, model: &str) -> Labelled {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let mut labels = known.set.get(model).cloned().unwrap_or_default();
        labels.extend(known.configured.get(model).cloned().unwrap_or_default());
        labels
    }

    fn set_by_callers(&self, model: &str) -> Labelled {
        self.known.read().unwrap_or_else(PoisonError::into_inner).set.get(model).cloned().unwrap_or_default()
    }

    fn is_configured(&self, model: &str, label: &str) -> bool {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        known.configured.get(model).is_some_and(|labels| labels.contains_key(label))
    }

    /// Keeps what callers set for a model; durable when this returns. One call at a time for each model.
    async fn keep(&self, model: &str, labels: Labelled) -> Result<(), StoreError> {
        let path = record_path(&self.dir, model);
        let record = Record { name: model.to_owned(), labels: labels.clone() };
        blocking(move || {
            if record.labels.is_empty() { store::remove(&path) } else { store::write_record(&path, &record) }
        })
        .await?;
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        match labels.is_empty() {
            true => known.set.remove(model),
            false => known.set.insert(model.to_owned(), labels),
        };
        Ok(())
    }

    /// Takes over what a configuration says of a model's labels: those of `ready` versions move, others stay where they
    /// were.
    ///
    /// # Errors
    /// The first label that could not move.
    pub(super) fn configure(
        &self,
        model: &str,
        wanted: &Labelled,
        ready: &BTreeSet<u64>,
    ) -> Result<(), Error> {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        let before = known.configured.remove(model).unwrap_or_default();
        let mut labels = Labelled::new();
        let mut failure = None;
        for (label, &version) in wanted {
            let stays = before.get(label).copied().filter(|before| ready.contains(before));
            if ready.contains(&version) {
                labels.insert(label.clone(), version);
                continue;
            }
            labels.extend(stays.map(|version| (label.clone(), version)));
            failure.get_or_insert_with(|| not_ready(model, label, version, "its configuration says so, but"));
        }
        if !labels.is_empty() {
            known.configured.insert(model.to_owned(), labels);
        }
        failure.map_or(Ok(()), Err)
    }
}

/// What a configuration says of labels.
///
/// # Errors
/// What is no label, and what is no version.
pub(crate) fn configured(config: &ModelConfig) -> Result<Labelled, String> {
    let mut labels = Labelled::new();
    for (name, parameter) in &config.parameters {
        let Some(label) = name.strip_prefix(PARAMETER) else { continue };
        let text = &parameter.string_value;
        let version = crate::repository::parse_version(text);
        let version = version.ok_or_else(|| format!("`{name}` is `{}`, not a version", shown(text)))?;
        check_label(label).map_err(|error| error.to_string())?;
        labels.insert(label.to_owned(), version);
    }
    match labels.len() {
        0..=LABELS => Ok(labels),
        found => Err(format!("it has {found} labels; at most {LABELS} are accepted")),
    }
}

impl Registry {
    /// Gives a ready version a label, or moves the label to it. Gives the version that had it.
    ///
    /// # Errors
    /// [`Error::Label`] for a version that is not ready, and for a label that the model's configuration sets.
    pub async fn set_label(&self, name: &str, label: &str, version: u64) -> Result<Option<u64>, Error> {
        check_label(label)?;
        let _one_at_a_time = self.change(name).lock_owned().await;
        self.source(name, version)?;
        let serving = self.served_versions(name);
        if version == 0 || !serving.contains(&version) {
            return Err(not_ready(name, label, version, "it cannot have it, as"));
        }
        self.check_own(name, label)?;
        let mut labels = self.labels.set_by_callers(name);
        let previous = labels.insert(label.to_owned(), version);
        if labels.len() > LABELS {
            return Err(Error::Busy { what: "labels of one model", limit: LABELS as u64 });
        }
        self.labels.keep(name, labels).await?;
        tracing::info!(model = name, label, version, previous, "labelled");
        self.settle(name, &serving).await?;
        Ok(previous)
    }

    /// Takes a label away. Gives the version that had it.
    ///
    /// # Errors
    /// [`Error::UnknownVersion`] for a label that there is not, [`Error::Label`] for one of the configuration.
    pub async fn delete_label(&self, name: &str, label: &str) -> Result<u64, Error> {
        let _one_at_a_time = self.change(name).lock_owned().await;
        self.source(name, 0)?;
        self.check_own(name, label)?;
        let mut labels = self.labels.set_by_callers(name);
        let Some(previous) = labels.remove(label) else { return Err(self.unknown_version(name, label)) };
        self.labels.keep(name, labels).await?;
        tracing::info!(model = name, label, version = previous, "label removed");
        self.settle(name, &self.served_versions(name)).await?;
        Ok(previous)
    }

    fn check_own(&self, name: &str, label: &str) -> Result<(), Error> {
        if self.labels.is_configured(name, label) {
            let label = shown(label);
            return Err(Error::Label(format!("label `{label}` of `{name}` is set by its configuration")));
        }
        Ok(())
    }

    /// Takes the labels of versions that are to go; refuses where one goes that has a label and others stay.
    pub(super) async fn release_labels(&self, name: &str, going: &[u64], all: bool) -> Result<(), Error> {
        let labelled = self.labels.of(name);
        let of_going = labelled.iter().find(|(_, version)| going.contains(version));
        match of_going {
            Some((label, version)) if !all => Err(Error::Label(format!(
                "version {version} of `{name}` has the label `{label}`; move or remove the label first"
            ))),
            Some(_) => {
                let mut labels = self.labels.set_by_callers(name);
                labels.retain(|_, version| !going.contains(version));
                Ok(self.labels.keep(name, labels).await?)
            }
            None => Ok(()),
        }
    }
}

fn not_ready(model: &str, label: &str, version: u64, why: &str) -> Error {
    let label = shown(label);
    Error::Label(format!(
        "label `{label}` of `{model}` stays where it is: {why} version {version} is not ready"
    ))
}

/// Checks a label: it begins with a letter, so that no version looks like one.
fn check_label(label: &str) -> Result<(), Error> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let begins = label.starts_with(|c: char| c.is_ascii_alphabetic());
    if !begins || label.len() > LABEL_BYTES || !label.chars().all(plain) {
        return Err(Error::invalid(format!(
            "`{}` is not a label: first a letter, then letters, digits, `-`, `_` and `.`, at most {LABEL_BYTES}",
            shown(label)
        )));
    }
    Ok(())
}

fn record_path(dir: &Path, model: &str) -> PathBuf {
    dir.join(format!("{model}.json"))
}
