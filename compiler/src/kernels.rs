//! Kernels: how one dispatch becomes one function. Families are tried in order; the last takes everything.
//!
//! A kernel follows the C ABI `fn(bindings: *const *mut u8, constants: *const i64, x: u32, y: u32, z: u32)`,
//! calls nothing, and reads and writes nothing but its bindings. Two kernels of the same structure have the same
//! text but for their symbol.

mod ahead;
mod arithmetic;
mod attention;
mod columns;
mod contraction;
mod convolution;
mod cumulative;
mod dot;
mod eval;
mod function;
mod generic;
mod math;
mod narrow;
mod pack;
mod rows;
mod scatter;
mod sort;
mod suppress;
mod tile_registers;
mod transpose;

use ired_graph::rows::IndependentRows;
use ired_graph::{DType, Dim, Graph, Node, SymbolId};
use ired_mlir::Builder;

use crate::dispatch::{Dispatch, KernelInterface};
use crate::targets::CpuTarget;
use crate::tuning::{Choice, Tunable};
use crate::work;
pub(crate) use attention::fills_tiles;
pub(crate) use dot::{has_bf16_tiles, multiplies_bytes};
use function::Site;
pub use pack::{pack, packed_bytes};

/// Every kernel family, in the order they are tried.
const FAMILIES: &[&dyn Family] = &[
    &attention::Attention,
    &contraction::Contraction,
    &convolution::Winograd,
    &convolution::Tiled,
    &convolution::Convolution,
    &rows::Rows,
    &columns::Columns,
    &scatter::Scatter,
    &cumulative::Cumulative,
    &sort::Sort,
    &suppress::Suppress,
    &transpose::Transpose,
    &generic::Generic,
];

/// The families that a tuning file chooses from where they all compute a convolution.
pub(crate) const CONVOLUTIONS: [&str; 2] = ["winograd", "convolution"];

/// How a dispatch is computed, and which sizes depend on the rows of a batch.
pub(crate) struct Computation<'a> {
    pub(crate) graph: &'a Graph,
    pub(crate) dispatch: &'a Dispatch,
    pub(crate) target: &'a CpuTarget,
    pub(crate) rows: &'a IndependentRows<'a>,
}

/// A dispatch in a call whose sizes are known.
pub(crate) struct AtSizes<'a> {
    pub(crate) graph: &'a Graph,
    pub(crate) dispatch: &'a Dispatch,
    pub(crate) target: &'a CpuTarget,
    pub(crate) size_of: &'a dyn Fn(SymbolId) -> Option<i64>,
}

impl AtSizes<'_> {
    pub(crate) fn size(&self, dim: &Dim) -> Option<f64> {
        dim.evaluate(self.size_of).map(|size| size as f64)
    }
}

/// Or what may be otherwise for another number of rows.
pub(crate) type Exactness = Result<(), &'static str>;

/// One way to compute dispatches of some kind.
trait Family: Sync {
    /// One or two words, for people.
    fn name(&self) -> &'static str;

    /// What the kernel would need; `None` when the dispatch is not of this family.
    fn interface(
        &self,
        graph: &Graph,
        dispatch: &Dispatch,
        target: &CpuTarget,
    ) -> Result<Option<KernelInterface>, KernelError>;

    /// Whether it is the fastest for a dispatch that families after it compute too.
    fn pays(&self, _graph: &Graph, _dispatch: &Dispatch, _target: &CpuTarget) -> bool {
        true
    }

    /// The problem that a dispatch of the family is, and other ways to solve it.
    fn tunable(&self, _graph: &Graph, _dispatch: &Dispatch, _target: &CpuTarget) -> Option<Tunable> {
        None
    }

    /// Proves that each row's results are the same bits however many rows there are and wherever it stands among them: the
    /// same operations make them, in the same order. No size that nodes of the dispatch reduce depends on the rows.
    fn prove_exact(&self, _of: &Computation<'_>) -> Exactness {
        Err("nothing is known of the order in which it computes")
    }

    /// About how long it takes, in multiply-adds of vectors; `None` where nothing is known of that. Here every operation
    /// takes its time, and every element that is moved.
    fn cost(&self, of: &AtSizes<'_>) -> Option<f64> {
        let lanes = of.target.lanes(32) as f64;
        let operations = of.size(&work::operations(of.graph, of.dispatch))?;
        let bytes = of.size(&work::bytes(of.graph, of.dispatch))?;
        Some((operations / 2.0 + bytes / size_of::<f32>() as f64) / lanes)
    }

    /// Adds the function.
    fn emit(&self, site: &Site<'_, '_>) -> Result<(), KernelError>;
}

/// Why there is no kernel for a dispatch.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KernelError {
    #[error("`{node}` ({op}) cannot be computed on {dtype}: {why}")]
    Unsupported { node: String, op: String, dtype: DType, why: String },
    #[error("the dispatch has no output")]
    NoOutput,
    #[error("no kernel family takes dispatch `{dispatch}`")]
    NoFamily { dispatch: String },
    #[error("value {value} is neither computed by the dispatch nor bound to it")]
    UnboundValue { value: u32 },
    #[error("dimension `{symbol}` is not among the kernel's constants")]
    MissingSymbol { symbol: String },
}

