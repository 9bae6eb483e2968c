//! One compilation in progress, shared by everyone who asked for the same module.

use std::sync::{Arc, PoisonError, Weak};

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
    /// Waits for a slot behind this many others.
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
