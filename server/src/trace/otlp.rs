//! A trace in the terms of OpenTelemetry.

use std::str::FromStr;

use opentelemetry::trace::{
    Link, SpanContext as OtelContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState,
};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};

use super::kept::{Attribute, OK, Span, SpanContext, Trace, Value, new_span};

/// All spans of a trace; those of steps get their ids here, as nobody else names them.
pub(super) fn spans(trace: &Trace) -> Vec<SpanData> {
    let own = |at| if at == 0 { trace.context.span } else { new_span() };
    let ids: Vec<u64> = (0..trace.spans.len()).map(own).collect();
    let state = trace.parent.as_ref().map(|parent| TraceState::from_str(&parent.state).unwrap_or_default());
    let state = state.unwrap_or_default();
    let span = |(at, span): (usize, &Span)| {
        let is_request = at == 0;
        let caller = trace.parent.as_ref().filter(|_| is_request);
        let parent = span.parent.and_then(|parent| ids.get(parent).copied());
        let parent = caller.map(|caller| caller.span).or(parent);
        SpanData {
            span_context: context(SpanContext { span: ids[at], ..trace.context }, state.clone()),
            parent_span_id: parent.map_or(SpanId::INVALID, |id| SpanId::from_bytes(id.to_be_bytes())),
            parent_span_is_remote: caller.is_some(),
            span_kind: if is_request { SpanKind::Server } else { SpanKind::Internal },
            name: if is_request { format!("infer {}", trace.model).into() } else { span.name.clone() },
            start_time: trace.started + span.start,
            end_time: trace.started + span.end,
            attributes: if is_request { of_request(trace) } else { of_step(span) },
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links: links(span),
            status: if is_request { status(trace) } else { Status::Unset },
            instrumentation_scope: InstrumentationScope::builder("ired").build(),
        }
    };
    trace.spans.iter().enumerate().map(span).collect()
}

fn context(context: SpanContext, state: TraceState) -> OtelContext {
    let trace = TraceId::from_bytes(context.trace.to_be_bytes());
    let span = SpanId::from_bytes(context.span.to_be_bytes());
    OtelContext::new(trace, span, TraceFlags::SAMPLED, false, state)
}

fn of_request(trace: &Trace) -> Vec<KeyValue> {
    let version = i64::try_from(trace.version).unwrap_or(i64::MAX);
    let mut attributes = vec![
        KeyValue::new("ired.model", trace.model.clone()),
        KeyValue::new("ired.version", version),
        KeyValue::new("ired.request_id", trace.id.clone()),
    ];
    if trace.outcome != OK {
        attributes.push(KeyValue::new("error.type", trace.outcome));
    }
    attributes
}

fn status(trace: &Trace) -> Status {
    trace.error.clone().map_or(Status::Unset, Status::error)
}

fn of_step(span: &Span) -> Vec<KeyValue> {
    let attribute = |(name, value): &Attribute| match value {
        Value::Integer(number) => KeyValue::new(*name, *number),
        Value::Text(text) => KeyValue::new(*name, text.clone()),
    };
    let thread = span.thread.map(|thread| KeyValue::new("thread.id", i64::from(thread)));
    span.attributes.iter().map(attribute).chain(thread).collect()
}

fn links(span: &Span) -> SpanLinks {
    let mut links = SpanLinks::default();
    let all = span.links.iter().flat_map(|links| links.iter());
    links.links = all.map(|link| Link::with_context(context(*link, TraceState::NONE))).collect();
    links
}
