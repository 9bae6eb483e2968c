//! The record of calls that were refused and of those that changed something: a line of JSON for each.

mod file;
mod watched;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use axum::http::Method;
use axum::response::Response;
use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::auth::Caller;
use crate::config::AuditSettings;
use crate::error::Error;
use crate::tenants::Tenant;
use file::RotatedFile;

/// Where the record goes. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Audit(Arc<Mutex<RotatedFile>>);

#[derive(Serialize)]
struct Line<'a> {
    time: String,
    caller: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    tenant: Option<&'a str>,
    address: Option<SocketAddr>,
    call: &'a str,
    model: Option<&'a str>,
    /// `ok`, `cancelled`, or the name of the code that the caller got.
    outcome: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'a str>,
}

impl Audit {
    /// `None` where the settings name no place.
    ///
    /// # Errors
    /// A file that cannot be written.
    pub(crate) fn open(settings: &AuditSettings) -> std::io::Result<Option<Self>> {
        let Some(path) = &settings.file else { return Ok(None) };
        let file = RotatedFile::open(path, settings.file_bytes, settings.files)?;
        Ok(Some(Self(Arc::new(Mutex::new(file)))))
    }

    /// A call that has come in; `recorded` where it is to be recorded though nothing was refused.
    pub(crate) fn call(
        &self,
        method: &Method,
        path: &str,
        address: Option<SocketAddr>,
        recorded: bool,
    ) -> Call {
        // gRPC's method is its path.
        let call = match method {
            &Method::POST if !path.starts_with("/v") => path.to_owned(),
            _ => format!("{method} {path}"),
        };
        let call = call.chars().take(300).collect();
        let audit = self.clone();
        Call { audit, call, address, recorded, caller: None, tenant: None, model: Arc::default() }
    }

    fn write(&self, line: &Line<'_>) {
        let mut text = serde_json::to_vec(line).unwrap_or_default();
        text.push(b'\n');
        // Before the answer goes out, so that nothing is done unrecorded: appending to a file takes microseconds.
        if let Err(error) = self.0.lock().unwrap_or_else(PoisonError::into_inner).append(&text) {
            tracing::error!(%error, line = %String::from_utf8_lossy(&text).trim_end(), "the audit log cannot be written");
        }
    }
}

/// A call, until its end is recorded.
pub(crate) struct Call {
    audit: Audit,
    call: String,
    address: Option<SocketAddr>,
    recorded: bool,
    caller: Option<Arc<str>>,
    tenant: Option<Arc<Tenant>>,
    model: Arc<OnceLock<String>>,
}

impl Call {
    /// Who it turned out to be by. Gives the place for the model that it turns out to be about.
    pub(crate) fn by(&mut self, caller: &Caller) -> Arc<OnceLock<String>> {
        self.caller = caller.name.clone();
        self.tenant = caller.tenant.clone();
        self.model.clone()
    }

    pub(crate) fn refused(self, error: &Error) {
        let code = crate::status::code(error);
        self.write(&format!("{code:?}"), Some(&error.to_string()));
    }

    /// Records what the answer says, when it has said it.
    pub(crate) fn ends_with(self, answer: Response) -> Response {
        watched::watch(self, answer)
    }

    /// `outcome` is the name of a code, or a word in lower case.
    fn ended(&self, outcome: &str, reason: Option<&str>) {
        let refused = matches!(outcome, "PermissionDenied" | "Unauthenticated");
        if self.recorded || refused {
            self.write(outcome, reason);
        }
    }

    fn write(&self, outcome: &str, reason: Option<&str>) {
        let time = OffsetDateTime::now_utc().format(&Rfc3339).unwrap_or_default();
        let (caller, call) = (self.caller.as_deref(), self.call.as_str());
        let (tenant, model) = (self.tenant.as_ref().map(|tenant| tenant.name()), self.model.get());
        let (address, model) = (self.address, model.map(String::as_str));
        self.audit.write(&Line { time, caller, tenant, address, call, model, outcome, reason });
    }
}
