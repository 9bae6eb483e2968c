//! Compilation over REST: a line of JSON for each event, as it happens. The last one is `done` or `failed`.

use std::convert::Infallible;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header;
use axum::response::IntoResponse;
use bytes::Bytes;
use futures::StreamExt;
use ired_proto::ired::v1::compile_event::Event;
use ired_proto::ired::v1::{Diagnostic, ModelRef, SandboxLayer, Target, diagnostic};
use serde::Deserialize;
use serde_json::{Value, json};

use super::super::{At, Named, Reply, Shared, read_json};
use crate::error::{CompileError, Error};
use crate::services::compile;

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Asked {
    target: Machine,
    /// Further machines that the module shall run on, in the order of preference.
    fallbacks: Vec<Machine>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Machine {
    triple: String,
    features: Vec<String>,
}

impl From<Machine> for Target {
    fn from(Machine { triple, features }: Machine) -> Self {
        Self { triple, features }
    }
}

pub(super) async fn compile(State(app): Shared, At(at): At<Named>, request: Request) -> Reply {
    let Asked { target, fallbacks } = read_json(&app, request).await?;
    let model = ModelRef { version: at.version()?.unwrap_or(0), name: at.model };
    let fallbacks = fallbacks.into_iter().map(Target::from).collect();
    let request = compile::decode(&app, Some(model), Some(target.into()), fallbacks)?;
    let events = compile::follow(&app, request).await;
    let lines = events.map(|event| {
        let mut line = match event {
            Ok(event) => view(&event),
            Err(error) => failed(error),
        }
        .to_string();
        line.push('\n');
        Ok::<_, Infallible>(Bytes::from(line))
    });
    Ok(([(header::CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(lines)).into_response())
}

fn failed(error: Arc<CompileError>) -> Value {
    let mut line = view(&Event::Failed(compile::failure(&error)));
    line["error"] = Error::from(error).to_string().into();
    line
}

fn view(event: &Event) -> Value {
    match event {
        Event::Queued(queued) => json!({ "event": "queued", "ahead": queued.ahead }),
        Event::Started(started) => json!({
            "event": "started",
            "pid": started.pid,
            "sandbox": started.sandbox.iter().map(layer).collect::<Vec<_>>(),
        }),
        Event::Progress(progress) => json!({
            "event": "progress",
            "phase": progress.phase,
            "done": progress.done,
            "total": progress.total,
            "detail": progress.detail,
        }),
        Event::Retrying(retrying) => json!({ "event": "retrying", "reason": retrying.reason }),
        Event::Elsewhere(other) => json!({ "event": "elsewhere", "replica": other.replica }),
        Event::Done(done) => {
            let phases = done.phases.iter();
            let phases = phases.map(|phase| json!({ "phase": phase.phase, "wall_us": phase.wall_us }));
            json!({
                "event": "done",
                "cached": done.cached,
                "key": done.key,
                "module_bytes": done.module_bytes,
                "phases": phases.collect::<Vec<_>>(),
                "peak_rss_bytes": done.peak_rss_bytes,
                "warnings": done.warnings.iter().map(diagnostic).collect::<Vec<_>>(),
                "wall_us": done.wall_us,
            })
        }
        Event::Failed(failed) => json!({
            "event": "failed",
            "kind": failed.kind,
            "diagnostics": failed.diagnostics.iter().map(diagnostic).collect::<Vec<_>>(),
        }),
    }
}

fn layer(layer: &SandboxLayer) -> Value {
    json!({ "name": layer.name, "active": layer.active, "reason": layer.reason })
}

fn diagnostic(found: &Diagnostic) -> Value {
    let severity = match found.severity() {
        diagnostic::Severity::Error | diagnostic::Severity::Unspecified => "error",
        diagnostic::Severity::Warning => "warning",
        diagnostic::Severity::Note => "note",
    };
    json!({
        "severity": severity,
        "message": found.message,
        "location": found.location,
        "hint": found.hint,
    })
}
