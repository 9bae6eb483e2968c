//! Answers into gRPC responses.

use ired_proto::inference::infer_parameter::ParameterChoice;
use ired_proto::inference::log_settings_response::SettingValue as LogSetting;
use ired_proto::inference::log_settings_response::setting_value::ParameterChoice as LogChoice;
use ired_proto::inference::model_infer_response::InferOutputTensor;
use ired_proto::inference::{InferParameter, ModelInferResponse};

use crate::services::settings::LogValue;
use crate::services::transfer::{self, Reply, Written};
use crate::tensors::datatype;

/// All but the request's id.
pub(super) fn response(reply: Reply) -> ModelInferResponse {
    let mut response = ModelInferResponse {
        model_name: reply.answer.served.name.clone(),
        model_version: reply.answer.served.version.to_string(),
        ..Default::default()
    };
    for output in reply.outputs {
        let tensor = output.tensor;
        response.outputs.push(InferOutputTensor {
            name: tensor.name,
            datatype: datatype(tensor.dtype).to_owned(),
            shape: tensor.dims.iter().map(|&dim| i64::try_from(dim).unwrap_or(i64::MAX)).collect(),
            parameters: output.written.iter().flat_map(written).collect(),
            ..Default::default()
        });
        // One for each output, so that they are found by position.
        let raw = if output.written.is_some() { Default::default() } else { tensor.data.into() };
        response.raw_output_contents.push(raw);
    }
    response
}

fn written(written: &Written) -> [(String, InferParameter); 3] {
    let number = |number: u64| ParameterChoice::Int64Param(i64::try_from(number).unwrap_or(i64::MAX));
    [
        (transfer::REGION, ParameterChoice::StringParam(written.region.clone())),
        (transfer::OFFSET, number(written.offset)),
        (transfer::BYTE_SIZE, number(written.byte_size)),
    ]
    .map(|(name, value)| (name.to_owned(), InferParameter { parameter_choice: Some(value) }))
}

/// One log setting.
pub(super) fn log_setting((name, value): (&'static str, LogValue)) -> (String, LogSetting) {
    let value = match value {
        LogValue::Switch(on) => LogChoice::BoolParam(on),
        LogValue::Level(level) => LogChoice::Uint32Param(level),
        LogValue::Text(text) => LogChoice::StringParam(text),
    };
    (name.to_owned(), LogSetting { parameter_choice: Some(value) })
}
