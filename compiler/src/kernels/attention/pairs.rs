//! Operands of bf16 in the order that tiles read them in: queries row by row, keys and values of a block in pairs of what
//! is summed over. Keys and values are copied once for all queries of the workgroup.

use ired_graph::ValueId;
use ired_mlir::{Builder, Compare, Value};

use super::Narrow;
use super::blocks::{Block, Emitter};
use super::tiles::{SIDE, TILE_ELEMENTS, TILE_K, VECTORS, steps};
use crate::kernels::dot::as_lanes;
use crate::kernels::eval::{Axis, Known};
use crate::kernels::transpose::turn;

impl<'m> Emitter<'_, '_, 'm> {
    /// Copies a query to place `row`, filled up with zeros.
    pub(super) fn copy_rounded_query(&self, b: &Builder<'m>, narrow: &Narrow, row: Value<'m>) {
        let query = self.query(b, row);
        for step in 0..steps(self.plan) {
            let column = self.index(b, step * TILE_K);
            let x =
                self.elements(b, narrow.q, [Axis::at(query), Axis::along(column)], TILE_K, self.plan.depth);
            b.vector_store(x, self.q, self.at(b, row, steps(self.plan) * TILE_K, column));
        }
    }

    /// `lanes` elements of bf16 along the last of two axes, or the first; those that are not below `end` are 0.
    fn elements(
        &self,
        b: &Builder<'m>,
        value: ValueId,
        axes: [Axis<'m>; 2],
        lanes: usize,
        end: usize,
    ) -> Value<'m> {
        let along = axes.iter().find(|axis| axis.step != 0).map_or(b.index(0), |axis| axis.base);
        let whole = b.known(along).is_some_and(|first| first as usize + lanes <= end);
        let mask =
            (!whole && !end.is_multiple_of(lanes)).then(|| b.mask(b.subi(self.index(b, end), along), lanes));
        self.masked_elements(b, value, axes, lanes, mask)
    }

    fn masked_elements(
        &self,
        b: &Builder<'m>,
        value: ValueId,
        axes: [Axis<'m>; 2],
        lanes: usize,
        mask: Option<Value<'m>>,
    ) -> Value<'m> {
        let point = self.point(axes, lanes, mask);
        let x = self.f.eval_storage(b, value, &point, &mut Known::default());
        let x = if x.ty().vector_lanes().is_some() { x } else { b.broadcast(x, lanes) };
        mask.map_or(x, |mask| b.select(mask, x, b.integer(x.ty(), 0)))
    }

    /// Keys that lie in memory one after another: pairs of their elements are turned around as words.
    pub(super) fn turn_keys(&self, b: &Builder<'m>, narrow: &Narrow, block: Block<'m>) {
        let plan = self.plan;
        let panels = b.muli(block.tiles, self.index(b, VECTORS));
        let steps = steps(plan);
        b.for_each(b.index(0), panels, |b, panel| {
            b.for_each(b.index(0), self.index(b, steps), |b, step| {
                let d = b.muli(step, self.index(b, TILE_K));
                let first = b.addi(block.first, b.muli(panel, self.index(b, SIDE)));
                let words = self
                    .known_keys(b, first, SIDE)
                    .map(|key| {
                        let axes = [Axis::along(d), Axis::at(key)];
                        as_lanes(b, self.elements(b, narrow.k, axes, TILE_K, plan.depth), 32)
                    })
                    .collect();
                let tile = b.muli(self.at(b, panel, steps, step), self.index(b, TILE_ELEMENTS));
                for (pair, words) in turn(b, words).into_iter().enumerate() {
                    b.vector_store(
                        as_lanes(b, words, 16),
                        self.k,
                        b.addi(tile, self.index(b, pair * TILE_K)),
                    );
                }
            });
        });
    }

