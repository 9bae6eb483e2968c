//! A worker process as its parent sees it: started from one thread, watched and killed through a pidfd, heard on
//! stderr.

mod launch;
mod reap;
mod stderr;

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, OnceLock, mpsc};
use std::{io, thread};

use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, pidfd_open, pidfd_send_signal, waitid,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::oneshot;

pub(crate) use launch::{LaunchError, Launched, launch};
use stderr::StderrTail;

use crate::sys::watched;

/// How a process ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    Exited(i32),
    Signalled(i32),
}

impl Ending {
    /// Whether such an end is somebody else's doing, where it was not ours.
    pub(crate) fn is_from_outside(&self) -> bool {
        matches!(self, Self::Signalled(libc::SIGKILL | libc::SIGTERM | libc::SIGINT | libc::SIGHUP))
    }
}

impl std::fmt::Display for Ending {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Exited(status) => write!(f, "exit status {status}"),
            Self::Signalled(signal) => match Signal::from_named_raw(*signal) {
                Some(named) => write!(f, "killed by {}", signal_name(named)),
                None => write!(f, "killed by signal {signal}"),
            },
        }
    }
}

fn signal_name(signal: Signal) -> String {
    let named = [
        (Signal::ABORT, "SIGABRT"),
        (Signal::SEGV, "SIGSEGV"),
        (Signal::BUS, "SIGBUS"),
        (Signal::ILL, "SIGILL"),
        (Signal::FPE, "SIGFPE"),
        (Signal::SYS, "SIGSYS (a system call that the sandbox forbids)"),
        (Signal::KILL, "SIGKILL"),
        (Signal::XCPU, "SIGXCPU (its CPU time)"),
        (Signal::XFSZ, "SIGXFSZ (its file size)"),
        (Signal::TERM, "SIGTERM"),
        (Signal::INT, "SIGINT"),
    ];
    let name = named.iter().find(|(known, _)| *known == signal).map(|(_, name)| (*name).to_owned());
    name.unwrap_or_else(|| format!("signal {}", signal.as_raw()))
}

/// A running worker. Dropping it kills the process and leaves the reaping to a thread.
#[derive(Debug)]
pub(crate) struct Process {
    pid: u32,
    /// `None` once reaped.
    pidfd: Option<AsyncFd<OwnedFd>>,
    stderr: StderrTail,
}

impl Process {
    /// Starts `executable` with `socket` as its standard input, nothing in its environment or arguments, and a process
    /// group of its own.
    async fn spawn(executable: &Path, socket: OwnedFd) -> io::Result<Self> {
        let mut command = Command::new(executable);
        command.env_clear().current_dir("/").stdin(socket).stdout(Stdio::null()).stderr(Stdio::piped());
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let (child, pidfd) = spawner()?.spawn(command).await?;
        let pidfd = match watched(pidfd, Interest::READABLE) {
            Ok(pidfd) => pidfd,
            Err((pidfd, cause)) => {
                reap::kill_and_reap(pidfd);
                return Err(cause);
            }
        };
        let pid = child.id();
        let mut process = Self { pid, pidfd: Some(pidfd), stderr: StderrTail::default() };
        if let Some(pipe) = child.stderr {
            process.stderr = StderrTail::follow(pid, pipe.into())?;
        }
        Ok(process)
    }

    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// Asks the kernel to end it now; [`Self::wait`] tells when it has.
    pub(crate) fn kill(&self) {
        if let Some(pidfd) = &self.pidfd {
            // It may have ended already: then there is nothing to kill.
            let _ = pidfd_send_signal(pidfd.get_ref(), Signal::KILL);
        }
    }

    /// Waits for the end and reaps it.
    pub(crate) async fn wait(&mut self) -> io::Result<Ending> {
        let Some(pidfd) = &self.pidfd else {
            return Err(io::Error::other("the process was reaped before"));
        };
        loop {
            let mut ready = pidfd.readable().await?;
            let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
            let Some(status) = waitid(WaitId::PidFd(pidfd.as_fd()), options)? else {
                ready.clear_ready();
                continue;
            };
            drop(ready);
            self.pidfd = None;
            return Ok(match status.terminating_signal() {
                Some(signal) => Ending::Signalled(signal),
                None => Ending::Exited(status.exit_status().unwrap_or_default()),
            });
        }
    }

    /// The end of what it wrote to stderr; complete once the process ended.
    pub(crate) async fn last_words(&mut self) -> String {
        self.stderr.finish().await
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if let Some(pidfd) = self.pidfd.take() {
            reap::kill_and_reap(pidfd.into_inner());
        }
    }
}

/// The thread that starts all workers. The kernel's parent-death signal counts the death of the *thread* that started a
/// process, so no thread of a pool may do it.
struct Spawner {
    requests: mpsc::Sender<(Command, oneshot::Sender<io::Result<Started>>)>,
}

type Started = (std::process::Child, OwnedFd);

fn spawner() -> io::Result<&'static Spawner> {
    static SPAWNER: OnceLock<Result<Spawner, Arc<io::Error>>> = OnceLock::new();
    let start = || {
        let (requests, queue) = mpsc::channel::<(Command, oneshot::Sender<io::Result<Started>>)>();
        let serve = move || {
            for (command, reply) in queue {
                if let Err(Ok((_, pidfd))) = reply.send(start_process(command)) {
                    reap::kill_and_reap(pidfd);
                }
            }
        };
        thread::Builder::new().name("ired-spawn".to_owned()).spawn(serve).map_err(Arc::new)?;
        Ok(Spawner { requests })
    };
    SPAWNER.get_or_init(start).as_ref().map_err(|error| io::Error::other(Arc::clone(error)))
}

impl Spawner {
    async fn spawn(&self, command: Command) -> io::Result<Started> {
        let gone = || io::Error::other("the thread that starts workers is gone");
        let (reply, answer) = oneshot::channel();
        self.requests.send((command, reply)).map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}

fn start_process(mut command: Command) -> io::Result<Started> {
    let mut child = command.spawn()?;
    let pid = Pid::from_child(&child);
    match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(pidfd) => Ok((child, pidfd)),
        Err(errno) => {
            // Without a pidfd nobody could end it safely.
            let _ = child.kill();
            let _ = child.wait();
            Err(errno.into())
        }
    }
}
