//! Hearing a process. The supervision hears it whenever it says something; who waits for an answer that comes at once
//! listens, too, for a moment: to be woken takes tens of microseconds, which is what a small model takes as a whole.

use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::io::unix::AsyncFd;
use tokio::sync::Notify;

use crate::channel::ChannelError;
use crate::channel::asynchronous::Receiver;
use crate::messages::runtime::FromRuntime;

/// What is done with a message; the error is what is wrong with it.
pub(super) trait Accept: Fn(FromRuntime, &[OwnedFd]) -> Result<(), String> {}

impl<F: Fn(FromRuntime, &[OwnedFd]) -> Result<(), String>> Accept for F {}

/// One process's end of the channel, which whoever listens hears for all.
#[derive(Debug)]
pub(super) struct Ear {
    socket: Arc<AsyncFd<OwnedFd>>,
    heard: Mutex<Heard>,
    /// Told when who listened heard the end: nothing is left then that would make the socket ready.
    ended: Notify,
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
    pub(super) fn new(receiver: Receiver) -> Self {
        let socket = receiver.socket();
        Self { socket, heard: Mutex::new(Heard { receiver, end: None }), ended: Notify::new() }
    }

    /// Hears the process until it closes the channel (`None`) or breaks the protocol; `accept` says whether a message does.
    pub(super) async fn hear(&self, accept: impl Accept) -> Option<String> {
        loop {
            match take_in(self.lock(), &accept) {
                None => {}
                Some(End::Closed) => return None,
                Some(End::Wrong(wrong)) => return Some(wrong),
            }
            tokio::select! {
                ready = self.socket.readable() => match ready {
                    // What is said from here on makes it ready again.
                    Ok(mut ready) => ready.clear_ready(),
                    Err(error) => return Some(error.to_string()),
                },
                () = self.ended.notified() => {}
            }
        }
    }

    /// Hears what the process has said already, unless somebody else does.
    pub(super) fn listen(&self, accept: impl Accept) {
        if let Ok(heard) = self.heard.try_lock()
            && take_in(heard, &accept).is_some()
        {
            self.ended.notify_one();
        }
    }

    /// Hears nothing any more.
    pub(super) fn stop(&self) {
        self.lock().end.get_or_insert(End::Closed);
    }

    fn lock(&self) -> MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn take_in(mut heard: MutexGuard<'_, Heard>, accept: &impl Accept) -> Option<End> {
    while heard.end.is_none() {
        let taken = match heard.receiver.receive_ready() {
            Ok(Some((message, fds))) => accept(message, &fds).map_err(End::Wrong),
            Ok(None) => return None,
            Err(ChannelError::Closed) => Err(End::Closed),
            Err(error) => Err(End::Wrong(error.to_string())),
        };
        heard.end = taken.err();
    }
    heard.end.clone()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
    use tokio::time::timeout;

    use super::*;
    use crate::channel::asynchronous::split;
    use crate::channel::{encode, send_some};

    #[tokio::test]
    async fn an_end_that_a_listener_heard_is_heard_by_the_supervision() {
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap();
        let (_sender, receiver) = split(ours).unwrap();
        let ear = Ear::new(receiver);
        let accept = |message, _: &[OwnedFd]| Err(format!("{message:?}"));
        let listening = async {
            // Behind the supervision, which waits by now, and before it is woken.
            let lie = encode(&FromRuntime::Forget { region: 7 }, 0).unwrap();
            send_some(std::os::fd::AsFd::as_fd(&theirs), &lie, &[]).unwrap();
            ear.listen(accept);
        };
        let both = async { tokio::join!(biased; ear.hear(accept), listening).0 };
        let wrong = timeout(Duration::from_secs(10), both).await.expect("the end is heard");
        assert_eq!(wrong.as_deref(), Some("Forget { region: 7 }"));
    }
}
