//! From an executable's path to a worker that has proven its version and confined itself.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use tokio::time::timeout;

use super::Process;
use crate::channel::asynchronous::{Receiver, Sender, split};
use crate::channel::{ChannelError, decode_all};
use crate::confine::Confinement;
use crate::messages::handshake::{Confined, HandshakeError, Hello, Role, Setup};
use crate::messages::sandbox::SandboxReport;

/// Start-up takes milliseconds; a worker that is silent for this long is stuck.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(30);

/// A process whose channel has closed is ending; one that is not after this long is helped.
const LAST_BREATH: Duration = Duration::from_secs(2);

/// A confined worker that waits for its first message.
#[derive(Debug)]
pub(crate) struct Launched {
    pub(crate) process: Process,
    pub(crate) sender: Sender,
    pub(crate) receiver: Receiver,
    pub(crate) sandbox: SandboxReport,
}

/// Why there is no worker.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LaunchError {
    #[error("cannot execute `{executable}`")]
    Spawn {
        executable: String,
        #[source]
        cause: io::Error,
    },
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
    #[error("the worker did not answer within {HANDSHAKE_LIMIT:?}")]
    Silent,
    #[error("the worker ended during start-up: {ending}{stderr}")]
    Died { ending: String, stderr: String },
    /// By somebody else: it says nothing about the worker.
    #[error("the worker was ended from outside during start-up: {signal}")]
    Killed { signal: String },
    #[error("the worker refuses to run: {reason}")]
    Refused { reason: String },
    #[error(transparent)]
    Channel(ChannelError),
}

impl LaunchError {
    /// True when the two sides do not understand each other, so that trying again is pointless.
    pub(crate) fn is_protocol(&self) -> bool {
        matches!(self, Self::Handshake(_) | Self::Channel(_))
    }
}

/// Starts a worker, shakes hands and has it confine itself.
pub(crate) async fn launch(
    executable: &Path,
    role: Role,
    confinement: Confinement,
) -> Result<Launched, LaunchError> {
    let spawn_error = |cause| LaunchError::Spawn { executable: executable.display().to_string(), cause };
    let (ours, theirs) = socket_pair().map_err(spawn_error)?;
    let mut process = Process::spawn(executable, theirs).await.map_err(spawn_error)?;
    let (sender, mut receiver) = split(ours).map_err(spawn_error)?;
    match timeout(HANDSHAKE_LIMIT, shake_hands(&sender, &mut receiver, role, confinement)).await {
        Ok(Ok(sandbox)) => Ok(Launched { process, sender, receiver, sandbox }),
        Ok(Err(LaunchError::Channel(ChannelError::Closed))) => Err(died(&mut process).await),
        Ok(Err(error)) => Err(error),
        Err(_) => Err(LaunchError::Silent),
    }
}

fn socket_pair() -> io::Result<(OwnedFd, OwnedFd)> {
    Ok(socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?)
}

async fn shake_hands(
    sender: &Sender,
    receiver: &mut Receiver,
    role: Role,
    confinement: Confinement,
) -> Result<SandboxReport, LaunchError> {
    let channel = LaunchError::Channel;
    sender.send(&Hello::new(role), Vec::new()).map_err(channel)?;
    let hello = receiver.receive_bytes().await.map_err(channel)?;
    Hello::check(&hello, role)?;
    sender.send(&Setup { confinement }, Vec::new()).map_err(channel)?;
    let answer = receiver.receive_bytes().await.map_err(channel)?;
    let confined: Confined = decode_all(&answer).map_err(channel)?;
    confined.map_err(|reason| LaunchError::Refused { reason })
}

async fn died(process: &mut Process) -> LaunchError {
    let (ending, ended_here) = match timeout(LAST_BREATH, process.wait()).await {
        Ok(ending) => (ending, false),
        Err(_) => {
            process.kill();
            (process.wait().await, true)
        }
    };
    let ending = match ending {
        Ok(ending) if ending.is_from_outside() && !ended_here => {
            return LaunchError::Killed { signal: ending.to_string() };
        }
        Ok(ending) => ending.to_string(),
        Err(error) => error.to_string(),
    };
    let words = process.last_words().await;
    let stderr = if words.is_empty() { words } else { format!("; it said: {words}") };
    LaunchError::Died { ending, stderr }
}
