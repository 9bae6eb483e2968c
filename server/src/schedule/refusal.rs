//! Why a request is not run, and when to come again.

use std::fmt;
use std::time::Duration;

/// The shortest hint: less is the network's own time.
const SOONEST: Duration = Duration::from_millis(1);
/// The longest: what is estimated beyond it is a guess.
const LATEST: Duration = Duration::from_secs(30);

/// A refusal before anything ran.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{subject} {why}")]
pub struct Refusal {
    pub subject: Subject,
    pub why: Why,
    /// An estimate of when it would not be refused.
    pub retry_after: Duration,
}

/// Whose bound a request is beyond.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    Model(String),
    Tenant(String),
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Model(name) => write!(f, "model `{name}`"),
            Self::Tenant(name) => write!(f, "tenant `{}`", name.escape_debug()),
        }
    }
}

#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Why {
    #[error("has {limit} requests inside already")]
    Full { limit: usize },
    #[error("has {inside} requests of tenant `{}` inside already; {free} of {limit} places are left for others", tenant.escape_debug())]
    Crowded { tenant: String, inside: usize, free: usize, limit: usize },
    #[error("has {inside} bytes of requests inside already; {left} of {limit} are left for others")]
    Bytes { inside: u64, left: u64, limit: u64 },
    #[error("has {limit} requests of this priority waiting already")]
    Waiting { limit: usize },
    #[error("has {limit} requests waiting already")]
    Queued { limit: usize },
    #[error("has {limit} processes of tenants already, all at work")]
    Processes { limit: usize },
    #[error("would answer in {wait:.1?}; the deadline is in {left:.1?}")]
    Late { wait: Duration, left: Duration },
    #[error("did not get to the request within the {limit:.1?} that it may wait")]
    Waited { limit: Duration },
    #[error("takes {per_second} requests a second at most")]
    Rate { per_second: f64 },
    #[error("sends {per_second} requests a second at most, and {burst} at once")]
    Burst { per_second: f64, burst: f64 },
    #[error("needs {needs} bytes for the request; the budget is {budget}, {in_use} in use")]
    Memory { needs: u64, budget: u64, in_use: u64 },
    #[error("needs {needs} bytes for the states of the sequence; the budget is {budget}, {in_use} in use")]
    States { needs: u64, budget: u64, in_use: u64 },
    #[error("needs {needs} bytes to be loaded; the budget is {budget}, {in_use} in use by what cannot go")]
    Resident { needs: u64, budget: u64, in_use: u64 },
}

impl Why {
    /// In one word, as metrics have it.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::Full { .. } | Self::Crowded { .. } | Self::Bytes { .. } | Self::Processes { .. } => "full",
            Self::Waiting { .. } | Self::Queued { .. } => "queue",
            Self::Late { .. } => "late",
            Self::Waited { .. } => "timeout",
            Self::Rate { .. } | Self::Burst { .. } => "rate",
            Self::Memory { .. } | Self::States { .. } | Self::Resident { .. } => "memory",
        }
    }
}

impl Refusal {
    pub fn new(model: &str, why: Why, retry_after: Duration) -> Self {
        Self::of(Subject::Model(model.to_owned()), why, retry_after)
    }

    pub fn of(subject: Subject, why: Why, retry_after: Duration) -> Self {
        Self { subject, why, retry_after: retry_after.clamp(SOONEST, LATEST) }
    }

    /// In one word, as the metrics of a model have it.
    pub const fn reason(&self) -> &'static str {
        match self.subject {
            Subject::Model(_) => self.why.reason(),
            Subject::Tenant(_) => "tenant",
        }
    }

    /// Whether the bound is the caller's to keep, rather than room that the server has not.
    pub const fn is_callers(&self) -> bool {
        matches!((&self.subject, &self.why), (Subject::Tenant(_), _) | (_, Why::Rate { .. }))
    }
}
