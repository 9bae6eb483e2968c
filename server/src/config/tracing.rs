//! Settings of traces, the table `tracing`, and how the log is written.

use std::path::PathBuf;

use anyhow::bail;
use serde::{Deserialize, Serialize};
use tonic::transport::Endpoint;

/// How lines of the log are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    #[default]
    Text,
    Json,
}

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
    /// Where traces go: a collector that speaks OTLP over gRPC, such as `http://localhost:4317`; none: nowhere. The
    /// standard variables OTEL_EXPORTER_OTLP_ENDPOINT and OTEL_EXPORTER_OTLP_TRACES_ENDPOINT say it, too.
    pub otlp_endpoint: Option<String>,
    /// Certificates of the authorities that vouch for the collector (PEM); none: those that the system trusts.
    pub otlp_ca: Option<PathBuf>,
}

impl TracingSettings {
    pub(super) fn check(&self) -> anyhow::Result<()> {
        let Some(endpoint) = &self.otlp_endpoint else { return Ok(()) };
        let address = Endpoint::from_shared(endpoint.clone());
        let scheme = address.as_ref().ok().and_then(|address| address.uri().scheme_str());
        if !matches!(scheme, Some("http" | "https")) {
            bail!(
                "setting `tracing.otlp_endpoint` is `{endpoint}`, expected an address such as `http://localhost:4317`"
            );
        }
        Ok(())
    }
}

impl Default for TracingSettings {
    fn default() -> Self {
        Self {
            follow_callers: true,
            slow_ms: 1000,
            requests: 1024,
            requests_of_a_model: 128,
            bytes: 16 << 20,
            otlp_endpoint: None,
            otlp_ca: None,
        }
    }
}
