//! The loops of attention: blocks of keys, tiles of queries, and what is kept between blocks.

use std::ops::Range;

use ired_mlir::{Builder, Compare, FloatCompare, Type, Value};

use super::Plan;
use crate::kernels::eval::nested::multiply_add;
use crate::kernels::eval::{Axis, Known, Point};
use crate::kernels::function::Function;
use crate::kernels::math::Math;

const ALIGNMENT: i64 = 64;
/// Queries whose exponentials are computed side by side.
const EXP_ROWS: usize = 4;

pub(super) struct Emitter<'f, 'a, 'm> {
    f: &'f Function<'a, 'm>,
    plan: &'f Plan,
    element: Type<'m>,
    vector: Type<'m>,
    batch: Vec<Axis<'m>>,
    /// The first query of the workgroup, and the last one there is.
    first: Value<'m>,
    last: Value<'m>,
    /// Queries row by row.
    q: Value<'m>,
    /// Keys of a block, in panels of a tile's width, and narrow values column by column.
    k: Value<'m>,
    v: Value<'m>,
    /// Scores of a tile, and then their exponentials.
    scores: Value<'m>,
    /// By query: the greatest score, and by lane the sum of exponentials; the weighted sum of values.
    greatest: Value<'m>,
    sums: Value<'m>,
    outputs: Value<'m>,
    /// Of a tile's queries: what is subtracted from scores, and what older sums are scaled by.
    shift: Value<'m>,
    scale: Value<'m>,
}

/// Keys of a block: the first, how many there are, and how many there are in whole tiles.
#[derive(Clone, Copy)]
struct Block<'m> {
    first: Value<'m>,
    keys: Value<'m>,
    tiles: Value<'m>,
}

impl<'f, 'a, 'm> Emitter<'f, 'a, 'm> {
    pub(super) fn new(f: &'f Function<'a, 'm>, b: &Builder<'m>, plan: &'f Plan) -> Self {
        let element = b.f32_type();
        let array = |elements: usize| b.stack_array(elements.max(1), element, ALIGNMENT);
        let tiles = plan.rows / plan.tile_rows;
        Self {
            f,
            plan,
            element,
            vector: b.vector_type(plan.lanes, element),
            batch: f.split_index(b, f.group[1], &plan.batch),
            first: b.muli(f.group[0], b.index(plan.rows as i64)),
            last: b.subi(f.dim(&plan.queries), b.index(1)),
            q: array(plan.rows * plan.depth),
            k: array(plan.block * plan.depth),
            v: array(if plan.is_wide() { 0 } else { plan.block * plan.width }),
            scores: array(plan.tile_rows * plan.block),
            greatest: array(tiles * plan.tile_numbers()),
            sums: array(plan.rows * plan.lanes),
            outputs: array(plan.rows * plan.sum_elements()),
            shift: array(plan.tile_numbers()),
            scale: array(plan.tile_numbers()),
        }
    }

    pub(super) fn emit(&self, b: &Builder<'m>) {
        let (f, plan) = (self.f, self.plan);
        let (zero, tile_rows) = (b.index(0), b.index(plan.tile_rows as i64));
        let left = b.subi(f.dim(&plan.queries), self.first);
        let rows = b.minsi(left, b.index(plan.rows as i64));
        let tiles = b.ceil_div(rows, tile_rows);
        self.start(b, tiles);
        let keys = f.dim(&plan.keys);
        let size = b.index(plan.block as i64);
        b.for_loop(zero, keys, size, &[], |b, first, _| {
            let count = b.minsi(b.subi(keys, first), size);
            let tile_keys = b.index(plan.tile_keys() as i64);
            let block = Block { first, keys: count, tiles: b.ceil_div(count, tile_keys) };
            self.pack_keys(b, block);
            if !plan.is_wide() {
                self.pack_values(b, block);
            }
            b.for_each(zero, tiles, |b, tile| {
                self.emit_scores(b, block, tile);
                self.emit_rescale(b, tile);
                self.emit_exponentials(b, block, tile);
                match plan.is_wide() {
                    true => self.emit_wide(b, block, tile),
                    false => self.emit_narrow(b, block, tile),
                }
            });
            Vec::new()
        });
        b.for_each(zero, rows, |b, row| self.finish(b, row));
    }

