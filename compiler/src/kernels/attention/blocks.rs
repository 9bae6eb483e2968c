//! The loops of attention: blocks of keys, tiles of queries, and what is kept between blocks.

use ired_mlir::{Builder, Compare, FloatCompare, Type, Value};

use super::Plan;
use crate::kernels::eval::{Axis, Known, Point};
use crate::kernels::function::Function;
use crate::kernels::transpose::turn;

const ALIGNMENT: i64 = 64;
/// Vectors of keys in a tile of one query: as many sums that do not wait for each other. Keys that are rows have a sum each.
const SINGLE_VECTORS: usize = 8;

pub(super) struct Emitter<'f, 'a, 'm> {
    pub(super) f: &'f Function<'a, 'm>,
    pub(super) plan: &'f Plan,
    pub(super) tile: Tile,
    pub(super) element: Type<'m>,
    pub(super) vector: Type<'m>,
    pub(super) batch: Vec<Axis<'m>>,
    /// The first query of the workgroup, and the last one there is.
    pub(super) first: Value<'m>,
    pub(super) last: Value<'m>,
    /// Queries row by row; for tiles filled up with zeros.
    pub(super) q: Value<'m>,
    /// Keys of a block, in panels of a tile's width, and short values column by column; for tiles both in pairs.
    pub(super) k: Value<'m>,
    pub(super) v: Value<'m>,
    /// Scores of a tile, and then their exponentials, which tiles have in a place of their own.
    pub(super) scores: Value<'m>,
    pub(super) weights: Value<'m>,
    /// By query: the greatest score, and by lane the sum of exponentials; the weighted sum of values.
    pub(super) greatest: Value<'m>,
    pub(super) sums: Value<'m>,
    pub(super) outputs: Value<'m>,
    /// Of a tile's queries: what is subtracted from scores, and what older sums are scaled by.
    pub(super) shift: Value<'m>,
    pub(super) scale: Value<'m>,
}

/// Queries, and vectors of keys, of a tile of the first product.
#[derive(Clone, Copy)]
pub(super) struct Tile {
    pub(super) rows: usize,
    pub(super) vectors: usize,
    /// Whether keys are copied first, in the order that tiles need: it takes several queries to be worth it.
    pub(super) packed: bool,
}

impl Tile {
    pub(super) fn keys(self, plan: &Plan) -> usize {
        self.vectors * plan.lanes
    }

    /// Numbers kept for the queries, in whole vectors.
    pub(super) fn numbers(self, plan: &Plan) -> usize {
        self.rows.next_multiple_of(plan.lanes)
    }
}

/// Keys of a block: the first, how many there are, and how many there are in whole tiles.
#[derive(Clone, Copy)]
pub(super) struct Block<'m> {
    pub(super) first: Value<'m>,
    pub(super) keys: Value<'m>,
    pub(super) tiles: Value<'m>,
}

impl<'f, 'a, 'm> Emitter<'f, 'a, 'm> {
    pub(super) fn new(f: &'f Function<'a, 'm>, b: &Builder<'m>, plan: &'f Plan) -> Self {
        let element = b.f32_type();
        let array = |elements: usize| b.stack_array(elements.max(1), element, ALIGNMENT);
        let tile = Tile { rows: plan.tile_rows, vectors: plan.tile_vectors, packed: true };
        let tiles = plan.rows / tile.rows;
        let [q, k, v, weights] = match plan.narrow {
            Some(_) => {
                super::tiles::arrays(plan).map(|elements| b.stack_array(elements, b.int_type(16), ALIGNMENT))
            }
            None => {
                let values = if plan.is_wide() { 0 } else { plan.block * plan.width };
                let [q, k, v] = [plan.rows * plan.depth, plan.block * plan.depth, values].map(array);
                let scores = array(tile.rows * plan.block);
                [q, k, v, scores]
            }
        };
        let scores = match plan.narrow {
            Some(_) => array(tile.rows * plan.block),
            None => weights,
        };
        Self {
            f,
            plan,
            tile,
            element,
            vector: b.vector_type(plan.lanes, element),
            batch: f.split_index(b, f.group[1], &plan.batch),
            first: b.muli(f.group[0], b.index(plan.rows as i64)),
            last: b.subi(f.dim(&plan.queries), b.index(1)),
            q,
            k,
            v,
            scores,
            weights,
            greatest: array(tiles * tile.numbers(plan)),
            sums: array(plan.rows * plan.lanes),
            outputs: array(plan.rows * plan.sum_elements()),
            shift: array(tile.numbers(plan)),
            scale: array(tile.numbers(plan)),
        }
    }