impl KernelError {
    fn unsupported(node: &Node, dtype: DType, why: &str) -> Self {
        let (name, op) = match &node.origin {
            Some(origin) => (origin.name.clone(), origin.op.clone()),
            None => (String::new(), op_name(node)),
        };
        Self::Unsupported { node: name, op, dtype, why: why.to_owned() }
    }
}

/// `Unary(Sin)`, `Reduce`: the operation without its attributes.
fn op_name(node: &Node) -> String {
    let text = format!("{:?}", node.op);
    let end = text.find([' ', '{']).unwrap_or(text.len());
    text[..end].to_owned()
}

/// Picks the family for a dispatch and says what its kernel needs: bindings, constants, grid.
///
/// # Errors
/// [`KernelError`] naming the operation and element type that no kernel computes.
pub fn interface(
    graph: &Graph,
    dispatch: &Dispatch,
    target: &CpuTarget,
) -> Result<KernelInterface, KernelError> {
    let graph_dtype = |value: &ired_graph::ValueId| graph.ty(*value).dtype;
    // Several elements of one byte are written together, by the last family only.
    let packed = dispatch.outputs.iter().any(|value| graph_dtype(value).bits() < 8);
    let families = if packed { &FAMILIES[FAMILIES.len() - 1..] } else { FAMILIES };
    for family in families {
        if let Some(interface) = interface_of(*family, graph, dispatch, target)?
            && is_wanted(*family, graph, dispatch, target)
        {
            return Ok(interface);
        }
    }
    Err(KernelError::NoFamily { dispatch: dispatch.name.clone() })
}

/// Proves that the kernel of a dispatch computes each row in the same way however many rows there are: see
/// [`Family::prove_exact`].
///
/// # Errors
/// What may be otherwise, beginning with the family's name.
pub(crate) fn prove_exact(of: &Computation<'_>) -> Result<(), String> {
    let interface = interface(of.graph, of.dispatch, of.target).map_err(|error| error.to_string())?;
    let family = named(interface.family).ok_or("no kernel")?;
    family.prove_exact(of).map_err(|why| format!("{}: {why}", family.name()))
}

/// About how long it takes at these sizes: see [`Family::cost`].
pub(crate) fn cost(of: &AtSizes<'_>) -> Option<f64> {
    let interface = interface(of.graph, of.dispatch, of.target).ok()?;
    named(interface.family)?.cost(of)
}

/// Whether the family is the one to compute a dispatch that it can compute.
fn is_wanted(family: &dyn Family, graph: &Graph, dispatch: &Dispatch, target: &CpuTarget) -> bool {
    match dispatch.choice {
        Some(Choice::Family(chosen)) => family.name() == chosen,
        _ => family.pays(graph, dispatch, target),
    }
}

/// What a tuning file can choose for a dispatch: nothing where there is one way only.
pub fn tunable(graph: &Graph, dispatch: &Dispatch, target: &CpuTarget) -> Option<Tunable> {
    FAMILIES.iter().find_map(|family| family.tunable(graph, dispatch, target))
}

/// [`interface`] by the family of this name, whether another would be picked or not.
///
/// # Errors
/// As [`interface`]; [`KernelError::NoFamily`] where the family does not compute the dispatch.
pub fn interface_by(
    family: &str,
    graph: &Graph,
    dispatch: &Dispatch,
    target: &CpuTarget,
) -> Result<KernelInterface, KernelError> {
    let none = || KernelError::NoFamily { dispatch: dispatch.name.clone() };
    interface_of(named(family).ok_or_else(none)?, graph, dispatch, target)?.ok_or_else(none)
}

fn interface_of(
    family: &dyn Family,
    graph: &Graph,
    dispatch: &Dispatch,
    target: &CpuTarget,
) -> Result<Option<KernelInterface>, KernelError> {
    let interface = family.interface(graph, dispatch, target)?;
    Ok(interface.map(|interface| KernelInterface { family: family.name(), ..interface }))
}

fn named(family: &str) -> Option<&'static dyn Family> {
    FAMILIES.iter().copied().find(|known| known.name() == family)
}

/// Adds the kernel as `func.func @symbol` where `builder` inserts: the body of a module or an executable.
///
/// # Errors
/// As [`interface`]; nothing is left of the function then.
pub fn emit(
    graph: &Graph,
    dispatch: &Dispatch,
    target: &CpuTarget,
    interface: &KernelInterface,
    builder: &Builder<'_>,
    symbol: &str,
) -> Result<(), KernelError> {
    let family =
        named(interface.family).ok_or_else(|| KernelError::NoFamily { dispatch: dispatch.name.clone() })?;
    family.emit(&Site { graph, dispatch, target, interface, outer: builder, symbol })
}
