//! One model version that answers, and the bound on how many requests are inside it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ired_module::signature::{EntryPoint, TensorSpec};
use ired_proto::inference::ModelConfig;
use ired_worker::RuntimeFailure;

use super::apart::Apart;
use super::bound::{Bound, Inside};
use super::class_names::ClassNames;
use super::resident::{Resident, Using};
use crate::cache::CompiledModule;
use crate::config::{RequireSandbox, Settings};
use crate::digest::Digest;
use crate::engine::Runner;
use crate::error::Error;
use crate::infer::join;
use crate::ledger::Reservation;
use crate::model_config::{self, Scheduling};
use crate::models::ModelSource;
use crate::peaks::{Peaks, Sizes};
use crate::profiling::Profiling;
use crate::schedule::{Lane, Refusal, Scheduler, Sequences};
use crate::stats::ModelStats;
use crate::tenants::Tenant;

/// A loaded model version.
pub struct Served {
    pub name: String,
    pub version: u64,
    /// Of the source that it was made from.
    pub model_digest: Digest,
    /// `None` for a module that came compiled.
    pub compiled: Option<CompiledModule>,
    pub runner: Arc<Resident>,
    /// Where tenants share no process.
    apart: Option<Apart>,
    pub stats: Arc<ModelStats>,
    pub profiling: Arc<Profiling>,
    /// Where its requests wait for their turn.
    pub lane: Lane,
    /// What its executions take.
    pub peaks: Arc<Peaks>,
    /// `None` where requests have nothing to do with each other.
    pub sequences: Option<Sequences>,
    /// As its owner wrote it.
    pub config: Option<Arc<ModelConfig>>,
    pub class_names: ClassNames,
    /// Rows of one request at most.
    pub max_rows: Option<u64>,
    entry: usize,
    bound: Arc<Bound>,
    retired: AtomicBool,
}

/// What is known of a version before it is loaded.
pub struct Known<'a> {
    pub source: &'a ModelSource,
    pub model_digest: Digest,
    pub stats: Arc<ModelStats>,
    pub config: Option<Arc<ModelConfig>>,
    pub class_names: ClassNames,
}

/// The answer to a request that wants in.
pub enum Admission {
    /// Inside while this is held.
    Admitted(Inside),
    /// The version was replaced; who asks the registry again finds its successor.
    Retired,
}

impl Served {
    /// # Errors
    /// [`RuntimeFailure::Load`] for a module without entry points, [`Error::Invalid`] for a configuration that does
    /// not fit the module.
    pub fn new(
        known: Known<'_>,
        compiled: Option<CompiledModule>,
        runner: Arc<Resident>,
        scheduler: &Scheduler,
        settings: &Settings,
    ) -> Result<Self, Error> {
        let Known { source, model_digest, stats, config, class_names } = known;
        let entries = &runner.module().signature.entries;
        if entries.is_empty() {
            return Err(RuntimeFailure::Load { message: "the module has no entry points".to_owned() }.into());
        }
        let entry = entries.iter().position(|entry| entry.name == "main").unwrap_or(0);
        let says_nothing = ModelConfig::default();
        let stated = config.as_deref().unwrap_or(&says_nothing);
        model_config::check_main_file(&source.name, stated, &source.main.name)?;
        let unasked_rows = join::unasked_rows(&entries[entry], settings.default_max_batch_size);
        let scheduling = model_config::scheduling(&source.name, stated, unasked_rows, &entries[entry])?;
        let Scheduling { mut policy, sequences, max_rows, pinned } = scheduling;
        if pinned {
            runner.pin();
        }
        let default_rate = Some(settings.requests_per_second).filter(|&rate| rate > 0.0);
        policy.per_second = policy.per_second.or(default_rate);
        let lane = Lane::new(scheduler, &source.name, policy);
        let is_strict = settings.require_sandbox == RequireSandbox::Strict;
        let apart = is_strict.then(|| Apart::new(&source.name, &runner));
        let sequences = sequences.map(|policy| Sequences::new(&source.name, policy, scheduler.ledger()));
        let peaks = Arc::new(Peaks::new(&entries[entry], is_strict));
        lane.know(peaks.clone());
        Ok(Self {
            name: source.name.clone(),
            version: source.version,
            model_digest,
            compiled,
            runner,
            apart,
            stats,
            profiling: Arc::default(),
            lane,
            peaks,
            sequences,
            config,
            class_names,
            max_rows,
            entry,
            bound: Bound::new(settings.queue_limit),
            retired: AtomicBool::new(false),
        })
    }

