//! A request that is run again and again, an iterative sequence: each run's outputs are an answer of their own.
//!
//! Every run is a request like any other to its lane: as urgent as one that has just come and has as much time, so that
//! others get their turn between two runs, and joined with others where rows can be. Between runs nothing is held but a
//! place for sequences and the states. A run begins only once its answer has somewhere to go, so that a reader who is slow
//! has no more than [`AHEAD`] answers waiting, and keeps nobody waiting.

use std::sync::Arc;
use std::time::Instant;

use ired_worker::{RuntimeFailure, Tensor, Timing};
use tokio::sync::mpsc;

use super::asked::Asked;
use super::parameters::{self, Parameters};
use super::{Answer, Call, Inference, check, check_rows, execute, failed, join, make_room, wanted_outputs};
use crate::course::Course;
use crate::error::Error;
use crate::registry::Served;
use crate::schedule::Iterations;
use crate::tenants;
use crate::tensors::take_output;

/// Answers of one request that wait for their reader.
const AHEAD: usize = 2;

/// The parameter of a request that wants no more responses than this.
const MAX_RESPONSES: &str = "max_responses";

/// One of a request's answers.
pub struct Part {
    pub answer: Answer,
    /// None follows.
    pub is_last: bool,
}

/// Where a request's answers go.
pub struct Parts(mpsc::Sender<Part>);

impl Parts {
    /// The two ends. Whoever drops the second ends the request with its next run.
    pub fn new() -> (Self, mpsc::Receiver<Part>) {
        let (sender, receiver) = mpsc::channel(AHEAD);
        (Self(sender), receiver)
    }
}

impl Inference {
    /// Whether a request gets a response for each of its runs; `false` too where nothing can answer it.
    pub async fn is_decoupled(&self, call: &Call) -> bool {
        let find = || self.registry.find(&call.model, &call.version);
        let found = self.once_started(call, self.deadline(call), find).await;
        found.is_ok_and(|served| served.is_decoupled())
    }

    /// Runs a request until it is over, and notes the course of its last run. Dropping the future cancels it.
    pub async fn generate(&self, mut call: Call, course: &mut Course, parts: Parts) -> Result<(), Error> {
        let deadline = self.deadline(&call);
        let (served, _admitted) = self.let_in(&call, deadline, course).await?;
        let counted = served.stats.enter();
        let inputs = std::mem::take(&mut call.inputs);
        let runs = self.runs(&served, &call, inputs, deadline, course, parts);
        let result = tokio::time::timeout_at(deadline.into(), runs).await;
        match result.unwrap_or(Err(Error::DeadlineExceeded)) {
            Ok(timing) => {
                counted.succeed(&timing);
                Ok(())
            }
            Err(error) => Err(failed(&served, counted, error)),
        }
    }

    /// All runs of a request, and what they took together.
    async fn runs(
        &self,
        served: &Arc<Served>,
        call: &Call,
        mut inputs: Vec<Tensor>,
        deadline: Instant,
        course: &mut Course,
        parts: Parts,
    ) -> Result<Timing, Error> {
        let iterations = served.sequences.as_ref().and_then(|s| Some((s, s.iterations()?)));
        let (sequences, iterations) = iterations.ok_or_else(|| changed(served))?;
        let wanted = wanted_outputs(served, &call.outputs)?;
        let mut asked = Asked::read(served, call, deadline)?;
        let most = most_runs(iterations, &call.parameters)?;
        let _bytes = self.reserve(call, &inputs)?;
        check::inputs(served.inputs(), &inputs)?;
        check_rows(served, join::rows(&inputs))?;
        let tenant = call.tenant.as_ref().map_or(tenants::DEFAULT_ID, |tenant| tenant.id());
        let mut turn = sequences.turn(sequences.unnamed(tenant)).await?;
        make_room(served, &asked, turn.more_to_begin(&inputs)?).await?;
        turn.begin(&mut inputs)?;
        let patience = deadline.saturating_duration_since(Instant::now());
        let mut took = Timing::default();
        for run in 1.. {
            // Who does not read any more has cancelled.
            let room = parts.0.reserve().await.map_err(|_| RuntimeFailure::Cancelled)?;
            asked.goes_on = run > 1;
            asked.deadline = Instant::now() + patience;
            let is_bound = most == Some(run);
            turn.stands(run == 1, is_bound);
            let mut given = inputs.clone();
            turn.add(&mut given)?;
            course.begin_run();
            let (mut outputs, execution) = execute(served, (), given, &asked, course).await?;
            add(&mut took, &execution.timing());
            course.execution = Some(execution);
            let is_last = is_bound || iterations.are_over(&outputs)?;
            make_room(served, &asked, turn.more_to_keep(&outputs)).await?;
            turn.keep(&mut outputs)?;
            let outputs = wanted.iter().map(|name| Ok(owned(take_output(&mut outputs, name)?)));
            let outputs = outputs.collect::<Result<_, RuntimeFailure>>()?;
            let answer = Answer { served: served.clone(), outputs, _bytes: self.budget.empty(None) };
            room.send(Part { answer, is_last });
            if is_last {
                break;
            }
        }
        Ok(took)
    }
}

/// Told to who was to get several responses, which a version that came meanwhile does not give.
fn changed(served: &Served) -> Error {
    let reason = "it has just replaced a version that gives several responses; ask again".to_owned();
    Error::NotReady { model: served.name.clone(), version: served.version, reason }
}

/// Runs at most, by the configuration and by what the request says.
fn most_runs(iterations: &Iterations, parameters: &Parameters) -> Result<Option<u64>, Error> {
    let own = parameters::unsigned(parameters, MAX_RESPONSES)?;
    if own == Some(0) {
        return Err(Error::invalid(format!("parameter `{MAX_RESPONSES}`: found 0, expected 1 or more")));
    }
    Ok(iterations.max.into_iter().chain(own).min())
}

fn add(took: &mut Timing, run: &Timing) {
    took.queue += run.queue;
    took.input += run.input;
    took.compute += run.compute;
    took.output += run.output;
}

/// A copy of an output: its reader may be slow, and the worker's memory is not held so long.
fn owned(tensor: Tensor) -> Tensor {
    Tensor { data: tensor.data.to_vec().into(), ..tensor }
}
