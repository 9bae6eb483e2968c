//! Inference over REST: JSON, with tensors inside it or after it (the binary tensor extension).
//!
//! With header `Inference-Header-Content-Length: N` the first N bytes of the body are JSON; the data of the
//! inputs that have `binary_data_size` follows, in order. Answers are built the same way.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use ired_worker::Tensor;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::value::RawValue;

use super::{At, Named, Reply, body};
use crate::app::App;
use crate::error::Error;
use crate::infer::{Answer, Call, Parameters, parameters};
use crate::tensors::{datatype, json, parse_datatype, parse_shape, tensor_bytes};

const JSON_LENGTH: HeaderName = HeaderName::from_static("inference-header-content-length");

/// The parameter of a request whose outputs are binary data unless one says otherwise.
const BINARY_OUTPUTS: &str = "binary_data_output";

/// More bytes than take about a millisecond to read or write as JSON.
const ASIDE_BYTES: usize = 128 << 10;

#[derive(Deserialize)]
struct InferRequest<'a> {
    #[serde(default)]
    id: String,
    #[serde(default, deserialize_with = "parameters::from_json")]
    parameters: Parameters,
    #[serde(borrow)]
    inputs: Vec<Input<'a>>,
    #[serde(default)]
    outputs: Vec<Output>,
}

#[derive(Deserialize)]
struct Input<'a> {
    name: String,
    shape: Vec<i64>,
    #[serde(borrow)]
    datatype: Cow<'a, str>,
    #[serde(default)]
    parameters: InputParameters,
    /// Its text: what it holds is only known once `datatype` is, which may come after it.
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
}

#[derive(Default, Deserialize)]
struct InputParameters {
    binary_data_size: Option<u64>,
    shared_memory_region: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct Output {
    name: String,
    #[serde(default)]
    parameters: OutputParameters,
}

#[derive(Default, Deserialize)]
struct OutputParameters {
    binary_data: Option<bool>,
    classification: Option<IgnoredAny>,
    shared_memory_region: Option<IgnoredAny>,
}

/// How the client wants its outputs.
struct Wanted {
    /// By output name; others as `binary_by_default`.
    binary: Vec<(String, bool)>,
    binary_by_default: bool,
}

pub(super) async fn infer(State(app): State<Arc<App>>, At(at): At, request: Request) -> Reply {
    let json_length = json_length(request.headers())?;
    let (body, inside) = body::read(request, &app).await?;
    let length = body.len();
    // The tensors are copied or shared; the text is not needed while the model runs.
    let decode = move || {
        let decoded = decode(at, &body, json_length);
        drop((body, inside));
        decoded
    };
    let (call, wanted) = aside(length, decode).await?;
    let id = call.id.clone();
    let answer = app.inference.infer(call).await?;
    let length = answer.outputs.iter().map(|tensor| tensor.data.len()).sum();
    aside(length, move || encode(&answer, &id, &wanted)).await
}

/// Does work on so many bytes without keeping other requests waiting.
async fn aside<T: Send + 'static>(
    bytes: usize,
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    if bytes < ASIDE_BYTES {
        return work();
    }
    // The work is lost only when the daemon ends.
    tokio::task::spawn_blocking(work).await.unwrap_or(Err(Error::Stopping))
}

fn json_length(headers: &HeaderMap) -> Result<Option<u64>, Error> {
    let Some(value) = headers.get(JSON_LENGTH) else { return Ok(None) };
    let parsed = value.to_str().ok().filter(|text| text.bytes().all(|b| b.is_ascii_digit()));
    let length = parsed.and_then(|text| text.parse().ok());
    length.map(Some).ok_or_else(|| Error::invalid("header `Inference-Header-Content-Length` is not a length"))
}

fn decode(at: Named, body: &Bytes, json_length: Option<u64>) -> Result<(Call, Wanted), Error> {
    let split = json_length.unwrap_or(body.len() as u64);
    let split = usize::try_from(split).ok().filter(|&split| split <= body.len()).ok_or_else(|| {
        Error::invalid(format!(
            "header `Inference-Header-Content-Length` says {split} bytes of JSON; the body has {}",
            body.len()
        ))
    })?;
    if json_length == Some(0) {
        return Err(Error::Unsupported(
            "raw binary requests are not supported; send the JSON header".to_owned(),
        ));
    }
    let request: InferRequest = serde_json::from_slice(&body[..split])
        .map_err(|error| Error::invalid(format!("the request is not the expected JSON: {error}")))?;

    let mut binary = body.slice(split..);
    let inputs = request.inputs.into_iter().map(|input| tensor(input, &mut binary));
    let inputs = inputs.collect::<Result<Vec<_>, _>>()?;
    if !binary.is_empty() {
        return Err(Error::invalid(format!(
            "the body has {} bytes after the binary data of its inputs",
            binary.len()
        )));
    }
    let binary_by_default = parameters::boolean(&request.parameters, BINARY_OUTPUTS)?.unwrap_or(false);
    let mut wanted = Wanted { binary: Vec::new(), binary_by_default };
    let mut outputs = Vec::with_capacity(request.outputs.len());
    for output in request.outputs {
        let (name, parameters) = (output.name, output.parameters);
        if parameters.classification.is_some() {
            let message = format!("output `{name}`: the classification extension is not supported");
            return Err(Error::Unsupported(message));
        }
        if parameters.shared_memory_region.is_some() {
            let message = format!("output `{name}`: shared memory regions are not supported");
            return Err(Error::Unsupported(message));
        }
        if let Some(binary) = parameters.binary_data {
            wanted.binary.push((name.clone(), binary));
        }
        outputs.push(name);
    }
    // 0 is "no timeout".
    let timeout = parameters::unsigned(&request.parameters, "timeout")?.filter(|&us| us > 0);
    let deadline = timeout.and_then(|us| Instant::now().checked_add(Duration::from_micros(us)));
    let call = Call {
        model: at.model,
        version: at.version,
        id: request.id,
        parameters: request.parameters,
        inputs,
        outputs,
        deadline,
    };
    Ok((call, wanted))
}

