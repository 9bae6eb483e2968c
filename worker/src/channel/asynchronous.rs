//! The parent's end: reads await, sends never wait (what the socket does not take at once is queued, within a bound).

use std::collections::VecDeque;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::io::Errno;
use rustix::net::RecvFlags;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::Notify;

use crate::sys::watched;

use super::{ChannelError, Incoming, encode, receive_some, send_some};

/// Bytes that may wait for a child that does not read.
const MAX_UNSENT_BYTES: usize = 64 << 20;

/// The receiving half.
#[derive(Debug)]
pub(crate) struct Receiver {
    socket: Arc<AsyncFd<OwnedFd>>,
    incoming: Incoming,
}

/// The sending half. Cheap to clone.
#[derive(Clone, Debug)]
pub(crate) struct Sender {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    socket: Arc<AsyncFd<OwnedFd>>,
    unsent: Mutex<Unsent>,
    /// Told when something was queued, and when the last sender goes.
    more: Arc<Notify>,
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.more.notify_one();
    }
}

#[derive(Debug, Default)]
struct Unsent {
    frames: VecDeque<(Vec<u8>, Vec<OwnedFd>)>,
    bytes: usize,
}

/// Splits a connected socket into its halves. Needs a tokio runtime with I/O.
pub(crate) fn split(socket: OwnedFd) -> std::io::Result<(Sender, Receiver)> {
    rustix::io::ioctl_fionbio(&socket, true)?;
    // Not of room to write, which there is anew, to nobody's use, whenever the child has read something.
    let socket = Arc::new(watched(socket, Interest::READABLE).map_err(|(_, cause)| cause)?);
    let more = Arc::new(Notify::new());
    let shared = Shared { socket: Arc::clone(&socket), unsent: Mutex::default(), more: Arc::clone(&more) };
    let shared = Arc::new(shared);
    let weak = Arc::downgrade(&shared);
    tokio::spawn(async move {
        loop {
            more.notified().await;
            // Ends with the last sender or the socket: nothing queued matters then.
            let Some(shared) = weak.upgrade() else { break };
            if shared.flush().await.is_err() {
                break;
            }
        }
    });
    Ok((Sender { shared }, Receiver { socket, incoming: Incoming::default() }))
}

impl Receiver {
    /// Waits for the next message. Dropping the future loses nothing.
    pub(crate) async fn receive<T: DeserializeOwned>(&mut self) -> Result<(T, Vec<OwnedFd>), ChannelError> {
        loop {
            if let Some(message) = self.incoming.next()? {
                return Ok(message);
            }
            self.fill().await?;
        }
    }

    /// Waits for the next message and leaves it encoded.
    pub(crate) async fn receive_bytes(&mut self) -> Result<Vec<u8>, ChannelError> {
        loop {
            if let Some(bytes) = self.incoming.next_bytes()? {
                return Ok(bytes);
            }
            self.fill().await?;
        }
    }

    /// The next message if it is there already.
    pub(crate) fn receive_ready<T: DeserializeOwned>(
        &mut self,
    ) -> Result<Option<(T, Vec<OwnedFd>)>, ChannelError> {
        self.incoming.next_ready(self.socket.get_ref().as_fd())
    }

    /// What tells when there is something to receive.
    pub(crate) fn socket(&self) -> Arc<AsyncFd<OwnedFd>> {
        Arc::clone(&self.socket)
    }

    async fn fill(&mut self) -> Result<(), ChannelError> {
        loop {
            let mut ready = self.socket.readable().await?;
            match receive_some(ready.get_inner().as_fd(), &mut self.incoming, RecvFlags::empty()) {
                Ok(0) => return Err(ChannelError::Closed),
                Ok(_) => {
                    if self.incoming.take_drained() {
                        ready.clear_ready();
                    }
                    return Ok(());
                }
                Err(ChannelError::Io(error)) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    ready.clear_ready();
                }
                Err(ChannelError::Io(error)) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

impl Sender {
    /// Sends one message after everything sent before it.
    ///
    /// # Errors
    /// [`ChannelError::Full`] when the child has not read for long; the message is then not sent.
    pub(crate) fn send(&self, message: &impl Serialize, fds: Vec<OwnedFd>) -> Result<(), ChannelError> {
        self.send_frame(encode(message, fds.len())?, fds)
    }

    /// Sends several at once: the child is woken for all of them together.
    pub(crate) fn send_all(&self, messages: &[impl Serialize]) -> Result<(), ChannelError> {
        let frames: Result<Vec<_>, _> = messages.iter().map(|message| encode(message, 0)).collect();
        self.send_frame(frames?.concat(), Vec::new())
    }

    fn send_frame(&self, mut frame: Vec<u8>, mut fds: Vec<OwnedFd>) -> Result<(), ChannelError> {
        let mut unsent = self.shared.unsent.lock().unwrap_or_else(PoisonError::into_inner);
        if unsent.bytes + frame.len() > MAX_UNSENT_BYTES {
            return Err(ChannelError::Full { unsent_bytes: unsent.bytes });
        }
        if unsent.frames.is_empty() {
            match send_some(self.shared.socket.get_ref().as_fd(), &frame, &fds) {
                Ok(sent) if sent == frame.len() => return Ok(()),
                Ok(sent) => {
                    frame.drain(..sent);
                    fds.clear();
                }
                Err(Errno::AGAIN | Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        unsent.bytes += frame.len();
        unsent.frames.push_back((frame, fds));
        drop(unsent);
        self.shared.more.notify_one();
        Ok(())
    }
}

impl Shared {
    /// Sends everything queued.
    async fn flush(&self) -> Result<(), ChannelError> {
        if self.send_queued()? {
            return Ok(());
        }
        let socket =
            watched(self.socket.get_ref().try_clone()?, Interest::WRITABLE).map_err(|(_, cause)| cause)?;
        while !self.send_queued()? {
            socket.writable().await?.clear_ready();
        }
        Ok(())
    }

    /// Sends queued frames until the socket is full; true when none is left.
    fn send_queued(&self) -> Result<bool, ChannelError> {
        let mut unsent = self.unsent.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some((frame, fds)) = unsent.frames.front_mut() {
            match send_some(self.socket.get_ref().as_fd(), frame, fds) {
                Ok(sent) => {
                    frame.drain(..sent);
                    fds.clear();
                    let finished = frame.is_empty();
                    unsent.bytes -= sent;
                    if finished {
                        unsent.frames.pop_front();
                    }
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => return Ok(false),
                Err(errno) => return Err(errno.into()),
            }
        }
        Ok(true)
    }
}
