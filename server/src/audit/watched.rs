//! An answer that is watched to its end, which for a stream is where its outcome stands.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use axum::body::Body;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;
use bytes::Bytes;
use hyper::body::{Frame, SizeHint};
use tonic::{Code, Status};

use super::Call;

pub(super) fn watch(call: Call, answer: Response) -> Response {
    let is_grpc = answer.headers().get(header::CONTENT_TYPE);
    let is_grpc = is_grpc.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"));
    if !is_grpc {
        match answer.status() {
            status if status.is_success() => call.ended("ok", None),
            StatusCode::UNAUTHORIZED => call.ended("Unauthenticated", None),
            StatusCode::FORBIDDEN => call.ended("PermissionDenied", None),
            status => call.ended(status.as_str(), None),
        }
        return answer;
    }
    if record(&call, answer.headers()) {
        return answer;
    }
    answer.map(|body| Body::new(Watched { body, call: Some(call) }))
}

/// Records the status that headers or trailers tell; false where they tell none.
fn record(call: &Call, headers: &HeaderMap) -> bool {
    let Some(status) = Status::from_header_map(headers) else { return false };
    match status.code() {
        Code::Ok => call.ended("ok", None),
        code => call.ended(&format!("{code:?}"), Some(status.message())),
    }
    true
}

struct Watched {
    body: Body,
    /// Until its end is recorded.
    call: Option<Call>,
}

impl hyper::body::Body for Watched {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = ready!(Pin::new(&mut self.body).poll_frame(cx));
        let trailers = frame.as_ref().and_then(|frame| frame.as_ref().ok()?.trailers_ref());
        if let Some(trailers) = trailers
            && self.call.as_ref().is_some_and(|call| record(call, trailers))
        {
            self.call = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        if let Some(call) = self.call.take() {
            call.ended("cancelled", None);
        }
    }
}
