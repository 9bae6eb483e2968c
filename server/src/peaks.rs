//! What executions of a model version take while they run, by the sizes of their inputs. Code of the module computes it,
//! so its worker is asked, once for each combination of sizes; from then on it costs a look-up.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use ired_module::signature::EntryPoint;
use ired_worker::{RuntimeFailure, Tensor};

use crate::tenants::{DEFAULT_ID, Tenant};

/// Combinations that are remembered; of more, those that were not looked up for longest are asked for again.
const REMEMBERED: u64 = 16 << 10;

/// What is known of one entry point.
#[derive(Debug)]
pub struct Peaks {
    /// The inputs, and how many dimensions each has.
    inputs: Vec<(String, usize)>,
    /// Tenants have processes of their own, whose word is none for others.
    apart: bool,
    known: moka::sync::Cache<Sizes, u64>,
    /// One question at a time of each tenant: those who wait mostly want to know the same, and nobody waits for what
    /// another tenant wants to know.
    asking: Mutex<HashMap<u64, Arc<tokio::sync::Mutex<()>>>>,
}

/// The dimensions of all inputs, one after the other, and the tenant whose process says what they take, where it is not
/// everybody's.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Sizes {
    whose: u64,
    dims: Box<[u64]>,
}

impl Peaks {
    /// `apart` says that tenants have processes of their own.
    pub fn new(entry: &EntryPoint, apart: bool) -> Self {
        Self {
            inputs: entry.inputs.iter().map(|spec| (spec.name.clone(), spec.dims.len())).collect(),
            apart,
            // The newest is remembered in any case: who asks for a group looks it up again.
            known: moka::sync::Cache::builder()
                .max_capacity(REMEMBERED)
                .eviction_policy(moka::policy::EvictionPolicy::lru())
                .build(),
            asking: Mutex::default(),
        }
    }

    /// The sizes of a tenant's inputs, which fit the entry point.
    pub fn sizes(&self, tenant: Option<&Tenant>, inputs: &[Tensor]) -> Sizes {
        let mut dims = Vec::with_capacity(self.inputs.iter().map(|(_, rank)| rank).sum());
        for (name, _) in &self.inputs {
            let found = inputs.iter().find(|tensor| tensor.name == *name);
            dims.extend(found.into_iter().flat_map(|tensor| &tensor.dims));
        }
        let whose = tenant.filter(|_| self.apart).map_or(DEFAULT_ID, Tenant::id);
        Sizes { whose, dims: dims.into() }
    }

    /// The sizes of requests that are joined to so many rows; `inputs` are those of one of them.
    pub fn joined(&self, tenant: Option<&Tenant>, inputs: &[Tensor], rows: u64) -> Sizes {
        let mut sizes = self.sizes(tenant, inputs);
        let mut at = 0;
        for (_, rank) in &self.inputs {
            if let Some(first) = sizes.dims.get_mut(at).filter(|_| *rank > 0) {
                *first = rows;
            }
            at += rank;
        }
        sizes
    }

    /// What an execution of these sizes takes, if that was asked before.
    pub fn find(&self, sizes: &Sizes) -> Option<u64> {
        self.known.get(sizes)
    }

    /// What an execution of these sizes takes, in bytes: its outputs and all that there is only while it runs, as far as
    /// the sizes of its inputs say it. `ask` asks for it by the dimensions of each input.
    ///
    /// # Errors
    /// Those of `ask`.
    pub async fn of<F>(
        &self,
        tenant: Option<&Tenant>,
        sizes: Sizes,
        ask: impl FnOnce(Vec<Vec<u64>>) -> F,
    ) -> Result<u64, RuntimeFailure>
    where
        F: Future<Output = Result<u64, RuntimeFailure>>,
    {
        if let Some(bytes) = self.find(&sizes) {
            return Ok(bytes);
        }
        let turn = self.turn(tenant.map_or(DEFAULT_ID, Tenant::id));
        let _one_at_a_time = turn.lock().await;
        if let Some(bytes) = self.find(&sizes) {
            return Ok(bytes);
        }
        let bytes = ask(self.dims(&sizes.dims)).await?;
        self.known.insert(sizes, bytes);
        Ok(bytes)
    }

    /// What a tenant's questions take in turn.
    fn turn(&self, tenant: u64) -> Arc<tokio::sync::Mutex<()>> {
        let mut asking = self.asking.lock().unwrap_or_else(PoisonError::into_inner);
        // Of those who ask nothing now nothing is left.
        asking.retain(|_, turn| Arc::strong_count(turn) > 1);
        asking.entry(tenant).or_default().clone()
    }

