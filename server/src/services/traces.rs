//! `ired.v1.TraceService`: requests that are kept, and profiles.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ired_proto::ired::v1::trace_attribute::Value as ProtoValue;
use ired_proto::ired::v1::trace_service_server::TraceService;
use ired_proto::ired::v1::{
    GetTraceRequest, GetTraceResponse, ListTracesRequest, ListTracesResponse, ProfileModelRequest,
    ProfileModelResponse, Trace as ProtoTrace, TraceAttribute, TraceSpan, TraceSummary,
};
use tonic::{Request, Response, Status};

use super::profile;
use crate::app::App;
use crate::auth::{Admitted, Caller};
use crate::error::{Error, shown};
use crate::trace::{Attribute, Span, SpanContext, Trace, Value};

/// As many as a list has where nobody says how many.
const LISTED: usize = 50;

pub struct TraceBook(pub Arc<App>);

#[tonic::async_trait]
impl TraceService for TraceBook {
    async fn list_traces(
        &self,
        request: Request<ListTracesRequest>,
    ) -> Result<Response<ListTracesResponse>, Status> {
        let caller = Admitted::of(&request)?.caller.clone();
        let ListTracesRequest { model, limit } = request.into_inner();
        let limit = Some(limit as usize).filter(|&limit| limit > 0);
        let traces = list(&self.0, &caller, &model, limit);
        Ok(Response::new(ListTracesResponse { traces: traces.iter().map(|trace| summary(trace)).collect() }))
    }

    async fn get_trace(
        &self,
        request: Request<GetTraceRequest>,
    ) -> Result<Response<GetTraceResponse>, Status> {
        let caller = Admitted::of(&request)?.caller.clone();
        let trace = find(&self.0, &caller, &request.get_ref().id)?;
        Ok(Response::new(GetTraceResponse { trace: Some(encode(&trace)) }))
    }

    async fn profile_model(
        &self,
        request: Request<ProfileModelRequest>,
    ) -> Result<Response<ProfileModelResponse>, Status> {
        Ok(Response::new(profile::watch(&self.0, request.get_ref())?.seen().await))
    }
}

/// The newest traces of a model, or with an empty name of all, that the caller may see.
pub(super) fn list(app: &App, caller: &Caller, model: &str, limit: Option<usize>) -> Vec<Arc<Trace>> {
    let shows = |of: &str| (model.is_empty() || of == model) && caller.sees(of);
    app.traces.recent.newest(limit.unwrap_or(LISTED), shows)
}

/// One trace.
///
/// # Errors
/// [`Error::UnknownTrace`], also for one that the caller may not see.
pub(super) fn find(app: &App, caller: &Caller, id: &str) -> Result<Arc<Trace>, Error> {
    let found = app.traces.recent.find(id, |model| caller.sees(model));
    found.ok_or_else(|| Error::UnknownTrace(shown(id)))
}

fn summary(trace: &Trace) -> TraceSummary {
    let started = trace.started.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    TraceSummary {
        id: trace.id.clone(),
        model: trace.model.clone(),
        version: trace.version,
        started_unix_ns: nanos(started),
        duration_ns: nanos(trace.duration()),
        outcome: trace.outcome.to_owned(),
    }
}

fn encode(trace: &Trace) -> ProtoTrace {
    ProtoTrace {
        summary: Some(summary(trace)),
        error: trace.error.clone().unwrap_or_default(),
        trace_id: trace.context.trace_text(),
        span_id: trace.context.span_text(),
        traceparent: trace.parent.as_ref().map(ToString::to_string).unwrap_or_default(),
        spans: trace.spans.iter().map(span).collect(),
    }
}

fn span(span: &Span) -> TraceSpan {
    let links = span.links.iter().flat_map(|links| links.iter());
    TraceSpan {
        name: span.name.to_string(),
        parent: span.parent.and_then(|parent| u32::try_from(parent).ok()),
        start_ns: nanos(span.start),
        end_ns: nanos(span.end),
        thread: span.thread,
        attributes: span.attributes.iter().map(attribute).collect(),
        links: links.map(SpanContext::to_string).collect(),
    }
}

fn attribute((name, value): &Attribute) -> TraceAttribute {
    let value = match value {
        Value::Integer(number) => ProtoValue::Integer(*number),
        Value::Text(text) => ProtoValue::Text(text.clone()),
    };
    TraceAttribute { name: (*name).to_owned(), value: Some(value) }
}

pub(super) fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
