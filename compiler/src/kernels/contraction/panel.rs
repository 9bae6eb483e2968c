//! The loops of a product around its tiles: panels, passes over `k`, blocks of rows; and what is fetched ahead.

use ired_mlir::{Builder, Compare, Value};

use super::tile::Emitter;
use super::{Plan, divisor};
use crate::dispatch::Dispatch;
use crate::kernels::ahead::Ahead;
use crate::kernels::eval::zero_of;

/// Nodes from which on an epilogue is not repeated in a tile of every size.
const HEAVY_NODES: usize = 8;
/// More sizes of tiles than this are not emitted for the rows that are left.
const MOST_CASES: usize = 8;
/// Those that are emitted then.
pub(super) const HALVES: [i64; 4] = [8, 4, 2, 1];

/// Columns of a panel, or of several side by side, and the steps of `k` that a pass makes.
#[derive(Clone)]
pub(super) struct Piece<'m> {
    /// The first.
    pub(super) panel: Value<'m>,
    pub(super) column: Value<'m>,
    /// One for each vector: a mask where columns may be missing.
    pub(super) masks: Vec<Option<Value<'m>>>,
    pub(super) first_step: Value<'m>,
    pub(super) end_step: Value<'m>,
    pub(super) sums: Sums<'m>,
    /// Rows of this workgroup.
    pub(super) first_row: Value<'m>,
    pub(super) last_row: Value<'m>,
}

