//! Attention on operands of bf16 in the machine's tiles: registers of 16 rows of 64 bytes, multiplied as matrices.
//!
//! What lies between the products is done in vectors of f32, on scores that tiles left on the stack; weights are rounded
//! to bf16 when they are stored.

use ired_mlir::{Builder, Compare, Value};

use super::blocks::{Block, Emitter};
use super::{Narrow, Plan, groups};
use crate::kernels::dot::{Dot, as_lanes};
use crate::kernels::tile_registers::{self, ROW_BYTES, STEPS, TileRegisters};

/// Rows of a tile, and columns of one of sums.
pub(super) const SIDE: usize = tile_registers::SIDE as usize;
/// Products that one instruction sums.
pub(super) const TILE_K: usize = 2 * STEPS as usize;
/// Tiles of queries and of keys, or values, that are summed at once: with their operands they fill the eight registers.
const TILES: usize = 2;
/// Queries, and vectors of keys, that are multiplied at once.
pub(super) const ROWS: usize = TILES * SIDE;
pub(super) const VECTORS: usize = TILES;
/// Elements of a tile of pairs.
pub(super) const TILE_ELEMENTS: usize = SIDE * TILE_K;
/// Queries whose scores are looked at side by side.
const SCORE_ROWS: usize = 4;

/// Elements of queries, keys, values and weights on the stack.
pub(super) fn arrays(plan: &Plan) -> [usize; 4] {
    let depth = steps(plan) * TILE_K;
    [plan.rows * depth, plan.block * depth, plan.block * plan.sum_elements(), ROWS * plan.block]
}

/// Steps of the first product.
pub(super) fn steps(plan: &Plan) -> usize {
    plan.depth.div_ceil(TILE_K)
}

impl<'m> Emitter<'_, '_, 'm> {
    /// Takes a block of keys in, for `rows` queries.
    pub(super) fn emit_block_in_tiles(
        &self,
        b: &Builder<'m>,
        narrow: &Narrow,
        block: Block<'m>,
        rows: Value<'m>,
    ) {
        match self.plan.keys_are_rows {
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

    /// Products of a run of queries with all keys of the block.
    fn multiply_keys(&self, b: &Builder<'m>, block: Block<'m>, tile: Value<'m>) {
        let plan = self.plan;
        let tiles = TileRegisters::new(b, Dot::Bf16, TILE_K as i64);
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
        let tiles = TileRegisters::new(b, Dot::Bf16, TILE_K as i64);
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

/// Two vectors of f32 one after the other, as bf16.
fn rounded<'m>(b: &Builder<'m>, low: Value<'m>, high: Value<'m>) -> Value<'m> {
    let ty = b.vector_type(TILE_K, b.bf16_type());
    as_lanes(b, b.intrinsic("llvm.x86.avx512bf16.cvtne2ps2bf16.512", &[high, low], ty), 16)
}
