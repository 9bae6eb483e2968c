//! Convolutions of three by three taps by Winograd's F(4x4, 3x3): a quarter of the multiplications.
//!
//! Tiles of 6 x 6 inputs and filters of 3 x 3 taps are mapped to 36 values each; what were convolutions are then 36
//! matrix products, over the channels, of tiles by filters, and the results are mapped back to 4 x 4 outputs. A
//! workgroup takes a block of tiles through all three steps, on its stack: the inputs' values once, and then panel
//! by panel of filters the products and the outputs, with what follows the convolution computed before they are
//! stored.
//!
//! Transformed filters are four times as large as the filters. [`Plan::pays`] weighs that against the multiplications.
//!
//! Results are as good as sums of f32 in another order, relative to the largest input of a tile instead of an
//! output's own: an input that is infinite, NaN or beyond 1e36 reaches all 16 outputs of each tile it is read for.

mod emitter;
pub(in crate::kernels) mod transforms;

use ired_graph::{DType, Dim, Graph, Op, ValueId};

use super::{even_split, likely_size};
use crate::dispatch::{Dispatch, KernelInterface, Packing};
use crate::kernels::contraction::{packed_filters, size_text};
use crate::kernels::function::{Function, Site, packed_interface, product};
use crate::kernels::{AtSizes, CONVOLUTIONS, Computation, Exactness, Family, KernelError};
use crate::targets::CpuTarget;
use crate::tuning::{Choice, Tunable};
use transforms::{OUTPUTS, SQUARE, TAPS};

pub(in crate::kernels) struct Winograd;

impl Family for Winograd {
    fn name(&self) -> &'static str {
        "winograd"
    }

    fn interface(
        &self,
        graph: &Graph,
        dispatch: &Dispatch,
        target: &CpuTarget,
    ) -> Result<Option<KernelInterface>, KernelError> {
        let Some(plan) = Plan::new(graph, dispatch, target) else { return Ok(None) };
        let blocks = plan.blocks();
        // Neighbours share their filters.
        let grid = [blocks, Dim::constant(plan.filter_groups()), Dim::constant(1)];
        let packing = Packing::Winograd { width: plan.width() as u64 };
        Ok(Some(packed_interface(graph, dispatch, grid, &[(plan.weights, packing)])))
    }

    fn pays(&self, graph: &Graph, dispatch: &Dispatch, target: &CpuTarget) -> bool {
        Plan::new(graph, dispatch, target).is_none_or(|plan| plan.pays())
    }

    fn tunable(&self, graph: &Graph, dispatch: &Dispatch, target: &CpuTarget) -> Option<Tunable> {
        let plan = Plan::new(graph, dispatch, target)?;
        let shape = |value: ValueId| {
            let sizes: Vec<String> = graph.ty(value).shape.iter().map(size_text).collect();
            format!("[{}]", sizes.join(", "))
        };
        let [x, weights, result] = [plan.x, plan.weights, plan.result].map(shape);
        let now = match dispatch.choice {
            Some(Choice::Family(family)) => family,
            _ if plan.pays() => CONVOLUTIONS[0],
            _ => CONVOLUTIONS[1],
        };
        let others = CONVOLUTIONS.into_iter().filter(|family| *family != now);
        Some(Tunable {
            problem: format!("convolution f32 {x} by {weights} to {result}"),
            candidates: others.map(Choice::Family).collect(),
        })
    }

    // A tile of an image is transformed by itself, and has one sum over the channels at each point.
    fn prove_exact(&self, _: &Computation<'_>) -> Exactness {
        Ok(())
    }

    // Each block of tiles after the first reads the filters again, where these do not stay in the cache.
    fn cost(&self, of: &AtSizes<'_>) -> Option<f64> {
        let plan = Plan::new(of.graph, of.dispatch, of.target)?;
        let again = if plan.share.are_filters_far { of.size(&plan.blocks())? - 1.0 } else { 0.0 };
        Some(plan.multiply_adds(of.size(&product(&plan.tiles))?, again) / plan.lanes as f64)
    }

    fn emit(&self, site: &Site<'_, '_>) -> Result<(), KernelError> {
        let plan = site.planned(Plan::new(site.graph, site.dispatch, site.target))?;
        Function::emit(site, false, |f, b| emitter::Emitter::new(f, b, &plan).emit(b))
    }
}

