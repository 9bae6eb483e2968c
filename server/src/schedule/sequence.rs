//! Sequences: requests of one correlation id run one after the other, with the state that the last one left.
//!
//! A sequence holds one of the model's places for sequences from its first request until its last one, or until it
//! has paused for too long; a new one waits for a place. Its requests take turns by a fair lock, in the order in
//! which they came. What a model is told about a sequence, and what it keeps between requests, are tensors like any
//! other; where rows can be joined, requests of different sequences are.
//!
//! What it keeps is counted in the memory budget from one request to the next; a sequence that paused for too long gives
//! it back although nobody asks for its place.
//!
//! A sequence may also be one request that is run again and again until it is over ([`Iterations`]): its one turn lasts
//! as long, so that it never pauses.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use ired_module::DType;
use ired_module::signature::{DimSpec, TensorSpec};
use ired_module::texts;
use ired_worker::{Tensor, TensorData};
use tokio::sync::{OwnedMutexGuard, OwnedSemaphorePermit, Semaphore};

use super::{Iterations, Refusal, Why};
use crate::error::Error;
use crate::ledger::{Ledger, Reservation};
use crate::tensors::take_output;

/// The longest correlation id, in bytes.
const ID_BYTES: usize = 128;
/// One state of one sequence at its start, in bytes at most.
const STATE_BYTES: usize = 1 << 30;
/// One control input of one request, in bytes at most: there can be rows without data, which cost a client nothing.
const CONTROL_BYTES: u64 = 16 << 20;

/// How a model's sequences are run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SequencePolicy {
    pub controls: Vec<ControlInput>,
    pub states: Vec<StateTensor>,
    /// How long a sequence may pause.
    pub idle: Duration,
    /// Sequences at once.
    pub limit: usize,
    /// Where a sequence is one request.
    pub iterations: Option<Iterations>,
}

/// An input that the server gives.
#[derive(Clone, Debug, PartialEq)]
pub struct ControlInput {
    pub spec: TensorSpec,
    pub value: ControlValue,
}

/// What a control input holds, element by element.
#[derive(Clone, Debug, PartialEq)]
pub enum ControlValue {
    Start { no: Vec<u8>, yes: Vec<u8> },
    End { no: Vec<u8>, yes: Vec<u8> },
    Ready { yes: Vec<u8> },
    Correlation,
}

/// An output that is the next run's input.
#[derive(Clone, Debug, PartialEq)]
pub struct StateTensor {
    pub input: String,
    pub output: String,
    pub dtype: DType,
    /// The initial state's shape, zeros, without the batch dimension; `None`: the request gives it.
    pub row: Option<Vec<u64>>,
    pub batched: bool,
    /// Answers have the output, too.
    pub answered: bool,
}

/// The name of a sequence.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum CorrelationId {
    Number(u64),
    Text(String),
}

/// A sequence among those of a model: tenants may use the same names.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct SequenceId {
    pub tenant: u64,
    pub name: CorrelationId,
}

/// What a request says of its sequence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    pub id: SequenceId,
    pub start: bool,
    pub end: bool,
}

/// The sequences of one model version.
#[derive(Debug)]
pub struct Sequences {
    model: String,
    policy: SequencePolicy,
    open: Arc<Open>,
    places: Arc<Semaphore>,
    ledger: Ledger,
    /// Sequences that were given a number here.
    numbered: AtomicU64,
}

/// The sequences that have begun.
#[derive(Debug, Default)]
struct Open(Mutex<Opened>);

#[derive(Debug, Default)]
struct Opened {
    sequences: HashMap<SequenceId, Arc<Sequence>>,
    /// [`close_paused`] is at work.
    is_watched: bool,
}

#[derive(Debug)]
struct Sequence {
    progress: Arc<tokio::sync::Mutex<Progress>>,
    /// When its last request ended, or came.
    touched: Mutex<Instant>,
}

#[derive(Debug, Default)]
struct Progress {
    /// Held from the first request on.
    place: Option<OwnedSemaphorePermit>,
    states: States,
}

