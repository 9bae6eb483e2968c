//! The graph phase: rewrites of the graph, one file each, and the order they run in.

mod assign_layout;
mod flatten_batches;
mod fold_batch_norm;
mod fold_constants;
pub(crate) mod form_dispatches;
mod fuse_quantized;
mod literal;
mod merge_duplicates;
mod outline_constants;
mod recognize_layer_norm;
mod rewrite;
mod simplify;
mod split_concats;

use ired_graph::{Graph, ShapeError};

use crate::errors::{CompileError, Diagnostic};

/// A pass over a graph.
pub struct Pass {
    pub name: &'static str,
    run: fn(&mut Graph) -> Result<(), PassError>,
}

/// Every graph pass, in the order they run.
pub const PASSES: &[Pass] = &[
    Pass { name: "fuse_quantized", run: fuse_quantized::fuse_quantized },
    Pass { name: "simplify", run: simplify::simplify },
    Pass { name: "fold_constants", run: fold_constants::fold_constants },
    Pass { name: "merge_duplicates", run: merge_duplicates::merge_duplicates },
    Pass { name: "recognize_layer_norm", run: recognize_layer_norm::recognize_layer_norm },
    Pass { name: "fold_batch_norm", run: fold_batch_norm::fold_batch_norm },
    Pass { name: "flatten_batches", run: flatten_batches::flatten_batches },
    Pass { name: "assign_layout", run: assign_layout::assign_layout },
    Pass { name: "simplify", run: simplify::simplify },
    Pass { name: "fold_constants", run: fold_constants::fold_constants },
    Pass { name: "split_concats", run: split_concats::split_concats },
    Pass { name: "outline_constants", run: outline_constants::outline_constants },
    Pass { name: "merge_duplicates", run: merge_duplicates::merge_duplicates },
    Pass { name: "drop_unused", run: drop_unused },
];

/// No tensor that a pass computes is larger than this; what would be is computed when the model runs.
pub(crate) const MAX_FOLDED_BYTES: u64 = 256 << 20;

/// A fault of a pass, never of a model.
#[derive(Debug, thiserror::Error)]
pub enum PassError {
    #[error("a pass made a node that does not fit its operands")]
    Shape(#[from] ShapeError),
}

impl Pass {
    pub fn run(&self, graph: &mut Graph) -> Result<(), PassError> {
        (self.run)(graph)
    }
}

/// Forgets weights, nodes and symbols that nothing refers to any more.
fn drop_unused(graph: &mut Graph) -> Result<(), PassError> {
    *graph = graph.compact();
    Ok(())
}

/// # Errors
/// A fault of pass `name`: a graph that the verifier refuses.
pub(crate) fn verify_after(name: &str, graph: &Graph) -> Result<(), CompileError> {
    ired_graph::verify(graph).map_err(|errors| CompileError {
        diagnostics: errors
            .iter()
            .map(|e| Diagnostic::internal(&format!("pass `{name}` left a graph that does not verify"), e))
            .collect(),
    })
}

/// How a graph is cut into dispatches, a line a step: for people and tests.
pub fn describe_dispatches(graph: &Graph) -> String {
    form_dispatches::form_dispatches(graph).describe(graph)
}