/// Where a pass finds its sums, and leaves them.
#[derive(Clone, Copy)]
pub(super) enum Sums<'m> {
    /// From zero to the end.
    Only,
    /// From what lies here, row by row of the workgroup, to here.
    Kept(Value<'m>),
    /// From what lies here to the end.
    Last(Value<'m>),
}

impl Plan {
    /// How many rows can be left by whole tiles: all blocks but the last are whole, and the number of rows has known
    /// divisors.
    fn rests(&self) -> Vec<i64> {
        let m0 = self.sizes.m0 as i64;
        match self.m.as_static() {
            Some(m) => Some(m % m0).filter(|rest| *rest != 0).into_iter().collect(),
            None => {
                let unit = divisor(&self.m);
                (1..m0).filter(|rest| (0..m0).any(|n| (unit % m0 * n) % m0 == *rest)).collect()
            }
        }
    }

    /// Whether these are cut up, lest there be too much code.
    pub(super) fn halves_rests(&self, dispatch: &Dispatch) -> bool {
        let count = self.rests().len();
        count > MOST_CASES || count > 2 && dispatch.nodes.len() > HEAVY_NODES
    }
}

impl<'m> Emitter<'_, '_, 'm> {
    pub(super) fn emit(&self, b: &Builder<'m>) {
        let (plan, f) = (self.plan, self.f);
        let (column_block, row_block) = self.block(b);
        let all_panels = f.dim(&plan.n.ceil_div(&plan.width().into()));
        let panels = b.index(plan.sizes.panels);
        let first_panel = b.muli(column_block, panels);
        let last_panel = b.minsi(b.addi(first_panel, panels), all_panels);
        let rows = f.dim(&plan.sizes.rows);
        let first_row = b.muli(row_block, rows);
        let last_row = b.minsi(b.addi(first_row, rows), f.dim(&plan.m));
        if plan.beside().is_empty() {
            return b.for_each(first_panel, last_panel, |b, panel| {
                self.emit_panel(b, panel, first_row, last_row);
            });
        }
        let rest = b.remui(b.subi(last_row, first_row), b.index(plan.sizes.m0 as i64));
        let full = b.subi(last_row, rest);
        let is_all = b.cmpi(Compare::Eq, full, first_row);
        let cases: Vec<i64> = (1..).take(plan.beside().len()).collect();
        let beside = cases.iter().zip(plan.beside()).fold(b.index(1), |others, (count, panels)| {
            b.select(b.cmpi(Compare::Eq, rest, b.index(*count)), b.index(*panels), others)
        });
        b.for_loop(first_panel, last_panel, beside, &[], |b, panel, _| {
            let end = b.minsi(b.addi(panel, beside), last_panel);
            // One alone has all rows as usual.
            let is_single = b.cmpi(Compare::Eq, b.subi(end, panel), b.index(1));
            let is_whole = b.cmpi(Compare::Eq, b.subi(end, panel), beside);
            let is_beside = b.select(is_single, b.bool(false), is_whole);
            let start = b.select(b.andi(is_beside, is_all), end, panel);
            let last_full = b.select(is_beside, full, last_row);
            b.for_each(start, end, |b, panel| self.emit_panel(b, panel, first_row, last_full));
            b.if_then(is_beside, |b| {
                b.switch(rest, &cases, |b, count| {
                    let piece = self.piece(b, panel, plan.beside()[count as usize - 1], full, last_row);
                    self.emit_tile(b, &piece, full, count, None);
                });
            });
            Vec::new()
        });
    }

    /// Which columns and rows this workgroup does. Neighbours share the weights where these are big and the left-hand
    /// side is not, else the rows.
    fn block(&self, b: &Builder<'m>) -> (Value<'m>, Value<'m>) {
        let (plan, f) = (self.plan, self.f);
        let (columns, rows) = plan.blocks();
        let (columns, rows) = (f.dim(&columns), f.dim(&rows));
        let number = f.group[0];
        let along_columns = (b.remui(number, columns), b.divui(number, columns));
        if !plan.is_right_big() {
            return along_columns;
        }
        let element_bytes = f.dtype(self.lhs).bits() as i64 / 8;
        let left_bytes = b.muli(b.muli(f.dim(&plan.m), self.k), b.index(element_bytes));
        let fits = b.cmpi(Compare::SignedLe, left_bytes, b.index(plan.half_cache));
        let column = b.select(fits, b.divui(number, rows), along_columns.0);
        (column, b.select(fits, b.remui(number, rows), along_columns.1))
    }

    fn emit_panel(&self, b: &Builder<'m>, panel: Value<'m>, first_row: Value<'m>, last_row: Value<'m>) {
        let whole = self.piece(b, panel, 1, first_row, last_row);
        match &self.plan.quantized {
            None => self.emit_passes(b, &whole),
            Some(quantized) => self.emit_few_rows(b, quantized, &whole, |b| self.emit_passes(b, &whole)),
        }
    }

    /// All steps of `count` panels.
    fn piece(
        &self,
        b: &Builder<'m>,
        panel: Value<'m>,
        count: i64,
        first_row: Value<'m>,
        last_row: Value<'m>,
    ) -> Piece<'m> {
        let column = b.muli(panel, b.index(self.plan.width()));
        Piece {
            panel,
            column,
            masks: self.masks(b, column, count),
            first_step: b.index(0),
            end_step: self.steps,
            sums: Sums::Only,
            first_row,
            last_row,
        }
    }

    fn emit_passes(&self, b: &Builder<'m>, whole: &Piece<'m>) {
        let piece = |first_step, end_step, sums| Piece { first_step, end_step, sums, ..whole.clone() };
        let (zero, steps) = (b.index(0), self.steps);
        let Some((block, kept)) = self.passes else {
            return self.emit_pass(b, whole);
        };
        if self.plan.in_tiles {
            return self.emit_in_tiles(b, whole, kept);
        }
        self.clear(b, whole, kept);
        let last = b.muli(b.divui(b.subi(steps, b.index(1)), b.index(block)), b.index(block));
        b.for_loop(zero, last, b.index(block), &[], |b, first, _| {
            let end = b.addi(first, b.index(block));
            self.emit_pass(b, &piece(first, end, Sums::Kept(kept)));
            Vec::new()
        });
        self.emit_pass(b, &piece(last, steps, Sums::Last(kept)));
    }

    /// One pass over a part of `k`, whose weights are made floats first where they are not.
    fn emit_pass(&self, b: &Builder<'m>, piece: &Piece<'m>) {
        if let Some((quantized, widened)) = self.plan.quantized.as_ref().zip(self.widened) {
            self.widen(b, quantized, piece, widened);
        }
        self.emit_rows(b, piece);
    }

    /// Lets the sums of the piece's rows begin at zero.
    pub(super) fn clear(&self, b: &Builder<'m>, piece: &Piece<'m>, kept: Value<'m>) {
        let lanes = b.index(self.plan.lanes as i64);
        let rows = b.subi(piece.last_row, piece.first_row);
        let elements = b.muli(rows, b.index(self.plan.width()));
        b.for_loop(b.index(0), elements, lanes, &[], |b, at, _| {
            b.vector_store(zero_of(b, self.vector), kept, at);
            Vec::new()
        });
    }

    /// All rows of the workgroup in one pass.
    pub(super) fn emit_rows(&self, b: &Builder<'m>, piece: &Piece<'m>) {
        let m0 = self.plan.sizes.m0 as i64;
        let size = b.index(m0);
        let rows = b.subi(piece.last_row, piece.first_row);
        let rest = b.remui(rows, size);
        let full = b.subi(piece.last_row, rest);
        let tiles = b.divui(rows, size);
        b.for_loop(piece.first_row, full, size, &[], |b, row, _| {
            let number = b.divui(b.subi(row, piece.first_row), size);
            self.emit_tile(b, piece, row, m0, self.ahead(b, piece, number, tiles));
            Vec::new()
        });
        let cases = self.plan.rests();
        if cases.is_empty() {
            return;
        }
        if self.plan.halves_rests(self.f.dispatch) {
            return self.emit_halves(b, piece, full, rest);
        }
        b.switch(rest, &cases, |b, count| {
            self.emit_tile(b, piece, full, count, self.straight_ahead(b, piece));
        });
    }

    /// The rows that are left, as tiles of [`HALVES`]: less code than a tile of every size.
    fn emit_halves(&self, b: &Builder<'m>, piece: &Piece<'m>, first: Value<'m>, rest: Value<'m>) {
        let zero = b.index(0);
        let mut row = first;
        for size in HALVES {
            if size >= self.plan.sizes.m0 as i64 {
                continue;
            }
            let bit = b.andi(rest, b.index(size));
            let set = b.cmpi(Compare::Ne, bit, zero);
            b.if_then(set, |b| self.emit_tile(b, piece, row, size, self.straight_ahead(b, piece)));
            row = b.addi(row, bit);
        }
    }

    fn masks(&self, b: &Builder<'m>, column: Value<'m>, panels: i64) -> Vec<Option<Value<'m>>> {
        let width = self.plan.width();
        let whole = self.plan.n.modulo(&width.into()).as_static() == Some(0);
        (0..self.plan.sizes.n1 * panels as usize)
            .map(|j| {
                if whole {
                    return None;
                }
                let start = b.addi(column, b.index((j * self.plan.lanes) as i64));
                Some(b.mask(b.subi(self.n, start), self.plan.lanes))
            })
            .collect()
    }

    /// What follows the piece in memory, shared out among its tiles.
    fn ahead(
        &self,
        b: &Builder<'m>,
        piece: &Piece<'m>,
        number: Value<'m>,
        tiles: Value<'m>,
    ) -> Option<Ahead<'m>> {
        if b.known(tiles) == Some(1) {
            return self.straight_ahead(b, piece);
        }
        if !self.plan.is_right_big() || self.widened.is_some() {
            return None;
        }
        let next = self.position(b, piece.panel, piece.end_step);
        let steps = b.subi(piece.end_step, piece.first_step);
        Some(self.panels()?.shared(b, next, number, tiles, steps))
    }

    /// For a tile that is alone with its piece. Weights that caches hold from call to call, of a recurrent network above
    /// all, come as fast as they are asked for.
    fn straight_ahead(&self, b: &Builder<'m>, piece: &Piece<'m>) -> Option<Ahead<'m>> {
        if !self.plan.is_right_far() || self.widened.is_some() {
            return None;
        }
        Some(self.panels()?.straight(b, self.position(b, piece.panel, piece.first_step)))
    }
}
