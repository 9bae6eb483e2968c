//! Attention on operands of bf16 in the machine's tiles: registers of 16 rows of 64 bytes, multiplied as matrices.
//!
//! Keys and values of a block are copied in the order of a right-hand side, in pairs of what is summed over, once for
//! all queries of the workgroup. What lies between the products is done in vectors of f32, on scores that tiles left on
//! the stack; weights are rounded to bf16 when they are stored.

use ired_graph::ValueId;
use ired_mlir::{Builder, Compare, Value};

use super::blocks::{Block, Emitter};
use super::{Narrow, Plan, groups};
use crate::kernels::dot::as_lanes;
use crate::kernels::eval::{Axis, Known, Point};
use crate::kernels::tile_registers::{self, MOST_K, ROW_BYTES, TileRegisters};
use crate::kernels::transpose::turn;

/// Rows of a tile, and columns of one of sums.
pub(super) const SIDE: usize = tile_registers::SIDE as usize;
/// Products that one instruction sums.
const TILE_K: usize = MOST_K as usize;
/// Tiles of queries and of keys, or values, that are summed at once: with their operands they fill the eight registers.
const TILES: usize = 2;
/// Queries, and vectors of keys, that are multiplied at once.
pub(super) const ROWS: usize = TILES * SIDE;
pub(super) const VECTORS: usize = TILES;
/// Elements of a tile of pairs.
const TILE_ELEMENTS: usize = SIDE * TILE_K;
/// Queries whose scores are looked at side by side.
const SCORE_ROWS: usize = 4;

/// Elements of queries, keys, values and weights on the stack.
pub(super) fn arrays(plan: &Plan) -> [usize; 4] {
    let depth = steps(plan) * TILE_K;
    [plan.rows * depth, plan.block * depth, plan.block * plan.sum_elements(), ROWS * plan.block]
}

