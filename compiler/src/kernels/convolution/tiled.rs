//! Convolutions of bf16 and of bytes in the machine's tiles.
//!
//! A workgroup copies the input rows that it needs, and the zeros around them, to its stack, where an output's neighbour
//! reads next to what the output reads, at the end of a row too: for each tap the outputs of all its rows are one tall
//! matrix product, of which the few between two rows are forgotten. With strides, rows and columns that windows meet at
//! the same tap lie together.

use ired_graph::{Dim, Graph};
use ired_mlir::{Builder, Value};

use super::Plan;
use super::direct::Panel;
use crate::dispatch::{Dispatch, KernelInterface};
use crate::kernels::ahead::{Ahead, Panels};
use crate::kernels::arithmetic::{register_type, storage_type};
use crate::kernels::dot::DotProduct;
use crate::kernels::eval::nested::accumulator;
use crate::kernels::function::{Function, Site, packed_interface};
use crate::kernels::tile_registers::{ROW_BYTES, SIDE, STEPS, TileRegisters};
use crate::kernels::{Computation, Exactness, Family, KernelError};
use crate::targets::CpuTarget;

pub(in crate::kernels) struct Tiled;

impl Family for Tiled {
    fn name(&self) -> &'static str {
        "tiled convolution"
    }

    fn interface(
        &self,
        graph: &Graph,
        dispatch: &Dispatch,
        target: &CpuTarget,
    ) -> Result<Option<KernelInterface>, KernelError> {
        let Some(plan) = TiledPlan::new(graph, dispatch, target) else { return Ok(None) };
        let blocks = plan.base.row_shape[0].clone() * Dim::constant(plan.blocks());
        let grid = [blocks, Dim::constant(plan.shares), Dim::constant(1)];
        let features = plan.dot.dot.tile_features();
        let interface = packed_interface(graph, dispatch, grid, &[(plan.base.weights, plan.base.packing)]);
        Ok(Some(KernelInterface { features, ..interface }))
    }

    // Images are computed one by one.
    fn prove_exact(&self, _: &Computation<'_>) -> Exactness {
        Ok(())
    }

    fn emit(&self, site: &Site<'_, '_>) -> Result<(), KernelError> {
        let plan = site.planned(TiledPlan::new(site.graph, site.dispatch, site.target))?;
        Function::emit(site, false, |f, b| Emitter::new(f, b, &plan).emit(b))
    }
}

/// What a workgroup keeps on its stack, of which a thread has two megabytes: input rows, and sums.
const MOST_INPUT_BYTES: i64 = 320 << 10;
const MOST_SUMS: i64 = 16 << 10;
/// Workgroups that let a few threads finish together.
const WORKGROUPS: i64 = 8;
/// Vectors of a panel: two tiles beside each other.
const PANEL_VECTORS: i64 = 2;
/// Rows of tiles that are summed at once: with two columns of them they and their operands fill the eight registers.
const TILES: i64 = 2;

struct TiledPlan {
    base: Plan,
    dot: DotProduct,
    /// Whether there is one spatial axis: its pixels are rows of one.
    is_line: bool,
    /// Height and width.
    input: [i64; 2],
    output: [i64; 2],
    stride: [i64; 2],
    dilation: [i64; 2],
    extent: [i64; 2],
    padding: [i64; 2],
    /// Products that one instruction sums.
    tile_k: i64,
    /// Output rows of a workgroup.
    rows: i64,
    /// Workgroups that share the panels of a block of rows.
    shares: i64,
}

