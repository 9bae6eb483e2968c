//! The gate: who calls, and whether they may.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, bail};
use axum::Router;
use axum::body::Body;
use axum::extract::rejection::RawPathParamsRejection;
use axum::extract::{MatchedPath, RawPathParams, Request};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use tonic::Status;

use super::needs::{self, Need, Route};
use super::{Access, AccessFile, Admitted, Caller, Throttle, origin};
use crate::audit::{Audit, Call};
use crate::config::{AuthSettings, Open, Settings};
use crate::error::Error;
use crate::reload::Reloaded;
use crate::serve::Peer;

/// In front of every door.
pub(crate) struct Gate {
    /// `None`: anybody may do anything.
    pub(crate) access: Option<Arc<Reloaded<AccessFile>>>,
    open: Vec<Open>,
    audit: Option<Audit>,
    pub(crate) throttle: Arc<Throttle>,
}

impl Gate {
    /// # Errors
    /// An access file that cannot be used; addresses of other machines' reach where nobody says who calls.
    pub(crate) fn open(settings: &Settings) -> anyhow::Result<Arc<Self>> {
        let access = open_access(settings)?.map(Arc::new);
        let audit = Audit::open(&settings.audit).context("the audit log cannot be written")?;
        let throttle = Arc::new(Throttle::new(&settings.auth));
        Ok(Arc::new(Self { access, open: settings.auth.open.clone(), audit, throttle }))
    }

    /// # Errors
    /// An access file that cannot be used.
    pub(crate) fn check_files(settings: &Settings) -> anyhow::Result<()> {
        open_access(settings).map(drop)
    }

    /// Refuses to listen for other machines where anybody may do anything.
    ///
    /// # Errors
    /// That, in words that name both ways out.
    pub(crate) fn check_address(
        settings: &Settings,
        name: &str,
        address: std::net::SocketAddr,
    ) -> anyhow::Result<()> {
        let AuthSettings { access, anonymous_network, .. } = &settings.auth;
        if !address.ip().is_loopback() && access.is_none() && !anonymous_network {
            bail!(
                "{name} would listen on {address}, where other machines reach it and anybody may do anything; name an \
                 access file (setting `auth.access`), or set `auth.anonymous_network` where the network is trusted"
            );
        }
        Ok(())
    }

    /// Puts the gate in front of the gRPC services.
    pub(crate) fn before_grpc(self: &Arc<Self>, router: Router) -> Router {
        let gate = self.clone();
        router.layer(from_fn(move |request: Request, next: Next| {
            let gate = gate.clone();
            async move { gate.grpc(request, next).await }
        }))
    }

    /// Puts the gate in front of REST routes.
    pub(crate) fn before_rest(self: &Arc<Self>, router: Router) -> Router {
        let gate = self.clone();
        router.layer(from_fn(move |params: Params, request: Request, next: Next| {
            let gate = gate.clone();
            async move { gate.rest(params, request, next).await }
        }))
    }

    async fn grpc(&self, request: Request, next: Next) -> Response {
        let Some(need) = needs::of_method(request.uri().path()) else {
            return grpc_status(Error::NoSuchMethod(shown_path(&request)));
        };
        let mut call = self.call(&request, need);
        let admitted = self.admit(&request, need, &mut call).and_then(|admitted| {
            admitted.for_server()?;
            Ok(admitted)
        });
        match admitted {
            Ok(admitted) => let_in(request, next, admitted, call).await,
            Err(error) => refuse(call, error, grpc_status),
        }
    }

    async fn rest(&self, params: Params, request: Request, next: Next) -> Response {
        let matched = request.extensions().get::<MatchedPath>();
        let route = matched.map(|path| needs::of_route(request.method(), path.as_str()));
        let need = match route {
            Some(Route::Needs(need)) => need,
            // Nothing is behind it but the answer that there is nothing.
            None | Some(Route::OtherMethods) => Need::Known,
            Some(Route::Unknown) => return Error::NoSuchMethod(shown_path(&request)).into_response(),
        };
        let mut call = self.call(&request, need);
        let admitted = self.admit(&request, need, &mut call).and_then(|admitted| {
            origin::check(&request)?;
            match (need, model(&params)) {
                (Need::Model(_), None) => return Err(Error::invalid("the path names no model")),
                (_, Some(model)) => admitted.for_model(model)?,
                (_, None) => admitted.for_server()?,
            }
            Ok(admitted)
        });
        match admitted {
            // Here, as the router may know a method of the route that the table does not.
            Ok(_) if matches!(route, Some(Route::OtherMethods)) => wrong_method(&request),
            Ok(admitted) => let_in(request, next, admitted, call).await,
            Err(error) => refuse(call, error, IntoResponse::into_response),
        }
    }