/// What the model gets the next time.
#[derive(Debug, Default)]
struct States {
    tensors: Vec<Tensor>,
    /// As many bytes of the memory budget.
    memory: Option<Reservation>,
}

/// A request that is the only one of its sequence.
#[derive(Debug)]
pub struct SequenceTurn<'a> {
    sequences: &'a Sequences,
    sequence: Arc<Sequence>,
    progress: OwnedMutexGuard<Progress>,
    step: Step,
    /// The model has run for it.
    kept: bool,
}

impl fmt::Display for CorrelationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => write!(f, "{number}"),
            Self::Text(text) => write!(f, "{}", text.escape_debug()),
        }
    }
}

impl fmt::Display for SequenceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.name.fmt(f)
    }
}

impl Sequences {
    pub fn new(model: &str, policy: SequencePolicy, ledger: Ledger) -> Self {
        let places = Arc::new(Semaphore::new(policy.limit.clamp(1, Semaphore::MAX_PERMITS)));
        let numbered = AtomicU64::new(0);
        Self { model: model.to_owned(), policy, open: Arc::default(), places, ledger, numbered }
    }

    /// Where a sequence is one request: when that is over.
    pub fn iterations(&self) -> Option<&Iterations> {
        self.policy.iterations.as_ref()
    }

    /// True for inputs that no request gives.
    pub fn gives(&self, input: &str) -> bool {
        self.policy.controls.iter().any(|control| control.spec.name == input)
            || self.policy.states.iter().any(|state| state.input == input && state.row.is_some())
    }

    /// True for outputs that no answer has.
    pub fn keeps(&self, output: &str) -> bool {
        self.policy.states.iter().any(|state| state.output == output && !state.answered)
            || self.iterations().is_some_and(|iterations| iterations.keep(output))
    }

    /// The beginning of a sequence that nobody has a name for.
    pub fn unnamed(&self, tenant: u64) -> Step {
        // Control inputs of every type hold as much; none of so long ago is open.
        let number = self.numbered.fetch_add(1, Ordering::Relaxed) % i32::MAX as u64 + 1;
        Step { id: SequenceId { tenant, name: CorrelationId::Number(number) }, start: true, end: false }
    }

    /// Waits until the request is the next of its sequence.
    ///
    /// # Errors
    /// [`Error::Invalid`] for one that belongs to no sequence.
    pub async fn turn(&self, step: Step) -> Result<SequenceTurn<'_>, Error> {
        if matches!(&step.id.name, CorrelationId::Text(text) if text.len() > ID_BYTES) {
            return Err(Error::invalid(format!("the correlation id is longer than {ID_BYTES} bytes")));
        }
        let sequence = self.find(&step)?;
        let progress = sequence.progress.clone().lock_owned().await;
        let mut turn = SequenceTurn { sequences: self, sequence, progress, step, kept: false };
        if turn.step.start {
            turn.progress.states = States::default();
            if turn.progress.place.is_none() {
                turn.progress.place = Some(self.place().await?);
            }
        } else if turn.progress.place.is_none() {
            // What started it was given up, or another request ended it meanwhile.
            return Err(self.not_started(&turn.step.id));
        }
        turn.sequence.touch();
        Ok(turn)
    }

    fn find(&self, step: &Step) -> Result<Arc<Sequence>, Error> {
        let mut open = self.open.lock();
        if let Some(sequence) = open.sequences.get(&step.id)
            && (step.start || !sequence.is_idle(self.policy.idle))
        {
            sequence.touch();
            return Ok(sequence.clone());
        }
        if !step.start {
            open.sequences.remove(&step.id);
            return Err(self.not_started(&step.id));
        }
        let sequence = Arc::new(Sequence { progress: Arc::default(), touched: Mutex::new(Instant::now()) });
        // One that is a single request never pauses.
        if !open.is_watched && self.iterations().is_none() {
            open.is_watched = true;
            tokio::spawn(close_paused(Arc::downgrade(&self.open), self.policy.idle));
        }
        open.sequences.insert(step.id.clone(), sequence.clone());
        Ok(sequence)
    }

    fn not_started(&self, id: &SequenceId) -> Error {
        let model = &self.model;
        Error::invalid(format!(
            "sequence `{id}` of model `{model}` is not in progress: the first request of a sequence has \
             `sequence_start`, and a pause ends it after {:?}",
            self.policy.idle
        ))
    }

    /// A place for a new sequence; those that have paused for too long make room.
    async fn place(&self) -> Result<OwnedSemaphorePermit, Error> {
        // One wait for all looks: a new one would begin behind those who came later.
        let mut place = std::pin::pin!(self.places.clone().acquire_owned());
        loop {
            let next = self.open.close_idle(self.policy.idle);
            let look_again = next.unwrap_or(self.policy.idle).max(Duration::from_millis(1));
            if let Ok(place) = tokio::time::timeout(look_again, &mut place).await {
                return place.map_err(|_| Error::Stopping);
            }
        }
    }

    /// Takes memory for the states of a sequence that has some already.
    ///
    /// # Errors
    /// [`Error::Refused`] with the numbers; nothing has changed then.
    fn reserve(&self, states: &mut States, bytes: u64) -> Result<(), Error> {
        let memory = states.memory.get_or_insert_with(|| self.ledger.empty());
        memory.resize(bytes).map_err(|(budget, in_use)| {
            // Before long others have ended, or have paused for too long.
            let after = if bytes > budget { Duration::MAX } else { self.policy.idle };
            Refusal::new(&self.model, Why::States { needs: bytes, budget, in_use }, after).into()
        })
    }
}

