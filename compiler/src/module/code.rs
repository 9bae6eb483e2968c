//! Walks a host function and writes the VM's instructions: one scalar register a value, structured control flow
//! as jumps.

mod control;
mod moves;

use std::collections::HashMap;

use ired_graph::NodeId;
use ired_mlir::{Block, Op, Value};
use ired_module::code::{ArithOp, Buffer, Function, Inst, Label, OwnedInst, Scalar};
use ired_module::signature::PeakBytes;

use crate::errors::{Diagnostic, DiagnosticKind};
use crate::program::{ENTRY, Program, ROOT};
use crate::schedule::{ARENA, bindings, entry_block, host_functions};

/// VM functions of a program.
pub(super) struct Code {
    /// The entry point first, then what computes its peak.
    pub(super) functions: Vec<Function>,
    pub(super) messages: Vec<String>,
    pub(super) peak: PeakBytes,
    /// Dispatches of the entry point: the instruction, and its main node.
    pub(super) dispatches: Vec<(u32, NodeId)>,
}

/// `output_ranks` are those of the entry point.
pub(super) fn lower(program: &Program<'_>, output_ranks: Vec<usize>) -> Result<Code, Diagnostic> {
    let function = host_functions(&program.module)
        .into_iter()
        .find(|f| f.symbol().as_deref() == Some(ENTRY))
        .ok_or_else(|| fault("the program has no entry point"))?;
    let block = entry_block(function).ok_or_else(|| fault("the entry point has no body"))?;
    let kernels: HashMap<&str, u32> =
        program.executables.iter().enumerate().map(|(i, e)| (e.symbol.as_str(), i as u32)).collect();
    let mut main = Writer::new(&kernels, block);
    main.inputs()?;
    main.block(block)?;
    main.code.push(Inst::Return);
    let arena = block.ops().find(|op| op.is("ired.alloc") && op.attribute(ARENA).is_some());
    let mut messages = std::mem::take(&mut main.messages);
    let dispatches = std::mem::take(&mut main.dispatches);
    let mut functions = vec![main.finish(ENTRY, &program.input_ranks, &output_ranks)?];
    let peak = match arena.map(|op| op.operand(0)) {
        None => PeakBytes::Static(0),
        Some(bytes) => match bytes.as_constant() {
            Some(bytes) => PeakBytes::Static(u64::try_from(bytes).unwrap_or(0)),
            None => {
                let mut writer = Writer::new(&kernels, block);
                writer.messages = messages;
                let value = writer.scalar_with_operands(bytes)?;
                writer.code.push(Inst::ReturnScalar { value });
                messages = std::mem::take(&mut writer.messages);
                functions.push(writer.finish("main.peak", &program.input_ranks, &[])?);
                PeakBytes::Function(1)
            }
        },
    };
    Ok(Code { functions, messages, peak, dispatches })
}

fn fault(message: impl Into<String>) -> Diagnostic {
    Diagnostic::new(DiagnosticKind::Internal, message)
}

struct Writer<'a, 'm> {
    kernels: &'a HashMap<&'a str, u32>,
    entry: Block<'m>,
    code: Vec<OwnedInst>,
    messages: Vec<String>,
    dispatches: Vec<(u32, NodeId)>,
    scalars: HashMap<Value<'m>, Scalar>,
    buffers: HashMap<Value<'m>, Buffer>,
    next_scalar: usize,
    next_buffer: usize,
}

impl<'a, 'm> Writer<'a, 'm> {
    fn new(kernels: &'a HashMap<&'a str, u32>, entry: Block<'m>) -> Self {
        Self {
            kernels,
            entry,
            code: Vec::new(),
            messages: Vec::new(),
            dispatches: Vec::new(),
            scalars: HashMap::new(),
            buffers: HashMap::new(),
            next_scalar: 0,
            next_buffer: 0,
        }
    }

    fn finish(self, name: &str, inputs: &[usize], outputs: &[usize]) -> Result<Function, Diagnostic> {
        let ranks = |ranks: &[usize]| ranks.iter().map(|r| *r as u16).collect();
        Ok(Function {
            name: name.to_owned(),
            scalars: register(self.next_scalar)?,
            buffers: register(self.next_buffer)?,
            input_ranks: ranks(inputs),
            output_ranks: ranks(outputs),
            body: self.code,
        })
    }

