//! An inference from request to answer, the same for every protocol: find, check, admit, run, count.

mod check;
pub mod parameters;

use std::sync::Arc;
use std::time::Instant;

use ired_module::signature::TensorSpec;
use ired_worker::{RuntimeFailure, Tensor, Timing};
use tokio::sync::OwnedSemaphorePermit;

use crate::budget::{Budget, Reservation};
use crate::config::Settings;
use crate::error::Error;
use crate::registry::{Admission, Registry, Served};
use crate::stats::FailureReason;

pub use parameters::{Parameter, Parameters};

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
    /// Options that concern the whole request.
    pub parameters: Parameters,
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
    pub timing: Timing,
    /// Held until the answer is encoded.
    _inside: Inside,
}

struct Inside {
    _place: OwnedSemaphorePermit,
    _bytes: Reservation,
}

/// Runs inferences.
pub struct Inference {
    registry: Arc<Registry>,
    settings: Arc<Settings>,
    budget: Budget,
}

impl Inference {
    pub fn new(registry: Arc<Registry>, settings: Arc<Settings>) -> Self {
        Self { registry, budget: Budget::new(settings.inflight_bytes), settings }
    }

    /// What all requests share.
    pub fn budget(&self) -> &Budget {
        &self.budget
    }

    /// Runs one request. Dropping the future cancels it.
    pub async fn infer(&self, call: Call) -> Result<Answer, Error> {
        let latest = Instant::now() + self.settings.request_timeout();
        let deadline = call.deadline.map_or(latest, |deadline| deadline.min(latest));
        let (served, place) = self.admit(&call)?;
        let stats = served.stats.clone();
        let counted = stats.enter();
        let id = call.id.clone();
        let result = tokio::time::timeout_at(deadline.into(), self.run(&served, place, call, deadline)).await;
        match result.unwrap_or(Err(Error::DeadlineExceeded)) {
            Ok((outputs, timing, inside)) => {
                counted.succeed(&timing);
                Ok(Answer { served, outputs, timing, _inside: inside })
            }
            Err(error) => {
                let reason = reason(&error);
                counted.fail(reason);
                let (model, version) = (&served.name, served.version);
                match reason {
                    FailureReason::Backend => tracing::warn!(model, version, id, %error, "inference failed"),
                    _ => tracing::debug!(model, version, id, %error, "inference refused"),
                }
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
    ) -> Result<(Vec<Tensor>, Timing, Inside), Error> {
        let entry = served.entry();
        check::inputs(&entry.inputs, &call.inputs)?;
        let wanted = wanted_outputs(&entry.outputs, &call.outputs)?;
        let bytes = call.inputs.iter().map(|tensor| tensor.data.len() as u64).sum();
        let inside = Inside { _place: place, _bytes: self.budget.reserve(bytes)? };
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
