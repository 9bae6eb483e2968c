//! Messages from the parent: memory and cancellations are dealt with as they come, requests wait for a runner.
//!
//! Whichever runner is free reads; the one that read a request runs it itself, so that a lone request never changes
//! threads. Where requests are brief, it goes on to be the one that reads: to wake another for that would take longer.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use ired_worker::child::{ChannelError, Receiver, Sender, Tensors};
use ired_worker::messages::runtime::{FromRuntime, Moment, TensorRef, ToRuntime};
use ired_worker::{BenchRequest, Lookout, RuntimeFailure};

/// How long to look out for a request that comes at once: to be woken takes a part of that.
const ATTENTION: Duration = Duration::from_micros(200);

/// A request that waits for a runner.
#[derive(Debug)]
pub(crate) enum Request {
    Infer(Infer),
    Bench { id: u64, entry: String, inputs: Vec<TensorRef>, request: BenchRequest },
    Peak { id: u64, entry: String, dims: Vec<Vec<u64>> },
    Usage { id: u64 },
}

#[derive(Debug)]
pub(crate) struct Infer {
    pub(crate) id: u64,
    pub(crate) entry: String,
    pub(crate) inputs: Vec<TensorRef>,
    pub(crate) sent: Moment,
    pub(crate) deadline: Option<Moment>,
    pub(crate) profile: bool,
}

impl Request {
    fn id(&self) -> u64 {
        match self {
            Self::Infer(infer) => infer.id,
            Self::Bench { id, .. } | Self::Peak { id, .. } | Self::Usage { id } => *id,
        }
    }
}

pub(crate) struct Inbox {
    sender: Sender,
    tensors: Arc<Tensors>,
    state: Mutex<State>,
    turn: Mutex<Turn>,
    free: Condvar,
}

struct State {
    receiver: Receiver,
    waiting: VecDeque<Request>,
    closed: bool,
    /// Whether to look out for the next message before sleeping.
    attentive: bool,
    lookout: Lookout,
    /// How long it was until the last one came.
    pause: Duration,
}

/// Who may read.
#[derive(Default)]
struct Turn {
    /// Of this number is the turn of whoever has it.
    number: u64,
    taken: bool,
    /// Whether whoever has it runs a request meanwhile.
    kept: bool,
}

impl Inbox {
    pub(crate) fn new(receiver: Receiver, sender: Sender, tensors: Arc<Tensors>) -> Self {
        let state = State {
            receiver,
            waiting: VecDeque::new(),
            closed: false,
            attentive: false,
            lookout: Lookout::default(),
            pause: Duration::MAX,
        };
        Self { sender, tensors, state: Mutex::new(state), turn: Mutex::default(), free: Condvar::new() }
    }

    /// Waits for the turn to read.
    pub(crate) fn read(&self) -> Reading<'_> {
        let number = self.take_turn(lock(&self.turn));
        Reading { inbox: self, number }
    }

    fn take_turn(&self, turn: MutexGuard<'_, Turn>) -> u64 {
        let waited = self.free.wait_while(turn, |turn| turn.taken);
        let mut turn = waited.unwrap_or_else(PoisonError::into_inner);
        *turn = Turn { number: turn.number + 1, taken: true, kept: false };
        turn.number
    }

    /// Takes the turn from a runner that has kept it while it runs a request.
    pub(crate) fn pass_on(&self) {
        let mut turn = lock(&self.turn);
        if turn.kept {
            *turn = Turn { number: turn.number + 1, ..Turn::default() };
            self.free.notify_one();
        }
    }

    fn accept(&self, state: &mut State, message: ToRuntime, fds: &[OwnedFd]) -> anyhow::Result<()> {
        let request = match message {
            ToRuntime::Infer { id, entry, inputs, sent, deadline, profile, attentive } => {
                state.attentive = attentive;
                Request::Infer(Infer { id, entry, inputs, sent, deadline, profile })
            }
            ToRuntime::Bench { id, entry, inputs, request } => Request::Bench { id, entry, inputs, request },
            ToRuntime::Peak { id, entry, dims } => Request::Peak { id, entry, dims },
            ToRuntime::Usage { id } => Request::Usage { id },
            ToRuntime::Cancel { id } => return self.cancel(state, id),
            ToRuntime::Region { region, len } => return Ok(self.tensors.add_region(region, len, fds)?),
            ToRuntime::Forget { region } => {
                self.tensors.forget_region(region);
                return Ok(());
            }
            ToRuntime::Release(places) => {
                places.into_iter().for_each(|place| self.tensors.release(place));
                return Ok(());
            }
            ToRuntime::Load(_) | ToRuntime::Probe(_) => bail!("a first message in the middle"),
        };
        state.waiting.push_back(request);
        Ok(())
    }

    /// Answers a request that nobody wants any more, if it has not been started: one that has runs to its end.
    fn cancel(&self, state: &mut State, id: u64) -> anyhow::Result<()> {
        if let Some(at) = state.waiting.iter().position(|request| request.id() == id) {
            state.waiting.remove(at);
            self.sender.send(&FromRuntime::Answer { id, answer: Err(RuntimeFailure::Cancelled) }, &[])?;
        }
        Ok(())
    }
}

