//! One compilation in progress, shared by everyone who asked for the same module.

use std::sync::{Arc, Weak};

use ired_worker::CompileEvent;
use tokio::sync::{broadcast, watch};
use tokio::task::JoinHandle;

use super::work::Work;
use super::{CompileRequest, CompiledModule, ModuleCache};
use crate::digest::Digest;
use crate::error::CompileError;

/// Events that a slow listener may fall behind before it misses some.
const EVENTS_KEPT: usize = 256;

type Outcome = Result<CompiledModule, Arc<CompileError>>;

/// Something that happened to a shared compilation.
#[derive(Clone, Debug)]
pub enum FlightEvent {
    /// Waits for a slot or for memory behind this many others.
    Queued(u64),
    /// This replica compiles it, and what it makes will do here.
    Elsewhere(String),
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
        let flight = Arc::new_cyclic(|flight: &Weak<Self>| {
            let flight = flight.clone();
            let work = tokio::spawn(async move {
                let ended = work.run().await.map_err(Arc::new);
                // From here on the next request starts anew, and finds the module or tries again.
                work.cache.leave(&work.key, &flight);
                done.send_replace(Some(ended));
            });
            Self { events, outcome: outcome.clone(), work }
        });
        (Arc::downgrade(&flight), Ticket { events: first, outcome, asker, _flight: flight })
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::OwnedFd;
    use std::sync::mpsc;

    use futures::FutureExt;
    use futures::future::BoxFuture;
    use ired_worker::{CompileFailure, CompileJob, CompileOptions, CompileReport, ModelFiles, TargetRequest};
    use tokio::sync::Notify;

    use super::*;
    use crate::config::Settings;
    use crate::engine::workers::WorkerLauncher;
    use crate::engine::{Compiler, EventSink};
    use crate::ledger::Ledger;
    use crate::models::{ModelSource, Origin, SourceFile};
    use crate::registry::Residents;

    /// Fails once it is told to, and says so right before.
    struct Fails {
        told: Arc<Notify>,
        fails: mpsc::Sender<()>,
    }

    impl Compiler for Fails {
        fn identity(&self) -> std::io::Result<String> {
            Ok(String::new())
        }

        fn compile(
            &self,
            _: CompileJob,
            _: OwnedFd,
            _: Arc<dyn ModelFiles>,
            _: OwnedFd,
            _: EventSink,
        ) -> BoxFuture<'_, Result<CompileReport, CompileFailure>> {
            async {
                self.told.notified().await;
                self.fails.send(()).unwrap();
                let kind = ired_worker::FailureKind::Unsupported;
                Err(CompileFailure::Failed { kind, diagnostics: Vec::new() })
            }
            .boxed()
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn who_ends_late_does_not_take_the_next_flight_from_the_list() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m.onnx");
        std::fs::write(&path, "m").unwrap();
        let (told, (fails, failing)) = (Arc::new(Notify::new()), mpsc::channel());
        let compiler = Arc::new(Fails { told: told.clone(), fails });
        let settings = Settings { runtime_worker: Some("not started".into()), ..Settings::default() };
        let attending = tokio::runtime::Handle::current();
        let launcher = Arc::new(WorkerLauncher::new(&settings, attending).unwrap());
        let (ledger, compile_wall) = (Ledger::new(settings.memory_bytes), settings.compile_wall());
        let residents = Residents::new(launcher, ledger, compile_wall);
        let cache = ModuleCache::open(dir.path(), &settings, compiler, String::new(), residents);
        let cache = cache.await.unwrap();
        let cache = Arc::new(cache);
        let source = ModelSource {
            name: "m".to_owned(),
            version: 1,
            origin: Origin::Upload,
            main: SourceFile::at("m.onnx".to_owned(), path).unwrap(),
            others: Vec::new(),
            config: None,
            trials: Vec::new(),
            digest: Arc::default(),
        };
        let (target, options) = (TargetRequest::default(), CompileOptions::default());
        let request = CompileRequest { source, target, options };
        let first = cache.request(request.clone()).await.unwrap();
        let mut ended = first.outcome.clone();
        let (key, second, _second) = {
            let mut flights = cache.flights.lock().unwrap();
            told.notify_one();
            // From here on it waits for nothing but the list.
            failing.recv().unwrap();
            drop(first);
            let key = *flights.keys().next().unwrap();
            let (second, ticket) = Flight::start(cache.clone(), key, key, String::new(), request);
            flights.insert(key, second.clone());
            (key, second, ticket)
        };
        ended.wait_for(Option::is_some).await.unwrap();
        assert!(cache.flights.lock().unwrap().get(&key).is_some_and(|listed| listed.ptr_eq(&second)));
    }
}
