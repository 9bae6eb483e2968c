//! Ends processes that nobody waits for any more.

use std::os::fd::{AsFd, OwnedFd};
use std::sync::{OnceLock, mpsc};
use std::thread;

use rustix::process::{Signal, WaitId, WaitIdOptions, pidfd_send_signal, waitid};

/// Kills the process and waits for it on a thread of its own, as a large process takes a while to give back its memory.
pub(crate) fn kill_and_reap(pidfd: OwnedFd) {
    // It may have ended already: then there is nothing to kill.
    let _ = pidfd_send_signal(&pidfd, Signal::KILL);
    static REAPER: OnceLock<Option<mpsc::Sender<OwnedFd>>> = OnceLock::new();
    let reaper = REAPER.get_or_init(|| {
        let (queue, processes) = mpsc::channel();
        let serve = move || processes.into_iter().for_each(|pidfd| reap(&pidfd));
        thread::Builder::new().name("ired-reap".to_owned()).spawn(serve).ok().map(|_| queue)
    });
    match reaper {
        Some(queue) => {
            if let Err(mpsc::SendError(pidfd)) = queue.send(pidfd) {
                reap(&pidfd);
            }
        }
        None => reap(&pidfd),
    }
}

fn reap(pidfd: &OwnedFd) {
    while let Err(rustix::io::Errno::INTR) = waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED) {}
}
