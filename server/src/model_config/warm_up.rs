//! Warm-up requests as a configuration describes them.

use ired_module::DType;
use ired_module::signature::EntryPoint;
use ired_proto::inference::model_warmup::Input;
use ired_proto::inference::model_warmup::input::InputDataType;
use ired_proto::inference::{DataType, ModelConfig, ModelWarmup};

use crate::describe::data_type;
use crate::error::{Error, shown};

/// Warm-up requests of one model, with their repetitions.
const RUNS: u64 = 1000;

/// A warm-up request.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    pub name: String,
    pub inputs: Vec<Share>,
    /// How often it runs.
    pub count: u32,
}

/// One input of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Share {
    pub name: String,
    pub dtype: DType,
    pub dims: Vec<u64>,
    pub content: Content,
}

/// What is in an input.
#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    Zeros,
    Random,
    /// The bytes of this file of the folder `warmup`.
    File(String),
}

/// The warm-up requests of a configuration.
///
/// # Errors
/// [`Error::Invalid`] for what contradicts the module or itself.
pub fn samples(name: &str, config: &ModelConfig, entry: &EntryPoint) -> Result<Vec<Sample>, Error> {
    let batched = config.max_batch_size > 0;
    let samples =
        config.model_warmup.iter().enumerate().map(|(at, warm_up)| sample(at, warm_up, batched, entry));
    let samples: Result<Vec<_>, String> = samples.collect();
    let wrong =
        |what: String| Error::invalid(format!("the configuration of `{name}`: `model_warmup`: {what}"));
    let samples = samples.map_err(wrong)?;
    match samples.iter().map(|sample| u64::from(sample.count)).sum::<u64>() {
        0..=RUNS => Ok(samples),
        runs => Err(wrong(format!("{runs} requests in all; at most {RUNS} are run"))),
    }
}

fn sample(at: usize, config: &ModelWarmup, batched: bool, entry: &EntryPoint) -> Result<Sample, String> {
    let name = if config.name.is_empty() { format!("sample {}", at + 1) } else { shown(&config.name) };
    let rows = match (batched, config.batch_size) {
        (true, 0) => return Err(format!("`batch_size` of `{name}` is 0; it must be at least 1")),
        (false, 2..) => {
            let found = config.batch_size;
            return Err(format!(
                "`batch_size` of `{name}` is {found}; a model without `max_batch_size` has no batches"
            ));
        }
        (true, rows) => Some(u64::from(rows)),
        (false, _) => None,
    };
    let inputs = config.inputs.iter().map(|(input, config)| share(&name, input, config, rows, entry));
    let mut inputs = inputs.collect::<Result<Vec<_>, _>>()?;
    inputs.sort_by(|a, b| a.name.cmp(&b.name));
    // As the format has it: once unless it says otherwise.
    Ok(Sample { name, inputs, count: config.count.max(1) })
}

fn share(
    sample: &str,
    name: &str,
    config: &Input,
    rows: Option<u64>,
    entry: &EntryPoint,
) -> Result<Share, String> {
    let what = format!("input `{}` of `{sample}`", shown(name));
    let spec = entry.inputs.iter().find(|spec| spec.name == name);
    let spec = spec.ok_or_else(|| format!("{what} is none of the model's"))?;
    let (found, expected) = (DataType::try_from(config.data_type).unwrap_or_default(), data_type(spec.dtype));
    if found != DataType::TypeInvalid && found != expected {
        let (found, expected) = (found.as_str_name(), expected.as_str_name());
        return Err(format!("{what} is {found}; the model's is {expected}"));
    }
    let size = |&dim: &i64| {
        u64::try_from(dim).map_err(|_| format!("{what} has dimension {dim}; a request has its size"))
    };
    let dims: Vec<u64> =
        rows.map(Ok).into_iter().chain(config.dims.iter().map(size)).collect::<Result<_, _>>()?;
    let content = match &config.input_data_type {
        Some(InputDataType::ZeroData(true)) => Content::Zeros,
        Some(InputDataType::RandomData(true)) => Content::Random,
        Some(InputDataType::InputDataFile(file)) => Content::File(file.clone()),
        _ => return Err(format!("{what} has none of `zero_data`, `random_data` and `input_data_file`")),
    };
    Ok(Share { name: name.to_owned(), dtype: spec.dtype, dims, content })
}
