//! What is computed in one kernel launch, and what a kernel tells the schedule about itself.
//!
//! Dispatch formation decides *which* nodes run together; a kernel family decides *how*. They meet in the two
//! types here and know nothing else of each other.

use ired_graph::{Dim, NodeId, ValueId};
use ired_module::Access;

use crate::tuning::Choice;

/// A set of nodes computed together. Everything else of the graph is seen only through `inputs` and `outputs`.
///
/// - `root` is the node that decides the family: a MatMul, Conv, Pool, Reduce, Softmax…, or, when all nodes are
///   elementwise or data movement, the last one.
/// - Nodes after the root (its *epilogue*) are elementwise with the root's result shape, or a Broadcast, Constant,
///   Dims or Iota feeding one of them. Only the last node's result is an output, unless the family says otherwise.
/// - Nodes before the root (its *prologue*) are elementwise or index maps (Broadcast, Transpose, Slice, Pad,
///   Concat, Gather, Iota, Reshape…) and are evaluated at each element the root reads.
#[derive(Clone, Debug)]
pub struct Dispatch {
    /// For people: `conv_add_relu`. Not unique.
    pub name: String,
    pub root: NodeId,
    /// In definition order, root included.
    pub nodes: Vec<NodeId>,
    /// Values (parameters among them) read from memory, each once.
    pub inputs: Vec<ValueId>,
    /// Values written to memory, row-major and dense.
    pub outputs: Vec<ValueId>,
    /// The way that a tuning file says to compute it.
    pub choice: Option<Choice>,
}

/// What the schedule needs to launch a kernel.
#[derive(Clone, Debug)]
pub struct KernelInterface {
    /// Name of the kernel family that computes the dispatch: one or two words, for people.
    pub family: &'static str,
    /// The kernel's bindings, in ABI order.
    pub bindings: Vec<Binding>,
    /// The kernel's `i64` constants, in ABI order.
    pub constants: Vec<Dim>,
    /// Workgroups in x, y, z.
    pub grid: [Dim; 3],
    /// Features of the target that this kernel uses and most do not: only modules with such a kernel require them.
    pub features: &'static [&'static str],
}

#[derive(Clone, Debug)]
pub enum Binding {
    /// Reads a value of the dispatch as it stands in memory.
    Read(ValueId),
    /// Reads a parameter that was rearranged at compile time.
    ReadPacked(ValueId, Packing),
    /// Writes all of a value.
    Write(ValueId),
    /// Memory of the kernel's own, undefined before and after; `bytes` in all.
    Scratch { bytes: Dim },
}

impl Binding {
    /// What the kernel does to it.
    pub fn access(&self) -> Access {
        match self {
            Self::Read(_) | Self::ReadPacked(..) => Access::Read,
            Self::Write(_) => Access::Write,
            Self::Scratch { .. } => Access::ReadWrite,
        }
    }
}

/// How a parameter is rearranged at compile time. Sizes that do not divide are filled up with zeros. `depth` neighbours
/// along the axis that is summed over lie side by side in place of one element.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Packing {
    /// `[k, n]` to `[n / width][k / depth][width][depth]`.
    Panels { width: u64, depth: u64 },
    /// `[n, k]` (a transposed right-hand side) to `[n / width][k / depth][width][depth]`.
    TransposedPanels { width: u64, depth: u64 },
    /// Convolution weights `[k, c / groups, window..]` to
    /// `[groups][k / groups / width][window..][c / groups / depth][width][depth]`.
    ConvPanels { groups: u64, width: u64, depth: u64 },
    /// Depthwise weights `[c, 1, window..]` to `[window..][c]`.
    Depthwise,
    /// Filters `[k, c, 3, 3]`, transformed to 6 x 6 products, to `[k / width][6][6][c][width]`: f32 only.
    Winograd { width: u64 },
}
