//! An inference from request to answer, the same for every protocol: find, check, admit, run, count.

mod asked;
pub(crate) mod check;
mod generate;
mod group;
pub mod join;
pub mod parameters;

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use ired_worker::{InferenceResult, RuntimeFailure, Tensor};
use tokio_util::task::AbortOnDropHandle;

use self::asked::Asked;
use crate::budget::{Budget, Reservation};
use crate::config::Settings;
use crate::course::{Course, Execution};
use crate::error::Error;
use crate::registry::{self, Admission, Registry, Served, Using};
use crate::schedule::{Entered, Refusal, Sequences, Step, Ticket, Turn};
use crate::stats::{FailureReason, InFlight};
use crate::tenants::{Counted, Tenant};
use crate::tensors::take_output;

pub use generate::{Part, Parts};
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
    /// Whose it is; `None` where nobody is told apart.
    pub tenant: Option<Arc<Tenant>>,
}

/// What a model answered; `outputs` are those asked for, in the order asked for.
pub struct Answer {
    pub served: Arc<Served>,
    pub outputs: Vec<Tensor>,
    /// Held until the answer is encoded.
    _bytes: Reservation,
}

/// A request that its model version and its tenant let in, until it has run: what then only has to be sent takes no place.
struct Admitted {
    _inside: registry::Inside,
    _counted: Option<Counted>,
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

    /// Runs one request, and notes its course. Dropping the future cancels it.
    ///
    /// # Errors
    /// [`Error::Decoupled`] for a model that does not give one answer: see [`Self::generate`].
    pub async fn infer(&self, mut call: Call, course: &mut Course) -> Result<Answer, Error> {
        let deadline = self.deadline(&call);
        let (served, admitted) = self.let_in(&call, deadline, course).await?;
        if served.is_decoupled() {
            return Err(Error::Decoupled { model: call.model });
        }
        let counted = served.stats.enter();
        let inputs = std::mem::take(&mut call.inputs);
        let run = self.run(&served, admitted, &call, inputs, deadline, course);
        let result = tokio::time::timeout_at(deadline.into(), run).await;
        match result.unwrap_or(Err(Error::DeadlineExceeded)) {
            Ok((outputs, bytes)) => {
                counted.succeed(&course.execution.as_ref().map(Execution::timing).unwrap_or_default());
                Ok(Answer { served, outputs, _bytes: bytes })
            }
            Err(error) => Err(failed(&served, counted, error)),
        }
    }

    /// When a request is given up.
    fn deadline(&self, call: &Call) -> Instant {
        let latest = Instant::now() + self.settings.request_timeout();
        call.deadline.map_or(latest, |deadline| deadline.min(latest))
    }

    /// Finds what answers a request, and lets it in.
    async fn let_in(
        &self,
        call: &Call,
        deadline: Instant,
        course: &mut Course,
    ) -> Result<(Arc<Served>, Admitted), Error> {
        self.once_started(call, deadline, || self.admit(call, course)).await
    }

    /// What `attempt` gives, if need be once the model it asks for was loaded since the daemon began.
    async fn once_started<T>(
        &self,
        call: &Call,
        deadline: Instant,
        mut attempt: impl FnMut() -> Result<T, Error>,
    ) -> Result<T, Error> {
        match attempt() {
            Err(error @ Error::NotReady { .. }) if self.registry.is_starting(&call.model) => {
                self.wait_for_start(call, deadline, error).await?;
                attempt()
            }
            attempted => attempted,
        }
    }

    /// Waits for a model that is loaded since the daemon began, as nothing is wrong with who asks or what is asked for.
    async fn wait_for_start(&self, call: &Call, deadline: Instant, error: Error) -> Result<(), Error> {
        let _bytes = self.reserve(call, &call.inputs)?;
        let started = self.registry.started(&call.model);
        tokio::time::timeout_at(deadline.into(), started).await.map_err(|_| error)
    }

    /// Counts a request's inputs as bytes that are inside.
    ///
    /// # Errors
    /// Those of [`Budget::reserve`].
    pub fn reserve(&self, call: &Call, inputs: &[Tensor]) -> Result<Reservation, Error> {
        let bytes = inputs.iter().map(|tensor| tensor.data.len() as u64).sum();
        self.budget.reserve(bytes, call.tenant.clone())
    }

