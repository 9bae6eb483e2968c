//! What changes a model: load, unload, add, delete. One change at a time for each model.

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError};

use ired_proto::inference::ModelConfig;
use ired_worker::{RuntimeFailure, TargetRequest};

use super::choice::Choice;
use super::served::Known;
use super::{Registry, Resident, Served, Slot, State, default_options, labels, note};
use crate::cache::{CompileRequest, CompiledModule};
use crate::engine::InstanceGroup;
use crate::error::Error;
use crate::model_config;
use crate::models::{ModelSource, Origin};
use crate::store::{StoreError, blocking};
use crate::uploads::{Committed, Receiving};

/// Which versions a load may choose from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Candidates {
    All,
    /// Of uploads those that were loaded when the daemon was stopped.
    LoadedBefore,
}

impl Registry {
    /// Loads a model or brings it up to date with its files; returns when its newest version answers. Where that
    /// fails an older version answers, if one can.
    ///
    /// # Errors
    /// Why the newest version does not answer.
    pub async fn load(self: &Arc<Self>, name: &str) -> Result<(), Error> {
        self.load_some(name, Candidates::All).await
    }

    /// Loads a model as it was before the daemon was stopped.
    pub(super) async fn load_again(self: &Arc<Self>, name: &str) -> Result<(), Error> {
        self.load_some(name, Candidates::LoadedBefore).await
    }

    async fn load_some(self: &Arc<Self>, name: &str, candidates: Candidates) -> Result<(), Error> {
        let _one_at_a_time = self.change(name).lock_owned().await;
        self.rescan(name).await?;
        let sources = self.candidates(name, candidates)?;
        let config = self.choosing(&sources).await;
        // What is wrong with them is told when the version with that configuration is loaded.
        let labels = config.as_deref().and_then(|config| labels::configured(config).ok()).unwrap_or_default();
        let labelled = self.labels.of(name).into_values().chain(labels.values().copied()).collect();
        let choice = Choice::new(config.as_deref(), &self.settings, labelled);
        let there: BTreeSet<u64> = sources.iter().map(|source| source.version).collect();
        let mut failure = None;
        let mut loaded = BTreeSet::new();
        for source in sources {
            if !choice.wants(source.version, &loaded) {
                continue;
            }
            match self.load_version(&source).await {
                Ok(()) => {
                    loaded.insert(source.version);
                }
                Err(error) => {
                    self.update(name, source.version, |slot| {
                        // What it was before goes on answering.
                        slot.state = match &slot.serving {
                            Some(_) => State::Ready,
                            None => State::Unavailable(error.to_string()),
                        };
                        if slot.serving.is_some() {
                            loaded.insert(source.version);
                        }
                    });
                    failure = failure.or(Some(error));
                }
            }
        }
        if candidates == Candidates::All {
            let missing = choice.missing(&there).first().map(|version| self.unknown_version(name, version));
            failure = failure.or(missing);
        }
        if !loaded.is_empty() {
            self.not_missing(name);
            failure = failure.or(self.labels.configure(name, &labels, &loaded).err());
            self.settle_by(name, config.as_deref(), &loaded).await?;
        }
        failure.map_or(Ok(()), Err)
    }

    /// Retires the versions that are not to answer, now that these can.
    pub(super) async fn settle(&self, name: &str, ready: &BTreeSet<u64>) -> Result<(), Error> {
        let newest = ready.last().and_then(|version| self.find(name, &version.to_string()).ok());
        let config = newest.and_then(|served| served.config.clone());
        self.settle_by(name, config.as_deref(), ready).await
    }

    async fn settle_by(
        &self,
        name: &str,
        config: Option<&ModelConfig>,
        ready: &BTreeSet<u64>,
    ) -> Result<(), Error> {
        let labelled = self.labels.of(name).into_values().collect();
        let chosen = Choice::new(config, &self.settings, labelled).of(ready);
        for version in self.served_versions(name).difference(&chosen) {
            self.retire(name, *version, "other versions are served").await;
        }
        Ok(self.uploads.set_loaded(name, &chosen).await?)
    }

    /// The versions that may be served, newest first.
    fn candidates(&self, name: &str, candidates: Candidates) -> Result<Vec<ModelSource>, Error> {
        let unknown = || Error::UnknownModel { model: name.to_owned() };
        let models = self.models.read().unwrap_or_else(PoisonError::into_inner);
        let versions = models.get(name).ok_or_else(unknown)?;
        let may = |slot: &Slot| match candidates {
            Candidates::All => !slot.gone,
            Candidates::LoadedBefore => {
                slot.source.origin == Origin::Repository || self.uploads.is_loaded(name, slot.source.version)
            }
        };
        let found: Vec<ModelSource> =
            versions.values().rev().filter(|slot| may(slot)).map(|slot| slot.source.clone()).collect();
        if found.is_empty() { Err(unknown()) } else { Ok(found) }
    }

