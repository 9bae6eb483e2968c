//! One filter a channel: tiles of pixels by a vector of channels, summed over the window.

use std::collections::HashMap;

use ired_mlir::{Builder, Compare, Type, Value};

use super::Plan;
use super::pixels::{TapRun, Tile, for_each_tile};
use crate::kernels::arithmetic::{cast, from_storage, register_type};
use crate::kernels::eval::nested::{accumulator, loop_nest, multiply_add};
use crate::kernels::eval::{Axis, Known, Point, spread, zero_of};
use crate::kernels::function::{Function, product};
use crate::kernels::generic::in_lanes;

/// Taps of the last axis that are all in one loop body.
const UNROLLED_TAPS: i64 = 16;

pub(super) fn emit<'m>(f: &Function<'_, 'm>, b: &Builder<'m>, plan: &Plan) {
    let first = b.muli(plan.place(f).1, b.index(plan.rows));
    let last = b.minsi(b.addi(first, b.index(plan.rows)), f.dim(&product(&plan.row_shape)));
    let element = register_type(b, accumulator(f.dtype(plan.result)));
    let emitter = Emitter { f, plan, vector: b.vector_type(plan.lanes, element) };
    b.for_each(first, last, |b, row| {
        let axes = f.split_index(b, row, &plan.row_shape);
        let in_memory = f.memory(plan.x).is_some();
        for_each_tile(f, b, plan, in_memory, &mut |b, tile| {
            in_lanes(b, b.index(0), b.index(plan.groups), plan.lanes, &mut |b, channel, mask| {
                emitter.emit_tile(b, &axes, tile, channel, mask);
            });
        });
    });
}

struct Emitter<'f, 'a, 'm> {
    f: &'f Function<'a, 'm>,
    plan: &'f Plan,
    vector: Type<'m>,
}

impl<'m> Emitter<'_, '_, 'm> {
    fn emit_tile(
        &self,
        b: &Builder<'m>,
        row: &[Axis<'m>],
        tile: &Tile<'m>,
        channel: Value<'m>,
        mask: Option<Value<'m>>,
    ) {
        let (f, plan) = (self.f, self.plan);
        let (mut starts, mut ranges) = (Vec::new(), Vec::new());
        for (i, axis) in row[1..].iter().enumerate() {
            let (range, start) = f.window_range(b, &plan.window, i, &f.shape(plan.x)[1 + i], axis.base);
            starts.push(start);
            ranges.push(range);
        }
        let sums = vec![zero_of(b, self.vector); tile.pixels];
        let sums = loop_nest(b, &ranges, &sums, &mut |b, taps, sums| {
            let mut at = vec![row[0]];
            for (i, (start, tap)) in starts.iter().zip(taps).enumerate() {
                let dilation = b.index(plan.window.dilation[i] as i64);
                at.push(Axis::at(b.addi(*start, b.muli(*tap, dilation))));
            }
            let step = Step { at, taps: taps.to_vec(), channel, mask, has_edge: tile.edge.is_some() };
            tile.taps.iter().fold(sums.to_vec(), |sums, run| self.emit_taps(b, &step, tile, run, sums))
        });
        tile.for_each_pixel(b, &mut |b, pixel, at| {
            let mut axes = row.to_vec();
            axes.extend([Axis::at(at), Axis::along(channel)]);
            let point = Point::axes(axes, plan.lanes, mask);
            let (offset, _) = f.offset(b, plan.result, &point);
            let mut known = Known::bind(plan.result, sums[pixel]);
            let register = f.eval_lanes(b, f.output(), &point, &mut known);
            f.write(b, f.output(), offset, register, mask);
        });
    }

    /// Taps known when compiling share what neighbouring pixels read.
    fn emit_taps(
        &self,
        b: &Builder<'m>,
        step: &Step<'m>,
        tile: &Tile<'m>,
        run: &TapRun<'m>,
        sums: Vec<Value<'m>>,
    ) -> Vec<Value<'m>> {
        let axis = self.plan.last_axis();
        let (stride, dilation) =
            (self.plan.window.stride[axis] as i64, self.plan.window.dilation[axis] as i64);
        let low = self.plan.window.pad_low[axis] as i64;
        let first = b.subi(b.muli(tile.start, b.index(stride)), b.index(low));
        let known = b.known(run.first).zip(b.known(run.end));
        if let Some((from, to)) = known.filter(|(from, to)| to - from <= UNROLLED_TAPS) {
            let mut sums = sums;
            let mut read: HashMap<i64, Value<'m>> = HashMap::new();
            for tap in from..to {
                let w = self.weight(b, step, b.index(tap));
                for &pixel in &run.pixels {
                    let distance = pixel as i64 * stride + tap * dilation;
                    let x = *read
                        .entry(distance)
                        .or_insert_with(|| self.input(b, step, b.addi(first, b.index(distance))));
                    sums[pixel] = multiply_add(b, x, w, sums[pixel]);
                }
            }
            return sums;
        }
        b.for_loop(run.first, run.end, b.index(1), &sums, |b, tap, sums| {
            let mut sums = sums.to_vec();
            let w = self.weight(b, step, tap);
            for &pixel in &run.pixels {
                let distance = b.addi(b.muli(tap, b.index(dilation)), b.index(pixel as i64 * stride));
                let x = self.input(b, step, b.addi(first, distance));
                sums[pixel] = multiply_add(b, x, w, sums[pixel]);
            }
            sums
        })
    }

