//! Products of bf16 and of bytes in the machine's tiles: registers of 16 rows of 64 bytes, multiplied as matrices.
//!
//! Tiles make the sums of a panel and a workgroup's rows over all whole steps of `k`, and leave them where passes leave
//! theirs; what is left of `k` and the epilogue are a last pass as any other.

use ired_mlir::{Builder, Compare, Value};

use super::panel::{Piece, Sums};
use super::tile::Emitter;
use crate::kernels::ahead::Ahead;
use crate::kernels::dot::DotProduct;
use crate::kernels::tile_registers::{ROW_BYTES, SIDE, STEPS, TileRegisters};

/// Vectors of a panel that tiles multiply: two tiles beside each other.
pub(super) const PANEL_VECTORS: usize = 2;

/// Rows of tiles that are summed at once; with two columns of them they and their operands fill the eight registers.
const MOST_TILES: i64 = 2;

impl<'m> Emitter<'_, '_, 'm> {
    /// All rows of the workgroup, in tiles if they fill one.
    pub(super) fn emit_in_tiles(&self, b: &Builder<'m>, piece: &Piece<'m>, kept: Value<'m>) {
        let rows = b.subi(piece.last_row, piece.first_row);
        let whole = b.muli(b.divui(self.k, b.index(self.tile_k())), b.index(STEPS));
        let zero = b.index(0);
        let fills = |b: &Builder<'m>, tiles: i64| b.cmpi(Compare::SignedGe, rows, b.index(SIDE * tiles));
        let only = b.andi(fills(b, 1), b.cmpi(Compare::SignedLt, rows, b.index(SIDE * MOST_TILES)));
        b.if_then(only, |b| self.emit_rows_of_tiles(b, piece, kept, 1));
        b.if_then(fills(b, MOST_TILES), |b| self.emit_rows_of_tiles(b, piece, kept, MOST_TILES));
        b.if_then(b.cmpi(Compare::SignedLt, rows, b.index(SIDE)), |b| {
            self.clear(b, piece, kept);
            let part = Piece { end_step: whole, sums: Sums::Kept(kept), ..piece.clone() };
            self.emit_rows(b, &Piece { first_step: zero, ..part });
        });
        self.emit_rows(b, &Piece { first_step: whole, sums: Sums::Last(kept), ..piece.clone() });
    }

    /// Runs of `count * SIDE` rows; the last ends with the last row, so that some rows may be computed twice.
    fn emit_rows_of_tiles(&self, b: &Builder<'m>, piece: &Piece<'m>, kept: Value<'m>, count: i64) {
        let size = b.index(count * SIDE);
        let last = b.subi(piece.last_row, size);
        let runs = b.ceil_div(b.subi(piece.last_row, piece.first_row), size);
        b.for_loop(piece.first_row, piece.last_row, size, &[], |b, row, _| {
            let number = b.divui(b.subi(row, piece.first_row), size);
            let ahead = self.tiles_ahead(b, piece, number, runs);
            self.emit_tiles(b, piece, kept, b.minsi(row, last), count, ahead);
            Vec::new()
        });
    }

    fn emit_tiles(
        &self,
        b: &Builder<'m>,
        piece: &Piece<'m>,
        kept: Value<'m>,
        row: Value<'m>,
        count: i64,
        ahead: Option<Ahead<'m>>,
    ) {
        let Some((weights, left)) = self.packed().zip(self.left_memory()) else { return };
        let Some(DotProduct { dot, .. }) = self.plan.dot else { return };
        let tile_k = self.tile_k();
        let tiles = TileRegisters::new(b, dot, tile_k);
        let zeros: Vec<_> = (0..count * 2).map(|_| tiles.zero(b)).collect();
        let steps = b.divui(self.k, b.index(tile_k));
        let left_bytes = b.muli(self.k, b.index(dot.element_bytes()));
        let sums = b.for_loop(b.index(0), steps, b.index(1), &zeros, |b, step, sums| {
            if let Some(ahead) = &ahead {
                ahead.fetch(b, step);
            }
            let start = self.position(b, piece.panel, b.muli(step, b.index(STEPS)));
            let rights: Vec<_> = (0..2)
                .map(|j| {
                    let at = b.addi(start, b.index(j * SIDE * dot.depth()));
                    tiles.load_right(b, b.address(weights, at), b.index(2 * ROW_BYTES))
                })
                .collect();
            let mut next = sums.to_vec();
            for i in 0..count {
                let first = b.muli(b.addi(row, b.index(i * SIDE)), self.k);
                let at = b.addi(first, b.muli(step, b.index(tile_k)));
                let left = tiles.load_left(b, b.address(left, at), left_bytes);
                for (j, right) in rights.iter().enumerate() {
                    let sum = &mut next[i as usize * 2 + j];
                    *sum = tiles.multiply_add(b, *sum, left, *right);
                }
            }
            next
        });
        for (i, pair) in (0..count).zip(sums.chunks(2)) {
            for (j, sum) in (0..).zip(pair) {
                let from = b.addi(b.subi(row, piece.first_row), b.index(i * SIDE));
                let at = b.addi(b.muli(from, b.index(self.plan.width())), b.index(j * SIDE));
                tiles.store(b, *sum, b.address(kept, at), b.index(self.plan.width() * 4));
            }
        }
    }

    fn tiles_ahead(
        &self,
        b: &Builder<'m>,
        piece: &Piece<'m>,
        number: Value<'m>,
        runs: Value<'m>,
    ) -> Option<Ahead<'m>> {
        let panels = self.panels()?.in_steps_of(STEPS);
        let next = self.position(b, piece.panel, piece.end_step);
        Some(panels.shared(b, next, number, runs, b.divui(self.k, b.index(self.tile_k()))))
    }

    /// Elements of `k` in a tile of the left-hand side.
    fn tile_k(&self) -> i64 {
        STEPS * self.plan.depth()
    }
}
