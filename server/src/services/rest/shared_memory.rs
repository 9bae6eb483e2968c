//! Triton's shared memory extension, as far as a server without it has something to say: no region is registered,
//! and none can be.

use std::sync::Arc;

use axum::Router;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde_json::json;

use super::Reply;
use crate::app::App;
use crate::error::Error;

pub(super) fn router() -> Router<Arc<App>> {
    let mut router = Router::new();
    for kind in ["systemsharedmemory", "cudasharedmemory"] {
        router = router
            .route(&format!("/v2/{kind}/status"), get(none))
            .route(&format!("/v2/{kind}/region/{{region}}/status"), get(none))
            .route(&format!("/v2/{kind}/region/{{region}}/register"), post(register))
            .route(&format!("/v2/{kind}/unregister"), post(nothing_to_do))
            .route(&format!("/v2/{kind}/region/{{region}}/unregister"), post(nothing_to_do));
    }
    router
}

async fn none() -> Response {
    axum::Json(json!([])).into_response()
}

async fn nothing_to_do() -> StatusCode {
    StatusCode::OK
}

async fn register() -> Reply {
    let text = "shared memory regions are not supported; send tensors as binary data";
    Err(Error::Unsupported(text.to_owned()))
}