    fn dims(&self, sizes: &[u64]) -> Vec<Vec<u64>> {
        let mut left = sizes.iter().copied();
        self.inputs.iter().map(|(_, rank)| left.by_ref().take(*rank).collect()).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ired_module::DType;
    use ired_module::signature::{DimSpec, PeakBytes, Rows, TensorSpec};
    use tokio::sync::Semaphore;

    use super::*;
    use crate::tenants::{Limits, Listed, Tenants};

    fn of_one_input() -> EntryPoint {
        EntryPoint {
            name: "main".to_owned(),
            function: 0,
            inputs: vec![TensorSpec {
                name: "x".to_owned(),
                dtype: DType::F32,
                dims: vec![DimSpec::Static(1)],
            }],
            outputs: Vec::new(),
            rows: Rows::Independent { exact: Ok(()), costs: Vec::new() },
            peak: PeakBytes::Function(1),
        }
    }

    fn x(size: u64) -> [Tensor; 1] {
        [Tensor { name: "x".to_owned(), dtype: DType::F32, dims: vec![size], data: Vec::new().into() }]
    }

    fn two_tenants() -> [Arc<Tenant>; 2] {
        let entries = ["one", "two"].map(|name| (name.to_owned(), Limits::default()));
        let listed = Listed::new(entries.to_vec(), &Arc::new(Tenants::default()));
        ["one", "two"].map(|name| listed.find(name))
    }

    #[tokio::test]
    async fn a_tenant_asks_one_question_at_a_time_and_keeps_nobody_else_waiting() {
        let peaks = Peaks::new(&of_one_input(), false);
        let [one, two] = two_tenants();
        let (asked, mut questions) = tokio::sync::mpsc::unbounded_channel();
        let may = Semaphore::new(0);
        let answer = async |dims: Vec<Vec<u64>>| {
            asked.send(dims[0][0]).unwrap();
            may.acquire().await.unwrap().forget();
            Ok(dims[0][0])
        };
        let ask = |tenant, size| peaks.of(Some(tenant), peaks.sizes(Some(tenant), &x(size)), &answer);
        let answers = async { tokio::join!(ask(&*one, 1), ask(&*one, 2), ask(&*one, 1), ask(&*two, 3)) };
        let watch = async {
            let first = [questions.recv().await, questions.recv().await];
            assert_eq!((first, questions.try_recv().ok()), ([Some(1), Some(3)], None));
            may.add_permits(3);
        };
        let ((a, b, again, c), ()) =
            tokio::time::timeout(Duration::from_secs(20), async { tokio::join!(answers, watch) })
                .await
                .unwrap();
        assert_eq!([a.unwrap(), b.unwrap(), again.unwrap(), c.unwrap()], [1, 2, 1, 3]);
        assert_eq!((questions.try_recv().ok(), questions.try_recv().ok()), (Some(2), None));
    }

    #[tokio::test]
    async fn what_a_tenants_own_process_says_is_for_that_tenant_only() {
        let [one, two] = two_tenants();
        for apart in [false, true] {
            let peaks = Peaks::new(&of_one_input(), apart);
            let sizes = peaks.sizes(Some(&one), &x(1));
            assert_eq!(peaks.of(Some(&one), sizes.clone(), async |dims| Ok(dims[0][0])).await.unwrap(), 1);
            assert_eq!(peaks.find(&sizes), Some(1));
            assert_eq!(peaks.find(&peaks.sizes(Some(&two), &x(1))).is_some(), !apart);
        }
    }

    #[test]
    fn sizes_are_in_the_order_of_the_entry_point_and_rows_are_of_every_input() {
        let dims = |rank| vec![DimSpec::Static(1); rank];
        let spec =
            |name: &str, rank| TensorSpec { name: name.to_owned(), dtype: DType::F32, dims: dims(rank) };
        let entry = EntryPoint {
            name: "main".to_owned(),
            function: 0,
            inputs: vec![spec("a", 2), spec("scalar", 0), spec("b", 1)],
            outputs: Vec::new(),
            rows: Rows::Independent { exact: Ok(()), costs: Vec::new() },
            peak: PeakBytes::Function(1),
        };
        let peaks = Peaks::new(&entry, false);
        let tensor = |name: &str, dims: &[u64]| Tensor {
            name: name.to_owned(),
            dtype: DType::F32,
            dims: dims.to_vec(),
            data: Vec::new().into(),
        };
        let inputs = [tensor("b", &[2]), tensor("a", &[2, 3]), tensor("scalar", &[])];
        assert_eq!(*peaks.sizes(None, &inputs).dims, [2, 3, 2]);
        assert_eq!(*peaks.joined(None, &inputs, 7).dims, [7, 3, 7]);
        assert_eq!(peaks.dims(&[7, 3, 7]), [vec![7, 3], vec![], vec![7]]);
    }
}
