//! One compilation in progress, shared by everyone who asked for the same module.

use std::sync::{Arc, PoisonError, Weak};
use std::time::Instant;

use ired_worker::{CompileEvent, CompileFailure, CompileJob, CompileReport};
use tokio::sync::{broadcast, watch};
use tokio::task::JoinHandle;

use super::{CompileRequest, CompiledModule, ModuleCache, Record};
use crate::digest::Digest;
use crate::error::CompileError;
use crate::store::{Pending, blocking};

/// Events that a slow listener may fall behind before it misses some.
const EVENTS_KEPT: usize = 256;
/// How often a job is started before a crash is its answer.
const ATTEMPTS: u32 = 2;

type Outcome = Result<CompiledModule, Arc<CompileError>>;

/// Something that happened to a shared compilation.
#[derive(Clone, Debug)]
pub enum FlightEvent {
    /// Waits for a slot behind this many others.
    Queued(u64),
    Worker(Arc<CompileEvent>),
    /// The compiler crashed and is started once more.
    Retrying(String),
}

/// The next thing a ticket has to tell.
#[derive(Debug)]
pub enum Step {
    Event(FlightEvent),
    End(Outcome),
}

/// The shared part; when the last ticket drops it, the work ends.
#[derive(Debug)]
pub(super) struct Flight {
    events: broadcast::Sender<FlightEvent>,
    outcome: watch::Receiver<Option<Outcome>>,
    work: JoinHandle<()>,
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.work.abort();
    }
}

/// One caller's share in a compilation.
#[derive(Debug)]
pub struct Ticket {
    events: broadcast::Receiver<FlightEvent>,
    outcome: watch::Receiver<Option<Outcome>>,
    /// The model that this caller asked for: others with equal content share the flight.
    asker: String,
    _flight: Arc<Flight>,
}

impl Ticket {
    pub(super) fn on(flight: Arc<Flight>, asker: String) -> Self {
        Self { events: flight.events.subscribe(), outcome: flight.outcome.clone(), asker, _flight: flight }
    }

    /// The next event, or the end; a caller that is slow misses events, never the end.
    pub async fn next(&mut self) -> Step {
        loop {
            tokio::select! {
                biased;
                event = self.events.recv() => match event {
                    Ok(event) => return Step::Event(event),
                    Err(broadcast::error::RecvError::Lagged(_)) => {}
                    Err(broadcast::error::RecvError::Closed) => return Step::End(self.wait().await),
                },
                outcome = ended(&mut self.outcome, &self.asker) => return Step::End(outcome),
            }
        }
    }

    /// The end.
    pub async fn wait(&mut self) -> Outcome {
        ended(&mut self.outcome, &self.asker).await
    }
}

async fn ended(outcome: &mut watch::Receiver<Option<Outcome>>, asker: &str) -> Outcome {
    let ended = match outcome.wait_for(Option::is_some).await {
        Ok(outcome) => outcome.clone().unwrap_or_else(|| Err(Arc::new(CompileError::Abandoned))),
        Err(_) => Err(Arc::new(CompileError::Abandoned)),
    };
    ended.map_err(|error| error.told_to(asker).map_or(error, Arc::new))
}

impl Flight {
    /// Starts the work. The caller holds the lock on all flights, so that the work cannot end before it is
    /// listed.
    pub(super) fn start(
        cache: Arc<ModuleCache>,
        key: Digest,
        model: Digest,
        identity: String,
        request: CompileRequest,
    ) -> (Weak<Self>, Ticket) {
        let (events, first) = broadcast::channel(EVENTS_KEPT);
        let (done, outcome) = watch::channel(None);
        let asker = request.source.name.clone();
        let work = Work { cache, key, model, identity, request, events: events.clone() };
        let work = tokio::spawn(async move {
            let ended = work.run().await.map_err(Arc::new);
            // From here on the next request starts anew, and finds the module or tries again.
            work.cache.flights.lock().unwrap_or_else(PoisonError::into_inner).remove(&work.key);
            done.send_replace(Some(ended));
        });
        let flight = Arc::new(Self { events, outcome: outcome.clone(), work });
        (Arc::downgrade(&flight), Ticket { events: first, outcome, asker, _flight: flight })
    }
}

struct Work {
    cache: Arc<ModuleCache>,
    key: Digest,
    model: Digest,
    identity: String,
    request: CompileRequest,
    events: broadcast::Sender<FlightEvent>,
}

impl Work {
    async fn run(&self) -> Result<CompiledModule, CompileError> {
        let metrics = &self.cache.metrics;
        if let Some(module) = self.cache.find(&self.key).await {
            metrics.hits.add(1);
            return Ok(module);
        }
        metrics.misses.add(1);
        let source = &self.request.source;
        self.cache.check_quarantine(&self.model, &source.name)?;
        let _slot = self.slot().await?;
        let _running = metrics.running.enter();
        let started = Instant::now();
        tracing::info!(model = %source, target = %self.request.target.canonical(), "compiling");
        let result = self.compile().await;
        metrics.note_compile(started.elapsed(), result.as_ref().err().map(CompileError::kind));
        match &result {
            Ok(module) => {
                let seconds = started.elapsed().as_secs_f64();
                tracing::info!(model = %source, key = %self.key, bytes = module.bytes, seconds, "compiled");
            }
            Err(error) => tracing::warn!(model = %source, %error, "compilation failed"),
        }
        result
    }

    async fn slot(&self) -> Result<tokio::sync::SemaphorePermit<'_>, CompileError> {
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

    async fn compile(&self) -> Result<CompiledModule, CompileError> {
        let mut attempt = 1;
        loop {
            let blobs = self.cache.blobs.clone();
            let pending = blocking(move || blobs.begin()).await?;
            match self.attempt(&pending).await {
                Ok(report) => {
                    self.cache.crashes.invalidate(&self.model);
                    return self.keep(report, pending).await;
                }
                Err(CompileError::Worker {
                    model,
                    cause: cause @ (CompileFailure::Crashed { .. } | CompileFailure::Killed { .. }),
                }) => {
                    // Who ends processes from outside must not put models into quarantine.
                    if matches!(cause, CompileFailure::Crashed { .. }) {
                        self.cache.note_crash(&self.model, cause.to_string());
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

    async fn attempt(&self, pending: &Pending) -> Result<CompileReport, CompileError> {
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
        let output = pending.handle()?;
        let compiled =
            self.cache.compiler.compile(job, model.map_err(changed)?, source.files(), output, sink).await;
        compiled.map_err(|cause| CompileError::Worker { model: source.name.clone(), cause })
    }

    async fn keep(&self, report: CompileReport, pending: Pending) -> Result<CompiledModule, CompileError> {
        let (source, name) = (self.request.source.clone(), self.request.source.name.clone());
        let (pending, digest, bytes) = blocking(move || {
            let read = crate::store::StoreError::io("read a module", pending.path());
            let digest = Digest::of_file(pending.path()).map_err(read)?;
            let read = crate::store::StoreError::io("read a module", pending.path());
            let bytes = pending.file().metadata().map_err(read)?.len();
            Ok((pending, digest, bytes))
        })
        .await?;
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
        Ok(self.cache.insert(record, pending).await?)
    }

    fn tell(&self, event: FlightEvent) {
        let _ = self.events.send(event);
    }
}
