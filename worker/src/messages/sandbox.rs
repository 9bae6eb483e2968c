//! What a worker tells about its own confinement, and the attempts it makes to break out when asked to.

use serde::{Deserialize, Serialize};

/// Layers without which a worker does not go on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum SandboxLevel {
    /// Whatever there is.
    #[default]
    Available,
    /// What an ordinary container allows: every layer but namespaces.
    Baseline,
    /// Every layer.
    Strict,
}

impl SandboxLevel {
    /// Whether this level needs the layer of this name.
    pub fn needs(self, layer: &str) -> bool {
        match self {
            Self::Available => false,
            Self::Baseline => !layer.ends_with("_namespace"),
            Self::Strict => true,
        }
    }
}

/// One layer of confinement, as the worker found it after setting it up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LayerState {
    /// In force; the text says how strong (`ABI 7`, `61 system calls allowed`) and may be empty.
    Active(String),
    /// Not in force here; the text says why.
    Unavailable(String),
}

/// Every layer in the order it was set up: `no_new_privs`, `user_namespace`, `landlock`, `seccomp`…
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SandboxReport {
    pub layers: Vec<(String, LayerState)>,
}

impl SandboxReport {
    /// The state of one layer by name.
    pub fn layer(&self, name: &str) -> Option<&LayerState> {
        self.layers.iter().find(|(layer, _)| layer == name).map(|(_, state)| state)
    }

    /// True when the named layer is in force.
    pub fn is_active(&self, name: &str) -> bool {
        matches!(self.layer(name), Some(LayerState::Active(_)))
    }

    /// The layers that are not in force, with the reason.
    pub fn missing(&self) -> impl Iterator<Item = (&str, &str)> {
        self.layers.iter().filter_map(|(name, state)| match state {
            LayerState::Active(_) => None,
            LayerState::Unavailable(reason) => Some((name.as_str(), reason.as_str())),
        })
    }
}

/// One attempt to leave the sandbox, made from inside a confined worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Probe {
    /// Nothing forbidden: proves that the probes themselves work.
    Nothing,
    OpenSocket,
    ReadPasswd,
    /// A file that describes the machine, which a runtime worker may read until its module is loaded.
    ReadMachine,
    ListRoot,
    WriteOutside,
    Execute,
    Fork,
    Ptrace,
    ReadOtherMemory,
    SignalOther,
    MapExecutable,
    AllocatePastLimit,
    BurnCpuPastLimit,
    WriteLargeFile,
}

impl Probe {
    pub const ALL: &[Probe] = &[
        Self::Nothing,
        Self::OpenSocket,
        Self::ReadPasswd,
        Self::ReadMachine,
        Self::ListRoot,
        Self::WriteOutside,
        Self::Execute,
        Self::Fork,
        Self::Ptrace,
        Self::ReadOtherMemory,
        Self::SignalOther,
        Self::MapExecutable,
        Self::AllocatePastLimit,
        Self::BurnCpuPastLimit,
        Self::WriteLargeFile,
    ];

    /// What was tried, for people.
    pub const fn describe(self) -> &'static str {
        match self {
            Self::Nothing => "do nothing forbidden",
            Self::OpenSocket => "open a network socket",
            Self::ReadPasswd => "read /etc/passwd",
            Self::ReadMachine => "read which processors there are",
            Self::ListRoot => "list the root directory",
            Self::WriteOutside => "create a file in /tmp",
            Self::Execute => "execute another program",
            Self::Fork => "start another process",
            Self::Ptrace => "trace its parent",
            Self::ReadOtherMemory => "read its parent's memory",
            Self::SignalOther => "signal its parent",
            Self::MapExecutable => "make memory executable",
            Self::AllocatePastLimit => "allocate past its memory limit",
            Self::BurnCpuPastLimit => "burn CPU time past its limit",
            Self::WriteLargeFile => "write a file past its size limit",
        }
    }
}

/// How a probe ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProbeOutcome {
    /// The attempt worked: the sandbox does not hold (for [`Probe::Nothing`]: as it should).
    Succeeded,
    /// The kernel answered with an error; the text names it.
    Refused(String),
    /// The kernel ended the process; the text names the signal.
    Killed(String),
}
