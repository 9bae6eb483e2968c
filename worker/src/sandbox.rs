//! Asking real workers about their sandbox: which layers hold here, and what an attempt to break out meets.

use std::path::PathBuf;
use std::time::Duration;

use tokio::time::timeout;

use crate::channel::ChannelError;
use crate::confine::Confinement;
use crate::executable;
use crate::messages::compile::{FromCompiler, ToCompiler};
use crate::messages::full_text;
use crate::messages::handshake::Role;
use crate::messages::runtime::{FromRuntime, ToRuntime};
use crate::messages::sandbox::{Probe, ProbeOutcome, SandboxLevel, SandboxReport};
use crate::process::{Ending, Launched, launch};

/// Why a worker could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    #[error("cannot start the worker: {0}")]
    Spawn(String),
    #[error("worker protocol: {0}")]
    Protocol(String),
}

/// Limits that the probes run into within a second or so.
const PROBE_LIMITS: Confinement = Confinement {
    require: SandboxLevel::Available,
    memory_bytes: Some(512 << 20),
    mapped_bytes: 0,
    cpu: Some(Duration::from_secs(1)),
    file_bytes: Some(1 << 20),
};

const PROBE_PATIENCE: Duration = Duration::from_secs(60);

/// Starts a worker of this role (`None`: the executable beside the running one) and returns the layers it reports.
pub async fn sandbox_report(role: Role, executable: Option<PathBuf>) -> Result<SandboxReport, SandboxError> {
    Ok(start(role, executable).await?.sandbox)
}

/// Starts a worker of this role and has it try to break out in one way.
pub async fn probe(
    role: Role,
    executable: Option<PathBuf>,
    probe: Probe,
) -> Result<ProbeOutcome, SandboxError> {
    let mut launched = start(role, executable).await?;
    match timeout(PROBE_PATIENCE, ask(&mut launched, role, probe)).await {
        Ok(Ok(outcome)) => Ok(outcome),
        Ok(Err(ChannelError::Closed)) => ended(&mut launched, probe).await,
        Ok(Err(error)) => Err(SandboxError::Protocol(error.to_string())),
        Err(_) => Err(SandboxError::Protocol(format!("no answer within {PROBE_PATIENCE:?}"))),
    }
}

async fn start(role: Role, executable: Option<PathBuf>) -> Result<Launched, SandboxError> {
    let found = executable.map_or_else(|| executable::beside_current_exe(role), Ok);
    let path = found.map_err(|error| SandboxError::Spawn(error.to_string()))?;
    launch(&path, role, PROBE_LIMITS).await.map_err(|error| match error.is_protocol() {
        true => SandboxError::Protocol(full_text(&error)),
        false => SandboxError::Spawn(full_text(&error)),
    })
}

async fn ask(launched: &mut Launched, role: Role, probe: Probe) -> Result<ProbeOutcome, ChannelError> {
    let strange = || ChannelError::Io(std::io::Error::other("another answer than a probe's"));
    match role {
        Role::Compile => {
            launched.sender.send(&ToCompiler::Probe(probe), Vec::new())?;
            match launched.receiver.receive().await?.0 {
                FromCompiler::Probed(outcome) => Ok(outcome),
                _ => Err(strange()),
            }
        }
        Role::Runtime => {
            launched.sender.send(&ToRuntime::Probe(probe), Vec::new())?;
            match launched.receiver.receive().await?.0 {
                FromRuntime::Probed(outcome) => Ok(outcome),
                _ => Err(strange()),
            }
        }
    }
}

/// What the end of a process that was probed means.
async fn ended(launched: &mut Launched, probe: Probe) -> Result<ProbeOutcome, SandboxError> {
    let ending = launched.process.wait().await.map_err(|error| SandboxError::Protocol(error.to_string()))?;
    Ok(match (probe, ending) {
        // The other program took the worker's place and ended well.
        (Probe::Execute, Ending::Exited(0)) => ProbeOutcome::Succeeded,
        (_, ending) => ProbeOutcome::Killed(ending.to_string()),
    })
}
