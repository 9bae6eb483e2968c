//! `ired.v1` over REST: models, compilation with its progress, profiles, what they run on, and how that machine does.

mod compile;
mod profile;
mod upload;
mod view;

use std::sync::Arc;

use axum::extract::State;
use axum::response::IntoResponse;
use axum::routing::{get, post};
use axum::{Extension, Router};
use serde_json::json;

use super::{At, Named, Reply, Shared};
use crate::app::App;
use crate::auth::Admitted;
use crate::error::Error;
use crate::repository::parse_version;
use crate::services::devices;

pub(super) fn router() -> Router<Arc<App>> {
    Router::new()
        .route("/v1/models", get(models))
        .route("/v1/models/{model}", post(upload::upload).delete(delete))
        .route("/v1/models/{model}/compile", post(compile::compile))
        .route("/v1/models/{model}/latency", get(latency))
        .route("/v1/models/{model}/profile", post(profile::profile))
        .route("/v1/models/{model}/versions/{version}", post(upload::upload).delete(delete))
        .route("/v1/models/{model}/versions/{version}/compile", post(compile::compile))
        .route("/v1/models/{model}/versions/{version}/latency", get(latency))
        .route("/v1/models/{model}/versions/{version}/profile", post(profile::profile))
        .route("/v1/devices", get(list_devices))
        .route("/v1/status", get(status))
}

impl Named {
    /// The version of the path; `None` where it names none.
    fn version(&self) -> Result<Option<u64>, Error> {
        if self.version.is_empty() {
            return Ok(None);
        }
        let shown = || crate::error::shown(&self.version);
        let wrong = || Error::invalid(format!("`{}` is not a version: a number from 1 on", shown()));
        parse_version(&self.version).map(Some).ok_or_else(wrong)
    }
}

async fn models(State(app): Shared, Extension(admitted): Extension<Admitted>) -> Reply {
    let versions = app.registry.versions();
    let seen = versions.iter().filter(|version| admitted.caller.sees(&version.name));
    let models: Vec<_> = seen.map(view::version).collect();
    Ok(axum::Json(json!({ "models": models })).into_response())
}

async fn delete(State(app): Shared, At(at): At<Named>) -> Reply {
    let deleted = app.delete(&at.model, at.version()?.unwrap_or(0)).await?;
    let versions: Vec<String> = deleted.iter().map(u64::to_string).collect();
    Ok(axum::Json(json!({ "deleted_versions": versions })).into_response())
}

/// What was counted outlives what answered: it is told of versions that are not loaded, too.
async fn latency(State(app): Shared, At(at): At<Named>) -> Reply {
    let version = match app.registry.find(&at.model, &at.version) {
        Ok(served) => served.version,
        Err(Error::NotReady { version, .. }) => version,
        Err(error) => return Err(error),
    };
    let mut versions = app.registry.versions().into_iter();
    let found = versions.find(|found| found.name == at.model && found.version == version);
    let found = found.ok_or(Error::UnknownModel { model: at.model })?;
    Ok(axum::Json(view::latency(&found.stats)).into_response())
}

async fn list_devices(State(app): Shared, Extension(admitted): Extension<Admitted>) -> Reply {
    let devices = devices::list(&app, |model| admitted.caller.sees(model));
    let devices: Vec<_> = devices.iter().map(view::device).collect();
    Ok(axum::Json(json!({ "devices": devices })).into_response())
}

async fn status(State(app): Shared) -> Reply {
    Ok(axum::Json(view::status(&app)).into_response())
}
