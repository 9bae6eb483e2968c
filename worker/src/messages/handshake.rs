//! The first message each way: both ends prove that they speak the same protocol before anything else is decoded.

use serde::{Deserialize, Serialize};

/// The protocol's number; it changes with any change of a message's encoding.
pub const PROTOCOL: u32 = 1;

/// What a worker process is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Role {
    /// Compiles one model, then ends.
    Compile,
    /// Holds one loaded module and answers inferences.
    Runtime,
}

impl Role {
    /// The file name of the executable that plays this role.
    pub const fn executable_name(self) -> &'static str {
        match self {
            Self::Compile => "ired-compiler-worker",
            Self::Runtime => "ired-runtime-worker",
        }
    }

    /// The word that people read: `compile`, `runtime`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Compile => "compile",
            Self::Runtime => "runtime",
        }
    }
}

impl std::fmt::Display for Role {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}
