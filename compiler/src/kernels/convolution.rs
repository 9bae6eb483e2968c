//! Convolutions over channels-last images with weights known at compile time.
//!
//! `direct` is an implicit matrix product: a tile of neighbouring pixels times a panel of output channels stays in
//! registers over the whole window and all input channels. `depthwise` has a channel per lane. Both peel the tiles
//! at the left and right border, where some of the window is outside, when the width is known; so no pixel is ever
//! tested in the inner loop, and no image is padded in memory.

mod depthwise;
mod direct;

use ired_graph::{Dim, Graph, Op, ValueId};
use ired_mlir::{Builder, Value};

use super::eval::{Axis, Known, Point};
use super::function::{Function, Site, symbols};
use super::{Family, KernelError};
use crate::dispatch::{Binding, Dispatch, KernelInterface, Packing};
use crate::targets::CpuTarget;

/// Workgroups that a kernel is cut into, where its size is known: enough to feed a large machine evenly.
const WORKGROUPS: i64 = 32;
/// Rows, or tiles of a flat image, that a workgroup takes where the size is not known.
const ROWS_OF_UNKNOWN: i64 = 4;

/// Channels-last convolutions over one or two axes, of floats, with parameters for weights.
pub(super) struct Convolution;

impl Family for Convolution {
    fn interface(
        &self,
        graph: &Graph,
        dispatch: &Dispatch,
        target: &CpuTarget,
    ) -> Result<Option<KernelInterface>, KernelError> {
        let Some(shape) = Shape::of(graph, dispatch) else { return Ok(None) };
        let tiling = Tiling::of(&shape, target);
        let packing = if shape.is_depthwise() {
            Packing::Depthwise
        } else {
            Packing::ConvPanels { groups: shape.groups as u64, width: tiling.panel() as u64 }
        };
        let mut bindings = vec![Binding::Read(shape.image), Binding::ReadPacked(shape.weights, packing)];
        let others = dispatch.inputs.iter().filter(|v| **v != shape.image && **v != shape.weights);
        bindings.extend(others.map(|value| Binding::Read(*value)));
        bindings.extend(dispatch.outputs.iter().map(|value| Binding::Write(*value)));
        let panels = Dim::constant(shape.all_panels(&tiling));
        let grid = [panels, shape.blocks(&tiling).count, shape.batch.clone()];
        Ok(Some(KernelInterface { bindings, constants: symbols(graph, dispatch), grid }))
    }

    fn emit(&self, site: &Site<'_, '_>) -> Result<(), KernelError> {
        let Some(shape) = Shape::of(site.graph, site.dispatch) else {
            return Err(KernelError::NoFamily { dispatch: site.dispatch.name.clone() });
        };
        let tiling = Tiling::of(&shape, site.target);
        Function::emit(site, false, |f, b| {
            if shape.is_depthwise() {
                depthwise::fill(f, b, &shape, &tiling);
            } else {
                direct::fill(f, b, &shape, &tiling);
            }
        })
    }
}

/// A convolution's sizes as rows and columns; one-dimensional images have one row.
struct Shape {
    image: ValueId,
    weights: ValueId,
    result: ValueId,
    /// Bits of an element in a register.
    bits: usize,
    batch: Dim,
    /// Rows and columns.
    size: [Dim; 2],
    out: [Dim; 2],
    /// Input channels, of all groups.
    channels: i64,
    /// Output channels, of all groups.
    kernels: i64,
    groups: i64,
    window: [i64; 2],
    stride: [i64; 2],
    dilation: [i64; 2],
    pad: [i64; 2],
    /// No window reaches out of the image along this axis.
    inside: [bool; 2],
    /// The image's pixels are taken as one row: each is multiplied by itself, in order.
    flat: bool,
    /// Rank of the image's spatial part.
    rank: usize,
}

