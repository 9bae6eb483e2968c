//! Checks the instructions of one function in a single pass.
//!
//! The label table claims, for each place that is jumped to, which buffer registers and outputs are defined there.
//! Every way to such a place is checked to define at least those, and code after it may rely on no more. So each
//! instruction is looked at once, whatever the loops.
//!
//! What queue work may write to is decided by register, for the whole function: one that holds an allocation or a
//! part of one where the text first defines it never takes an input or a parameter, and only such are written to.

use crate::DType;
use crate::code::{BorrowedInst, Buffer, BufferList, Inst, Scalar};
use crate::error::{CodeProblem, VerifyError};
use crate::format::{MAX_BUFFERS, MAX_RANK};
use crate::reader::{Function, Module, label_stride};
use crate::words::Words;

pub(super) fn verify_function(
    module: &Module<'_>,
    index: u32,
    function: &Function<'_>,
) -> Result<(), VerifyError> {
    let wrong = |problem| VerifyError::Function { function: index, problem };
    if usize::from(function.buffers) + usize::from(function.outputs) > MAX_BUFFERS {
        return Err(wrong("too many buffer registers and outputs"));
    }
    let inputs = (0..function.inputs).map(|input| function.input_rank(input));
    let outputs = (0..function.outputs).map(|output| function.output_rank(output));
    if !inputs.chain(outputs).all(|rank| rank.is_some_and(|rank| usize::from(rank) <= MAX_RANK)) {
        return Err(wrong("a rank is too large"));
    }
    let padding = |ranks: &[u8], count: u16| ranks[usize::from(count) * 2..].iter().all(|&byte| byte == 0);
    if !padding(function.input_ranks, function.inputs) || !padding(function.output_ranks, function.outputs) {
        return Err(wrong("bits that should be zero are not"));
    }

    let mut check = Check {
        module,
        function,
        strings: module.strings(),
        params: module.params(),
        entries: module.entries().len() as u32,
        state: State { reached: true, defined: [0; MAP_WORDS] },
        seen: [0; MAP_WORDS],
        writable: [0; MAP_WORDS],
    };
    let mut labels = Labels { function, next: 0 };
    let (mut pc, mut instruction) = (0, 0);
    while (pc as usize) < function.code.len() {
        let step = |problem| VerifyError::Code { function: index, instruction, problem };
        if let Some(claim) = labels.claim_at(pc).map_err(step)? {
            check.state.enter(claim.0, claim.1).map_err(step)?;
        }
        let (inst, next) = function.decode(pc).map_err(step)?;
        check.inst(&inst).map_err(step)?;
        pc = next;
        instruction += 1;
    }
    let step = |problem| VerifyError::Code { function: index, instruction, problem };
    if check.state.reached {
        return Err(step(CodeProblem::FallsOffTheEnd));
    }
    if labels.next < function.label_count {
        return Err(step(CodeProblem::LabelTarget { found: labels.next }));
    }
    Ok(())
}

const MAP_WORDS: usize = MAX_BUFFERS / 32;

/// What is defined before the next instruction; `reached` is false after a jump or return until the next label.
struct State {
    reached: bool,
    defined: [u32; MAP_WORDS],
}

impl State {
    fn has(&self, bit: usize) -> bool {
        has(&self.defined, bit)
    }

    fn set(&mut self, bit: usize, defined: bool) {
        set(&mut self.defined, bit, defined);
    }

    /// True when everything claimed is defined.
    fn covers(&self, claim: Words<'_>) -> bool {
        // All words, whatever the first says: a loop without an exit takes many words at a time, and hostile code
        // can make this the longest part of verification.
        let claimed =
            claim.0.chunks_exact(4).map(|word| u32::from_le_bytes([word[0], word[1], word[2], word[3]]));
        let lacking = |lacking, (claimed, defined): (u32, &u32)| lacking | (claimed & !defined);
        !self.reached || claimed.zip(&self.defined).fold(0, lacking) == 0
    }

    /// Goes on with the claim of label `found`.
    fn enter(&mut self, found: u32, claim: Words<'_>) -> Result<(), CodeProblem> {
        if !self.covers(claim) {
            return Err(CodeProblem::LabelState { found });
        }
        for (at, word) in self.defined.iter_mut().enumerate().take(claim.len()) {
            *word = claim.get(at).unwrap_or(0);
        }
        self.reached = true;
        Ok(())
    }
}

