//! What a request says of how it is to be scheduled.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Call;
use super::parameters::{self, Parameter, Parameters};
use crate::error::Error;
use crate::registry::Served;
use crate::schedule::{CorrelationId, SequenceId, Step};
use crate::tenants::{self, Tenant};

/// Whose a request is, its priority, time and sequence.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) deadline: Instant,
    /// It has run before.
    pub(super) goes_on: bool,
    /// 0 where it says nothing.
    pub(super) priority: u64,
    /// How long it may wait.
    pub(super) timeout: Option<Duration>,
    /// `None` where requests are no part of a sequence.
    pub(super) step: Option<Step>,
    pub(super) tenant: Option<Arc<Tenant>>,
}

impl Asked {
    pub(super) fn read(served: &Served, call: &Call, deadline: Instant) -> Result<Self, Error> {
        let parameters = &call.parameters;
        let tenant = call.tenant.as_ref().map_or(tenants::DEFAULT_ID, |tenant| tenant.id());
        let in_sequence = served.sequences.is_some() && !served.is_decoupled();
        Ok(Self {
            deadline,
            goes_on: false,
            priority: parameters::unsigned(parameters, "priority")?.unwrap_or(0),
            timeout: parameters::timeout(parameters)?,
            step: in_sequence.then(|| step(&served.name, tenant, parameters)).transpose()?,
            tenant: call.tenant.clone(),
        })
    }
}

fn step(model: &str, tenant: u64, parameters: &Parameters) -> Result<Step, Error> {
    let name = match parameters.get("sequence_id") {
        Some(Parameter::String(text)) if !text.is_empty() => Some(CorrelationId::Text(text.clone())),
        None | Some(Parameter::String(_)) => None,
        Some(_) => parameters::unsigned(parameters, "sequence_id")?
            .filter(|&number| number > 0)
            .map(CorrelationId::Number),
    };
    let name = name.ok_or_else(|| {
        Error::invalid(format!(
            "model `{model}` takes sequences: the request needs parameter `sequence_id`, not 0 and not empty"
        ))
    })?;
    let flag = |name| parameters::boolean(parameters, name).map(Option::unwrap_or_default);
    let id = SequenceId { tenant, name };
    Ok(Step { id, start: flag("sequence_start")?, end: flag("sequence_end")? })
}