    /// The call as it is let in, as far as that takes no look at its model.
    fn admit(&self, request: &Request, need: Need, call: &mut Option<Call>) -> Result<Admitted, Error> {
        let (caller, need) = self.caller(request, need).inspect_err(|error| {
            // One line of the audit log for each window, rather than each attempt.
            if matches!(error, Error::Throttled(throttled) if !throttled.is_first) {
                *call = None;
            }
        })?;
        let model = call.as_mut().map(|call| call.by(&caller));
        Ok(Admitted::new(caller, need, model))
    }

    /// Who calls, unless the call needs nobody; and what it needs of them.
    fn caller(&self, request: &Request, need: Need) -> Result<(Caller, Need), Error> {
        let Some(access) = &self.access else { return Ok((Caller::anybody(), need)) };
        let nobody = match need {
            Need::Nothing => true,
            Need::Open(open) => self.open.contains(&open),
            _ => false,
        };
        if nobody {
            return Ok((Caller::nobody(), need));
        }
        let caller = self.authenticate(&access.current(), request)?;
        // Metrics are of all models.
        let need = match need {
            Need::Open(Open::Metrics) => Need::Server(needs::Permission::See),
            other => other,
        };
        Ok((caller, need))
    }

    /// Who a request comes from: a token's bearer, or else its connection's holder of a certificate.
    fn authenticate(&self, access: &Access, request: &Request) -> Result<Caller, Error> {
        let peer = request.extensions().get::<Peer>();
        if request.headers().contains_key(header::AUTHORIZATION) {
            // Every connection has a peer; one without would share its failures with all such.
            let from = peer.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.address.ip());
            let refused = |reason: String| self.throttle.failed(from, reason, Instant::now());
            let token = token(request).map_err(|reason| refused(reason.to_owned()))?;
            let bearer = match access.recall(token) {
                Some(bearer) => bearer,
                None => {
                    self.throttle.check(from, Instant::now())?;
                    access.verify(token)
                }
            };
            return bearer.map_err(refused);
        }
        let holder = peer.and_then(|peer| peer.certificate.as_ref()).map(|names| access.holder(names));
        let refused = match holder {
            Some(Some(caller)) => return Ok(caller),
            Some(None) => "the client's certificate has no name that is known here",
            None => "there are no credentials: send `authorization: Bearer` and a token",
        };
        Err(Error::Unauthenticated(refused.to_owned()))
    }

    fn call(&self, request: &Request, need: Need) -> Option<Call> {
        let audit = self.audit.as_ref()?;
        let address = request.extensions().get::<Peer>().map(|peer| peer.address);
        Some(audit.call(request.method(), request.uri().path(), address, need.is_recorded()))
    }
}

async fn let_in(mut request: Request, next: Next, admitted: Admitted, call: Option<Call>) -> Response {
    request.extensions_mut().insert(admitted);
    let response = next.run(request).await;
    match call {
        Some(call) => call.ends_with(response),
        None => response,
    }
}

fn refuse(call: Option<Call>, error: Error, answer: impl FnOnce(Error) -> Response) -> Response {
    if let Some(call) = call {
        call.refused(&error);
    }
    let mut response = answer(error);
    if response.status() == StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}

fn open_access(settings: &Settings) -> anyhow::Result<Option<Reloaded<AccessFile>>> {
    settings.auth.access.clone().map(|path| Reloaded::open(AccessFile::new(path))).transpose()
}

type Params = Result<RawPathParams, RawPathParamsRejection>;

fn model(params: &Params) -> Option<&str> {
    params.as_ref().ok()?.iter().find(|(name, _)| *name == "model").map(|(_, value)| value)
}

fn wrong_method(request: &Request) -> Response {
    let error = format!("`{}` does not take this HTTP method", shown_path(request));
    (StatusCode::METHOD_NOT_ALLOWED, axum::Json(serde_json::json!({ "error": error }))).into_response()
}

fn shown_path(request: &Request) -> String {
    request.uri().path().chars().take(200).collect()
}

fn grpc_status(error: Error) -> Response {
    Status::from(error).into_http::<Body>()
}

/// The token of a request that has credentials in its head.
fn token(request: &Request) -> Result<&str, &'static str> {
    let mut credentials = request.headers().get_all(header::AUTHORIZATION).iter();
    let found = credentials.next().and_then(|found| found.to_str().ok());
    if credentials.next().is_some() {
        return Err("there are several `authorization` headers; one is expected");
    }
    let token = found.and_then(|text| text.split_once(' '));
    let token = token.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
    let (_, token) = token.ok_or("the `authorization` header is not `Bearer` and a token")?;
    Ok(token.trim())
}