/// Steps of the first product.
fn steps(plan: &Plan) -> usize {
    plan.depth.div_ceil(TILE_K)
}

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

    /// Takes a block of keys in, for `rows` queries.
    pub(super) fn emit_block_in_tiles(
        &self,
        b: &Builder<'m>,
        narrow: &Narrow,
        block: Block<'m>,
        rows: Value<'m>,
    ) {
        match narrow.keys_are_rows {
            true => self.turn_keys(b, narrow, block),
            false => self.pair_keys(b, narrow, block),
        }
        self.pair_values(b, narrow, block);
        let size = self.index(b, ROWS);
        b.for_each(b.index(0), b.ceil_div(rows, size), |b, tile| {
            let rows = b.minsi(b.subi(rows, b.muli(tile, size)), size);
            self.multiply_keys(b, block, tile);
            self.weigh_scores(b, block, tile, rows);
            self.emit_rescale(b, tile);
            self.round_exponentials(b, block, tile, rows);
            self.multiply_values(b, block, tile);
        });
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
        let point = Point::axes([self.batch.as_slice(), &axes].concat(), lanes, mask);
        let x = self.f.eval_storage(b, value, &point, &mut Known::default());
        let x = if x.ty().vector_lanes().is_some() { x } else { b.broadcast(x, lanes) };
        mask.map_or(x, |mask| b.select(mask, x, b.integer(x.ty(), 0)))
    }

    /// Keys that lie in memory one after another: pairs of their elements are turned around as words.
    fn turn_keys(&self, b: &Builder<'m>, narrow: &Narrow, block: Block<'m>) {
        let plan = self.plan;
        let last = b.subi(self.f.dim(&plan.keys), b.index(1));
        let panels = b.muli(block.tiles, self.index(b, VECTORS));
        let steps = steps(plan);
        b.for_each(b.index(0), panels, |b, panel| {
            b.for_each(b.index(0), self.index(b, steps), |b, step| {
                let d = b.muli(step, self.index(b, TILE_K));
                let first = b.addi(block.first, b.muli(panel, self.index(b, SIDE)));
                let words = (0..SIDE)
                    .map(|i| {
                        // Scores of keys that are not there are not looked at.
                        let key = b.minsi(b.addi(first, self.index(b, i)), last);
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
    fn pair_keys(&self, b: &Builder<'m>, narrow: &Narrow, block: Block<'m>) {
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
    fn pair_values(&self, b: &Builder<'m>, narrow: &Narrow, block: Block<'m>) {
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

    /// Products of a run of queries with all keys of the block.
    fn multiply_keys(&self, b: &Builder<'m>, block: Block<'m>, tile: Value<'m>) {
        let plan = self.plan;
        let tiles = TileRegisters::new(b, MOST_K);
        let steps = steps(plan);
        let query = b.muli(tile, self.index(b, ROWS));
        b.for_each(b.index(0), block.tiles, |b, panel| {
            // Each its own: one that is used twice would be copied through memory.
            let zeros: Vec<_> = (0..TILES * TILES).map(|_| tiles.zero(b)).collect();
            let sums = b.for_loop(b.index(0), self.index(b, steps), b.index(1), &zeros, |b, step, sums| {
                let keys = |j: usize| {
                    let panel = b.addi(b.muli(panel, self.index(b, TILES)), self.index(b, j));
                    let at = b.muli(self.at(b, panel, steps, step), self.index(b, TILE_ELEMENTS));
                    tiles.load_right(b, b.address(self.k, at), b.index(ROW_BYTES))
                };
                let queries = |i: usize| {
                    let row = b.addi(query, self.index(b, i * SIDE));
                    let at = self.at(b, row, steps * TILE_K, b.muli(step, self.index(b, TILE_K)));
                    tiles.load_left(b, b.address(self.q, at), self.index(b, steps * TILE_K * 2))
                };
                multiply(b, &tiles, sums, [0, 1].map(queries), &[0, 1].map(keys))
            });
            for (n, sum) in sums.into_iter().enumerate() {
                let column = self.at(b, panel, TILES * SIDE, self.index(b, n % TILES * SIDE));
                let at = b.addi(self.index(b, n / TILES * SIDE * plan.block), column);
                tiles.store(b, sum, b.address(self.scores, at), self.index(b, plan.block * 4));
            }
        });
    }

    /// What the model does to scores before the softmax, and the greatest of each query.
    fn weigh_scores(&self, b: &Builder<'m>, block: Block<'m>, tile: Value<'m>, rows: Value<'m>) {
        let plan = self.plan;
        let lowest = self.splat(b, f64::NEG_INFINITY);
        let is_plain = plan.weighted == plan.scores;
        if is_plain && !self.keys_fill_tiles() {
            self.hide_missing(b, block, rows);
        }
        let base = b.muli(tile, self.index(b, ROWS));
        let end = b.muli(block.tiles, self.index(b, TILE_K));
        self.for_rows(b, rows, |b, row| {
            let rows: Vec<_> = (0..SCORE_ROWS).map(|i| b.addi(row, self.index(b, i))).collect();
            let queries: Vec<_> = rows.iter().map(|row| self.query(b, b.addi(base, *row))).collect();
            let start = vec![lowest; SCORE_ROWS];
            let greatest =
                b.for_loop(b.index(0), end, self.index(b, plan.lanes), &start, |b, column, greatest| {
                    let key = b.addi(block.first, column);
                    let mask = self.mask(b, key, self.f.dim(&plan.keys), self.keys_fill_tiles());
                    let next = rows.iter().zip(&queries).zip(greatest).map(|((row, query), greatest)| {
                        let at = self.at(b, *row, plan.block, column);
                        let mut score = b.vector_load(self.scores, at, plan.lanes);
                        if !is_plain {
                            score = self.weigh(b, *query, key, mask, score);
                            b.vector_store(score, self.scores, at);
                        }
                        super::scores::greater(b, score, *greatest)
                    });
                    next.collect()
                });
            for (row, greatest) in rows.into_iter().zip(greatest) {
                self.store_greatest(b, row, greatest);
            }
        });
    }

    /// Scores of keys that are not there count for nothing.
    fn hide_missing(&self, b: &Builder<'m>, block: Block<'m>, rows: Value<'m>) {
        let plan = self.plan;
        let end = b.muli(block.tiles, self.index(b, TILE_K));
        b.if_then(b.cmpi(Compare::SignedLt, block.keys, end), |b| {
            for j in 0..VECTORS {
                let column = b.subi(end, self.index(b, (VECTORS - j) * SIDE));
                let there = b.mask(b.subi(block.keys, column), SIDE);
                let missing = b.xori(there, b.integer(there.ty(), 1));
                b.for_each(b.index(0), rows, |b, row| {
                    let at = self.at(b, row, plan.block, column);
                    b.masked_store(self.splat(b, f64::NEG_INFINITY), self.scores, at, missing);
                });
            }
        });
    }

    /// Rounds exponentials to bf16 as weights, and sums them up as they were.
    fn round_exponentials(&self, b: &Builder<'m>, block: Block<'m>, tile: Value<'m>, rows: Value<'m>) {
        let plan = self.plan;
        let base = b.muli(tile, self.index(b, ROWS));
        let end = b.muli(block.tiles, self.index(b, TILE_K));
        self.for_rows(b, rows, |b, row| {
            let rows: Vec<_> = (0..SCORE_ROWS).map(|i| b.addi(row, self.index(b, i))).collect();
            let number = |b: &Builder<'m>, array: Value<'m>, row: Value<'m>| {
                b.broadcast(b.load(array, row), plan.lanes)
            };
            let shifts: Vec<_> = rows.iter().map(|row| number(b, self.shift, *row)).collect();
            let start = vec![self.splat(b, 0.0); SCORE_ROWS];
            let sums = b.for_loop(b.index(0), end, self.index(b, TILE_K), &start, |b, column, sums| {
                let next = rows.iter().zip(&shifts).zip(sums).map(|((row, shift), sum)| {
                    let at = self.at(b, *row, plan.block, column);
                    let [low, high] = [0, SIDE].map(|lane| {
                        let at = b.addi(at, self.index(b, lane));
                        let score = b.vector_load(self.scores, at, plan.lanes);
                        self.exp(b, b.subf(score, *shift))
                    });
                    b.vector_store(rounded(b, low, high), self.weights, at);
                    b.addf(*sum, b.addf(low, high))
                });
                next.collect()
            });
            for (row, sum) in rows.into_iter().zip(sums) {
                self.add_to_sums(b, b.addi(base, row), number(b, self.scale, row), sum);
            }
        });
    }

    /// Adds the block's weighted values to what is kept of them, which is scaled to the block's greatest scores.
    fn multiply_values(&self, b: &Builder<'m>, block: Block<'m>, tile: Value<'m>) {
        let plan = self.plan;
        let elements = plan.sum_elements();
        let query = b.muli(tile, self.index(b, ROWS));
        b.for_each(b.index(0), self.index(b, ROWS), |b, row| {
            let scale = b.broadcast(b.load(self.scale, row), plan.lanes);
            for column in (0..elements).step_by(plan.lanes) {
                let at = self.at(b, b.addi(query, row), elements, self.index(b, column));
                let sum = b.vector_load(self.outputs, at, plan.lanes);
                b.vector_store(b.mulf(sum, scale), self.outputs, at);
            }
        });
        let tiles = TileRegisters::new(b, MOST_K);
        for columns in groups(elements / SIDE, TILES) {
            let place = |b: &Builder<'m>, i: usize, j: usize| {
                let row = b.addi(query, self.index(b, i * SIDE));
                b.address(self.outputs, self.at(b, row, elements, self.index(b, j * SIDE)))
            };
            let places: Vec<_> = (0..TILES)
                .flat_map(|i| columns.clone().map(move |j| (i, j)))
                .map(|(i, j)| place(b, i, j))
                .collect();
            let row_bytes = self.index(b, elements * 4);
            let start: Vec<_> = places.iter().map(|place| tiles.load_sums(b, *place, row_bytes)).collect();
            let sums = b.for_loop(b.index(0), block.tiles, b.index(1), &start, |b, step, sums| {
                let weights = |i: usize| {
                    let key = b.muli(step, self.index(b, TILE_K));
                    let at = b.addi(self.index(b, i * SIDE * plan.block), key);
                    tiles.load_left(b, b.address(self.weights, at), self.index(b, plan.block * 2))
                };
                let values: Vec<_> = columns
                    .clone()
                    .map(|j| {
                        let tile = b.addi(self.index(b, j * plan.block / TILE_K), step);
                        let at = b.muli(tile, self.index(b, TILE_ELEMENTS));
                        tiles.load_right(b, b.address(self.v, at), b.index(ROW_BYTES))
                    })
                    .collect();
                multiply(b, &tiles, sums, [0, 1].map(weights), &values)
            });
            for (place, sum) in places.into_iter().zip(sums) {
                tiles.store(b, sum, place, row_bytes);
            }
        }
    }

    /// Runs `body` for each few of the rows of a run of queries.
    fn for_rows(&self, b: &Builder<'m>, rows: Value<'m>, body: impl FnOnce(&Builder<'m>, Value<'m>)) {
        b.for_loop(b.index(0), rows, self.index(b, SCORE_ROWS), &[], |b, row, _| {
            body(b, row);
            Vec::new()
        });
    }
}

/// The sums of all pairs of a row of tiles on the left and one on the right.
fn multiply<'m>(
    b: &Builder<'m>,
    tiles: &TileRegisters<'m>,
    sums: &[Value<'m>],
    lefts: [Value<'m>; TILES],
    rights: &[Value<'m>],
) -> Vec<Value<'m>> {
    let pairs = lefts.into_iter().flat_map(|left| rights.iter().map(move |right| (left, *right)));
    sums.iter().zip(pairs).map(|(sum, (left, right))| tiles.multiply_add(b, *sum, left, right)).collect()
}

/// `x0, y0, x1, y1, ...`.
fn paired<'m>(b: &Builder<'m>, x: Value<'m>, y: Value<'m>) -> Value<'m> {
    let lanes: Vec<i64> = (0..SIDE as i64).flat_map(|lane| [lane, lane + SIDE as i64]).collect();
    b.shuffle(x, y, &lanes)
}

/// Two vectors of f32 one after the other, as bf16.
fn rounded<'m>(b: &Builder<'m>, low: Value<'m>, high: Value<'m>) -> Value<'m> {
    let ty = b.vector_type(TILE_K, b.bf16_type());
    as_lanes(b, b.intrinsic("llvm.x86.avx512bf16.cvtne2ps2bf16.512", &[high, low], ty), 16)
}
