//! Products of small elements: neighbours are multiplied and summed into each lane at once. Four of u8 and i8 into i32,
//! exactly; two of bf16 into f32.

use ired_graph::{DType, Graph, Op, ValueId};
use ired_mlir::{Builder, Value};

use super::generic::producer;
use crate::dispatch::Dispatch;
use crate::targets::CpuTarget;

/// How a machine does it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dot {
    /// Four bytes in one instruction.
    Four,
    /// Bytes at even and at odd places each as pairs of i16, of which no product saturates.
    Pairs,
    /// Two bf16 in one instruction.
    Bf16,
}

/// A product's left-hand side as it lies in memory, and how it is multiplied.
#[derive(Clone, Copy, Debug)]
pub(super) struct DotProduct {
    pub(super) dot: Dot,
    pub(super) left: ValueId,
}

impl DotProduct {
    /// For `x` and packed `weights`; `None` where these are of other types, or `x` is not read from memory.
    pub(super) fn of(
        graph: &Graph,
        dispatch: &Dispatch,
        x: ValueId,
        weights: ValueId,
        target: &CpuTarget,
    ) -> Option<Self> {
        let dtype = |value: ValueId| graph.values[value.index()].ty.dtype;
        let is_read = |value: ValueId| dispatch.inputs.contains(&value);
        match (dtype(x), dtype(weights)) {
            (DType::U8, DType::I8) if is_read(x) => {
                // Wide targets have the instruction from one set, narrow ones from the other.
                let set = if target.vector_bits == 512 { "avx512vnni" } else { "avxvnni" };
                let dot = if target.has(set) { Dot::Four } else { Dot::Pairs };
                Some(Self { dot, left: x })
            }
            (DType::F32, DType::BF16) if target.has_bf16_products() => {
                let widened = producer(graph, dispatch, x).filter(|node| node.op == Op::Cast(DType::F32))?;
                let left = widened.operands[0];
                (dtype(left) == DType::BF16 && is_read(left)).then_some(Self { dot: Dot::Bf16, left })
            }
            _ => None,
        }
    }
}

impl Dot {
    /// What of a target multiplies these in tiles.
    pub(super) fn tile_features(self) -> &'static [&'static str] {
        match self {
            Self::Four => &["amx-int8", "amx-tile"],
            Self::Bf16 => &["amx-bf16", "amx-tile"],
            Self::Pairs => &[],
        }
    }

    pub(super) fn has_tiles(self, target: &CpuTarget) -> bool {
        let features = self.tile_features();
        target.vector_bits == 512 && !features.is_empty() && features.iter().all(|f| target.has(f))
    }

    /// Bytes of an element.
    pub(super) fn element_bytes(self) -> i64 {
        4 / self.depth()
    }

    /// Products that one step sums into a lane. Weights are packed so that they are neighbours.
    pub(super) fn depth(self) -> i64 {
        match self {
            Self::Four | Self::Pairs => 4,
            Self::Bf16 => 2,
        }
    }

    /// Neighbours of the left side, for every lane.
    pub(super) fn left<'m>(self, b: &Builder<'m>, word: Value<'m>, lanes: usize) -> Vec<Value<'m>> {
        let spread = |word: Value<'m>, bits: usize| as_lanes(b, b.broadcast(word, lanes), bits);
        match self {
            Self::Four => vec![spread(word, 8)],
            Self::Bf16 => vec![as_bf16(b, spread(word, 16))],
            Self::Pairs => {
                let c = |value: i64| b.integer(word.ty(), value);
                let places = c(0x00ff_00ff);
                let odd = b.shrui(word, c(8));
                vec![spread(b.andi(word, places), 16), spread(b.andi(odd, places), 16)]
            }
        }
    }

    /// Neighbours of the right side for each lane.
    pub(super) fn right<'m>(self, b: &Builder<'m>, elements: Value<'m>) -> Vec<Value<'m>> {
        match self {
            Self::Four => vec![elements],
            Self::Bf16 => vec![as_bf16(b, elements)],
            Self::Pairs => {
                let pairs = as_lanes(b, elements, 16);
                let eight = b.integer(pairs.ty(), 8);
                vec![b.shrsi(b.shli(pairs, eight), eight), b.shrsi(pairs, eight)]
            }
        }
    }

    /// The sum with the products of each lane added.
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
            Self::Bf16 => b.intrinsic("llvm.x86.avx512bf16.dpbf16ps.512", &[sum, *x, *w], sum.ty()),
            Self::Pairs => {
                let name = if wide { "llvm.x86.avx512.pmaddw.d.512" } else { "llvm.x86.avx2.pmadd.wd" };
                b.addi(sum, b.intrinsic(name, &[*x, *w], sum.ty()))
            }
        })
    }
}

/// Whether a target multiplies bf16 in tiles.
pub(crate) fn has_bf16_tiles(target: &CpuTarget) -> bool {
    Dot::Bf16.has_tiles(target)
}

/// The first `count` of `depth` neighbours from memory as one number, lowest first; the others are 0.
pub(super) fn word<'m>(
    b: &Builder<'m>,
    memref: Value<'m>,
    at: Value<'m>,
    count: i64,
    depth: i64,
) -> Value<'m> {
    let word = b.int_type(32);
    if count >= depth {
        let elements = b.vector_load(memref, at, depth as usize);
        return b.extract(as_lanes(b, elements, 32), 0);
    }
    let element = |i: i64| {
        let element = b.extui(b.load(memref, b.addi(at, b.index(i))), word);
        b.shli(element, b.integer(word, 32 / depth * i))
    };
    (1..count).fold(element(0), |word, i| b.ori(word, element(i)))
}

/// The same bits as numbers.
fn as_bf16<'m>(b: &Builder<'m>, vector: Value<'m>) -> Value<'m> {
    let lanes = vector.ty().vector_lanes().unwrap_or(1);
    b.simple("vector.bitcast", &[vector], b.vector_type(lanes, b.parse_type("bf16")))
}

/// The same bits as a vector of integers of another width.
pub(super) fn as_lanes<'m>(b: &Builder<'m>, vector: Value<'m>, bits: usize) -> Value<'m> {
    let lanes = vector.ty().vector_lanes().unwrap_or(1);
    let all = lanes * vector.ty().bits().unwrap_or(8);
    b.simple("vector.bitcast", &[vector], b.vector_type(all / bits, b.int_type(bits)))
}
