//! The seam's real side: `ired-worker`'s compile and runtime processes.

use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context;
use futures::FutureExt;
use futures::future::BoxFuture;
use ired_worker::{
    CompileFailure, CompileJob, CompileLimits, CompileReport, CompileWorkers, Cores, InferenceResult,
    InputBuffer, LoadedModule, ModelFiles, RuntimeConfig, RuntimeFailure, RuntimeOptions, RuntimeWorker,
    SandboxLevel, SandboxReport, Tensor,
};

use tokio::runtime::Handle;
use tokio_util::task::AbortOnDropHandle;

use super::{Compiler, EventSink, Launcher, Runner};
use crate::config::{RequireSandbox, Settings};
use crate::store::Stamp;

/// How long a request waits for a process that is being started again. Longer than the first few pauses between
/// two starts, shorter than clients care about.
const OUTAGE: Duration = Duration::from_secs(1);
/// How often it looks.
const LOOK: Duration = Duration::from_millis(5);

fn sandbox_level(settings: &Settings) -> SandboxLevel {
    match settings.require_sandbox {
        RequireSandbox::None => SandboxLevel::Available,
        RequireSandbox::Baseline => SandboxLevel::Baseline,
        RequireSandbox::Strict => SandboxLevel::Strict,
    }
}

/// Compiles in a fresh process per job.
#[derive(Debug)]
pub struct WorkerCompiler {
    workers: CompileWorkers,
    /// The identity and what the executable looked like when it was read, so that it is read once.
    identity: Mutex<Option<(Stamp, String)>>,
}

impl WorkerCompiler {
    pub fn new(settings: &Settings) -> anyhow::Result<Self> {
        let mut workers = match &settings.compiler_worker {
            Some(path) => CompileWorkers::new(path),
            None => CompileWorkers::beside_current_exe().context("cannot find the compile worker")?,
        };
        workers.require_sandbox = sandbox_level(settings);
        workers.limits = CompileLimits {
            memory_bytes: settings.compile_memory(),
            wall: Duration::from_secs(settings.compile_wall_s),
            cpu: Duration::from_secs(settings.compile_cpu_s),
            output_bytes: settings.module_bytes,
        };
        Ok(Self { workers, identity: Mutex::new(None) })
    }
}

impl Compiler for WorkerCompiler {
    fn identity(&self) -> std::io::Result<String> {
        let stamp = Stamp::from(&std::fs::metadata(&self.workers.executable)?);
        let mut known = self.identity.lock().unwrap_or_else(PoisonError::into_inner);
        match &*known {
            Some((known_stamp, identity)) if *known_stamp == stamp => Ok(identity.clone()),
            _ => {
                let identity = self.workers.compiler_identity()?;
                *known = Some((stamp, identity.clone()));
                Ok(identity)
            }
        }
    }

    fn compile(
        &self,
        job: CompileJob,
        model: OwnedFd,
        files: Arc<dyn ModelFiles>,
        output: OwnedFd,
        events: EventSink,
    ) -> BoxFuture<'_, Result<CompileReport, CompileFailure>> {
        self.workers.compile(job, model, files, output, events).boxed()
    }
}

/// Loads each module in a process of its own, which a runtime attends to that does nothing else: however much the doors
/// have to do, and be it to refuse, a process that is done has its next request at once.
#[derive(Debug)]
pub struct WorkerLauncher {
    runtime: Handle,
    config: RuntimeConfig,
    options: RuntimeOptions,
}

impl WorkerLauncher {
    /// `runtime` attends to the processes.
    pub fn new(settings: &Settings, runtime: Handle) -> anyhow::Result<Self> {
        let mut config = match &settings.runtime_worker {
            Some(path) => RuntimeConfig::new(path),
            None => RuntimeConfig::beside_current_exe().context("cannot find the runtime worker")?,
        };
        config.require_sandbox = sandbox_level(settings);
        config.cancel_grace = Duration::from_millis(settings.cancel_grace_ms);
        // The registry's own bound comes first.
        config.queue_limit = settings.queue_limit.saturating_add(1);
        let options = RuntimeOptions {
            cores: None,
            threads: settings.threads,
            pin: settings.pin_threads,
            // What the ledger can never give is not taken either.
            memory_bytes: Some(settings.memory_bytes),
        };
        Ok(Self { runtime, config, options })
    }
}

fn unavailable(error: &tokio::task::JoinError) -> RuntimeFailure {
    RuntimeFailure::Unavailable { reason: format!("its start was broken off: {error}") }
}

impl Launcher for WorkerLauncher {
    fn launch(
        &self,
        module: OwnedFd,
        cores: Option<Cores>,
    ) -> BoxFuture<'_, Result<Arc<dyn Runner>, RuntimeFailure>> {
        async move {
            let options = RuntimeOptions { cores, ..self.options.clone() };
            let start = RuntimeWorker::start(self.config.clone(), module, options);
            let started = AbortOnDropHandle::new(self.runtime.spawn(start)).await;
            let worker = started.unwrap_or_else(|error| Err(unavailable(&error)))?;
            Ok(Arc::new(Attended { worker, runtime: self.runtime.clone() }) as Arc<dyn Runner>)
        }
        .boxed()
    }
}

/// A worker, and what attends to it.
struct Attended {
    worker: RuntimeWorker,
    runtime: Handle,
}

impl Attended {
    /// The worker, once it has a process. Before it is sent a request cannot be what kills processes, so waiting for the
    /// next one harms nobody.
    async fn with_process(&self, deadline: Option<Instant>) -> &RuntimeWorker {
        let patience = Instant::now() + OUTAGE;
        let patience = deadline.map_or(patience, |deadline| deadline.min(patience));
        while self.worker.pid().is_none() && Instant::now() < patience {
            tokio::time::sleep(LOOK).await;
        }
        &self.worker
    }
}

impl Runner for Attended {
    fn module(&self) -> &LoadedModule {
        self.worker.module()
    }

    fn infer<'a>(
        &'a self,
        entry: &'a str,
        inputs: Vec<Tensor>,
        deadline: Option<Instant>,
        profile: bool,
    ) -> BoxFuture<'a, Result<InferenceResult, RuntimeFailure>> {
        async move {
            let worker = self.with_process(deadline).await;
            match profile {
                false => worker.infer(entry, inputs, deadline).await,
                true => worker.profile(entry, inputs, deadline).await,
            }
        }
        .boxed()
    }

    fn runtime(&self) -> Handle {
        self.runtime.clone()
    }

    fn peak<'a>(
        &'a self,
        entry: &'a str,
        dims: Vec<Vec<u64>>,
        deadline: Option<Instant>,
    ) -> BoxFuture<'a, Result<u64, RuntimeFailure>> {
        async move { self.with_process(deadline).await.peak(entry, dims, deadline).await }.boxed()
    }

    // Where there is none, who sends the request says why.
    fn input_buffer(&self, bytes: usize) -> Option<InputBuffer> {
        self.worker.input_buffer(bytes).ok()
    }

    fn pid(&self) -> Option<u32> {
        self.worker.pid()
    }

    fn restarts(&self) -> u64 {
        self.worker.restarts()
    }

    fn sandbox(&self) -> SandboxReport {
        self.worker.sandbox()
    }

    fn shutdown(&self) -> BoxFuture<'_, ()> {
        self.worker.clone().shutdown().boxed()
    }
}
