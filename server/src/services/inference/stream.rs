//! `ModelStreamInfer`: many requests on one stream, whose answers come in their order, but for those of decoupled models,
//! which come as they are ready.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::Poll;

use futures::future::{self, BoxFuture, FutureExt};
use futures::poll;
use futures::stream::{self, BoxStream, SelectAll, StreamExt};
use ired_proto::inference::infer_parameter::ParameterChoice;
use ired_proto::inference::{
    InferParameter, ModelInferRequest, ModelInferResponse, ModelStreamInferResponse,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinError;
use tokio_util::task::AbortOnDropHandle;
use tonic::metadata::MetadataMap;
use tonic::{Status, Streaming};

use super::{decode, encode};
use crate::app::App;
use crate::auth::Admitted;
use crate::error::Error;
use crate::services::transfer::Generation;
use crate::trace::Origin;

/// Requests of one stream that run at once; of those for decoupled models as many besides.
const CONCURRENCY: usize = 16;
/// The parameter of a response: whether none follows for its request. Every last one says so itself, so that none has to be
/// empty for clients with `triton_enable_empty_final_response`.
const FINAL: &str = "triton_final_response";
/// The header of a stream that an error shall end, with its code.
const STRICT: &str = "triton_grpc_error";

type Responses = BoxStream<'static, Result<ModelStreamInferResponse, Status>>;

/// What comes of a request of the stream.
enum Outcome {
    Response(Result<ModelStreamInferResponse, Status>),
    /// Of a decoupled model.
    Responses(BoxStream<'static, Outcome>),
}

/// A request that got in line, and what will come of it.
struct Begun(BoxFuture<'static, Outcome>);

/// Answers each request. Dropping the stream cancels what runs.
pub(super) fn answers(
    app: Arc<App>,
    admitted: Admitted,
    errors: Errors,
    origin: Origin,
    requests: Streaming<ModelInferRequest>,
) -> Responses {
    let generations = Arc::new(Semaphore::new(CONCURRENCY));
    let stream = Arc::new(Stream { app, admitted, errors, origin, generations, sequences: Mutex::default() });
    let in_order = requests.then(move |request| {
        let stream = stream.clone();
        async move {
            match request {
                Ok(request) => stream.begin(request).await,
                // What breaks the stream ends it; what is wrong with one request is its answer.
                Err(broken) => Begun(future::ready(Outcome::Response(Err(broken))).boxed()),
            }
        }
    });
    let outcomes = SelectAll::from_iter([in_order.map(|begun| begun.0).buffered(CONCURRENCY).boxed()]);
    let next = async |mut outcomes: SelectAll<_>| loop {
        match outcomes.next().await? {
            Outcome::Response(response) => return Some((response, outcomes)),
            Outcome::Responses(responses) => outcomes.push(responses),
        }
    };
    stream::unfold(outcomes, next).boxed()
}

/// How the client of a stream wants to be told that a request failed.
#[derive(Clone, Copy)]
pub(super) enum Errors {
    /// By a response; the stream goes on.
    AsResponses,
    /// By the stream's own status, with a code and the hint when to come again; it ends.
    AsStatus,
}

impl Errors {
    pub(super) fn of(metadata: &MetadataMap) -> Self {
        let strict = metadata.get(STRICT).is_some_and(|value| value == "true");
        if strict { Self::AsStatus } else { Self::AsResponses }
    }
}

/// What the requests of one stream share.
struct Stream {
    app: Arc<App>,
    admitted: Admitted,
    errors: Errors,
    origin: Origin,
    /// Places for requests that are run again and again.
    generations: Arc<Semaphore>,
    /// The turns of sequences that requests name.
    sequences: Mutex<HashMap<(String, SequenceName), Weak<Turn>>>,
}

/// What a request has while it is its sequence's turn; those that wait get it in their order.
type Turn = tokio::sync::Mutex<()>;

/// As a request names its sequence.
#[derive(PartialEq, Eq, Hash)]
enum SequenceName {
    Number(i128),
    Text(String),
}

impl Stream {
    /// Has a request get in line, which is done at once, and gives what comes of it.
    async fn begin(self: Arc<Self>, request: ModelInferRequest) -> Begun {
        let called =
            Called { model: request.model_name.clone(), id: request.id.clone(), errors: self.errors };
        let failed = called.clone();
        let turn = self.turn(&request);
        let mut work = Box::pin(async move {
            let _turn = match turn {
                Some(turn) => Some(turn.lock_owned().await),
                None => None,
            };
            let answered = self.try_answer(request, called).await;
            answered.unwrap_or_else(|error| Outcome::Response(failed.failed(error)))
        });
        match poll!(&mut work) {
            Poll::Ready(outcome) => Begun(future::ready(outcome).boxed()),
            // From here it goes on by itself: it takes its turn and gives its place back however slowly answers are read.
            Poll::Pending => Begun(AbortOnDropHandle::new(tokio::spawn(work)).map(over).boxed()),
        }
    }

    /// The turn of the sequence that a request names: what waits for its model or its data may not be overtaken.
    fn turn(&self, request: &ModelInferRequest) -> Option<Arc<Turn>> {
        let name = match request.parameters.get("sequence_id")?.parameter_choice.as_ref()? {
            ParameterChoice::Int64Param(number) if *number != 0 => SequenceName::Number((*number).into()),
            ParameterChoice::Uint64Param(number) if *number != 0 => SequenceName::Number((*number).into()),
            ParameterChoice::StringParam(text) if !text.is_empty() => SequenceName::Text(text.clone()),
            // No sequence has such a name.
            _ => return None,
        };
        let mut sequences = self.sequences.lock().unwrap_or_else(PoisonError::into_inner);
        // As many as run at once.
        sequences.retain(|_, turn| turn.strong_count() > 0);
        let place = sequences.entry((request.model_name.clone(), name)).or_default();
        let turn = place.upgrade().unwrap_or_default();
        *place = Arc::downgrade(&turn);
        Some(turn)
    }

    async fn try_answer(&self, request: ModelInferRequest, called: Called) -> Result<Outcome, Error> {
        self.admitted.for_model(&request.model_name)?;
        // The head of the stream speaks for all its requests but for when they came and what they are called.
        let origin = Origin { parent: self.origin.parent.clone(), ..Origin::default() };
        let mut transfer = decode::transfer(&self.app.regions, request, None)?;
        transfer.call.tenant = self.admitted.tenant();
        if !self.app.inference.is_decoupled(&transfer.call).await {
            let response = super::run(&self.app, origin, transfer).await.0?;
            return Ok(Outcome::Response(Ok(message(response, true))));
        }
        let waits = self.app.inference.reserve(&transfer.call, &transfer.call.inputs)?;
        let place = self.generations.clone().acquire_owned().await.map_err(|_| Error::Stopping)?;
        drop(waits);
        let generation = transfer.generate(self.app.clone(), origin)?;
        Ok(Outcome::Responses(responses(called, generation, place)))
    }
}

/// What came of a request's task, which ends early only with the daemon.
fn over(ended: Result<Outcome, JoinError>) -> Outcome {
    ended.unwrap_or_else(|_| Outcome::Response(Err(Error::Stopping.into())))
}

/// The responses to one request, until its last or an error.
fn responses(
    called: Called,
    generation: Generation,
    place: OwnedSemaphorePermit,
) -> BoxStream<'static, Outcome> {
    let next = async |going: Option<(Called, Generation, OwnedSemaphorePermit)>| {
        let (called, mut generation, place) = going?;
        let (response, going) = match generation.next().await? {
            Ok((reply, is_last)) => {
                let response = ModelInferResponse { id: called.id.clone(), ..encode::response(reply) };
                (Ok(message(response, is_last)), (!is_last).then_some((called, generation, place)))
            }
            Err(error) => (called.failed(error), None),
        };
        Some((Outcome::Response(response), going))
    };
    stream::unfold(Some((called, generation, place)), next).boxed()
}

/// What a request is called, and the model that it asks.
#[derive(Clone)]
struct Called {
    model: String,
    id: String,
    errors: Errors,
}

impl Called {
    /// An error says whose it is.
    fn failed(self, error: Error) -> Result<ModelStreamInferResponse, Status> {
        if matches!(self.errors, Errors::AsStatus) {
            return Err(error.into());
        }
        let response = ModelInferResponse { model_name: self.model, id: self.id, ..Default::default() };
        let error_message = ired_worker::printable(&error.to_string()).into_owned();
        Ok(ModelStreamInferResponse { error_message, ..message(response, true) })
    }
}

fn message(mut response: ModelInferResponse, is_last: bool) -> ModelStreamInferResponse {
    let says = InferParameter { parameter_choice: Some(ParameterChoice::BoolParam(is_last)) };
    response.parameters.insert(FINAL.to_owned(), says);
    ModelStreamInferResponse { error_message: String::new(), infer_response: Some(response) }
}