    fn admit(&self, call: &Call, course: &mut Course) -> Result<(Arc<Served>, Admitted), Error> {
        let refused = |served: &Served, refusal: Refusal| {
            served.stats.enter().fail(FailureReason::Rejected);
            served.stats.refuse(&refusal);
            Error::Refused(refusal)
        };
        let mut counted = None;
        for _ in 0..LOOKUPS {
            let served = self.registry.find(&call.model, &call.version)?;
            course.served = Some(served.clone());
            if let (Some(tenant), None) = (&call.tenant, &counted) {
                let entered = tenant.enter(|| served.lane.retry_after());
                counted = Some(entered.map_err(|refusal| refused(&served, refusal))?);
            }
            match served.admit(call.tenant.as_deref()) {
                Ok(Admission::Admitted(inside)) => {
                    return Ok((served, Admitted { _inside: inside, _counted: counted }));
                }
                // Between its successor's start and its own end.
                Ok(Admission::Retired) => {}
                Err(refusal) => return Err(refused(&served, refusal)),
            }
        }
        Err(Error::Stopping)
    }

    async fn run(
        &self,
        served: &Arc<Served>,
        admitted: Admitted,
        call: &Call,
        inputs: Vec<Tensor>,
        deadline: Instant,
        course: &mut Course,
    ) -> Result<(Vec<Tensor>, Reservation), Error> {
        let wanted = wanted_outputs(served, &call.outputs)?;
        let mut asked = Asked::read(served, call, deadline)?;
        let bytes = self.reserve(call, &inputs)?;
        let (mut outputs, execution) = match (&served.sequences, asked.step.take()) {
            (Some(sequences), Some(step)) => {
                execute_step(served, admitted, sequences, step, inputs, &asked, course).await?
            }
            _ => execute(served, admitted, inputs, &asked, course).await?,
        };
        let outputs = wanted.iter().map(|name| take_output(&mut outputs, name)).collect::<Result<_, _>>()?;
        tracing::debug!(
            model = served.name,
            version = served.version,
            id = course.id,
            trace_id = course.context.map(|context| context.trace_text()),
            compute_us = execution.timing.compute.as_micros() as u64,
            "inference"
        );
        course.execution = Some(execution);
        Ok((outputs, bytes))
    }
}

/// Counts a request that was let in and failed.
fn failed(served: &Served, counted: InFlight<'_>, error: Error) -> Error {
    counted.fail(reason(&error));
    if let Error::Refused(refusal) = &error {
        served.stats.refuse(refusal);
    }
    error
}

/// Runs one request of a sequence, with the sequence's state.
async fn execute_step(
    served: &Arc<Served>,
    admitted: Admitted,
    sequences: &Sequences,
    step: Step,
    mut inputs: Vec<Tensor>,
    asked: &Asked,
    course: &mut Course,
) -> Result<(Vec<Tensor>, Execution), Error> {
    let arrived = Instant::now();
    course.waits = Some(arrived);
    let mut turn = sequences.turn(step).await?;
    // What the server adds has as many rows.
    check::inputs(served.inputs(), &inputs)?;
    check_rows(served, join::rows(&inputs))?;
    turn.add(&mut inputs)?;
    let (mut outputs, execution) = execute(served, admitted, inputs, asked, course).await?;
    make_room(served, asked, turn.more_to_keep(&outputs)).await?;
    turn.keep(&mut outputs)?;
    Ok((outputs, Execution { since: arrived, ..execution }))
}

/// Has models that are idle make room for more of a sequence's states; its own is not idle meanwhile.
async fn make_room(served: &Arc<Served>, asked: &Asked, more: u64) -> Result<(), Error> {
    if more > 0 {
        let _using = served.hold(asked.tenant.as_deref(), asked.deadline).await?;
        served.runner.evict_others_for(more, || 0).await;
    }
    Ok(())
}

/// Waits for the request's turn and runs it, alone or with others. What is `inside` until it has run is dropped then.
async fn execute(
    served: &Arc<Served>,
    inside: impl Send + 'static,
    inputs: Vec<Tensor>,
    asked: &Asked,
    course: &mut Course,
) -> Result<(Vec<Tensor>, Execution), Error> {
    let entry = served.entry();
    check::inputs(&entry.inputs, &inputs)?;
    let policy = served.lane.policy();
    let (rows, joins) = match (&policy.batching, served.max_rows) {
        (None, None) => (1, None),
        _ => join::likeness(entry, &inputs),
    };
    check_rows(served, rows)?;
    let joins = joins.filter(|_| policy.batching.is_some());
    let joins = match &asked.tenant {
        Some(tenant) if !served.joins_tenants() => {
            joins.map(|alike| [&*alike, &[tenant.id()]].concat().into())
        }
        _ => joins,
    };
    let deadline = asked.deadline;
    let level = policy.level(asked.priority);
    let (context, tenant) = (course.context, asked.tenant.clone());
    if course.context.is_some() {
        course.waits.get_or_insert_with(Instant::now);
    }
    // What waits for its turn finds the model in memory.
    let whose = asked.tenant.as_deref();
    let using = served.hold(whose, deadline).await?;
    let sizes = served.peaks.sizes(whose, &inputs);
    let peak_bytes = served.peak_bytes(using.runner(), whose, sizes, deadline).await?;
    served.runner.check_peak(peak_bytes)?;
    served.runner.evict_others_for(peak_bytes, || served.lane.running_bytes()).await;
    let run = Run {
        served: served.clone(),
        tenant: tenant.clone(),
        rows,
        peak_bytes,
        deadline,
        timeout: asked.timeout,
    };
    let goes_on = asked.goes_on;
    let ticket =
        Ticket { level, deadline, goes_on, peak_bytes, memory: None, rows, joins, inputs, context, tenant };
    match served.lane.enter(ticket, asked.timeout)? {
        entered @ Entered::Started(_) => run.go(using, entered, &course.turn).await,
        entered @ Entered::Waiting(_) => {
            // Where its turn is heard of, as the doors may have much else to do then.
            let runtime = using.runner().runtime();
            let turn = course.turn.clone();
            let work = runtime.spawn(async move {
                let result = run.go(using, entered, &turn).await;
                drop(inside);
                result
            });
            // It ends early only with the daemon.
            AbortOnDropHandle::new(work).await.map_err(|_| Error::Stopping)?
        }
    }
}

