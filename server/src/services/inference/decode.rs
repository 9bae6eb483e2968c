//! gRPC requests into calls.

use std::time::{Duration, Instant};

use bytes::Bytes;
use ired_proto::inference::log_settings_request::SettingValue as LogSetting;
use ired_proto::inference::log_settings_request::setting_value::ParameterChoice as LogChoice;
use ired_proto::inference::model_infer_request::{InferInputTensor, InferRequestedOutputTensor};
use ired_proto::inference::model_repository_parameter::ParameterChoice as LoadChoice;
use ired_proto::inference::{ModelInferRequest, ModelRepositoryParameter};
use ired_worker::Tensor;
use tonic::metadata::MetadataMap;

use crate::error::{Error, shown};
use crate::infer::{Call, parameters};
use crate::inline::Inline;
use crate::services::settings::LogValue;
use crate::services::transfer::{self, Fetch, Transfer};
use crate::shared_memory::Regions;
use crate::tensors::{parse_datatype, parse_shape, tensor_bytes, typed};

/// When the client gives up, from the `grpc-timeout` header.
pub(super) fn deadline(metadata: &MetadataMap) -> Result<Option<Instant>, Error> {
    let Some(value) = metadata.get("grpc-timeout") else { return Ok(None) };
    let parsed = value.to_str().ok().and_then(timeout);
    let timeout =
        parsed.ok_or_else(|| Error::invalid("header `grpc-timeout` is not a timeout".to_owned()))?;
    Ok(Instant::now().checked_add(timeout))
}

/// At most eight digits and a unit, as gRPC over HTTP/2 has it.
fn timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(number * 3600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

pub(super) fn transfer(
    regions: &Regions,
    request: ModelInferRequest,
    deadline: Option<Instant>,
) -> Result<Transfer, Error> {
    let parameters = parameters::from_grpc(request.parameters)?;
    let own = parameters::timeout(&parameters)?;
    let own = own.and_then(|timeout| Instant::now().checked_add(timeout));
    let raw = request.raw_input_contents;
    let shared = |input: &&InferInputTensor| input.parameters.contains_key(transfer::REGION);
    let wanted = request.inputs.len() - request.inputs.iter().filter(shared).count();
    if !raw.is_empty() && raw.len() != wanted {
        return Err(Error::invalid(format!(
            "`raw_input_contents` has {} entries for {wanted} inputs that are not in shared memory",
            raw.len()
        )));
    }
    let mut inputs = Inputs { raw: raw.into_iter(), fetches: Vec::new() };
    let tensors = request.inputs.into_iter().enumerate();
    let tensors = tensors.map(|(at, input)| inputs.tensor(regions, at, input)).collect::<Result<_, _>>()?;
    let output = |output: InferRequestedOutputTensor| {
        transfer::output(regions, output.name, &parameters::from_grpc(output.parameters)?)
    };
    let outputs = request.outputs.into_iter().map(output).collect::<Result<_, _>>()?;
    Ok(Transfer {
        call: Call {
            model: request.model_name,
            version: request.model_version,
            id: request.id,
            parameters,
            inputs: tensors,
            deadline: deadline.into_iter().chain(own).min(),
            ..Call::default()
        },
        fetches: inputs.fetches,
        outputs,
    })
}

struct Inputs {
    /// One for each input that is not in shared memory, or none at all.
    raw: std::vec::IntoIter<Bytes>,
    fetches: Vec<(usize, Fetch)>,
}

impl Inputs {
    fn tensor(&mut self, regions: &Regions, at: usize, input: InferInputTensor) -> Result<Tensor, Error> {
        let name = input.name;
        let dtype = parse_datatype(&name, &input.datatype)?;
        let dims = parse_shape(&name, &input.shape)?;
        let bytes = tensor_bytes(&name, dtype, &dims)?;
        if let Some(fetch) = transfer::fetch(regions, &name, &parameters::from_grpc(input.parameters)?)? {
            if input.contents.is_some() {
                return Err(Error::invalid(format!("input `{name}` has both `contents` and shared memory")));
            }
            self.fetches.push((at, fetch));
            return Ok(Tensor { name, dtype, dims, data: Bytes::new().into() });
        }
        let data = match (self.raw.next(), input.contents) {
            (Some(_), Some(_)) => {
                return Err(Error::invalid(format!(
                    "input `{name}` has both `contents` and `raw_input_contents`"
                )));
            }
            (Some(raw), None) => raw,
            (None, contents) => {
                let elements = bytes * 8 / dtype.bits();
                typed::pack(&name, dtype, elements, &contents.unwrap_or_default())?
            }
        };
        Ok(Tensor { name, dtype, dims, data: data.into() })
    }
}

/// One log setting.
pub(super) fn log_setting((name, setting): (String, LogSetting)) -> Result<(String, LogValue), Error> {
    let value = match setting.parameter_choice {
        Some(LogChoice::BoolParam(on)) => LogValue::Switch(on),
        Some(LogChoice::Uint32Param(level)) => LogValue::Level(level),
        Some(LogChoice::StringParam(text)) => LogValue::Text(text),
        None => return Err(Error::invalid(format!("log setting `{}` has no value", shown(&name)))),
    };
    Ok((name, value))
}

/// One parameter of a load request.
pub(super) fn load_parameter(
    inline: &mut Inline,
    name: &str,
    parameter: ModelRepositoryParameter,
) -> Result<(), Error> {
    match (name, parameter.parameter_choice) {
        ("config", Some(LoadChoice::StringParam(config))) => inline.config(config),
        (_, Some(LoadChoice::BytesParam(content))) => inline.file(name, content)?,
        _ => return Err(Error::invalid(format!("load parameter `{}` is not supported", shown(name)))),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read_as_the_protocol_writes_them() {
        assert_eq!(timeout("250m"), Some(Duration::from_millis(250)));
        assert_eq!(timeout("99999999H"), Some(Duration::from_secs(99_999_999 * 3600)));
        for bad in ["", "m", "1", "123456789m", "-1m", "1x", "1é", "1.5S"] {
            assert_eq!(timeout(bad), None, "{bad:?}");
        }
    }
}