impl TiledPlan {
    fn new(graph: &Graph, dispatch: &Dispatch, target: &CpuTarget) -> Option<Self> {
        let base = Plan::new(graph, dispatch, target)?;
        let dot = base.dot.filter(|dot| dot.dot.has_tiles(target))?;
        let window = &base.window;
        let is_line = window.extent.len() == 1;
        let pair = |sizes: &[u64], of_line: i64| {
            let size = |axis: usize| i64::try_from(*sizes.get(axis)?).ok();
            Some([size(0)?, if is_line { of_line } else { size(1)? }])
        };
        let sizes = |value: ired_graph::ValueId| {
            let size = |axis: usize| graph.ty(value).shape.get(axis)?.as_static();
            Some([size(1)?, if is_line { 1 } else { size(2)? }])
        };
        let most_k = STEPS * dot.dot.depth();
        let tile_k = [most_k, most_k / 2].into_iter().find(|k| base.channels % k == 0)?;
        let fits = window.extent.len() <= 2
            && base.groups == 1
            && base.n1 as i64 == PANEL_VECTORS
            && base.lanes == 16;
        let mut plan = Self {
            dot,
            input: sizes(base.x)?,
            output: sizes(base.result)?,
            stride: pair(&window.stride, 1)?,
            dilation: pair(&window.dilation, 1)?,
            extent: pair(&window.extent, 1)?,
            padding: pair(&window.pad_low, 0)?,
            tile_k,
            is_line,
            rows: 1,
            shares: 1,
            base,
        };
        let fits = fits && plan.output.iter().chain(&plan.input).all(|size| *size > 0);
        if !fits || !plan.fits_stack(1) {
            return None;
        }
        let most = (1..=plan.output[0]).take_while(|rows| plan.fits_stack(*rows)).last()?;
        // Blocks of equal size.
        plan.rows = ceil_div(plan.output[0], ceil_div(plan.output[0], most));
        plan.shares = (WORKGROUPS / plan.blocks()).clamp(1, plan.base.columns);
        Some(plan)
    }

    fn fits_stack(&self, rows: i64) -> bool {
        let input = self.copied(rows).and_then(|elements| elements.checked_mul(self.dot.dot.element_bytes()));
        let sums = rows.checked_mul(self.pitch()).and_then(|count| count.checked_mul(SIDE * PANEL_VECTORS));
        input.is_some_and(|bytes| bytes <= MOST_INPUT_BYTES) && sums.is_some_and(|sums| sums <= MOST_SUMS)
    }

    /// Blocks of rows of an image.
    fn blocks(&self) -> i64 {
        ceil_div(self.output[0], self.rows)
    }

    /// Input rows, or columns, that `count` outputs along axis `i` read.
    fn reach(&self, i: usize, count: i64) -> i64 {
        (count - 1) * self.stride[i] + (self.extent[i] - 1) * self.dilation[i] + 1
    }

    /// Columns of a row that windows meet at the same tap: how far apart outputs of neighbouring rows are.
    fn pitch(&self) -> i64 {
        ceil_div(self.reach(1, self.output[1]), self.stride[1])
    }

    /// Pixels that windows meet at the same tap, and some more that tiles may read past the last.
    fn phase_pixels(&self, rows: i64) -> Option<i64> {
        let rows = ceil_div(self.reach(0, rows), self.stride[0]);
        rows.checked_mul(self.pitch())?.checked_add(SIDE * TILES)
    }

    /// Elements copied for `rows` output rows.
    fn copied(&self, rows: i64) -> Option<i64> {
        let phases = self.stride[0].checked_mul(self.stride[1])?;
        self.phase_pixels(rows)?.checked_mul(phases)?.checked_mul(self.base.channels)
    }
}

fn ceil_div(a: i64, b: i64) -> i64 {
    (a + b - 1) / b
}

struct Emitter<'f, 'a, 'm> {
    f: &'f Function<'a, 'm>,
    plan: &'f TiledPlan,
    image: Value<'m>,
    /// Output rows of this workgroup.
    first: Value<'m>,
    last: Value<'m>,
    input: Value<'m>,
    sums: Value<'m>,
    phase_elements: i64,
}

impl<'f, 'a, 'm> Emitter<'f, 'a, 'm> {
    fn new(f: &'f Function<'a, 'm>, b: &Builder<'m>, plan: &'f TiledPlan) -> Self {
        let blocks = b.index(plan.blocks());
        let first = b.muli(b.remui(f.group[0], blocks), b.index(plan.rows));
        let elements = plan.copied(plan.rows).unwrap_or(0);
        let sums = (plan.rows * plan.pitch() + SIDE * TILES) * SIDE * PANEL_VECTORS;
        Self {
            f,
            plan,
            image: b.divui(f.group[0], blocks),
            first,
            last: b.minsi(b.addi(first, b.index(plan.rows)), b.index(plan.output[0])),
            input: b.stack_array(elements as usize, storage_type(b, f.dtype(plan.dot.left)), 64),
            sums: b.stack_array(sums as usize, register_type(b, accumulator(f.dtype(plan.base.result))), 64),
            phase_elements: plan.phase_pixels(plan.rows).unwrap_or(0) * plan.base.channels,
        }
    }

    fn emit(&self, b: &Builder<'m>) {
        let plan = self.plan;
        self.copy_input(b);
        let panels = ceil_div(plan.base.columns, plan.shares);
        let first = b.muli(self.f.group[1], b.index(panels));
        let last = b.minsi(b.addi(first, b.index(panels)), b.index(plan.base.columns));
        b.for_each(first, last, |b, panel| {
            self.multiply(b, panel);
            self.finish(b, panel);
        });
    }

