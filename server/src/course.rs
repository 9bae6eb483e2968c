//! The course of a request: who it is and when each of its steps was. Statistics and traces are made of it.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use ired_worker::{InferenceResult, Timing, WorkProfile};

use crate::registry::Served;
use crate::trace::{Links, SpanContext};

/// How far a request has come.
#[derive(Default)]
pub struct Course {
    /// The client's name for it; may be empty.
    pub id: String,
    /// Its place in a trace, where it was traced from the beginning.
    pub context: Option<SpanContext>,
    /// What answers it, once that was found.
    pub served: Option<Arc<Served>>,
    /// When it had its tensors, where they came on another road than the request.
    pub fetched: Option<Instant>,
    /// When it began to wait for its turn; noted of those that are traced.
    pub waits: Option<Instant>,
    /// When its turn came; told here also of one that is not waited for any more.
    pub turn: Arc<OnceLock<Instant>>,
    /// Once it has run; of a request that is run again and again the last time.
    pub execution: Option<Execution>,
}

impl Course {
    /// Begins one more run of the request.
    pub fn begin_run(&mut self) {
        (self.waits, self.turn, self.execution) = (None, Arc::default(), None);
    }
}

/// When a request waited and ran.
#[derive(Clone, Debug)]
pub struct Execution {
    /// When it began to wait for its turn.
    pub since: Instant,
    /// When its turn came.
    pub turn: Instant,
    /// When its inputs were where the worker reads them.
    pub sent: Instant,
    /// When the worker's answer was here.
    pub answered: Instant,
    /// The worker's own times.
    pub timing: Timing,
    pub batch: Option<Batch>,
    /// Where somebody asked what takes the time.
    pub profile: Option<Arc<WorkProfile>>,
}

/// Requests that ran as one.
#[derive(Clone, Debug)]
pub struct Batch {
    pub requests: usize,
    pub rows: u64,
    /// Those of them that are traced.
    pub traced: Option<Links>,
}

impl Execution {
    /// One that has just ended; its profile is taken out of the result.
    pub fn of(result: &mut InferenceResult, since: Instant, turn: Instant, batch: Option<Batch>) -> Self {
        let InferenceResult { sent, timing, ref mut profile, .. } = *result;
        let profile = profile.take().map(Arc::new);
        Self { since, turn, sent, answered: Instant::now(), timing, batch, profile }
    }

    /// Where the time went; the wait here counts as the queue's.
    pub fn timing(&self) -> Timing {
        Timing { queue: self.timing.queue + self.waited(), ..self.timing }
    }

    fn waited(&self) -> Duration {
        self.turn.saturating_duration_since(self.since)
    }
}
