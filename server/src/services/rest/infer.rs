//! Inference over REST: JSON, with tensors inside it or after it (the binary tensor extension).
//!
//! With header `Inference-Header-Content-Length: N` the first N bytes of the body are JSON; the data of the
//! inputs that have `binary_data_size` follows, in order. Answers are built the same way. With 0 there is no JSON.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Instant;

use axum::extract::{Request, State};
use axum::http::HeaderMap;
use axum::response::IntoResponse;
use bytes::Bytes;
use ired_worker::Tensor;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::answer::{self, JSON_LENGTH, Packing};
use super::{At, Named, Reply, body, raw};
use crate::app::App;
use crate::auth::Admitted;
use crate::course::Course;
use crate::error::Error;
use crate::infer::{Call, Parameters, parameters};
use crate::registry::Served;
use crate::services::aside;
use crate::services::transfer::{self, Transfer};
use crate::tensors::json::{self, Cut};
use crate::tensors::{parse_datatype, parse_shape, tensor_bytes};
use crate::trace::{self, Origin};

/// The parameter of a request whose outputs are binary data unless one says otherwise.
const BINARY_OUTPUTS: &str = "binary_data_output";

/// The parameter of an input whose data follows the JSON.
const BINARY_SIZE: &str = "binary_data_size";

/// More bytes of JSON than take about a millisecond to read.
pub(super) const MUCH_TO_READ: u64 = 256 << 10;

/// More bytes of tensors than take about a millisecond to write as JSON.
pub(super) const MUCH_TO_WRITE: u64 = 128 << 10;

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
    #[serde(default, deserialize_with = "parameters::from_json")]
    parameters: Parameters,
    /// Its text: what it holds is only known once `datatype` is, which may come after it.
    #[serde(borrow, default)]
    data: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Output {
    name: String,
    #[serde(default, deserialize_with = "parameters::from_json")]
    parameters: Parameters,
}

pub(super) async fn infer(State(app): State<Arc<App>>, At(at): At<Named>, request: Request) -> Reply {
    let origin = Origin::of(request.headers());
    // Before anything of the body is read.
    let served = app.registry.find(&at.model, &at.version)?;
    let json_length = json_length(request.headers())?;
    let packing = Packing::of(request.headers());
    let tenant = request.extensions().get().and_then(Admitted::tenant);
    let (body, inside) = body::read(request, &app).await?;
    let length = body.len() as u64;
    // The tensors are copied or shared; the text is not needed while the model runs.
    let decode = {
        let app = app.clone();
        move || {
            let decoded = match json_length {
                Some(0) => without_json(&served, at, &body),
                length => decode(&app, at, &body, length),
            };
            drop((body, inside));
            decoded
        }
    };
    let (mut transfer, binary) = aside(length, MUCH_TO_READ, decode).await??;
    transfer.call.tenant = tenant;
    let mut watch = app.traces.watch(origin, &mut transfer.call);
    let answer = answer(&app, transfer, &mut watch.course, binary, packing).await;
    let request_id = watch.end(answer.as_ref().err()).request_id;
    let mut response = answer.unwrap_or_else(IntoResponse::into_response);
    if let Some(id) = request_id.and_then(|id| id.parse().ok()) {
        response.headers_mut().insert(trace::REQUEST_ID, id);
    }
    Ok(response)
}

async fn answer(app: &App, transfer: Transfer, course: &mut Course, binary: bool, packing: Packing) -> Reply {
    let reply = transfer.run(app, course).await?;
    let length = reply.outputs.iter().map(|output| output.tensor.data.len() as u64).sum();
    let id = course.id.clone();
    aside(length, MUCH_TO_WRITE, move || answer::encode(&reply, &id, binary, packing)).await?
}

fn json_length(headers: &HeaderMap) -> Result<Option<u64>, Error> {
    let Some(value) = headers.get(JSON_LENGTH) else { return Ok(None) };
    let parsed = value.to_str().ok().filter(|text| text.bytes().all(|b| b.is_ascii_digit()));
    let length = parsed.and_then(|text| text.parse().ok());
    length.map(Some).ok_or_else(|| Error::invalid("header `Inference-Header-Content-Length` is not a length"))
}

