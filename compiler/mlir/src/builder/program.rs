//! Typed constructors of the `ired` dialect; `Ired.td` says what each operation means.

use crate::builder::Builder;
use crate::ir::{Op, Value};

impl<'m> Builder<'m> {
    pub fn input_dim(&self, input: Value<'m>, axis: usize) -> Value<'m> {
        self.op("ired.input_dim")
            .operands(&[input])
            .attribute("axis", self.i64_attribute(axis as i64))
            .results(&[self.index_type()])
            .build()
            .result(0)
    }

    pub fn param(&self, param: u32, name: &str) -> Value<'m> {
        self.op("ired.param")
            .attribute("param", self.i64_attribute(i64::from(param)))
            .attribute("name", self.string_attribute(name))
            .results(&[self.buffer_type()])
            .build()
            .result(0)
    }

    pub fn alloc(&self, bytes: Value<'m>) -> Value<'m> {
        self.simple("ired.alloc", &[bytes], self.buffer_type())
    }

    pub fn release(&self, buffer: Value<'m>) -> Op<'m> {
        self.op("ired.release").operands(&[buffer]).build()
    }

    pub fn slice(&self, source: Value<'m>, offset: Value<'m>, bytes: Value<'m>) -> Value<'m> {
        self.simple("ired.slice", &[source, offset, bytes], self.buffer_type())
    }

    /// A launch of `@executable::@kernel`; `access` has a word a binding: `r`, `w` or `rw`.
    pub fn dispatch(
        &self,
        kernel: [&str; 2],
        grid: [Value<'m>; 3],
        bindings: &[Value<'m>],
        access: &[&str],
        constants: &[Value<'m>],
    ) -> Op<'m> {
        let segments = [1, 1, 1, bindings.len() as i32, constants.len() as i32];
        self.op("ired.dispatch")
            .operands(&grid)
            .operands(bindings)
            .operands(constants)
            .attribute("kernel", self.symbol_attribute(&kernel))
            .attribute("access", self.string_array_attribute(access))
            .attribute("operandSegmentSizes", self.dense_i32_attribute(&segments))
            .build()
    }

    pub fn copy(&self, source: Value<'m>, target: Value<'m>) -> Op<'m> {
        self.op("ired.copy").operands(&[source, target]).build()
    }

    /// Fills with the low `width` bytes (1, 2, 4 or 8) of `pattern`.
    pub fn fill(&self, target: Value<'m>, pattern: Value<'m>, width: u8) -> Op<'m> {
        self.op("ired.fill")
            .operands(&[target, pattern])
            .attribute("width", self.i64_attribute(i64::from(width)))
            .build()
    }

    pub fn barrier(&self) -> Op<'m> {
        self.op("ired.barrier").build()
    }

    pub fn await_all(&self) -> Op<'m> {
        self.op("ired.await").build()
    }

    /// One element at `offset` bytes; `dtype` is the graph's name for its type.
    pub fn load_scalar(&self, source: Value<'m>, offset: Value<'m>, dtype: &str) -> Value<'m> {
        self.op("ired.load")
            .operands(&[source, offset])
            .attribute("dtype", self.string_attribute(dtype))
            .results(&[self.index_type()])
            .build()
            .result(0)
    }

    /// Host call `call` of the program: `targets` new buffers, then `target_dims` sizes.
    pub fn host_call(
        &self,
        call: usize,
        sources: &[Value<'m>],
        source_dims: &[Value<'m>],
        targets: usize,
        target_dims: usize,
    ) -> Op<'m> {
        let mut results = vec![self.buffer_type(); targets];
        results.resize(targets + target_dims, self.index_type());
        self.op("ired.host_call")
            .operands(sources)
            .operands(source_dims)
            .attribute("call", self.i64_attribute(call as i64))
            .attribute(
                "operandSegmentSizes",
                self.dense_i32_attribute(&[sources.len() as i32, source_dims.len() as i32]),
            )
            .attribute("resultSegmentSizes", self.dense_i32_attribute(&[targets as i32, target_dims as i32]))
            .results(&results)
            .build()
    }

    pub fn check(&self, condition: Value<'m>, message: &str) -> Op<'m> {
        self.op("ired.check")
            .operands(&[condition])
            .attribute("message", self.string_attribute(message))
            .build()
    }

    pub fn output(&self, number: usize, source: Value<'m>, dims: &[Value<'m>]) -> Op<'m> {
        self.op("ired.output")
            .operands(&[source])
            .operands(dims)
            .attribute("number", self.i64_attribute(number as i64))
            .build()
    }

    /// An entry point: a `func.func` of `inputs` buffers marked `ired.entry`; `fill` ends with
    /// [`Builder::ret`] of nothing.
    pub fn entry(
        &self,
        symbol: &str,
        inputs: usize,
        fill: impl FnOnce(&Builder<'m>, &[Value<'m>]),
    ) -> Op<'m> {
        let inputs = vec![self.buffer_type(); inputs];
        let op = self.func(symbol, &inputs, &[], fill);
        op.set_attribute("ired.entry", self.unit_attribute());
        op
    }
}
