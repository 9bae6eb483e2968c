//! Attention: the product of queries and keys, a softmax over the keys, and the product with the values.
//!
//! A workgroup takes some queries of one batch and goes over the keys in blocks. Of each query it keeps the greatest
//! score so far, the sum of the exponentials and the weighted sum of values, both relative to that greatest score, and
//! rescales them when a block brings a greater one. So the scores of one block are all that is ever stored, on the
//! stack; what the model does to them before the softmax is computed in registers.
//!
//! Where the graph rounds all operands of both products to bf16 the machine's tiles multiply them. Exponentials are then
//! rounded before they are divided by their sum, not after: to as many bits, at another scale.

mod blocks;
mod pairs;
mod scores;
mod tiles;
mod values;

use std::ops::Range;

use ired_graph::{DType, Dim, Graph, Node, Op, ValueId};

use super::dot::{Dot, has_bf16_tiles};
use super::function::{Function, Site, plain_interface, product};
use super::generic::producer;
use super::{Computation, Exactness, Family, KernelError};
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
        let features = plan.narrow.map_or(&[][..], |_| Dot::Bf16.tile_features());
        Ok(Some(KernelInterface { features, ..plain_interface(graph, dispatch, grid) }))
    }

    fn prove_exact(&self, of: &Computation<'_>) -> Exactness {
        let plan = Plan::new(of.graph, of.dispatch, of.target).ok_or("there is no plan of it")?;
        // A workgroup has queries and keys of one batch, and cuts both up by their number.
        match of.rows.is_shared(&plan.queries) && of.rows.is_shared(&plan.keys) {
            true => Ok(()),
            false => Err("queries or keys are cut up by the number of rows"),
        }
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
    /// Whether the softmax is rounded to bf16 before it is multiplied.
    rounds: bool,
    /// What tiles of bf16 multiply, if they do.
    narrow: Option<Narrow>,
    /// Whether elements of a key, not keys, follow each other in memory, in whole vectors where tiles do not read them.
    keys_are_rows: bool,
    /// Queries, and vectors of keys, of a tile of the first product.
    tile_rows: usize,
    tile_vectors: usize,
    /// Keys of a block: whole tiles.
    block: usize,
    /// Queries of a workgroup: whole tiles.
    rows: usize,
}

/// The operands as bf16.
#[derive(Clone, Copy)]
struct Narrow {
    q: ValueId,
    k: ValueId,
    v: ValueId,
}

/// Bounds on what a workgroup takes, and takes at a time.
struct Limits {
    /// Elements of keys, of values and of queries that stay in the nearest caches.
    block_elements: usize,
    row_elements: usize,
    /// Keys of a block, and queries of a workgroup.
    block: usize,
    rows: usize,
    /// Queries of a workgroup where their number is unknown.
    likely_rows: usize,
}

const LIMITS: Limits =
    Limits { block_elements: 8192, row_elements: 6144, block: 256, rows: 96, likely_rows: 48 };
/// Tiles are so fast that copying keys and values for them only pays for many queries.
const TILE_LIMITS: Limits =
    Limits { block_elements: 16384, row_elements: 16384, block: 256, rows: 256, likely_rows: 128 };

impl Plan {
    fn new(graph: &Graph, dispatch: &Dispatch, target: &CpuTarget) -> Option<Self> {
        let nodes = || dispatch.nodes.iter().map(|id| graph.node(*id));
        let root = graph.node(dispatch.root);
        if root.op != Op::MatMul {
            return None;
        }
        let rounded = narrowed(graph, dispatch, root.operands[0])
            .and_then(|value| producer(graph, dispatch, value))
            .filter(|node| node.op == Op::Cast(DType::BF16));
        let used = producer(graph, dispatch, rounded.map_or(root.operands[0], |node| node.operands[0]))?;
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
        let fills_tiles = fills_tiles(&shape[rank - 2], depth, width);
        let narrow = (rounded.is_some() && has_bf16_tiles(target) && fills_tiles)
            .then(|| Narrow::of(graph, dispatch, [q, k, v]))
            .flatten();
        let limits = if narrow.is_some() { TILE_LIMITS } else { LIMITS };
        let (tile_rows, tile_vectors) = match narrow {
            Some(_) => (tiles::ROWS, tiles::VECTORS),
            None if registers >= 32 => (12, 2),
            None => (6, 2),
        };
        let tile_keys = tile_vectors * lanes;
        let longest = depth.max(width).max(1);
        let block = (limits.block_elements / longest).min(limits.block) / tile_keys * tile_keys;
        let most = (limits.row_elements / longest).min(limits.rows);
        let rows = match shape[rank - 2].as_static().and_then(|rows| usize::try_from(rows).ok()) {
            Some(rows) => rows.max(1).div_ceil(rows.max(1).div_ceil(most.max(1))),
            None => most.min(limits.likely_rows),
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
            rounds: rounded.is_some(),
            keys_are_rows: are_rows(graph, dispatch, narrow.map_or(k, |narrow| narrow.k))
                && (narrow.is_some() || depth.is_multiple_of(lanes)),
            narrow,
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

impl Narrow {
    fn of(graph: &Graph, dispatch: &Dispatch, operands: [ValueId; 3]) -> Option<Self> {
        let [q, k, v] = operands.map(|value| narrowed(graph, dispatch, value));
        Some(Self { q: q?, k: k?, v: v? })
    }
}

/// Whether tiles of bf16 would be filled well enough by queries and keys of this depth and values of this width.
pub(crate) fn fills_tiles(queries: &Dim, depth: usize, width: usize) -> bool {
    queries.as_static().is_none_or(|queries| queries >= tiles::SIDE as i64) && depth.min(width) >= tiles::SIDE
}

/// What is bf16 and read as f32.
fn narrowed(graph: &Graph, dispatch: &Dispatch, value: ValueId) -> Option<ValueId> {
    let node = producer(graph, dispatch, value).filter(|node| node.op == Op::Cast(DType::F32))?;
    (graph.ty(node.operands[0]).dtype == DType::BF16).then_some(node.operands[0])
}

/// Whether the dispatch turns keys around that are read: the second last axis is the last one in memory.
fn are_rows(graph: &Graph, dispatch: &Dispatch, k: ValueId) -> bool {
    let (mut value, mut from_end) = (k, 2);
    while let Some(node) = producer(graph, dispatch, value) {
        if let Op::Transpose { perm } = &node.op {
            from_end = perm.len() - perm[perm.len() - from_end];
        } else if !matches!(node.op, Op::Reshape { .. } | Op::Broadcast { .. }) {
            return false;
        }
        value = node.operands[0];
    }
    from_end == 1
}

/// `0..count` in runs of up to `size`.
fn groups(count: usize, size: usize) -> Vec<Range<usize>> {
    (0..count).step_by(size).map(|start| start..(start + size).min(count)).collect()
}