    pub(super) fn served_versions(&self, name: &str) -> BTreeSet<u64> {
        let models = self.models.read().unwrap_or_else(PoisonError::into_inner);
        let slots = models.get(name).into_iter().flatten();
        slots.filter(|(_, slot)| slot.serving.is_some()).map(|(version, _)| *version).collect()
    }

    async fn load_version(&self, source: &ModelSource) -> Result<(), Error> {
        let mut stats = Arc::default();
        self.update(&source.name, source.version, |slot| {
            slot.state = State::Loading;
            stats = slot.stats.clone();
        });
        let cannot_read = StoreError::io("read a model", &source.main.path);
        let digest = source.digest().await.map_err(cannot_read)?;
        let config = self.configuration(source).await?;
        let class_names = self.class_names(source, config.as_deref()).await?;
        if let Ok(served) = self.find(&source.name, &source.version.to_string())
            && served.model_digest == digest
            && served.config == config
            && served.class_names == class_names
        {
            self.update(&source.name, source.version, |slot| slot.state = State::Ready);
            return Ok(());
        }
        let known = Known { source, model_digest: digest, stats, config, class_names };
        let served = Arc::new(self.launch(known).await?);
        if let Err(error) = self.try_out(source, &served).await {
            served.runner.shutdown().await;
            return Err(error);
        }
        tracing::info!(model = %source, target = served.runner.module().target.triple, "ready");
        let mut before = None;
        self.update(&source.name, source.version, |slot| {
            before = slot.serving.replace(served);
            slot.state = State::Ready;
        });
        if let Some(before) = before {
            before.retire(self.settings.drain()).await;
        }
        Ok(())
    }

    async fn launch(&self, known: Known<'_>) -> Result<Served, Error> {
        let source = known.source;
        let cannot_read = || StoreError::io("read a model", &source.main.path);
        let (scheduler, settings) = (&self.scheduler, &self.settings);
        let config = known.config.as_deref();
        let groups = model_config::instance_groups(&source.name, config, &settings.device_groups)?;
        let groups: Arc<[InstanceGroup]> = groups.into();
        if source.is_module() {
            if source.origin == Origin::Upload {
                // Again, as whom to trust may have changed since, and the file may have rotted.
                let (uploads, module) = (self.uploads.clone(), source.open_main().map_err(cannot_read())?);
                blocking(move || Ok(uploads.trust().check(module.into()))).await??;
            }
            let module = source.open_main().map_err(cannot_read())?;
            let runner = self.residents.load(&source.name, module, groups).await?;
            return Served::new(known, None, runner, scheduler, settings);
        }
        let compiled = self.compile(source).await?;
        match self.start_runner(source, &compiled, &groups).await {
            Err(Error::Runtime(RuntimeFailure::Load { message })) if compiled.cached => {
                // Written by this build for this machine, and yet not usable: make it again, once.
                tracing::warn!(model = %source, key = %compiled.key, message, "cached module does not load");
                self.cache.discard(&compiled.key).await;
                let compiled = self.compile(source).await?;
                let runner = self.start_runner(source, &compiled, &groups).await?;
                Served::new(known, Some(compiled), runner, scheduler, settings)
            }
            runner => Served::new(known, Some(compiled), runner?, scheduler, settings),
        }
    }

    async fn compile(&self, source: &ModelSource) -> Result<CompiledModule, Error> {
        let request = CompileRequest {
            source: source.clone(),
            target: TargetRequest::default(),
            options: default_options(&self.settings),
        };
        Ok(self.cache.request(request).await?.wait().await?)
    }

    async fn start_runner(
        &self,
        source: &ModelSource,
        module: &CompiledModule,
        groups: &Arc<[InstanceGroup]>,
    ) -> Result<Arc<Resident>, Error> {
        let file = module.file.try_clone().map_err(StoreError::io("share a module", "".as_ref()))?;
        self.residents.load(&source.name, file.into(), groups.clone()).await
    }

