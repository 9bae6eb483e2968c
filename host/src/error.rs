//! Why a host function gives no result.

use crate::TableFull;

/// Why a host function gives no result.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HostError {
    #[error("there is no host function `{name}`")]
    Unknown { name: String },
    #[error("the attributes of host function `{name}` cannot be read")]
    Attributes { name: String },
    /// Operands that the function does not take: their number, types or sizes.
    #[error("`{function}` takes {expected}; found {found}")]
    Operands { function: String, expected: String, found: String },
    /// Something about the values of operands or attributes.
    #[error("`{function}`: {problem}")]
    Value { function: String, problem: String },
    #[error("`{function}` takes {found_bytes} bytes; the limit is {limit_bytes}")]
    Memory { function: String, found_bytes: u64, limit_bytes: u64 },
    #[error("`{function}` takes {found} steps; the limit is {limit}")]
    Steps { function: String, found: u64, limit: u64 },
    /// Nobody waits for the result any more.
    #[error("`{function}` was stopped")]
    Stopped { function: String },
    #[error(transparent)]
    Strings(#[from] TableFull),
}
