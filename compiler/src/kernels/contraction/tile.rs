//! The loops of a product: panels, blocks of rows, tiles, `k`; and the epilogue on accumulators.

use ired_graph::ValueId;
use ired_mlir::{Builder, Compare, Type, Value};

use super::{Plan, divisor};
use crate::kernels::arithmetic::{cast, from_storage, register_type};
use crate::kernels::bytes::{DEPTH, Dot, word};
use crate::kernels::eval::nested::{accumulator, multiply_add};
use crate::kernels::eval::{Axis, Known, Place, Point, spread, zero_of};
use crate::kernels::function::Function;

pub(super) struct Emitter<'f, 'a, 'm> {
    f: &'f Function<'a, 'm>,
    plan: &'f Plan,
    lhs: ValueId,
    rhs: ValueId,
    /// The product itself, and what is stored.
    result: ValueId,
    output: ValueId,
    /// Index of this workgroup's batch, axis by axis, and as a number.
    batch: Vec<Axis<'m>>,
    batch_number: Value<'m>,
    n: Value<'m>,
    k: Value<'m>,
    vector: Type<'m>,
}

/// Nodes from which on an epilogue is not repeated in a tile of every size.
const HEAVY_NODES: usize = 8;

/// A row of the product: where it is read and written.
struct Row<'m> {
    /// Index before the columns.
    axes: Vec<Axis<'m>>,
    /// First element on the left-hand side, where that is in memory.
    lhs_start: Value<'m>,
    output_start: Value<'m>,
}

impl<'f, 'a, 'm> Emitter<'f, 'a, 'm> {
    pub(super) fn new(f: &'f Function<'a, 'm>, b: &Builder<'m>, plan: &'f Plan) -> Self {
        let root = f.root();
        let result = root.results[0];
        let batch = f.split_index(b, f.group[2], &plan.batch);
        let element = register_type(b, accumulator(f.dtype(result)));
        Self {
            f,
            plan,
            lhs: root.operands[0],
            rhs: root.operands[1],
            result,
            output: f.output(),
            batch,
            batch_number: f.group[2],
            n: f.dim(&plan.n),
            k: f.dim(&plan.k),
            vector: b.vector_type(plan.lanes, element),
        }
    }

    pub(super) fn emit(&self, b: &Builder<'m>) {
        let (plan, f) = (self.plan, self.f);
        let all_panels = f.dim(&plan.n.ceil_div(&plan.width().into()));
        let panels = b.index(plan.panels);
        let first_panel = b.muli(f.group[0], panels);
        let last_panel = b.minsi(b.addi(first_panel, panels), all_panels);
        let rows = b.index(plan.rows);
        let first_row = b.muli(f.group[1], rows);
        let last_row = b.minsi(b.addi(first_row, rows), f.dim(&plan.m));
        b.for_each(first_panel, last_panel, |b, panel| self.emit_panel(b, panel, first_row, last_row));
    }

    fn emit_panel(&self, b: &Builder<'m>, panel: Value<'m>, first: Value<'m>, last: Value<'m>) {
        let m0 = self.plan.m0 as i64;
        let size = b.index(m0);
        let column = b.muli(panel, b.index(self.plan.width()));
        let masks = self.masks(b, column);
        let rest = b.remui(b.subi(last, first), size);
        let full = b.subi(last, rest);
        b.for_loop(first, full, size, &[], |b, row, _| {
            self.emit_tile(b, panel, column, row, m0, &masks);
            Vec::new()
        });
        // All blocks but the last are whole, and the number of rows has known divisors.
        let cases: Vec<i64> = match self.plan.m.as_static() {
            Some(m) => Some(m % m0).filter(|rest| *rest != 0).into_iter().collect(),
            None => {
                let unit = divisor(&self.plan.m);
                (1..m0).filter(|rest| (0..m0).any(|n| (unit % m0 * n) % m0 == *rest)).collect()
            }
        };
        if cases.is_empty() {
            return;
        }
        if cases.len() > 2 && self.f.dispatch.nodes.len() > HEAVY_NODES {
            return self.emit_halves(b, panel, column, full, rest, &masks);
        }
        b.switch(rest, &cases, |b, count| self.emit_tile(b, panel, column, full, count, &masks));
    }

