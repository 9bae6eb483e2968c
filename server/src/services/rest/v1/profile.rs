//! Profiles over REST. The answer begins as soon as executions are watched, and ends with what was seen: whoever has its
//! head can send a request and be sure that it is looked at.

use std::convert::Infallible;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header;
use axum::response::IntoResponse;
use bytes::Bytes;
use ired_proto::ired::v1::{ProfileModelRequest, ProfileModelResponse, ProfiledDispatch};
use serde::Deserialize;
use serde_json::{Value, json};

use super::super::{At, Named, Reply, Shared, read_json};
use crate::services::profile;

/// What is 0 is as where nothing is said.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Asked {
    #[serde(deserialize_with = "super::super::whole")]
    executions: u64,
    #[serde(deserialize_with = "super::super::whole")]
    seconds: u64,
}

pub(super) async fn profile(State(app): Shared, At(at): At<Named>, request: Request) -> Reply {
    let Asked { executions, seconds } = read_json(&app, request).await?;
    // What is too much stays too much.
    let few = |count: u64| u32::try_from(count).unwrap_or(u32::MAX);
    let request = ProfileModelRequest {
        version: at.version()?.unwrap_or(0),
        model: at.model,
        executions: few(executions),
        seconds: few(seconds),
    };
    let watch = profile::watch(&app, &request)?;
    let seen = async move { Ok::<_, Infallible>(Bytes::from(view(&watch.seen().await).to_string())) };
    let body = Body::from_stream(futures::stream::once(seen));
    Ok(([(header::CONTENT_TYPE, "application/json")], body).into_response())
}

fn view(profile: &ProfileModelResponse) -> Value {
    json!({
        "version": profile.version.to_string(),
        "executions": profile.executions,
        "compute_ns": profile.compute_ns,
        "threads": profile.threads,
        "dispatches": profile.dispatches.iter().map(dispatch).collect::<Vec<_>>(),
        "left_out": profile.left_out,
    })
}

fn dispatch(dispatch: &ProfiledDispatch) -> Value {
    json!({
        "kernel": dispatch.kernel,
        "nodes": dispatch.nodes,
        "result": dispatch.result,
        "calls": dispatch.calls,
        "time_ns": dispatch.time_ns,
        "operations": dispatch.operations,
        "bytes": dispatch.bytes,
    })
}