/// Sizes of a convolution and of its tiles.
struct Plan {
    x: ValueId,
    weights: ValueId,
    result: ValueId,
    channels: usize,
    filters: usize,
    /// Height and width.
    input: [Dim; 2],
    output: [Dim; 2],
    padding: [i64; 2],
    /// Batch, rows and columns of tiles.
    tiles: [Dim; 3],
    lanes: usize,
    /// Vectors of filters and tiles that are multiplied at once.
    n1: usize,
    m0: usize,
    /// Whether images are of sizes that only the run knows.
    is_dynamic: bool,
    share: Share,
}

/// What a workgroup computes.
struct Share {
    /// Tiles, or the most there can be where the run tells the size of images.
    tiles: usize,
    /// Panels of filters.
    panels: usize,
    /// Whether filters do not stay in a core's own cache, and how often all of them come from beyond it.
    are_filters_far: bool,
    filter_reads: usize,
}

/// Elements of a cache line; as many lanes or more than a vector has.
const LINE: usize = 16;
/// What a workgroup keeps on its stack, of which a thread has two megabytes.
const MOST_STACK_BYTES: usize = 1 << 20;
/// Tiles that are multiplied at once and read filters from the nearest cache, where those are in the next.
const LEAST_RUNS: usize = 2;
/// Workgroups that let a few threads finish together, and without which a second would do nothing.
const WORKGROUPS: usize = 8;
const LEAST_WORKGROUPS: usize = 2;
/// Panels of a workgroup that are well worth transforming its inputs for.
const LEAST_PANELS: usize = 2;
/// Between numbers of tiles that code multiplies at once, where the run tells how many there are.
const SIZE_STEP: usize = 3;

impl Plan {
    fn new(graph: &Graph, dispatch: &Dispatch, target: &CpuTarget) -> Option<Self> {
        let root = graph.node(dispatch.root);
        let Op::Conv { window, groups: 1, channels_last: true } = &root.op else { return None };
        let (x, result) = (root.operands[0], root.results[0]);
        let all = |sizes: &[u64], size: usize| sizes.iter().all(|d| *d == size as u64);
        let fits = window.extent.len() == 2
            && all(&window.extent, TAPS)
            && all(&window.stride, 1)
            && all(&window.dilation, 1);
        if !fits || dispatch.outputs.len() != 1 || !dispatch.inputs.contains(&x) {
            return None;
        }
        let weights = packed_filters(graph, dispatch, root)?;
        if [x, weights, result].iter().any(|value| graph.ty(*value).dtype != DType::F32) {
            return None;
        }
        let size = |value: ValueId, axis: usize| graph.ty(value).shape[axis].clone();
        let count = |axis: usize| usize::try_from(size(weights, axis).as_static()?).ok().filter(|d| *d > 0);
        let (filters, channels) = (count(0)?, count(1)?);
        let [input, output] = [x, result].map(|value| [size(value, 1), size(value, 2)]);
        if input.iter().chain(&output).any(|size| size.as_static() == Some(0)) {
            return None;
        }
        let is_dynamic = output.iter().any(|size| size.as_static().is_none());
        let padding = [i64::try_from(window.pad_low[0]).ok()?, i64::try_from(window.pad_low[1]).ok()?];
        let in_tiles = |size: &Dim| size.ceil_div(&Dim::constant(OUTPUTS as i64));
        let tiles = [size(result, 0), in_tiles(&output[0]), in_tiles(&output[1])];

        let lanes = target.lanes(32).max(2);
        let n1 = if filters <= lanes { 1 } else { 2 };
        let most = ((target.vector_registers - 1 - n1) / n1).min(14);
        let panels = filters.div_ceil(n1 * lanes);
        let share = Share::new(target, likely(&tiles), is_dynamic, channels, panels, n1 * lanes, most)?;
        Some(Self {
            x,
            weights,
            result,
            channels,
            filters,
            input,
            output,
            padding,
            tiles,
            lanes,
            n1,
            m0: if is_dynamic { most.min(share.tiles) } else { even_split(share.tiles, most) },
            is_dynamic,
            share,
        })
    }

    /// Workgroups that share out the tiles.
    fn blocks(&self) -> Dim {
        product(&self.tiles).ceil_div(&Dim::constant(self.share.tiles as i64))
    }

