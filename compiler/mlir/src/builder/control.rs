//! `func` and `scf`: structured control flow whose bodies are closures.

use crate::builder::Builder;
use crate::ir::{Attribute, Block, Op, Type, Value};

impl<'m> Builder<'m> {
    /// A `func.func`; `fill` gets the entry block's arguments and ends with [`Builder::ret`].
    pub fn func(
        &self,
        symbol: &str,
        inputs: &[Type<'m>],
        results: &[Type<'m>],
        fill: impl FnOnce(&Builder<'m>, &[Value<'m>]),
    ) -> Op<'m> {
        let region = self.region(inputs, |b, arguments| fill(&b.function(b.block()), arguments));
        self.op("func.func")
            .attribute("sym_name", self.string_attribute(symbol))
            .attribute("function_type", self.type_attribute(self.function_type(inputs, results)))
            .owned_region(region)
            .build()
    }

    /// `func.return`
    pub fn ret(&self, values: &[Value<'m>]) {
        self.op("func.return").operands(values).build();
    }

    /// `scf.for` from `low` while under `high`; `body` gets the counter and the carried values, and gives the
    /// next ones. Returns the last ones.
    pub fn for_loop(
        &self,
        low: Value<'m>,
        high: Value<'m>,
        step: Value<'m>,
        carried: &[Value<'m>],
        body: impl FnOnce(&Builder<'m>, Value<'m>, &[Value<'m>]) -> Vec<Value<'m>>,
    ) -> Vec<Value<'m>> {
        let types: Vec<_> = carried.iter().map(|v| v.ty()).collect();
        let arguments = [&[low.ty()], types.as_slice()].concat();
        self.op("scf.for")
            .operands(&[low, high, step])
            .operands(carried)
            .results(&types)
            .region(&arguments, |b, arguments| {
                let next = body(b, arguments[0], &arguments[1..]);
                b.op("scf.yield").operands(&next).build();
            })
            .build()
            .results()
            .collect()
    }

    /// [`Builder::for_loop`] with step 1 and nothing carried.
    pub fn for_each(&self, low: Value<'m>, high: Value<'m>, body: impl FnOnce(&Builder<'m>, Value<'m>)) {
        self.for_loop(low, high, self.index(1), &[], |b, i, _| {
            body(b, i);
            Vec::new()
        });
    }

    /// `scf.if` with results.
    pub fn if_else(
        &self,
        condition: Value<'m>,
        results: &[Type<'m>],
        yes: impl FnOnce(&Builder<'m>) -> Vec<Value<'m>>,
        no: impl FnOnce(&Builder<'m>) -> Vec<Value<'m>>,
    ) -> Vec<Value<'m>> {
        let op = self.op("scf.if").operands(&[condition]).results(results).region(&[], |b, _| {
            let values = yes(b);
            b.op("scf.yield").operands(&values).build();
        });
        op.region(&[], |b, _| {
            let values = no(b);
            b.op("scf.yield").operands(&values).build();
        })
        .build()
        .results()
        .collect()
    }

    /// `scf.if` without results or else.
    pub fn if_then(&self, condition: Value<'m>, yes: impl FnOnce(&Builder<'m>)) {
        let empty = self.region_without_block();
        self.op("scf.if")
            .operands(&[condition])
            .region(&[], |b, _| {
                yes(b);
                b.op("scf.yield").build();
            })
            .owned_region(empty)
            .build();
    }

    /// `scf.index_switch` without results: `body` fills each case, and nothing happens for other numbers.
    pub fn switch(&self, selector: Value<'m>, cases: &[i64], mut body: impl FnMut(&Builder<'m>, i64)) {
        let mut op = self
            .op("scf.index_switch")
            .operands(&[selector])
            .attribute("cases", self.dense_i64_attribute(cases))
            .region(&[], |b, _| {
                b.op("scf.yield").build();
            });
        for case in cases {
            op = op.region(&[], |b, _| {
                body(b, *case);
                b.op("scf.yield").build();
            });
        }
        op.build();
    }

    /// `scf.while`: `before` gets the state and gives the condition and what to pass on; `after` gets that and
    /// gives the next state. Returns what was passed on when the condition failed.
    pub fn while_loop(
        &self,
        state: &[Value<'m>],
        passed: &[Type<'m>],
        before: impl FnOnce(&Builder<'m>, &[Value<'m>]) -> (Value<'m>, Vec<Value<'m>>),
        after: impl FnOnce(&Builder<'m>, &[Value<'m>]) -> Vec<Value<'m>>,
    ) -> Vec<Value<'m>> {
        let types: Vec<_> = state.iter().map(|v| v.ty()).collect();
        let op = self.op("scf.while").operands(state).results(passed).region(&types, |b, arguments| {
            let (condition, values) = before(b, arguments);
            b.op("scf.condition").operands(&[condition]).operands(&values).build();
        });
        op.region(passed, |b, arguments| {
            let next = after(b, arguments);
            b.op("scf.yield").operands(&next).build();
        })
        .build()
        .results()
        .collect()
    }

    /// An `ired.executable`; `fill` adds its functions.
    pub fn executable(&self, symbol: &str, fill: impl FnOnce(&Builder<'m>)) -> Op<'m> {
        self.op("ired.executable")
            .attribute("sym_name", self.string_attribute(symbol))
            .region(&[], |b, _| fill(b))
            .build()
    }

    /// The body of an `ired.executable`.
    pub fn executable_body(executable: Op<'m>) -> Option<Block<'m>> {
        executable.is("ired.executable").then(|| executable.region(0).first_block()).flatten()
    }

    /// Values of an array attribute of strings.
    pub fn string_array_attribute(&self, words: &[&str]) -> Attribute<'m> {
        let words: Vec<_> = words.iter().map(|w| self.string_attribute(w)).collect();
        self.array_attribute(&words)
    }

    fn region_without_block(&self) -> mlir_sys::MlirRegion {
        // SAFETY: the operation that it is given to owns the region.
        unsafe { mlir_sys::mlirRegionCreate() }
    }
}
