//! Golden requests: `golden/NAME.json` is the body of a REST request; where `golden/NAME.answer.json` is there, it is the
//! body of the answer that is expected, else the version that answers now says what is.

use std::borrow::Cow;
use std::sync::Arc;

use ired_worker::Tensor;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::TrialError;
use super::compare::difference;
use crate::error::Error;
use crate::model_config;
use crate::models::{ModelSource, SourceFile};
use crate::registry::{Registry, Served};
use crate::tensors::{json, parse_datatype, parse_shape, tensor_bytes};

/// The folder of golden requests.
const FOLDER: &str = "golden/";
const REQUEST: &str = ".json";
const ANSWER: &str = ".answer.json";

/// What there is of it besides does not matter here.
#[derive(Deserialize)]
struct Request<'a> {
    #[serde(borrow)]
    inputs: Vec<Listed<'a>>,
}

#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(borrow)]
    outputs: Vec<Listed<'a>>,
}

#[derive(Deserialize)]
struct Listed<'a> {
    name: String,
    shape: Vec<i64>,
    #[serde(borrow)]
    datatype: Cow<'a, str>,
    #[serde(borrow)]
    data: &'a RawValue,
}

impl Registry {
    /// Holds a version's answers against what was recorded, or against those of the version before it.
    pub(super) async fn check_golden(
        &self,
        source: &ModelSource,
        served: &Arc<Served>,
        before: Option<&Served>,
    ) -> Result<(), TrialError> {
        let requests = source.trials.iter().filter(|file| {
            let name = &file.name;
            name.starts_with(FOLDER) && name.ends_with(REQUEST) && !name.ends_with(ANSWER)
        });
        let mut checked = 0;
        for file in requests {
            self.check_one(source, served, before, file).await?;
            checked += 1;
        }
        if checked > 0 {
            tracing::info!(model = %source, requests = checked, "golden requests are answered as expected");
        }
        Ok(())
    }

    async fn check_one(
        &self,
        source: &ModelSource,
        served: &Arc<Served>,
        before: Option<&Served>,
        file: &SourceFile,
    ) -> Result<(), TrialError> {
        let no_answer = |served: &Served, cause| TrialError::NoAnswer {
            model: format!("{}/{}", served.name, served.version),
            file: file.name.clone(),
            cause,
        };
        let tolerance = served.config.as_deref().map(|config| model_config::tolerance(&source.name, config));
        let tolerance = tolerance.transpose().map_err(|cause| no_answer(served, cause))?.unwrap_or_default();
        let inputs = self.recorded(source, file, request).await?;
        let found = self.ask(served, inputs.clone()).await.map_err(|cause| no_answer(served, cause))?;
        let stem = file.name.strip_suffix(REQUEST).unwrap_or(&file.name);
        let known = source.trials.iter().find(|other| other.name.strip_suffix(ANSWER) == Some(stem));
        let (expected, says) = match (known, before) {
            (Some(known), _) => (self.recorded(source, known, answer).await?, format!("`{}`", known.name)),
            (None, Some(before)) => {
                let expected = self.ask(before, inputs).await.map_err(|cause| no_answer(before, cause))?;
                (expected, format!("{}/{}", before.name, before.version))
            }
            // Nobody knows the answer; it is one, at least.
            (None, None) => return Ok(()),
        };
        match difference(&found, &expected, tolerance) {
            None => Ok(()),
            Some(difference) => Err(TrialError::Differs {
                model: source.to_string(),
                file: file.name.clone(),
                expected: says,
                difference,
            }),
        }
    }

    /// The tensors that `parse` finds in a file.
    async fn recorded(
        &self,
        source: &ModelSource,
        file: &SourceFile,
        parse: fn(&[u8]) -> Result<Vec<Tensor>, Error>,
    ) -> Result<Vec<Tensor>, TrialError> {
        let unreadable =
            |cause| TrialError::Recorded { model: source.to_string(), file: file.name.clone(), cause };
        let text = file.read(self.settings.message_bytes as u64).await.map_err(unreadable)?;
        parse(&text).map_err(unreadable)
    }
}

fn request(text: &[u8]) -> Result<Vec<Tensor>, Error> {
    let request: Request = serde_json::from_slice(text).map_err(not_expected)?;
    request.inputs.into_iter().map(tensor).collect()
}

fn answer(text: &[u8]) -> Result<Vec<Tensor>, Error> {
    let answer: Answer = serde_json::from_slice(text).map_err(not_expected)?;
    answer.outputs.into_iter().map(tensor).collect()
}

fn not_expected(error: serde_json::Error) -> Error {
    Error::invalid(format!("it is not the expected JSON: {error}"))
}

fn tensor(listed: Listed) -> Result<Tensor, Error> {
    let Listed { name, shape, datatype, data } = listed;
    let dtype = parse_datatype(&name, &datatype)?;
    let dims = parse_shape(&name, &shape)?;
    let bytes = tensor_bytes(&name, dtype, &dims)?;
    let data = json::parse(&name, dtype, bytes * 8 / dtype.bits(), data.get())?;
    Ok(Tensor { name, dtype, dims, data: data.into() })
}
