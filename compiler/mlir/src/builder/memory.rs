//! Scalars in memory: `memref` and the few `llvm` operations of the kernel ABI.

use crate::builder::Builder;
use crate::ir::{Attribute, Op, Type, Value};

impl<'m> Builder<'m> {
    /// `memref.load` of a one-dimensional memref.
    pub fn load(&self, memref: Value<'m>, index: Value<'m>) -> Value<'m> {
        self.simple("memref.load", &[memref, index], memref.ty().element())
    }

    /// `memref.store` to a one-dimensional memref.
    pub fn store(&self, value: Value<'m>, memref: Value<'m>, index: Value<'m>) {
        self.op("memref.store").operands(&[value, memref, index]).build();
    }

    /// `memref.prefetch` of an element's cache line for reading, as far as the second-level cache. The element need not
    /// be inside the memref.
    pub fn prefetch(&self, memref: Value<'m>, index: Value<'m>) {
        const SECOND_LEVEL: i64 = 2;
        self.op("memref.prefetch")
            .operands(&[memref, index])
            .attribute("isWrite", self.bool_attribute(false))
            .attribute("localityHint", self.integer_attribute(self.int_type(32), SECOND_LEVEL))
            .attribute("isDataCache", self.bool_attribute(true))
            .build();
    }

    /// The address of an element, for instructions that are told addresses.
    pub fn address(&self, memref: Value<'m>, index: Value<'m>) -> Value<'m> {
        let element_bytes = memref.ty().element().bits().unwrap_or(8).div_ceil(8);
        let base = self.simple("memref.extract_aligned_pointer_as_index", &[memref], self.index_type());
        let address = self.addi(base, self.muli(index, self.index(element_bytes as i64)));
        let address = self.index_cast(address, self.int_type(64));
        self.simple("llvm.inttoptr", &[address], self.pointer_type())
    }

    /// `memref.alloca` of a static one-dimensional array, on the stack.
    pub fn stack_array(&self, elements: usize, element: Type<'m>, alignment: i64) -> Value<'m> {
        let ty = self.parse_type(&format!("memref<{elements}x{element}>"));
        self.op("memref.alloca")
            .attribute("operandSegmentSizes", self.dense_i32_attribute(&[0, 0]))
            .attribute("alignment", self.i64_attribute(alignment))
            .results(&[ty])
            .build()
            .result(0)
    }

    /// A private constant array; `values` is a dense attribute of `memref_type`'s shape.
    pub fn global(&self, symbol: &str, memref_type: Type<'m>, values: Attribute<'m>) -> Op<'m> {
        self.op("memref.global")
            .attribute("sym_name", self.string_attribute(symbol))
            .attribute("sym_visibility", self.string_attribute("private"))
            .attribute("type", self.type_attribute(memref_type))
            .attribute("initial_value", values)
            .attribute("constant", self.unit_attribute())
            .attribute("alignment", self.i64_attribute(64))
            .build()
    }

    /// `memref.get_global`
    pub fn get_global(&self, symbol: &str, memref_type: Type<'m>) -> Value<'m> {
        self.op("memref.get_global")
            .attribute("name", self.symbol_attribute(&[symbol]))
            .results(&[memref_type])
            .build()
            .result(0)
    }

    /// `base[index]` for an array of `element`s behind a pointer.
    pub fn element_pointer(&self, base: Value<'m>, index: i32, element: Type<'m>) -> Value<'m> {
        self.op("llvm.getelementptr")
            .operands(&[base])
            .attribute("rawConstantIndices", self.dense_i32_attribute(&[index]))
            .attribute("elem_type", self.type_attribute(element))
            .results(&[self.pointer_type()])
            .build()
            .result(0)
    }

    /// `llvm.load`
    pub fn load_pointer(&self, pointer: Value<'m>, ty: Type<'m>) -> Value<'m> {
        self.simple("llvm.load", &[pointer], ty)
    }

    /// A pointer seen as a one-dimensional memref without a size.
    pub fn memref_of(&self, pointer: Value<'m>, element: Type<'m>) -> Value<'m> {
        let descriptor = self.parse_type("!llvm.struct<(ptr, ptr, i64, array<1 x i64>, array<1 x i64>)>");
        let i64_type = self.int_type(64);
        let insert = |into: Value<'m>, value: Value<'m>, position: &[i64]| {
            self.op("llvm.insertvalue")
                .operands(&[into, value])
                .attribute("position", self.dense_i64_attribute(position))
                .results(&[descriptor])
                .build()
                .result(0)
        };
        let mut value = self.op("llvm.mlir.poison").results(&[descriptor]).build().result(0);
        value = insert(value, pointer, &[0]);
        value = insert(value, pointer, &[1]);
        value = insert(value, self.integer(i64_type, 0), &[2]);
        value = insert(value, self.integer(i64_type, i64::MAX), &[3, 0]);
        value = insert(value, self.integer(i64_type, 1), &[4, 0]);
        self.simple("builtin.unrealized_conversion_cast", &[value], self.memref_type(element))
    }
}
