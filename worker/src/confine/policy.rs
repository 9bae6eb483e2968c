//! A role's policy, read from its data file.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::messages::handshake::Role;

/// What a role may do.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Policy {
    pub(crate) namespaces: Vec<String>,
    pub(crate) limits: Limits,
    pub(crate) landlock: Files,
    pub(crate) seccomp: SystemCalls,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Limits {
    pub(crate) open_files: u64,
    pub(crate) threads: u64,
    /// Address space beyond private memory and mapped files.
    pub(crate) reserved_bytes: u64,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Files {
    /// Paths that may be read, with everything beneath.
    pub(crate) read: Vec<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SystemCalls {
    pub(crate) allow: Vec<String>,
    /// From an errno's name to the calls that fail with it.
    pub(crate) refuse: BTreeMap<String, Vec<String>>,
    /// The same for calls that are allowed only until the process has settled.
    #[serde(default)]
    pub(crate) refuse_once_settled: BTreeMap<String, Vec<String>>,
    pub(crate) allow_when: Vec<Condition>,
}

/// Allows a call when `argument & mask == equals`; no mask compares the whole argument. Names stand for bits; a list is
/// their union.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Condition {
    pub(crate) call: String,
    pub(crate) argument: u8,
    pub(crate) mask: Option<Vec<String>>,
    pub(crate) equals: Vec<String>,
}

/// Why a policy cannot be applied. The files are part of the executable, so this is our own mistake.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PolicyError {
    #[error("the {role} policy does not parse: {cause}")]
    Parse { role: Role, cause: toml::de::Error },
    #[error("the policy names `{name}`, which is not a known {kind}")]
    Unknown { kind: &'static str, name: String },
}

impl Policy {
    pub(crate) fn of(role: Role) -> Result<Self, PolicyError> {
        let text = match role {
            Role::Compile => include_str!("compile.toml"),
            Role::Runtime => include_str!("runtime.toml"),
        };
        toml::from_str(text).map_err(|cause| PolicyError::Parse { role, cause })
    }
}
