//! Reading a request's body within bounds of size and time.

use std::io::Read;
use std::time::Duration;

use axum::extract::Request;
use axum::http::header;
use bytes::{Bytes, BytesMut};
use flate2::read::{MultiGzDecoder, ZlibDecoder};
use futures::StreamExt;

use crate::app::App;
use crate::auth::Admitted;
use crate::budget::Reservation;
use crate::error::Error;

/// What a body may reserve before any of it has arrived: a length that a client merely claims costs nothing.
const TRUSTED_BYTES: usize = 1 << 20;
/// What is unpacked before it is counted.
const UNPACKED_BYTES: usize = 64 << 10;

/// How a body is packed.
#[derive(Clone, Copy)]
enum Encoding {
    Gzip,
    /// As HTTP means it: with zlib's frame.
    Deflate,
}

/// The whole body of a request, counted as inside while the reservation is held.
///
/// # Errors
/// [`Error::TooLarge`] as soon as that is clear, [`Error::SlowBody`], [`Error::Unsupported`] for an unknown
/// encoding, [`Error::Busy`] or [`Error::Refused`] when there is no room for more requests.
pub(super) async fn read(request: Request, app: &App) -> Result<(Bytes, Reservation), Error> {
    let settings = &app.settings;
    let encoding = match request.headers().get(header::CONTENT_ENCODING).map(|value| value.as_bytes()) {
        None | Some(b"identity") => None,
        Some(b"gzip" | b"x-gzip") => Some(Encoding::Gzip),
        Some(b"deflate") => Some(Encoding::Deflate),
        Some(other) => {
            let shown: String = String::from_utf8_lossy(other).chars().take(40).collect();
            return Err(Error::Unsupported(format!(
                "content encoding `{shown}` is not supported; send gzip, deflate or the body plain"
            )));
        }
    };
    let limit = settings.message_bytes;
    let announced = request.headers().get(header::CONTENT_LENGTH);
    let announced = announced.and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if let Some(found) = announced.filter(|&length| length > limit as u64) {
        return Err(too_large(found, limit));
    }
    let patience = Duration::from_secs(settings.body_timeout_s);
    let tenant = request.extensions().get().and_then(Admitted::tenant);
    let inside = app.inference.budget().empty(tenant);
    let (body, inside) = tokio::time::timeout(patience, collect(request, announced, limit, inside))
        .await
        .map_err(|_| Error::SlowBody(patience))??;
    let Some(encoding) = encoding else { return Ok((body, inside)) };
    // A few bytes may unpack to very many. The work is lost only when the daemon ends.
    tokio::task::spawn_blocking(move || unpack(encoding, &body, limit, inside))
        .await
        .unwrap_or(Err(Error::Stopping))
}

/// Unpacks a body; each part is counted as inside as soon as it is there. Blocks.
fn unpack(
    encoding: Encoding,
    packed: &[u8],
    limit: usize,
    mut inside: Reservation,
) -> Result<(Bytes, Reservation), Error> {
    let (name, mut reader): (_, Box<dyn Read + '_>) = match encoding {
        Encoding::Gzip => ("gzip", Box::new(MultiGzDecoder::new(packed))),
        Encoding::Deflate => ("deflate", Box::new(ZlibDecoder::new(packed))),
    };
    let mut part = vec![0; UNPACKED_BYTES];
    let mut body = BytesMut::new();
    loop {
        let read = reader
            .read(&mut part)
            .map_err(|error| Error::invalid(format!("the body is not what `{name}` makes: {error}")))?;
        if read == 0 {
            return Ok((body.freeze(), inside));
        }
        if body.len() + read > limit {
            return Err(too_large((body.len() + read) as u64, limit));
        }
        inside.grow(read as u64)?;
        body.extend_from_slice(&part[..read]);
    }
}

async fn collect(
    request: Request,
    announced: Option<u64>,
    limit: usize,
    mut inside: Reservation,
) -> Result<(Bytes, Reservation), Error> {
    let mut parts = request.into_body().into_data_stream();
    let mut next = async || parts.next().await.transpose().map_err(|_| Error::invalid("the body broke off"));
    // The usual case: all of a small body in one piece, not copied.
    let Some(first) = next().await? else { return Ok((Bytes::new(), inside)) };
    inside.grow(first.len() as u64)?;
    if announced == Some(first.len() as u64) {
        return Ok((first, inside));
    }
    let expected = announced.and_then(|length| usize::try_from(length).ok()).unwrap_or(0);
    let mut body = BytesMut::with_capacity(expected.min(TRUSTED_BYTES).max(first.len()));
    body.extend_from_slice(&first);
    while let Some(part) = next().await? {
        if body.len() + part.len() > limit {
            return Err(too_large((body.len() + part.len()) as u64, limit));
        }
        inside.grow(part.len() as u64)?;
        body.extend_from_slice(&part);
    }
    if body.len() > limit { Err(too_large(body.len() as u64, limit)) } else { Ok((body.freeze(), inside)) }
}

fn too_large(found: u64, limit: usize) -> Error {
    Error::TooLarge { what: "the body".to_owned(), found, limit: limit as u64 }
}