/// The outputs of a request without JSON are binary data, too.
fn without_json(served: &Served, at: Named, body: &Bytes) -> Result<(Transfer, bool), Error> {
    let inputs = vec![raw::input(&served.entry().inputs, body.clone())?];
    let call = Call { model: at.model, version: at.version, inputs, ..Call::default() };
    Ok((Transfer { call, fetches: Vec::new(), outputs: Vec::new() }, true))
}

/// The request, and whether its outputs are binary data unless one says otherwise.
fn decode(app: &App, at: Named, body: &Bytes, json_length: Option<u64>) -> Result<(Transfer, bool), Error> {
    let split = json_length.unwrap_or(body.len() as u64);
    let split = usize::try_from(split).ok().filter(|&split| split <= body.len()).ok_or_else(|| {
        Error::invalid(format!(
            "header `Inference-Header-Content-Length` says {split} bytes of JSON; the body has {}",
            body.len()
        ))
    })?;
    let text = &body[..split];
    let cut = Cut::of(text);
    let request = match cut.as_ref().and_then(around) {
        Some(request) => request,
        None => super::from_object(text)?,
    };

    let mut binary = body.slice(split..);
    let mut inputs = Vec::with_capacity(request.inputs.len());
    let mut fetches = Vec::new();
    for (at, input) in request.inputs.into_iter().enumerate() {
        match transfer::fetch(&app.regions, &input.name, &input.parameters)? {
            None => inputs.push(tensor(input, cut.as_ref(), &mut binary)?),
            Some(fetch) => {
                fetches.push((at, fetch));
                inputs.push(in_region(input)?);
            }
        }
    }
    if !binary.is_empty() {
        return Err(Error::invalid(format!(
            "the body has {} bytes after the binary data of its inputs",
            binary.len()
        )));
    }
    let binary = parameters::boolean(&request.parameters, BINARY_OUTPUTS)?.unwrap_or(false);
    let output = |output: Output| transfer::output(&app.regions, output.name, &output.parameters);
    let outputs = request.outputs.into_iter().map(output).collect::<Result<Vec<_>, _>>()?;
    let timeout = parameters::timeout(&request.parameters)?;
    let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    let call = Call {
        model: at.model,
        version: at.version,
        id: request.id,
        parameters: request.parameters,
        inputs,
        deadline,
        ..Call::default()
    };
    Ok((Transfer { call, fetches, outputs }, binary))
}

/// The request around what was cut out of it, if that is one and all of it was inputs.
fn around<'a>(cut: &'a Cut) -> Option<InferRequest<'a>> {
    let request: InferRequest = super::from_object(cut.rest()).ok()?;
    let used = request.inputs.iter().filter_map(|input| cut.array(input.data?)).count();
    (used == cut.count()).then_some(request)
}

/// An input whose data is in shared memory, without it.
fn in_region(input: Input) -> Result<Tensor, Error> {
    let name = input.name;
    if input.data.is_some() || input.parameters.contains_key(BINARY_SIZE) {
        return Err(Error::invalid(format!("input `{name}` has both data in the request and shared memory")));
    }
    let dtype = parse_datatype(&name, &input.datatype)?;
    let dims = parse_shape(&name, &input.shape)?;
    Ok(Tensor { name, dtype, dims, data: Bytes::new().into() })
}

/// One input; what it has in binary is taken off the front of `binary`.
fn tensor(input: Input, cut: Option<&Cut>, binary: &mut Bytes) -> Result<Tensor, Error> {
    let name = input.name;
    let dtype = parse_datatype(&name, &input.datatype)?;
    let dims = parse_shape(&name, &input.shape)?;
    let bytes = tensor_bytes(&name, dtype, &dims)?;
    let size = parameters::unsigned(&input.parameters, BINARY_SIZE)?;
    let data = match (size, input.data) {
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
        (None, Some(data)) => {
            let text = cut.and_then(|cut| cut.array(data)).unwrap_or_else(|| data.get());
            json::parse(&name, dtype, bytes * 8 / dtype.bits(), text)?.into()
        }
    };
    Ok(Tensor { name, dtype, dims, data: data.into() })
}
