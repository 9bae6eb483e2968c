//! Matrix products in register tiles, with what follows them computed before anything is stored.
//!
//! A constant right-hand side is packed into panels of a few vectors at compile time, and its product has no batch:
//! all rows of all batches are one tall matrix. Two computed operands are multiplied batch by batch, the right one
//! read where it is. A tile holds `m0 x n1` accumulators and runs over all of `k`; rows that do not fill one get a
//! tile of exactly their size, columns that do not fill one are masked when stored.

mod tile;

use ired_graph::{Dim, Graph, Node, Op, ValueId};

use super::eval::nested::accumulator;
use super::function::{Function, Site, product, symbols};
use super::generic::producer;
use super::{Family, KernelError};
use crate::dispatch::{Binding, Dispatch, KernelInterface, Packing};
use crate::targets::CpuTarget;

pub(super) struct Contraction;

impl Family for Contraction {
    fn interface(
        &self,
        graph: &Graph,
        dispatch: &Dispatch,
        target: &CpuTarget,
    ) -> Result<Option<KernelInterface>, KernelError> {
        let Some(plan) = Plan::new(graph, dispatch, target) else { return Ok(None) };
        let mut bindings: Vec<_> = dispatch
            .inputs
            .iter()
            .map(|value| match &plan.packed {
                Some((param, packing)) if param == value => Binding::ReadPacked(*value, packing.clone()),
                _ => Binding::Read(*value),
            })
            .collect();
        bindings.extend(dispatch.outputs.iter().map(|v| Binding::Write(*v)));
        Ok(Some(KernelInterface { bindings, constants: symbols(graph, dispatch), grid: plan.grid() }))
    }

    fn emit(&self, site: &Site<'_, '_>) -> Result<(), KernelError> {
        let plan = Plan::new(site.graph, site.dispatch, site.target).ok_or(KernelError::NoFamily {
            dispatch: site.dispatch.name.clone(),
        })?;
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
        if root.op != Op::MatMul || dispatch.outputs.len() != 1 {
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
        let packed = packed_rhs(graph, dispatch, root);
        let (batch, row_shape) = match &packed {
            Some(_) => (Vec::new(), shape[..rank - 1].to_vec()),
            None => (shape[..rank - 2].to_vec(), vec![shape[rank - 2].clone()]),
        };
        let (m, n, k) = (product(&row_shape), shape[rank - 1].clone(), lhs[rank - 1].clone());
        let lanes = target.lanes(accumulator(dtype).bits()).max(2);
        let (n1, m0) = tile_size(target, lanes, &n, &m);
        let width = (n1 * lanes) as i64;
        let packed = packed.map(|(value, transposed)| {
            let width = width as u64;
            let packing =
                if transposed { Packing::TransposedPanels { width } } else { Packing::Panels { width } };
            (value, packing)
        });
        let (rows, panels) = workgroup_size(&m, &n, &k, &product(&batch), m0 as i64, width);
        Some(Self { batch, row_shape, m, n, k, packed, lanes, n1, m0, rows, panels })
    }

    fn width(&self) -> i64 {
        (self.n1 * self.lanes) as i64
    }

    fn grid(&self) -> [Dim; 3] {
        let columns = Dim::constant(self.width() * self.panels);
        [self.n.ceil_div(&columns), self.m.ceil_div(&Dim::constant(self.rows)), product(&self.batch)]
    }
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
    let likely_rows = m.as_static().map_or(32, |m| m.clamp(1, rows));
    let panels = (WORKGROUP_WORK / (likely_rows * width * k).max(1)).clamp(1, total_panels.min(64));
    (rows, panels)
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
            let is_param = graph.nodes.iter().any(|n| {
                matches!(n.op, Op::Param(_)) && n.results.first() == Some(&value)
            });
            let packable = graph.values[value.index()].ty.dtype.bits() >= 8 && !used_otherwise(value);
            return (is_param && shape.len() == 2 && packable).then_some((value, transposed));
        };
        let from = &graph.values[node.operands[0].index()].ty.shape;
        match &node.op {
            Op::Broadcast { .. } if from.len() >= 2 && shape.ends_with(&from[from.len() - 2..]) => {}
            // A weight that has leading axes of one element is the matrix in them.
            Op::Transpose { perm } if perm[..] == [1, 0] => transposed = !transposed,
            _ => return None,
        }
        value = node.operands[0];
    }
}
