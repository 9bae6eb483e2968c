//! What a request's parameters say of how it is to be scheduled.

use std::time::{Duration, Instant};

use super::parameters::{self, Parameter, Parameters};
use crate::error::Error;
use crate::registry::Served;
use crate::schedule::{CorrelationId, Step};

/// Priority, time and sequence of one request.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) deadline: Instant,
    /// 0 where it says nothing.
    pub(super) priority: u64,
    /// How long it may wait.
    pub(super) timeout: Option<Duration>,
    /// `None` for a model without sequences.
    pub(super) step: Option<Step>,
}

impl Asked {
    pub(super) fn read(served: &Served, parameters: &Parameters, deadline: Instant) -> Result<Self, Error> {
        Ok(Self {
            deadline,
            priority: parameters::unsigned(parameters, "priority")?.unwrap_or(0),
            timeout: parameters::timeout(parameters)?,
            step: served.sequences.as_ref().map(|_| step(&served.name, parameters)).transpose()?,
        })
    }
}

fn step(model: &str, parameters: &Parameters) -> Result<Step, Error> {
    let id = match parameters.get("sequence_id") {
        Some(Parameter::String(text)) if !text.is_empty() => Some(CorrelationId::Text(text.clone())),
        None | Some(Parameter::String(_)) => None,
        Some(_) => parameters::unsigned(parameters, "sequence_id")?
            .filter(|&number| number > 0)
            .map(CorrelationId::Number),
    };
    let id = id.ok_or_else(|| {
        Error::invalid(format!(
            "model `{model}` takes sequences: the request needs parameter `sequence_id`, not 0 and not empty"
        ))
    })?;
    let flag = |name| parameters::boolean(parameters, name).map(Option::unwrap_or_default);
    Ok(Step { id, start: flag("sequence_start")?, end: flag("sequence_end")? })
}