    /// Keys that lie in memory element by element: neighbouring elements are paired.
    pub(super) fn pair_keys(&self, b: &Builder<'m>, narrow: &Narrow, block: Block<'m>) {
        let plan = self.plan;
        let panels = b.muli(block.tiles, self.index(b, VECTORS));
        let pairs = steps(plan) * SIDE;
        b.for_each(b.index(0), panels, |b, panel| {
            let column = b.addi(block.first, b.muli(panel, self.index(b, SIDE)));
            let mask = self.mask(b, column, self.f.dim(&plan.keys), self.keys_fill_tiles());
            let element = |b: &Builder<'m>, d: Value<'m>| {
                self.masked_elements(b, narrow.k, [Axis::at(d), Axis::along(column)], SIDE, mask)
            };
            let zeros = b.integer(b.vector_type(SIDE, b.int_type(16)), 0);
            let store = |b: &Builder<'m>, pair: Value<'m>, [x, y]: [Value<'m>; 2]| {
                let at = b.muli(self.at(b, panel, pairs, pair), self.index(b, TILE_K));
                b.vector_store(paired(b, x, y), self.k, at);
            };
            b.for_each(b.index(0), self.index(b, plan.depth / 2), |b, pair| {
                let d = b.muli(pair, b.index(2));
                store(b, pair, [element(b, d), element(b, b.addi(d, b.index(1)))]);
            });
            if !plan.depth.is_multiple_of(2) {
                let pair = self.index(b, plan.depth / 2);
                store(b, pair, [element(b, self.index(b, plan.depth - 1)), zeros]);
            }
            b.for_each(self.index(b, plan.depth.div_ceil(2)), self.index(b, pairs), |b, pair| {
                store(b, pair, [zeros, zeros]);
            });
        });
    }

    /// Pairs of neighbouring values, those of keys that are not there zeros.
    pub(super) fn pair_values(&self, b: &Builder<'m>, narrow: &Narrow, block: Block<'m>) {
        let size = self.index(b, TILE_K);
        let fills = self.keys_fill_tiles();
        let whole = if fills { block.tiles } else { b.divui(block.keys, size) };
        b.for_each(b.index(0), whole, |b, step| self.pair_values_of(b, narrow, block, step, false));
        if !fills {
            b.for_each(whole, block.tiles, |b, step| self.pair_values_of(b, narrow, block, step, true));
        }
    }

    /// Step `step` of the second product.
    fn pair_values_of(
        &self,
        b: &Builder<'m>,
        narrow: &Narrow,
        block: Block<'m>,
        step: Value<'m>,
        may_miss: bool,
    ) {
        let plan = self.plan;
        let first = b.muli(step, self.index(b, TILE_K));
        b.for_each(b.index(0), self.index(b, SIDE), |b, pair| {
            let key = b.addi(first, b.muli(pair, b.index(2)));
            let value = |key: Value<'m>, j: usize| {
                let exists = b.cmpi(Compare::SignedLt, key, block.keys);
                let known = if may_miss { b.minsi(key, b.subi(block.keys, b.index(1))) } else { key };
                let row = Axis::at(b.addi(block.first, known));
                let column = Axis::along(self.index(b, j * SIDE));
                let x = self.elements(b, narrow.v, [row, column], SIDE, plan.width);
                if may_miss { b.select(exists, x, b.integer(x.ty(), 0)) } else { x }
            };
            for j in 0..plan.width.div_ceil(SIDE) {
                let x = paired(b, value(key, j), value(b.addi(key, b.index(1)), j));
                let tile = b.addi(self.index(b, j * plan.block / TILE_K), step);
                let at = self.at(b, tile, TILE_ELEMENTS, b.muli(pair, self.index(b, TILE_K)));
                b.vector_store(x, self.v, at);
            }
        });
    }
}

/// `x0, y0, x1, y1, ...`.
fn paired<'m>(b: &Builder<'m>, x: Value<'m>, y: Value<'m>) -> Value<'m> {
    let lanes: Vec<i64> = (0..SIDE as i64).flat_map(|lane| [lane, lane + SIDE as i64]).collect();
    b.shuffle(x, y, &lanes)
}
