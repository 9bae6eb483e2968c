//! What goes with a request from its head to its answer.

use std::time::{Instant, SystemTime};

use tonic::Code;

use super::kept::{self, SpanContext, Trace};
use super::origin::{ID_CHARS, Origin};
use super::{Traces, is_worth_keeping};
use crate::course::Course;
use crate::error::Error;
use crate::stats::FailureReason;
use crate::{infer, status};

/// What is kept of an error's text.
const ERROR_CHARS: usize = 1000;

/// Follows one request. Dropped before its end, the request was cancelled.
pub struct Watch<'a> {
    traces: &'a Traces,
    pub course: Course,
    origin: Origin,
    /// Why it is traced from the beginning, if it is.
    sampled: Option<Sampled>,
    open: bool,
}

/// How a request is called once it has ended.
pub struct Ended {
    /// By its client, in the request; may be empty.
    pub own_id: String,
    /// By the head of its answer: where the client's said a name, and where a trace is kept that can be asked for.
    pub request_id: Option<String>,
}

/// What asks for a trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sampled {
    Caller,
    /// The trace settings, which promise a line of the log.
    Settings,
}

impl<'a> Watch<'a> {
    pub(super) fn start(traces: &'a Traces, origin: Origin, id: String, sampled: Option<Sampled>) -> Self {
        let context = sampled.map(|_| context(&origin));
        Self { traces, course: Course { id, context, ..Course::default() }, origin, sampled, open: true }
    }

    /// Ends it.
    pub fn end(mut self, error: Option<&Error>) -> Ended {
        self.open = false;
        let failed = error.is_some_and(is_worth_keeping);
        let outcome = error.map_or(kept::OK, |error| code_name(status::code(error)));
        let request_id = match self.sampled.is_some() || failed || self.is_profiled() || self.is_slow() {
            true => {
                self.keep(outcome, error.map(|error| error.to_string().chars().take(ERROR_CHARS).collect()))
            }
            false => self.origin.request_id.take(),
        };
        if let (Some(error), Some(served)) = (error, &self.course.served) {
            let (model, version) = (&served.name, served.version);
            let id = request_id.as_ref().unwrap_or(&self.course.id);
            let trace_id = self.course.context.map(|context| context.trace_text());
            match infer::reason(error) {
                FailureReason::Backend => {
                    tracing::warn!(model, version, id, trace_id, %error, "inference failed")
                }
                _ => tracing::debug!(model, version, id, trace_id, %error, "inference refused"),
            }
        }
        Ended { own_id: std::mem::take(&mut self.course.id), request_id }
    }

    fn is_profiled(&self) -> bool {
        self.course.execution.as_ref().is_some_and(|execution| execution.profile.is_some())
    }

    fn is_slow(&self) -> bool {
        self.traces.is_slow(self.origin.at.elapsed())
    }

    fn keep(&mut self, outcome: &'static str, error: Option<String>) -> Option<String> {
        let name = self.origin.request_id.take();
        // Names of models that are not there come from strangers.
        let Some(served) = &self.course.served else { return name };
        let (began, ended) = (self.origin.at, Instant::now());
        let context = *self.course.context.get_or_insert_with(|| context(&self.origin));
        let own = Some(self.course.id.chars().take(ID_CHARS).collect()).filter(|id: &String| !id.is_empty());
        let now = SystemTime::now();
        let trace = Trace {
            id: own.or(name).unwrap_or_else(|| context.span_text()),
            model: served.name.clone(),
            version: served.version,
            started: now.checked_sub(ended.saturating_duration_since(began)).unwrap_or(now),
            context,
            parent: self.origin.parent.take(),
            outcome,
            error,
            spans: kept::spans(&self.course, began, ended),
        };
        if self.sampled == Some(Sampled::Settings) {
            self.log(&trace);
        }
        let id = trace.id.clone();
        self.traces.keep(trace);
        Some(id)
    }

    /// One line: when the request began, and how long each step took.
    fn log(&self, trace: &Trace) {
        let began = trace.started.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let timing = self.course.execution.as_ref().map(|execution| execution.timing()).unwrap_or_default();
        tracing::info!(
            model = trace.model,
            version = trace.version,
            id = trace.id,
            trace_id = trace.context.trace_text(),
            outcome = trace.outcome,
            began_us = began.as_micros() as u64,
            took_us = trace.duration().as_micros() as u64,
            queue_us = timing.queue.as_micros() as u64,
            input_us = timing.input.as_micros() as u64,
            compute_us = timing.compute.as_micros() as u64,
            output_us = timing.output.as_micros() as u64,
            "trace"
        );
    }
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        if self.open && (self.sampled.is_some() || self.is_slow()) {
            self.keep(code_name(Code::Cancelled), None);
        }
    }
}

fn context(origin: &Origin) -> SpanContext {
    origin.parent.as_ref().map_or_else(SpanContext::new, SpanContext::below)
}

/// As the protocol spells it.
fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}
