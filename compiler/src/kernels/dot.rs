//! Products of small elements: neighbours are multiplied and summed into each lane at once. Four of bytes into i32, or two of
//! i16 and bytes, exactly; two of bf16 into f32.

use ired_graph::{DType, Graph, Op, ValueId};
use ired_mlir::{Builder, Value};

use super::generic::producer;
use crate::dispatch::Dispatch;
use crate::targets::CpuTarget;
use crate::targets::cpu::Isa;

/// How a machine does it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Dot {
    /// Four bytes by four i8 in one instruction.
    Four { signed: bool },
    /// Two i16, of which no product saturates. Weights are bytes, made i16 when they are loaded.
    Words { signed: bool },
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
            (bytes, DType::I8) if is_read(x) && multiplies_bytes(target, bytes) => {
                Some(Self { dot: Dot::Four { signed: bytes == DType::I8 }, left: x })
            }
            (DType::I16, weights @ (DType::I8 | DType::U8)) if is_read(x) => {
                Some(Self { dot: Dot::Words { signed: weights == DType::I8 }, left: x })
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
            Self::Four { signed: false } => &["amx-int8", "amx-tile"],
            Self::Bf16 => &["amx-bf16", "amx-tile"],
            Self::Four { signed: true } | Self::Words { .. } => &[],
        }
    }

    pub(super) fn has_tiles(self, target: &CpuTarget) -> bool {
        let features = self.tile_features();
        target.has_avx512() && !features.is_empty() && features.iter().all(|f| target.has(f))
    }

    /// Bytes of an element of the left side.
    pub(super) fn element_bytes(self) -> i64 {
        4 / self.depth()
    }

    /// Products that one step sums into a lane. Weights are packed so that they are neighbours.
    pub(super) fn depth(self) -> i64 {
        match self {
            Self::Four { .. } => 4,
            Self::Words { .. } | Self::Bf16 => 2,
        }
    }

    /// Neighbours of the left side, for every lane.
    pub(super) fn left<'m>(self, b: &Builder<'m>, word: Value<'m>, lanes: usize) -> Value<'m> {
        let word = b.broadcast(word, lanes);
        match self {
            Self::Four { .. } => as_lanes(b, word, 8),
            Self::Words { .. } => as_lanes(b, word, 16),
            Self::Bf16 => as_bf16(b, as_lanes(b, word, 16)),
        }
    }

    /// Neighbours of the right side for each lane.
    pub(super) fn right<'m>(self, b: &Builder<'m>, elements: Value<'m>) -> Value<'m> {
        match self {
            Self::Four { .. } => elements,
            Self::Words { signed } => {
                let wide = b.int_type(16);
                if signed { b.extsi(elements, wide) } else { b.extui(elements, wide) }
            }
            Self::Bf16 => as_bf16(b, elements),
        }
    }

    /// The sum with the products of each lane added.
    pub(super) fn add<'m>(
        self,
        b: &Builder<'m>,
        isa: Isa,
        left: Value<'m>,
        right: Value<'m>,
        sum: Value<'m>,
    ) -> Value<'m> {
        match isa {
            Isa::X86_64 => self.add_x86(b, left, right, sum),
            Isa::Aarch64 => self.add_aarch64(b, left, right, sum),
            Isa::Riscv64 => add_pairs(b, left, right, sum),
        }
    }

    fn add_x86<'m>(self, b: &Builder<'m>, left: Value<'m>, right: Value<'m>, sum: Value<'m>) -> Value<'m> {
        let wide = sum.ty().vector_lanes() == Some(16);
        match self {
            Self::Four { .. } => {
                let name = if wide { "llvm.x86.avx512.vpdpbusd.512" } else { "llvm.x86.avx512.vpdpbusd.256" };
                b.intrinsic(name, &[sum, left, right], sum.ty())
            }
            Self::Words { .. } => {
                let name = if wide { "llvm.x86.avx512.pmaddw.d.512" } else { "llvm.x86.avx2.pmadd.wd" };
                b.addi(sum, b.intrinsic(name, &[left, right], sum.ty()))
            }
            Self::Bf16 => b.intrinsic("llvm.x86.avx512bf16.dpbf16ps.512", &[sum, left, right], sum.ty()),
        }
    }

    fn add_aarch64<'m>(
        self,
        b: &Builder<'m>,
        left: Value<'m>,
        right: Value<'m>,
        sum: Value<'m>,
    ) -> Value<'m> {
        let name = match self {
            Self::Words { .. } => return add_pairs(b, left, right, sum),
            Self::Four { signed: true } => "sdot",
            Self::Four { signed: false } => "usdot",
            Self::Bf16 => "bfdot",
        };
        if sum.ty().vector_lanes() == Some(4) {
            return b.intrinsic(&format!("llvm.aarch64.neon.{name}"), &[sum, left, right], sum.ty());
        }
        let operands = [sum, left, right].map(|vector| as_scalable(b, vector));
        let sums = b.intrinsic(&format!("llvm.aarch64.sve.{name}"), &operands, operands[0].ty());
        let start = b.integer_attribute(b.int_type(64), 0);
        b.op("vector.scalable.extract")
            .operands(&[sums])
            .attribute("pos", start)
            .results(&[sum.ty()])
            .build()
            .result(0)
    }
}

/// The lower part of one of SVE's registers, which are as long as this or longer.
fn as_scalable<'m>(b: &Builder<'m>, vector: Value<'m>) -> Value<'m> {
    let ty = vector.ty();
    let element = ty.element();
    let ty = b.parse_type(&format!("vector<[{}]x{element}>", 128 / element.bits().unwrap_or(32)));
    let rest = b.simple("llvm.mlir.poison", &[], ty);
    let start = b.integer_attribute(b.int_type(64), 0);
    b.op("vector.scalable.insert")
        .operands(&[vector, rest])
        .attribute("pos", start)
        .results(&[ty])
        .build()
        .result(0)
}

/// Two i16 with two others, by instructions that every machine has.
fn add_pairs<'m>(b: &Builder<'m>, left: Value<'m>, right: Value<'m>, sum: Value<'m>) -> Value<'m> {
    let lanes = sum.ty().vector_lanes().unwrap_or(1) as i64;
    let each_second = |vector: Value<'m>, first: i64| {
        let places: Vec<_> = (0..lanes).map(|lane| 2 * lane + first).collect();
        b.extsi(b.shuffle(vector, vector, &places), b.int_type(32))
    };
    (0..2).fold(sum, |sum, first| b.addi(sum, b.muli(each_second(left, first), each_second(right, first))))
}

/// Whether a target multiplies four bytes of a type by four i8 at once.
pub(crate) fn multiplies_bytes(target: &CpuTarget, left: DType) -> bool {
    let instruction = match (target.isa(), left) {
        (Isa::X86_64, DType::U8) if target.has_avx512() => "avx512vnni",
        (Isa::X86_64, DType::U8) => "avxvnni",
        (Isa::Aarch64, DType::U8) => "i8mm",
        (Isa::Aarch64, DType::I8) => "dotprod",
        _ => return false,
    };
    target.has(instruction)
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
