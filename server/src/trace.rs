//! Traces of requests: which are made, what is kept of them, and where they go.
//!
//! The steps of every request are timed, as statistics need that anyway. A [`Watch`] goes with a request from its
//! decoded form to its answer; at the end it makes a [`Trace`] of those that the trace settings sample or whose caller
//! traces them, and of those that failed or were slow, which nobody knows before. All others cost one load.

mod export;
mod kept;
mod origin;
mod otlp;
mod recent;
mod settings;
mod watch;

use std::sync::Arc;
use std::time::Duration;

use ired_worker::RuntimeFailure;

pub use export::{Export, ExportCounts, Exporting};
pub use kept::{Attribute, Links, Span, SpanContext, Trace, Value};
pub use origin::{Origin, Parent, REQUEST_ID};
pub use recent::{Recent, RecentLimits};
pub use settings::{Changes, TraceSettings, Values};
use watch::Sampled;
pub use watch::{Ended, Watch};

use crate::config::TracingSettings;
use crate::error::Error;
use crate::infer::Call;

/// All that has to do with traces.
#[derive(Debug)]
pub struct Traces {
    pub settings: TraceSettings,
    pub recent: Recent,
    /// `None`: they go nowhere.
    pub export: Option<Export>,
    follow_callers: bool,
    slow: Option<Duration>,
}

impl Traces {
    pub fn new(settings: &TracingSettings, export: Option<Export>) -> Self {
        let TracingSettings { follow_callers, slow_ms, .. } = *settings;
        let limits = RecentLimits {
            requests: settings.requests,
            of_a_model: settings.requests_of_a_model,
            bytes: settings.bytes,
        };
        Self {
            settings: TraceSettings::default(),
            recent: Recent::new(limits),
            export,
            follow_callers,
            slow: Some(Duration::from_millis(slow_ms)).filter(|slow| !slow.is_zero()),
        }
    }

    /// Goes with a request, whose name it takes, from here to its end.
    pub fn watch(&self, origin: Origin, call: &mut Call) -> Watch<'_> {
        let caller_traces = || self.follow_callers && origin.parent.as_ref().is_some_and(|p| p.sampled);
        let sampled = match self.settings.samples(&call.model) {
            true => Some(Sampled::Settings),
            false => caller_traces().then_some(Sampled::Caller),
        };
        Watch::start(self, origin, std::mem::take(&mut call.id), sampled)
    }

    /// Keeps a trace, and sends it off unless its caller said that this is not wanted.
    fn keep(&self, trace: Trace) {
        let trace = Arc::new(trace);
        if let Some(export) = &self.export
            && trace.parent.as_ref().is_none_or(|parent| parent.sampled)
        {
            export.send(&trace);
        }
        self.recent.keep(trace);
    }

    fn is_slow(&self, took: Duration) -> bool {
        self.slow.is_some_and(|slow| took >= slow)
    }
}

/// Whether to keep a request for its error. What was refused is counted only: under overload that must cost nothing.
fn is_worth_keeping(error: &Error) -> bool {
    !matches!(
        error,
        Error::Refused(_)
            | Error::Busy { .. }
            | Error::Stopping
            | Error::Runtime(RuntimeFailure::Overloaded { .. })
    )
}
