//! Why the daemon did not do what it was asked.

use std::sync::Arc;
use std::time::Duration;

use ired_worker::{CompileFailure, Diagnostic, RuntimeFailure};

use crate::auth::Throttled;
use crate::digest::Digest;
use crate::schedule::Refusal;
use crate::store::StoreError;
use crate::trial::TrialError;

/// The reason for a refusal or failure, as the front door tells it. `status.rs` gives each its code.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The first words are those that clients of Triton look for.
    #[error("Request for unknown model: `{model}` is not found")]
    UnknownModel { model: String },
    #[error("Request for unknown model: `{model}` has no version {version}; it has {known}")]
    UnknownVersion { model: String, version: String, known: String },
    #[error("model `{model}` version {version} is not ready: {reason}")]
    NotReady { model: String, version: u64, reason: String },
    /// The first words are those that clients of Triton look for.
    #[error("failed to load `{model}`: {cause}")]
    Load { model: String, cause: Box<Error> },
    /// The request contradicts the protocol or the model's signature; the text names what and where.
    #[error("{0}")]
    Invalid(String),
    /// Part of the protocol that this server does not offer.
    #[error("{0}")]
    Unsupported(String),
    /// The first words are those that clients of Triton look for.
    #[error(
        "ModelInfer RPC doesn't support models with decoupled transaction policy, and neither does REST's infer; ask \
         `{model}` by ModelStreamInfer or generate_stream"
    )]
    Decoupled { model: String },
    #[error("{what} has {found} bytes; at most {limit} are accepted")]
    TooLarge { what: String, found: u64, limit: u64 },
    /// Not run, as there is no room or no time for it.
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error("the server is at its limit of {limit} {what}")]
    Busy { what: &'static str, limit: u64 },
    #[error("the deadline passed")]
    DeadlineExceeded,
    #[error("the request's body did not arrive within {0:?}")]
    SlowBody(Duration),
    #[error("model `{model}` version {version} exists already with other content")]
    AlreadyExists { model: String, version: u64 },
    /// A label that cannot be set, moved or left behind; the text says why.
    #[error("{0}")]
    Label(String),
    /// What a version was tried with before it was to answer went wrong.
    #[error(transparent)]
    Trial(#[from] Box<TrialError>),
    /// A compiled module that nobody who is trusted vouches for; the text says what it lacks.
    #[error("{0}")]
    Untrusted(String),
    #[error("model `{model}` is part of the model repository directory; remove its file there")]
    NotAnUpload { model: String },
    #[error("a shared memory region of this name is registered already; unregister it first")]
    RegionExists,
    #[error("no shared memory region of this name is registered")]
    UnknownRegion,
    #[error(
        "CUDA shared memory regions are not supported: no device here shares its memory; register system shared \
         memory, or send tensors in the request"
    )]
    NoCuda,
    #[error("there is no shared memory of the region's key that this server may read and write")]
    NoSharedMemory,
    #[error("no request or trace `{0}` is kept; the oldest are forgotten first")]
    UnknownTrace(String),
    #[error("model `{model}` version {version} is being profiled already")]
    Profiled { model: String, version: u64 },
    #[error("no method `{0}`")]
    NoSuchMethod(String),
    #[error("the server is stopping")]
    Stopping,
    /// Nobody knows who calls; the text says why not.
    #[error("{0}")]
    Unauthenticated(String),
    /// Nobody looks who calls, as too many have called from there who could not say it.
    #[error(transparent)]
    Throttled(#[from] Throttled),
    #[error("`{caller}` has no role with permission `{permission}` for {what}")]
    Forbidden { caller: String, permission: &'static str, what: String },
    #[error("a page of another site made this call; only pages of this server may")]
    OtherSite,
    #[error(transparent)]
    Runtime(#[from] RuntimeFailure),
    #[error(transparent)]
    Compile(#[from] Arc<CompileError>),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Error {
    pub(crate) fn invalid(what: impl Into<String>) -> Self {
        Self::Invalid(what.into())
    }

    /// When a request that is refused now has better chances; `None` where waiting does not help.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused(refusal) => Some(refusal.retry_after),
            Self::Throttled(throttled) => Some(throttled.retry_after),
            _ => None,
        }
    }
}

/// A client's text as an error repeats it: its beginning, without what could be taken for more than text.
pub(crate) fn shown(text: &str) -> String {
    text.chars().take(80).collect::<String>().escape_debug().to_string()
}

/// Why there is no module for a model and target. One compilation's failure is told to all who waited for it.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    #[error("cannot compile `{model}`: {cause}")]
    Worker { model: String, cause: CompileFailure },
    #[error(
        "model `{model}` (digest {digest}) crashed the compiler {crashes} times for this target and with these \
         options, which are refused for {} s; the last time: {last}",
        quarantine.as_secs()
    )]
    Quarantined { model: String, digest: Digest, crashes: u32, last: String, quarantine: Duration },
    #[error("the files of `{model}` changed while it was compiled; load it again")]
    SourceChanged { model: String },
    #[error("the compile queue is full: {limit} are waiting")]
    QueueFull { limit: usize },
    #[error(
        "a compilation needs {needs} bytes of memory; the budget is {budget}, {in_use} in use by what cannot go"
    )]
    NoMemory { needs: u64, budget: u64, in_use: u64 },
    #[error("`{model}` is a compiled module already")]
    IsModule { model: String },
    #[error("the compilation was abandoned")]
    Abandoned,
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl CompileError {
    /// The word that `ired.v1` uses for this failure.
    pub fn kind(&self) -> &'static str {
        use ired_worker::FailureKind as Kind;
        match self {
            Self::Worker { cause, .. } => match cause {
                CompileFailure::Failed { kind: Kind::Unsupported, .. } => "unsupported",
                CompileFailure::Failed { kind: Kind::InvalidModel, .. } => "invalid-model",
                CompileFailure::Failed { kind: Kind::MissingFile, .. } => "missing-file",
                CompileFailure::Failed { kind: Kind::ResourceLimit, .. } => "resource-limit",
                CompileFailure::Failed { kind: Kind::Internal, .. } => "internal",
                CompileFailure::Crashed { .. } | CompileFailure::Killed { .. } => "crashed",
                CompileFailure::TimedOut { .. } => "timed-out",
                CompileFailure::OutOfMemory { .. } => "out-of-memory",
                CompileFailure::Spawn(_) | CompileFailure::Protocol(_) => "internal",
            },
            Self::Quarantined { .. } => "crashed",
            Self::SourceChanged { .. } | Self::IsModule { .. } => "invalid-model",
            Self::QueueFull { .. } | Self::NoMemory { .. } => "resource-limit",
            Self::Abandoned | Self::Store(_) => "internal",
        }
    }

    /// The same failure as another model with equal content is told it; `None` where it names no other.
    pub(crate) fn told_to(&self, asker: &str) -> Option<Self> {
        match self {
            Self::Worker { model, cause } if model != asker => {
                Some(Self::Worker { model: asker.to_owned(), cause: cause.clone() })
            }
            Self::Quarantined { model, digest, crashes, last, quarantine } if model != asker => {
                Some(Self::Quarantined {
                    model: asker.to_owned(),
                    digest: *digest,
                    crashes: *crashes,
                    last: last.clone(),
                    quarantine: *quarantine,
                })
            }
            Self::SourceChanged { model } if model != asker => {
                Some(Self::SourceChanged { model: asker.to_owned() })
            }
            _ => None,
        }
    }

    /// Everything the compiler found; empty when it had no say.
    pub fn diagnostics(&self) -> &[Diagnostic] {
        match self {
            Self::Worker { cause: CompileFailure::Failed { diagnostics, .. }, .. } => diagnostics,
            _ => &[],
        }
    }
}
