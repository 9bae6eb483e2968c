//! A tile of a product: its steps along `k`, and the epilogue on its sums.

use ired_graph::{DType, ValueId};
use ired_mlir::{Builder, Type, Value};

use super::Plan;
use super::panel::{Piece, Sums};
use super::widening;
use crate::kernels::ahead::{Ahead, Panels};
use crate::kernels::arithmetic::{cast, from_storage, register_type};
use crate::kernels::dot::{DotProduct, word};
use crate::kernels::eval::nested::{accumulator, multiply_add};
use crate::kernels::eval::{Axis, Known, Place, Point, spread, zero_of};
use crate::kernels::function::Function;

pub(super) struct Emitter<'f, 'a, 'm> {
    pub(super) f: &'f Function<'a, 'm>,
    pub(super) plan: &'f Plan,
    pub(super) lhs: ValueId,
    pub(super) rhs: ValueId,
    /// The product itself, and what is stored.
    result: ValueId,
    output: ValueId,
    /// Index of this workgroup's batch, axis by axis, and as a number.
    batch: Vec<Axis<'m>>,
    batch_number: Value<'m>,
    pub(super) n: Value<'m>,
    pub(super) k: Value<'m>,
    /// Steps of the sum: elements, or groups of bytes.
    pub(super) steps: Value<'m>,
    /// Steps of a pass where there are several, and the sums between them.
    pub(super) passes: Option<(i64, Value<'m>)>,
    /// A piece of a panel, where weights are made floats first.
    pub(super) widened: Option<Value<'m>>,
    pub(super) vector: Type<'m>,
}