    /// Zeros, and over them what of the windows' reach lies on the input.
    fn copy_input(&self, b: &Builder<'m>) {
        let plan = self.plan;
        let lanes = plan.tile_k;
        let vector = b.vector_type(lanes as usize, self.input.ty().element());
        let zeros = b.integer(vector, 0);
        let elements = plan.copied(plan.rows).unwrap_or(0);
        b.for_loop(b.index(0), b.index(elements), b.index(lanes), &[], |b, at, _| {
            b.vector_store(zeros, self.input, at);
            Vec::new()
        });
        let Some(source) = self.f.memory(plan.dot.left) else { return };
        let stride_h = plan.stride[0];
        let start = b.subi(b.muli(self.first, b.index(stride_h)), b.index(plan.padding[0]));
        let rows = b.subi(self.last, self.first);
        let reach = (plan.extent[0] - 1) * plan.dilation[0] + 1 - stride_h;
        let end = b.addi(start, b.addi(b.muli(rows, b.index(stride_h)), b.index(reach)));
        let low = b.maxsi(start, b.index(0));
        let high = b.minsi(end, b.index(plan.input[0]));
        // Columns that exist and that some window reaches.
        let right = (plan.reach(1, plan.output[1]) - plan.padding[1]).min(plan.input[1]);
        b.for_each(low, high, |b, h| {
            let row = b.subi(h, start);
            b.for_each(b.index(0), b.index(right), |b, w| {
                let column = b.addi(w, b.index(plan.padding[1]));
                let to = self.place(b, row, column);
                let pixel = b.addi(b.muli(self.image, b.index(plan.input[0])), h);
                let pixel = b.addi(b.muli(pixel, b.index(plan.input[1])), w);
                let from = b.muli(pixel, b.index(plan.base.channels));
                b.for_loop(b.index(0), b.index(plan.base.channels), b.index(lanes), &[], |b, c, _| {
                    let x = b.vector_load(source, b.addi(from, c), lanes as usize);
                    b.vector_store(x, self.input, b.addi(to, c));
                    Vec::new()
                });
            });
        });
    }