impl Shape {
    /// `None` when the dispatch is not a convolution that this family computes.
    fn of(graph: &Graph, dispatch: &Dispatch) -> Option<Self> {
        let node = &graph.nodes[dispatch.root.index()];
        let Op::Conv { window, groups, channels_last: true } = &node.op else { return None };
        let (image, weights, result) = (node.operands[0], node.operands[1], node.results[0]);
        let ty = |value: ValueId| &graph.values[value.index()].ty;
        let from_memory = dispatch.inputs.contains(&image) && dispatch.inputs.contains(&weights);
        let is_param =
            graph.nodes.iter().any(|n| matches!(n.op, Op::Param(_)) && n.results.contains(&weights));
        let dtype = ty(image).dtype;
        let one_dtype = ty(weights).dtype == dtype && ty(result).dtype == dtype;
        let rank = window.extent.len();
        if !from_memory || !is_param || !dtype.is_float() || !one_dtype || !(1..=2).contains(&rank) {
            return None;
        }
        let pair = |values: &[u64], missing: i64| match *values {
            [w] => [missing, w as i64],
            [h, w] => [h as i64, w as i64],
            _ => [missing; 2],
        };
        let spatial = |value: ValueId| {
            let shape = &ty(value).shape;
            let rows = if rank == 2 { shape[1].clone() } else { Dim::constant(1) };
            [rows, shape[rank].clone()]
        };
        let last = |value: ValueId| ty(value).shape.last().and_then(Dim::as_static).filter(|d| *d > 0);
        let (low, high) = (pair(&window.pad_low, 0), pair(&window.pad_high, 0));
        let inside = [0, 1].map(|axis| low[axis] == 0 && high[axis] == 0 && !window.ceil);
        let mut shape = Self {
            image,
            weights,
            result,
            bits: dtype.bits().max(32),
            batch: ty(image).shape[0].clone(),
            size: spatial(image),
            out: spatial(result),
            channels: last(image)?,
            kernels: last(result)?,
            groups: *groups as i64,
            window: pair(&window.extent, 1),
            stride: pair(&window.stride, 1),
            dilation: pair(&window.dilation, 1),
            pad: low,
            inside,
            flat: false,
            rank,
        };
        let pointwise = shape.window == [1, 1] && shape.stride == [1, 1] && inside == [true, true];
        if pointwise && !shape.is_depthwise() && ignores_place(graph, dispatch, rank) {
            shape.flat = true;
            shape.size = [Dim::constant(1), shape.size[0].clone() * shape.size[1].clone()];
            shape.out = shape.size.clone();
        }
        Some(shape)
    }

    /// One kernel an input channel.
    fn is_depthwise(&self) -> bool {
        self.groups == self.channels && self.kernels == self.channels && self.groups > 1
    }

    fn group_channels(&self) -> i64 {
        self.channels / self.groups
    }

    fn group_kernels(&self) -> i64 {
        self.kernels / self.groups
    }

    /// Panels of output channels in a group.
    fn panels(&self, tiling: &Tiling) -> i64 {
        (self.group_kernels() + tiling.panel() - 1) / tiling.panel()
    }

    /// Panels of all groups; each is a workgroup of its own.
    fn all_panels(&self, tiling: &Tiling) -> i64 {
        if self.is_depthwise() { 1 } else { self.groups * self.panels(tiling) }
    }

    /// How rows, or the pixels of a flat image, are cut into workgroups.
    fn blocks(&self, tiling: &Tiling) -> Blocks {
        let wanted = (WORKGROUPS / self.all_panels(tiling)).max(1);
        let (whole, unit) = if self.flat { (&self.out[1], tiling.pixels) } else { (&self.out[0], 1) };
        let size = match whole.as_static() {
            Some(known) => {
                let units = (known + unit - 1) / unit;
                ((units + wanted - 1) / wanted).max(1) * unit
            }
            None => ROWS_OF_UNKNOWN * unit,
        };
        Blocks { size, count: whole.ceil_div(&Dim::constant(size)) }
    }
}

struct Blocks {
    /// Rows, or pixels of a flat image, of a workgroup.
    size: i64,
    count: Dim,
}

/// Whether the epilogue reads, for a pixel, only what belongs to this pixel or to all.
fn ignores_place(graph: &Graph, dispatch: &Dispatch, rank: usize) -> bool {
    dispatch.nodes.iter().filter(|id| **id != dispatch.root).all(|id| {
        let node = &graph.nodes[id.index()];
        match &node.op {
            Op::Unary(_) | Op::Binary(_) | Op::Compare(_) | Op::Select | Op::Cast(_) => true,
            Op::Constant(tensor) => tensor.shape().iter().all(|d| *d == 1),
            Op::Broadcast { .. } => {
                let shape = &graph.values[node.operands[0].index()].ty.shape;
                shape.iter().rev().skip(1).take(rank).all(|d| d.as_static() == Some(1))
            }
            _ => false,
        }
    })
}

/// What stays in registers at once.
struct Tiling {
    lanes: i64,
    /// Vectors of output channels.
    vectors: i64,
    /// Neighbouring pixels of a row.
    pixels: i64,
}

impl Tiling {
    fn of(shape: &Shape, target: &CpuTarget) -> Self {
        let lanes = target.lanes(shape.bits) as i64;
        if shape.is_depthwise() {
            return Self { lanes, vectors: 1, pixels: 8 };
        }
        let registers = target.vector_registers as i64;
        let choices = [4, 2, 1].into_iter().flat_map(|vectors| (1..=28).map(move |pixels| (vectors, pixels)));
        // Accumulators, a row of weights, and the pixel that is broadcast.
        let fits = choices.filter(|(vectors, pixels)| vectors * pixels + vectors < registers);
        let width = shape.out[1].as_static();
        let best = fits.min_by_key(|&(vectors, pixels)| cost(shape, lanes, vectors, pixels, width));
        let (vectors, pixels) = best.unwrap_or((1, 1));
        let pixels = if width.is_none() && !shape.flat { 1 } else { pixels };
        Self { lanes, vectors, pixels }
    }

    /// Output channels of a panel.
    fn panel(&self) -> i64 {
        self.lanes * self.vectors
    }
}

