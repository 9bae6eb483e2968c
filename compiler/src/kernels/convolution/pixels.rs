//! Which pixels of a row are computed together, and which of them each tap of the window reaches.

use ired_graph::Dim;
use ired_mlir::{Builder, Compare, Value};

use super::Plan;
use crate::kernels::function::Function;

/// Taps of the window's last axis that reach the same pixels of a tile.
pub(super) struct TapRun<'m> {
    pub(super) first: Value<'m>,
    pub(super) end: Value<'m>,
    /// Pixels of the tile that lie on the input there.
    pub(super) pixels: Vec<usize>,
}

/// Pixels next to each other, starting at output index `start`.
pub(super) struct Tile<'m> {
    pub(super) start: Value<'m>,
    pub(super) pixels: usize,
    pub(super) taps: Vec<TapRun<'m>>,
    /// Where the row may end within the tile, and taps may lie beside the input.
    pub(super) edge: Option<Edge<'m>>,
}

#[derive(Clone, Copy)]
pub(super) struct Edge<'m> {
    /// Pixels of the row from the tile's start on: those of the tile but for a few, at least.
    left: Value<'m>,
    least: usize,
}

impl<'m> Tile<'m> {
    fn new(start: Value<'m>, pixels: usize, taps: Vec<TapRun<'m>>) -> Self {
        Self { start, pixels, taps, edge: None }
    }

    /// Emits `body` for each pixel on the row: its number within the tile, and its output index.
    pub(super) fn for_each_pixel(
        &self,
        b: &Builder<'m>,
        body: &mut dyn FnMut(&Builder<'m>, usize, Value<'m>),
    ) {
        for pixel in 0..self.pixels {
            let number = b.index(pixel as i64);
            let at = b.addi(self.start, number);
            match self.edge {
                Some(edge) if pixel >= edge.least => {
                    b.if_then(b.cmpi(Compare::SignedGt, edge.left, number), |b| body(b, pixel, at));
                }
                _ => body(b, pixel, at),
            }
        }
    }
}

/// Windows up to this wide get tiles of their own at the edges; wider ones would need too many.
const MOST_EDGE_TAPS: u64 = 16;

/// Emits all tiles of an output row. Without `edges`, none of them has any.
pub(super) fn for_each_tile<'m>(
    f: &Function<'_, 'm>,
    b: &Builder<'m>,
    plan: &Plan,
    edges: bool,
    emit: &mut dyn FnMut(&Builder<'m>, &Tile<'m>),
) {
    let rank = f.shape(plan.x).len();
    let (input, output) = (&f.shape(plan.x)[rank - 2], &f.shape(plan.result)[rank - 2]);
    match (input.as_static(), output.as_static()) {
        (Some(input), Some(output)) if plan.window.extent[plan.last_axis()] <= MOST_EDGE_TAPS => {
            static_tiles(b, plan, input, output, emit);
        }
        _ if edges => edged_tiles(f, b, plan, output, emit),
        _ => dynamic_tiles(f, b, plan, input, output, emit),
    }
}

/// Whole tiles, and at the end the smallest that has the pixels left.
fn edged_tiles<'m>(
    f: &Function<'_, 'm>,
    b: &Builder<'m>,
    plan: &Plan,
    output: &Dim,
    emit: &mut dyn FnMut(&Builder<'m>, &Tile<'m>),
) {
    let (sizes, step) = plan.tile_sizes();
    let cases: Vec<i64> = (0..sizes.len() as i64).collect();
    let (out, most) = (f.dim(output), b.index(plan.pixels as i64));
    b.for_loop(b.index(0), out, most, &[], |b, start, _| {
        let left = b.subi(out, start);
        let smaller = b.divui(b.subi(most, b.minsi(left, most)), b.index(step as i64));
        let number = b.minsi(smaller, b.index(sizes.len() as i64 - 1));
        b.switch(number, &cases, |b, case| {
            let pixels = sizes[case as usize];
            let least = sizes.get(case as usize + 1).map_or(1, |smaller| smaller + 1);
            let extent = plan.window.extent[plan.last_axis()] as i64;
            let all = TapRun { first: b.index(0), end: b.index(extent), pixels: (0..pixels).collect() };
            emit(b, &Tile { start, pixels, taps: vec![all], edge: Some(Edge { left, least }) });
        });
        Vec::new()
    });
}

/// Tiles of one row whose taps reach the same pixels, one after another.
struct Run {
    start: i64,
    tiles: i64,
    pixels: usize,
    /// By tap, the pixels on the input.
    reach: Vec<Vec<usize>>,
}