    /// Names every input, ahead of any branch that may use one.
    fn inputs(&mut self) -> Result<(), Diagnostic> {
        for (index, argument) in self.entry.arguments().enumerate() {
            let (dst, input) = (Buffer(register(self.next_buffer)?), register(index)?);
            self.next_buffer += 1;
            self.buffers.insert(argument, dst);
            self.code.push(Inst::Input { dst, input });
        }
        Ok(())
    }

    fn block(&mut self, block: Block<'m>) -> Result<(), Diagnostic> {
        for op in block.ops() {
            self.op(op)?;
        }
        Ok(())
    }

    fn op(&mut self, op: Op<'m>) -> Result<(), Diagnostic> {
        let name = op.name();
        match name.as_str() {
            "ired.param" => {
                let param = integer(op, "param")? as u32;
                let dst = self.new_buffer(op)?;
                self.code.push(Inst::Param { dst, param });
            }
            "ired.alloc" => {
                let bytes = self.scalar(op.operand(0))?;
                let dst = self.new_buffer(op)?;
                self.code.push(Inst::Allocate { dst, bytes });
            }
            "ired.release" => {
                let buffer = self.buffer(op.operand(0))?;
                self.code.push(Inst::Release { buffer });
            }
            "ired.slice" => {
                let src = self.buffer(op.operand(0))?;
                let (offset, bytes) = (self.scalar(op.operand(1))?, self.scalar(op.operand(2))?);
                let dst = self.new_buffer(op)?;
                self.code.push(Inst::Slice { dst, src, offset, bytes });
            }
            "ired.dispatch" => self.dispatch(op)?,
            "ired.copy" => {
                let (src, dst) = (self.buffer(op.operand(0))?, self.buffer(op.operand(1))?);
                self.code.push(Inst::Copy { src, dst });
            }
            "ired.fill" => {
                let (dst, pattern) = (self.buffer(op.operand(0))?, self.scalar(op.operand(1))?);
                let width = integer(op, "width")? as u8;
                self.code.push(Inst::Fill { dst, pattern, width });
            }
            "ired.barrier" => self.code.push(Inst::Barrier),
            "ired.await" => self.code.push(Inst::Await),
            "ired.check" => {
                let condition = self.scalar(op.operand(0))?;
                let message = self.message(&string(op, "message")?);
                self.code.push(Inst::Check { condition, message });
            }
            "ired.host_call" => self.host_call(op)?,
            "ired.output" => {
                let src = self.buffer(op.operand(0))?;
                let dims = op.operands().skip(1).map(|v| self.scalar(v)).collect::<Result<_, _>>()?;
                self.code.push(Inst::Output { output: integer(op, "number")? as u16, src, dims });
            }
            "scf.if" => self.branch(op)?,
            "scf.while" => self.repeat(op)?,
            "scf.yield" | "func.return" => {}
            _ => self.compute(op)?,
        }
        Ok(())
    }

    /// Operations with one scalar result.
    fn compute(&mut self, op: Op<'m>) -> Result<(), Diagnostic> {
        if op.result_count() == 1 && self.scalars.contains_key(&op.result(0)) {
            return Ok(());
        }
        let name = op.name();
        let inst = match name.as_str() {
            "arith.constant" => {
                let value = op.result(0).as_constant().ok_or_else(|| fault("a constant is no integer"))?;
                // `true` of one bit reads as -1.
                let value = if op.result(0).ty().bits() == Some(1) { value & 1 } else { value };
                Inst::Constant { dst: self.new_scalar(op)?, value }
            }
            "ired.input_dim" => {
                let input = self.input(op.operand(0))?;
                Inst::InputDim { dst: self.new_scalar(op)?, input, axis: integer(op, "axis")? as u16 }
            }
            "ired.load" => {
                let (src, offset) = (self.buffer(op.operand(0))?, self.scalar(op.operand(1))?);
                let dtype = string(op, "dtype")?;
                let dtype = ired_module::DType::ALL
                    .iter()
                    .copied()
                    .find(|d| d.name() == dtype)
                    .ok_or_else(|| fault(format!("`{dtype}` is no element type")))?;
                Inst::Load { dst: self.new_scalar(op)?, src, offset, dtype }
            }
            "arith.select" => {
                let condition = self.scalar(op.operand(0))?;
                let (then, otherwise) = (self.scalar(op.operand(1))?, self.scalar(op.operand(2))?);
                Inst::Select { dst: self.new_scalar(op)?, condition, then, otherwise }
            }
            _ => {
                let (operation, swap) = arith(op, &name)?;
                let (mut lhs, mut rhs) = (self.scalar(op.operand(0))?, self.scalar(op.operand(1))?);
                if swap {
                    std::mem::swap(&mut lhs, &mut rhs);
                }
                Inst::Arith { op: operation, dst: self.new_scalar(op)?, lhs, rhs }
            }
        };
        self.code.push(inst);
        Ok(())
    }

