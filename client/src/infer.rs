//! Inference with named tensors.

use std::time::Duration;

use ired_proto::inference::model_infer_request::{InferInputTensor, InferRequestedOutputTensor};
use ired_proto::inference::{
    ModelInferRequest, ModelInferResponse, ModelMetadataRequest, ModelMetadataResponse, ModelReadyRequest,
    ModelStatistics, ModelStatisticsRequest,
};

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
}

/// A model's answer.
#[derive(Clone, Debug)]
pub struct InferResponse {
    pub model: String,
    pub version: String,
    pub id: String,
    pub outputs: Vec<Tensor>,
}

impl Client {
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