    pub(super) fn emit(&self, b: &Builder<'m>) {
        let (f, plan) = (self.f, self.plan);
        let left = b.subi(f.dim(&plan.queries), self.first);
        let rows = b.minsi(left, b.index(plan.rows as i64));
        if plan.queries.as_static().is_some() || plan.narrow.is_some() {
            return self.emit_rows(b, rows);
        }
        // A model that writes one word after another asks for one query at a time.
        let single = b.cmpi(Compare::Eq, rows, b.index(1));
        let most = if plan.keys_are_rows { 1 } else { SINGLE_VECTORS };
        let vectors = (1..=most).rev().find(|n| plan.block.is_multiple_of(n * plan.lanes));
        let tile = Tile { rows: 1, vectors: vectors.unwrap_or(1), packed: false };
        b.if_then(single, |b| Self { tile, batch: self.batch.clone(), ..*self }.emit_rows(b, rows));
        let several = b.cmpi(Compare::Ne, rows, b.index(1));
        b.if_then(several, |b| self.emit_rows(b, rows));
    }

    fn emit_rows(&self, b: &Builder<'m>, rows: Value<'m>) {
        let (f, plan) = (self.f, self.plan);
        let zero = b.index(0);
        let tiles = b.ceil_div(rows, self.index(b, self.tile.rows));
        self.start(b, tiles);
        let keys = f.dim(&plan.keys);
        let size = b.index(plan.block as i64);
        b.for_loop(zero, keys, size, &[], |b, first, _| {
            let count = b.minsi(b.subi(keys, first), size);
            let tile_keys = self.index(b, self.tile.keys(plan));
            let block = Block { first, keys: count, tiles: b.ceil_div(count, tile_keys) };
            match &plan.narrow {
                Some(narrow) => self.emit_block_in_tiles(b, narrow, block, rows),
                None => self.emit_block(b, block, tiles),
            }
            Vec::new()
        });
        b.for_each(zero, rows, |b, row| self.finish(b, row));
    }

    fn emit_block(&self, b: &Builder<'m>, block: Block<'m>, tiles: Value<'m>) {
        let is_wide = self.plan.is_wide();
        match (self.tile.packed, self.plan.keys_are_rows) {
            (true, true) => self.turn_rows(b, block),
            (true, false) => self.pack_keys(b, block),
            (false, _) => {}
        }
        if !is_wide {
            self.pack_values(b, block);
        }
        b.for_each(b.index(0), tiles, |b, tile| {
            self.emit_scores(b, block, tile);
            self.emit_rescale(b, tile);
            self.emit_exponentials(b, block, tile);
            match is_wide {
                true => self.emit_wide(b, block, tile),
                false => self.emit_narrow(b, block, tile),
            }
        });
    }