    fn input(&self, b: &Builder<'m>, step: &Step<'m>, at: Value<'m>) -> Value<'m> {
        let (f, plan) = (self.f, self.plan);
        let mut axes = step.at.clone();
        axes.extend([Axis::at(at), Axis::along(step.channel)]);
        let mask = if step.has_edge { Some(self.on_input(b, step, at)) } else { step.mask };
        let x = f.eval(b, plan.x, &Point::axes(axes, plan.lanes, mask), &mut Known::default());
        spread(b, cast(b, f.dtype(plan.x), accumulator(f.dtype(plan.result)), x), plan.lanes)
    }

    /// The lanes that exist: none beside the input, which is read as zeros then.
    fn on_input(&self, b: &Builder<'m>, step: &Step<'m>, at: Value<'m>) -> Value<'m> {
        let width = self.f.dim(&self.f.shape(self.plan.x)[step.at.len()]);
        let is_inside = b.broadcast(b.cmpi(Compare::UnsignedLt, at, width), self.plan.lanes);
        step.mask.map_or(is_inside, |mask| b.andi(mask, is_inside))
    }

    fn weight(&self, b: &Builder<'m>, step: &Step<'m>, tap: Value<'m>) -> Value<'m> {
        let (f, plan) = (self.f, self.plan);
        let dtype = f.dtype(plan.weights);
        let Some(memref) = f.packed(plan.weights) else { return zero_of(b, self.vector) };
        let mut row = b.index(0);
        for (tap, extent) in step.taps.iter().chain([&tap]).zip(&plan.window.extent) {
            row = b.addi(b.muli(row, b.index(*extent as i64)), *tap);
        }
        let at = b.addi(b.muli(row, b.index(plan.groups)), step.channel);
        let ty = b.vector_type(plan.lanes, memref.ty().element());
        let w = match step.mask {
            None => b.vector_load(memref, at, plan.lanes),
            Some(mask) => b.masked_load(memref, at, mask, zero_of(b, ty)),
        };
        cast(b, dtype, accumulator(f.dtype(plan.result)), from_storage(b, dtype, w))
    }
}

/// Where a window's outer taps read.
struct Step<'m> {
    /// Batch and spatial indices of the input, but for the last.
    at: Vec<Axis<'m>>,
    taps: Vec<Value<'m>>,
    channel: Value<'m>,
    mask: Option<Value<'m>>,
    /// Whether some of what the last axis' taps reach may lie beside the input.
    has_edge: bool,
}
