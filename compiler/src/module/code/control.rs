//! Structured control flow as jumps.

use ired_mlir::{Block, Op, Value};
use ired_module::code::{Buffer, Inst, Label, Scalar};

use super::moves::sequence;
use super::{Writer, fault, is_buffer, take};
use crate::errors::Diagnostic;

impl<'m> Writer<'_, 'm> {
    pub(super) fn branch(&mut self, op: Op<'m>) -> Result<(), Diagnostic> {
        let condition = self.scalar(op.operand(0))?;
        let results: Vec<Value<'m>> = op.results().collect();
        results.iter().try_for_each(|result| self.define(*result))?;
        let to_then = self.code.len();
        self.code.push(Inst::JumpIf { condition, to: Label(0) });
        if let Some(otherwise) = op.region(1).first_block() {
            self.block(otherwise)?;
            self.pass_on(otherwise, &results)?;
        }
        let to_end = self.code.len();
        self.code.push(Inst::Jump { to: Label(0) });
        self.code[to_then] = Inst::JumpIf { condition, to: self.label() };
        if let Some(then) = op.region(0).first_block() {
            self.block(then)?;
            self.pass_on(then, &results)?;
        }
        self.code[to_end] = Inst::Jump { to: self.label() };
        Ok(())
    }

    pub(super) fn repeat(&mut self, op: Op<'m>) -> Result<(), Diagnostic> {
        let (Some(before), Some(body)) = (op.region(0).first_block(), op.region(1).first_block()) else {
            return Err(fault("a loop has no body"));
        };
        let carried: Vec<Value<'m>> = before.arguments().collect();
        carried.iter().try_for_each(|argument| self.define(*argument))?;
        self.move_all(op.operands().zip(carried.iter().copied()).collect())?;
        let start = self.label();
        let mut condition = None;
        for inner in before.ops() {
            if inner.is("scf.condition") {
                condition = Some(self.scalar(inner.operand(0))?);
                // What is passed on is where it was computed, for the body and after the loop.
                for (i, passed) in inner.operands().skip(1).enumerate() {
                    self.share(passed, body.argument(i))?;
                    self.share(passed, op.result(i))?;
                }
            } else {
                self.op(inner)?;
            }
        }
        let condition = condition.ok_or_else(|| fault("a loop has no condition"))?;
        let (to_body, to_end) = (self.code.len(), self.code.len() + 1);
        self.code.push(Inst::JumpIf { condition, to: Label(to_end as u32 + 1) });
        self.code.push(Inst::Jump { to: Label(0) });
        debug_assert_eq!(self.code.len(), to_body + 2);
        self.block(body)?;
        self.pass_on(body, &carried)?;
        self.code.push(Inst::Jump { to: start });
        self.code[to_end] = Inst::Jump { to: self.label() };
        Ok(())
    }

    /// Moves what `block` yields into the registers of `targets`.
    fn pass_on(&mut self, block: Block<'m>, targets: &[Value<'m>]) -> Result<(), Diagnostic> {
        let Some(end) = block.terminator() else { return Ok(()) };
        self.move_all(end.operands().zip(targets.iter().copied()).collect())
    }

    /// Moves the first of each pair to the second, all at once.
    fn move_all(&mut self, pairs: Vec<(Value<'m>, Value<'m>)>) -> Result<(), Diagnostic> {
        let (mut scalars, mut buffers) = (Vec::new(), Vec::new());
        for (from, to) in pairs {
            if is_buffer(to) {
                buffers.push((self.buffer(from)?.0, self.buffer(to)?.0));
            } else {
                scalars.push((self.scalar(from)?.0, self.scalar(to)?.0));
            }
        }
        for (src, dst) in sequence(scalars, || take(&mut self.next_scalar))? {
            self.code.push(Inst::Move { dst: Scalar(dst), src: Scalar(src) });
        }
        for (src, dst) in sequence(buffers, || take(&mut self.next_buffer))? {
            self.code.push(Inst::MoveBuffer { dst: Buffer(dst), src: Buffer(src) });
        }
        Ok(())
    }
}
