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
use crate::messages::sandbox::{LayerState, SandboxReport};

/// What the parent decides about a worker's confinement; the rest is the role's policy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Confinement {
    /// Refuse to run when a layer is not available.
    pub(crate) strict: bool,
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
    if confinement.strict {
        let missing: Vec<String> = report.missing().map(|(name, why)| format!("{name} ({why})")).collect();
        if !missing.is_empty() {
            return Err(format!("the sandbox is not complete here: {}", missing.join(", ")));
        }
    }
    Ok(report)
}

/// From now on no thread of this process can make memory executable. For a role whose policy lets it map code until its
/// module is loaded.
pub fn forbid_new_code() -> Result<(), String> {
    seccomp::forbid_new_code().map(|_| ())
}
