//! What a worker executable does first, and how it hears and answers its parent. Everything here blocks.

mod tensors;
mod usage;

use std::os::fd::AsFd;

use rustix::process::{Pid, Signal, getppid, set_parent_process_death_signal};

pub use crate::channel::ChannelError;
use crate::channel::blocking::split;
pub use crate::channel::blocking::{Receiver, Sender};
use crate::channel::decode_all;
use crate::confine::{confine, probe};
use crate::messages::handshake::{Confined, HandshakeError, Hello, Role, Setup};
use crate::messages::sandbox::{Probe, ProbeOutcome};
use crate::sys;

pub use tensors::{TensorError, Tensors};
pub use usage::usage;

/// Why a worker cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("standard input is not a channel to a parent; ired starts this program itself")]
    NoParent,
    #[error("the parent is gone")]
    Orphaned,
    #[error("parent: {0}")]
    Handshake(#[from] HandshakeError),
    #[error("channel: {0}")]
    Channel(#[from] ChannelError),
    #[error("cannot confine this process: {0}")]
    Confine(String),
}

/// Shakes hands with the parent, then confines this process. Call it before any thread is started and anything is
/// opened.
pub fn start(role: Role) -> Result<(Sender, Receiver), StartError> {
    sys::close_inherited_files();
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(ChannelError::from)?;
    let socket = std::io::stdin().as_fd().try_clone_to_owned().map_err(|_| StartError::NoParent)?;
    let (sender, mut receiver) = split(socket);
    // Ours first: a parent of another version learns of it even when we give up on theirs.
    sender.send(&Hello::new(role), &[]).map_err(|_| StartError::NoParent)?;
    let hello = Hello::check(&receiver.receive_bytes().map_err(|_| StartError::NoParent)?, role)?;
    // A parent that died before the death signal was asked for sends none.
    if getppid().map(Pid::as_raw_nonzero).map(|pid| pid.get().cast_unsigned()) != Some(hello.pid) {
        return Err(StartError::Orphaned);
    }
    usage::prepare();
    let setup: Setup = decode_all(&receiver.receive_bytes()?)?;
    let confined: Confined = confine(role, &setup.confinement);
    sender.send(&confined, &[])?;
    match confined {
        Ok(_) => Ok((sender, receiver)),
        Err(reason) => Err(StartError::Confine(reason)),
    }
}

/// Tries to break out of the sandbox in one way and says what came of it, unless that ends the process.
pub fn attempt(attempted: Probe) -> ProbeOutcome {
    probe::attempt(attempted)
}