    /// The rows that are left, as tiles of 4, 2 and 1: less code than a tile of every size.
    fn emit_halves(
        &self,
        b: &Builder<'m>,
        panel: Value<'m>,
        column: Value<'m>,
        first: Value<'m>,
        rest: Value<'m>,
        masks: &[Option<Value<'m>>],
    ) {
        let zero = b.index(0);
        let mut row = first;
        for size in [4, 2, 1] {
            let bit = b.andi(rest, b.index(size));
            let set = b.cmpi(Compare::Ne, bit, zero);
            b.if_then(set, |b| self.emit_tile(b, panel, column, row, size, masks));
            row = b.addi(row, bit);
        }
    }

    /// One mask a vector of the panel, where columns may be missing.
    fn masks(&self, b: &Builder<'m>, column: Value<'m>) -> Vec<Option<Value<'m>>> {
        let width = self.plan.width();
        let whole = self.plan.n.modulo(&width.into()).as_static() == Some(0);
        (0..self.plan.n1)
            .map(|j| {
                if whole {
                    return None;
                }
                let start = b.addi(column, b.index((j * self.plan.lanes) as i64));
                Some(b.mask(b.subi(self.n, start), self.plan.lanes))
            })
            .collect()
    }

    fn emit_tile(
        &self,
        b: &Builder<'m>,
        panel: Value<'m>,
        column: Value<'m>,
        first: Value<'m>,
        count: i64,
        masks: &[Option<Value<'m>>],
    ) {
        let plan = self.plan;
        let rows: Vec<Row<'m>> = (0..count).map(|i| self.row(b, b.addi(first, b.index(i)))).collect();
        // Few accumulators wait for each other: several steps of `k` at once make more of them.
        let tile = rows.len() * plan.n1;
        let unroll: usize = if tile >= 8 {
            1
        } else if tile >= 4 {
            2
        } else {
            4
        };
        let zero = zero_of(b, self.vector);
        // Bytes go by in whole groups, and then what is left of one.
        let bytes = plan.bytes.zip(plan.k.as_static());
        let steps = bytes.map_or(self.k, |(_, k)| b.index(k / DEPTH));
        let step = b.index(unroll as i64);
        let rest = b.remui(steps, step);
        let full = b.subi(steps, rest);
        let sums = b.for_loop(b.index(0), full, step, &vec![zero; tile * unroll], |b, k, sums| {
            let mut next = sums.to_vec();
            for u in 0..unroll {
                let k = b.addi(k, b.index(u as i64));
                self.emit_step(b, panel, column, k, &rows, masks, &mut next[u * tile..(u + 1) * tile]);
            }
            next
        });
        let mut sums: Vec<Value<'m>> = (0..tile)
            .map(|i| {
                let parts = (0..unroll).map(|u| sums[u * tile + i]);
                parts.reduce(|x, y| self.add(b, x, y)).unwrap_or(zero)
            })
            .collect();
        if b.known(rest) != Some(0) && unroll > 1 {
            sums = b.for_loop(full, steps, b.index(1), &sums, |b, k, sums| {
                let mut next = sums.to_vec();
                self.emit_step(b, panel, column, k, &rows, masks, &mut next);
                next
            });
        }
        if let Some((dot, k)) = bytes.filter(|(_, k)| k % DEPTH != 0) {
            self.emit_byte_step(b, dot, panel, b.index(k / DEPTH), k % DEPTH, &rows, &mut sums);
        }
        for (i, row) in rows.iter().enumerate() {
            for (j, mask) in masks.iter().enumerate() {
                let at = b.addi(column, b.index((j * plan.lanes) as i64));
                self.emit_store(b, row, at, sums[i * plan.n1 + j], *mask);
            }
        }
    }

    fn add(&self, b: &Builder<'m>, x: Value<'m>, y: Value<'m>) -> Value<'m> {
        if self.vector.is_float() { b.addf(x, y) } else { b.addi(x, y) }
    }

    fn row(&self, b: &Builder<'m>, number: Value<'m>) -> Row<'m> {
        let plan = self.plan;
        let mut axes = self.batch.clone();
        axes.extend(self.f.split_index(b, number, &plan.row_shape));
        let all = b.addi(b.muli(self.batch_number, self.f.dim(&plan.m)), number);
        let all = if plan.batch.is_empty() { number } else { all };
        Row { axes, lhs_start: b.muli(all, self.k), output_start: b.muli(all, self.n) }
    }

    /// One step of `k` for every accumulator of the tile.
    #[allow(clippy::too_many_arguments, reason = "a tile's place has this many parts")]
    fn emit_step(
        &self,
        b: &Builder<'m>,
        panel: Value<'m>,
        column: Value<'m>,
        k: Value<'m>,
        rows: &[Row<'m>],
        masks: &[Option<Value<'m>>],
        sums: &mut [Value<'m>],
    ) {
        let (f, plan) = (self.f, self.plan);
        if let Some(dot) = plan.bytes {
            return self.emit_byte_step(b, dot, panel, k, DEPTH, rows, sums);
        }
        let to = accumulator(f.dtype(self.result));
        let rights: Vec<Value<'m>> = masks
            .iter()
            .enumerate()
            .map(|(j, mask)| {
                let y = self.right(b, panel, column, k, j, *mask);
                spread(b, cast(b, f.dtype(self.rhs), to, y), plan.lanes)
            })
            .collect();
        for (i, row) in rows.iter().enumerate() {
            let x = self.left(b, row, k);
            let x = spread(b, cast(b, f.dtype(self.lhs), to, x), plan.lanes);
            for (j, y) in rights.iter().enumerate() {
                let sum = &mut sums[i * plan.n1 + j];
                *sum = multiply_add(b, x, *y, *sum);
            }
        }
    }

    /// The first `count` products of group `group` along `k` for every accumulator of the tile.
    #[allow(clippy::too_many_arguments, reason = "a tile's place has this many parts")]
    fn emit_byte_step(
        &self,
        b: &Builder<'m>,
        dot: Dot,
        panel: Value<'m>,
        group: Value<'m>,
        count: i64,
        rows: &[Row<'m>],
        sums: &mut [Value<'m>],
    ) {
        let (f, plan) = (self.f, self.plan);
        let weights = plan.packed.as_ref().and_then(|(param, _)| f.packed(*param));
        let (Some(weights), Some(lhs)) = (weights, f.memory(self.lhs)) else { return };
        let groups = f.dim(&plan.k.ceil_div(&DEPTH.into()));
        let start = b.muli(b.addi(b.muli(panel, groups), group), b.index(plan.width() * DEPTH));
        let lane_bytes = plan.lanes * DEPTH as usize;
        let rights: Vec<_> = (0..plan.n1)
            .map(|j| {
                let at = b.addi(start, b.index((j * lane_bytes) as i64));
                dot.right(b, b.vector_load(weights, at, lane_bytes))
            })
            .collect();
        for (i, row) in rows.iter().enumerate() {
            let at = b.addi(row.lhs_start, b.muli(group, b.index(DEPTH)));
            let left = dot.left(b, word(b, lhs, at, count), plan.lanes);
            for (j, right) in rights.iter().enumerate() {
                let sum = &mut sums[i * plan.n1 + j];
                *sum = dot.add(b, &left, right, *sum);
            }
        }
    }

    fn left(&self, b: &Builder<'m>, row: &Row<'m>, k: Value<'m>) -> Value<'m> {
        let f = self.f;
        let point = if f.producer(self.lhs).is_none() {
            Point::linear(Axis::at(b.addi(row.lhs_start, k)), 1, None)
        } else {
            let mut axes = row.axes.clone();
            axes.push(Axis::at(k));
            Point::axes(axes, 1, None)
        };
        f.eval(b, self.lhs, &point, &mut Known::default())
    }

    fn right(
        &self,
        b: &Builder<'m>,
        panel: Value<'m>,
        column: Value<'m>,
        k: Value<'m>,
        j: usize,
        mask: Option<Value<'m>>,
    ) -> Value<'m> {
        let (f, plan) = (self.f, self.plan);
        if let Some(memref) = plan.packed.as_ref().and_then(|(param, _)| f.packed(*param)) {
            let width = b.index(plan.width());
            let row = b.muli(b.addi(b.muli(panel, self.k), k), width);
            let at = b.addi(row, b.index((j * plan.lanes) as i64));
            return from_storage(b, f.dtype(self.rhs), b.vector_load(memref, at, plan.lanes));
        }
        let at = b.addi(column, b.index((j * plan.lanes) as i64));
        let mut axes = self.batch.clone();
        axes.extend([Axis::at(k), Axis::along(at)]);
        f.eval(b, self.rhs, &Point::axes(axes, plan.lanes, mask), &mut Known::default())
    }

    fn emit_store(
        &self,
        b: &Builder<'m>,
        row: &Row<'m>,
        column: Value<'m>,
        sum: Value<'m>,
        mask: Option<Value<'m>>,
    ) {
        let f = self.f;
        let mut axes = row.axes.clone();
        axes.push(Axis::along(column));
        let point = Point { place: Place::Axes(axes), lanes: self.plan.lanes, mask };
        let mut known = Known::bind(self.result, sum);
        let register = f.eval_lanes(b, self.output, &point, &mut known);
        f.write(b, self.output, b.addi(row.output_start, column), register, mask);
    }
}