/// A request that went in.
struct Run {
    served: Arc<Served>,
    tenant: Option<Arc<Tenant>>,
    rows: u64,
    peak_bytes: u64,
    deadline: Instant,
    /// What it says of how long it may wait.
    timeout: Option<Duration>,
}

impl Run {
    /// Waits for its turn and takes it; `begun` is when that came, if it is the request's own.
    async fn go(
        self,
        mut using: Using,
        mut entered: Entered,
        begun: &OnceLock<Instant>,
    ) -> Result<(Vec<Tensor>, Execution), Error> {
        let Self { served, tenant, rows, peak_bytes, deadline, timeout } = self;
        loop {
            let turn = match entered {
                Entered::Started(turn) => turn,
                Entered::Waiting(waiting) => waiting.turn().await?,
            };
            entered = match turn {
                Turn::Alone { mut place, inputs, since } => {
                    let turn = *begun.get_or_init(|| place.since());
                    let mut result = run(&served, &using, inputs, deadline).await?;
                    place.worked(result.timing.compute, 1);
                    served.stats.executed(served.inferences(1, rows), &result.timing);
                    let execution = Execution::of(&mut result, since, turn, None);
                    served.profiling.tell(&execution);
                    return Ok((result.outputs, execution));
                }
                // What comes is its part of the answer, or another turn where it was put back.
                Turn::Lead { answer, group } => {
                    group::start(&served, group);
                    Entered::Started(answer.await.map_err(|_| Error::Stopping)?)
                }
                Turn::NoRoom(mut ticket) => {
                    drop(using);
                    let memory;
                    (using, memory) = served.hold_with(tenant.as_deref(), peak_bytes, deadline).await?;
                    ticket.memory = Some(memory);
                    served.lane.enter(*ticket, timeout)?
                }
                Turn::Answered(answer) => return Ok(answer?),
                Turn::Refused(refusal) => return Err(refusal.into()),
            };
        }
    }
}

/// Refuses a request of more rows than the configuration says.
fn check_rows(served: &Served, rows: u64) -> Result<(), Error> {
    let Some(limit) = served.max_rows.filter(|&limit| rows > limit) else { return Ok(()) };
    let (model, input) = (&served.name, served.inputs().next().map_or("", |spec| &spec.name));
    Err(Error::invalid(format!(
        "input `{input}` has {rows} rows; the configuration of model `{model}` takes at most {limit}"
    )))
}

/// One execution in the worker.
async fn run(
    served: &Served,
    using: &Using,
    inputs: Vec<Tensor>,
    deadline: Instant,
) -> Result<InferenceResult, RuntimeFailure> {
    let profile = served.profiling.takes();
    using.runner().infer(&served.entry().name, inputs, Some(deadline), profile).await
}

fn wanted_outputs<'a>(served: &'a Served, names: &'a [String]) -> Result<Vec<&'a str>, Error> {
    if names.is_empty() {
        return Ok(served.outputs().map(|spec| spec.name.as_str()).collect());
    }
    for (at, name) in names.iter().enumerate() {
        if !served.outputs().any(|spec| spec.name == *name) {
            return Err(check::unknown("output", name, served.outputs()));
        }
        if names[..at].contains(name) {
            return Err(Error::invalid(format!("output `{name}` is asked for twice")));
        }
    }
    Ok(names.iter().map(String::as_str).collect())
}

/// Whose fault an error is.
pub(crate) fn reason(error: &Error) -> FailureReason {
    match error {
        Error::DeadlineExceeded | Error::Refused(_) | Error::Busy { .. } | Error::Stopping => {
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