/// The turn to read, which others have after its end.
pub(crate) struct Reading<'a> {
    inbox: &'a Inbox,
    number: u64,
}

impl Reading<'_> {
    /// The oldest request that is still wanted; waits for one. `None` when the parent closed the channel.
    pub(crate) fn next(&mut self) -> anyhow::Result<Option<Request>> {
        self.take_back();
        let mut state = lock(&self.inbox.state);
        while !state.closed {
            if state.waiting.is_empty()
                && let Some((message, fds)) = state.receive()?
            {
                self.inbox.accept(&mut state, message, &fds)?;
            }
            // All that is there, so that a cancellation overtakes the requests before its own.
            while let Some((message, fds)) = state.receive_ready()? {
                self.inbox.accept(&mut state, message, &fds)?;
            }
            if let Some(request) = state.waiting.pop_front() {
                return Ok(Some(request));
            }
        }
        Ok(None)
    }

    /// Keeps the turn while a request runs, unless there are more than `queue` for another runner. [`Inbox::pass_on`]
    /// ends that.
    pub(crate) fn keep(&mut self, queue: usize) -> bool {
        let few = lock(&self.inbox.state).waiting.len() <= queue;
        let mut turn = lock(&self.inbox.turn);
        turn.kept = few && turn.number == self.number;
        turn.kept
    }

    fn take_back(&mut self) {
        let mut turn = lock(&self.inbox.turn);
        match turn.number == self.number {
            true => turn.kept = false,
            false => self.number = self.inbox.take_turn(turn),
        }
    }
}

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        let mut turn = lock(&self.inbox.turn);
        if turn.number == self.number {
            *turn = Turn { number: turn.number, ..Turn::default() };
            self.inbox.free.notify_one();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

type Message = (ToRuntime, Vec<OwnedFd>);

impl State {
    fn receive_ready(&mut self) -> anyhow::Result<Option<Message>> {
        let received = self.receiver.receive_ready();
        self.unless_closed(received).map(Option::flatten)
    }

    fn receive(&mut self) -> anyhow::Result<Option<Message>> {
        let since = Instant::now();
        if self.attentive && self.pause <= ATTENTION {
            let Self { receiver, lookout, .. } = self;
            let look = || receiver.receive_ready().transpose();
            if let Some(received) = lookout.look_out(since, ATTENTION, look) {
                self.pause = since.elapsed();
                return self.unless_closed(received);
            }
        }
        let received = self.receiver.receive();
        self.pause = since.elapsed();
        self.unless_closed(received)
    }

    fn unless_closed<T>(&mut self, received: Result<T, ChannelError>) -> anyhow::Result<Option<T>> {
        match received {
            Err(ChannelError::Closed) => {
                self.closed = true;
                Ok(None)
            }
            received => received.map(Some).context("a message"),
        }
    }
}
