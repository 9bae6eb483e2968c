//! What can go wrong between a caller and the daemon.

use std::error::Error as _;
use std::path::PathBuf;
use std::time::Duration;

use ired_proto::ired::v1::Diagnostic;
use tonic::Code;
use tonic_types::StatusExt;

/// Why a call gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("`{address}` is not an address such as `127.0.0.1:8001`")]
    Address { address: String },
    #[error("`{address}` is without TLS, and the certificates given are for TLS; use `https://`")]
    Plain { address: String },
    #[error("the certificates or the key cannot be used for TLS")]
    Tls {
        #[source]
        cause: tonic::transport::Error,
    },
    #[error("the token is not one line of plain characters")]
    Token,
    #[error("cannot reach a daemon at `{address}`; is `ired` running there?")]
    Connect {
        address: String,
        #[source]
        cause: tonic::transport::Error,
    },
    /// What answers is a server of another protocol, such as the daemon's REST port.
    #[error("the answer is not gRPC's")]
    NotGrpc,
    /// The daemon refused or failed the call; `message` is its own words.
    #[error("{message}")]
    Call {
        code: Code,
        message: String,
        /// When to come again, where it was refused for now.
        retry_after: Option<Duration>,
    },
    /// The model cannot be compiled; `diagnostics` says why, all problems at once.
    #[error("{message}")]
    Compile { kind: String, message: String, diagnostics: Vec<Diagnostic> },
    #[error("cannot read `{}`", path.display())]
    Read {
        path: PathBuf,
        #[source]
        cause: std::io::Error,
    },
    #[error("cannot write the module")]
    Write {
        #[source]
        cause: std::io::Error,
    },
    #[error("tensor `{tensor}` is not one string, with its length before it, for each element of {shape:?}")]
    Strings { tensor: String, shape: Vec<u64> },
    #[error("tensor `{tensor}` has {found} bytes; its shape and type need {expected}")]
    TensorBytes { tensor: String, found: u64, expected: u64 },
    /// The daemon's answer breaks the protocol; it may be another version.
    #[error("the daemon's answer makes no sense: {what}")]
    Protocol { what: String },
}

impl ClientError {
    /// The gRPC code of the daemon's refusal, where it is one.
    pub fn code(&self) -> Option<Code> {
        match self {
            Self::Call { code, .. } => Some(*code),
            _ => None,
        }
    }

    /// When to come again, where the daemon refused the call for now and said so.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Call { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    pub(crate) fn protocol(what: impl Into<String>) -> Self {
        Self::Protocol { what: what.into() }
    }
}

impl From<tonic::Status> for ClientError {
    fn from(status: tonic::Status) -> Self {
        // The first byte of a gRPC message is this flag; a page of text begins with another.
        if status.message().contains("invalid compression flag") {
            return Self::NotGrpc;
        }
        if was_not_let_in(&status) {
            let message = "the daemon closed the connection before it took the request".to_owned();
            return Self::Call { code: Code::Unavailable, message, retry_after: None };
        }
        let retry_after = status.get_details_retry_info().and_then(|info| info.retry_delay);
        Self::Call { code: status.code(), message: status.message().to_owned(), retry_after }
    }
}

/// Whether the connection ended in good order before the request was sent on it, or took it: as when a daemon stops.
/// Such a request can be made again without a thought.
fn was_not_let_in(status: &tonic::Status) -> bool {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = status.source();
    while let Some(error) = cause {
        let unsent = error.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_canceled);
        let ended = error.downcast_ref::<h2::Error>().is_some_and(|error| {
            error.is_go_away() && error.is_remote() && error.reason() == Some(h2::Reason::NO_ERROR)
        });
        if unsent || ended {
            return true;
        }
        cause = error.source();
    }
    false
}
