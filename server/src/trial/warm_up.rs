//! Warm-up: requests that the configuration describes, before a client's first.

use std::sync::Arc;

use bytes::Bytes;
use half::{bf16, f16};
use ired_module::{DType, texts};
use ired_worker::Tensor;

use super::TrialError;
use crate::error::Error;
use crate::model_config::{self, Content, Share};
use crate::models::ModelSource;
use crate::registry::{Registry, Served};
use crate::tensors::{datatype, tensor_bytes};

impl Registry {
    pub(super) async fn warm_up(&self, source: &ModelSource, served: &Arc<Served>) -> Result<(), TrialError> {
        let failed = |sample: &str, cause| TrialError::WarmUp {
            model: source.to_string(),
            sample: sample.to_owned(),
            cause,
        };
        let Some(config) = &served.config else { return Ok(()) };
        let samples = model_config::samples(&source.name, config, served.entry());
        for sample in samples.map_err(|cause| failed("model_warmup", cause))? {
            let mut inputs = Vec::with_capacity(sample.inputs.len());
            let mut room = self.settings.message_bytes as u64;
            for share in &sample.inputs {
                inputs.push(
                    tensor(source, share, &mut room).await.map_err(|cause| failed(&sample.name, cause))?,
                );
            }
            // Each of its processes has its turn.
            let count = sample.count as usize * served.runner.process_count();
            for _ in 0..count {
                self.ask(served, inputs.clone()).await.map_err(|cause| failed(&sample.name, cause))?;
            }
            tracing::info!(model = %source, sample = sample.name, count, "warmed up");
        }
        Ok(())
    }
}

/// One input; `room` is what a request may still have.
async fn tensor(source: &ModelSource, share: &Share, room: &mut u64) -> Result<Tensor, Error> {
    let Share { name, dtype, dims, content } = share;
    let bytes = tensor_bytes(name, *dtype, dims)?;
    let limit = *room;
    *room = room.checked_sub(bytes).ok_or_else(|| Error::TooLarge {
        what: format!("a request with input `{name}`"),
        found: bytes,
        limit,
    })?;
    let data = match content {
        Content::Zeros => {
            // A string takes four bytes for its length, and no more when it is empty.
            let bytes = if *dtype == DType::String { bytes / 8 * 4 } else { bytes };
            Bytes::from(vec![0; usize::try_from(bytes).unwrap_or(0)])
        }
        Content::Random => random(name, *dtype, dims)?.into(),
        Content::File(file) => {
            let path = format!("warmup/{file}");
            let found = source.trials.iter().find(|trial| trial.name == path);
            let found =
                found.ok_or_else(|| Error::invalid(format!("input `{name}`: there is no file `{path}`")))?;
            found.read(limit).await?.into()
        }
    };
    Ok(Tensor { name: name.clone(), dtype: *dtype, dims: dims.clone(), data: data.into() })
}

/// Numbers from 0 to 1, whole numbers from 0 to 127, strings of one letter; the same each time.
fn random(name: &str, dtype: DType, dims: &[u64]) -> Result<Vec<u8>, Error> {
    let elements = texts::elements(dims).unwrap_or(0);
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut next = move || {
        // xorshift64: nothing here has to be unpredictable.
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 57) as u8
    };
    let fraction = |value: u8| f32::from(value) / 127.0;
    let mut data = Vec::new();
    for _ in 0..elements {
        let value = next();
        match dtype {
            DType::Bool => data.push(value & 1),
            DType::I8 | DType::U8 => data.push(value),
            DType::I16 | DType::U16 => data.extend(u16::from(value).to_le_bytes()),
            DType::I32 | DType::U32 => data.extend(u32::from(value).to_le_bytes()),
            DType::I64 | DType::U64 => data.extend(u64::from(value).to_le_bytes()),
            DType::F16 => data.extend(f16::from_f32(fraction(value)).to_le_bytes()),
            DType::BF16 => data.extend(bf16::from_f32(fraction(value)).to_le_bytes()),
            DType::F32 => data.extend(fraction(value).to_le_bytes()),
            DType::F64 => data.extend(f64::from(fraction(value)).to_le_bytes()),
            DType::String => drop(texts::push(&mut data, &[b'a' + value % 26])),
            _ => {
                let name_of_type = datatype(dtype);
                return Err(Error::invalid(format!(
                    "input `{name}`: there is no `random_data` of {name_of_type}; use `zero_data` or a file"
                )));
            }
        }
    }
    Ok(data)
}
