//! Convolutions of channels-last tensors, directly, in register tiles of pixels by filters.
//!
//! A tile is a run of pixels of one output row by a few vectors of filters (or, in depthwise convolutions, of
//! channels); it sums over the window and the input channels in registers. Rows above and below the input shorten
//! the window's loops; left and right of it, tiles at the edges leave out the taps that lie in the padding, so that
//! neither is ever tested for inside.

mod depthwise;
mod direct;
mod patch;
mod pixels;
mod tiled;
pub(super) mod winograd;

use ired_graph::{Dim, Graph, Op, ValueId, Window};
use ired_mlir::Value;

use super::contraction::packed_filters;
use super::dot::DotProduct;
use super::eval::nested::accumulator;
use super::function::{Function, Site, packed_interface, product};
use super::{Computation, Exactness, Family, KernelError};
use crate::dispatch::{Dispatch, KernelInterface, Packing};
use crate::targets::CpuTarget;
pub(super) use tiled::Tiled;
pub(super) use winograd::Winograd;

pub(super) struct Convolution;

impl Family for Convolution {
    fn name(&self) -> &'static str {
        "convolution"
    }

    fn interface(
        &self,
        graph: &Graph,
        dispatch: &Dispatch,
        target: &CpuTarget,
    ) -> Result<Option<KernelInterface>, KernelError> {
        let Some(plan) = Plan::new(graph, dispatch, target) else { return Ok(None) };
        let rows = product(&plan.row_shape).ceil_div(&Dim::constant(plan.rows));
        let columns = Dim::constant(plan.columns);
        let [x, y] = if plan.is_rows_first { [rows, columns] } else { [columns, rows] };
        let grid = [x, y, Dim::constant(1)];
        Ok(Some(packed_interface(graph, dispatch, grid, &[(plan.weights, plan.packing)])))
    }

    // A pixel has one sum, over taps and channels in their order, whatever tile of its row it is in.
    fn prove_exact(&self, _: &Computation<'_>) -> Exactness {
        Ok(())
    }

    fn emit(&self, site: &Site<'_, '_>) -> Result<(), KernelError> {
        let plan = site.planned(Plan::new(site.graph, site.dispatch, site.target))?;
        Function::emit(site, false, |f, b| match plan.packing {
            Packing::Depthwise => depthwise::emit(f, b, &plan),
            _ => direct::emit(f, b, &plan),
        })
    }
}

/// Sizes of a convolution and of its tiles.
struct Plan {
    x: ValueId,
    weights: ValueId,
    result: ValueId,
    packing: Packing,
    window: Window,
    groups: i64,
    /// Input channels and filters of one group.
    channels: i64,
    filters: i64,
    /// How neighbouring channels are multiplied at once, where that can be.
    dot: Option<DotProduct>,
    /// Batch and all spatial axes but the last.
    row_shape: Vec<Dim>,
    lanes: usize,
    /// Vectors and pixels of a tile.
    n1: usize,
    pixels: usize,
    /// Panels of all groups, or blocks of channels: a workgroup has one.
    columns: i64,
    /// Output rows of a workgroup.
    rows: i64,
    /// Whether neighbouring workgroups share the weights, these being too big to stay in a core's cache, or the rows.
    is_rows_first: bool,
}

/// Multiply-adds of a workgroup: some microseconds, and less where there would be few workgroups.
const WORKGROUP_WORK: i64 = 1 << 20;
const LEAST_WORK: i64 = 1 << 17;
const GROUPS: i64 = 16;
/// Multiply-adds that take as long as one of a depthwise convolution, which waits for memory.
const DEPTHWISE_COST: i64 = 4;