    /// Unloads every version of a model; the requests inside are answered first. It stays listed.
    pub async fn unload(&self, name: &str) -> Result<(), Error> {
        let _one_at_a_time = self.change(name).lock_owned().await;
        let versions: Vec<u64> = {
            let models = self.models.read().unwrap_or_else(PoisonError::into_inner);
            let versions = models.get(name).ok_or_else(|| Error::UnknownModel { model: name.to_owned() })?;
            versions.keys().copied().collect()
        };
        for version in versions {
            self.retire(name, version, "unloaded").await;
        }
        self.not_missing(name);
        self.uploads.set_loaded(name, &BTreeSet::new()).await?;
        Ok(())
    }

    /// Takes a version out of service and waits for the requests inside it.
    pub(super) async fn retire(&self, name: &str, version: u64, reason: &str) {
        let mut serving = None;
        self.update(name, version, |slot| {
            serving = slot.serving.take();
            slot.state = State::Unloading;
        });
        if let Some(served) = serving {
            served.retire(self.settings.drain()).await;
            tracing::info!(model = name, version, reason, "unloaded");
        }
        let mut models = self.models.write().unwrap_or_else(PoisonError::into_inner);
        let Some(versions) = models.get_mut(name) else { return };
        if let Some(slot) = versions.get_mut(&version) {
            slot.state = State::Unavailable(reason.to_owned());
        }
        versions.retain(|_, slot| slot.serving.is_some() || !slot.gone);
        if versions.is_empty() {
            models.remove(name);
        }
    }

    /// Makes a received upload known; it is not loaded by this.
    pub async fn add(&self, received: Receiving) -> Result<Committed, Error> {
        let name = received.name().to_owned();
        let _one_at_a_time = self.change(&name).lock_owned().await;
        self.rescan(&name).await?;
        let taken = {
            let models = self.models.read().unwrap_or_else(PoisonError::into_inner);
            let slots = models.get(&name).into_iter().flatten();
            slots.filter(|(_, slot)| slot.source.origin == Origin::Repository).map(|(v, _)| *v).collect()
        };
        let committed = self.uploads.commit(received, &taken).await?;
        tracing::info!(model = name, version = committed.version, digest = %committed.digest, "uploaded");
        self.rescan(&name).await?;
        Ok(committed)
    }

    /// Unloads and forgets uploaded versions: one, or all with `0`. Gives those that went.
    pub async fn delete(&self, name: &str, version: u64) -> Result<Vec<u64>, Error> {
        self.source(name, version)?;
        let _one_at_a_time = self.change(name).lock_owned().await;
        let uploads = self.uploads.clone();
        let of_model = name.to_owned();
        let mut gone: Vec<u64> = blocking(move || Ok(uploads.sources_of(&of_model)))
            .await?
            .iter()
            .map(|source| source.version)
            .collect();
        gone.retain(|v| version == 0 || *v == version);
        if gone.is_empty() {
            return Err(Error::NotAnUpload { model: name.to_owned() });
        }
        self.release_labels(name, &gone, version == 0).await?;
        for version in &gone {
            self.retire(name, *version, "deleted").await;
            self.uploads.remove(name, *version).await?;
        }
        self.rescan(name).await?;
        Ok(gone)
    }

    /// Ends every loaded model, all at once; requests inside have until the drain's end.
    pub async fn stop(&self) {
        let serving: Vec<Arc<Served>> = self.versions().into_iter().filter_map(|view| view.serving).collect();
        let drain = self.settings.drain();
        futures::future::join_all(serving.iter().map(|served| served.retire(drain))).await;
    }

    /// Brings what is known of a model in line with the repository and the uploads.
    pub(super) async fn rescan(&self, name: &str) -> Result<(), Error> {
        crate::models::check_name(name)?;
        let (repository, uploads, of_model) =
            (self.repository.clone(), self.uploads.clone(), name.to_owned());
        let found = blocking(move || {
            let mut found = uploads.sources_of(&of_model);
            if let Some(repository) = &repository {
                let scanned = repository.scan_model(&of_model);
                found.extend(
                    scanned
                        .map_err(|cause| StoreError::Repository { path: repository.dir.clone(), cause })?,
                );
            }
            Ok(found)
        })
        .await?;
        let mut models = self.models.write().unwrap_or_else(PoisonError::into_inner);
        let known: BTreeSet<u64> = found.iter().map(|source| source.version).collect();
        for source in found {
            note(&mut models, source);
        }
        if let Some(versions) = models.get_mut(name) {
            versions.iter_mut().for_each(|(version, slot)| slot.gone = !known.contains(version));
            versions.retain(|_, slot| slot.serving.is_some() || !slot.gone);
            if versions.is_empty() {
                models.remove(name);
                self.not_missing(name);
            }
        }
        Ok(())
    }
}
