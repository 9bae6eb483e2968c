//! KServe v2 and Triton's extensions over REST, and the metrics.

mod answer;
mod body;
mod generate;
mod infer;
mod raw;
mod settings;
mod shared_memory;
mod traces;
mod v1;
mod view;

use std::sync::Arc;

use axum::extract::{FromRequestParts, Path, Request, State};
use axum::http::{StatusCode, Uri, header, request::Parts};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Router};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Number, Value, json};

use crate::app::App;
use crate::auth::Admitted;
use crate::error::Error;
use crate::inline::Inline;
use crate::services::console;
use crate::{describe, metrics, model_config, status};

type Shared = State<Arc<App>>;
type Reply = Result<Response, Error>;

/// What this door offers, as an OpenAPI document.
const OPENAPI: &str = include_str!("rest/openapi.json");

/// The REST front door.
pub fn router(app: Arc<App>) -> Router {
    let console = if app.settings.console { console::router() } else { Router::new() };
    Router::new()
        .route("/openapi.json", get(open_api))
        .route("/v2", get(server))
        .route("/v2/", get(server))
        .route("/v2/health/live", get(live))
        .route("/v2/health/ready", get(ready))
        .route("/v2/models/stats", get(all_statistics))
        .route("/v2/models/{model}", get(model))
        .route("/v2/models/{model}/ready", get(model_ready))
        .route("/v2/models/{model}/config", get(config))
        .route("/v2/models/{model}/stats", get(statistics))
        .route("/v2/models/{model}/infer", post(infer::infer))
        .route("/v2/models/{model}/generate", post(generate::generate))
        .route("/v2/models/{model}/generate_stream", post(generate::generate_stream))
        .route("/v2/models/{model}/versions/{version}", get(model))
        .route("/v2/models/{model}/versions/{version}/ready", get(model_ready))
        .route("/v2/models/{model}/versions/{version}/config", get(config))
        .route("/v2/models/{model}/versions/{version}/stats", get(statistics))
        .route("/v2/models/{model}/versions/{version}/infer", post(infer::infer))
        .route("/v2/models/{model}/versions/{version}/generate", post(generate::generate))
        .route("/v2/models/{model}/versions/{version}/generate_stream", post(generate::generate_stream))
        .route("/v2/repository/index", post(index))
        .route("/v2/repository/models/{model}/load", post(load))
        .route("/v2/repository/models/{model}/unload", post(unload))
        .route("/v2/repository/{repository}/index", post(index))
        .merge(settings::router())
        .merge(shared_memory::router())
        .merge(traces::router())
        .merge(v1::router())
        .merge(console)
        .fallback(fallback)
        .with_state(app)
}

/// The metrics' front door.
pub fn metrics_router(app: Arc<App>) -> Router {
    Router::new().route("/metrics", get(prometheus)).fallback(fallback).with_state(app)
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let mut response =
            (status::http(&self), axum::Json(json!({ "error": self.to_string() }))).into_response();
        if let Some(after) = self.retry_after() {
            // The header counts whole seconds.
            let seconds = after.as_millis().div_ceil(1000) as u64;
            response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
        }
        response
    }
}

/// The model and version of a path.
#[derive(Deserialize)]
struct Named {
    model: String,
    #[serde(default)]
    version: String,
}

/// What a path names, refused in our own words.
struct At<T>(T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for At<T> {
    type Rejection = Error;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Error> {
        let path = Path::<T>::from_request_parts(parts, state).await;
        path.map(|Path(named)| Self(named)).map_err(|rejection| Error::invalid(rejection.body_text()))
    }
}

async fn open_api() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], OPENAPI).into_response()
}

async fn live() -> StatusCode {
    StatusCode::OK
}

async fn ready(State(app): Shared) -> StatusCode {
    if app.is_ready() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}

async fn model_ready(State(app): Shared, At(at): At<Named>) -> Result<StatusCode, Error> {
    app.registry.find(&at.model, &at.version).map(|_| StatusCode::OK)
}

async fn server(State(app): Shared) -> Response {
    axum::Json(view::server(&describe::server(&app.settings))).into_response()
}

async fn model(State(app): Shared, At(at): At<Named>) -> Reply {
    let served = app.registry.find(&at.model, &at.version)?;
    Ok(axum::Json(view::metadata(&describe::metadata(&app.registry, &served))).into_response())
}