    fn dispatch(&mut self, op: Op<'m>) -> Result<(), Diagnostic> {
        let path = op.attribute("kernel").and_then(|a| a.as_symbol_path()).unwrap_or_default();
        let entry = path
            .first()
            .and_then(|name| self.kernels.get(name.as_str()))
            .copied()
            .ok_or_else(|| fault("a dispatch names no kernel"))?;
        let bound = bindings(op);
        let constants = op.operands().skip(3 + bound.len());
        let constants = constants.map(|v| self.scalar(v)).collect::<Result<_, _>>()?;
        let grid = [self.scalar(op.operand(0))?, self.scalar(op.operand(1))?, self.scalar(op.operand(2))?];
        let bindings = bound.into_iter().map(|v| self.buffer(v)).collect::<Result<_, _>>()?;
        if let Some(root) = op.attribute(ROOT).and_then(|a| a.as_integer()) {
            self.dispatches.push((self.label().0, NodeId(root as u32)));
        }
        self.code.push(Inst::Dispatch { entry, grid, bindings, constants });
        Ok(())
    }

    fn host_call(&mut self, op: Op<'m>) -> Result<(), Diagnostic> {
        let call = integer(op, "call")? as u32;
        let (sources, source_dims): (Vec<_>, Vec<_>) = op.operands().partition(|v| is_buffer(*v));
        let operands = sources.into_iter().map(|v| self.buffer(v)).collect::<Result<_, _>>()?;
        let operand_dims = source_dims.into_iter().map(|v| self.scalar(v)).collect::<Result<_, _>>()?;
        let (targets, target_dims): (Vec<_>, Vec<_>) = op.results().partition(|v| is_buffer(*v));
        targets.iter().chain(&target_dims).try_for_each(|result| self.define(*result))?;
        let results = targets.into_iter().map(|v| self.buffer(v)).collect::<Result<_, _>>()?;
        let dims = target_dims.into_iter().map(|v| self.scalar(v)).collect::<Result<_, _>>()?;
        self.code.push(Inst::HostCall { call, operands, operand_dims, results, dims });
        Ok(())
    }

    /// A register of its own for `value`.
    fn define(&mut self, value: Value<'m>) -> Result<(), Diagnostic> {
        if is_buffer(value) {
            self.buffers.insert(value, Buffer(take(&mut self.next_buffer)?));
        } else {
            self.scalars.insert(value, Scalar(take(&mut self.next_scalar)?));
        }
        Ok(())
    }

    /// Gives `value` the register of `of`.
    fn share(&mut self, of: Value<'m>, value: Value<'m>) -> Result<(), Diagnostic> {
        if is_buffer(of) {
            self.buffers.insert(value, self.buffer(of)?);
        } else {
            self.scalars.insert(value, self.scalar(of)?);
        }
        Ok(())
    }

    fn label(&self) -> Label {
        Label(self.code.len() as u32)
    }

    fn message(&mut self, text: &str) -> u32 {
        if let Some(found) = self.messages.iter().position(|m| m == text) {
            return found as u32;
        }
        self.messages.push(text.to_owned());
        self.messages.len() as u32 - 1
    }

    fn new_scalar(&mut self, op: Op<'m>) -> Result<Scalar, Diagnostic> {
        let scalar = Scalar(take(&mut self.next_scalar)?);
        self.scalars.insert(op.result(0), scalar);
        Ok(scalar)
    }

