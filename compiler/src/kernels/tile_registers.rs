//! The machine's tiles: registers of up to 16 rows of 64 bytes, multiplied as matrices: of bf16 into sums of f32, of bytes
//! into sums of i32. LLVM finds registers for them and configures these.

use ired_mlir::{Builder, Type, Value};

use super::dot::Dot;

/// Rows of a tile, and columns of one of sums.
pub(super) const SIDE: i64 = 16;
/// Bytes of a row of sums, or of the right-hand side.
pub(super) const ROW_BYTES: i64 = 64;
/// Neighbours along `k` that one instruction multiplies and sums into an element, at most: rows of the right-hand side.
pub(super) const STEPS: i64 = 16;

/// Tiles whose products are of `k` elements, whole groups of neighbours, up to [`STEPS`] of them.
pub(super) struct TileRegisters<'m> {
    multiply: &'static str,
    ty: Type<'m>,
    side: Value<'m>,
    row_bytes: Value<'m>,
    /// Bytes of a row of the left-hand side, and rows of the right-hand side: groups of neighbours.
    left_bytes: Value<'m>,
    groups: Value<'m>,
}

impl<'m> TileRegisters<'m> {
    pub(super) fn new(b: &Builder<'m>, dot: Dot, k: i64) -> Self {
        let short = |value| b.integer(b.int_type(16), value);
        Self {
            multiply: match dot {
                Dot::Bf16 => "llvm.x86.tdpbf16ps.internal",
                Dot::Four { .. } | Dot::Words { .. } => "llvm.x86.tdpbusd.internal",
            },
            ty: b.parse_type("!llvm.x86_amx"),
            side: short(SIDE),
            row_bytes: short(ROW_BYTES),
            left_bytes: short(k * dot.element_bytes()),
            groups: short(k / dot.depth()),
        }
    }

    pub(super) fn zero(&self, b: &Builder<'m>) -> Value<'m> {
        b.intrinsic("llvm.x86.tilezero.internal", &[self.side, self.row_bytes], self.ty)
    }

    /// Rows of the left-hand side, `stride` bytes after each other.
    pub(super) fn load_left(&self, b: &Builder<'m>, address: Value<'m>, stride: Value<'m>) -> Value<'m> {
        self.load(b, [self.side, self.left_bytes], address, stride)
    }

    /// Columns of the right-hand side in groups of neighbours along `k`, groups `stride` bytes after each other.
    pub(super) fn load_right(&self, b: &Builder<'m>, address: Value<'m>, stride: Value<'m>) -> Value<'m> {
        self.load(b, [self.groups, self.row_bytes], address, stride)
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
        b.intrinsic(self.multiply, &operands, self.ty)
    }
}