impl Plan {
    fn new(graph: &Graph, dispatch: &Dispatch, target: &CpuTarget) -> Option<Self> {
        let root = &graph.nodes[dispatch.root.index()];
        let Op::Conv { window, groups, channels_last: true } = &root.op else { return None };
        if dispatch.outputs.len() != 1 {
            return None;
        }
        let shape_of = |v: ValueId| &graph.values[v.index()].ty.shape;
        let (x, result) = (root.operands[0], root.results[0]);
        let weights = packed_filters(graph, dispatch, root)?;
        let shape = shape_of(result);
        let groups = i64::try_from(*groups).ok()?;
        let channels = shape_of(weights)[1].as_static()?;
        let filters = shape_of(weights)[0].as_static()? / groups;
        let lanes = target.lanes(accumulator(graph.values[result.index()].ty.dtype).bits()).max(2);
        let out_width = shape[shape.len() - 2].as_static();
        let depthwise = channels == 1 && filters == 1;
        let registers = target.vector_registers;
        let dot = DotProduct::of(graph, dispatch, x, weights, target).filter(|_| !depthwise);
        let depth = dot.map_or(1, |dot| dot.dot.depth());
        let (packing, n1, most) = if depthwise {
            (Packing::Depthwise, 1, if registers >= 32 { 8 } else { 4 })
        } else {
            let n1 = if filters <= lanes as i64 { 1 } else { 2 };
            let width = (n1 * lanes) as u64;
            let most = ((registers - 1 - n1) / n1).min(14);
            (Packing::ConvPanels { groups: groups as u64, width, depth: depth as u64 }, n1, most)
        };
        let pixels = out_width.map_or(most, |width| even_split(width.max(1) as usize, most));
        let width = (n1 * lanes) as i64;
        let columns = if depthwise { 1 } else { groups * ((filters + width - 1) / width) };
        let taps = window.extent.iter().product::<u64>() as i64;
        let channel_work = if depthwise {
            (groups + width - 1) / width * lanes as i64 * DEPTHWISE_COST
        } else {
            width * (channels + depth - 1) / depth
        };
        let row_work = likely_size(&shape[shape.len() - 2]) * taps * channel_work;
        let row_shape = shape[..shape.len() - 2].to_vec();
        let images = row_shape[0].evaluate(&|_| Some(1)).unwrap_or(1);
        let all_rows = row_shape[1..].iter().map(likely_size).fold(images, i64::saturating_mul);
        let fair = all_rows.saturating_mul(row_work).saturating_mul(columns) / GROUPS;
        let rows = (fair.clamp(LEAST_WORK, WORKGROUP_WORK) / row_work.max(1)).clamp(1, 64);
        let weight_bytes =
            groups * filters * channels * taps * graph.values[weights.index()].ty.dtype.bits() as i64 / 8;
        Some(Self {
            is_rows_first: weight_bytes as u64 > target.l2_bytes / 2,
            x,
            weights,
            result,
            packing,
            window: window.clone(),
            groups,
            channels,
            filters,
            dot,
            row_shape,
            lanes,
            n1,
            pixels,
            columns,
            rows,
        })
    }

    /// What is read of the input, where that is in memory.
    fn source(&self) -> ValueId {
        self.dot.map_or(self.x, |dot| dot.left)
    }

    /// Channels that are multiplied at once.
    fn depth(&self) -> i64 {
        self.dot.map_or(1, |dot| dot.dot.depth())
    }

    /// Rows of packed weights in a panel.
    fn panel_steps(&self) -> i64 {
        let taps = self.window.extent.iter().product::<u64>() as i64;
        taps * ((self.channels + self.depth() - 1) / self.depth())
    }

    /// The numbers of a workgroup's panel and of its block of rows.
    fn place<'m>(&self, f: &Function<'_, 'm>) -> (Value<'m>, Value<'m>) {
        if self.is_rows_first { (f.group[1], f.group[0]) } else { (f.group[0], f.group[1]) }
    }

    /// Pixels of the tiles of a row whose length only the run knows, in descending order, and how far apart they are.
    fn tile_sizes(&self) -> (Vec<usize>, usize) {
        const MOST_SIZES: usize = 3;
        let step = self.pixels.div_ceil(MOST_SIZES + 1);
        ((1..=self.pixels).rev().step_by(step).take(MOST_SIZES).collect(), step)
    }

    /// The last spatial axis: pixels of a row follow each other along it.
    fn last_axis(&self) -> usize {
        self.window.extent.len() - 1
    }
}

/// A height or width, for cost models: one that only the run knows is likely to be made of those of such a picture.
fn likely_size(dim: &Dim) -> i64 {
    const LIKELY_SIDE: i64 = 320;
    dim.evaluate(&|_| Some(LIKELY_SIDE)).unwrap_or(LIKELY_SIDE).max(1)
}

/// The smallest tile that covers `width` in as few tiles as tiles of `most` do.
fn even_split(width: usize, most: usize) -> usize {
    width.div_ceil(width.div_ceil(most))
}
