//! Matrix products in register tiles, with what follows them computed before anything is stored.
//!
//! A constant right-hand side is packed into panels of a few vectors at compile time, and its product has no batch:
//! all rows of all batches are one tall matrix. Two computed operands are multiplied batch by batch, the right one
//! read where it is. A tile holds `m0 x n1` accumulators and runs over all of `k`; rows that do not fill one get a
//! tile of exactly their size, columns that do not fill one are masked when stored.

mod tile;

use ired_graph::{Dim, Graph, Node, Op, ValueId};

use super::bytes::{DEPTH, Dot};
use super::eval::nested::accumulator;
use super::function::{Function, Site, packed_interface, product};
use super::generic::producer;
use super::{Family, KernelError};
use crate::dispatch::{Dispatch, KernelInterface, Packing};
use crate::targets::CpuTarget;

pub(super) struct Contraction;

impl Family for Contraction {
    fn name(&self) -> &'static str {
        "contraction"
    }

    fn interface(
        &self,
        graph: &Graph,
        dispatch: &Dispatch,
        target: &CpuTarget,
    ) -> Result<Option<KernelInterface>, KernelError> {
        let Some(plan) = Plan::new(graph, dispatch, target) else { return Ok(None) };
        let packed = plan.packed.as_ref().map(|(param, packing)| (*param, packing));
        Ok(Some(packed_interface(graph, dispatch, plan.grid(), packed)))
    }

    fn emit(&self, site: &Site<'_, '_>) -> Result<(), KernelError> {
        let plan = site.planned(Plan::new(site.graph, site.dispatch, site.target))?;
        Function::emit(site, false, |f, b| tile::Emitter::new(f, b, &plan).emit(b))
    }
}

/// Sizes of a product and of its tiles.
struct Plan {
    /// Outer dimensions with a right-hand side each; none when all rows share one.
    batch: Vec<Dim>,
    /// The result's dimensions before the last, which rows are numbered over.
    row_shape: Vec<Dim>,
    m: Dim,
    n: Dim,
    k: Dim,
    /// The parameter that is the right-hand side, and its order in memory.
    packed: Option<(ValueId, Packing)>,
    /// How bytes are multiplied, where both sides are such.
    bytes: Option<Dot>,
    lanes: usize,
    /// Vectors and rows of a tile.
    n1: usize,
    m0: usize,
    /// Rows and panels of a workgroup.
    rows: i64,
    panels: i64,
}

/// Multiply-adds worth a workgroup of their own: some microseconds.
const WORKGROUP_WORK: i64 = 1 << 20;
/// A product of no more than this is one workgroup.
const TINY_WORK: i64 = 1 << 17;

impl Plan {
    fn new(graph: &Graph, dispatch: &Dispatch, target: &CpuTarget) -> Option<Self> {
        let root = &graph.nodes[dispatch.root.index()];
        let pointwise = is_pointwise(graph, root);
        if (root.op != Op::MatMul && !pointwise) || dispatch.outputs.len() != 1 {
            return None;
        }
        let shape_of = |v: ValueId| graph.values[v.index()].ty.shape.clone();
        let result = root.results[0];
        let (shape, lhs) = (shape_of(result), shape_of(root.operands[0]));
        let rank = shape.len();
        if rank < 2 {
            return None;
        }
        let dtype = graph.values[result.index()].ty.dtype;
        let packed = match pointwise {
            // Filters are the rows of a transposed right-hand side.
            true => Some((packed_filters(graph, dispatch, root)?, true)),
            false => packed_rhs(graph, dispatch, root),
        };
        let (batch, row_shape) = match &packed {
            Some(_) => (Vec::new(), shape[..rank - 1].to_vec()),
            None => (shape[..rank - 2].to_vec(), vec![shape[rank - 2].clone()]),
        };
        let (m, n, mut k) = (product(&row_shape), shape[rank - 1].clone(), lhs[rank - 1].clone());
        let bytes = packed.and_then(|(weights, transposed)| {
            let dot = Dot::of(graph, dispatch, root.operands[0], weights, target)?;
            // What is filled up is known when compiling.
            k = Dim::constant(shape_of(weights)[usize::from(transposed)].as_static()?);
            Some(dot)
        });
        let lanes = target.lanes(accumulator(dtype).bits()).max(2);
        let (n1, m0) = tile_size(target, lanes, &n, &m);
        let width = (n1 * lanes) as i64;
        let packed = packed.map(|(value, transposed)| {
            let width = width as u64;
            let depth = if bytes.is_some() { DEPTH as u64 } else { 1 };
            let packing = match transposed {
                true => Packing::TransposedPanels { width, depth },
                false => Packing::Panels { width, depth },
            };
            (value, packing)
        });
        let steps = if bytes.is_some() { k.ceil_div(&Dim::constant(DEPTH)) } else { k.clone() };
        let (rows, panels) = workgroup_size(&m, &n, &steps, &product(&batch), m0 as i64, width);
        Some(Self { batch, row_shape, m, n, k, packed, bytes, lanes, n1, m0, rows, panels })
    }

    fn width(&self) -> i64 {
        (self.n1 * self.lanes) as i64
    }