/// One input; what it has in binary is taken off the front of `binary`.
fn tensor(input: Input, binary: &mut Bytes) -> Result<Tensor, Error> {
    let name = input.name;
    if input.parameters.shared_memory_region.is_some() {
        return Err(Error::Unsupported(format!("input `{name}`: shared memory regions are not supported")));
    }
    let dtype = parse_datatype(&name, &input.datatype)?;
    let dims = parse_shape(&name, &input.shape)?;
    let bytes = tensor_bytes(&name, dtype, &dims)?;
    let data = match (input.parameters.binary_data_size, input.data) {
        (Some(_), Some(_)) => {
            return Err(Error::invalid(format!("input `{name}` has both `data` and `binary_data_size`")));
        }
        (None, None) => {
            return Err(Error::invalid(format!("input `{name}` has neither `data` nor `binary_data_size`")));
        }
        (Some(size), None) => {
            let size = usize::try_from(size).ok().filter(|&size| size <= binary.len()).ok_or_else(|| {
                Error::invalid(format!(
                    "input `{name}`: `binary_data_size` is {size}, the body has {} bytes left",
                    binary.len()
                ))
            })?;
            binary.split_to(size)
        }
        (None, Some(data)) => json::parse(&name, dtype, bytes * 8 / dtype.bits(), data.get())?.into(),
    };
    Ok(Tensor { name, dtype, dims, data: data.into() })
}

fn encode(answer: &Answer, id: &str, wanted: &Wanted) -> Reply {
    let mut head = Vec::with_capacity(256);
    let mut binary: Vec<&[u8]> = Vec::new();
    head.push(b'{');
    if !id.is_empty() {
        field(&mut head, "id", id);
        head.push(b',');
    }
    field(&mut head, "model_name", &answer.served.name);
    head.push(b',');
    field(&mut head, "model_version", &answer.served.version.to_string());
    head.extend_from_slice(b",\"outputs\":[");
    for (at, tensor) in answer.outputs.iter().enumerate() {
        if at > 0 {
            head.push(b',');
        }
        let asked = wanted.binary.iter().find(|(name, _)| *name == tensor.name).map(|(_, binary)| *binary);
        output(&mut head, &mut binary, tensor, asked.unwrap_or(wanted.binary_by_default))?;
    }
    head.extend_from_slice(b"]}");
    if binary.is_empty() {
        return Ok(([(header::CONTENT_TYPE, "application/json")], head).into_response());
    }
    Ok(with_binary(head, &binary))
}

fn output<'a>(
    head: &mut Vec<u8>,
    binary: &mut Vec<&'a [u8]>,
    tensor: &'a Tensor,
    as_binary: bool,
) -> Result<(), Error> {
    head.push(b'{');
    field(head, "name", &tensor.name);
    head.push(b',');
    field(head, "datatype", datatype(tensor.dtype));
    head.extend_from_slice(format!(",\"shape\":{:?},", tensor.dims).as_bytes());
    if as_binary {
        head.extend_from_slice(
            format!("\"parameters\":{{\"binary_data_size\":{}}}", tensor.data.len()).as_bytes(),
        );
        binary.push(&tensor.data);
    } else {
        head.extend_from_slice(b"\"data\":");
        json::write(&tensor.name, tensor.dtype, &tensor.data, head)?;
    }
    head.push(b'}');
    Ok(())
}

fn field(head: &mut Vec<u8>, name: &str, value: &str) {
    head.extend_from_slice(format!("\"{name}\":").as_bytes());
    head.extend_from_slice(serde_json::Value::from(value).to_string().as_bytes());
}

fn with_binary(head: Vec<u8>, binary: &[&[u8]]) -> Response {
    let json_length = HeaderValue::from(head.len());
    let mut body = head;
    body.reserve_exact(binary.iter().map(|data| data.len()).sum());
    for data in binary {
        body.extend_from_slice(data);
    }
    let mut response = ([(header::CONTENT_TYPE, "application/octet-stream")], body).into_response();
    response.headers_mut().insert(JSON_LENGTH, json_length);
    response
}
