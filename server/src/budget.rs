//! A bound on the bytes of all requests inside at once, from the first that arrives to the answer.

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use tonic::Status;

use crate::error::Error;
use crate::ledger::{self, Ledger};

/// The calls whose requests are one message; a stream's messages are counted when they run.
const UNARY: &str = "/inference.GRPCInferenceService/";
const STREAM: &str = "/inference.GRPCInferenceService/ModelStreamInfer";

/// Bytes that may be inside. Cheap to clone; clones share it.
#[derive(Clone, Debug)]
pub struct Budget(Ledger);

/// Bytes that are inside while this is held.
#[derive(Debug)]
pub struct Reservation(ledger::Reservation);

impl Budget {
    pub fn new(limit_bytes: u64) -> Self {
        Self(Ledger::new(limit_bytes))
    }

    /// How many may be inside, and how many are.
    pub fn usage(&self) -> (u64, u64) {
        self.0.usage()
    }

    /// Nothing yet; see [`Reservation::grow`].
    pub fn empty(&self) -> Reservation {
        Reservation(self.0.empty())
    }

    /// # Errors
    /// [`Error::Busy`], at once: waiting would let half-received requests wait for each other.
    pub fn reserve(&self, bytes: u64) -> Result<Reservation, Error> {
        self.0.reserve(bytes).map(Reservation).map_err(busy)
    }
}

impl Reservation {
    /// Takes more bytes in.
    ///
    /// # Errors
    /// [`Error::Busy`], at once.
    pub fn grow(&mut self, more: u64) -> Result<(), Error> {
        self.0.resize(self.0.bytes().saturating_add(more)).map_err(busy)
    }
}

fn busy((limit, _): (u64, u64)) -> Error {
    Error::Busy { what: "bytes of requests", limit }
}

/// Counts the bodies of unary gRPC requests while they arrive, before anything can be decoded.
pub async fn count_unary(budget: Budget, request: Request, next: Next) -> Response {
    let path = request.uri().path();
    let request = if path.starts_with(UNARY) && path != STREAM {
        request.map(|body| Body::new(Counted { body, inside: budget.empty() }))
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
        let mut one = budget.reserve(1).unwrap();
        one.grow(1023).unwrap();
        assert!(budget.reserve(3073).is_err());
        let two = budget.reserve(3072).unwrap();
        assert!(one.grow(1).is_err());
        drop(two);
        one.grow(3072).unwrap();
    }
}