fn has(map: &[u32; MAP_WORDS], bit: usize) -> bool {
    map[bit / 32] & (1 << (bit % 32)) != 0
}

fn set(map: &mut [u32; MAP_WORDS], bit: usize, value: bool) {
    let mask = 1 << (bit % 32);
    if value { map[bit / 32] |= mask } else { map[bit / 32] &= !mask }
}

/// The label table, walked along with the code.
struct Labels<'f, 'a> {
    function: &'f Function<'a>,
    next: u32,
}

/// What label `number` claims.
fn claim<'a>(function: &Function<'a>, number: u32) -> Option<(u32, Words<'a>)> {
    let stride = label_stride(function.buffers, function.outputs);
    let at = (number as usize).checked_mul(stride)?;
    Some((function.labels.get(at)?, function.labels.slice(at + 1, stride - 1)?))
}

impl<'a> Labels<'_, 'a> {
    /// The label at word `pc`, if there is one. Labels ascend, so one that was passed is inside an instruction.
    fn claim_at(&mut self, pc: u32) -> Result<Option<(u32, Words<'a>)>, CodeProblem> {
        let number = self.next;
        let Some((target, map)) = claim(self.function, number).filter(|_| number < self.function.label_count)
        else {
            return Ok(None);
        };
        if target < pc {
            return Err(CodeProblem::LabelTarget { found: number });
        }
        if target > pc {
            return Ok(None);
        }
        let tracked = usize::from(self.function.buffers) + usize::from(self.function.outputs);
        let last = map.len().checked_sub(1).and_then(|at| map.get(at)).unwrap_or(0);
        if !tracked.is_multiple_of(32) && last >> (tracked % 32) != 0 {
            return Err(CodeProblem::Reserved);
        }
        self.next += 1;
        Ok(Some((number, map)))
    }
}

struct Check<'m, 'a> {
    module: &'m Module<'a>,
    function: &'m Function<'a>,
    strings: u32,
    params: u32,
    entries: u32,
    state: State,
    /// Buffer registers that some instruction so far defines.
    seen: [u32; MAP_WORDS],
    /// Those that hold memory of the invocation's own, wherever they are defined.
    writable: [u32; MAP_WORDS],
}

impl Check<'_, '_> {
    fn scalar(&self, Scalar(found): Scalar) -> Result<(), CodeProblem> {
        let count = self.function.scalars;
        if found < count { Ok(()) } else { Err(CodeProblem::Scalar { found, count }) }
    }

    fn scalars(&self, list: &[Scalar]) -> Result<(), CodeProblem> {
        list.iter().try_for_each(|&scalar| self.scalar(scalar))
    }

    /// A buffer that is read.
    fn buffer(&self, Buffer(found): Buffer) -> Result<(), CodeProblem> {
        let count = self.function.buffers;
        if found >= count {
            return Err(CodeProblem::Buffer { found, count });
        }
        if self.state.reached && !self.state.has(usize::from(found)) {
            return Err(CodeProblem::Undefined { found });
        }
        Ok(())
    }

    /// A buffer that is written.
    fn target(&self, buffer: Buffer) -> Result<(), CodeProblem> {
        self.buffer(buffer)?;
        if self.is_writable(buffer) { Ok(()) } else { Err(CodeProblem::WritesReadOnly { found: buffer.0 }) }
    }

    fn is_writable(&self, Buffer(found): Buffer) -> bool {
        has(&self.writable, usize::from(found))
    }

    /// `writable`: what the register takes is the invocation's own.
    fn define(&mut self, Buffer(found): Buffer, writable: bool) -> Result<(), CodeProblem> {
        let (count, bit) = (self.function.buffers, usize::from(found));
        if found >= count {
            return Err(CodeProblem::Buffer { found, count });
        }
        if !has(&self.seen, bit) {
            set(&mut self.seen, bit, true);
            set(&mut self.writable, bit, writable);
        } else if has(&self.writable, bit) && !writable {
            return Err(CodeProblem::TakesReadOnly { found });
        }
        self.state.set(bit, true);
        Ok(())
    }

