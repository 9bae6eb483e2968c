//! Scores of a tile of queries and a block of keys, and their exponentials.

use ired_graph::DType;
use ired_mlir::{Builder, FloatCompare, Value};

use super::blocks::{Block, Emitter};
use super::groups;
use crate::kernels::arithmetic::cast;
use crate::kernels::eval::nested::multiply_add;
use crate::kernels::eval::{Axis, Known};
use crate::kernels::math::Math;
use crate::kernels::rows::halve;
use crate::kernels::transpose::sums_of_lines;

/// Queries whose exponentials are computed side by side.
const EXP_ROWS: usize = 4;

impl<'m> Emitter<'_, '_, 'm> {
    /// Scores of a tile of queries and all keys of the block, and the greatest of each query.
    pub(super) fn emit_scores(&self, b: &Builder<'m>, block: Block<'m>, tile: Value<'m>) {
        let plan = self.plan;
        let base = b.muli(tile, self.index(b, self.tile.rows));
        let queries: Vec<_> =
            (0..self.tile.rows).map(|i| self.query(b, b.addi(base, self.index(b, i)))).collect();
        let lowest = self.splat(b, f64::NEG_INFINITY);
        let start = vec![lowest; self.tile.rows];
        let greatest = b.for_loop(b.index(0), block.tiles, b.index(1), &start, |b, panel, greatest| {
            let sums = self.multiply(b, block, base, panel);
            let mut greatest = greatest.to_vec();
            for j in 0..self.tile.vectors {
                let column = self.at(b, panel, self.tile.keys(plan), self.index(b, j * plan.lanes));
                let key = b.addi(block.first, column);
                let mask = self.mask(b, key, self.f.dim(&plan.keys), self.keys_fill_tiles());
                for (i, &query) in queries.iter().enumerate() {
                    let score = self.weigh(b, query, key, mask, sums[i * self.tile.vectors + j]);
                    b.vector_store(score, self.scores, b.addi(self.index(b, i * plan.block), column));
                    greatest[i] = greater(b, score, greatest[i]);
                }
            }
            greatest
        });
        for (i, greatest) in greatest.into_iter().enumerate() {
            self.store_greatest(b, self.index(b, i), greatest);
        }
    }

