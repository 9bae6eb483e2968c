//! Messages from the parent: memory and cancellations are dealt with as they come, requests wait for a runner.
//!
//! Whichever runner is free reads; the one that read a request runs it itself, so that a lone request never changes
//! threads.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, bail};
use ired_worker::child::{ChannelError, Receiver, Sender, Tensors};
use ired_worker::messages::runtime::{FromRuntime, Moment, TensorRef, ToRuntime};
use ired_worker::{BenchRequest, RuntimeFailure};

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
}

struct State {
    receiver: Receiver,
    waiting: VecDeque<Request>,
    closed: bool,
}

impl Inbox {
    pub(crate) fn new(receiver: Receiver, sender: Sender, tensors: Arc<Tensors>) -> Self {
        let state = State { receiver, waiting: VecDeque::new(), closed: false };
        Self { sender, tensors, state: Mutex::new(state) }
    }

    /// The oldest request that is still wanted; waits for one. `None` when the parent closed the channel.
    pub(crate) fn next(&self) -> anyhow::Result<Option<Request>> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        while !state.closed {
            // All that is there, so that a cancellation overtakes the requests before its own.
            while let Some((message, fds)) = state.receive_ready()? {
                self.accept(&mut state, message, &fds)?;
            }
            if let Some(request) = state.waiting.pop_front() {
                return Ok(Some(request));
            }
            if let Some((message, fds)) = state.receive()? {
                self.accept(&mut state, message, &fds)?;
            }
        }
        Ok(None)
    }

    fn accept(&self, state: &mut State, message: ToRuntime, fds: &[OwnedFd]) -> anyhow::Result<()> {
        let request = match message {
            ToRuntime::Infer { id, entry, inputs, sent, deadline, profile } => {
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
            ToRuntime::Release(place) => {
                self.tensors.release(place);
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

type Message = (ToRuntime, Vec<OwnedFd>);

impl State {
    fn receive_ready(&mut self) -> anyhow::Result<Option<Message>> {
        let received = self.receiver.receive_ready();
        self.unless_closed(received).map(Option::flatten)
    }

    fn receive(&mut self) -> anyhow::Result<Option<Message>> {
        let received = self.receiver.receive();
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
