//! Products with quantised weights: integers of a panel become floats in registers.
//!
//! For a few rows each vector of weights is used once, where it is made: blocks are summed unscaled, and their sums
//! scaled. For more rows a piece of a panel is made floats once, on the stack, and multiplied there as any other.

use ired_graph::DType;
use ired_mlir::{Builder, Compare, Value};

use super::panel::Piece;
use super::tile::{Emitter, Row};
use crate::kernels::ahead::{Ahead, Panels};
use crate::kernels::arithmetic::{cast, from_storage};
use crate::kernels::eval::nested::multiply_add;
use crate::kernels::eval::{spread, zero_of};
use crate::weights::{Quantized, ZeroPoint};

/// Rows that are multiplied with weights in registers.
pub(super) const FEW_ROWS: i64 = 3;
/// Numbers along `k` that are widened together: those of a word where they are of four bits.
pub(super) const CHUNK: i64 = 8;
/// Blocks of no more chunks are not loops.
const UNROLLED_CHUNKS: i64 = 4;
/// Sums of a tile that do not wait for each other, to have at least.
const LEAST_SUMS: usize = 8;

/// Scale and zero point of a block, for each vector of a panel.
struct Numbers<'m> {
    scales: Vec<Value<'m>>,
    zeros: Option<Vec<Value<'m>>>,
}