/// Half cycles that a row takes per input channel and position of the window: two fused multiply-adds or two loads
/// a cycle, and no tile faster than the latency of an addition. Among equals, wide panels.
fn cost(shape: &Shape, lanes: i64, vectors: i64, pixels: i64, width: Option<i64>) -> (i64, i64) {
    const LATENCY: i64 = 8;
    /// A row whose width is not known is taken for this many whole tiles' worth of pixels.
    const UNKNOWN_WIDTH: i64 = 5040;
    let panels = (shape.group_kernels() + lanes * vectors - 1) / (lanes * vectors);
    let width = width.unwrap_or(UNKNOWN_WIDTH);
    let of = |pixels: i64| match pixels {
        0 => 0,
        _ => (vectors * pixels).max(vectors + pixels).max(LATENCY),
    };
    (panels * (width / pixels * of(pixels) + of(width % pixels)), -vectors)
}

/// Where a vector of results is.
struct Pixel<'m> {
    batch: Value<'m>,
    row: Value<'m>,
    column: Value<'m>,
    /// First channel.
    channel: Value<'m>,
}

/// Finishes one vector of results: epilogue, then memory. `left` is how many channels there still are from this
/// vector's first on, where that may be less than the lanes.
fn finish<'m>(
    f: &Function<'_, 'm>,
    b: &Builder<'m>,
    shape: &Shape,
    pixel: &Pixel<'m>,
    register: Value<'m>,
    left: Option<Value<'m>>,
) {
    let lanes = register.ty().vector_lanes().unwrap_or(1);
    let mask = left.map(|left| b.mask(left, lanes));
    let mut axes = vec![Axis::at(pixel.batch)];
    if shape.rank == 2 {
        axes.push(Axis::at(pixel.row));
    }
    axes.push(Axis::at(pixel.column));
    axes.push(Axis { base: pixel.channel, step: 1, aligned: false });
    let point = Point::axes(axes, lanes, mask);
    let rows = b.addi(b.muli(pixel.batch, f.dim(&shape.out[0])), pixel.row);
    let pixels = b.addi(b.muli(rows, f.dim(&shape.out[1])), pixel.column);
    let offset = b.addi(b.muli(pixels, b.index(shape.kernels)), pixel.channel);
    let output = f.output();
    let finished = f.eval_lanes(b, output, &point, &mut Known::bind(shape.result, register));
    f.write(b, output, offset, finished, mask);
}

/// Where the window of a row or column of the result is: the first row or column of the image, which may be outside
/// of it, and the part of the window that is inside, from-to.
fn window_range<'m>(
    f: &Function<'_, 'm>,
    b: &Builder<'m>,
    shape: &Shape,
    axis: usize,
    position: Value<'m>,
) -> (Value<'m>, Value<'m>, Value<'m>) {
    let first = b.subi(b.muli(position, b.index(shape.stride[axis])), b.index(shape.pad[axis]));
    let (zero, extent) = (b.index(0), b.index(shape.window[axis]));
    if shape.inside[axis] {
        return (first, zero, extent);
    }
    let dilation = b.index(shape.dilation[axis]);
    let size = f.dim(&shape.size[axis]);
    let from = b.ceil_div(b.maxsi(b.subi(zero, first), zero), dilation);
    let to = b.ceil_div(b.maxsi(b.subi(size, first), zero), dilation);
    (first, from, b.minsi(to, extent))
}

/// Whether column `s` of the window is inside the image for a pixel whose column is known.
fn is_inside(shape: &Shape, width: i64, column: i64, s: i64) -> bool {
    (0..width).contains(&(column * shape.stride[1] - shape.pad[1] + s * shape.dilation[1]))
}

/// A run of equal tiles in a row whose width is known.
struct Run {
    /// Column of the first tile.
    start: i64,
    /// Pixels of each.
    pixels: i64,
    tiles: i64,
    /// All of the window is inside the image, for every pixel.
    whole: bool,
}

/// Cuts a row into tiles; whole neighbours of one size become one run, which is a loop.
fn runs(shape: &Shape, out: i64, width: i64, pixels: i64) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    let mut start = 0;
    while start < out {
        let size = pixels.min(out - start);
        let whole = (start..start + size)
            .all(|column| (0..shape.window[1]).all(|s| is_inside(shape, width, column, s)));
        match runs.last_mut() {
            Some(last) if last.whole && whole && last.pixels == size => last.tiles += 1,
            _ => runs.push(Run { start, pixels: size, tiles: 1, whole }),
        }
        start += size;
    }
    runs
}

/// Goes through the rows of this workgroup.
fn for_rows<'m>(
    f: &Function<'_, 'm>,
    b: &Builder<'m>,
    shape: &Shape,
    tiling: &Tiling,
    body: impl FnOnce(&Builder<'m>, Value<'m>),
) {
    let size = b.index(shape.blocks(tiling).size);
    let from = b.muli(f.group[1], size);
    let to = b.minsi(b.addi(from, size), f.dim(&shape.out[0]));
    b.for_each(from, to, body);
}