    fn input(&self, found: u16) -> Result<u16, CodeProblem> {
        self.function.input_rank(found).ok_or(CodeProblem::Input { found, count: self.function.inputs })
    }

    /// A jump by word offset: that it is a label's was checked by decoding; here, what the label claims.
    fn jump(&self, to: u32) -> Result<(), CodeProblem> {
        let (mut low, mut high) = (0, self.function.label_count);
        while low < high {
            let middle = low + (high - low) / 2;
            match claim(self.function, middle) {
                Some((target, _)) if target < to => low = middle + 1,
                _ => high = middle,
            }
        }
        let missing = CodeProblem::Label { found: low, count: self.function.label_count };
        let (_, map) = claim(self.function, low).filter(|&(target, _)| target == to).ok_or(missing)?;
        if self.state.covers(map) { Ok(()) } else { Err(CodeProblem::LabelState { found: low }) }
    }

    fn inst(&mut self, inst: &BorrowedInst<'_>) -> Result<(), CodeProblem> {
        if self.function.is_scalar() {
            self.only_computes(inst)?;
        }
        match inst {
            Inst::Constant { dst, .. } => self.scalar(*dst)?,
            Inst::Arith { dst, lhs, rhs, .. } => self.scalars(&[*dst, *lhs, *rhs])?,
            Inst::Select { dst, condition, then, otherwise } => {
                self.scalars(&[*dst, *condition, *then, *otherwise])?;
            }
            Inst::Move { dst, src } => self.scalars(&[*dst, *src])?,
            Inst::Jump { to } => {
                self.jump(to.0)?;
                self.state.reached = false;
            }
            Inst::JumpIf { condition, to } => {
                self.scalar(*condition)?;
                self.jump(to.0)?;
            }
            Inst::Check { condition, message } => {
                self.scalar(*condition)?;
                below(*message, self.strings, |found, count| CodeProblem::Message { found, count })?;
            }
            Inst::InputDim { dst, input, axis } => {
                self.scalar(*dst)?;
                let rank = self.input(*input)?;
                if *axis >= rank {
                    return Err(CodeProblem::Axis { found: *axis, rank });
                }
            }
            Inst::Input { dst, input } => {
                self.input(*input)?;
                self.define(*dst, false)?;
            }
            Inst::Param { dst, param } => {
                below(*param, self.params, |found, count| CodeProblem::Param { found, count })?;
                self.define(*dst, false)?;
            }
            Inst::Allocate { dst, bytes } => {
                self.scalar(*bytes)?;
                self.define(*dst, true)?;
            }
            Inst::Release { buffer } => {
                self.buffer(*buffer)?;
                self.state.set(usize::from(buffer.0), false);
            }
            Inst::Slice { dst, src, offset, bytes } => {
                self.buffer(*src)?;
                self.scalars(&[*offset, *bytes])?;
                self.define(*dst, self.is_writable(*src))?;
            }
            Inst::MoveBuffer { dst, src } => {
                self.buffer(*src)?;
                self.define(*dst, self.is_writable(*src))?;
            }
            Inst::Output { output, src, dims } => {
                self.buffer(*src)?;
                let count = self.function.outputs;
                let rank = self
                    .function
                    .output_rank(*output)
                    .ok_or(CodeProblem::Output { found: *output, count })?;
                if dims.len() != usize::from(rank) {
                    return Err(CodeProblem::OutputRank { found: dims.len() as u32, rank });
                }
                dims.iter().try_for_each(|dim| self.scalar(dim))?;
                self.state.set(usize::from(self.function.buffers) + usize::from(*output), true);
            }
            Inst::Dispatch { entry, grid, bindings, constants } => {
                below(*entry, self.entries, |found, count| CodeProblem::Entry { found, count })?;
                self.scalars(grid)?;
                self.bindings(*entry, bindings, constants.len())?;
                constants.iter().try_for_each(|scalar| self.scalar(scalar))?;
            }
            Inst::Copy { src, dst } => {
                self.buffer(*src)?;
                self.target(*dst)?;
            }
            Inst::Fill { dst, pattern, .. } => {
                self.target(*dst)?;
                self.scalar(*pattern)?;
            }
            Inst::Barrier | Inst::Await => {}
            Inst::Load { dst, src, offset, dtype } => {
                self.scalars(&[*dst, *offset])?;
                self.buffer(*src)?;
                if !is_loadable(*dtype) {
                    return Err(CodeProblem::DType { found: *dtype as u8 });
                }
            }
            Inst::HostCall { call, operands, operand_dims, results, dims } => {
                self.host_call(*call, [operands.len(), operand_dims.len(), results.len(), dims.len()])?;
                operands.iter().try_for_each(|buffer| self.buffer(buffer))?;
                operand_dims.iter().chain(dims.iter()).try_for_each(|scalar| self.scalar(scalar))?;
                results.iter().try_for_each(|result| self.define(result, true))?;
            }
            Inst::Return => {
                self.all_outputs_set()?;
                self.state.reached = false;
            }
            Inst::ReturnScalar { value } => {
                self.scalar(*value)?;
                if !self.function.is_scalar() {
                    return Err(CodeProblem::NotBuffers);
                }
                self.state.reached = false;
            }
        }
        Ok(())
    }