/// Ends sequences once they have paused for too long, until there are none.
async fn close_paused(open: Weak<Open>, idle: Duration) {
    let mut wait = idle;
    loop {
        tokio::time::sleep(wait.max(Duration::from_millis(1))).await;
        let Some(open) = open.upgrade() else { return };
        wait = open.close_idle(idle).unwrap_or(idle);
        let mut open = open.lock();
        open.is_watched = !open.sequences.is_empty();
        if !open.is_watched {
            return;
        }
    }
}

impl Open {
    /// Ends the sequences that have paused for too long, and says when the next will have.
    fn close_idle(&self, idle: Duration) -> Option<Duration> {
        let mut open = self.lock();
        // One whose request is running or waiting has not paused.
        open.sequences.retain(|_, sequence| !sequence.is_idle(idle));
        let pausing = open.sequences.values().filter(|sequence| sequence.progress.try_lock().is_ok());
        pausing.map(|sequence| idle.saturating_sub(sequence.paused())).min()
    }

    fn lock(&self) -> MutexGuard<'_, Opened> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sequence {
    fn touch(&self) {
        *self.touched.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    fn paused(&self) -> Duration {
        self.touched.lock().unwrap_or_else(PoisonError::into_inner).elapsed()
    }

    fn is_idle(&self, idle: Duration) -> bool {
        self.progress.try_lock().is_ok() && self.paused() >= idle
    }
}

impl SequenceTurn<'_> {
    /// Bytes of memory beyond those that it has, for the states that it begins with.
    ///
    /// # Errors
    /// [`Error::Invalid`] for what is too large, or missing.
    pub fn more_to_begin(&self, inputs: &[Tensor]) -> Result<u64, Error> {
        Ok(self.progress.states.more(self.first_bytes(inputs)?))
    }

    fn first_bytes(&self, inputs: &[Tensor]) -> Result<u64, Error> {
        let rows = rows(inputs);
        let bytes = |state: &StateTensor| match inputs.iter().find(|tensor| tensor.name == state.input) {
            Some(given) => Ok(given.data.len() as u64),
            None => state.initial_size(rows).map(|(_, bytes)| bytes as u64),
        };
        self.sequences.policy.states.iter().map(bytes).sum()
    }

    /// Takes the states that a request gives out of its inputs.
    ///
    /// # Errors
    /// [`Error::Invalid`] for what is too large, or missing; [`Error::Refused`] where there is no memory for it.
    pub fn begin(&mut self, inputs: &mut Vec<Tensor>) -> Result<(), Error> {
        let rows = rows(inputs);
        let bytes = self.first_bytes(inputs)?;
        self.sequences.reserve(&mut self.progress.states, bytes)?;
        let mut states = Vec::with_capacity(self.sequences.policy.states.len());
        for state in &self.sequences.policy.states {
            let given = inputs.iter().position(|tensor| tensor.name == state.input);
            states.push(match given {
                Some(at) => inputs.swap_remove(at),
                None => state.initial(rows)?,
            });
        }
        self.progress.states.tensors = states;
        Ok(())
    }