    fn new_buffer(&mut self, op: Op<'m>) -> Result<Buffer, Diagnostic> {
        let buffer = Buffer(take(&mut self.next_buffer)?);
        self.buffers.insert(op.result(0), buffer);
        Ok(buffer)
    }

    fn scalar(&self, value: Value<'m>) -> Result<Scalar, Diagnostic> {
        self.scalars.get(&value).copied().ok_or_else(|| fault("a scalar is used before it is computed"))
    }

    /// The register of `value` after writing everything it is computed from.
    fn scalar_with_operands(&mut self, value: Value<'m>) -> Result<Scalar, Diagnostic> {
        let mut pending = vec![value];
        while let Some(&value) = pending.last() {
            let op = value.definition().ok_or_else(|| fault("a size is an argument"))?;
            let missing: Vec<_> =
                op.operands().filter(|v| v.definition().is_some() && !self.scalars.contains_key(v)).collect();
            if missing.is_empty() {
                self.compute(op)?;
                pending.pop();
            } else {
                pending.extend(missing);
            }
        }
        self.scalar(value)
    }

    fn buffer(&self, value: Value<'m>) -> Result<Buffer, Diagnostic> {
        self.buffers.get(&value).copied().ok_or_else(|| fault("a buffer is used before it is made"))
    }

    fn input(&self, value: Value<'m>) -> Result<u16, Diagnostic> {
        match value.block_argument() {
            Some((block, index)) if block == self.entry => register(index),
            _ => Err(fault("a buffer is used before it is made")),
        }
    }
}

fn is_buffer(value: Value<'_>) -> bool {
    let ty = value.ty();
    !ty.is_index() && ty.bits().is_none()
}

/// The next register.
fn take(next: &mut usize) -> Result<u16, Diagnostic> {
    let taken = register(*next)?;
    *next += 1;
    Ok(taken)
}

/// Registers are numbered in 16 bits.
fn register(number: usize) -> Result<u16, Diagnostic> {
    u16::try_from(number).map_err(|_| {
        Diagnostic::new(
            DiagnosticKind::ResourceLimit,
            format!("the schedule takes more than {} registers of one kind", u16::MAX),
        )
    })
}

/// The VM's operation, and whether its operands change places.
fn arith(op: Op<'_>, name: &str) -> Result<(ArithOp, bool), Diagnostic> {
    Ok(match name {
        "arith.addi" => (ArithOp::Add, false),
        "arith.subi" => (ArithOp::Sub, false),
        "arith.muli" => (ArithOp::Mul, false),
        // Sizes are never negative where these are used.
        "arith.divui" | "arith.floordivsi" => (ArithOp::FloorDiv, false),
        "arith.remui" => (ArithOp::Mod, false),
        "arith.ceildivsi" | "arith.ceildivui" => (ArithOp::CeilDiv, false),
        "arith.minsi" | "arith.minui" => (ArithOp::Min, false),
        "arith.maxsi" | "arith.maxui" => (ArithOp::Max, false),
        "arith.andi" => (ArithOp::And, false),
        "arith.ori" => (ArithOp::Or, false),
        "arith.cmpi" => match integer(op, "predicate")? {
            0 => (ArithOp::Eq, false),
            1 => (ArithOp::Ne, false),
            2 => (ArithOp::Lt, false),
            3 => (ArithOp::Le, false),
            4 => (ArithOp::Lt, true),
            5 => (ArithOp::Le, true),
            other => return Err(fault(format!("comparison {other} has no VM instruction"))),
        },
        other => return Err(fault(format!("`{other}` has no VM instruction"))),
    })
}

fn integer(op: Op<'_>, attribute: &str) -> Result<i64, Diagnostic> {
    op.attribute(attribute)
        .and_then(|a| a.as_integer())
        .ok_or_else(|| fault(format!("`{}` lacks `{attribute}`", op.name())))
}

fn string(op: Op<'_>, attribute: &str) -> Result<String, Diagnostic> {
    op.attribute(attribute)
        .and_then(|a| a.as_string())
        .ok_or_else(|| fault(format!("`{}` lacks `{attribute}`", op.name())))
}