async fn config(State(app): Shared, At(at): At<Named>) -> Reply {
    let served = app.registry.find(&at.model, &at.version)?;
    Ok(axum::Json(model_config::to_json(&describe::config(&served, &app.settings))?).into_response())
}

async fn statistics(State(app): Shared, At(at): At<Named>) -> Reply {
    let found = describe::statistics(&app.registry, &at.model, &at.version)?;
    Ok(axum::Json(view::statistics(&found)).into_response())
}

async fn all_statistics(State(app): Shared, Extension(admitted): Extension<Admitted>) -> Reply {
    let mut found = describe::statistics(&app.registry, "", "")?;
    found.retain(|model| admitted.caller.sees(&model.name));
    Ok(axum::Json(view::statistics(&found)).into_response())
}

#[derive(Default, Deserialize)]
struct IndexRequest {
    #[serde(default)]
    ready: bool,
}

async fn index(State(app): Shared, Extension(admitted): Extension<Admitted>, request: Request) -> Reply {
    let request: IndexRequest = read_json(&app, request).await?;
    let mut models = describe::index(&app.registry, request.ready);
    models.retain(|model| admitted.caller.sees(&model.name));
    Ok(axum::Json(view::index(&models)).into_response())
}

#[derive(Default, Deserialize)]
struct LoadRequest {
    #[serde(default)]
    parameters: Map<String, Value>,
}

async fn load(State(app): Shared, At(at): At<Named>, request: Request) -> Reply {
    let request: LoadRequest = read_json(&app, request).await?;
    let mut inline = Inline::default();
    for (name, value) in request.parameters {
        // What is wrong with the parameters of a model that is not there does not matter.
        parameter(&mut inline, &name, value)
            .map_err(|error| inline.unless_unknown(&app, &at.model, error))?;
    }
    inline.load(&app, &at.model).await?;
    Ok(StatusCode::OK.into_response())
}

fn parameter(inline: &mut Inline, name: &str, value: Value) -> Result<(), Error> {
    match (name, value) {
        ("config", Value::String(config)) => inline.config(config),
        (_, Value::String(content)) => {
            let content = BASE64.decode(content);
            let content = content
                .map_err(|error| Error::invalid(format!("load parameter `{name}` is not base64: {error}")))?;
            inline.file(name, content.into())?;
        }
        _ => return Err(Error::invalid(format!("load parameter `{name}` is not a string"))),
    }
    Ok(())
}

async fn unload(State(app): Shared, At(at): At<Named>, request: Request) -> Reply {
    // What Triton's clients say of models that depend on this one: here none does.
    let _: Map<String, Value> = read_json(&app, request).await?;
    app.unload(&at.model).await?;
    Ok(StatusCode::OK.into_response())
}

/// A small JSON body; an empty one is an object without fields.
async fn read_json<T: DeserializeOwned>(app: &App, request: Request) -> Result<T, Error> {
    let (body, _inside) = body::read(request, app).await?;
    from_object(if body.is_empty() { b"{}" } else { &body })
}

/// An array would do for the fields of an object in their order, and is none.
fn from_object<'de, T: Deserialize<'de>>(text: &'de [u8]) -> Result<T, Error> {
    if !text.trim_ascii_start().starts_with(b"{") {
        return Err(Error::invalid("the request is not the expected JSON: it is no object"));
    }
    serde_json::from_slice(text)
        .map_err(|error| Error::invalid(format!("the request is not the expected JSON: {error}")))
}

/// A whole number that is not negative, also where it is written `3.0`.
fn whole_number(number: &Number) -> Option<u64> {
    // Up to 2^53 every whole f64 is that integer.
    let exact = |value: &f64| value.fract() == 0.0 && (0.0..=9_007_199_254_740_992.0).contains(value);
    number.as_u64().or_else(|| number.as_f64().filter(exact).map(|value| value as u64))
}

/// A field that is a [`whole_number`].
fn whole<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let number = Number::deserialize(deserializer)?;
    whole_number(&number).ok_or_else(|| {
        D::Error::custom(format!("found {number}, expected a whole number that is not negative"))
    })
}

async fn prometheus(State(app): Shared) -> Response {
    let text = metrics::render(&app);
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response()
}

async fn fallback(uri: Uri) -> Error {
    Error::NoSuchMethod(uri.path().chars().take(200).collect())
}
