//! One-dimensional vectors: memory access, lanes, reductions.

use crate::builder::Builder;
use crate::ir::{Op, Type, Value};

impl<'m> Builder<'m> {
    /// `vector.load` of consecutive elements; needs no alignment beyond the element's.
    pub fn vector_load(&self, memref: Value<'m>, index: Value<'m>, lanes: usize) -> Value<'m> {
        let ty = self.vector_type(lanes, memref.ty().element());
        self.op("vector.load").operands(&[memref, index]).results(&[ty]).build().result(0)
    }

    /// `vector.store` to consecutive elements.
    pub fn vector_store(&self, value: Value<'m>, memref: Value<'m>, index: Value<'m>) {
        self.op("vector.store").operands(&[value, memref, index]).build();
    }

    /// Loads the lanes whose mask is set; the others are `rest`'s.
    pub fn masked_load(
        &self,
        memref: Value<'m>,
        index: Value<'m>,
        mask: Value<'m>,
        rest: Value<'m>,
    ) -> Value<'m> {
        self.op("vector.maskedload")
            .operands(&[memref, index, mask, rest])
            .results(&[rest.ty()])
            .build()
            .result(0)
    }

    /// Stores the lanes whose mask is set.
    pub fn masked_store(&self, value: Value<'m>, memref: Value<'m>, index: Value<'m>, mask: Value<'m>) {
        self.op("vector.maskedstore").operands(&[memref, index, mask, value]).build();
    }

    /// A mask whose first `count` lanes are set; `count` may be out of `0..=lanes`. A count that is known is what
    /// [`Builder::known`] gives for the mask.
    pub fn mask(&self, count: Value<'m>, lanes: usize) -> Value<'m> {
        let mask = self.simple("vector.create_mask", &[count], self.vector_type(lanes, self.int_type(1)));
        if let Some(count) = self.known(count) {
            self.constants.known.borrow_mut().insert(mask.raw.ptr, count);
        }
        mask
    }

    /// A scalar in every lane.
    pub fn broadcast(&self, scalar: Value<'m>, lanes: usize) -> Value<'m> {
        self.simple("vector.broadcast", &[scalar], self.vector_type(lanes, scalar.ty()))
    }

    /// Scalars of one type, in order.
    pub fn from_elements(&self, elements: &[Value<'m>], element: Type<'m>) -> Value<'m> {
        self.simple("vector.from_elements", elements, self.vector_type(elements.len(), element))
    }

    /// `0, 1, 2, ...` as index.
    pub fn lane_numbers(&self, lanes: usize) -> Value<'m> {
        self.simple("vector.step", &[], self.vector_type(lanes, self.index_type()))
    }

    pub fn extract(&self, vector: Value<'m>, lane: usize) -> Value<'m> {
        self.op("vector.extract")
            .operands(&[vector])
            .attribute("static_position", self.dense_i64_attribute(&[lane as i64]))
            .results(&[vector.ty().element()])
            .build()
            .result(0)
    }

    /// Lanes picked from two vectors put side by side.
    pub fn shuffle(&self, first: Value<'m>, second: Value<'m>, lanes: &[i64]) -> Value<'m> {
        let ty = self.vector_type(lanes.len(), first.ty().element());
        self.op("vector.shuffle")
            .operands(&[first, second])
            .attribute("mask", self.dense_i64_attribute(lanes))
            .results(&[ty])
            .build()
            .result(0)
    }

    /// `vector.reduction` of a kind such as `add` or `maxsi`; floats may be reassociated.
    pub fn reduce(&self, kind: &str, vector: Value<'m>) -> Value<'m> {
        let flags = if vector.ty().is_float() { "reassoc" } else { "none" };
        self.op("vector.reduction")
            .operands(&[vector])
            .attribute("kind", self.parse_attribute(&format!("#vector.kind<{kind}>")))
            .attribute("fastmath", self.parse_attribute(&format!("#arith.fastmath<{flags}>")))
            .results(&[vector.ty().element()])
            .build()
            .result(0)
    }

    /// `lhs * rhs + addend` on vectors, rounded once.
    pub fn vector_fma(&self, lhs: Value<'m>, rhs: Value<'m>, addend: Value<'m>) -> Value<'m> {
        self.simple("vector.fma", &[lhs, rhs, addend], lhs.ty())
    }

    /// An instruction by LLVM's name for it, such as `llvm.x86.avx2.pmadd.wd`; the target must have it.
    pub fn intrinsic(&self, name: &str, operands: &[Value<'m>], result: Type<'m>) -> Value<'m> {
        self.call_intrinsic(name, operands, &[result]).result(0)
    }

    /// The same for one without a result.
    pub fn effect(&self, name: &str, operands: &[Value<'m>]) {
        self.call_intrinsic(name, operands, &[]);
    }

    fn call_intrinsic(&self, name: &str, operands: &[Value<'m>], results: &[Type<'m>]) -> Op<'m> {
        self.op("llvm.call_intrinsic")
            .operands(operands)
            .attribute("intrin", self.string_attribute(name))
            .attribute("operandSegmentSizes", self.dense_i32_attribute(&[operands.len() as i32, 0]))
            .attribute("op_bundle_sizes", self.dense_i32_attribute(&[]))
            .results(results)
            .build()
    }
}
