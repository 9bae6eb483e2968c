//! Asking real workers about their sandbox: which layers hold here, and what an attempt to break out meets.

use std::path::PathBuf;

use crate::messages::handshake::Role;
use crate::messages::sandbox::{Probe, ProbeOutcome, SandboxReport};

/// Why a worker could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    #[error("cannot start the worker: {0}")]
    Spawn(String),
    #[error("worker protocol: {0}")]
    Protocol(String),
}

/// Starts a worker of this role (`None`: the executable beside the running one) and returns the layers it reports.
pub async fn sandbox_report(role: Role, executable: Option<PathBuf>) -> Result<SandboxReport, SandboxError> {
    let _ = (role, executable);
    Err(SandboxError::Spawn("not connected yet".to_owned()))
}

/// Starts a worker of this role and has it try to break out in one way.
pub async fn probe(
    role: Role,
    executable: Option<PathBuf>,
    probe: Probe,
) -> Result<ProbeOutcome, SandboxError> {
    let _ = (role, executable, probe);
    Err(SandboxError::Spawn("not connected yet".to_owned()))
}
