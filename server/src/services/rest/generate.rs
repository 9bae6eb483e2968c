//! Triton's generate extension: the request is one flat object of JSON, and so is each response.
//!
//! A field of the request that is called like an input of the model is that input; any other is a parameter. `generate`
//! answers with the only response, `generate_stream` with all, each as an event as soon as it is there.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io::Write;
use std::sync::Arc;
use std::time::Instant;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header;
use axum::response::IntoResponse;
use futures::stream;
use ired_module::signature::TensorSpec;
use ired_module::texts;
use ired_worker::Tensor;
use serde::de::value::MapDeserializer;
use serde_json::json;
use serde_json::value::RawValue;

use super::infer::{MUCH_TO_READ, MUCH_TO_WRITE};
use super::{At, Named, Reply, body};
use crate::app::App;
use crate::auth::Admitted;
use crate::error::Error;
use crate::infer::{Call, parameters};
use crate::registry::Served;
use crate::services::aside;
use crate::services::transfer::{self, Generation, Transfer};
use crate::tensors::json;
use crate::trace::Origin;

pub(super) async fn generate(State(app): State<Arc<App>>, At(at): At<Named>, request: Request) -> Reply {
    let model = at.model.clone();
    let mut responses = ask(app, at, request).await?;
    match responses.next().await {
        Some(Ok((body, true))) => Ok(([(header::CONTENT_TYPE, "application/json")], body).into_response()),
        Some(Err(error)) => Err(error),
        Some(Ok((_, false))) | None => Err(Error::invalid(format!(
            "`generate` is for one response, and model `{model}` gives several; ask it by `generate_stream`"
        ))),
    }
}

pub(super) async fn generate_stream(
    State(app): State<Arc<App>>,
    At(at): At<Named>,
    request: Request,
) -> Reply {
    let mut responses = ask(app, at, request).await?;
    // An error that is the first to come is the answer to the call; a later one is an event.
    let first = responses.next().await.transpose()?;
    let next = async |going: Option<(Option<Response>, Responses)>| {
        let (first, mut responses) = going?;
        let response = if first.is_some() { first? } else { responses.next().await? };
        let (text, is_last) = response
            .unwrap_or_else(|error| (json!({ "error": error.to_string() }).to_string().into_bytes(), true));
        let event = [b"data: ", &*text, b"\n\n"].concat();
        Some((Ok::<_, Infallible>(event), (!is_last).then_some((None, responses))))
    };
    let going = first.map(|first| (Some(Ok(first)), responses));
    let events = Body::from_stream(stream::unfold(going, next));
    Ok(([(header::CONTENT_TYPE, "text/event-stream; charset=utf-8")], events).into_response())
}

/// A response as JSON, and whether it is the last.
type Response = Result<(Vec<u8>, bool), Error>;

/// What a request is answered with.
struct Responses {
    id: String,
    rest: Rest,
}

/// Responses that are still to come.
enum Rest {
    One(Option<transfer::Reply>),
    Several(Generation),
}

impl Responses {
    async fn next(&mut self) -> Option<Response> {
        let next = match &mut self.rest {
            Rest::One(reply) => Ok((reply.take()?, true)),
            Rest::Several(generation) => generation.next().await?,
        };
        let (reply, is_last) = match next {
            Ok(next) => next,
            Err(error) => return Some(Err(error)),
        };
        let length = reply.outputs.iter().map(|output| output.tensor.data.len() as u64).sum();
        let id = self.id.clone();
        let text = aside(length, MUCH_TO_WRITE, move || encode(&reply, &id)).await.flatten();
        Some(text.map(|text| (text, is_last)))
    }
}

/// Reads a request, and begins to answer it.
async fn ask(app: Arc<App>, at: Named, request: Request) -> Result<Responses, Error> {
    let origin = Origin::of(request.headers());
    // Before anything of the body is read.
    let served = app.registry.find(&at.model, &at.version)?;
    let tenant = request.extensions().get().and_then(Admitted::tenant);
    let (body, inside) = body::read(request, &app).await?;
    let length = body.len() as u64;
    let decode = move || {
        let decoded = decode(&served, at, &body);
        drop((body, inside));
        decoded
    };
    let call = Call { tenant, ..aside(length, MUCH_TO_READ, decode).await?? };
    let id = call.id.clone();
    let decoupled = app.inference.is_decoupled(&call).await;
    let mut transfer = Transfer { call, fetches: Vec::new(), outputs: Vec::new() };
    if decoupled {
        return Ok(Responses { id, rest: Rest::Several(transfer.generate(app, origin)?) });
    }
    let mut watch = app.traces.watch(origin, &mut transfer.call);
    let reply = transfer.run(&app, &mut watch.course).await;
    watch.end(reply.as_ref().err());
    Ok(Responses { id, rest: Rest::One(Some(reply?)) })
}

fn decode(served: &Served, at: Named, body: &[u8]) -> Result<Call, Error> {
    let mut fields: BTreeMap<String, &RawValue> = super::from_object(body)?;
    let wrong =
        |error: serde_json::Error| Error::invalid(format!("the request is not the expected JSON: {error}"));
    let id = fields.remove("id").map(|id| serde_json::from_str(id.get())).transpose().map_err(wrong)?;
    let inputs = served.inputs().filter_map(|spec| Some(input(spec, fields.remove(&spec.name)?)));
    let inputs = inputs.collect::<Result<_, _>>()?;
    let named = fields.remove("parameters").map(parameters::from_json).transpose().map_err(wrong)?;
    let mut parameters = named.unwrap_or_default();
    parameters.extend(parameters::from_json(MapDeserializer::new(fields.into_iter())).map_err(wrong)?);
    let deadline = parameters::timeout(&parameters)?.and_then(|timeout| Instant::now().checked_add(timeout));
    let id = id.unwrap_or_default();
    Ok(Call { model: at.model, version: at.version, id, parameters, inputs, deadline, ..Call::default() })
}

/// An input by its value; one of fewer dimensions than the model's is the innermost part of it.
fn input(spec: &TensorSpec, value: &RawValue) -> Result<Tensor, Error> {
    let TensorSpec { name, dtype, dims: expected } = spec;
    let mut dims = json::shape(name, value.get())?;
    let data = match dims.is_empty() {
        true => json::parse(name, *dtype, 1, &format!("[{}]", value.get()))?,
        false => json::parse(name, *dtype, texts::elements(&dims).unwrap_or(u64::MAX), value.get())?,
    };
    let missing = expected.len().saturating_sub(dims.len());
    dims.splice(0..0, std::iter::repeat_n(1, missing));
    Ok(Tensor { name: name.clone(), dtype: *dtype, dims, data: data.into() })
}

/// One object: a single element as it is, several as an array.
fn encode(reply: &transfer::Reply, id: &str) -> Result<Vec<u8>, Error> {
    let served = &reply.answer.served;
    let mut text = json!({ "model_name": served.name, "model_version": served.version.to_string() });
    if !id.is_empty() {
        text["id"] = id.into();
    }
    let mut text = text.to_string().into_bytes();
    // The brace that ends it comes after the outputs.
    text.pop();
    for tensor in reply.outputs.iter().map(|output| &output.tensor) {
        let _ = write!(text, ",{}:", json!(tensor.name));
        let begins = text.len();
        json::write(&tensor.name, tensor.dtype, &tensor.data, &mut text)?;
        if texts::elements(&tensor.dims) == Some(1) {
            text.pop();
            text.remove(begins);
        }
    }
    text.push(b'}');
    Ok(text)
}