    fn index(&self, b: &Builder<'m>, value: usize) -> Value<'m> {
        b.index(value as i64)
    }

    /// `row * stride + column`.
    fn at(&self, b: &Builder<'m>, row: Value<'m>, stride: usize, column: Value<'m>) -> Value<'m> {
        b.addi(b.muli(row, self.index(b, stride)), column)
    }

    fn splat(&self, b: &Builder<'m>, value: f64) -> Value<'m> {
        b.broadcast(b.float(self.element, value), self.plan.lanes)
    }

    /// The query in place `row` of the workgroup; the last one there is for places after it.
    fn query(&self, b: &Builder<'m>, row: Value<'m>) -> Value<'m> {
        b.minsi(b.addi(self.first, row), self.last)
    }

    /// The lanes from `column` on that are below `end`; `None` for all.
    fn mask(&self, b: &Builder<'m>, column: Value<'m>, end: Value<'m>, whole: bool) -> Option<Value<'m>> {
        (!whole).then(|| b.mask(b.subi(end, column), self.plan.lanes))
    }

    fn keys_fill_tiles(&self) -> bool {
        self.plan.keys.modulo(&(self.plan.tile_keys() as i64).into()).as_static() == Some(0)
    }

    /// Copies the queries, and makes the sums empty.
    fn start(&self, b: &Builder<'m>, tiles: Value<'m>) {
        let (f, plan) = (self.f, self.plan);
        let rows = b.muli(tiles, self.index(b, plan.tile_rows));
        let (zero, lanes) = (b.index(0), self.index(b, plan.lanes));
        b.for_each(zero, rows, |b, row| {
            let query = self.query(b, row);
            let depth = self.index(b, plan.depth);
            b.for_loop(zero, depth, lanes, &[], |b, column, _| {
                let mask = self.mask(b, column, depth, plan.depth.is_multiple_of(plan.lanes));
                let mut axes = self.batch.clone();
                axes.extend([Axis::at(query), Axis::along(column)]);
                let point = Point::axes(axes, plan.lanes, mask);
                let x = f.eval_lanes(b, plan.q, &point, &mut Known::default());
                let at = self.at(b, row, plan.depth, column);
                match mask {
                    Some(mask) => b.masked_store(x, self.q, at, mask),
                    None => b.vector_store(x, self.q, at),
                }
                Vec::new()
            });
            b.vector_store(self.splat(b, 0.0), self.sums, b.muli(row, lanes));
            let elements = self.index(b, plan.sum_elements());
            b.for_loop(zero, elements, lanes, &[], |b, column, _| {
                b.vector_store(self.splat(b, 0.0), self.outputs, b.addi(b.muli(row, elements), column));
                Vec::new()
            });
        });
        let numbers = b.muli(tiles, self.index(b, plan.tile_numbers()));
        b.for_loop(zero, numbers, lanes, &[], |b, at, _| {
            b.vector_store(self.splat(b, f64::NEG_INFINITY), self.greatest, at);
            Vec::new()
        });
    }

    /// Keys in panels: all of a tile's keys for one element of the depth follow each other.
    fn pack_keys(&self, b: &Builder<'m>, block: Block<'m>) {
        let (f, plan) = (self.f, self.plan);
        let depth = self.index(b, plan.depth);
        b.for_each(b.index(0), block.tiles, |b, tile| {
            b.for_each(b.index(0), depth, |b, d| {
                for j in 0..plan.tile_vectors {
                    let lane = self.index(b, j * plan.lanes);
                    let column = b.addi(self.at(b, tile, plan.tile_keys(), block.first), lane);
                    let mask = self.mask(b, column, f.dim(&plan.keys), self.keys_fill_tiles());
                    let mut axes = self.batch.clone();
                    axes.extend([Axis::at(d), Axis::along(column)]);
                    let x = self.read_or_zero(b, plan.k, axes, mask);
                    let at = self.at(b, b.addi(b.muli(tile, depth), d), plan.tile_keys(), lane);
                    b.vector_store(x, self.k, at);
                }
            });
        });
    }

    /// Narrow values column by column: vectors of keys.
    fn pack_values(&self, b: &Builder<'m>, block: Block<'m>) {
        let plan = self.plan;
        let end = b.muli(block.tiles, self.index(b, plan.tile_keys()));
        b.for_loop(b.index(0), end, self.index(b, plan.lanes), &[], |b, key, _| {
            let row = b.addi(block.first, key);
            let mask = self.mask(b, row, self.f.dim(&plan.keys), self.keys_fill_tiles());
            for column in 0..plan.width {
                let mut axes = self.batch.clone();
                axes.extend([Axis::along(row), Axis::at(self.index(b, column))]);
                let x = self.read_or_zero(b, plan.v, axes, mask);
                b.vector_store(x, self.v, b.addi(self.index(b, column * plan.block), key));
            }
            Vec::new()
        });
    }

    fn read_or_zero(
        &self,
        b: &Builder<'m>,
        value: ired_graph::ValueId,
        axes: Vec<Axis<'m>>,
        mask: Option<Value<'m>>,
    ) -> Value<'m> {
        let point = Point::axes(axes, self.plan.lanes, mask);
        let x = self.f.eval_lanes(b, value, &point, &mut Known::default());
        mask.map_or(x, |mask| b.select(mask, x, self.splat(b, 0.0)))
    }

    /// Scores of a tile of queries and all keys of the block, and the greatest of each query.
    fn emit_scores(&self, b: &Builder<'m>, block: Block<'m>, tile: Value<'m>) {
        let plan = self.plan;
        let base = b.muli(tile, self.index(b, plan.tile_rows));
        let queries: Vec<_> =
            (0..plan.tile_rows).map(|i| self.query(b, b.addi(base, self.index(b, i)))).collect();
        let lowest = self.splat(b, f64::NEG_INFINITY);
        let start = vec![lowest; plan.tile_rows];
        let greatest = b.for_loop(b.index(0), block.tiles, b.index(1), &start, |b, panel, greatest| {
            let sums = self.multiply(b, base, panel);
            let mut greatest = greatest.to_vec();
            for j in 0..plan.tile_vectors {
                let column = self.at(b, panel, plan.tile_keys(), self.index(b, j * plan.lanes));
                let key = b.addi(block.first, column);
                let mask = self.mask(b, key, self.f.dim(&plan.keys), self.keys_fill_tiles());
                for (i, &query) in queries.iter().enumerate() {
                    let mut axes = self.batch.clone();
                    axes.extend([Axis::at(query), Axis::along(key)]);
                    let point = Point::axes(axes, plan.lanes, mask);
                    let mut known = Known::bind(plan.scores, sums[i * plan.tile_vectors + j]);
                    let score = self.f.eval_lanes(b, plan.weighted, &point, &mut known);
                    let score = mask.map_or(score, |mask| b.select(mask, score, lowest));
                    b.vector_store(score, self.scores, b.addi(self.index(b, i * plan.block), column));
                    greatest[i] = greater(b, score, greatest[i]);
                }
            }
            greatest
        });
        for (i, greatest) in greatest.into_iter().enumerate() {
            let number = crate::kernels::rows::halve(b, greatest, &|b, x, y| greater(b, x, y));
            b.store(number, self.shift, self.index(b, i));
        }
    }

    /// Products of a tile of queries with a panel of keys.
    fn multiply(&self, b: &Builder<'m>, base: Value<'m>, panel: Value<'m>) -> Vec<Value<'m>> {
        let plan = self.plan;
        let depth = self.index(b, plan.depth);
        let zeros = vec![self.splat(b, 0.0); plan.tile_rows * plan.tile_vectors];
        let first = b.muli(panel, depth);
        b.for_loop(b.index(0), depth, b.index(1), &zeros, |b, d, sums| {
            let keys = b.muli(b.addi(first, d), self.index(b, plan.tile_keys()));
            let keys: Vec<_> = (0..plan.tile_vectors)
                .map(|j| b.vector_load(self.k, b.addi(keys, self.index(b, j * plan.lanes)), plan.lanes))
                .collect();
            let mut next = sums.to_vec();
            for i in 0..plan.tile_rows {
                let at = self.at(b, b.addi(base, self.index(b, i)), plan.depth, d);
                let x = b.broadcast(b.load(self.q, at), plan.lanes);
                for (j, key) in keys.iter().enumerate() {
                    let sum = &mut next[i * plan.tile_vectors + j];
                    *sum = multiply_add(b, x, *key, *sum);
                }
            }
            next
        })
    }

    /// Takes the block's greatest scores in: what to subtract from scores, and what to scale older sums by.
    fn emit_rescale(&self, b: &Builder<'m>, tile: Value<'m>) {
        let plan = self.plan;
        for at in (0..plan.tile_numbers()).step_by(plan.lanes) {
            let column = self.index(b, at);
            let kept = self.at(b, tile, plan.tile_numbers(), column);
            let older = b.vector_load(self.greatest, kept, plan.lanes);
            let newer = greater(b, b.vector_load(self.shift, column, plan.lanes), older);
            // Without any finite score yet nothing must become NaN: a later block may have one.
            let none = b.cmpf(FloatCompare::Eq, newer, self.splat(b, f64::NEG_INFINITY));
            let shift = b.select(none, self.splat(b, 0.0), newer);
            let scale = Math::new(b, self.vector).exp(b.subf(older, shift));
            b.vector_store(newer, self.greatest, kept);
            b.vector_store(shift, self.shift, column);
            b.vector_store(scale, self.scale, column);
        }
    }

    /// Puts exponentials in the place of scores, and sums them up.
    fn emit_exponentials(&self, b: &Builder<'m>, block: Block<'m>, tile: Value<'m>) {
        let plan = self.plan;
        let base = b.muli(tile, self.index(b, plan.tile_rows));
        let end = b.muli(block.tiles, self.index(b, plan.tile_keys()));
        for rows in groups(plan.tile_rows, EXP_ROWS) {
            let number =
                |array: Value<'m>, i: usize| b.broadcast(b.load(array, self.index(b, i)), plan.lanes);
            let shifts: Vec<_> = rows.clone().map(|i| number(self.shift, i)).collect();
            let start = vec![self.splat(b, 0.0); rows.len()];
            let sums = b.for_loop(b.index(0), end, self.index(b, plan.lanes), &start, |b, column, sums| {
                let mut next = Vec::with_capacity(sums.len());
                for ((i, shift), sum) in rows.clone().zip(&shifts).zip(sums) {
                    let at = b.addi(self.index(b, i * plan.block), column);
                    let score = b.vector_load(self.scores, at, plan.lanes);
                    let weight = Math::new(b, self.vector).exp(b.subf(score, *shift));
                    b.vector_store(weight, self.scores, at);
                    next.push(b.addf(*sum, weight));
                }
                next
            });
            for (i, sum) in rows.zip(sums) {
                let at = b.muli(b.addi(base, self.index(b, i)), self.index(b, plan.lanes));
                let older = b.vector_load(self.sums, at, plan.lanes);
                b.vector_store(multiply_add(b, older, number(self.scale, i), sum), self.sums, at);
            }
        }
    }

    /// Adds the block's values, vectors of one value each.
    fn emit_wide(&self, b: &Builder<'m>, block: Block<'m>, tile: Value<'m>) {
        let plan = self.plan;
        let base = b.muli(tile, self.index(b, plan.tile_rows));
        let most = if plan.registers >= 32 { 4 } else { 2 };
        for vectors in groups(plan.width.div_ceil(plan.lanes), most) {
            let rows = ((plan.registers - 1 - vectors.len()) / vectors.len()).max(1);
            for rows in groups(plan.tile_rows, rows.min(plan.tile_rows)) {
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
        let mut axes = self.batch.clone();
        axes.extend([Axis::at(row), Axis::along(column)]);
        self.f.eval_lanes(b, plan.v, &Point::axes(axes, plan.lanes, mask), &mut Known::default())
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
    fn emit_narrow(&self, b: &Builder<'m>, block: Block<'m>, tile: Value<'m>) {
        let plan = self.plan;
        let base = b.muli(tile, self.index(b, plan.tile_rows));
        let end = b.muli(block.tiles, self.index(b, plan.tile_keys()));
        let sums = if plan.registers >= 32 { 24 } else { 8 };
        for rows in groups(plan.tile_rows, (sums / plan.width.max(1)).clamp(1, plan.tile_rows)) {
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

    /// Divides by the sum of exponentials, and stores.
    fn finish(&self, b: &Builder<'m>, row: Value<'m>) {
        let (f, plan) = (self.f, self.plan);
        let sum =
            b.reduce("add", b.vector_load(self.sums, b.muli(row, self.index(b, plan.lanes)), plan.lanes));
        let (zero, inverse) = (b.float(self.element, 0.0), b.divf(b.float(self.element, 1.0), sum));
        // No keys at all give zeros.
        let some = b.cmpi(Compare::Ne, f.dim(&plan.keys), b.index(0));
        let inverse = b.select(some, inverse, zero);
        let counts = b.cmpf(FloatCompare::Gt, sum, zero);
        let finish = |b: &Builder<'m>, x: Value<'m>, lanes: usize| {
            let spread = |x: Value<'m>| if lanes > 1 { b.broadcast(x, lanes) } else { x };
            let y = b.mulf(x, spread(inverse));
            if plan.zero_nans { b.select(spread(counts), y, spread(zero)) } else { y }
        };
        let query = b.addi(self.first, row);
        let store = |column: Value<'m>, lanes: usize, mask: Option<Value<'m>>, x: Value<'m>| {
            let mut axes = self.batch.clone();
            axes.extend([Axis::at(query), Axis::along(column)]);
            let (offset, _) = f.offset(b, f.output(), &Point::axes(axes, lanes, mask));
            f.write(b, f.output(), offset, x, mask);
        };
        let elements = plan.sum_elements();
        if plan.is_wide() {
            for j in 0..plan.width.div_ceil(plan.lanes) {
                let column = self.index(b, j * plan.lanes);
                let whole = (j + 1) * plan.lanes <= plan.width;
                let mask = self.mask(b, column, self.index(b, plan.width), whole);
                let x = b.vector_load(self.outputs, self.at(b, row, elements, column), plan.lanes);
                store(column, plan.lanes, mask, finish(b, x, plan.lanes));
            }
        } else {
            for column in 0..plan.width {
                let at = self.at(b, row, elements, self.index(b, column * plan.lanes));
                let x = b.reduce("add", b.vector_load(self.outputs, at, plan.lanes));
                store(self.index(b, column), 1, None, finish(b, x, 1));
            }
        }
    }
}

/// The greater of two, where neither is NaN.
fn greater<'m>(b: &Builder<'m>, x: Value<'m>, y: Value<'m>) -> Value<'m> {
    b.select(b.cmpf(FloatCompare::Gt, x, y), x, y)
}

/// `0..count` in runs of up to `size`.
fn groups(count: usize, size: usize) -> Vec<Range<usize>> {
    (0..count).step_by(size).map(|start| start..(start + size).min(count)).collect()
}
