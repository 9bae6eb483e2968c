//! What callers and the supervision share: the requests in flight and the process that serves them, if one does.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, oneshot};
use tokio::time::{sleep, timeout, timeout_at};

use super::attention::{Attention, InFlight};
use super::connection::{Bound, Call, Connection, Reply};
use super::supervise::Start;
use crate::messages::runtime::{LoadedModule, RuntimeFailure, TensorRef};
use crate::messages::sandbox::SandboxReport;
use crate::region::{Pool, SharedBuffer};
use crate::tensor::{InputBuffer, Tensor};
use ired_module::{DType, texts};

/// How often a request is sent before a dying process makes it fail.
const TRIES: u32 = 2;

/// How long memory is kept for inputs to come.
const KEPT_FOR: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) start: Start,
    pub(super) loaded: LoadedModule,
    /// Told when the worker shall end.
    pub(super) closing: Notify,
    serving: Notify,
    /// Told when a request that nobody waits for any more keeps the process busy.
    abandoned: Notify,
    /// Told of every request.
    asked: Notify,
    pool: Pool,
    attention: Attention,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    phase: Phase,
    /// In the order in which the process takes them.
    in_flight: BTreeMap<u64, Request>,
    next_id: u64,
    /// Processes started so far, the first included.
    starts: u64,
    sandbox: SandboxReport,
}

#[derive(Debug)]
enum Phase {
    /// A process is being started; requests wait for it.
    Starting,
    Serving {
        connection: Arc<Connection>,
        pid: u32,
    },
    /// Processes keep dying; requests fail until the next one is tried.
    Down {
        reason: String,
    },
    Closed,
}

#[derive(Debug)]
struct Request {
    call: Call,
    deadline: Option<Instant>,
    /// `None` once nobody waits any more. The entry stays until the process has answered: it may still read the inputs.
    reply: Option<oneshot::Sender<Result<Reply, RuntimeFailure>>>,
    tries: u32,
    /// Since when the process works on it although nobody waits any more.
    abandoned: Option<Instant>,
}

impl State {
    /// Notes the requests that the process must be working on although nobody waits for them; whether any is new.
    ///
    /// A process takes requests in their order, and reads a cancellation no later than it takes the next request. So
    /// what has fewer than `runners` requests before it runs, or is about to be answered; what has more may wait behind
    /// work that is wanted, which is not its fault.
    fn note_abandoned(&mut self, runners: usize) -> bool {
        let mut any = false;
        for request in self.in_flight.values_mut().take(runners) {
            if request.reply.is_none() && request.abandoned.is_none() {
                request.abandoned = Some(Instant::now());
                any = true;
            }
        }
        any
    }
}

impl Request {
    fn finish(self, outcome: Result<Reply, RuntimeFailure>) {
        if let Some(reply) = self.reply {
            // Nobody waiting any more is not an error.
            let _ = reply.send(outcome);
        }
    }
}

