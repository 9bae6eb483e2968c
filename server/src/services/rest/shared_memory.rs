//! Triton's shared memory extension over REST.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde::Deserialize;
use serde_json::json;

use super::{At, Reply, Shared, read_json};
use crate::app::App;
use crate::error::Error;

const SYSTEM: &str = "/v2/systemsharedmemory";
const CUDA: &str = "/v2/cudasharedmemory";

pub(super) fn router() -> Router<Arc<App>> {
    Router::new()
        .route(&format!("{SYSTEM}/status"), get(every_status))
        .route(&format!("{SYSTEM}/unregister"), post(unregister_all))
        .route(&format!("{SYSTEM}/region/{{region}}/status"), get(status))
        .route(&format!("{SYSTEM}/region/{{region}}/register"), post(register))
        .route(&format!("{SYSTEM}/region/{{region}}/unregister"), post(unregister))
        .route(&format!("{CUDA}/status"), get(none))
        .route(&format!("{CUDA}/unregister"), post(nothing_to_do))
        .route(&format!("{CUDA}/region/{{region}}/status"), get(none))
        .route(&format!("{CUDA}/region/{{region}}/register"), post(no_cuda))
        .route(&format!("{CUDA}/region/{{region}}/unregister"), post(nothing_to_do))
}

#[derive(Deserialize)]
pub(super) struct Named {
    region: String,
}

#[derive(Deserialize)]
struct Registration {
    key: String,
    #[serde(default, deserialize_with = "super::whole")]
    offset: u64,
    #[serde(deserialize_with = "super::whole")]
    byte_size: u64,
}

async fn every_status(State(app): Shared) -> Reply {
    regions(&app, "")
}

async fn status(State(app): Shared, At(at): At<Named>) -> Reply {
    regions(&app, &at.region)
}

fn regions(app: &App, name: &str) -> Reply {
    let regions = app.regions.status(name)?.into_iter().map(|(name, region)| {
        json!({ "name": name, "key": region.key, "offset": region.offset, "byte_size": region.byte_size })
    });
    Ok(axum::Json(regions.collect::<Vec<_>>()).into_response())
}

async fn register(State(app): Shared, At(at): At<Named>, request: Request) -> Reply {
    let region: Registration = read_json(&app, request).await?;
    app.regions.register(&at.region, &region.key, region.offset, region.byte_size)?;
    Ok(StatusCode::OK.into_response())
}

async fn unregister(State(app): Shared, At(at): At<Named>) -> StatusCode {
    app.regions.unregister(&at.region);
    StatusCode::OK
}

async fn unregister_all(State(app): Shared) -> StatusCode {
    app.regions.unregister("");
    StatusCode::OK
}

async fn none() -> Response {
    axum::Json(json!([])).into_response()
}

async fn nothing_to_do() -> StatusCode {
    StatusCode::OK
}

async fn no_cuda() -> Reply {
    Err(Error::NoCuda)
}