    /// How many tiles may be multiplied at once, in descending order, where the run tells the size of images.
    fn sizes(&self) -> Vec<usize> {
        (1..=self.m0).rev().step_by(SIZE_STEP).collect()
    }

    /// Filters of a panel.
    fn width(&self) -> usize {
        self.n1 * self.lanes
    }

    fn all_panels(&self) -> usize {
        self.filters.div_ceil(self.width())
    }

    fn filter_groups(&self) -> i64 {
        self.all_panels().div_ceil(self.share.panels) as i64
    }

    /// Whether this takes clearly less time than a direct convolution, both counted in multiply-adds.
    fn pays(&self) -> bool {
        let [height, width] = &self.output;
        let pixels = likely(&[self.tiles[0].clone(), height.clone(), width.clone()]) as f64;
        let (channels, filters, weights) = self.weights();
        let direct = (TAPS * TAPS) as f64 * (pixels * channels * filters + weights * BYTE_COST);
        self.multiply_adds(likely(&self.tiles) as f64, self.share.filter_reads as f64) * LEAST_GAIN < direct
    }

    /// Channels, filters in whole panels, and bytes of these at each point.
    fn weights(&self) -> (f64, f64, f64) {
        let (channels, filters) = (self.channels as f64, (self.all_panels() * self.width()) as f64);
        (channels, filters, channels * filters * size_of::<f32>() as f64)
    }

    /// Of so many tiles, with what takes as long; all filters come from far so many times.
    fn multiply_adds(&self, tiles: f64, reads: f64) -> f64 {
        let (channels, filters, weights) = self.weights();
        let transforms = TRANSFORM_COST * (channels * self.filter_groups() as f64 + filters);
        let squares = SQUARE as f64 * (tiles * channels * filters + reads * weights * BYTE_COST);
        squares + tiles * transforms
    }
}

impl Share {
    /// For `tiles` of so many channels by `panels` of `width` filters; `most` tiles are multiplied at once. `None` where
    /// not even one fits.
    fn new(
        target: &CpuTarget,
        tiles: usize,
        is_dynamic: bool,
        channels: usize,
        panels: usize,
        width: usize,
        most: usize,
    ) -> Option<Self> {
        let square_bytes = |elements: usize| SQUARE * elements * size_of::<f32>();
        let cache = target.l2_bytes as usize;
        let fitting = cache.min(MOST_STACK_BYTES) / square_bytes(padded(channels) + width);
        if fitting == 0 {
            return None;
        }
        // Each block reads all the filters: where those do not stay in the cache, the fewer blocks the better.
        let far = square_bytes(channels * panels * width) > cache;
        let largest = if far { fitting } else { fitting.min(LEAST_RUNS * most) };
        let blocks = match tiles.div_ceil(largest) {
            1 => 1,
            several => several.next_multiple_of(2),
        };
        // Each group of panels transforms the inputs once more.
        let wanted = WORKGROUPS.div_ceil(blocks).min(panels.div_ceil(LEAST_PANELS));
        let splits = wanted.max(LEAST_WORKGROUPS.div_ceil(blocks)).min(panels);
        let filter_reads = if far { blocks } else { 1 };
        let tiles = if is_dynamic { largest } else { tiles.div_ceil(blocks) };
        Some(Self { tiles, panels: panels.div_ceil(splits), are_filters_far: far, filter_reads })
    }
}

/// What costs as much as so many multiply-adds of a core: a byte of weights from memory, where cores compute 80 of
/// them in the time of 15 bytes; and to transform all inputs of a tile in one channel, or its outputs of one filter.
const BYTE_COST: f64 = 80.0 / 15.0;
const TRANSFORM_COST: f64 = 400.0;
/// For less, filters of four times the size are not kept.
const LEAST_GAIN: f64 = 1.3;

/// Elements kept of a tile's channels at a point: whole lines, and one more, lest all points' are in the same sets of
/// the cache.
fn padded(channels: usize) -> usize {
    channels.next_multiple_of(LINE) + LINE
}

/// The product of batch, height and width, as they are likely to be.
fn likely([batch, height, width]: &[Dim; 3]) -> usize {
    let batch = batch.evaluate(&|_| Some(1));
    let count =
        [height, width].map(likely_size).iter().try_fold(batch.unwrap_or(1), |n, size| n.checked_mul(*size));
    usize::try_from(count.unwrap_or(i64::MAX)).unwrap_or(1).max(1)
}