impl<'m> Emitter<'_, '_, 'm> {
    /// Multiplies with weights in registers where the workgroup has few rows, and else does what `many` does.
    pub(super) fn emit_few_rows(
        &self,
        b: &Builder<'m>,
        quantized: &Quantized,
        piece: &Piece<'m>,
        many: impl FnOnce(&Builder<'m>),
    ) {
        let rows = b.subi(piece.last_row, piece.first_row);
        let possible = self.plan.row_counts();
        let is_possible =
            |is: &dyn Fn(i64) -> bool| possible.as_ref().is_none_or(|p| p.iter().any(|n| is(*n)));
        for count in (1..=FEW_ROWS).filter(|count| is_possible(&|n| n == *count)) {
            let is_count = b.cmpi(Compare::Eq, rows, b.index(count));
            b.if_then(is_count, |b| self.emit_rows_in_registers(b, quantized, piece, count));
        }
        if is_possible(&|n| n > FEW_ROWS) {
            b.if_then(b.cmpi(Compare::SignedLt, b.index(FEW_ROWS), rows), many);
        }
    }

    fn emit_rows_in_registers(&self, b: &Builder<'m>, quantized: &Quantized, piece: &Piece<'m>, count: i64) {
        let rows: Vec<Row<'m>> =
            (0..count).map(|i| self.row(b, b.addi(piece.first_row, b.index(i)))).collect();
        let k = self.plan.k.as_static().unwrap_or(0);
        let (whole, rest) = match quantized.blocks {
            1 => (0, k),
            _ => (k / quantized.block, k % quantized.block),
        };
        let zeros = vec![zero_of(b, self.vector); rows.len() * self.plan.sizes.n1];
        let mut sums = b.for_loop(b.index(0), b.index(whole), b.index(1), &zeros, |b, block, sums| {
            self.emit_block(b, quantized, piece, &rows, block, quantized.block, sums)
        });
        if rest > 0 {
            sums = self.emit_block(b, quantized, piece, &rows, b.index(whole), rest, &sums);
        }
        self.emit_stores(b, piece, &rows, &sums);
    }

    /// The sums with those of a block of `length` numbers, scaled.
    #[allow(clippy::too_many_arguments, reason = "a tile's place has this many parts")]
    fn emit_block(
        &self,
        b: &Builder<'m>,
        quantized: &Quantized,
        piece: &Piece<'m>,
        rows: &[Row<'m>],
        block: Value<'m>,
        length: i64,
        sums: &[Value<'m>],
    ) -> Vec<Value<'m>> {
        let numbers = self.numbers(b, quantized, piece, block);
        let first = b.muli(block, b.index(quantized.block));
        let ahead = self.widening_ahead(b, quantized, piece, first);
        let (chunks, tail) = (length / CHUNK, length % CHUNK);
        let copies = LEAST_SUMS.div_ceil(sums.len()).min(CHUNK as usize);
        let chunk = |b: &Builder<'m>, number: Value<'m>, count: i64, sums: &mut Vec<Value<'m>>| {
            if let Some(ahead) = &ahead {
                ahead.fetch(b, number);
            }
            let k = b.addi(first, b.muli(number, b.index(CHUNK)));
            self.emit_chunk(b, (quantized, &numbers), piece, rows, k, count, sums);
        };
        let mut parts = vec![zero_of(b, self.vector); sums.len() * copies];
        if chunks <= UNROLLED_CHUNKS {
            (0..chunks).for_each(|number| chunk(b, b.index(number), CHUNK, &mut parts));
        } else {
            parts = b.for_loop(b.index(0), b.index(chunks), b.index(1), &parts, |b, number, parts| {
                let mut next = parts.to_vec();
                chunk(b, number, CHUNK, &mut next);
                next
            });
        }
        if tail > 0 {
            chunk(b, b.index(chunks), tail, &mut parts);
        }
        let n1 = self.plan.sizes.n1;
        (0..sums.len())
            .map(|i| {
                let same = (0..copies).map(|copy| parts[copy * sums.len() + i]);
                let sum = same.reduce(|x, y| b.addf(x, y)).unwrap_or(sums[i]);
                multiply_add(b, sum, numbers.scales[i % n1], sums[i])
            })
            .collect()
    }

    /// The first `count` products of a chunk at `k`.
    #[allow(clippy::too_many_arguments, reason = "a tile's place has this many parts")]
    fn emit_chunk(
        &self,
        b: &Builder<'m>,
        (quantized, numbers): (&Quantized, &Numbers<'m>),
        piece: &Piece<'m>,
        rows: &[Row<'m>],
        k: Value<'m>,
        count: i64,
        sums: &mut [Value<'m>],
    ) {
        let n1 = self.plan.sizes.n1;
        let copies = sums.len() / (rows.len() * n1);
        let codes = self.codes(b, quantized, piece, k, count);
        for (i, codes) in codes.iter().enumerate() {
            let weights = self.centred(b, quantized, numbers, codes);
            for (r, row) in rows.iter().enumerate() {
                let x = self.left(b, row, b.addi(k, b.index(i as i64)));
                let x = spread(b, cast(b, self.f.dtype(self.lhs), DType::F32, x), self.plan.lanes);
                for (j, weight) in weights.iter().enumerate() {
                    let sum = &mut sums[((i % copies) * rows.len() + r) * n1 + j];
                    *sum = multiply_add(b, x, *weight, *sum);
                }
            }
        }
    }

    /// The piece of the panel as floats, on the stack, row by row of `k`.
    pub(super) fn widen(&self, b: &Builder<'m>, quantized: &Quantized, piece: &Piece<'m>, into: Value<'m>) {
        let (block, one) = (b.index(quantized.block), b.index(1));
        let first_block = b.divui(piece.first_step, block);
        let end_block = b.ceil_div(piece.end_step, block);
        // What lies past the end of a word's numbers, or of the last block, is there to be read.
        let in_chunks = self.plan.is_in_words() || quantized.block % CHUNK == 0;
        let step = if in_chunks { CHUNK } else { 1 };
        b.for_loop(first_block, end_block, one, &[], |b, number, _| {
            let numbers = self.numbers(b, quantized, piece, number);
            let start = b.muli(number, block);
            let from = b.maxsi(start, piece.first_step);
            let to = b.minsi(b.addi(start, block), piece.end_step);
            b.for_loop(from, to, b.index(step), &[], |b, k, _| {
                let codes = self.codes(b, quantized, piece, k, step);
                let at = b.subi(k, piece.first_step);
                for (i, codes) in codes.iter().enumerate() {
                    let row = b.muli(b.addi(at, b.index(i as i64)), b.index(self.plan.width()));
                    let weights = self.centred(b, quantized, &numbers, codes);
                    for (j, (weight, scale)) in weights.into_iter().zip(&numbers.scales).enumerate() {
                        let at = b.addi(row, b.index((j * self.plan.lanes) as i64));
                        b.vector_store(b.mulf(weight, *scale), into, at);
                    }
                }
                Vec::new()
            });
            Vec::new()
        });
    }

    fn numbers(
        &self,
        b: &Builder<'m>,
        quantized: &Quantized,
        piece: &Piece<'m>,
        block: Value<'m>,
    ) -> Numbers<'m> {
        let (f, lanes) = (self.f, self.plan.lanes);
        let row = b.addi(b.muli(piece.panel, b.index(quantized.blocks)), block);
        let start = b.muli(row, b.index(self.plan.width()));
        let load = |value| {
            let (memref, dtype) = (f.packed(value)?, f.dtype(value));
            let vector = |j| {
                let at = b.addi(start, b.index((j * lanes) as i64));
                cast(b, dtype, DType::F32, from_storage(b, dtype, b.vector_load(memref, at, lanes)))
            };
            Some((0..self.plan.sizes.n1).map(vector).collect::<Vec<_>>())
        };
        let zeros = match quantized.zero {
            ZeroPoint::Each(value) => load(value),
            ZeroPoint::One(_) => None,
        };
        let none = || vec![zero_of(b, self.vector); self.plan.sizes.n1];
        Numbers { scales: load(quantized.scales).unwrap_or_else(none), zeros }
    }

    /// Integers of `count` numbers along `k`, one of which begins a chunk: of each number a vector a column.
    fn codes(
        &self,
        b: &Builder<'m>,
        quantized: &Quantized,
        piece: &Piece<'m>,
        k: Value<'m>,
        count: i64,
    ) -> Vec<Vec<Codes<'m>>> {
        let Some(memref) = self.packed() else { return Vec::new() };
        let (plan, columns, is_wide) = (self.plan, 0..self.plan.sizes.n1, self.f.is_wide);
        let start = self.place_of_codes(b, quantized, piece, k);
        if !plan.is_in_words() {
            let load = |i: i64, j: usize| {
                let at = b.addi(start, b.index(i * plan.width() + (j * plan.lanes) as i64));
                Codes { vector: b.vector_load(memref, at, plan.lanes), place: 0, is_wide }
            };
            return (0..count).map(|i| columns.clone().map(|j| load(i, j)).collect()).collect();
        }
        let word_bytes = size_of::<u32>();
        let words: Vec<_> = columns
            .map(|j| {
                let bytes = plan.lanes * word_bytes;
                let at = b.addi(start, b.index((j * bytes) as i64));
                let words = b.vector_type(plan.lanes, b.int_type(32));
                b.simple("vector.bitcast", &[b.vector_load(memref, at, bytes)], words)
            })
            .collect();
        (0..count)
            .map(|place| words.iter().map(|&vector| Codes { vector, place, is_wide }).collect())
            .collect()
    }

    /// Where the integers of a chunk begin, in bytes.
    fn place_of_codes(
        &self,
        b: &Builder<'m>,
        quantized: &Quantized,
        piece: &Piece<'m>,
        k: Value<'m>,
    ) -> Value<'m> {
        let per_word = if self.plan.is_in_words() { CHUNK } else { 1 };
        let rows = (quantized.blocks * quantized.block + per_word - 1) / per_word;
        let row = b.addi(b.muli(piece.panel, b.index(rows)), b.divui(k, b.index(per_word)));
        let row_bytes = if self.plan.is_in_words() { 4 * self.plan.width() } else { self.plan.width() };
        b.muli(row, b.index(row_bytes))
    }

    /// `q - zero` of integers.
    fn centred(
        &self,
        b: &Builder<'m>,
        quantized: &Quantized,
        numbers: &Numbers<'m>,
        codes: &[Codes<'m>],
    ) -> Vec<Value<'m>> {
        let one = match quantized.zero {
            ZeroPoint::One(zero) => zero,
            ZeroPoint::Each(_) => 0.0,
        };
        let dtype = self.right_dtype();
        let floats = codes.iter().map(|codes| codes.less(b, dtype, one));
        match &numbers.zeros {
            None => floats.collect(),
            Some(zeros) => floats.zip(zeros).map(|(x, zero)| b.subf(x, *zero)).collect(),
        }
    }

    /// What a chunk fetches that is read a little later.
    fn widening_ahead(
        &self,
        b: &Builder<'m>,
        quantized: &Quantized,
        piece: &Piece<'m>,
        k: Value<'m>,
    ) -> Option<Ahead<'m>> {
        if !self.plan.is_right_far() {
            return None;
        }
        let step_elements = self.plan.width() * if self.plan.is_in_words() { 4 } else { CHUNK };
        let panels = Panels { memref: self.packed()?, element_bytes: 1, step_elements };
        Some(panels.straight(b, self.place_of_codes(b, quantized, piece, k)))
    }
}