    /// Where the copy has input row `row` of the workgroup's and column `column`, counted from the padding's first.
    fn place(&self, b: &Builder<'m>, row: Value<'m>, column: Value<'m>) -> Value<'m> {
        let plan = self.plan;
        let [stride_h, stride_w] = plan.stride.map(|stride| b.index(stride));
        let phase = b.addi(b.muli(b.remui(row, stride_h), stride_w), b.remui(column, stride_w));
        let pixel = b.addi(b.muli(b.divui(row, stride_h), b.index(plan.pitch())), b.divui(column, stride_w));
        let channels = b.index(plan.base.channels);
        b.addi(b.muli(phase, b.index(self.phase_elements)), b.muli(pixel, channels))
    }

    /// Sums of all outputs, and of the pixels between their rows, for the filters of a panel.
    fn multiply(&self, b: &Builder<'m>, panel: Value<'m>) {
        let plan = self.plan;
        let rows = b.subi(b.subi(self.last, self.first), b.index(1));
        let pixels = b.addi(b.muli(rows, b.index(plan.pitch())), b.index(plan.output[1]));
        let size = b.index(SIDE * TILES);
        let runs = b.ceil_div(pixels, size);
        b.for_each(b.index(0), runs, |b, run| {
            let ahead = self.ahead(b, panel, run, runs);
            self.emit_tiles(b, panel, b.muli(run, size), ahead);
        });
    }

    fn emit_tiles(&self, b: &Builder<'m>, panel: Value<'m>, pixel: Value<'m>, ahead: Option<Ahead<'m>>) {
        let plan = self.plan;
        let Some(weights) = self.f.packed(plan.base.weights) else { return };
        let dot = plan.dot.dot;
        let tiles = TileRegisters::new(b, dot, plan.tile_k);
        let zeros: Vec<_> = (0..TILES * PANEL_VECTORS).map(|_| tiles.zero(b)).collect();
        let (channels, zero, one) = (b.index(plan.base.channels), b.index(0), b.index(1));
        let pixel_bytes = b.index(plan.base.channels * dot.element_bytes());
        let [taps_h, taps_w] = plan.extent.map(|extent| b.index(extent));
        let sums = b.for_loop(zero, taps_h, one, &zeros, |b, r, sums| {
            b.for_loop(zero, taps_w, one, sums, |b, s, sums| {
                let row = b.muli(r, b.index(plan.dilation[0]));
                let column = b.muli(s, b.index(plan.dilation[1]));
                let start = b.addi(self.place(b, row, column), b.muli(pixel, channels));
                let tap = b.addi(b.muli(r, taps_w), s);
                b.for_loop(zero, channels, b.index(plan.tile_k), sums, |b, c, sums| {
                    // A step of a panel is a group of neighbouring channels.
                    let depth = dot.depth();
                    let groups = b.muli(tap, b.index(plan.base.channels / depth));
                    let steps = b.addi(groups, b.divui(c, b.index(depth)));
                    if let Some(ahead) = &ahead {
                        ahead.fetch(b, b.divui(steps, b.index(plan.tile_k / depth)));
                    }
                    let at = b.addi(b.muli(panel, b.index(plan.base.panel_steps())), steps);
                    let at = b.muli(at, b.index(SIDE * PANEL_VECTORS * depth));
                    let rights: Vec<_> = (0..PANEL_VECTORS)
                        .map(|j| {
                            let at = b.addi(at, b.index(j * SIDE * depth));
                            tiles.load_right(b, b.address(weights, at), b.index(PANEL_VECTORS * ROW_BYTES))
                        })
                        .collect();
                    let mut next = sums.to_vec();
                    for (i, sums) in (0..).zip(next.chunks_mut(PANEL_VECTORS as usize)) {
                        let at = b.addi(start, b.addi(b.index(i * SIDE * plan.base.channels), c));
                        let left = tiles.load_left(b, b.address(self.input, at), pixel_bytes);
                        for (sum, right) in sums.iter_mut().zip(&rights) {
                            *sum = tiles.multiply_add(b, *sum, left, *right);
                        }
                    }
                    next
                })
            })
        });
        let row_elements = SIDE * PANEL_VECTORS;
        for (i, sum) in (0..).zip(sums) {
            let from = b.addi(pixel, b.index(i / PANEL_VECTORS * SIDE));
            let at = b.addi(b.muli(from, b.index(row_elements)), b.index(i % PANEL_VECTORS * SIDE));
            tiles.store(b, sum, b.address(self.sums, at), b.index(row_elements * 4));
        }
    }

    /// The next panel's weights, shared out among the runs of tiles.
    fn ahead(&self, b: &Builder<'m>, panel: Value<'m>, run: Value<'m>, runs: Value<'m>) -> Option<Ahead<'m>> {
        let plan = self.plan;
        let step_elements = SIDE * PANEL_VECTORS * plan.tile_k;
        let dot = plan.dot.dot;
        let memref = self.f.packed(plan.base.weights)?;
        let panels = Panels { memref, element_bytes: dot.element_bytes(), step_elements };
        let steps = plan.base.panel_steps() / (plan.tile_k / dot.depth());
        let next = b.muli(b.addi(panel, b.index(1)), b.index(steps * step_elements));
        Some(panels.shared(b, next, run, runs, b.index(steps)))
    }

    /// What follows the convolution, and stores.
    fn finish(&self, b: &Builder<'m>, number: Value<'m>) {
        let (f, plan) = (self.f, self.plan);
        let base = &plan.base;
        let element = register_type(b, accumulator(f.dtype(base.result)));
        let panel = Panel {
            f,
            plan: base,
            group: b.index(0),
            number,
            sharing: (self.first, self.last),
            column: b.muli(number, b.index(SIDE * PANEL_VECTORS)),
            vector: b.vector_type(base.lanes, element),
        };
        let masks = panel.masks(b);
        let images = b.muli(self.image, b.index(plan.output[0]));
        b.for_each(self.first, self.last, |b, h| {
            let row = panel.row(b, if plan.is_line { self.image } else { b.addi(images, h) });
            let start = b.muli(b.subi(h, self.first), b.index(plan.pitch()));
            b.for_each(b.index(0), b.index(plan.output[1]), |b, w| {
                for (j, mask) in masks.iter().enumerate() {
                    let at = b.muli(b.addi(start, w), b.index(SIDE * PANEL_VECTORS));
                    let at = b.addi(at, b.index(j as i64 * SIDE));
                    let sum = b.vector_load(self.sums, at, base.lanes);
                    let column = if plan.is_line { h } else { w };
                    panel.emit_store(b, &row, column, j, sum, *mask);
                }
            });
        });
    }
}