fn static_tiles<'m>(
    b: &Builder<'m>,
    plan: &Plan,
    input: i64,
    output: i64,
    emit: &mut dyn FnMut(&Builder<'m>, &Tile<'m>),
) {
    for run in runs(plan, input, output) {
        let taps = tap_runs(b, &run.reach);
        let start = b.index(run.start);
        if run.tiles == 1 {
            emit(b, &Tile::new(start, run.pixels, taps));
            continue;
        }
        let end = b.index(run.start + run.tiles * run.pixels as i64);
        b.for_loop(start, end, b.index(run.pixels as i64), &[], |b, start, _| {
            let taps = tap_runs(b, &run.reach);
            emit(b, &Tile::new(start, run.pixels, taps));
            Vec::new()
        });
    }
}

fn runs(plan: &Plan, input: i64, output: i64) -> Vec<Run> {
    let axis = plan.last_axis();
    let window = &plan.window;
    let (stride, dilation) = (window.stride[axis] as i64, window.dilation[axis] as i64);
    let on_input = |pixel: i64, tap: i64| {
        let at = pixel * stride + tap * dilation - window.pad_low[axis] as i64;
        (0..input).contains(&at)
    };
    let mut runs: Vec<Run> = Vec::new();
    let mut start = 0;
    while start < output {
        let pixels = (plan.pixels as i64).min(output - start) as usize;
        let reach: Vec<Vec<usize>> = (0..window.extent[axis] as i64)
            .map(|tap| (0..pixels).filter(|i| on_input(start + *i as i64, tap)).collect())
            .collect();
        match runs.last_mut() {
            Some(last) if last.pixels == pixels && last.reach == reach => last.tiles += 1,
            _ => runs.push(Run { start, tiles: 1, pixels, reach }),
        }
        start += pixels as i64;
    }
    runs
}

/// Joins neighbouring taps that reach the same pixels, and drops those that reach none.
fn tap_runs<'m>(b: &Builder<'m>, reach: &[Vec<usize>]) -> Vec<TapRun<'m>> {
    let mut found: Vec<TapRun<'m>> = Vec::new();
    let mut tap = 0;
    while tap < reach.len() {
        let same = reach[tap..].iter().take_while(|pixels| **pixels == reach[tap]).count();
        if !reach[tap].is_empty() {
            let (first, end) = (b.index(tap as i64), b.index((tap + same) as i64));
            found.push(TapRun { first, end, pixels: reach[tap].clone() });
        }
        tap += same;
    }
    found
}

/// Pixel by pixel where the window leaves the input, whole tiles between.
fn dynamic_tiles<'m>(
    f: &Function<'_, 'm>,
    b: &Builder<'m>,
    plan: &Plan,
    input: &Dim,
    output: &Dim,
    emit: &mut dyn FnMut(&Builder<'m>, &Tile<'m>),
) {
    let axis = plan.last_axis();
    let window = &plan.window;
    let (low, extent) = (window.pad_low[axis] as i64, window.extent[axis] as i64);
    let reach = (extent - 1) * window.dilation[axis] as i64;
    let (zero, stride) = (b.index(0), b.index(window.stride[axis] as i64));
    let out = f.dim(output);
    // The first pixel whose window starts on the input, and the one after the last whose window ends on it.
    let first = b.minsi(b.ceil_div(b.index(low), stride), out);
    let room = b.addi(f.dim(input), b.index(low - reach - 1));
    let end = b.minsi(b.floor_div(b.addi(room, stride), stride), out);
    let inner = b.maxsi(b.subi(end, first), zero);
    let size = b.index(plan.pixels as i64);
    let whole = b.addi(first, b.muli(b.divui(inner, size), size));
    let mut edge = |b: &Builder<'m>, from: Value<'m>, to: Value<'m>| {
        b.for_each(from, to, |b, start| {
            let ((first, end), _) = f.window_range(b, window, axis, input, start);
            emit(b, &Tile::new(start, 1, vec![TapRun { first, end, pixels: vec![0] }]));
        });
    };
    edge(b, zero, first);
    edge(b, whole, out);
    b.for_loop(first, whole, size, &[], |b, start, _| {
        let all = TapRun { first: zero, end: b.index(extent), pixels: (0..plan.pixels).collect() };
        emit(b, &Tile::new(start, plan.pixels, vec![all]));
        Vec::new()
    });
}