    pub(super) fn index(&self, b: &Builder<'m>, value: usize) -> Value<'m> {
        b.index(value as i64)
    }

    /// `row * stride + column`.
    pub(super) fn at(&self, b: &Builder<'m>, row: Value<'m>, stride: usize, column: Value<'m>) -> Value<'m> {
        b.addi(b.muli(row, self.index(b, stride)), column)
    }

    pub(super) fn splat(&self, b: &Builder<'m>, value: f64) -> Value<'m> {
        b.broadcast(b.float(self.element, value), self.plan.lanes)
    }

    /// Elements of this workgroup's batch.
    pub(super) fn point(&self, axes: [Axis<'m>; 2], lanes: usize, mask: Option<Value<'m>>) -> Point<'m> {
        Point::axes([self.batch.as_slice(), &axes].concat(), lanes, mask)
    }

    /// The query in place `row` of the workgroup; the last one there is for places after it.
    pub(super) fn query(&self, b: &Builder<'m>, row: Value<'m>) -> Value<'m> {
        b.minsi(b.addi(self.first, row), self.last)
    }

    /// The lanes from `column` on that are below `end`; `None` for all.
    pub(super) fn mask(
        &self,
        b: &Builder<'m>,
        column: Value<'m>,
        end: Value<'m>,
        whole: bool,
    ) -> Option<Value<'m>> {
        (!whole).then(|| b.mask(b.subi(end, column), self.plan.lanes))
    }

    pub(super) fn keys_fill_tiles(&self) -> bool {
        self.plan.keys.modulo(&(self.tile.keys(self.plan) as i64).into()).as_static() == Some(0)
    }

    /// Copies the queries, and makes the sums empty.
    fn start(&self, b: &Builder<'m>, tiles: Value<'m>) {
        let plan = self.plan;
        let rows = b.muli(tiles, self.index(b, self.tile.rows));
        let (zero, lanes) = (b.index(0), self.index(b, plan.lanes));
        b.for_each(zero, rows, |b, row| {
            match &plan.narrow {
                Some(narrow) => self.copy_rounded_query(b, narrow, row),
                None => self.copy_query(b, row),
            }
            b.vector_store(self.splat(b, 0.0), self.sums, b.muli(row, lanes));
            let elements = self.index(b, plan.sum_elements());
            b.for_loop(zero, elements, lanes, &[], |b, column, _| {
                b.vector_store(self.splat(b, 0.0), self.outputs, b.addi(b.muli(row, elements), column));
                Vec::new()
            });
        });
        let numbers = b.muli(tiles, self.index(b, self.tile.numbers(plan)));
        b.for_loop(zero, numbers, lanes, &[], |b, at, _| {
            b.vector_store(self.splat(b, f64::NEG_INFINITY), self.greatest, at);
            Vec::new()
        });
    }

    fn copy_query(&self, b: &Builder<'m>, row: Value<'m>) {
        let plan = self.plan;
        let query = self.query(b, row);
        let depth = self.index(b, plan.depth);
        b.for_loop(b.index(0), depth, self.index(b, plan.lanes), &[], |b, column, _| {
            let mask = self.mask(b, column, depth, plan.depth.is_multiple_of(plan.lanes));
            let point = self.point([Axis::at(query), Axis::along(column)], plan.lanes, mask);
            let x = self.f.eval_lanes(b, plan.q, &point, &mut Known::default());
            let at = self.at(b, row, plan.depth, column);
            match mask {
                Some(mask) => b.masked_store(x, self.q, at, mask),
                None => b.vector_store(x, self.q, at),
            }
            Vec::new()
        });
    }

    /// Keys in panels: all of a tile's keys for one element of the depth follow each other.
    fn pack_keys(&self, b: &Builder<'m>, block: Block<'m>) {
        let plan = self.plan;
        let depth = self.index(b, plan.depth);
        b.for_each(b.index(0), block.tiles, |b, tile| {
            b.for_each(b.index(0), depth, |b, d| {
                for j in 0..self.tile.vectors {
                    let lane = self.index(b, j * plan.lanes);
                    let column = b.addi(self.at(b, tile, self.tile.keys(plan), block.first), lane);
                    let x = self.key(b, d, column);
                    let at = self.at(b, b.addi(b.muli(tile, depth), d), self.tile.keys(plan), lane);
                    b.vector_store(x, self.k, at);
                }
            });
        });
    }

    /// The same of keys that lie in memory one after another.
    fn turn_rows(&self, b: &Builder<'m>, block: Block<'m>) {
        let plan = self.plan;
        let depth = self.index(b, plan.depth);
        b.for_each(b.index(0), block.tiles, |b, tile| {
            b.for_loop(b.index(0), depth, self.index(b, plan.lanes), &[], |b, d, _| {
                for j in 0..self.tile.vectors {
                    let lane = self.index(b, j * plan.lanes);
                    let first = b.addi(self.at(b, tile, self.tile.keys(plan), block.first), lane);
                    for (i, x) in turn(b, self.key_rows(b, d, first)).into_iter().enumerate() {
                        let row = b.addi(self.at(b, tile, plan.depth, d), self.index(b, i));
                        b.vector_store(x, self.k, self.at(b, row, self.tile.keys(plan), lane));
                    }
                }
                Vec::new()
            });
        });
    }

    /// `count` keys from `first` on; the last one there is for those after it, whose scores nobody looks at.
    pub(super) fn known_keys(
        &self,
        b: &Builder<'m>,
        first: Value<'m>,
        count: usize,
    ) -> impl Iterator<Item = Value<'m>> {
        let last = b.subi(self.f.dim(&self.plan.keys), b.index(1));
        (0..count).map(move |i| b.minsi(b.addi(first, b.index(i as i64)), last))
    }

    /// A vector of elements from `d` on of each key from `first` on.
    pub(super) fn key_rows(&self, b: &Builder<'m>, d: Value<'m>, first: Value<'m>) -> Vec<Value<'m>> {
        let keys = self.known_keys(b, first, self.plan.lanes);
        keys.map(|key| self.read_or_zero(b, self.plan.k, [Axis::along(d), Axis::at(key)], None)).collect()
    }

    /// Narrow values column by column: vectors of keys.
    fn pack_values(&self, b: &Builder<'m>, block: Block<'m>) {
        let plan = self.plan;
        let end = b.muli(block.tiles, self.index(b, self.tile.keys(plan)));
        b.for_loop(b.index(0), end, self.index(b, plan.lanes), &[], |b, key, _| {
            let row = b.addi(block.first, key);
            let mask = self.mask(b, row, self.f.dim(&plan.keys), self.keys_fill_tiles());
            for column in 0..plan.width {
                let axes = [Axis::along(row), Axis::at(self.index(b, column))];
                let x = self.read_or_zero(b, plan.v, axes, mask);
                b.vector_store(x, self.v, b.addi(self.index(b, column * plan.block), key));
            }
            Vec::new()
        });
    }

    /// Element `d` of the keys from `column` on.
    pub(super) fn key(&self, b: &Builder<'m>, d: Value<'m>, column: Value<'m>) -> Value<'m> {
        let mask = self.mask(b, column, self.f.dim(&self.plan.keys), self.keys_fill_tiles());
        self.read_or_zero(b, self.plan.k, [Axis::at(d), Axis::along(column)], mask)
    }

    fn read_or_zero(
        &self,
        b: &Builder<'m>,
        value: ired_graph::ValueId,
        axes: [Axis<'m>; 2],
        mask: Option<Value<'m>>,
    ) -> Value<'m> {
        let point = self.point(axes, self.plan.lanes, mask);
        let x = self.f.eval_lanes(b, value, &point, &mut Known::default());
        mask.map_or(x, |mask| b.select(mask, x, self.splat(b, 0.0)))
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
            let point = self.point([Axis::at(query), Axis::along(column)], lanes, mask);
            let (offset, _) = f.offset(b, f.output(), &point);
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
