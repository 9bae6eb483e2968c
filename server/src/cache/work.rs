//! How a module comes about: found, fetched, waited for, or compiled.

use std::sync::Arc;
use std::time::Instant;

use ired_worker::{CompileEvent, CompileFailure, CompileJob, CompileReport, FailureKind};
use tokio::sync::{SemaphorePermit, broadcast};

use super::flight::FlightEvent;
use super::record::{Output, Record};
use super::shared::{Lease, Turn, Waited};
use super::{CompileRequest, CompiledModule, ModuleCache};
use crate::digest::Digest;
use crate::error::CompileError;
use crate::registry::{Room, Shortage};
use crate::store::blocking;

/// How often a job is started before a crash is its answer.
const ATTEMPTS: u32 = 2;

pub(super) struct Work {
    pub(super) cache: Arc<ModuleCache>,
    pub(super) key: Digest,
    pub(super) model: Digest,
    pub(super) identity: String,
    pub(super) request: CompileRequest,
    pub(super) events: broadcast::Sender<FlightEvent>,
}

/// Whose turn it is, once that is this replica's.
enum Ready<'a> {
    /// Another replica has made it meanwhile.
    Made(CompiledModule),
    Compile(Means<'a>, Option<Lease>),
}

/// What a compilation takes of this machine.
struct Means<'a> {
    _memory: Room,
    _slot: SemaphorePermit<'a>,
}

impl Work {
    pub(super) async fn run(&self) -> Result<CompiledModule, CompileError> {
        if let Some(module) = self.cache.find(&self.key).await {
            return Ok(module);
        }
        if let Some(module) = self.cache.fetch(&self.key).await {
            return Ok(module);
        }
        let metrics = &self.cache.metrics;
        let source = &self.request.source;
        self.cache.check_quarantine(&self.key, &self.model, &source.name)?;
        let (_means, lease) = match self.ready().await? {
            Ready::Made(module) => return Ok(module),
            Ready::Compile(means, lease) => (means, lease),
        };
        metrics.misses.add(1);
        let _running = metrics.running.enter();
        let started = Instant::now();
        tracing::info!(model = %source, target = %self.request.target.canonical(), "compiling");
        let result = self.compile().await;
        metrics.note_compile(started.elapsed(), result.as_ref().err().map(CompileError::kind));
        match result {
            Ok((module, record)) => {
                let seconds = started.elapsed().as_secs_f64();
                tracing::info!(model = %source, key = %self.key, bytes = module.bytes, seconds, "compiled");
                if let Some(shared) = &self.cache.shared {
                    shared.put(record, module.file.clone(), lease);
                }
                Ok(module)
            }
            Err(error) => {
                tracing::warn!(model = %source, %error, "compilation failed");
                Err(error)
            }
        }
    }

