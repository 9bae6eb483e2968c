//! What a module says of the rows of a batch: whether they are independent, whether a row's results are the same bits
//! whatever is computed beside it, and what calls cost by their rows.
//!
//! The first is proven of the model, before passes rewrite it. The second is a matter of the order in which numbers are
//! rounded, and so of the kernels that were chosen: each element has to be computed by the same operations in the same
//! order however many rows there are. What is not known to be is not.

mod costs;

use ired_graph::rows::{DependentRows, IndependentRows, independent_rows};
use ired_graph::{Dim, Graph, Node, NodeId, Op, ValueId};
use ired_module::signature::Rows;

use crate::dispatch::Dispatch;
use crate::kernels::{self, Computation};
use crate::passes::form_dispatches::{Plan, Step};
use crate::targets::CpuTarget;
use crate::work;

/// Longer reasons are cut: they have names of the model's.
const MAX_REASON_CHARS: usize = 1000;

/// What a model's own graph says of its rows.
pub(crate) fn of_model(graph: &Graph) -> Result<(), String> {
    independent_rows(graph).map_err(|dependent| cut(&dependent.to_string()))
}

/// What the module says, given what [`of_model`] says and how the optimised graph is computed.
pub(crate) fn of_module(model: &Result<(), String>, graph: &Graph, plan: &Plan, target: &CpuTarget) -> Rows {
    match model {
        Ok(()) => Rows::Independent {
            exact: prove_exact(graph, plan, target).map_err(|why| cut(&why)),
            costs: costs::costs(graph, plan, target),
        },
        Err(reason) => Rows::Dependent { reason: reason.clone() },
    }
}

fn cut(reason: &str) -> String {
    reason.chars().take(MAX_REASON_CHARS).collect()
}

/// # Errors
/// The first step, in the order they run, whose results may depend on how many rows there are.
fn prove_exact(graph: &Graph, plan: &Plan, target: &CpuTarget) -> Result<(), String> {
    // Passes keep rows apart, but may write it in a way that the analysis does not understand.
    let rows = IndependentRows::of(graph).map_err(|e: DependentRows| format!("once optimised, {e}"))?;
    let mut regions: Vec<_> = plan.regions.iter().collect();
    regions.sort_by_key(|(region, _)| **region);
    for step in regions.into_iter().flat_map(|(_, steps)| steps) {
        match step {
            Step::Dispatch(dispatch) => {
                let proof = reduces_shared(graph, dispatch, &rows).and_then(|()| {
                    kernels::prove_exact(&Computation { graph, dispatch, target, rows: &rows })
                });
                proof.map_err(|why| {
                    let origins = work::origins(graph, dispatch);
                    format!("`{}`: {why}", origins.first().unwrap_or(&dispatch.name))
                })?;
            }
            Step::Host(id) => return Err(format!("`{}` is computed by the host", name(graph, *id))),
            // These move data, or say which steps run.
            Step::Alias { .. } | Step::Control(_) | Step::Read(_) => {}
        }
    }
    Ok(())
}

fn name(graph: &Graph, id: NodeId) -> String {
    let node = graph.node(id);
    node.origin.as_ref().map_or_else(|| node.op.name().to_owned(), |origin| origin.name.clone())
}

/// Proves that no node of the dispatch goes over elements whose number depends on the rows.
fn reduces_shared(graph: &Graph, dispatch: &Dispatch, rows: &IndependentRows<'_>) -> Result<(), String> {
    let nodes = dispatch.nodes.iter().map(|id| graph.node(*id));
    for node in nodes {
        if !reduced(graph, node).iter().all(|size| rows.is_shared(size)) {
            return Err(format!("{} goes over a size that depends on the rows", node.op.name()));
        }
    }
    Ok(())
}

/// Sizes that a node goes over for one element of its result.
fn reduced<'g>(graph: &'g Graph, node: &Node) -> Vec<&'g Dim> {
    let shape = |value: ValueId| graph.ty(value).shape.as_slice();
    let Some(of) = node.operands.first().map(|value| shape(*value)) else { return Vec::new() };
    match &node.op {
        Op::Reduce { axes, .. } => axes.iter().map(|axis| &of[*axis]).collect(),
        Op::ArgReduce { axis, .. }
        | Op::Softmax { axis, .. }
        | Op::Cumulative { axis, .. }
        | Op::Sort { axis, .. } => vec![&of[*axis]],
        Op::LayerNorm { axis, .. } => of[*axis..].iter().collect(),
        Op::MatMul => of.last().into_iter().collect(),
        Op::Conv { .. } | Op::Pool { .. } => of.iter().skip(1).collect(),
        _ => Vec::new(),
    }
}
