//! The child's end: reads and writes block, any thread may send.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::net::RecvFlags;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{ChannelError, Incoming, encode, receive_some, send_some};

/// The receiving half; one reader at a time.
#[derive(Debug)]
pub struct Receiver {
    socket: Arc<OwnedFd>,
    incoming: Incoming,
}

/// The sending half. Cheap to clone; messages of different threads never mix.
#[derive(Clone, Debug)]
pub struct Sender {
    socket: Arc<OwnedFd>,
    turn: Arc<Mutex<()>>,
}

/// Splits a connected socket into its halves.
pub(crate) fn split(socket: OwnedFd) -> (Sender, Receiver) {
    let socket = Arc::new(socket);
    let sender = Sender { socket: Arc::clone(&socket), turn: Arc::default() };
    (sender, Receiver { socket, incoming: Incoming::default() })
}

impl Receiver {
    /// Waits for the next message.
    pub fn receive<T: DeserializeOwned>(&mut self) -> Result<(T, Vec<OwnedFd>), ChannelError> {
        loop {
            if let Some(message) = self.incoming.next()? {
                return Ok(message);
            }
            self.fill()?;
        }
    }

    /// The next message if it is there already.
    pub fn receive_ready<T: DeserializeOwned>(&mut self) -> Result<Option<(T, Vec<OwnedFd>)>, ChannelError> {
        self.incoming.next_ready(self.socket.as_fd())
    }

    /// Waits for the next message and leaves it encoded.
    pub(crate) fn receive_bytes(&mut self) -> Result<Vec<u8>, ChannelError> {
        loop {
            if let Some(bytes) = self.incoming.next_bytes()? {
                return Ok(bytes);
            }
            self.fill()?;
        }
    }

    fn fill(&mut self) -> Result<(), ChannelError> {
        match receive_some(self.socket.as_fd(), &mut self.incoming, RecvFlags::empty()) {
            Ok(0) => Err(ChannelError::Closed),
            Ok(_) => Ok(()),
            Err(ChannelError::Io(error)) if error.kind() == std::io::ErrorKind::Interrupted => Ok(()),
            Err(error) => Err(error),
        }
    }
}

impl Sender {
    /// Sends one message; blocks while the parent does not read.
    pub fn send(&self, message: &impl Serialize, fds: &[OwnedFd]) -> Result<(), ChannelError> {
        let frame = encode(message, fds.len())?;
        let _turn = self.turn.lock().unwrap_or_else(PoisonError::into_inner);
        let mut sent = 0;
        while sent < frame.len() {
            let fds = if sent == 0 { fds } else { &[] };
            match send_some(self.socket.as_fd(), &frame[sent..], fds) {
                Ok(bytes) => sent += bytes,
                Err(rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(())
    }
}