    fn grid(&self) -> [Dim; 3] {
        let columns = Dim::constant(self.width() * self.panels);
        [self.n.ceil_div(&columns), self.m.ceil_div(&Dim::constant(self.rows)), product(&self.batch)]
    }
}

/// A convolution whose window is one element: a product over the channels.
fn is_pointwise(graph: &Graph, root: &Node) -> bool {
    let Op::Conv { window, groups: 1, channels_last: true } = &root.op else { return false };
    let weights = &graph.values[root.operands[1].index()].ty;
    let ones = |sizes: &[u64]| sizes.iter().all(|d| *d == 1);
    let zeros = |sizes: &[u64]| sizes.iter().all(|d| *d == 0);
    weights.dtype.bits() >= 8
        && ones(&window.extent)
        && ones(&window.stride)
        && zeros(&window.pad_low)
        && zeros(&window.pad_high)
}

/// Vectors and rows of a tile: `m0 * n1` accumulators, `n1` vectors and a broadcast fit the registers.
fn tile_size(target: &CpuTarget, lanes: usize, n: &Dim, m: &Dim) -> (usize, usize) {
    let many = target.vector_registers >= 32;
    let n1 = match n.as_static() {
        Some(n) if n <= lanes as i64 => 1,
        Some(n) if many && n >= 256 && n % (4 * lanes as i64) == 0 => 4,
        _ => 2,
    };
    let m0 = match (many, n1) {
        (true, 4) => 6,
        (true, _) => 8,
        (false, _) => 6,
    };
    match m.as_static() {
        Some(m) if m < m0 as i64 => (n1, m.max(1) as usize),
        _ => (n1, m0),
    }
}

/// How many rows there are if every symbol is one.
fn likely_size(m: &Dim) -> i64 {
    m.evaluate(&|_| Some(1)).unwrap_or(1).max(1)
}

/// What a dimension is a multiple of, whatever its symbols.
pub(super) fn divisor(dim: &Dim) -> i64 {
    let terms = dim.terms().map(|(_, coefficient)| coefficient);
    terms.chain([dim.offset()]).fold(0i64, |a, b| gcd(a, b.saturating_abs())).max(1)
}

fn gcd(a: i64, b: i64) -> i64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

fn workgroup_size(m: &Dim, n: &Dim, k: &Dim, batches: &Dim, m0: i64, width: i64) -> (i64, i64) {
    let k = k.as_static().unwrap_or(256).max(1);
    let total_panels = n.as_static().map_or(i64::MAX, |n| (n + width - 1) / width).max(1);
    let whole = |rows: i64| (rows + m0 - 1) / m0 * m0;
    if let (Some(m), Some(n), Some(1)) = (m.as_static(), n.as_static(), batches.as_static())
        && m.saturating_mul(n).saturating_mul(k) <= TINY_WORK
    {
        return (whole(m.max(1)), total_panels);
    }
    let rows = match m.as_static() {
        // Blocks of equal size.
        Some(m) => whole((m.max(1) + (m.max(1) + 95) / 96 - 1) / ((m.max(1) + 95) / 96)),
        None => whole(60),
    };
    let likely_rows = likely_size(m).max(if m.as_static().is_none() { 32 } else { 1 }).min(rows);
    let panels = (WORKGROUP_WORK / (likely_rows * width * k).max(1)).clamp(1, total_panels.min(64));
    (rows, panels)
}

/// The weights of a convolution, if they are a parameter that nothing else of the dispatch reads.
pub(super) fn packed_filters(graph: &Graph, dispatch: &Dispatch, root: &Node) -> Option<ValueId> {
    let weights = root.operands[1];
    let nodes = dispatch.nodes.iter().map(|id| &graph.nodes[id.index()]);
    let uses = nodes.flat_map(|node| &node.operands).filter(|v| **v == weights).count();
    let bits = graph.values[weights.index()].ty.dtype.bits();
    (uses == 1 && bits >= 8 && is_param(graph, weights)).then_some(weights)
}

fn is_param(graph: &Graph, value: ValueId) -> bool {
    graph.nodes.iter().any(|n| matches!(n.op, Op::Param(_)) && n.results.first() == Some(&value))
}

/// The parameter behind a right-hand side that is the same for every batch, and whether it is `[n, k]`.
fn packed_rhs(graph: &Graph, dispatch: &Dispatch, root: &Node) -> Option<(ValueId, bool)> {
    let mut value = root.operands[1];
    let mut transposed = false;
    let used_otherwise = |value: ValueId| {
        let nodes = dispatch.nodes.iter().map(|id| &graph.nodes[id.index()]);
        nodes.flat_map(|node| &node.operands).filter(|v| **v == value).count() > 1
    };
    loop {
        let shape = &graph.values[value.index()].ty.shape;
        let Some(node) = producer(graph, dispatch, value) else {
            let packable = graph.values[value.index()].ty.dtype.bits() >= 8 && !used_otherwise(value);
            return (is_param(graph, value) && shape.len() == 2 && packable).then_some((value, transposed));
        };
        let from = &graph.values[node.operands[0].index()].ty.shape;
        match &node.op {
            Op::Broadcast { .. } if from.len() >= 2 && shape.ends_with(&from[from.len() - 2..]) => {}
            Op::Transpose { perm } if perm[..] == [1, 0] => transposed = !transposed,
            _ => return None,
        }
        value = node.operands[0];
    }
}