    /// Waits for what a compilation takes here, and then for another replica that compiles the same: without any of it,
    /// which others can use. So no replica waits for one that waits itself.
    async fn ready(&self) -> Result<Ready<'_>, CompileError> {
        let mut dead = None;
        loop {
            let means = self.means().await?;
            let Some(shared) = &self.cache.shared else { return Ok(Ready::Compile(means, None)) };
            let seen = match shared.turn(&self.key, dead.take()).await {
                Turn::Unknown => return Ok(Ready::Compile(means, None)),
                // What was made between the last look and the lease is there now.
                Turn::Ours(lease) => {
                    return Ok(match self.cache.fetch(&self.key).await {
                        Some(module) => Ready::Made(module),
                        None => Ready::Compile(means, Some(lease)),
                    });
                }
                Turn::Others(seen) => seen,
            };
            drop(means);
            if shared.waiting() >= self.cache.queue_limit as u64 {
                return Err(CompileError::QueueFull { limit: self.cache.queue_limit });
            }
            let replica = seen.replica();
            tracing::info!(model = %self.request.source, replica, "another replica compiles it");
            self.tell(FlightEvent::Elsewhere(replica));
            match shared.wait(&self.key, seen).await {
                Waited::Ended => {
                    if let Some(module) = self.cache.fetch(&self.key).await {
                        return Ok(Ready::Made(module));
                    }
                }
                Waited::Dead(seen) => {
                    let replica = seen.replica();
                    tracing::warn!(model = %self.request.source, replica, "it gave no sign; its work is done here");
                    dead = Some(seen);
                }
                Waited::GaveUp => return Ok(Ready::Compile(self.means().await?, None)),
            }
        }
    }

    async fn means(&self) -> Result<Means<'_>, CompileError> {
        let slot = self.slot().await?;
        Ok(Means { _memory: self.memory().await?, _slot: slot })
    }

    async fn slot(&self) -> Result<SemaphorePermit<'_>, CompileError> {
        if let Ok(slot) = self.cache.slots.try_acquire() {
            return Ok(slot);
        }
        let waiting = self.cache.metrics.waiting.enter();
        let ahead = waiting.before();
        if ahead >= self.cache.queue_limit as u64 {
            return Err(CompileError::QueueFull { limit: self.cache.queue_limit });
        }
        self.tell(FlightEvent::Queued(ahead));
        self.cache.slots.acquire().await.map_err(|_| CompileError::Abandoned)
    }

    /// Waits for the memory that the compiler may take, at most as long as it may work. Whoever has some ends some time,
    /// and nobody waits for a compilation with memory in hand.
    async fn memory(&self) -> Result<Room, CompileError> {
        let (residents, bytes) = (&self.cache.residents, self.cache.compile_memory);
        if let Ok(memory) = residents.make_room_to_compile(bytes, Instant::now()).await {
            return Ok(memory);
        }
        tracing::info!(model = %self.request.source, bytes, "waits for memory to compile");
        let waiting = self.cache.metrics.waiting.enter();
        self.tell(FlightEvent::Queued(waiting.before()));
        let until = Instant::now() + self.cache.compile_wall;
        let memory = residents.make_room_to_compile(bytes, until).await;
        memory.map_err(|Shortage { needs, budget, in_use }| CompileError::NoMemory { needs, budget, in_use })
    }

    async fn compile(&self) -> Result<(CompiledModule, Record), CompileError> {
        let (mut attempt, mut in_memory) = (1, false);
        loop {
            let disk = self.cache.disk.clone();
            let begin = move || if in_memory { Output::in_memory() } else { disk.begin() };
            let output = blocking(begin).await?;
            match self.attempt(&output).await {
                Ok(report) => {
                    self.cache.crashes.invalidate(&self.key);
                    return self.keep(report, output).await;
                }
                // The worker, which writes the file, has no word of its own for a full disk.
                Err(
                    error @ CompileError::Worker {
                        cause: CompileFailure::Failed { kind: FailureKind::Internal, .. },
                        ..
                    },
                ) => {
                    if !blocking(move || Ok(output.is_out_of_room())).await? {
                        return Err(error);
                    }
                    tracing::warn!(model = %self.request.source, "the disk is full; the module is kept in memory only");
                    in_memory = true;
                }
                Err(CompileError::Worker {
                    model,
                    cause: cause @ (CompileFailure::Crashed { .. } | CompileFailure::Killed { .. }),
                }) => {
                    // Who ends processes from outside must not put models into quarantine.
                    if matches!(cause, CompileFailure::Crashed { .. }) {
                        self.cache.note_crash(&self.key, cause.to_string());
                    }
                    self.cache.metrics.crashes.add(1);
                    if attempt == ATTEMPTS {
                        return Err(CompileError::Worker { model, cause });
                    }
                    attempt += 1;
                    tracing::warn!(%model, %cause, "compile worker crashed; trying once more");
                    self.tell(FlightEvent::Retrying(cause.to_string()));
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn attempt(&self, output: &Output) -> Result<CompileReport, CompileError> {
        let source = &self.request.source;
        let changed = |_| CompileError::SourceChanged { model: source.name.clone() };
        let opened = source.clone();
        let model = tokio::task::spawn_blocking(move || opened.open_main())
            .await
            .map_err(|_| CompileError::Abandoned)?;
        let job = CompileJob {
            model_name: source.name.clone(),
            file_name: source.main.name.clone(),
            target: self.request.target.clone(),
            options: self.request.options.clone(),
        };
        let (events, metrics) = (self.events.clone(), self.cache.metrics.clone());
        let sink = Box::new(move |event: CompileEvent| {
            if let CompileEvent::Started { sandbox, .. } = &event {
                metrics.started.add(1);
                metrics.note_sandbox(sandbox);
            }
            // Nobody may be listening; the outcome is told another way.
            let _ = events.send(FlightEvent::Worker(Arc::new(event)));
        });
        let output = output.handle()?;
        let compiled =
            self.cache.compiler.compile(job, model.map_err(changed)?, source.files(), output, sink).await;
        compiled.map_err(|cause| CompileError::Worker { model: source.name.clone(), cause })
    }

    async fn keep(
        &self,
        report: CompileReport,
        output: Output,
    ) -> Result<(CompiledModule, Record), CompileError> {
        let (source, name) = (self.request.source.clone(), self.request.source.name.clone());
        let measured = blocking(move || Ok((output.measure()?, output))).await?;
        let ((digest, bytes), output) = measured;
        // A model that was overwritten meanwhile would be filed under the wrong digest.
        let unchanged = tokio::task::spawn_blocking(move || source.is_unchanged()).await.unwrap_or(false);
        if !unchanged {
            return Err(CompileError::SourceChanged { model: name });
        }
        let record = Record {
            key: self.key,
            digest,
            bytes,
            model: name,
            target: self.request.target.canonical(),
            options: self.request.options.canonical(),
            compiler: self.identity.clone(),
            report,
        };
        let module = self.cache.insert(record.clone(), output).await?;
        Ok((module, record))
    }

    fn tell(&self, event: FlightEvent) {
        let _ = self.events.send(event);
    }
}