/// A row of the product: where it is read and written.
pub(super) struct Row<'m> {
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
        let batch = f.split_index(b, f.group[1], &plan.batch);
        let element = register_type(b, accumulator(f.dtype(result)));
        let steps = plan.k.ceil_div(&plan.depth().into());
        let kept = plan.sizes.most_rows * plan.width();
        let passes = if plan.in_tiles { Some(0) } else { plan.sizes.k_block };
        let is_widened =
            plan.quantized.is_some() && plan.m.as_static().is_none_or(|m| m > widening::FEW_ROWS);
        let widened = is_widened.then(|| {
            let steps = plan.sizes.k_block.or(plan.k.as_static()).unwrap_or(0);
            let steps = (steps + widening::CHUNK - 1) / widening::CHUNK * widening::CHUNK;
            b.stack_array((steps * plan.width()) as usize, element, 64)
        });
        Self {
            f,
            plan,
            lhs: root.operands[0],
            rhs: root.operands[1],
            result,
            output: f.output(),
            batch,
            batch_number: f.group[1],
            n: f.dim(&plan.n),
            k: f.dim(&plan.k),
            steps: f.dim(&steps),
            passes: passes.map(|block| (block, b.stack_array(kept as usize, element, 64))),
            widened,
            vector: b.vector_type(plan.lanes, element),
        }
    }

    /// The left-hand side as it lies in memory.
    pub(super) fn left_memory(&self) -> Option<Value<'m>> {
        self.f.memory(self.plan.dot.map_or(self.lhs, |dot| dot.left))
    }

    /// The right-hand side, where it is in panels.
    pub(super) fn packed(&self) -> Option<Value<'m>> {
        self.plan.packed.as_ref().and_then(|(param, _)| self.f.packed(*param))
    }

    /// Of the right-hand side as it is read: panels are of the elements as they are stored.
    pub(super) fn right_dtype(&self) -> DType {
        let value = self.plan.packed.as_ref().map_or(self.rhs, |(param, _)| *param);
        self.f.dtype(value)
    }

    pub(super) fn panels(&self) -> Option<Panels<'m>> {
        let element_bytes = self.right_dtype().bits() as i64 / 8;
        Some(Panels { memref: self.packed()?, element_bytes, step_elements: self.step_elements() })
    }

    /// Elements of a panel that belong to one step.
    fn step_elements(&self) -> i64 {
        self.plan.width() * self.plan.depth()
    }

    /// Where a step of a panel begins.
    pub(super) fn position(&self, b: &Builder<'m>, panel: Value<'m>, step: Value<'m>) -> Value<'m> {
        b.muli(b.addi(b.muli(panel, self.steps), step), b.index(self.step_elements()))
    }

    /// Where vector `j` of a piece begins in the panels.
    fn place_of_weights(&self, b: &Builder<'m>, piece: &Piece<'m>, step: Value<'m>, j: usize) -> Value<'m> {
        let (panel, vector) = (j / self.plan.sizes.n1, j % self.plan.sizes.n1);
        let start = self.position(b, b.addi(piece.panel, b.index(panel as i64)), step);
        b.addi(start, b.index((vector * self.plan.lanes) as i64 * self.plan.depth()))
    }

    pub(super) fn emit_tile(
        &self,
        b: &Builder<'m>,
        piece: &Piece<'m>,
        first: Value<'m>,
        count: i64,
        ahead: Option<Ahead<'m>>,
    ) {
        let (plan, n1) = (self.plan, piece.masks.len());
        let rows: Vec<Row<'m>> = (0..count).map(|i| self.row(b, b.addi(first, b.index(i)))).collect();
        let tile = rows.len() * n1;
        let unroll = plan.sizes.parts_of(tile);
        // Neighbours go by in whole groups, and then what is left of one.
        let dot = plan.dot.zip(plan.k.as_static());
        let end = dot.map_or(piece.end_step, |(_, k)| b.minsi(piece.end_step, b.index(k / plan.depth())));
        let step = b.index(unroll as i64);
        let rest = b.remui(b.subi(end, piece.first_step), step);
        let full = b.subi(end, rest);
        let zero = zero_of(b, self.vector);
        let mut sums = self.kept(b, piece, first, tile);
        sums.resize(tile * unroll, zero);
        let sums = b.for_loop(piece.first_step, full, step, &sums, |b, k, sums| {
            let mut next = sums.to_vec();
            for u in 0..unroll {
                let k = b.addi(k, b.index(u as i64));
                if let Some(ahead) = &ahead {
                    ahead.fetch(b, b.subi(k, piece.first_step));
                }
                self.emit_step(b, piece, k, &rows, &mut next[u * tile..(u + 1) * tile]);
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
            sums = b.for_loop(full, end, b.index(1), &sums, |b, k, sums| {
                let mut next = sums.to_vec();
                self.emit_step(b, piece, k, &rows, &mut next);
                next
            });
        }
        let is_last = !matches!(piece.sums, Sums::Kept(_));
        if let Some((dot, k)) = dot.filter(|(_, k)| is_last && k % plan.depth() != 0) {
            let (group, count) = (b.index(k / plan.depth()), k % plan.depth());
            self.emit_dot_step(b, dot, piece, group, count, &rows, &mut sums);
        }
        if let Sums::Kept(memref) = piece.sums {
            for (i, sum) in sums.iter().enumerate() {
                b.vector_store(*sum, memref, self.place_of_sum(b, piece, first, i));
            }
            return;
        }
        self.emit_stores(b, piece, &rows, &sums);
    }

    /// The epilogue on all sums of a tile.
    pub(super) fn emit_stores(
        &self,
        b: &Builder<'m>,
        piece: &Piece<'m>,
        rows: &[Row<'m>],
        sums: &[Value<'m>],
    ) {
        for (row, sums) in rows.iter().zip(sums.chunks(piece.masks.len())) {
            for (j, (mask, sum)) in piece.masks.iter().zip(sums).enumerate() {
                let at = b.addi(piece.column, b.index((j * self.plan.lanes) as i64));
                self.emit_store(b, row, at, *sum, *mask);
            }
        }
    }

    /// The sums that a tile begins with.
    fn kept(&self, b: &Builder<'m>, piece: &Piece<'m>, first: Value<'m>, count: usize) -> Vec<Value<'m>> {
        let (Sums::Kept(memref) | Sums::Last(memref)) = piece.sums else {
            return vec![zero_of(b, self.vector); count];
        };
        let load = |i| b.vector_load(memref, self.place_of_sum(b, piece, first, i), self.plan.lanes);
        (0..count).map(load).collect()
    }

    /// Where sum `i` of the tile at row `first` is kept between passes.
    fn place_of_sum(&self, b: &Builder<'m>, piece: &Piece<'m>, first: Value<'m>, i: usize) -> Value<'m> {
        let row = b.muli(b.subi(first, piece.first_row), b.index(self.plan.width()));
        b.addi(row, b.index((i * self.plan.lanes) as i64))
    }

    fn add(&self, b: &Builder<'m>, x: Value<'m>, y: Value<'m>) -> Value<'m> {
        if self.vector.is_float() { b.addf(x, y) } else { b.addi(x, y) }
    }

    pub(super) fn row(&self, b: &Builder<'m>, number: Value<'m>) -> Row<'m> {
        let plan = self.plan;
        let mut axes = self.batch.clone();
        axes.extend(self.f.split_index(b, number, &plan.row_shape));
        let all = b.addi(b.muli(self.batch_number, self.f.dim(&plan.m)), number);
        let all = if plan.batch.is_empty() { number } else { all };
        Row { axes, lhs_start: b.muli(all, self.k), output_start: b.muli(all, self.n) }
    }

    /// One step of `k` for every accumulator of the tile.
    fn emit_step(
        &self,
        b: &Builder<'m>,
        piece: &Piece<'m>,
        k: Value<'m>,
        rows: &[Row<'m>],
        sums: &mut [Value<'m>],
    ) {
        let (f, plan) = (self.f, self.plan);
        if let Some(dot) = plan.dot {
            return self.emit_dot_step(b, dot, piece, k, plan.depth(), rows, sums);
        }
        let (to, n1) = (accumulator(f.dtype(self.result)), piece.masks.len());
        let rights: Vec<Value<'m>> = (0..n1)
            .map(|j| {
                let y = self.right(b, piece, k, j);
                let dtype = if self.widened.is_some() { to } else { self.right_dtype() };
                spread(b, cast(b, dtype, to, y), plan.lanes)
            })
            .collect();
        for (i, row) in rows.iter().enumerate() {
            let x = self.left(b, row, k);
            let x = spread(b, cast(b, f.dtype(self.lhs), to, x), plan.lanes);
            for (j, y) in rights.iter().enumerate() {
                let sum = &mut sums[i * n1 + j];
                *sum = multiply_add(b, x, *y, *sum);
            }
        }
    }

    /// The first `count` products of group `group` along `k` for every accumulator of the tile, at once.
    #[allow(clippy::too_many_arguments, reason = "a tile's place has this many parts")]
    fn emit_dot_step(
        &self,
        b: &Builder<'m>,
        DotProduct { dot, left }: DotProduct,
        piece: &Piece<'m>,
        group: Value<'m>,
        count: i64,
        rows: &[Row<'m>],
        sums: &mut [Value<'m>],
    ) {
        let (f, plan) = (self.f, self.plan);
        let (Some(weights), Some(lhs)) = (self.packed(), f.memory(left)) else { return };
        let (n1, lane_elements) = (piece.masks.len(), plan.lanes * dot.depth() as usize);
        let rights: Vec<_> = (0..n1)
            .map(|j| {
                let at = self.place_of_weights(b, piece, group, j);
                dot.right(b, b.vector_load(weights, at, lane_elements))
            })
            .collect();
        for (i, row) in rows.iter().enumerate() {
            let at = b.addi(row.lhs_start, b.muli(group, b.index(dot.depth())));
            let left = dot.left(b, word(b, lhs, at, count, dot.depth()), plan.lanes);
            for (j, right) in rights.iter().enumerate() {
                let sum = &mut sums[i * n1 + j];
                *sum = dot.add(b, self.f.isa, left, *right, *sum);
            }
        }
    }

    pub(super) fn left(&self, b: &Builder<'m>, row: &Row<'m>, k: Value<'m>) -> Value<'m> {
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

    /// Vector `j` of the right-hand side at step `k`.
    fn right(&self, b: &Builder<'m>, piece: &Piece<'m>, k: Value<'m>, j: usize) -> Value<'m> {
        let (f, plan) = (self.f, self.plan);
        let lane = b.index((j * plan.lanes) as i64);
        if let Some(memref) = self.widened {
            let row = b.muli(b.subi(k, piece.first_step), b.index(plan.width()));
            return b.vector_load(memref, b.addi(row, lane), plan.lanes);
        }
        if let Some(memref) = self.packed() {
            let at = self.place_of_weights(b, piece, k, j);
            return from_storage(b, self.right_dtype(), b.vector_load(memref, at, plan.lanes));
        }
        let mut axes = self.batch.clone();
        axes.extend([Axis::at(k), Axis::along(b.addi(piece.column, lane))]);
        f.eval(b, self.rhs, &Point::axes(axes, plan.lanes, piece.masks[j]), &mut Known::default())
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
