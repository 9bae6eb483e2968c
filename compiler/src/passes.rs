//! The graph phase: rewrites of the graph, one file each, and the order they run in.

mod assign_layout;
mod axes;
mod flatten_batches;
mod fold_batch_norm;
mod fold_constants;
pub(crate) mod form_dispatches;
mod fuse_quantized;
mod keep_quantized;
mod literal;
mod merge_duplicates;
mod merge_products;
mod narrow_attention;
mod narrow_products;
mod outline_constants;
mod recognize_layer_norm;
mod rewrite;
mod simplify;
mod split_concats;
mod widen_bytes;

use ired_graph::{DType, Graph, ShapeError};

use crate::errors::{CompileError, Diagnostic};
use crate::kernels::{has_bf16_tiles, multiplies_bytes};
use crate::targets::CpuTarget;

/// Whether a model may be computed less exactly than it says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precision {
    /// In the types that the model states.
    #[default]
    Exact,
    /// Operands of f32 products with constant weights are rounded to bf16, sums stay f32; on targets that multiply bf16.
    /// So are those of attention, its softmax included, on targets that do it in tiles.
    Fast,
}

impl Precision {
    /// What users call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Exact => "exact",
            Self::Fast => "fast",
        }
    }
}

/// A pass over a graph.
pub struct Pass {
    pub name: &'static str,
    /// Runs only for this precision; an exact pass runs for both.
    pub precision: Precision,
    /// Whether what a pass makes is fast on a target.
    suits: fn(&CpuTarget) -> bool,
    run: fn(&mut Graph) -> Result<(), PassError>,
}

/// Every graph pass, in the order they run.
pub const PASSES: &[Pass] = &[
    exact("fuse_quantized", fuse_quantized::fuse_quantized),
    exact("keep_quantized", keep_quantized::keep_quantized),
    exact("simplify", simplify::simplify),
    exact("fold_constants", fold_constants::fold_constants),
    exact("merge_duplicates", merge_duplicates::merge_duplicates),
    exact("recognize_layer_norm", recognize_layer_norm::recognize_layer_norm),
    exact("fold_batch_norm", fold_batch_norm::fold_batch_norm),
    exact("flatten_batches", flatten_batches::flatten_batches),
    exact("assign_layout", assign_layout::assign_layout),
    exact("simplify", simplify::simplify),
    exact("fold_constants", fold_constants::fold_constants),
    exact("merge_duplicates", merge_duplicates::merge_duplicates),
    exact("split_concats", split_concats::split_concats),
    fast("narrow_products", CpuTarget::has_bf16_products, narrow_products::narrow_products),
    fast("narrow_attention", has_bf16_tiles, narrow_attention::narrow_attention),
    exact_for("widen_bytes", |target| !multiplies_bytes(target, DType::U8), widen_bytes::widen_bytes),
    exact_for(
        "widen_signed_bytes",
        |target| !multiplies_bytes(target, DType::I8),
        widen_bytes::widen_signed_bytes,
    ),
    // Not what is rounded: each of those products rounds its result for attention.
    exact("merge_products", merge_products::merge_products),
    exact("outline_constants", outline_constants::outline_constants),
    exact("merge_duplicates", merge_duplicates::merge_duplicates),
    exact("drop_unused", drop_unused),
];

const fn exact(name: &'static str, run: fn(&mut Graph) -> Result<(), PassError>) -> Pass {
    exact_for(name, |_| true, run)
}

const fn exact_for(
    name: &'static str,
    suits: fn(&CpuTarget) -> bool,
    run: fn(&mut Graph) -> Result<(), PassError>,
) -> Pass {
    Pass { name, precision: Precision::Exact, suits, run }
}

const fn fast(
    name: &'static str,
    suits: fn(&CpuTarget) -> bool,
    run: fn(&mut Graph) -> Result<(), PassError>,
) -> Pass {
    Pass { name, precision: Precision::Fast, suits, run }
}

/// No tensor that a pass computes is larger than this; what would be is computed when the model runs.
pub(crate) const MAX_FOLDED_BYTES: u64 = 256 << 20;

/// A fault of a pass, never of a model.
#[derive(Debug, thiserror::Error)]
pub enum PassError {
    #[error("a pass made a node that does not fit its operands")]
    Shape(#[from] ShapeError),
}

impl Pass {
    pub fn runs_for(&self, precision: Precision) -> bool {
        self.precision == Precision::Exact || precision == Precision::Fast
    }

    /// Whether it pays on a target.
    pub fn suits(&self, target: &CpuTarget) -> bool {
        (self.suits)(target)
    }

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
