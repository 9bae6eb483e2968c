//! Inference with named tensors.

use std::num::NonZeroU32;
use std::time::Duration;

use ired_proto::inference::infer_parameter::ParameterChoice;
use ired_proto::inference::model_infer_request::{InferInputTensor, InferRequestedOutputTensor};
use ired_proto::inference::{
    InferParameter, ModelInferRequest, ModelInferResponse, ModelMetadataRequest, ModelMetadataResponse,
    ModelReadyRequest, ModelStatistics, ModelStatisticsRequest, ModelStreamInferResponse,
};
use tonic::metadata::MetadataValue;
use tonic::{Code, Streaming};

use crate::{Client, ClientError, Tensor, Version};

/// One question to a model.
#[derive(Clone, Debug, Default)]
pub struct InferRequest {
    pub model: String,
    /// `None`: the newest that is ready.
    pub version: Option<Version>,
    pub inputs: Vec<Tensor>,
    /// Empty: all outputs.
    pub outputs: Vec<String>,
    /// Appears in the daemon's log and in the answer.
    pub id: String,
    /// The daemon gives up after this long.
    pub timeout: Option<Duration>,
    /// Of [`Client::infer_stream`]: at most so many responses; the model may have a bound of its own.
    pub max_responses: Option<NonZeroU32>,
}

/// A model's answer.
#[derive(Clone, Debug)]
pub struct InferResponse {
    pub model: String,
    pub version: String,
    pub id: String,
    pub outputs: Vec<Tensor>,
}

/// The responses to one request. Dropping it cancels the request; while it is not read, the daemon has the model make
/// no more responses than the connection holds.
#[derive(Debug)]
pub struct InferResponses {
    responses: Streaming<ModelStreamInferResponse>,
    last_came: bool,
}

impl InferResponses {
    /// The next response, as soon as it is there; `None` after the last.
    ///
    /// # Errors
    /// As those of [`Client::infer`], also after responses have come. Nothing follows an error.
    pub async fn next(&mut self) -> Result<Option<InferResponse>, ClientError> {
        let Some(message) = self.responses.message().await? else {
            let ended = || ClientError::protocol("responses that ended before the last");
            return self.last_came.then_some(None).ok_or_else(ended);
        };
        if !message.error_message.is_empty() {
            // Of a daemon that does not tell more.
            let (code, message) = (Code::Unknown, message.error_message);
            return Err(ClientError::Call { code, message, retry_after: None });
        }
        let response = message.infer_response.ok_or_else(|| ClientError::protocol("an empty response"))?;
        self.last_came = is_last(&response);
        decode(response).map(Some)
    }
}

/// Whether no more responses follow.
fn is_last(response: &ModelInferResponse) -> bool {
    let says = response.parameters.get("triton_final_response");
    says.is_some_and(|says| says.parameter_choice == Some(ParameterChoice::BoolParam(true)))
}

impl Client {
    /// Runs a model that gives a response for each of its runs; of one that gives a single one, it is that. Returns before
    /// the first is there.
    ///
    /// # Errors
    /// As those of [`Client::infer`]; most come with the first response.
    pub async fn infer_stream(&self, request: InferRequest) -> Result<InferResponses, ClientError> {
        for input in &request.inputs {
            input.check()?;
        }
        let mut message = encode(&request);
        let mut say = |name: &str, value: i64| {
            let value = InferParameter { parameter_choice: Some(ParameterChoice::Int64Param(value)) };
            message.parameters.insert(name.to_owned(), value);
        };
        if let Some(timeout) = request.timeout {
            say("timeout", i64::try_from(timeout.as_micros()).unwrap_or(i64::MAX));
        }
        if let Some(most) = request.max_responses {
            say("max_responses", most.get().into());
        }
        let mut call = tonic::Request::new(tokio_stream::once(message));
        // Otherwise errors are texts without a code.
        call.metadata_mut().insert("triton_grpc_error", MetadataValue::from_static("true"));
        let responses = self.inference.clone().model_stream_infer(call).await?.into_inner();
        Ok(InferResponses { responses, last_came: false })
    }

