//! Settings of traces: the table `tracing`.

use serde::{Deserialize, Serialize};

/// Which requests are traced and what is kept of them. What the trace extension samples is set by its clients.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct TracingSettings {
    /// Trace the requests that their callers trace (a `traceparent` that says sampled).
    pub follow_callers: bool,
    /// Requests that take so many milliseconds and more are kept as if they were traced; 0: none. Failed ones are, too.
    pub slow_ms: u64,
    /// Requests that are kept, to be looked at; the newest of all models.
    pub requests: usize,
    /// Of them, so many of one model at most, so that a busy one leaves others their place.
    pub requests_of_a_model: usize,
    /// Memory for them, in bytes.
    pub bytes: u64,
}

impl Default for TracingSettings {
    fn default() -> Self {
        Self {
            follow_callers: true,
            slow_ms: 1000,
            requests: 1024,
            requests_of_a_model: 128,
            bytes: 16 << 20,
        }
    }
}
