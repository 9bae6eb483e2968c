//! A copy of the input under a tile, where that is not all of what the tile reads.
//!
//! Of a row whose length only the run knows, some tiles read beside the input: such a tile reads from a copy, with
//! zeros around it, on the workgroup's stack. Others read the input. For both that is one address and steps that
//! are equal, so that one code does.

use ired_mlir::{Builder, Compare, Value};

use super::Plan;
use super::pixels::Tile;
use crate::kernels::eval::nested::loop_nest;
use crate::kernels::eval::{Axis, Point, zero_of};
use crate::kernels::function::Function;
use crate::kernels::generic::in_lanes;

/// What copies may take of a workgroup's stack, of which a thread has two megabytes.
const MOST_BYTES: i64 = 1 << 20;

/// Memory for copies: rows for all taps of the axes but the last, of columns of pixels with all their channels.
#[derive(Clone, Copy)]
pub(super) struct Patches<'f, 'a, 'm> {
    f: &'f Function<'a, 'm>,
    plan: &'f Plan,
    memory: Value<'m>,
    input: Value<'m>,
    pixel_elements: i64,
}

/// What a tile reads.
#[derive(Clone, Copy)]
pub(super) struct Patch<'m> {
    /// The input, or the copy.
    pub(super) memory: Value<'m>,
    is_input: Value<'m>,
    /// Where the tile's columns start on the input, and how many there are.
    start: Value<'m>,
    columns: i64,
    pixel_elements: i64,
}

/// Where a tile's window lies on the axes but the last.
pub(super) struct Rows<'r, 'm> {
    /// Taps on the input.
    pub(super) ranges: &'r [(Value<'m>, Value<'m>)],
    /// Batch and indices that taps read.
    pub(super) at: &'r dyn Fn(&Builder<'m>, &[Value<'m>]) -> Vec<Axis<'m>>,
}

impl<'f, 'a, 'm> Patches<'f, 'a, 'm> {
    /// `None` where the input is not in memory as it is read, or where copies would be too large.
    pub(super) fn new(f: &'f Function<'a, 'm>, b: &Builder<'m>, plan: &'f Plan) -> Option<Self> {
        let (shape, dtype) = (f.shape(plan.source()), f.dtype(plan.source()));
        let pixel_elements = shape.last()?.as_static()?;
        let input = f.memory(plan.source())?;
        if dtype.bits() < 8 || dtype.is_complex() || shape[shape.len() - 2].as_static() == Some(1) {
            return None;
        }
        let rows = plan.window.extent[..plan.last_axis()].iter().product::<u64>() as i64;
        let elements = rows.checked_mul(columns(plan, plan.pixels))?.checked_mul(pixel_elements)?;
        let bytes = elements.checked_mul(dtype.bits() as i64 / 8)?;
        let memory = || b.stack_array(elements as usize, input.ty().element(), 64);
        (bytes <= MOST_BYTES).then(|| Self { f, plan, memory: memory(), input, pixel_elements })
    }

    /// What a tile reads, of channels from `channel` on: a copy, made here, where that is not all on the input.
    pub(super) fn of_tile(
        &self,
        b: &Builder<'m>,
        tile: &Tile<'m>,
        channel: Value<'m>,
        rows: &Rows<'_, 'm>,
    ) -> Patch<'m> {
        let plan = self.plan;
        let axis = plan.last_axis();
        let (zero, columns) = (b.index(0), columns(plan, tile.pixels));
        let low = b.index(plan.window.pad_low[axis] as i64);
        let start = b.subi(b.muli(tile.start, b.index(plan.window.stride[axis] as i64)), low);
        let end = b.addi(start, b.index(columns));
        let is_input =
            b.andi(b.cmpi(Compare::SignedLe, zero, start), b.cmpi(Compare::SignedLe, end, self.width()));
        let pointer = b.select(is_input, b.address(self.input, zero), b.address(self.memory, zero));
        let memory = b.memref_of(pointer, self.input.ty().element());
        let patch = Patch { memory, is_input, start, columns, pixel_elements: self.pixel_elements };
        b.if_then(b.xori(is_input, b.bool(true)), |b| self.copy(b, &patch, channel, rows));
        patch
    }

    /// Columns of the input.
    fn width(&self) -> Value<'m> {
        self.f.dim(&self.f.shape(self.plan.x)[self.plan.last_axis() + 1])
    }

    fn copy(&self, b: &Builder<'m>, patch: &Patch<'m>, channel: Value<'m>, rows: &Rows<'_, 'm>) {
        let plan = self.plan;
        let vector = b.vector_type(plan.lanes, self.input.ty().element());
        loop_nest(b, rows.ranges, &[], &mut |b, taps, _| {
            let row = (rows.at)(b, taps);
            b.for_each(b.index(0), b.index(patch.columns), |b, column| {
                let at = b.addi(patch.start, column);
                // Without its sign, a number below zero is a large one.
                let is_inside = b.cmpi(Compare::UnsignedLt, at, self.width());
                let to = b.addi(patch.copied(b, plan, taps, at), channel);
                in_lanes(b, b.index(0), b.index(plan.channels), plan.lanes, &mut |b, lane, mask| {
                    let is_inside = b.broadcast(is_inside, plan.lanes);
                    let reading = mask.map_or(is_inside, |mask| b.andi(mask, is_inside));
                    let lanes = Axis { base: b.addi(channel, lane), step: 1, aligned: false };
                    let axes = [row.as_slice(), &[Axis::at(at), lanes]].concat();
                    let (from, _) = self.f.offset(b, plan.x, &Point::axes(axes, plan.lanes, Some(reading)));
                    let read = b.masked_load(self.input, from, reading, zero_of(b, vector));
                    match mask {
                        None => b.vector_store(read, self.memory, b.addi(to, lane)),
                        Some(mask) => b.masked_store(read, self.memory, b.addi(to, lane), mask),
                    }
                });
            });
            Vec::new()
        });
    }
}

impl<'m> Patch<'m> {
    /// Where a pixel's channels start, at `at` on the last axis of the input, under the taps of the axes before; `input`
    /// is where they start on the input.
    pub(super) fn pixel(
        &self,
        b: &Builder<'m>,
        plan: &Plan,
        taps: &[Value<'m>],
        at: Value<'m>,
        input: Value<'m>,
    ) -> Value<'m> {
        b.select(self.is_input, input, self.copied(b, plan, taps, at))
    }

    /// The same on the copy.
    fn copied(&self, b: &Builder<'m>, plan: &Plan, taps: &[Value<'m>], at: Value<'m>) -> Value<'m> {
        let mut row = b.index(0);
        for (tap, extent) in taps.iter().zip(&plan.window.extent[..plan.last_axis()]) {
            row = b.addi(b.muli(row, b.index(*extent as i64)), *tap);
        }
        let pixel = b.addi(b.muli(row, b.index(self.columns)), b.subi(at, self.start));
        b.muli(pixel, b.index(self.pixel_elements))
    }
}

/// Columns of the input that so many pixels of a row reach.
fn columns(plan: &Plan, pixels: usize) -> i64 {
    let (axis, window) = (plan.last_axis(), &plan.window);
    let reach = (window.extent[axis] as i64 - 1).saturating_mul(window.dilation[axis] as i64);
    (pixels as i64 - 1).saturating_mul(window.stride[axis] as i64).saturating_add(reach).saturating_add(1)
}