    /// Runs a model. Dropping the future cancels the inference.
    ///
    /// # Errors
    /// [`ClientError::TensorBytes`] before anything is sent; else what the daemon says.
    pub async fn infer(&self, request: InferRequest) -> Result<InferResponse, ClientError> {
        for input in &request.inputs {
            input.check()?;
        }
        let mut call = tonic::Request::new(encode(&request));
        if let Some(timeout) = request.timeout {
            call.set_timeout(timeout);
        }
        decode(self.inference.clone().model_infer(call).await?.into_inner())
    }

    /// Inputs and outputs of a model.
    pub async fn model_metadata(
        &self,
        model: &str,
        version: Option<Version>,
    ) -> Result<ModelMetadataResponse, ClientError> {
        let request =
            ModelMetadataRequest { name: model.to_owned(), version: version_text(version.as_ref()) };
        Ok(self.inference.clone().model_metadata(request).await?.into_inner())
    }

    /// Can this model answer now?
    pub async fn model_ready(&self, model: &str, version: Option<Version>) -> Result<bool, ClientError> {
        let request = ModelReadyRequest { name: model.to_owned(), version: version_text(version.as_ref()) };
        Ok(self.inference.clone().model_ready(request).await?.into_inner().ready)
    }

    /// Counters of one model, or of all with an empty name.
    pub async fn statistics(
        &self,
        model: &str,
        version: Option<Version>,
    ) -> Result<Vec<ModelStatistics>, ClientError> {
        let request =
            ModelStatisticsRequest { name: model.to_owned(), version: version_text(version.as_ref()) };
        Ok(self.inference.clone().model_statistics(request).await?.into_inner().model_stats)
    }
}

fn version_text(version: Option<&Version>) -> String {
    version.map(Version::to_string).unwrap_or_default()
}

fn encode(request: &InferRequest) -> ModelInferRequest {
    let inputs = request.inputs.iter().map(|tensor| InferInputTensor {
        name: tensor.name.clone(),
        datatype: tensor.data_type.name().to_owned(),
        // A size over i64::MAX cannot have passed `Tensor::check`, unless the tensor is empty.
        shape: tensor.shape.iter().map(|&d| i64::try_from(d).unwrap_or(i64::MAX)).collect(),
        ..Default::default()
    });
    let outputs = request
        .outputs
        .iter()
        .map(|name| InferRequestedOutputTensor { name: name.clone(), ..Default::default() });
    ModelInferRequest {
        model_name: request.model.clone(),
        model_version: version_text(request.version.as_ref()),
        id: request.id.clone(),
        inputs: inputs.collect(),
        outputs: outputs.collect(),
        raw_input_contents: request.inputs.iter().map(|tensor| tensor.data.clone()).collect(),
        ..Default::default()
    }
}

fn decode(response: ModelInferResponse) -> Result<InferResponse, ClientError> {
    if response.raw_output_contents.len() != response.outputs.len() {
        return Err(ClientError::protocol(format!(
            "{} outputs and {} contents",
            response.outputs.len(),
            response.raw_output_contents.len()
        )));
    }
    let outputs = response.outputs.into_iter().zip(response.raw_output_contents).map(|(output, data)| {
        let shape = output
            .shape
            .iter()
            .map(|&d| u64::try_from(d).map_err(|_| ClientError::protocol(format!("a dimension of {d}"))))
            .collect::<Result<_, _>>()?;
        let data_type = output
            .datatype
            .parse()
            .map_err(|error: crate::UnknownDataType| ClientError::protocol(error.to_string()))?;
        let tensor = Tensor { name: output.name, data_type, shape, data };
        tensor.check()?;
        Ok(tensor)
    });
    Ok(InferResponse {
        model: response.model_name,
        version: response.model_version,
        id: response.id,
        outputs: outputs.collect::<Result<_, ClientError>>()?,
    })
}