    /// The entry point that inference requests run: `main`, or the first.
    pub fn entry(&self) -> &EntryPoint {
        &self.runner.module().signature.entries[self.entry]
    }

    /// What a request gives.
    pub fn inputs(&self) -> impl Iterator<Item = &TensorSpec> + Clone {
        let gives =
            |spec: &&TensorSpec| self.sequences.as_ref().is_some_and(|sequences| sequences.gives(&spec.name));
        self.entry().inputs.iter().filter(move |spec| !gives(spec))
    }

    /// What a request gets.
    pub fn outputs(&self) -> impl Iterator<Item = &TensorSpec> {
        let keeps =
            |spec: &&TensorSpec| self.sequences.as_ref().is_some_and(|sequences| sequences.keeps(&spec.name));
        self.entry().outputs.iter().filter(move |spec| !keeps(spec))
    }

    /// Whether a request gets a response for each of its runs.
    pub fn is_decoupled(&self) -> bool {
        self.sequences.as_ref().is_some_and(|sequences| sequences.iterations().is_some())
    }

    /// Takes hold of what runs a tenant's requests.
    ///
    /// # Errors
    /// Those of [`Resident::hold`], and [`Error::Refused`] where no tenant can have one more process.
    pub async fn hold(&self, tenant: Option<&Tenant>, deadline: Instant) -> Result<Using, Error> {
        self.resident(tenant).await?.hold(deadline).await
    }

    /// Takes hold of what runs a tenant's requests, and of memory for one; see [`Resident::hold_with`].
    ///
    /// # Errors
    /// As [`Self::hold`].
    pub async fn hold_with(
        &self,
        tenant: Option<&Tenant>,
        bytes: u64,
        deadline: Instant,
    ) -> Result<(Using, Reservation), Error> {
        self.resident(tenant).await?.hold_with(bytes, deadline).await
    }

    async fn resident(&self, tenant: Option<&Tenant>) -> Result<Arc<Resident>, Error> {
        match self.apart.as_ref().zip(tenant) {
            Some((apart, tenant)) => apart.of(tenant, &self.lane).await,
            None => Ok(self.runner.clone()),
        }
    }

    /// What an execution of these sizes takes, in bytes; `runner` is asked where that is not known yet.
    ///
    /// # Errors
    /// Those that the execution would have: the model may refuse the sizes.
    pub async fn peak_bytes(
        &self,
        runner: &dyn Runner,
        tenant: Option<&Tenant>,
        sizes: Sizes,
        deadline: Instant,
    ) -> Result<u64, RuntimeFailure> {
        let ask = |dims| runner.peak(&self.entry().name, dims, Some(deadline));
        self.peaks.of(tenant, sizes, ask).await
    }

    /// What an execution counts as in statistics: its rows where the configuration says that requests have some, as Triton
    /// counts.
    pub fn inferences(&self, requests: usize, rows: u64) -> u64 {
        if self.max_rows.is_some() { rows } else { requests as u64 }
    }

    /// Whether requests of different tenants may run as one.
    pub fn joins_tenants(&self) -> bool {
        self.apart.is_none()
    }

    /// Everything that runs its requests.
    pub fn runners(&self) -> Vec<Arc<Resident>> {
        let apart = self.apart.iter().flat_map(Apart::all);
        std::iter::once(self.runner.clone()).chain(apart).collect()
    }

    /// Lets one more request in.
    ///
    /// # Errors
    /// At once, when there is no room.
    pub fn admit(&self, tenant: Option<&Tenant>) -> Result<Admission, Refusal> {
        match self.bound.enter(tenant) {
            Ok(inside) => Ok(Admission::Admitted(inside)),
            Err(_) if self.retired.load(Ordering::Acquire) => Ok(Admission::Retired),
            Err(why) => Err(Refusal::new(&self.name, why, self.lane.retry_after())),
        }
    }

    /// Lets the requests inside end, for so long at most, then ends the worker.
    pub async fn retire(&self, drain: Duration) {
        self.retired.store(true, Ordering::Release);
        let empty = tokio::time::timeout(drain, self.bound.wait_empty()).await;
        self.bound.close();
        if empty.is_err() {
            tracing::warn!(model = self.name, version = self.version, "requests did not end in time");
        }
        // First the one that all others are made of.
        self.runner.shutdown().await;
        for runner in self.runners() {
            runner.shutdown().await;
        }
    }
}
