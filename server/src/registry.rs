//! Which models there are and which of them answer: loading, replacing, unloading.
//!
//! A version is replaced only once its successor can answer, and a replaced one ends only after the requests
//! inside it have.

mod apart;
mod bound;
mod changes;
mod choice;
mod class_names;
mod configured;
pub(crate) mod labels;
mod poll;
mod resident;
mod served;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use ired_proto::inference::ModelConfig;
use ired_worker::CompileOptions;
use tokio::sync::watch;

pub use bound::Inside;
pub use class_names::ClassNames;
pub use labels::Labels;
pub use resident::{Resident, Residents, Using};
pub(crate) use resident::{Room, Shortage};
pub use served::{Admission, Served};

use crate::cache::ModuleCache;
use crate::config::Settings;
use crate::error::Error;
use crate::models::ModelSource;
use crate::repository::{Repository, parse_version};
use crate::schedule::Scheduler;
use crate::stats::ModelStats;
use crate::store::{StoreError, blocking};
use crate::uploads::Uploads;

/// How far a version is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    Loading,
    Ready,
    Unloading,
    /// The reason it does not answer.
    Unavailable(String),
}

struct Slot {
    source: ModelSource,
    state: State,
    /// What answers, also while its successor is loading.
    serving: Option<Arc<Served>>,
    stats: Arc<ModelStats>,
    /// Its files are no longer there; it is only listed while it still answers.
    gone: bool,
}

/// One version as it is now.
pub struct VersionView {
    pub name: String,
    pub version: u64,
    pub source: ModelSource,
    pub state: State,
    pub serving: Option<Arc<Served>>,
    pub stats: Arc<ModelStats>,
    pub labels: Vec<String>,
}

impl VersionView {
    pub fn version_text(&self) -> String {
        self.version.to_string()
    }
}

type Models = BTreeMap<String, BTreeMap<u64, Slot>>;

/// All models of the daemon.
pub struct Registry {
    pub(crate) settings: Arc<Settings>,
    repository: Option<Repository>,
    uploads: Arc<Uploads>,
    cache: Arc<ModuleCache>,
    /// What is loaded.
    pub residents: Arc<Residents>,
    scheduler: Scheduler,
    /// Configurations of load requests, by model; until a load without one, or the daemon's end.
    overrides: Mutex<HashMap<String, Arc<ModelConfig>>>,
    labels: Labels,
    models: RwLock<Models>,
    /// Models that were to answer from the start, and of which nothing has yet.
    missing: watch::Sender<BTreeSet<String>>,
    /// Those whose load from the start goes on.
    starting: watch::Sender<BTreeSet<String>>,
    /// One load, unload or removal at a time for each model.
    changes: Mutex<HashMap<String, Arc<tokio::sync::Mutex<()>>>>,
}

impl Registry {
    pub fn new(
        settings: Arc<Settings>,
        uploads: Arc<Uploads>,
        cache: Arc<ModuleCache>,
        labels: Labels,
        residents: Arc<Residents>,
    ) -> Self {
        let repository = settings
            .model_repository
            .clone()
            .map(|dir| Repository { dir, model_files: settings.model_files });
        let ledger = residents.ledger().clone();
        let scheduler = Scheduler::new(settings.executions(), settings.parallel(), ledger);
        Self {
            settings,
            scheduler,
            repository,
            uploads,
            cache,
            residents,
            overrides: Mutex::default(),
            labels,
            models: RwLock::default(),
            missing: watch::Sender::default(),
            starting: watch::Sender::default(),
            changes: Mutex::default(),
        }
    }

    /// Finds every model, and gives the names of those that are to be served from the start.
    ///
    /// # Errors
    /// A model repository that cannot be read.
    pub async fn discover(&self) -> Result<BTreeSet<String>, StoreError> {
        let (repository, uploads) = (self.repository.clone(), self.uploads.clone());
        let (found, uploaded) = blocking(move || {
            let found = match &repository {
                None => Vec::new(),
                Some(repository) => {
                    let unreadable = |cause| StoreError::Repository { path: repository.dir.clone(), cause };
                    repository.scan().map_err(unreadable)?
                }
            };
            Ok((found, uploads.sources()))
        })
        .await?;
        let mut names: BTreeSet<String> = found.iter().map(|source| source.name.clone()).collect();
        names.extend(uploaded.iter().filter(|(_, loaded)| *loaded).map(|(source, _)| source.name.clone()));
        let mut models = self.models.write().unwrap_or_else(PoisonError::into_inner);
        // The repository last: it wins where both have a version.
        for source in uploaded.into_iter().map(|(source, _)| source).chain(found) {
            note(&mut models, source);
        }
        self.missing.send_replace(names.clone());
        self.starting.send_replace(names.clone());
        Ok(names)
    }

    /// Loads these models; returns when each is ready or listed with the reason why it is not.
    pub async fn load_all(self: &Arc<Self>, names: BTreeSet<String>) {
        let loads = names.into_iter().map(|name| async move {
            if let Err(error) = self.load_again(&name).await {
                tracing::error!(model = name, %error, "the newest version is not served");
            }
            self.starting.send_if_modified(|starting| starting.remove(&name));
        });
        futures::future::join_all(loads).await;
    }

    /// Whether a model's load from the start goes on.
    pub fn is_starting(&self, name: &str) -> bool {
        self.starting.borrow().contains(name)
    }