    /// What the model makes of products before the softmax; keys that are not there count for nothing.
    pub(super) fn weigh(
        &self,
        b: &Builder<'m>,
        query: Value<'m>,
        key: Value<'m>,
        mask: Option<Value<'m>>,
        products: Value<'m>,
    ) -> Value<'m> {
        let plan = self.plan;
        let point = self.point([Axis::at(query), Axis::along(key)], plan.lanes, mask);
        let mut known = Known::bind(plan.scores, products);
        for (from, to) in &plan.widened {
            let same = self.f.eval_lanes(b, *from, &point, &mut known);
            known.bound.insert(*to, same);
        }
        let score = self.f.eval_lanes(b, plan.weighted, &point, &mut known);
        mask.map_or(score, |mask| b.select(mask, score, self.splat(b, f64::NEG_INFINITY)))
    }

    /// Keeps the greatest of a vector for the query in place `row` of the tile.
    pub(super) fn store_greatest(&self, b: &Builder<'m>, row: Value<'m>, greatest: Value<'m>) {
        b.store(halve(b, greatest, &|b, x, y| greater(b, x, y)), self.shift, row);
    }

    /// Products of the query of a tile with as many keys as a vector has lanes, which are rows.
    fn multiply_rows(&self, b: &Builder<'m>, base: Value<'m>, first: Value<'m>) -> Option<Value<'m>> {
        let plan = self.plan;
        let zeros = vec![self.splat(b, 0.0); plan.lanes];
        let sums = (0..plan.depth).step_by(plan.lanes).fold(zeros, |sums, d| {
            let d = self.index(b, d);
            let x = b.vector_load(self.q, self.at(b, base, plan.depth, d), plan.lanes);
            let rows = self.key_rows(b, d, first);
            sums.into_iter().zip(rows).map(|(sum, row)| multiply_add(b, x, row, sum)).collect()
        });
        sums_of_lines(b, sums)
    }

    /// Products of a tile of queries with a panel of keys.
    fn multiply(
        &self,
        b: &Builder<'m>,
        block: Block<'m>,
        base: Value<'m>,
        panel: Value<'m>,
    ) -> Vec<Value<'m>> {
        let plan = self.plan;
        if plan.keys_are_rows && !self.tile.packed {
            let first = self.at(b, panel, self.tile.keys(plan), block.first);
            return self.multiply_rows(b, base, first).into_iter().collect();
        }
        let depth = self.index(b, plan.depth);
        let zeros = vec![self.splat(b, 0.0); self.tile.rows * self.tile.vectors];
        let first = b.muli(panel, depth);
        b.for_loop(b.index(0), depth, b.index(1), &zeros, |b, d, sums| {
            let row = b.muli(b.addi(first, d), self.index(b, self.tile.keys(plan)));
            let keys: Vec<_> = (0..self.tile.vectors)
                .map(|j| {
                    let lane = self.index(b, j * plan.lanes);
                    if self.tile.packed {
                        return b.vector_load(self.k, b.addi(row, lane), plan.lanes);
                    }
                    let column = b.addi(self.at(b, panel, self.tile.keys(plan), block.first), lane);
                    self.key(b, d, column)
                })
                .collect();
            let mut next = sums.to_vec();
            for i in 0..self.tile.rows {
                let at = self.at(b, b.addi(base, self.index(b, i)), plan.depth, d);
                let x = b.broadcast(b.load(self.q, at), plan.lanes);
                for (j, key) in keys.iter().enumerate() {
                    let sum = &mut next[i * self.tile.vectors + j];
                    *sum = multiply_add(b, x, *key, *sum);
                }
            }
            next
        })
    }

    /// Takes the block's greatest scores in: what to subtract from scores, and what to scale older sums by.
    pub(super) fn emit_rescale(&self, b: &Builder<'m>, tile: Value<'m>) {
        let plan = self.plan;
        for at in (0..self.tile.numbers(plan)).step_by(plan.lanes) {
            let column = self.index(b, at);
            let kept = self.at(b, tile, self.tile.numbers(plan), column);
            let older = b.vector_load(self.greatest, kept, plan.lanes);
            let newer = greater(b, b.vector_load(self.shift, column, plan.lanes), older);
            // Without any finite score yet nothing must become NaN: a later block may have one.
            let none = b.cmpf(FloatCompare::Eq, newer, self.splat(b, f64::NEG_INFINITY));
            let shift = b.select(none, self.splat(b, 0.0), newer);
            let scale = self.exp(b, b.subf(older, shift));
            b.vector_store(newer, self.greatest, kept);
            b.vector_store(shift, self.shift, column);
            b.vector_store(scale, self.scale, column);
        }
    }

    /// Puts exponentials in the place of scores, and sums them up.
    pub(super) fn emit_exponentials(&self, b: &Builder<'m>, block: Block<'m>, tile: Value<'m>) {
        let plan = self.plan;
        let base = b.muli(tile, self.index(b, self.tile.rows));
        let end = b.muli(block.tiles, self.index(b, self.tile.keys(plan)));
        for rows in groups(self.tile.rows, EXP_ROWS) {
            let number =
                |array: Value<'m>, i: usize| b.broadcast(b.load(array, self.index(b, i)), plan.lanes);
            let shifts: Vec<_> = rows.clone().map(|i| number(self.shift, i)).collect();
            let start = vec![self.splat(b, 0.0); rows.len()];
            let sums = b.for_loop(b.index(0), end, self.index(b, plan.lanes), &start, |b, column, sums| {
                let mut next = Vec::with_capacity(sums.len());
                for ((i, shift), sum) in rows.clone().zip(&shifts).zip(sums) {
                    let at = b.addi(self.index(b, i * plan.block), column);
                    let score = b.vector_load(self.scores, at, plan.lanes);
                    let weight = self.exp(b, b.subf(score, *shift));
                    let used = match plan.rounds {
                        true => cast(b, DType::F32, DType::BF16, weight),
                        false => weight,
                    };
                    b.vector_store(used, self.scores, at);
                    next.push(b.addf(*sum, weight));
                }
                next
            });
            for (i, sum) in rows.zip(sums) {
                self.add_to_sums(b, b.addi(base, self.index(b, i)), number(self.scale, i), sum);
            }
        }
    }

    /// Adds to the exponentials of the query in place `row` of the workgroup.
    pub(super) fn add_to_sums(&self, b: &Builder<'m>, row: Value<'m>, scale: Value<'m>, sum: Value<'m>) {
        let lanes = self.plan.lanes;
        let at = b.muli(row, self.index(b, lanes));
        let older = b.vector_load(self.sums, at, lanes);
        b.vector_store(multiply_add(b, older, scale, sum), self.sums, at);
    }

    pub(super) fn exp(&self, b: &Builder<'m>, x: Value<'m>) -> Value<'m> {
        Math::new(b, self.vector).softmax_exp(x, self.f.is_wide)
    }
}

/// The greater of two, where neither is NaN.
pub(super) fn greater<'m>(b: &Builder<'m>, x: Value<'m>, y: Value<'m>) -> Value<'m> {
    b.select(b.cmpf(FloatCompare::Gt, x, y), x, y)
}
