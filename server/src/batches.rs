//! Models whose first dimension was declared to count the rows of a batch, by a configuration that came with a load.

use std::collections::BTreeMap;
use std::sync::{PoisonError, RwLock};

use ired_module::signature::{DimSpec, EntryPoint, TensorSpec};
use ired_worker::Tensor;

use crate::error::Error;

/// The most rows of one request, by model.
#[derive(Debug, Default)]
pub struct Batches(RwLock<BTreeMap<String, u32>>);

impl Batches {
    /// 0 where the first dimension is like any other.
    pub fn max_rows(&self, model: &str) -> u32 {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(model).copied().unwrap_or(0)
    }

    /// # Errors
    /// [`Error::Invalid`] for a model that has a tensor whose first dimension the request does not choose.
    pub(crate) fn declare(&self, model: &str, entry: &EntryPoint, max_rows: u32) -> Result<(), Error> {
        if max_rows > 0 {
            check(entry)?;
            self.0.write().unwrap_or_else(PoisonError::into_inner).insert(model.to_owned(), max_rows);
        }
        Ok(())
    }

    pub(crate) fn forget(&self, model: &str) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).remove(model);
    }

    /// # Errors
    /// [`Error::Invalid`] for a request with more rows than its model takes.
    pub(crate) fn check(&self, model: &str, inputs: &[Tensor]) -> Result<(), Error> {
        let max_rows = self.max_rows(model);
        let too_many = |input: &&Tensor| input.dims.first().is_some_and(|&rows| rows > u64::from(max_rows));
        match inputs.iter().find(too_many) {
            Some(input) if max_rows > 0 => Err(Error::invalid(format!(
                "input `{}` has {} rows; the configuration of model `{model}` takes at most {max_rows}",
                input.name, input.dims[0]
            ))),
            _ => Ok(()),
        }
    }
}

fn check(entry: &EntryPoint) -> Result<(), Error> {
    let rows = |spec: &TensorSpec| match spec.dims.first() {
        Some(DimSpec::Symbolic { name, .. }) => Some(name.clone()),
        _ => None,
    };
    let first = entry.inputs.first().and_then(rows);
    let tensors = entry.inputs.iter().map(|spec| ("input", spec));
    let mut tensors = tensors.chain(entry.outputs.iter().map(|spec| ("output", spec)));
    match tensors.find(|(_, spec)| rows(spec).is_none() || rows(spec) != first) {
        None => Ok(()),
        Some((kind, spec)) => Err(Error::invalid(format!(
            "`max_batch_size` needs a first dimension that every request chooses, the same for all tensors; {kind} `{}` \
             has none",
            spec.name
        ))),
    }
}
