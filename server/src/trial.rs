//! What a version goes through before it answers: warm-up requests, and golden ones whose answers are known or are compared
//! with those of the version before it.
//!
//! These run beside the requests of clients, not in their queue: a rate or a batch is not for them.

mod compare;
mod golden;
mod warm_up;

use std::sync::Arc;
use std::time::Instant;

use ired_worker::{RuntimeFailure, Tensor};

pub use compare::{Difference, Tolerance};

use crate::error::Error;
use crate::infer::check;
use crate::ledger::Reservation;
use crate::models::ModelSource;
use crate::registry::{Registry, Served, Using};
use crate::tensors::take_output;

/// Why a version is not let near clients.
#[derive(Debug, thiserror::Error)]
pub enum TrialError {
    #[error("warm-up `{sample}` of {model}: {cause}")]
    WarmUp { model: String, sample: String, cause: Error },
    #[error("`{file}` of {model} is not what was recorded of a request: {cause}")]
    Recorded { model: String, file: String, cause: Error },
    #[error("{model} does not answer golden request `{file}`: {cause}")]
    NoAnswer { model: String, file: String, cause: Error },
    #[error("{model} does not answer golden request `{file}` as {expected} says: {difference}")]
    Differs { model: String, file: String, expected: String, difference: Difference },
}

impl TrialError {
    /// What kept it from being tried, where that is not the version's own fault.
    pub fn cause(&self) -> Option<&Error> {
        match self {
            Self::WarmUp { cause, .. } | Self::NoAnswer { cause, .. } => match cause {
                Error::Refused(_) | Error::Stopping | Error::DeadlineExceeded => Some(cause),
                _ => None,
            },
            Self::Recorded { .. } | Self::Differs { .. } => None,
        }
    }
}

impl Registry {
    /// Tries a loaded version that does not answer clients yet.
    ///
    /// # Errors
    /// [`Error::Trial`] with what was found and what was expected.
    pub(crate) async fn try_out(&self, source: &ModelSource, served: &Arc<Served>) -> Result<(), Error> {
        self.warm_up(source, served).await.map_err(Box::new)?;
        // A version that is older than what answers is no successor of it.
        let before = self.find(&source.name, "").ok().filter(|before| before.version <= source.version);
        self.check_golden(source, served, before.as_deref()).await.map_err(Box::new)?;
        Ok(())
    }

    /// Runs one request that no client sent.
    async fn ask(&self, served: &Served, inputs: Vec<Tensor>) -> Result<Vec<Tensor>, Error> {
        let entry = served.entry();
        check::inputs(&entry.inputs, &inputs)?;
        let deadline = Instant::now() + self.settings.request_timeout();
        let using = served.runner.hold(deadline).await?;
        let sizes = served.peaks.sizes(None, &inputs);
        let peak_bytes = served.peak_bytes(using.runner(), None, sizes, deadline).await?;
        served.runner.check_peak(peak_bytes)?;
        drop(using);
        let (using, _memory) = hold_with(served, peak_bytes, deadline).await?;
        let run = using.runner().infer(&entry.name, inputs, Some(deadline), false);
        let result = tokio::time::timeout_at(deadline.into(), run).await;
        let mut outputs = result.map_err(|_| Error::DeadlineExceeded)??.outputs;
        let ordered = entry.outputs.iter().map(|spec| take_output(&mut outputs, &spec.name));
        Ok(ordered.collect::<Result<_, RuntimeFailure>>()?)
    }
}

/// Takes hold of a version and of memory for a request to it. Where that takes long, others are let in between.
async fn hold_with(
    served: &Served,
    peak_bytes: u64,
    deadline: Instant,
) -> Result<(Using, Reservation), Error> {
    loop {
        match served.runner.hold_with(peak_bytes, deadline).await {
            Err(Error::Refused(_)) if Instant::now() < deadline => {}
            result => return result,
        }
    }
}
