//! Attention: the product of queries and keys, a softmax over the keys, and the product with the values.
//!
//! A workgroup takes some queries of one batch and goes over the keys in blocks. Of each query it keeps the greatest
//! score so far, the sum of the exponentials and the weighted sum of values, both relative to that greatest score, and
//! rescales them when a block brings a greater one. So the scores of one block are all that is ever stored, on the
//! stack; what the model does to them before the softmax is computed in registers.

mod blocks;
mod scores;
mod values;

use std::ops::Range;

use ired_graph::{Dim, Graph, Node, Op, ValueId};

use super::function::{Function, Site, plain_interface, product};
use super::generic::producer;
use super::{Family, KernelError};
use crate::dispatch::{Dispatch, KernelInterface};
use crate::targets::CpuTarget;

pub(super) struct Attention;

impl Family for Attention {
    fn name(&self) -> &'static str {
        "attention"
    }

    fn interface(
        &self,
        graph: &Graph,
        dispatch: &Dispatch,
        target: &CpuTarget,
    ) -> Result<Option<KernelInterface>, KernelError> {
        let Some(plan) = Plan::new(graph, dispatch, target) else { return Ok(None) };
        let blocks = plan.queries.ceil_div(&Dim::constant(plan.rows as i64));
        let grid = [blocks, product(&plan.batch), Dim::constant(1)];
        Ok(Some(plain_interface(graph, dispatch, grid)))
    }

    fn emit(&self, site: &Site<'_, '_>) -> Result<(), KernelError> {
        let plan = site.planned(Plan::new(site.graph, site.dispatch, site.target))?;
        Function::emit(site, false, |f, b| blocks::Emitter::new(f, b, &plan).emit(b))
    }
}

/// Sizes of the products and of their blocks.
struct Plan {
    /// `[.., queries, depth]`, `[.., depth, keys]` and `[.., keys, width]`.
    q: ValueId,
    k: ValueId,
    v: ValueId,
    /// The first product, and what the softmax is taken of.
    scores: ValueId,
    weighted: ValueId,
    /// Operands and results of broadcasts that leave scores as they are: of one shape, written differently.
    widened: Vec<(ValueId, ValueId)>,
    batch: Vec<Dim>,
    queries: Dim,
    keys: Dim,
    depth: usize,
    width: usize,
    lanes: usize,
    registers: usize,
    /// Whether queries that nothing can be told of give zeros.
    zero_nans: bool,
    /// Queries, and vectors of keys, of a tile of the first product.
    tile_rows: usize,
    tile_vectors: usize,
    /// Keys of a block: whole tiles.
    block: usize,
    /// Queries of a workgroup: whole tiles.
    rows: usize,
}

/// Elements of keys, of values and of queries that stay in the nearest caches.
const BLOCK_ELEMENTS: usize = 8192;
const ROW_ELEMENTS: usize = 6144;
/// Bounds on the keys of a block and the queries of a workgroup.
const MAX_BLOCK: usize = 256;
const MAX_ROWS: usize = 96;
/// Queries of a workgroup where their number is unknown.
const LIKELY_ROWS: usize = 48;

impl Plan {
    fn new(graph: &Graph, dispatch: &Dispatch, target: &CpuTarget) -> Option<Self> {
        let nodes = || dispatch.nodes.iter().map(|id| graph.node(*id));
        let root = graph.node(dispatch.root);
        if root.op != Op::MatMul {
            return None;
        }
        let used = producer(graph, dispatch, root.operands[0])?;
        let zero_nans = used.op == Op::Select;
        let softmax = if zero_nans { producer(graph, dispatch, used.operands[2])? } else { used };
        if !matches!(softmax.op, Op::Softmax { .. }) {
            return None;
        }
        let first = nodes().find(|node| node.op == Op::MatMul && node.results != root.results)?;
        let [q, k, v] = [first.operands[0], first.operands[1], root.operands[1]];
        let shape = &graph.ty(first.results[0]).shape;
        let wide = &graph.ty(softmax.results[0]).shape;
        let widens = |node: &&Node| {
            matches!(node.op, Op::Broadcast { .. })
                && shape != wide
                && graph.ty(node.operands[0]).shape == *shape
                && graph.ty(node.results[0]).shape == *wide
        };
        let widened = nodes().filter(widens).map(|node| (node.operands[0], node.results[0])).collect();
        let rank = shape.len();
        let size = |value: ValueId| usize::try_from(graph.ty(value).shape[rank - 1].as_static()?).ok();
        let (depth, width) = (size(q)?, size(v)?);
        let lanes = target.lanes(32).max(2);
        let registers = target.vector_registers;
        let (tile_rows, tile_vectors) = if registers >= 32 { (12, 2) } else { (6, 2) };
        let tile_keys = tile_vectors * lanes;
        let block = (BLOCK_ELEMENTS / depth.max(width).max(1)).min(MAX_BLOCK) / tile_keys * tile_keys;
        let most = (ROW_ELEMENTS / depth.max(width).max(1)).min(MAX_ROWS);
        let rows = match shape[rank - 2].as_static().and_then(|rows| usize::try_from(rows).ok()) {
            Some(rows) => rows.max(1).div_ceil(rows.max(1).div_ceil(most.max(1))),
            None => most.min(LIKELY_ROWS),
        };
        Some(Self {
            q,
            k,
            v,
            scores: first.results[0],
            weighted: softmax.operands[0],
            widened,
            batch: shape[..rank - 2].to_vec(),
            queries: shape[rank - 2].clone(),
            keys: shape[rank - 1].clone(),
            depth,
            width,
            lanes,
            registers,
            zero_nans,
            tile_rows,
            tile_vectors,
            block: block.max(tile_keys),
            rows: rows.next_multiple_of(tile_rows),
        })
    }

    /// Whether a value fills vectors; of narrow ones, vectors are of keys.
    fn is_wide(&self) -> bool {
        self.width >= self.lanes
    }

    /// Elements kept for the weighted sum of one query.
    fn sum_elements(&self) -> usize {
        if self.is_wide() { self.width.next_multiple_of(self.lanes) } else { self.width * self.lanes }
    }
}

/// `0..count` in runs of up to `size`.
fn groups(count: usize, size: usize) -> Vec<Range<usize>> {
    (0..count).step_by(size).map(|start| start..(start + size).min(count)).collect()
}
