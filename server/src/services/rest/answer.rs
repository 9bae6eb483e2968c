//! Answers of inference over REST: JSON, tensors inside it or after it, plain or packed.

use std::io::{self, Write};

use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::response::IntoResponse;
use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};

use super::Reply;
use crate::error::Error;
use crate::services::transfer::{self, Delivered};
use crate::tensors::{datatype, json};

/// How many bytes of a body are JSON where binary data follows.
pub(super) const JSON_LENGTH: HeaderName = HeaderName::from_static("inference-header-content-length");

/// Bodies that fit one packet gain nothing from packing.
const PACKED_BYTES: usize = 1400;

/// How a client wants an answer's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Packing {
    Plain,
    Gzip,
    /// As HTTP means it: with zlib's frame.
    Deflate,
}

impl Packing {
    /// The first that the client names of those that it does not refuse.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let accepted =
            headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
        let packing = accepted.flat_map(|value| value.split(',')).find_map(|accepted| {
            let (name, options) = accepted.split_once(';').unwrap_or((accepted, ""));
            let weight = options.trim().strip_prefix("q=").map(|weight| weight.trim().parse::<f32>());
            match name.trim() {
                _ if matches!(weight, Some(Ok(weight)) if weight <= 0.0) => None,
                "gzip" | "x-gzip" => Some(Self::Gzip),
                "deflate" => Some(Self::Deflate),
                _ => None,
            }
        });
        packing.unwrap_or(Self::Plain)
    }

    fn name(self) -> Option<&'static str> {
        match self {
            Self::Plain => None,
            Self::Gzip => Some("gzip"),
            Self::Deflate => Some("deflate"),
        }
    }

    /// Fast rather than small: tensors compress badly.
    fn pack(self, body: Vec<u8>) -> io::Result<Vec<u8>> {
        match self {
            Self::Plain => Ok(body),
            Self::Gzip => {
                let mut packer = GzEncoder::new(Vec::new(), Compression::fast());
                packer.write_all(&body)?;
                packer.finish()
            }
            Self::Deflate => {
                let mut packer = ZlibEncoder::new(Vec::new(), Compression::fast());
                packer.write_all(&body)?;
                packer.finish()
            }
        }
    }
}

/// The answer; outputs are binary data where they say so, and else `binary_by_default`.
pub(super) fn encode(reply: &transfer::Reply, id: &str, binary_by_default: bool, packing: Packing) -> Reply {
    let served = &reply.answer.served;
    let mut body = Vec::with_capacity(256);
    let mut binary: Vec<&[u8]> = Vec::new();
    body.push(b'{');
    if !id.is_empty() {
        field(&mut body, "id", id);
        body.push(b',');
    }
    field(&mut body, "model_name", &served.name);
    body.push(b',');
    field(&mut body, "model_version", &served.version.to_string());
    body.extend_from_slice(b",\"outputs\":[");
    for (at, delivered) in reply.outputs.iter().enumerate() {
        if at > 0 {
            body.push(b',');
        }
        output(&mut body, &mut binary, delivered, delivered.binary.unwrap_or(binary_by_default))?;
    }
    body.extend_from_slice(b"]}");
    let json_length = (!binary.is_empty()).then_some(body.len());
    body.reserve_exact(binary.iter().map(|data| data.len()).sum());
    for data in binary {
        body.extend_from_slice(data);
    }
    response(body, json_length, packing)
}

fn response(body: Vec<u8>, json_length: Option<usize>, packing: Packing) -> Reply {
    let packing = if body.len() < PACKED_BYTES { Packing::Plain } else { packing };
    // Memory does not fail to be written.
    let body =
        packing.pack(body).map_err(|error| Error::invalid(format!("cannot pack the answer: {error}")))?;
    let content_type = if json_length.is_some() { "application/octet-stream" } else { "application/json" };
    let mut response = ([(header::CONTENT_TYPE, content_type)], body).into_response();
    let headers = response.headers_mut();
    if let Some(length) = json_length {
        headers.insert(JSON_LENGTH, HeaderValue::from(length));
    }
    if let Some(name) = packing.name() {
        headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static(name));
    }
    Ok(response)
}

fn output<'a>(
    head: &mut Vec<u8>,
    binary: &mut Vec<&'a [u8]>,
    output: &'a Delivered,
    as_binary: bool,
) -> Result<(), Error> {
    let tensor = &output.tensor;
    head.push(b'{');
    field(head, "name", &tensor.name);
    head.push(b',');
    field(head, "datatype", datatype(tensor.dtype));
    let _ = write!(head, ",\"shape\":{:?}", tensor.dims);
    // Of one in shared memory the client knows the place, and clients take parameters for those of binary data.
    if output.written.is_none() && as_binary {
        let _ = write!(head, ",\"parameters\":{{\"binary_data_size\":{}}}", tensor.data.len());
        binary.push(&tensor.data);
    } else if output.written.is_none() {
        head.extend_from_slice(b",\"data\":");
        json::write(&tensor.name, tensor.dtype, &tensor.data, head)?;
    }
    head.push(b'}');
    Ok(())
}

/// Memory does not fail to be written.
fn field(head: &mut Vec<u8>, name: &str, value: &str) {
    let _ = write!(head, "\"{name}\":");
    let _ = serde_json::to_writer(head, value);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_packed_to_as_it_asks() {
        let packing = |value: &'static str| {
            Packing::of(&HeaderMap::from_iter([(header::ACCEPT_ENCODING, HeaderValue::from_static(value))]))
        };
        assert_eq!(packing("br, gzip;q=0.5, deflate"), Packing::Gzip);
        assert_eq!(packing("gzip;q=0, deflate"), Packing::Deflate);
        assert_eq!(packing("identity"), Packing::Plain);
        assert_eq!(packing("gzip;q=0.000"), Packing::Plain);
        assert_eq!(Packing::of(&HeaderMap::new()), Packing::Plain);
    }
}