    /// As many as kernel `entry` has, each fit for what the kernel does to it.
    fn bindings(&self, entry: u32, bindings: &BufferList<'_>, constants: usize) -> Result<(), CodeProblem> {
        let missing = CodeProblem::Entry { found: entry, count: self.entries };
        let kernel = self.module.kernel(entry).ok_or(missing)?;
        let counts =
            |found: usize, expected: usize| (found != expected).then_some((found as u32, expected as u32));
        if let Some((found, expected)) = counts(bindings.len(), kernel.bindings.len()) {
            return Err(CodeProblem::Bindings { found, expected });
        }
        if let Some((found, expected)) = counts(constants, kernel.constants) {
            return Err(CodeProblem::Constants { found, expected });
        }
        bindings.iter().zip(kernel.bindings.iter()).try_for_each(|(buffer, access)| {
            if access.writes() { self.target(buffer) } else { self.buffer(buffer) }
        })
    }

    /// Lists as long as host call `call` has operands, their dimensions, results and theirs.
    fn host_call(&self, call: u32, found: [usize; 4]) -> Result<(), CodeProblem> {
        let missing = CodeProblem::HostCall { found: call, count: self.module.host_calls() };
        let call = self.module.host_call(call).ok_or(missing)?;
        let expected = [call.operands.len(), call.operands.dims(), call.results.len(), call.results.dims()];
        let names = ["operands", "dimensions of operands", "results", "dimensions of results"];
        for ((found, expected), what) in found.into_iter().zip(expected).zip(names) {
            if found != expected {
                let (found, expected) = (found as u32, expected as u32);
                return Err(CodeProblem::HostOperands { what, found, expected });
            }
        }
        Ok(())
    }

    fn only_computes(&self, inst: &BorrowedInst<'_>) -> Result<(), CodeProblem> {
        match inst {
            Inst::Constant { .. }
            | Inst::Arith { .. }
            | Inst::Select { .. }
            | Inst::Move { .. }
            | Inst::Jump { .. }
            | Inst::JumpIf { .. }
            | Inst::Check { .. }
            | Inst::InputDim { .. }
            | Inst::ReturnScalar { .. } => Ok(()),
            _ => Err(CodeProblem::NotScalar),
        }
    }

    fn all_outputs_set(&self) -> Result<(), CodeProblem> {
        if !self.state.reached {
            return Ok(());
        }
        let first = usize::from(self.function.buffers);
        match (0..self.function.outputs).find(|&output| !self.state.has(first + usize::from(output))) {
            None => Ok(()),
            Some(found) => Err(CodeProblem::OutputUnset { found }),
        }
    }
}

fn below(found: u32, count: u32, problem: impl Fn(u32, u32) -> CodeProblem) -> Result<(), CodeProblem> {
    if found < count { Ok(()) } else { Err(problem(found, count)) }
}

/// Element types that a scalar register can take: whole bytes, whole numbers.
fn is_loadable(dtype: DType) -> bool {
    use DType::{Bool, I8, I16, I32, I64, U8, U16, U32, U64};
    matches!(dtype, Bool | I8 | I16 | I32 | I64 | U8 | U16 | U32 | U64)
}
