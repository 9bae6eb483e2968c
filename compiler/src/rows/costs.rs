//! What a call costs by its number of rows: the sum of what kernels say that they take, and what is there whatever the rows.
//!
//! Units are multiply-adds of vectors, and what goes on meanwhile: a core begins two in a cycle, some eight in a nanosecond.

use std::collections::HashMap;

use ired_graph::rows::batch_of;
use ired_graph::{Dim, Graph, SymbolId};
use ired_module::{MAX_COSTS, ONE_ROW};

use crate::dispatch::Dispatch;
use crate::kernels::{self, AtSizes};
use crate::passes::form_dispatches::{Plan, Step};
use crate::targets::CpuTarget;
use crate::work;

/// A call, with what a server does to hand it to a process and to take back the results: some ten microseconds.
const CALL: f64 = 65536.0;
/// A kernel launch, and that the next waits for its end.
const LAUNCH: f64 = 2048.0;
/// Bytes that come from beyond a core's own cache in the time of one.
const FAR_BYTES: f64 = 8.0;

/// Costs as a module states them, of as many rows as the batch may have; none where what a call does, or how large it is,
/// depends on more than its rows, or where a kernel cannot say what it takes.
pub(super) fn costs(graph: &Graph, plan: &Plan, target: &CpuTarget) -> Vec<u32> {
    let Ok(batch) = batch_of(graph) else { return Vec::new() };
    let most = batch.iter().map(|symbol| graph.symbols.get(*symbol).max).min().unwrap_or(0);
    let most = usize::try_from(most).unwrap_or(0).min(MAX_COSTS);
    let param_bytes: usize = graph.params.iter().map(|param| param.data.len()).sum();
    let call = Call {
        graph,
        plan,
        target,
        batch: &batch,
        named: work::named_sizes(graph),
        params_are_far: param_bytes as u64 > target.l2_bytes,
    };
    let costs: Option<Vec<f64>> = (1..=most as i64).map(|rows| call.cost(rows)).collect();
    let costs = costs.unwrap_or_default();
    let Some(one) = costs.first() else { return Vec::new() };
    costs.iter().map(|cost| (cost / one * f64::from(ONE_ROW)).round() as u32).collect()
}

struct Call<'a> {
    graph: &'a Graph,
    plan: &'a Plan,
    target: &'a CpuTarget,
    batch: &'a [SymbolId],
    /// Sizes that symbols are names for.
    named: HashMap<SymbolId, Dim>,
    /// Whether weights do not stay in a core's own cache from call to call.
    params_are_far: bool,
}

impl Call<'_> {
    fn cost(&self, rows: i64) -> Option<f64> {
        let mut cost = CALL;
        for step in self.plan.regions.get(&self.graph.body)? {
            match step {
                Step::Dispatch(dispatch) => cost += LAUNCH + self.cost_of(dispatch, rows)?,
                Step::Alias { .. } | Step::Read(_) => {}
                Step::Control(_) | Step::Host(_) => return None,
            }
        }
        Some(cost)
    }

    fn cost_of(&self, dispatch: &Dispatch, rows: i64) -> Option<f64> {
        let size_of = |symbol| self.size_of(symbol, rows);
        let of = AtSizes { graph: self.graph, dispatch, target: self.target, size_of: &size_of };
        let weights = of.size(&work::param_bytes(self.graph, dispatch))?;
        let others = of.size(&work::bytes(self.graph, dispatch))? - weights;
        // Weights are fetched while others are multiplied, and half of what a cache does not hold for the next kernel.
        let fetched = if self.params_are_far { weights / FAR_BYTES } else { 0.0 };
        let beyond = (others - self.target.l2_bytes as f64).max(0.0);
        Some(kernels::cost(&of)?.max(fetched) + beyond / (2.0 * FAR_BYTES))
    }

    /// What a symbol is in a call of so many rows.
    fn size_of(&self, symbol: SymbolId, rows: i64) -> Option<i64> {
        match self.named.get(&symbol) {
            _ if self.batch.contains(&symbol) => Some(rows),
            Some(size) => size.evaluate(&|symbol| self.size_of(symbol, rows)),
            None => None,
        }
    }
}
