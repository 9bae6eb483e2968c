//! What executions of a model version take while they run, by the sizes of their inputs. Code of the module computes it,
//! so its worker is asked, once for each combination of sizes; from then on it costs a look-up.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock};
use std::time::Instant;

use ired_module::signature::EntryPoint;
use ired_worker::{RuntimeFailure, Tensor};

use crate::engine::Runner;

/// Combinations that are remembered; when there are more, all are forgotten and asked for again.
const REMEMBERED: usize = 16 << 10;

/// What is known of one entry point.
#[derive(Debug)]
pub struct Peaks {
    entry: String,
    /// The inputs, and how many dimensions each has.
    inputs: Vec<(String, usize)>,
    known: RwLock<HashMap<Sizes, u64>>,
    /// One question at a time, for those who wait mostly want to know the same.
    asking: tokio::sync::Mutex<()>,
}

/// The dimensions of all inputs, one after the other.
pub type Sizes = Box<[u64]>;

impl Peaks {
    pub fn new(entry: &EntryPoint) -> Self {
        Self {
            entry: entry.name.clone(),
            inputs: entry.inputs.iter().map(|spec| (spec.name.clone(), spec.dims.len())).collect(),
            known: RwLock::default(),
            asking: tokio::sync::Mutex::default(),
        }
    }

    /// The sizes of inputs, which fit the entry point.
    pub fn sizes(&self, inputs: &[Tensor]) -> Sizes {
        let mut sizes = Vec::with_capacity(self.inputs.iter().map(|(_, rank)| rank).sum());
        for (name, _) in &self.inputs {
            let found = inputs.iter().find(|tensor| tensor.name == *name);
            sizes.extend(found.into_iter().flat_map(|tensor| &tensor.dims));
        }
        sizes.into()
    }

    /// The sizes of requests that are joined to so many rows; `inputs` are those of one of them.
    pub fn joined(&self, inputs: &[Tensor], rows: u64) -> Sizes {
        let mut sizes = self.sizes(inputs);
        let mut at = 0;
        for (_, rank) in &self.inputs {
            if let Some(first) = sizes.get_mut(at).filter(|_| *rank > 0) {
                *first = rows;
            }
            at += rank;
        }
        sizes
    }

    /// What an execution of these sizes takes, if that was asked before.
    pub fn find(&self, sizes: &[u64]) -> Option<u64> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).get(sizes).copied()
    }

    /// What an execution of these sizes takes, in bytes: its outputs and all that there is only while it runs, as far as
    /// the sizes of its inputs say it.
    ///
    /// # Errors
    /// Those that the execution would have: the model may refuse the sizes.
    pub async fn of(
        &self,
        runner: &dyn Runner,
        sizes: Sizes,
        deadline: Instant,
    ) -> Result<u64, RuntimeFailure> {
        if let Some(bytes) = self.find(&sizes) {
            return Ok(bytes);
        }
        let _one_at_a_time = self.asking.lock().await;
        if let Some(bytes) = self.find(&sizes) {
            return Ok(bytes);
        }
        let bytes = runner.peak(&self.entry, self.dims(&sizes), Some(deadline)).await?;
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= REMEMBERED {
            known.clear();
        }
        known.insert(sizes, bytes);
        Ok(bytes)
    }

    fn dims(&self, sizes: &[u64]) -> Vec<Vec<u64>> {
        let mut left = sizes.iter().copied();
        self.inputs.iter().map(|(_, rank)| left.by_ref().take(*rank).collect()).collect()
    }
}

#[cfg(test)]
mod tests {
    use ired_module::DType;
    use ired_module::signature::{DimSpec, PeakBytes, Rows, TensorSpec};

    use super::*;

    #[test]
    fn sizes_are_in_the_order_of_the_entry_point_and_rows_are_of_every_input() {
        let dims = |rank| vec![DimSpec::Static(1); rank];
        let spec =
            |name: &str, rank| TensorSpec { name: name.to_owned(), dtype: DType::F32, dims: dims(rank) };
        let peaks = Peaks::new(&EntryPoint {
            name: "main".to_owned(),
            function: 0,
            inputs: vec![spec("a", 2), spec("scalar", 0), spec("b", 1)],
            outputs: Vec::new(),
            rows: Rows::Independent,
            peak: PeakBytes::Function(1),
        });
        let tensor = |name: &str, dims: &[u64]| Tensor {
            name: name.to_owned(),
            dtype: DType::F32,
            dims: dims.to_vec(),
            data: Vec::new().into(),
        };
        let inputs = [tensor("b", &[2]), tensor("a", &[2, 3]), tensor("scalar", &[])];
        assert_eq!(*peaks.sizes(&inputs), [2, 3, 2]);
        assert_eq!(*peaks.joined(&inputs, 7), [7, 3, 7]);
        assert_eq!(peaks.dims(&[7, 3, 7]), [vec![7, 3], vec![], vec![7]]);
    }
}
