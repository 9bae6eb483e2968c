//! Products of bytes: four neighbouring products of u8 and i8 are summed into each lane of i32 at once, exactly.

use ired_graph::{DType, Graph, ValueId};
use ired_mlir::{Builder, Value};

use crate::dispatch::Dispatch;
use crate::targets::CpuTarget;

/// Products that one step sums into a lane. Weights are packed so that they are neighbours.
pub(super) const DEPTH: i64 = 4;

/// How a machine does it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dot {
    /// One instruction.
    Four,
    /// Bytes at even and at odd places each as pairs of i16, of which no product saturates.
    Pairs,
}

impl Dot {
    /// For `x` and packed `weights` of these types, `x` being read from memory; `None` for other types.
    pub(super) fn of(
        graph: &Graph,
        dispatch: &Dispatch,
        x: ValueId,
        weights: ValueId,
        target: &CpuTarget,
    ) -> Option<Self> {
        let dtype = |value: ValueId| graph.values[value.index()].ty.dtype;
        if (dtype(x), dtype(weights)) != (DType::U8, DType::I8) || !dispatch.inputs.contains(&x) {
            return None;
        }
        // Wide targets have the instruction from one set, narrow ones from the other.
        let set = if target.vector_bits == 512 { "avx512vnni" } else { "avxvnni" };
        Some(if target.has(set) { Self::Four } else { Self::Pairs })
    }

    /// Four bytes of the left side, for every lane.
    pub(super) fn left<'m>(self, b: &Builder<'m>, word: Value<'m>, lanes: usize) -> Vec<Value<'m>> {
        let spread = |word: Value<'m>, bits: usize| as_lanes(b, b.broadcast(word, lanes), bits);
        match self {
            Self::Four => vec![spread(word, 8)],
            Self::Pairs => {
                let c = |value: i64| b.integer(word.ty(), value);
                let places = c(0x00ff_00ff);
                let odd = b.shrui(word, c(8));
                vec![spread(b.andi(word, places), 16), spread(b.andi(odd, places), 16)]
            }
        }
    }

    /// Four bytes a lane of the right side.
    pub(super) fn right<'m>(self, b: &Builder<'m>, bytes: Value<'m>) -> Vec<Value<'m>> {
        match self {
            Self::Four => vec![bytes],
            Self::Pairs => {
                let pairs = as_lanes(b, bytes, 16);
                let eight = b.integer(pairs.ty(), 8);
                vec![b.shrsi(b.shli(pairs, eight), eight), b.shrsi(pairs, eight)]
            }
        }
    }

    /// The sum with the four products of each lane added.
    pub(super) fn add<'m>(
        self,
        b: &Builder<'m>,
        left: &[Value<'m>],
        right: &[Value<'m>],
        sum: Value<'m>,
    ) -> Value<'m> {
        let wide = sum.ty().vector_lanes() == Some(16);
        left.iter().zip(right).fold(sum, |sum, (x, w)| match self {
            Self::Four => {
                let name = if wide { "llvm.x86.avx512.vpdpbusd.512" } else { "llvm.x86.avx512.vpdpbusd.256" };
                b.intrinsic(name, &[sum, *x, *w], sum.ty())
            }
            Self::Pairs => {
                let name = if wide { "llvm.x86.avx512.pmaddw.d.512" } else { "llvm.x86.avx2.pmadd.wd" };
                b.addi(sum, b.intrinsic(name, &[*x, *w], sum.ty()))
            }
        })
    }
}

/// The first `count` of four bytes from memory as one number, lowest first; the others are 0.
pub(super) fn word<'m>(b: &Builder<'m>, memref: Value<'m>, at: Value<'m>, count: i64) -> Value<'m> {
    let word = b.int_type(32);
    if count >= DEPTH {
        let bytes = b.vector_load(memref, at, DEPTH as usize);
        return b.extract(as_lanes(b, bytes, 32), 0);
    }
    let byte = |i: i64| {
        let byte = b.extui(b.load(memref, b.addi(at, b.index(i))), word);
        b.shli(byte, b.integer(word, 8 * i))
    };
    (1..count).fold(byte(0), |word, i| b.ori(word, byte(i)))
}

/// The same bits as a vector of integers of another width.
fn as_lanes<'m>(b: &Builder<'m>, vector: Value<'m>, bits: usize) -> Value<'m> {
    let lanes = vector.ty().vector_lanes().unwrap_or(1);
    let all = lanes * vector.ty().bits().unwrap_or(8);
    b.simple("vector.bitcast", &[vector], b.vector_type(all / bits, b.int_type(bits)))
}
