//! Weighted sums of values.

use ired_mlir::{Builder, Value};

use super::blocks::{Block, Emitter};
use super::groups;
use crate::kernels::eval::nested::multiply_add;
use crate::kernels::eval::{Axis, Known};

impl<'m> Emitter<'_, '_, 'm> {
    /// Adds the block's values, vectors of one value each.
    pub(super) fn emit_wide(&self, b: &Builder<'m>, block: Block<'m>, tile: Value<'m>) {
        let plan = self.plan;
        let base = b.muli(tile, self.index(b, self.tile.rows));
        // One query has registers for more of its value: as many sums that do not wait for each other.
        let most = match (self.tile.rows, plan.registers >= 32) {
            (1, _) => 8,
            (_, true) => 4,
            (_, false) => 2,
        };
        for vectors in groups(plan.width.div_ceil(plan.lanes), most) {
            let rows = ((plan.registers - 1 - vectors.len()) / vectors.len()).max(1);
            for rows in groups(self.tile.rows, rows.min(self.tile.rows)) {
                let places: Vec<_> = rows
                    .clone()
                    .flat_map(|i| vectors.clone().map(move |j| (i, j)))
                    .map(|(i, j)| {
                        let row = b.addi(base, self.index(b, i));
                        (i, self.at(b, row, plan.sum_elements(), self.index(b, j * plan.lanes)))
                    })
                    .collect();
                let start = self.scaled(b, &places);
                let sums = b.for_loop(b.index(0), block.keys, b.index(1), &start, |b, key, sums| {
                    let row = b.addi(block.first, key);
                    let values: Vec<_> = vectors.clone().map(|j| self.value(b, row, j)).collect();
                    let mut next = sums.to_vec();
                    for (n, i) in rows.clone().enumerate() {
                        let weight = b.load(self.scores, b.addi(self.index(b, i * plan.block), key));
                        let weight = b.broadcast(weight, plan.lanes);
                        for (j, value) in values.iter().enumerate() {
                            let sum = &mut next[n * values.len() + j];
                            *sum = multiply_add(b, weight, *value, *sum);
                        }
                    }
                    next
                });
                places.iter().zip(sums).for_each(|((_, at), sum)| b.vector_store(sum, self.outputs, *at));
            }
        }
    }

    /// Vector `j` of the value at `row`.
    fn value(&self, b: &Builder<'m>, row: Value<'m>, j: usize) -> Value<'m> {
        let plan = self.plan;
        let column = self.index(b, j * plan.lanes);
        let whole = (j + 1) * plan.lanes <= plan.width;
        let mask = self.mask(b, column, self.index(b, plan.width), whole);
        let point = self.point([Axis::at(row), Axis::along(column)], plan.lanes, mask);
        self.f.eval_lanes(b, plan.v, &point, &mut Known::default())
    }

    /// Sums kept at some places of queries, scaled to the block's greatest scores.
    fn scaled(&self, b: &Builder<'m>, places: &[(usize, Value<'m>)]) -> Vec<Value<'m>> {
        let lanes = self.plan.lanes;
        let scaled = |(i, at): &(usize, Value<'m>)| {
            let scale = b.broadcast(b.load(self.scale, self.index(b, *i)), lanes);
            b.mulf(b.vector_load(self.outputs, *at, lanes), scale)
        };
        places.iter().map(scaled).collect()
    }

    /// Adds the block's values, vectors of keys.
    pub(super) fn emit_narrow(&self, b: &Builder<'m>, block: Block<'m>, tile: Value<'m>) {
        let plan = self.plan;
        let base = b.muli(tile, self.index(b, self.tile.rows));
        let end = b.muli(block.tiles, self.index(b, self.tile.keys(plan)));
        let sums = if plan.registers >= 32 { 24 } else { 8 };
        for rows in groups(self.tile.rows, (sums / plan.width.max(1)).clamp(1, self.tile.rows)) {
            let places: Vec<_> = rows
                .clone()
                .flat_map(|i| (0..plan.width).map(move |column| (i, column)))
                .map(|(i, column)| {
                    let row = b.addi(base, self.index(b, i));
                    (i, self.at(b, row, plan.sum_elements(), self.index(b, column * plan.lanes)))
                })
                .collect();
            let start = self.scaled(b, &places);
            let sums = b.for_loop(b.index(0), end, self.index(b, plan.lanes), &start, |b, key, sums| {
                let values: Vec<_> = (0..plan.width)
                    .map(|column| b.addi(self.index(b, column * plan.block), key))
                    .map(|at| b.vector_load(self.v, at, plan.lanes))
                    .collect();
                let mut next = sums.to_vec();
                for (n, i) in rows.clone().enumerate() {
                    let at = b.addi(self.index(b, i * plan.block), key);
                    let weights = b.vector_load(self.scores, at, plan.lanes);
                    for (column, value) in values.iter().enumerate() {
                        let sum = &mut next[n * plan.width + column];
                        *sum = multiply_add(b, weights, *value, *sum);
                    }
                }
                next
            });
            places.iter().zip(sums).for_each(|((_, at), sum)| b.vector_store(sum, self.outputs, *at));
        }
    }
}
