//! Why a request is not run, and when to come again.

use std::time::Duration;

/// The shortest hint: less is the network's own time.
const SOONEST: Duration = Duration::from_millis(1);
/// The longest: what is estimated beyond it is a guess.
const LATEST: Duration = Duration::from_secs(30);

/// A refusal before anything ran.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("model `{model}` {why}")]
pub struct Refusal {
    pub model: String,
    pub why: Why,
    /// An estimate of when it would not be refused.
    pub retry_after: Duration,
}

#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Why {
    #[error("has {limit} requests inside already")]
    Full { limit: usize },
    #[error("has {limit} requests of this priority waiting already")]
    Waiting { limit: usize },
    #[error("would answer in {wait:.1?}; the deadline is in {left:.1?}")]
    Late { wait: Duration, left: Duration },
    #[error("did not get to the request within the {limit:.1?} that it may wait")]
    Waited { limit: Duration },
    #[error("takes {per_second} requests a second at most")]
    Rate { per_second: f64 },
    #[error("needs {needs} bytes for the request; the budget is {budget}, {in_use} in use")]
    Memory { needs: u64, budget: u64, in_use: u64 },
    #[error("needs {needs} bytes to be loaded; the budget is {budget}, {in_use} in use by what cannot go")]
    Resident { needs: u64, budget: u64, in_use: u64 },
}

impl Why {
    /// In one word, as metrics have it.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Full { .. } => "full",
            Self::Waiting { .. } => "queue",
            Self::Late { .. } => "late",
            Self::Waited { .. } => "timeout",
            Self::Rate { .. } => "rate",
            Self::Memory { .. } | Self::Resident { .. } => "memory",
        }
    }
}

impl Refusal {
    pub fn new(model: &str, why: Why, retry_after: Duration) -> Self {
        Self { model: model.to_owned(), why, retry_after: retry_after.clamp(SOONEST, LATEST) }
    }
}