    /// Says where in its sequence the next run is.
    pub fn stands(&mut self, start: bool, end: bool) {
        (self.step.start, self.step.end) = (start, end);
    }

    /// Adds what the server gives to a request's inputs.
    ///
    /// # Errors
    /// [`Error::Invalid`] for other rows than the sequence began with, for more than there can be, and for an id that
    /// its input cannot hold.
    pub fn add(&self, inputs: &mut Vec<Tensor>) -> Result<(), Error> {
        let rows = rows(if inputs.is_empty() { &self.progress.states.tensors } else { inputs });
        for control in &self.sequences.policy.controls {
            inputs.push(self.control(control, rows)?);
        }
        if !self.progress.states.tensors.is_empty() {
            let kept = self.progress.states.tensors.iter().zip(&self.sequences.policy.states);
            for (tensor, _) in kept.clone().filter(|(_, state)| state.batched) {
                if tensor.dims.first() != Some(&rows) {
                    let found = tensor.dims.first().copied().unwrap_or_default();
                    let id = &self.step.id;
                    return Err(Error::invalid(format!(
                        "sequence `{id}` has {found} rows, this request {rows}"
                    )));
                }
            }
            inputs.extend(kept.map(|(tensor, _)| tensor.clone()));
            return Ok(());
        }
        for state in &self.sequences.policy.states {
            inputs.push(state.initial(rows)?);
        }
        Ok(())
    }

    fn control(&self, control: &ControlInput, rows: u64) -> Result<Tensor, Error> {
        let TensorSpec { name, dtype, dims } = &control.spec;
        let size = |(at, dim): (usize, &DimSpec)| match dim {
            DimSpec::Static(size) => *size,
            DimSpec::Symbolic { .. } if at == 0 => rows,
            DimSpec::Symbolic { .. } => 1,
        };
        let dims: Vec<u64> = dims.iter().enumerate().map(size).collect();
        let choose =
            |chosen: bool, no: &Vec<u8>, yes: &Vec<u8>| if chosen { yes.clone() } else { no.clone() };
        let element = match &control.value {
            ControlValue::Start { no, yes } => choose(self.step.start, no, yes),
            ControlValue::End { no, yes } => choose(self.step.end, no, yes),
            ControlValue::Ready { yes } => yes.clone(),
            ControlValue::Correlation => self.step.id.name.encode(*dtype).ok_or_else(|| {
                let id = &self.step.id;
                Error::invalid(format!(
                    "correlation id `{id}` does not fit control input `{name}`, which is {dtype}"
                ))
            })?,
        };
        let fits = |count: &u64| {
            let bytes = count.checked_mul(element.len() as u64);
            bytes.is_some_and(|bytes| bytes <= CONTROL_BYTES)
        };
        let count = texts::elements(&dims).filter(fits).ok_or_else(|| {
            Error::invalid(format!(
                "control input `{name}` of {rows} rows takes more than {CONTROL_BYTES} bytes"
            ))
        })?;
        Ok(Tensor { name: name.clone(), dtype: *dtype, dims, data: element.repeat(count as usize).into() })
    }

    /// Bytes of memory beyond those that it has, for the states among these outputs.
    pub fn more_to_keep(&self, outputs: &[Tensor]) -> u64 {
        self.progress.states.more(self.next_bytes(outputs))
    }

    fn next_bytes(&self, outputs: &[Tensor]) -> u64 {
        let is_state = |name: &str| self.sequences.policy.states.iter().any(|state| state.output == name);
        outputs.iter().filter(|tensor| is_state(&tensor.name)).map(|tensor| tensor.data.len() as u64).sum()
    }

