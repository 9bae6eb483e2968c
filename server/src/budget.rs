//! A bound on the bytes of all requests inside at once, from the first that arrives to the answer, and on what one tenant
//! has of them.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use tonic::Status;

use crate::auth::Admitted;
use crate::error::Error;
use crate::ledger::{self, Ledger};
use crate::tenants::Tenant;

/// The calls whose requests are one message; a stream's messages are counted when they run.
const UNARY: &str = "/inference.GRPCInferenceService/";
const STREAM: &str = "/inference.GRPCInferenceService/ModelStreamInfer";

/// Bytes that may be inside. Cheap to clone; clones share it.
#[derive(Clone, Debug)]
pub struct Budget(Ledger);

/// Bytes that are inside while this is held.
#[derive(Debug)]
pub struct Reservation {
    bytes: ledger::Reservation,
    tenant: Option<Arc<Tenant>>,
}

impl Budget {
    pub fn new(limit_bytes: u64) -> Self {
        Self(Ledger::new(limit_bytes))
    }

    /// How many may be inside, and how many are.
    pub fn usage(&self) -> (u64, u64) {
        self.0.usage()
    }

    /// Nothing yet, of this tenant; see [`Reservation::grow`].
    pub fn empty(&self, tenant: Option<Arc<Tenant>>) -> Reservation {
        Reservation { bytes: self.0.empty(), tenant }
    }

    /// # Errors
    /// Those of [`Reservation::grow`].
    pub fn reserve(&self, bytes: u64, tenant: Option<Arc<Tenant>>) -> Result<Reservation, Error> {
        let mut reservation = self.empty(tenant);
        reservation.grow(bytes)?;
        Ok(reservation)
    }
}

impl Reservation {
    /// Takes more bytes in.
    ///
    /// # Errors
    /// [`Error::Busy`], or [`Error::Refused`] where the tenant has more than its part, at once: waiting would let
    /// half-received requests wait for each other.
    pub fn grow(&mut self, more: u64) -> Result<(), Error> {
        let own = self.bytes.bytes();
        self.bytes.resize(own.saturating_add(more)).map_err(busy)?;
        let Some(tenant) = &self.tenant else { return Ok(()) };
        let (limit, in_use) = self.bytes.usage();
        if let Err(refusal) = tenant.add_bytes(own, more, limit.saturating_sub(in_use), limit) {
            // Less is always to be had.
            let _ = self.bytes.resize(own);
            return Err(refusal.into());
        }
        Ok(())
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if let Some(tenant) = &self.tenant {
            tenant.remove_bytes(self.bytes.bytes());
        }
    }
}

fn busy((limit, _): (u64, u64)) -> Error {
    Error::Busy { what: "bytes of requests", limit }
}

/// Counts the bodies of unary gRPC requests while they arrive, before anything can be decoded.
pub async fn count_unary(budget: Budget, request: Request, next: Next) -> Response {
    let path = request.uri().path();
    let request = if path.starts_with(UNARY) && path != STREAM {
        let tenant = request.extensions().get().and_then(Admitted::tenant);
        request.map(|body| Body::new(Counted { body, inside: budget.empty(tenant) }))
    } else {
        request
    };
    next.run(request).await
}

struct Counted {
    body: Body,
    inside: Reservation,
}

impl hyper::body::Body for Counted {
    type Data = Bytes;
    // The one error type that tonic tells the client as it is.
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = std::task::ready!(Pin::new(&mut self.body).poll_frame(cx));
        Poll::Ready(frame.map(|frame| {
            let frame = frame.map_err(|error| Status::from_error(error.into()))?;
            if let Some(data) = frame.data_ref() {
                self.inside.grow(data.len() as u64)?;
            }
            Ok(frame)
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_dropped_makes_room() {
        let budget = Budget::new(4096);
        let mut one = budget.reserve(1, None).unwrap();
        one.grow(1023).unwrap();
        assert!(budget.reserve(3073, None).is_err());
        let two = budget.reserve(3072, None).unwrap();
        assert!(one.grow(1).is_err());
        drop(two);
        one.grow(3072).unwrap();
    }

    #[test]
    fn the_bytes_of_one_tenant_leave_room_for_others() {
        let listed = crate::tenants::Listed::new(Vec::new(), &Arc::default());
        let [a, b] = ["a", "b"].map(|name| Some(listed.find(name)));
        let budget = Budget::new(1000);
        drop(budget.reserve(1000, a.clone()).unwrap());
        let mut one = budget.reserve(700, a.clone()).unwrap();
        let two = budget.reserve(100, a.clone()).unwrap();
        let text = one.grow(1).unwrap_err().to_string();
        assert_eq!(
            text,
            "tenant `a` has 800 bytes of requests inside already; 200 of 1000 are left for others"
        );
        assert!(budget.reserve(1, a.clone()).is_err());
        let others = budget.reserve(200, b).unwrap();
        assert_eq!(budget.usage(), (1000, 1000));
        drop((others, two));
        one.grow(300).unwrap();
        drop(one);
        drop(budget.reserve(1000, a).unwrap());
        assert_eq!(budget.usage(), (1000, 0));
    }
}
