//! Matrix products in register tiles, with what follows them computed before anything is stored.
//!
//! A constant right-hand side is packed into panels of a few vectors at compile time, and its product has no batch:
//! all rows of all batches are one tall matrix. Two computed operands are multiplied batch by batch, the right one
//! read where it is. A tile holds `m0 x n1` accumulators and runs over `k`, a long one in several passes; rows that do not fill one get a
//! tile of exactly their size, columns that do not fill one are masked when stored. Weights come from far away, so
//! those needed next are fetched while these are multiplied. Quantised ones are packed as the integers they are.
//!
//! Where the run tells how many rows there are, every element is summed in the same order whatever tile it is in, so that
//! a row's results do not depend on the others. The few rows that fill no tile then take several panels side by side, lest
//! they wait for their sums.

mod cost;
mod panel;
mod sizes;
mod tile;
mod tiles;
mod widening;

use ired_graph::{DType, Dim, Graph, Node, Op, ValueId};

use super::dot::DotProduct;
use super::eval::nested::accumulator;
use super::function::{Function, Site, packed_interface, product};
use super::generic::producer;
use super::tile_registers::{SIDE, STEPS};
use super::{AtSizes, Computation, Exactness, Family, KernelError};
use crate::dispatch::{Dispatch, KernelInterface, Packing};
use crate::targets::CpuTarget;
use crate::tuning::{Choice, Tile, Tunable};
use crate::weights::{Quantized, StoredWeights, ZeroPoint, stored_weights};
use sizes::{Problem, Sizes};

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
        let interface = packed_interface(graph, dispatch, plan.grid(), &plan.packings());
        let features = plan.dot.filter(|_| plan.in_tiles).map_or(&[][..], |dot| dot.dot.tile_features());
        Ok(Some(KernelInterface { features, ..interface }))
    }

    fn tunable(&self, graph: &Graph, dispatch: &Dispatch, target: &CpuTarget) -> Option<Tunable> {
        let plan =
            Plan::new(graph, dispatch, target).filter(|plan| !plan.in_tiles && plan.quantized.is_none())?;
        let candidates = plan.sizes.candidates(&plan.m, &plan.n, plan.passes_over(), plan.lanes, target);
        Some(Tunable { problem: plan.problem(graph, dispatch), candidates })
    }

    fn prove_exact(&self, of: &Computation<'_>) -> Exactness {
        let plan = Plan::new(of.graph, of.dispatch, of.target).ok_or("there is no plan of it")?;
        let root = of.graph.node(of.dispatch.root);
        let is_float = accumulator(of.graph.ty(root.results[0]).dtype).is_float();
        let has_one_order = plan.sizes.parts.is_some() || !is_float || of.rows.is_shared(&plan.m);
        match has_one_order {
            true => Ok(()),
            false if plan.quantized.is_some() => Err("a few rows meet quantised weights in another order"),
            false if plan.in_tiles => {
                Err("rows that do not fill the machine's tiles are summed in another order")
            }
            false => Err("rows that do not fill a tile are summed in another order"),
        }
    }

    fn cost(&self, of: &AtSizes<'_>) -> Option<f64> {
        Plan::new(of.graph, of.dispatch, of.target)?.cost(of)
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
    /// What makes floats of the integers that it holds.
    quantized: Option<Quantized>,
    /// How neighbours along `k` are multiplied at once, where that can be.
    dot: Option<DotProduct>,
    lanes: usize,
    sizes: Sizes,
    /// Whether the machine's tiles multiply.
    in_tiles: bool,
    /// Bytes of the panels; 0 without any, or of a size that only the run knows.
    right_bytes: i64,
    /// Half of the second-level cache, in bytes.
    half_cache: i64,
}

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
        let (packed, quantized) = match pointwise {
            // Filters are the rows of a transposed right-hand side.
            true => (Some((packed_filters(graph, dispatch, root)?, true)), None),
            false => match packed_rhs(graph, dispatch, root) {
                Some(StoredWeights { param, transposed, quantized, .. }) => {
                    (Some((param, transposed)), quantized)
                }
                None => (None, None),
            },
        };
        let (batch, row_shape) = match &packed {
            Some(_) => (Vec::new(), shape[..rank - 1].to_vec()),
            None => (shape[..rank - 2].to_vec(), vec![shape[rank - 2].clone()]),
        };
        let (m, n, mut k) = (product(&row_shape), shape[rank - 1].clone(), lhs[rank - 1].clone());
        if quantized.is_some() {
            k = shape_of(root.operands[1]).into_iter().rev().nth(1)?;
        }
        let dot = packed.filter(|_| quantized.is_none()).and_then(|(weights, transposed)| {
            let dot = DotProduct::of(graph, dispatch, root.operands[0], weights, target)?;
            // What is filled up is known when compiling.
            k = Dim::constant(shape_of(weights)[usize::from(transposed)].as_static()?);
            Some(dot)
        });
        let lanes = target.lanes(accumulator(dtype).bits()).max(2);
        let depth = dot.map_or(1, |dot| dot.dot.depth());
        let steps = k.ceil_div(&Dim::constant(depth));
        let fills_tiles =
            m.as_static().is_none_or(|m| m >= SIDE) && k.as_static().is_some_and(|k| k >= STEPS * depth);
        let in_tiles = dot.is_some_and(|dot| dot.dot.has_tiles(target)) && fills_tiles;
        let problem = Problem {
            target,
            m: &m,
            n: &n,
            steps: &steps,
            batches: &product(&batch),
            lanes,
            is_dot: dot.is_some(),
            in_tiles,
            is_packed: packed.is_some(),
            is_widened: quantized.is_some(),
            is_ordered: m.as_static().is_none()
                && (packed.is_some() || batch.is_empty())
                && quantized.is_none()
                && !in_tiles
                && accumulator(dtype).is_float(),
            tile: tile_of(dispatch).filter(|_| quantized.is_none()),
        };
        let sizes = Sizes::of(&problem);
        let bits_of = |value: ValueId| graph.ty(value).dtype.bits() as i64;
        let packed = packed.map(|(value, transposed)| {
            let depth = if bits_of(value) < 8 { widening::CHUNK } else { depth };
            (value, panels(transposed, sizes.n1 * lanes, depth))
        });
        let element_bits = match (&packed, &quantized) {
            (Some((param, _)), Some(_)) => bits_of(*param),
            _ => bits_of(root.operands[1]),
        };
        let right_bits = (n.clone() * k.clone() * Dim::constant(element_bits)).as_static();
        let right_bytes = right_bits.filter(|_| packed.is_some()).unwrap_or(0) / 8;
        let half_cache = target.l2_bytes as i64 / 2;
        Some(Self {
            batch,
            row_shape,
            m,
            n,
            k,
            packed,
            quantized,
            dot,
            lanes,
            sizes,
            in_tiles,
            right_bytes,
            half_cache,
        })
    }

    /// Every parameter that is read in an order of the kernel's own.
    fn packings(&self) -> Vec<(ValueId, Packing)> {
        let mut packings = Vec::from_iter(self.packed.clone());
        if let Some(((_, packing), quantized)) = packings.first().zip(self.quantized.as_ref()) {
            let transposed = matches!(packing, Packing::TransposedPanels { .. });
            let of_blocks = panels(transposed, self.sizes.n1 * self.lanes, 1);
            packings.push((quantized.scales, of_blocks.clone()));
            if let ZeroPoint::Each(zeros) = quantized.zero {
                packings.push((zeros, of_blocks));
            }
        }
        packings
    }

    /// How many rows a workgroup can have, where that is known.
    fn row_counts(&self) -> Option<Vec<i64>> {
        let (m, rows) = (self.m.as_static()?, self.sizes.rows.as_static()?.max(1));
        Some(vec![rows.min(m), m % rows])
    }

    /// Whether weights are numbers of four bits, eight of them in a word of each column.
    fn is_in_words(&self) -> bool {
        let depth = match &self.packed {
            Some((_, Packing::Panels { depth, .. } | Packing::TransposedPanels { depth, .. })) => *depth,
            _ => 1,
        };
        self.quantized.is_some() && depth as i64 == widening::CHUNK
    }

    /// Neighbours along `k` that are multiplied at once.
    fn depth(&self) -> i64 {
        self.dot.map_or(1, |dot| dot.dot.depth())
    }

    /// Steps of the sum, where several passes can make it.
    fn passes_over(&self) -> Option<i64> {
        (self.packed.is_some() && self.dot.is_none()).then(|| self.k.as_static())?
    }

    /// What decides how to cut it up, in one line.
    fn problem(&self, graph: &Graph, dispatch: &Dispatch) -> String {
        let operands = &graph.node(dispatch.root).operands;
        let (left, right) = match (&self.packed, self.dot) {
            (Some((right, _)), Some(dot)) => (dot.left, *right),
            (Some((right, _)), None) => (operands[0], *right),
            (None, _) => (operands[0], operands[1]),
        };
        let kind = match (&self.packed, self.dot) {
            (Some(_), None) => "product",
            (Some(_), Some(_)) => "dot",
            (None, _) => "batched",
        };
        let (left, right) = (graph.ty(left).dtype.name(), graph.ty(right).dtype.name());
        let [m, k, n] = [&self.m, &self.k, &self.n].map(size_text);
        let batch = match self.packed {
            Some(_) => String::new(),
            None => format!(" batch={}", size_text(&product(&self.batch))),
        };
        format!("{kind} {left} {right}{batch} m={m} k={k} n={n}")
    }

    /// Whether the right-hand side is too big to stay in a core's cache while all rows go by.
    fn is_right_big(&self) -> bool {
        self.right_bytes > self.half_cache
    }

    /// Whether it is too big to be in a core's cache from call to call.
    fn is_right_far(&self) -> bool {
        self.right_bytes > 4 * self.half_cache
    }

    /// Panels that tiles of few rows take side by side: not where weights are far, which come best one after the other.
    fn beside(&self) -> &[i64] {
        if self.is_right_far() { &[] } else { &self.sizes.beside }
    }

    fn width(&self) -> i64 {
        (self.sizes.n1 * self.lanes) as i64
    }

    /// Workgroups along the columns, and along the rows.
    fn blocks(&self) -> (Dim, Dim) {
        let columns = Dim::constant(self.width() * self.sizes.panels);
        (self.n.ceil_div(&columns), self.m.ceil_div(&self.sizes.rows))
    }

    fn grid(&self) -> [Dim; 3] {
        let (columns, rows) = self.blocks();
        [columns * rows, product(&self.batch), Dim::constant(1)]
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

/// `64`, `?`, or of what is a multiple `64*?`.
pub(super) fn size_text(dim: &Dim) -> String {
    match (dim.as_static(), divisor(dim)) {
        (Some(size), _) => size.to_string(),
        (None, 1) => "?".to_owned(),
        (None, unit) => format!("{unit}*?"),
    }
}

/// How a tuning file says to cut a product up.
fn tile_of(dispatch: &Dispatch) -> Option<Tile> {
    match dispatch.choice {
        Some(Choice::Tile(tile)) => Some(tile),
        _ => None,
    }
}

/// What a dimension is a multiple of, whatever its symbols.
pub(super) fn divisor(dim: &Dim) -> i64 {
    let terms = dim.terms().map(|(_, coefficient)| coefficient);
    terms.chain([dim.offset()]).fold(0i64, |a, b| gcd(a, b.saturating_abs())).max(1)
}

fn gcd(a: i64, b: i64) -> i64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// The weights of a convolution, if they are a parameter that nothing else of the dispatch reads.
pub(super) fn packed_filters(graph: &Graph, dispatch: &Dispatch, root: &Node) -> Option<ValueId> {
    let mut weights = root.operands[1];
    // Panels are of the elements as they are stored.
    if let Some(Node { op: Op::Cast(DType::F32), operands, .. }) = producer(graph, dispatch, weights)
        && graph.ty(operands[0]).dtype == DType::BF16
    {
        weights = operands[0];
    }
    let nodes = dispatch.nodes.iter().map(|id| &graph.nodes[id.index()]);
    let uses = nodes.flat_map(|node| &node.operands).filter(|v| **v == weights).count();
    let bits = graph.values[weights.index()].ty.dtype.bits();
    (uses == 1 && bits >= 8 && is_param(graph, weights)).then_some(weights)
}

fn is_param(graph: &Graph, value: ValueId) -> bool {
    graph.nodes.iter().any(|n| matches!(n.op, Op::Param(_)) && n.results.first() == Some(&value))
}

/// The parameter behind a right-hand side that is the same for every batch, if nothing else of the dispatch reads what it
/// is made of.
fn packed_rhs(graph: &Graph, dispatch: &Dispatch, root: &Node) -> Option<StoredWeights> {
    let nodes = || dispatch.nodes.iter().map(|id| (*id, &graph.nodes[id.index()]));
    let maker = |value: ValueId| nodes().find(|(_, node)| node.results.contains(&value)).map(|(id, _)| id);
    let weights = stored_weights(graph, root.operands[1], &maker)?;
    let uses = |value: ValueId| nodes().flat_map(|(_, node)| &node.operands).filter(|v| **v == value).count();
    let mut read = vec![weights.param];
    match &weights.quantized {
        None if graph.ty(weights.param).dtype.bits() < 8 => return None,
        None => {}
        Some(quantized) => {
            read.push(quantized.scales);
            read.extend(match quantized.zero {
                ZeroPoint::Each(zeros) => Some(zeros),
                ZeroPoint::One(_) => None,
            });
            let made = weights.nodes.iter().map(|id| graph.node(*id));
            read.extend(made.filter(|node| !matches!(node.op, Op::Constant(_))).map(|node| node.results[0]));
        }
    }
    read.iter().all(|value| uses(*value) == 1).then_some(weights)
}

fn panels(transposed: bool, width: usize, depth: i64) -> Packing {
    let (width, depth) = (width as u64, depth as u64);
    match transposed {
        true => Packing::TransposedPanels { width, depth },
        false => Packing::Panels { width, depth },
    }
}