    /// Takes the states out of a request's outputs and keeps them.
    ///
    /// # Errors
    /// [`Error::Refused`] where there is no memory for them; the sequence is where it was before the request then.
    pub fn keep(&mut self, outputs: &mut Vec<Tensor>) -> Result<(), Error> {
        let bytes = self.next_bytes(outputs);
        self.sequences.reserve(&mut self.progress.states, bytes)?;
        self.progress.states.tensors.clear();
        for state in &self.sequences.policy.states {
            let Tensor { name, dtype, dims, data } = take_output(outputs, &state.output)?;
            // A copy: the worker's memory is not held through a pause.
            let data: TensorData = data.to_vec().into();
            if state.answered {
                outputs.push(Tensor { name, dtype, dims: dims.clone(), data: data.clone() });
            }
            self.progress.states.tensors.push(Tensor { name: state.input.clone(), dtype, dims, data });
        }
        self.kept = true;
        Ok(())
    }
}

impl States {
    /// What so many bytes are beyond those that are there.
    fn more(&self, bytes: u64) -> u64 {
        bytes.saturating_sub(self.memory.as_ref().map_or(0, Reservation::bytes))
    }
}

impl Drop for SequenceTurn<'_> {
    fn drop(&mut self) {
        self.sequence.touch();
        let never_started = self.progress.place.is_none() || self.step.start && !self.kept;
        let over = self.step.end || never_started || self.sequences.iterations().is_some();
        if over {
            self.progress.place = None;
            self.progress.states = States::default();
            let mut open = self.sequences.open.lock();
            // Another request may have started it anew, or wait to: then it stays.
            let alone = Arc::strong_count(&self.sequence) <= 2;
            let known = open.sequences.get(&self.step.id);
            if alone && known.is_some_and(|known| Arc::ptr_eq(known, &self.sequence)) {
                open.sequences.remove(&self.step.id);
            }
        }
    }
}

impl CorrelationId {
    fn encode(&self, dtype: DType) -> Option<Vec<u8>> {
        let number = match self {
            Self::Number(number) => Some(*number),
            Self::Text(text) => text.parse().ok(),
        };
        Some(match dtype {
            DType::I32 => i32::try_from(number?).ok()?.to_le_bytes().to_vec(),
            DType::U32 => u32::try_from(number?).ok()?.to_le_bytes().to_vec(),
            DType::I64 => i64::try_from(number?).ok()?.to_le_bytes().to_vec(),
            DType::U64 => number?.to_le_bytes().to_vec(),
            DType::String => {
                let mut bytes = Vec::new();
                let text = match self {
                    Self::Number(number) => number.to_string(),
                    Self::Text(text) => text.clone(),
                };
                texts::push(&mut bytes, text.as_bytes()).then_some(bytes)?
            }
            _ => return None,
        })
    }
}

/// The rows of the first of some tensors, where it has any.
fn rows(tensors: &[Tensor]) -> u64 {
    tensors.first().and_then(|tensor| tensor.dims.first()).copied().unwrap_or(1)
}

impl StateTensor {
    fn initial(&self, rows: u64) -> Result<Tensor, Error> {
        let (dims, bytes) = self.initial_size(rows)?;
        Ok(Tensor { name: self.input.clone(), dtype: self.dtype, dims, data: vec![0; bytes].into() })
    }

    /// Its shape and bytes at the start.
    fn initial_size(&self, rows: u64) -> Result<(Vec<u64>, usize), Error> {
        let given = || Error::invalid(format!("input `{}` is missing", self.input));
        let mut dims = self.row.clone().ok_or_else(given)?;
        if self.batched {
            dims.insert(0, rows);
        }
        // Of a string the length, which is four bytes.
        let bits = if self.dtype == DType::String { 32 } else { self.dtype.bits() };
        let bytes = texts::elements(&dims)
            .and_then(|elements| elements.checked_mul(bits))
            .map(|bits| bits.div_ceil(8));
        let bytes = bytes.and_then(|bytes| usize::try_from(bytes).ok()).filter(|&bytes| bytes <= STATE_BYTES);
        let too_large = || Error::invalid(format!("state `{}` of {rows} rows is too large", self.input));
        Ok((dims, bytes.ok_or_else(too_large)?))
    }
}