    /// Waits until it has ended, well or not.
    pub async fn started(&self, name: &str) {
        // Fails only without a registry.
        let _ = self.starting.subscribe().wait_for(|starting| !starting.contains(name)).await;
    }

    /// The models that were to answer from the start, and of which nothing has yet.
    pub fn missing(&self) -> BTreeSet<String> {
        self.missing.borrow().clone()
    }

    /// Waits until none is missing.
    pub async fn complete(&self) {
        // Fails only without a registry.
        let _ = self.missing.subscribe().wait_for(BTreeSet::is_empty).await;
    }

    /// Something of a model answers, or nobody wants it any more.
    fn not_missing(&self, name: &str) {
        self.missing.send_if_modified(|missing| missing.remove(name));
    }

    /// What answers for a model: the version of that number or label, or the newest that can.
    pub fn find(&self, name: &str, version: &str) -> Result<Arc<Served>, Error> {
        let models = self.models.read().unwrap_or_else(PoisonError::into_inner);
        let versions = models.get(name).ok_or_else(|| Error::UnknownModel { model: name.to_owned() })?;
        if version.is_empty() {
            if let Some(served) = versions.values().rev().find_map(|slot| slot.serving.clone()) {
                return Ok(served);
            }
            let newest = versions.iter().next_back();
            let (version, slot) = newest.ok_or_else(|| Error::UnknownModel { model: name.to_owned() })?;
            return Err(not_ready(name, *version, &slot.state));
        }
        let number = parse_version(version).or_else(|| self.labels.find(name, version));
        let found = number.and_then(|number| Some((number, versions.get(&number)?)));
        let Some((number, slot)) = found else {
            return Err(self.unknown(name, version, versions));
        };
        slot.serving.clone().ok_or_else(|| not_ready(name, number, &slot.state))
    }

    /// The source of a version, loaded or not; `0` is the newest.
    pub fn source(&self, name: &str, version: u64) -> Result<ModelSource, Error> {
        let models = self.models.read().unwrap_or_else(PoisonError::into_inner);
        let versions = models.get(name).ok_or_else(|| Error::UnknownModel { model: name.to_owned() })?;
        let slot = if version == 0 { versions.values().next_back() } else { versions.get(&version) };
        slot.map(|slot| slot.source.clone()).ok_or_else(|| self.unknown(name, &version.to_string(), versions))
    }

    fn unknown_version(&self, name: &str, version: impl ToString) -> Error {
        let models = self.models.read().unwrap_or_else(PoisonError::into_inner);
        let none = BTreeMap::new();
        self.unknown(name, &version.to_string(), models.get(name).unwrap_or(&none))
    }

    fn unknown(&self, name: &str, version: &str, versions: &BTreeMap<u64, Slot>) -> Error {
        let numbers = versions.keys().map(u64::to_string);
        let known: Vec<String> = numbers.chain(self.labels.of(name).into_keys()).collect();
        Error::UnknownVersion {
            model: name.to_owned(),
            version: version.chars().take(64).collect(),
            known: known.join(", "),
        }
    }

    /// Every version of every model, by name and version.
    pub fn versions(&self) -> Vec<VersionView> {
        let models = self.models.read().unwrap_or_else(PoisonError::into_inner);
        let of_model = |(name, versions): (&String, &BTreeMap<u64, Slot>)| {
            let labels = self.labels.of(name);
            let view = |(&version, slot): (&u64, &Slot)| VersionView {
                name: name.clone(),
                version,
                source: slot.source.clone(),
                state: slot.state.clone(),
                serving: slot.serving.clone(),
                stats: slot.stats.clone(),
                labels: labels.iter().filter(|(_, of)| **of == version).map(|(l, _)| l.clone()).collect(),
            };
            versions.iter().map(view).collect::<Vec<_>>()
        };
        models.iter().flat_map(of_model).collect()
    }

    fn update(&self, name: &str, version: u64, change: impl FnOnce(&mut Slot)) {
        let mut models = self.models.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(slot) = models.get_mut(name).and_then(|versions| versions.get_mut(&version)) {
            change(slot);
        }
    }

    fn change(&self, name: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut changes = self.changes.lock().unwrap_or_else(PoisonError::into_inner);
        // Those that nobody holds: names come from strangers.
        changes.retain(|_, change| Arc::strong_count(change) > 1);
        changes.entry(name.to_owned()).or_default().clone()
    }
}

/// How models are compiled when they are loaded, and when a client does not say how.
pub fn default_options(settings: &Settings) -> CompileOptions {
    CompileOptions { threads: settings.compile_threads, ..CompileOptions::default() }
}

fn not_ready(model: &str, version: u64, state: &State) -> Error {
    let reason = match state {
        State::Loading => "it is loading".to_owned(),
        State::Unloading => "it is unloading".to_owned(),
        State::Ready => "it is being replaced".to_owned(),
        State::Unavailable(reason) => reason.clone(),
    };
    Error::NotReady { model: model.to_owned(), version, reason }
}

/// Lists a version, or notes that its files are others now.
fn note(models: &mut Models, source: ModelSource) {
    let versions = models.entry(source.name.clone()).or_default();
    match versions.get_mut(&source.version) {
        // Keeps the digest that is known already.
        Some(slot) if slot.source == source => {}
        Some(slot) => slot.source = source,
        None => {
            let slot = Slot {
                state: State::Unavailable("not loaded".to_owned()),
                serving: None,
                stats: Arc::default(),
                gone: false,
                source: source.clone(),
            };
            versions.insert(source.version, slot);
        }
    }
}
