//! Uploads over REST: the body is the model's file.

use std::time::Duration;

use axum::extract::{Query, Request, State};
use axum::http::{HeaderMap, header};
use axum::response::IntoResponse;
use futures::StreamExt;
use serde::Deserialize;
use serde_json::json;

use super::super::{At, Named, Reply, Shared};
use crate::error::{Error, shown};
use crate::models::check_name;

#[derive(Deserialize)]
struct Options {
    /// The file's name, whose ending says what it is.
    #[serde(default = "onnx")]
    file: String,
}

fn onnx() -> String {
    "model.onnx".to_owned()
}

/// Stores a model of one file. When this answers, the upload survives a crash of the daemon.
pub(super) async fn upload(State(app): Shared, At(at): At<Named>, request: Request) -> Reply {
    let options = Query::<Options>::try_from_uri(request.uri());
    let Query(Options { file }) = options.map_err(|rejection| Error::invalid(rejection.body_text()))?;
    check_file(&file)?;
    check_plain(request.headers())?;
    let announced = request.headers().get(header::CONTENT_LENGTH);
    let announced = announced.and_then(|length| length.to_str().ok()?.parse().ok()).unwrap_or(0);

    let mut receiving = app.uploads.receive(&at.model, at.version()?)?;
    receiving.file(&file, announced).await?;
    let idle = Duration::from_secs(app.settings.upload_idle_s);
    let mut parts = request.into_body().into_data_stream();
    loop {
        let part = tokio::time::timeout(idle, parts.next()).await.map_err(|_| Error::SlowBody(idle))?;
        let Some(part) = part else { break };
        receiving.chunk(part.map_err(|_| Error::invalid("the body broke off"))?).await?;
    }
    if receiving.is_empty() {
        return Err(Error::invalid("the body is empty; it is to be the model's file"));
    }
    let committed = app.registry.add(receiving).await?;
    Ok(axum::Json(json!({
        "name": at.model,
        "version": committed.version.to_string(),
        "digest": committed.digest.to_string(),
        "bytes": committed.bytes,
        "unchanged": committed.unchanged,
    }))
    .into_response())
}

/// Where there is one file, nothing else has to find it: its name is as plain as a model's.
fn check_file(name: &str) -> Result<(), Error> {
    let expected = "letters, digits, `-`, `_` and `.`, at most 128, not first a dot";
    let refused =
        |_| Error::invalid(format!("`{}` is not the name of a model's file: {expected}", shown(name)));
    check_name(name).map_err(refused)
}

/// Refuses bodies that are packed or in parts, which would be stored as they are.
fn check_plain(headers: &HeaderMap) -> Result<(), Error> {
    let text = |name| headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()));
    if let Some(encoding) = text(header::CONTENT_ENCODING).filter(|encoding| encoding != "identity") {
        let encoding = shown(&encoding);
        return Err(Error::Unsupported(format!(
            "an upload is sent plain; found content encoding `{encoding}`"
        )));
    }
    let parts = |kind: &str| kind.trim_start().to_ascii_lowercase().starts_with("multipart/");
    if text(header::CONTENT_TYPE).is_some_and(|kind| parts(&kind)) {
        return Err(Error::invalid(
            "the body of an upload is the model's file itself; found a form of several parts",
        ));
    }
    Ok(())
}
