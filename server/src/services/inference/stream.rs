//! `ModelStreamInfer`: many requests on one stream, whose answers come in their order.

use std::sync::Arc;

use futures::stream::{BoxStream, StreamExt};
use ired_proto::inference::infer_parameter::ParameterChoice;
use ired_proto::inference::{
    InferParameter, ModelInferRequest, ModelInferResponse, ModelStreamInferResponse,
};
use tonic::{Status, Streaming};

use crate::app::App;
use crate::auth::Admitted;
use crate::error::Error;
use crate::trace::Origin;

/// Requests of one stream that run at once.
const CONCURRENCY: usize = 16;
/// The parameter of a request whose client wants to know which response is its last.
const ASKS_FOR_FINAL: &str = "triton_enable_empty_final_response";
/// The parameter of a response after which none follows for its request: of every one, as each request has one.
const FINAL: &str = "triton_final_response";

/// Answers each request. Dropping the stream cancels what runs.
pub(super) fn answers(
    app: Arc<App>,
    admitted: Admitted,
    origin: Origin,
    requests: Streaming<ModelInferRequest>,
) -> BoxStream<'static, Result<ModelStreamInferResponse, Status>> {
    // What breaks the stream ends it; what is wrong with one request is its answer.
    let answers = requests.map(move |request| {
        let (app, admitted) = (app.clone(), admitted.clone());
        // The head of the stream speaks for all its requests but for when they came and what they are called.
        let origin = Origin { parent: origin.parent.clone(), ..Origin::default() };
        async move {
            let request = request?;
            let (model_name, id) = (request.model_name.clone(), request.id.clone());
            let asks = request.parameters.get(ASKS_FOR_FINAL) == Some(&yes());
            let (mut response, error_message) = match answer(&app, &admitted, origin, request).await {
                Ok(response) => (response, String::new()),
                // Says whose error it is.
                Err(error) => (
                    ModelInferResponse { model_name, id, ..Default::default() },
                    ired_worker::printable(&error.to_string()).into_owned(),
                ),
            };
            if asks {
                response.parameters.insert(FINAL.to_owned(), yes());
            }
            Ok(ModelStreamInferResponse { error_message, infer_response: Some(response) })
        }
    });
    answers.buffered(CONCURRENCY).boxed()
}

async fn answer(
    app: &App,
    admitted: &Admitted,
    origin: Origin,
    request: ModelInferRequest,
) -> Result<ModelInferResponse, Error> {
    admitted.for_model(&request.model_name)?;
    super::answer(app, origin, admitted.tenant(), request, None).await?.0
}

fn yes() -> InferParameter {
    InferParameter { parameter_choice: Some(ParameterChoice::BoolParam(true)) }
}
