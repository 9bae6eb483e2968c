//! How a worker gives up everything its role does not need, before it touches anything a stranger sent.
//!
//! The policy of each role is data (`compile.toml`, `runtime.toml`); this module is the mechanism. Layers that a kernel
//! or container does not offer are reported, and refused in strict mode.

mod capabilities;
mod landlock;
mod limits;
mod namespaces;
mod policy;
pub(crate) mod probe;
mod seccomp;

use std::time::Duration;

use serde::{Deserialize, Serialize};

pub(crate) use policy::{Policy, PolicyError};

use crate::messages::handshake::Role;
use crate::messages::sandbox::{LayerState, SandboxLevel, SandboxReport};

/// What the parent decides about a worker's confinement; the rest is the role's policy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Confinement {
    /// Refuse to run when a layer that this needs is not available.
    pub(crate) require: SandboxLevel,
    /// Private memory.
    pub(crate) memory_bytes: Option<u64>,
    /// Address space needed for mapped files on top of private memory.
    pub(crate) mapped_bytes: u64,
    /// CPU time, summed over threads.
    pub(crate) cpu: Option<Duration>,
    /// Size of any file it writes.
    pub(crate) file_bytes: Option<u64>,
}

/// What one layer came to: how strong it is, or why it is not there.
type Layer = Result<String, String>;

/// Confines this process as its role and the parent demand. It must have one thread: some layers bind only the calling
/// thread and those it starts later.
///
/// # Errors
/// The reason for which the process must not go on.
pub(crate) fn confine(role: Role, confinement: &Confinement) -> Result<SandboxReport, String> {
    let policy = Policy::of(role).map_err(|error| error.to_string())?;
    let mut report = SandboxReport::default();
    let mut add = |name: &str, layer: Layer| {
        let state = match layer {
            Ok(strength) => LayerState::Active(strength),
            Err(reason) => LayerState::Unavailable(reason),
        };
        report.layers.push((name.to_owned(), state));
    };
    add("no_new_privs", limits::no_new_privileges());
    let mut own_user_namespace = false;
    for (name, layer) in namespaces::enter(&policy.namespaces) {
        own_user_namespace |= name == "user_namespace" && layer.is_ok();
        add(&name, layer);
    }
    add("capabilities", capabilities::drop_all());
    add("rlimits", limits::apply(&policy.limits, confinement, own_user_namespace));
    add("not_dumpable", limits::not_dumpable());
    add("landlock", landlock::restrict(&policy.landlock));
    add("seccomp", seccomp::restrict(&policy.seccomp));
    let missing = report.missing().filter(|(name, _)| confinement.require.needs(name));
    let missing: Vec<String> = missing.map(|(name, why)| format!("{name} ({why})")).collect();
    if !missing.is_empty() {
        return Err(format!("the sandbox is not complete here: {}", missing.join(", ")));
    }
    Ok(report)
}

/// Takes what only starting needs from every thread of a runtime worker: from now on no memory becomes executable and no
/// file is opened. Called when the device is open and the module loaded, before anything of a request is read.
///
/// # Errors
/// Why this process must not go on.
pub fn settle() -> Result<(), String> {
    let policy = Policy::of(Role::Runtime).map_err(|error| error.to_string())?;
    seccomp::settle(&policy.seccomp).map(|_| ())
}
