//! The machine's tiles: registers of up to 16 rows of 64 bytes, multiplied as matrices of bf16 into sums of f32. LLVM finds
//! registers for them and configures these.

use ired_mlir::{Builder, Type, Value};

/// Rows of a tile, and columns of one of sums.
pub(super) const SIDE: i64 = 16;
/// Bytes of a row of sums, or of the right-hand side.
pub(super) const ROW_BYTES: i64 = 64;
/// The most products that one instruction sums into an element.
pub(super) const MOST_K: i64 = 32;

/// Tiles whose products are of `k` elements, an even number up to [`MOST_K`].
pub(super) struct TileRegisters<'m> {
    ty: Type<'m>,
    side: Value<'m>,
    row_bytes: Value<'m>,
    /// Bytes of a row of the left-hand side, and rows of the right-hand side: pairs of neighbours.
    left_bytes: Value<'m>,
    pairs: Value<'m>,
}

impl<'m> TileRegisters<'m> {
    pub(super) fn new(b: &Builder<'m>, k: i64) -> Self {
        let short = |value| b.integer(b.int_type(16), value);
        Self {
            ty: b.parse_type("!llvm.x86_amx"),
            side: short(SIDE),
            row_bytes: short(ROW_BYTES),
            left_bytes: short(2 * k),
            pairs: short(k / 2),
        }
    }

    pub(super) fn zero(&self, b: &Builder<'m>) -> Value<'m> {
        b.intrinsic("llvm.x86.tilezero.internal", &[self.side, self.row_bytes], self.ty)
    }

    /// Rows of the left-hand side, `stride` bytes after each other.
    pub(super) fn load_left(&self, b: &Builder<'m>, address: Value<'m>, stride: Value<'m>) -> Value<'m> {
        self.load(b, [self.side, self.left_bytes], address, stride)
    }

    /// Columns of the right-hand side in pairs of neighbours along `k`, pairs `stride` bytes after each other.
    pub(super) fn load_right(&self, b: &Builder<'m>, address: Value<'m>, stride: Value<'m>) -> Value<'m> {
        self.load(b, [self.pairs, self.row_bytes], address, stride)
    }

    /// Sums kept before, rows `stride` bytes after each other.
    pub(super) fn load_sums(&self, b: &Builder<'m>, address: Value<'m>, stride: Value<'m>) -> Value<'m> {
        self.load(b, [self.side, self.row_bytes], address, stride)
    }

    fn load(
        &self,
        b: &Builder<'m>,
        [rows, bytes]: [Value<'m>; 2],
        address: Value<'m>,
        stride: Value<'m>,
    ) -> Value<'m> {
        let stride = b.index_cast(stride, b.int_type(64));
        b.intrinsic("llvm.x86.tileloadd64.internal", &[rows, bytes, address, stride], self.ty)
    }

    /// Stores sums, rows `stride` bytes after each other.
    pub(super) fn store(&self, b: &Builder<'m>, tile: Value<'m>, address: Value<'m>, stride: Value<'m>) {
        let stride = b.index_cast(stride, b.int_type(64));
        let operands = [self.side, self.row_bytes, address, stride, tile];
        b.effect("llvm.x86.tilestored64.internal", &operands);
    }

    pub(super) fn multiply_add(
        &self,
        b: &Builder<'m>,
        sum: Value<'m>,
        left: Value<'m>,
        right: Value<'m>,
    ) -> Value<'m> {
        let operands = [self.side, self.row_bytes, self.left_bytes, sum, left, right];
        b.intrinsic("llvm.x86.tdpbf16ps.internal", &operands, self.ty)
    }
}
