//! Hearing a process. The supervision hears it whenever it says something; who waits for an answer that comes at once
//! listens, too, for a moment: to be woken takes tens of microseconds, which is what a small model takes as a whole.

use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::io::unix::AsyncFd;

use super::connection::Connection;
use super::shared::Shared;
use crate::channel::ChannelError;
use crate::channel::asynchronous::Receiver;
use crate::messages::runtime::FromRuntime;

/// One process's end of the channel, which whoever listens hears for all.
#[derive(Debug)]
pub(super) struct Ear {
    connection: Arc<Connection>,
    socket: Arc<AsyncFd<OwnedFd>>,
    heard: Mutex<Heard>,
}

#[derive(Debug)]
struct Heard {
    receiver: Receiver,
    /// How it ended.
    end: Option<End>,
}

#[derive(Clone, Debug)]
enum End {
    Closed,
    /// By breaking the protocol.
    Wrong(String),
}

impl Ear {
    pub(super) fn new(receiver: Receiver, connection: Arc<Connection>) -> Self {
        let socket = receiver.socket();
        Self { connection, socket, heard: Mutex::new(Heard { receiver, end: None }) }
    }

    /// Hears the process until it closes the channel (`None`) or breaks the protocol.
    pub(super) async fn hear(&self, shared: &Shared) -> Option<String> {
        loop {
            match self.take_in(self.lock(), shared) {
                None => {}
                Some(End::Closed) => return None,
                Some(End::Wrong(wrong)) => return Some(format!("protocol: {wrong}")),
            }
            match self.socket.readable().await {
                // What is said from here on makes it ready again.
                Ok(mut ready) => ready.clear_ready(),
                Err(error) => return Some(format!("protocol: {error}")),
            }
        }
    }

    /// Hears what the process has said already, unless somebody else does.
    pub(super) fn listen(&self, shared: &Shared) {
        if let Ok(heard) = self.heard.try_lock() {
            self.take_in(heard, shared);
        }
    }

    /// Hears nothing any more: what the process was asked may be asked of another from here on.
    pub(super) fn stop(&self) {
        self.lock().end.get_or_insert(End::Closed);
    }

    fn take_in(&self, mut heard: MutexGuard<'_, Heard>, shared: &Shared) -> Option<End> {
        while heard.end.is_none() {
            let taken = match heard.receiver.receive_ready() {
                Ok(Some((message, fds))) => self.accept(shared, message, &fds).map_err(End::Wrong),
                Ok(None) => return None,
                Err(ChannelError::Closed) => Err(End::Closed),
                Err(error) => Err(End::Wrong(error.to_string())),
            };
            heard.end = taken.err();
        }
        heard.end.clone()
    }

    fn accept(&self, shared: &Shared, message: FromRuntime, fds: &[OwnedFd]) -> Result<(), String> {
        match message {
            FromRuntime::Region { region, len } => self.connection.add_region(region, len, fds),
            FromRuntime::Forget { region } => {
                self.connection.forget_region(region);
                Ok(())
            }
            FromRuntime::Answer { id, answer } => {
                let outcome = match answer {
                    Ok(answer) => Ok(self.connection.accept(answer)?),
                    Err(failure) => Err(failure),
                };
                shared.answer(id, outcome)
            }
            FromRuntime::Loaded(_) | FromRuntime::Probed(_) => {
                Err("an answer that nobody asked for".to_owned())
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
