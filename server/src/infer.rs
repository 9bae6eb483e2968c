//! An inference from request to answer, the same for every protocol: find, check, admit, run, count.

mod check;

use std::sync::Arc;
use std::time::Instant;

use ired_module::signature::TensorSpec;
use ired_worker::{RuntimeFailure, Tensor};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::config::Settings;
use crate::error::Error;
use crate::registry::{Admission, Registry, Served};
use crate::stats::FailureReason;

/// In-flight bytes are counted in units of this many, to fit a semaphore.
const UNIT_BYTES: u64 = 1024;
/// How often a request looks for the successor of a version that was replaced under it.
const LOOKUPS: usize = 4;

/// A decoded request.
#[derive(Debug, Default)]
pub struct Call {
    pub model: String,
    /// Empty: the newest that is ready.
    pub version: String,
    /// The client's name for the request.
    pub id: String,
    pub inputs: Vec<Tensor>,
    /// Empty: all outputs.
    pub outputs: Vec<String>,
    /// When the client gives up.
    pub deadline: Option<Instant>,
}

/// What a model answered; `outputs` are those asked for, in the order asked for.
pub struct Answer {
    pub served: Arc<Served>,
    pub outputs: Vec<Tensor>,
    /// Held until the answer is encoded.
    _inside: Inside,
}

struct Inside {
    _place: OwnedSemaphorePermit,
    _bytes: OwnedSemaphorePermit,
}

/// Runs inferences.
pub struct Inference {
    registry: Arc<Registry>,
    settings: Arc<Settings>,
    bytes: Arc<Semaphore>,
}

impl Inference {
    pub fn new(registry: Arc<Registry>, settings: Arc<Settings>) -> Self {
        let units = usize::try_from(settings.inflight_bytes / UNIT_BYTES).unwrap_or(Semaphore::MAX_PERMITS);
        let bytes = Arc::new(Semaphore::new(units.clamp(1, Semaphore::MAX_PERMITS)));
        Self { registry, settings, bytes }
    }

    /// Runs one request. Dropping the future cancels it.
    pub async fn infer(&self, call: Call) -> Result<Answer, Error> {
        let latest = Instant::now() + self.settings.request_timeout();
        let deadline = call.deadline.map_or(latest, |deadline| deadline.min(latest));
        let (served, place) = self.admit(&call)?;
        let stats = served.stats.clone();
        let counted = stats.enter();
        let result = tokio::time::timeout_at(deadline.into(), self.run(&served, place, call, deadline)).await;
        match result.unwrap_or(Err(Error::DeadlineExceeded)) {
            Ok((outputs, timing, inside)) => {
                counted.succeed(&timing);
                Ok(Answer { served, outputs, _inside: inside })
            }
            Err(error) => {
                counted.fail(reason(&error));
                Err(error)
            }
        }
    }

    fn admit(&self, call: &Call) -> Result<(Arc<Served>, OwnedSemaphorePermit), Error> {
        for _ in 0..LOOKUPS {
            let served = self.registry.find(&call.model, &call.version)?;
            match served.admit() {
                Ok(Admission::Admitted(place)) => return Ok((served, place)),
                // Between its successor's start and its own end.
                Ok(Admission::Retired) => {}
                Err(full) => {
                    served.stats.enter().fail(FailureReason::Rejected);
                    return Err(full);
                }
            }
        }
        Err(Error::Stopping)
    }

    async fn run(
        &self,
        served: &Served,
        place: OwnedSemaphorePermit,
        call: Call,
        deadline: Instant,
    ) -> Result<(Vec<Tensor>, ired_worker::Timing, Inside), Error> {
        let entry = served.entry();
        check::inputs(&entry.inputs, &call.inputs)?;
        let wanted = wanted_outputs(&entry.outputs, &call.outputs)?;
        let inside = Inside { _place: place, _bytes: self.count_bytes(&call.inputs)? };
        let result = served.runner.infer(&entry.name, call.inputs, Some(deadline)).await?;
        let outputs = pick(result.outputs, &wanted)?;
        tracing::debug!(
            model = served.name,
            version = served.version,
            id = call.id,
            compute_us = result.timing.compute.as_micros() as u64,
            "inference"
        );
        Ok((outputs, result.timing, inside))
    }

    fn count_bytes(&self, inputs: &[Tensor]) -> Result<OwnedSemaphorePermit, Error> {
        let bytes: u64 = inputs.iter().map(|tensor| tensor.data.len() as u64).sum();
        let limit = self.settings.inflight_bytes;
        let busy = |_| Error::Busy { what: "tensor bytes in flight", limit };
        let units = u32::try_from(bytes.div_ceil(UNIT_BYTES)).unwrap_or(u32::MAX);
        self.bytes.clone().try_acquire_many_owned(units).map_err(busy)
    }
}

fn wanted_outputs(specs: &[TensorSpec], names: &[String]) -> Result<Vec<String>, Error> {
    if names.is_empty() {
        return Ok(specs.iter().map(|spec| spec.name.clone()).collect());
    }
    for (at, name) in names.iter().enumerate() {
        if !specs.iter().any(|spec| spec.name == *name) {
            return Err(check::unknown("output", name, specs));
        }
        if names[..at].contains(name) {
            return Err(Error::invalid(format!("output `{name}` is asked for twice")));
        }
    }
    Ok(names.to_vec())
}

fn pick(mut outputs: Vec<Tensor>, wanted: &[String]) -> Result<Vec<Tensor>, Error> {
    let take = |name: &String| {
        let found = outputs.iter().position(|tensor| tensor.name == *name);
        let missing = || RuntimeFailure::Protocol { message: format!("the worker gave no output `{name}`") };
        Ok(outputs.swap_remove(found.ok_or_else(missing)?))
    };
    wanted.iter().map(take).collect()
}

fn reason(error: &Error) -> FailureReason {
    match error {
        Error::DeadlineExceeded | Error::QueueFull { .. } | Error::Busy { .. } | Error::Stopping => {
            FailureReason::Rejected
        }
        Error::Runtime(RuntimeFailure::DeadlineExceeded | RuntimeFailure::Overloaded { .. }) => {
            FailureReason::Rejected
        }
        Error::Runtime(RuntimeFailure::Cancelled) => FailureReason::Canceled,
        Error::Runtime(RuntimeFailure::InvalidInput { .. }) => FailureReason::Other,
        Error::Runtime(_) => FailureReason::Backend,
        _ => FailureReason::Other,
    }
}
