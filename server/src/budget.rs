//! A bound on the bytes of all requests inside at once, from the first that arrives to the answer.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::extract::Request;
use axum::middleware::Next;
use axum::response::Response;
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::Status;

use crate::error::Error;

/// Bytes are counted in units of this many, to fit a semaphore.
const UNIT_BYTES: u64 = 1024;
/// The calls whose requests are one message; a stream's messages are counted when they run.
const UNARY: &str = "/inference.GRPCInferenceService/";
const STREAM: &str = "/inference.GRPCInferenceService/ModelStreamInfer";

/// Bytes that may be inside. Cheap to clone; clones share it.
#[derive(Clone, Debug)]
pub struct Budget {
    units: Arc<Semaphore>,
    limit_bytes: u64,
}

/// Bytes that are inside while this is held.
#[derive(Debug)]
pub struct Reservation {
    budget: Budget,
    held: Option<OwnedSemaphorePermit>,
    bytes: u64,
}

impl Budget {
    pub fn new(limit_bytes: u64) -> Self {
        let units = usize::try_from(limit_bytes.div_ceil(UNIT_BYTES)).unwrap_or(usize::MAX);
        Self { units: Arc::new(Semaphore::new(units.clamp(1, Semaphore::MAX_PERMITS))), limit_bytes }
    }

    /// Nothing yet; see [`Reservation::grow`].
    pub fn empty(&self) -> Reservation {
        Reservation { budget: self.clone(), held: None, bytes: 0 }
    }

    /// # Errors
    /// [`Error::Busy`], at once: waiting would let half-received requests wait for each other.
    pub fn reserve(&self, bytes: u64) -> Result<Reservation, Error> {
        let mut reservation = self.empty();
        reservation.grow(bytes)?;
        Ok(reservation)
    }
}

impl Reservation {
    /// Takes more bytes in.
    ///
    /// # Errors
    /// [`Error::Busy`], at once.
    pub fn grow(&mut self, more: u64) -> Result<(), Error> {
        let limit = self.budget.limit_bytes;
        let bytes = self.bytes.saturating_add(more);
        let missing = bytes.div_ceil(UNIT_BYTES) - self.bytes.div_ceil(UNIT_BYTES);
        if missing > 0 {
            let busy = |_| Error::Busy { what: "bytes of requests", limit };
            let units = u32::try_from(missing).unwrap_or(u32::MAX);
            let permit = self.budget.units.clone().try_acquire_many_owned(units).map_err(busy)?;
            match &mut self.held {
                None => self.held = Some(permit),
                Some(held) => held.merge(permit),
            }
        }
        self.bytes = bytes;
        Ok(())
    }
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
        assert!(budget.reserve(3073).is_err(), "the first unit is taken");
        let two = budget.reserve(3072).unwrap();
        assert!(one.grow(1).is_err());
        drop(two);
        one.grow(3072).unwrap();
    }
}