/// A vector of integers: bytes, or the numbers at one place of words.
struct Codes<'m> {
    vector: Value<'m>,
    place: i64,
    /// Whether sixteen of them are a register of AVX-512.
    is_wide: bool,
}

impl<'m> Codes<'m> {
    /// As floats, less one number.
    fn less(&self, b: &Builder<'m>, dtype: DType, zero: f32) -> Value<'m> {
        let signed = dtype.is_signed_integer();
        if dtype.bits() == 8 {
            return minus(b, cast(b, dtype, DType::F32, self.vector), zero);
        }
        let (words, bits) = (self.vector, 4 * self.place);
        let c = |value| b.integer(words.ty(), value);
        if self.is_wide && words.ty().vector_lanes() == Some(16) {
            // The lowest four bits choose.
            let table =
                (0..16u8).map(|code| if signed { ((code << 4) as i8 >> 4) as f32 } else { f32::from(code) });
            let table: Vec<_> = table.map(|number| b.float(b.f32_type(), f64::from(number - zero))).collect();
            let table = b.from_elements(&table, b.f32_type());
            let chosen = if bits == 0 { words } else { b.shrui(words, c(bits)) };
            return b.intrinsic("llvm.x86.avx512.permvar.sf.512", &[table, chosen], table.ty());
        }
        let number = match signed {
            true => b.shrsi(b.shli(words, c(28 - bits)), c(28)),
            false => b.andi(b.shrui(words, c(bits)), c(15)),
        };
        minus(b, b.sitofp(number, b.f32_type()), zero)
    }
}

fn minus<'m>(b: &Builder<'m>, x: Value<'m>, number: f32) -> Value<'m> {
    if number == 0.0 { x } else { b.subf(x, b.float(x.ty(), f64::from(number))) }
}
