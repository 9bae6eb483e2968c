//! Requests that are kept, over REST.

use std::sync::Arc;

use axum::extract::{Query, State};
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Extension, Router};
use serde::Deserialize;
use serde_json::{Map, Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::{At, Reply, Shared};
use crate::app::App;
use crate::auth::Admitted;
use crate::error::Error;
use crate::services::traces::{find, list, nanos};
use crate::trace::{self, Span, Trace};

pub(super) fn router() -> Router<Arc<App>> {
    Router::new().route("/v1/requests", get(requests)).route("/v1/requests/{id}", get(request))
}

/// What is asked for.
#[derive(Deserialize)]
struct Asked {
    #[serde(default)]
    model: String,
    limit: Option<u32>,
}

async fn requests(
    State(app): Shared,
    Extension(admitted): Extension<Admitted>,
    asked: Result<Query<Asked>, axum::extract::rejection::QueryRejection>,
) -> Reply {
    let Query(asked) = asked.map_err(|rejection| Error::invalid(rejection.body_text()))?;
    let found = list(&app, &admitted.caller, &asked.model, asked.limit.map(|limit| limit as usize));
    let requests: Vec<Value> = found.iter().map(|trace| Value::Object(summary(trace))).collect();
    Ok(axum::Json(json!({ "requests": requests })).into_response())
}

#[derive(Deserialize)]
struct Named {
    id: String,
}

async fn request(State(app): Shared, Extension(admitted): Extension<Admitted>, At(at): At<Named>) -> Reply {
    let trace = find(&app, &admitted.caller, &at.id)?;
    let mut fields = summary(&trace);
    if let Some(error) = &trace.error {
        fields.insert("error".to_owned(), error.as_str().into());
    }
    if let Some(parent) = &trace.parent {
        fields.insert("traceparent".to_owned(), parent.to_string().into());
    }
    fields.insert("trace_id".to_owned(), trace.context.trace_text().into());
    fields.insert("span_id".to_owned(), trace.context.span_text().into());
    fields.insert("spans".to_owned(), trace.spans.iter().map(span).collect());
    Ok(axum::Json(fields).into_response())
}

fn summary(trace: &Trace) -> Map<String, Value> {
    let started = OffsetDateTime::from(trace.started).format(&Rfc3339).unwrap_or_default();
    let fields = [
        ("id", Value::from(trace.id.as_str())),
        ("model", trace.model.as_str().into()),
        ("version", trace.version.to_string().into()),
        ("started", started.into()),
        ("duration_ns", nanos(trace.duration()).into()),
        ("outcome", trace.outcome.into()),
    ];
    fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

fn span(span: &Span) -> Value {
    let attribute = |(name, value): &trace::Attribute| {
        let value = match value {
            trace::Value::Integer(number) => Value::from(*number),
            trace::Value::Text(text) => text.as_str().into(),
        };
        ((*name).to_owned(), value)
    };
    let mut fields = Map::from_iter(
        [
            ("name", Value::from(span.name.as_ref())),
            ("start_ns", nanos(span.start).into()),
            ("end_ns", nanos(span.end).into()),
            ("attributes", Value::Object(span.attributes.iter().map(attribute).collect())),
        ]
        .map(|(name, value)| (name.to_owned(), value)),
    );
    let mut also =
        |name: &str, value: Option<Value>| fields.extend(value.map(|value| (name.to_owned(), value)));
    also("parent", span.parent.map(Value::from));
    also("thread", span.thread.map(Value::from));
    also("links", span.links.as_ref().map(|links| links.iter().map(ToString::to_string).collect()));
    Value::Object(fields)
}