impl Shared {
    pub(super) fn new(start: Start, loaded: LoadedModule) -> Self {
        let state = State {
            phase: Phase::Starting,
            in_flight: BTreeMap::new(),
            next_id: 0,
            starts: 0,
            sandbox: SandboxReport::default(),
        };
        Self {
            start,
            loaded,
            closing: Notify::new(),
            serving: Notify::new(),
            abandoned: Notify::new(),
            asked: Notify::new(),
            pool: Pool::default(),
            attention: Attention::default(),
            state: Mutex::new(state),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn pid(&self) -> Option<u32> {
        match self.lock().phase {
            Phase::Serving { pid, .. } => Some(pid),
            _ => None,
        }
    }

    pub(super) fn restarts(&self) -> u64 {
        self.lock().starts.saturating_sub(1)
    }

    pub(super) fn sandbox(&self) -> SandboxReport {
        self.lock().sandbox.clone()
    }

    pub(super) fn buffer(&self, len: usize) -> Result<InputBuffer, RuntimeFailure> {
        self.pool.take(len).map_err(|error| match error.kind() {
            std::io::ErrorKind::OutOfMemory => {
                RuntimeFailure::OutOfMemory { needed_bytes: len as u64, limit_bytes: 0 }
            }
            _ => RuntimeFailure::Unavailable { reason: format!("shared memory: {error}") },
        })
    }

    /// Puts inputs into shared memory; those that lie there already are not copied.
    pub(super) fn bind(&self, inputs: Vec<Tensor>) -> Result<Vec<Bound>, RuntimeFailure> {
        inputs.into_iter().map(|input| self.bind_one(input)).collect()
    }

    fn bind_one(&self, input: Tensor) -> Result<Bound, RuntimeFailure> {
        let Tensor { name, dtype, dims, data } = input;
        if !texts::is_tensor(dtype, &dims, &data) {
            let expected = match (dtype, dtype.tensor_bytes(&dims)) {
                (DType::String, _) => "a string with its length for each element".to_owned(),
                (_, Some(bytes)) => format!("{bytes} bytes"),
                (_, None) => "less than 2^64 bytes".to_owned(),
            };
            let found = format!("{} bytes", data.len());
            let expected = format!("{expected} for {dtype}{dims:?}");
            return Err(RuntimeFailure::InvalidInput { tensor: name, found, expected });
        }
        let ours = data.as_shared().filter(|buffer| buffer.pool().is_same(&self.pool));
        let buffer: Arc<SharedBuffer> = match ours {
            Some(buffer) => Arc::clone(buffer),
            None => {
                let mut buffer = self.buffer(data.len())?;
                buffer.copy_from_slice(&data);
                Arc::new(buffer)
            }
        };
        let tensor = TensorRef { name, dtype, dims, place: buffer.place() };
        Ok(Bound { tensor, buffer })
    }

    /// Sends a request and waits for its reply.
    pub(super) async fn request(
        &self,
        call: Call,
        deadline: Option<Instant>,
    ) -> Result<Reply, RuntimeFailure> {
        if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
            return Err(RuntimeFailure::DeadlineExceeded);
        }
        let in_flight = InFlight::enter();
        let (id, mut reply) = self.submit(call, deadline, in_flight.idle)?;
        let sent = Instant::now();
        // Dropped when the caller goes or the deadline passes; harmless after an answer.
        let _cancel = Cancel { shared: self, id };
        let looked_out = if in_flight.idle { self.look_out(&mut reply, sent) } else { None };
        let answered = match looked_out {
            Some(answered) => answered,
            None => self.wait(reply, deadline).await,
        };
        if let Ok(Reply::Infer { timing, .. }) = &answered {
            self.attention.note(timing);
        }
        answered
    }

    /// Waits for an answer as long as it pays not to sleep.
    fn look_out(
        &self,
        reply: &mut oneshot::Receiver<Result<Reply, RuntimeFailure>>,
        sent: Instant,
    ) -> Option<Result<Reply, RuntimeFailure>> {
        let patience = self.attention.patience()?;
        let connection = match &self.lock().phase {
            Phase::Serving { connection, .. } => Arc::clone(connection),
            _ => return None,
        };
        self.attention.lookout.look_out(sent, patience, || {
            connection.listen(self);
            reply.try_recv().ok()
        })
    }

    async fn wait(
        &self,
        reply: oneshot::Receiver<Result<Reply, RuntimeFailure>>,
        deadline: Option<Instant>,
    ) -> Result<Reply, RuntimeFailure> {
        let answered = match deadline {
            Some(deadline) => match timeout_at(deadline.into(), reply).await {
                Ok(answered) => answered,
                Err(_) => return Err(RuntimeFailure::DeadlineExceeded),
            },
            None => reply.await,
        };
        answered.unwrap_or_else(|_| Err(unavailable("the worker was shut down")))
    }

    fn submit(
        &self,
        call: Call,
        deadline: Option<Instant>,
        attentive: bool,
    ) -> Result<(u64, oneshot::Receiver<Result<Reply, RuntimeFailure>>), RuntimeFailure> {
        let mut state = self.lock();
        let limit = self.start.config.queue_limit;
        if state.in_flight.len() >= limit {
            return Err(RuntimeFailure::Overloaded { limit });
        }
        let id = state.next_id;
        let mut tries = 0;
        match &state.phase {
            Phase::Starting => {}
            Phase::Serving { connection, .. } => {
                tries = 1;
                match connection.send_call(id, &call, deadline, attentive, &self.pool) {
                    Ok(()) => {}
                    // The process just died: the supervision is about to notice and to send this again.
                    Err(crate::channel::ChannelError::Closed) => tries = 0,
                    Err(crate::channel::ChannelError::Full { .. }) => {
                        return Err(RuntimeFailure::Overloaded { limit: state.in_flight.len() });
                    }
                    Err(error) => return Err(RuntimeFailure::Protocol { message: error.to_string() }),
                }
            }
            Phase::Down { reason } => return Err(unavailable(reason)),
            Phase::Closed => return Err(unavailable("the worker was shut down")),
        }
        let (reply, answer) = oneshot::channel();
        state.next_id += 1;
        state.in_flight.insert(id, Request { call, deadline, reply: Some(reply), tries, abandoned: None });
        self.asked.notify_one();
        Ok((id, answer))
    }

    fn cancel(&self, id: u64) {
        let mut state = self.lock();
        let State { phase, in_flight, .. } = &mut *state;
        let Some(request) = in_flight.get_mut(&id) else { return };
        request.reply = None;
        match phase {
            Phase::Serving { connection, .. } => connection.send_cancel(id),
            _ => drop(in_flight.remove(&id)),
        }
        self.note_abandoned(&mut state);
    }

    fn note_abandoned(&self, state: &mut State) {
        if state.note_abandoned(self.start.runners()) {
            self.abandoned.notify_one();
        }
    }

    /// Returns when the process has worked for `grace` on a request that nobody waits for.
    pub(super) async fn runaway(&self, grace: Duration) {
        loop {
            let oldest = self.lock().in_flight.values().filter_map(|request| request.abandoned).min();
            match oldest {
                Some(since) if since.elapsed() >= grace => return,
                Some(since) => {
                    // Woken or not, the oldest is looked up again: it may have been answered.
                    let _ = timeout(grace.saturating_sub(since.elapsed()), self.abandoned.notified()).await;
                }
                None => self.abandoned.notified().await,
            }
        }
    }

    /// Gives memory for inputs back each time when requests have come and then none for a while.
    pub(super) async fn give_back_when_idle(&self, connection: &Connection) -> Infallible {
        loop {
            self.asked.notified().await;
            let mut seen = None;
            loop {
                let now = self.asked_when_idle();
                if now.is_some() && now == seen {
                    break;
                }
                seen = now;
                sleep(KEPT_FOR).await;
            }
            connection.free_kept(&self.pool);
        }
    }

    /// How many requests there were, where none is in flight.
    fn asked_when_idle(&self) -> Option<u64> {
        let state = self.lock();
        Some(state.next_id).filter(|_| state.in_flight.is_empty())
    }

    /// Hands an answer to whoever waits for it.
    pub(super) fn answer(&self, id: u64, outcome: Result<Reply, RuntimeFailure>) -> Result<(), String> {
        let mut state = self.lock();
        let request = state.in_flight.remove(&id);
        self.note_abandoned(&mut state);
        drop(state);
        request.ok_or_else(|| format!("an answer to request {id}, which is not in flight"))?.finish(outcome);
        Ok(())
    }

    /// A process is ready: everything in flight goes to it.
    pub(super) fn serve(&self, connection: Arc<Connection>, pid: u32, sandbox: SandboxReport) {
        let mut state = self.lock();
        if matches!(state.phase, Phase::Closed) {
            return;
        }
        let mut failed = Vec::new();
        for (id, request) in &mut state.in_flight {
            request.tries += 1;
            match connection.send_call(*id, &request.call, request.deadline, false, &self.pool) {
                // A process that died again is noticed by the supervision.
                Ok(()) | Err(crate::channel::ChannelError::Closed) => {}
                Err(error) => failed.push((*id, error.to_string())),
            }
        }
        for (id, reason) in failed {
            if let Some(request) = state.in_flight.remove(&id) {
                request.finish(Err(unavailable(&reason)));
            }
        }
        state.starts += 1;
        state.sandbox = sandbox;
        state.phase = Phase::Serving { connection, pid };
        self.serving.notify_waiters();
    }

    /// The process died: what was sent often enough fails, the rest waits for the next process.
    pub(super) fn lost(&self, reason: &str) {
        let mut state = self.lock();
        if !matches!(state.phase, Phase::Closed) {
            state.phase = Phase::Starting;
        }
        let over = |request: &Request| request.reply.is_none() || request.tries >= TRIES;
        let failed: Vec<Request> =
            state.in_flight.extract_if(.., |_, request| over(request)).map(|(_, r)| r).collect();
        drop(state);
        failed.into_iter().for_each(|request| request.finish(Err(unavailable(reason))));
    }

    /// Processes keep dying: everything fails until the next one is tried after `pause`.
    pub(super) fn down(&self, reason: &str, pause: Duration) {
        self.fail_all(&format!("{reason}; next start in {pause:?}"), |reason| Phase::Down { reason });
    }

    /// The pause is over: requests may wait again.
    pub(super) fn starting(&self) {
        let mut state = self.lock();
        if !matches!(state.phase, Phase::Closed) {
            state.phase = Phase::Starting;
        }
    }

    /// Fails everything, now and from now on.
    pub(super) fn close(&self) {
        self.fail_all("the worker was shut down", |_| Phase::Closed);
        self.closing.notify_one();
    }

    fn fail_all(&self, reason: &str, phase: impl FnOnce(String) -> Phase) {
        let mut state = self.lock();
        if !matches!(state.phase, Phase::Closed) {
            state.phase = phase(reason.to_owned());
        }
        let failed = std::mem::take(&mut state.in_flight);
        drop(state);
        failed.into_values().for_each(|request| request.finish(Err(unavailable(reason))));
    }

    /// Returns when a process serves, or none will.
    pub(super) async fn wait_until_serving(&self) {
        loop {
            let notified = self.serving.notified();
            if !matches!(self.lock().phase, Phase::Starting) {
                return;
            }
            notified.await;
        }
    }
}

fn unavailable(reason: &str) -> RuntimeFailure {
    RuntimeFailure::Unavailable { reason: reason.to_owned() }
}

struct Cancel<'a> {
    shared: &'a Shared,
    id: u64,
}

impl Drop for Cancel<'_> {
    fn drop(&mut self) {
        self.shared.cancel(self.id);
    }
}
