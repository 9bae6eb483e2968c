//! Triton's trace and logging extensions over REST.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::response::IntoResponse;
use axum::routing::get;
use serde_json::{Map, Value};

use super::{At, Named, Reply, Shared, read_json};
use crate::app::App;
use crate::error::Error;
use crate::services::settings::{self, LogValue};
use crate::trace::Changes;

/// The one setting that is a list.
const LEVEL: &str = "trace_level";

pub(super) fn router() -> Router<Arc<App>> {
    Router::new()
        .route("/v2/logging", get(log).post(change_log))
        .route("/v2/trace/setting", get(trace).post(change_trace))
        .route("/v2/models/{model}/trace/setting", get(model_trace).post(change_model_trace))
}

async fn log() -> Reply {
    log_settings(Vec::new())
}

async fn change_log(State(app): Shared, request: Request) -> Reply {
    let fields: Map<String, Value> = read_json(&app, request).await?;
    let value = |(name, value): (String, Value)| {
        let value = match value {
            Value::Bool(on) => LogValue::Switch(on),
            Value::String(text) => LogValue::Text(text),
            Value::Number(number) => {
                let level = super::whole_number(&number).and_then(|level| u32::try_from(level).ok());
                let wrong =
                    || Error::invalid(format!("log setting: {number} is not a level from 0 to {}", u32::MAX));
                LogValue::Level(level.ok_or_else(wrong)?)
            }
            _ => return Err(Error::invalid("a log setting is a boolean, a number or a text")),
        };
        Ok((name, value))
    };
    log_settings(fields.into_iter().map(value).collect::<Result<_, _>>()?)
}

fn log_settings(changes: Vec<(String, LogValue)>) -> Reply {
    let value = |(name, value): (&'static str, LogValue)| {
        let value = match value {
            LogValue::Switch(on) => Value::from(on),
            LogValue::Level(level) => Value::from(level),
            LogValue::Text(text) => Value::from(text),
        };
        (name, value)
    };
    let values: BTreeMap<_, _> = settings::log(changes)?.into_iter().map(value).collect();
    Ok(axum::Json(values).into_response())
}

async fn trace(State(app): Shared) -> Reply {
    trace_settings(&app, "", &Changes::new())
}

async fn change_trace(State(app): Shared, request: Request) -> Reply {
    let changes = trace_changes(read_json(&app, request).await?)?;
    trace_settings(&app, "", &changes)
}

async fn model_trace(State(app): Shared, At(at): At<Named>) -> Reply {
    trace_settings(&app, &at.model, &Changes::new())
}

async fn change_model_trace(State(app): Shared, At(at): At<Named>, request: Request) -> Reply {
    let changes = trace_changes(read_json(&app, request).await?)?;
    trace_settings(&app, &at.model, &changes)
}

/// Null takes back what was said before.
fn trace_changes(fields: Map<String, Value>) -> Result<Changes, Error> {
    let wrong = || Error::invalid("a trace setting is a text or null; `trace_level` may be a list of texts");
    let change = |(name, value): (String, Value)| {
        let values = match value {
            Value::Null => Vec::new(),
            Value::String(text) => vec![text],
            Value::Array(values) if name == LEVEL => {
                let text = |value: Value| match value {
                    Value::String(text) => Ok(text),
                    _ => Err(wrong()),
                };
                values.into_iter().map(text).collect::<Result<_, _>>()?
            }
            _ => return Err(wrong()),
        };
        Ok((name, values))
    };
    fields.into_iter().map(change).collect()
}

/// Levels are a list, all else a text.
fn trace_settings(app: &App, model: &str, changes: &Changes) -> Reply {
    let values = settings::trace(app, model, changes)?;
    let value = |(name, mut values): (&'static str, Vec<String>)| match (name, values.len()) {
        (LEVEL, _) => (name, Value::from(values)),
        _ => (name, values.pop().map_or(Value::Null, Value::from)),
    };
    Ok(axum::Json(values.into_iter().map(value).collect::<BTreeMap<_, _>>()).into_response())
}
