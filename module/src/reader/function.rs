//! One function of a module, and the walk over its instructions.

use super::Module;
use crate::code::{BorrowedInst, Inst, Label, decode};
use crate::error::CodeProblem;
use crate::format::SectionKind;
use crate::words::Words;

/// A function as it stands in the module.
#[derive(Clone, Copy, Debug)]
pub struct Function<'a> {
    pub name: &'a str,
    /// How many registers it uses.
    pub scalars: u16,
    pub buffers: u16,
    pub inputs: u16,
    /// Zero for a scalar function.
    pub outputs: u16,
    pub(crate) input_ranks: &'a [u8],
    pub(crate) output_ranks: &'a [u8],
    /// Per label its word offset and the map of what is defined there.
    pub(crate) labels: Words<'a>,
    pub(crate) label_count: u32,
    pub(crate) code: Words<'a>,
    /// Where the function stands in the code section, in words.
    pub(crate) start: u32,
    pub(crate) words: u32,
}

impl<'a> Function<'a> {
    /// Rows are: name, scalars, buffers, inputs, outputs, labels, first word, words.
    pub(super) fn read(module: &Module<'a>, row: Words<'a>) -> Option<Self> {
        let small = |word| u16::try_from(row.get(word)?).ok();
        let (inputs, outputs, buffers) = (small(3)?, small(4)?, small(2)?);
        let (label_count, start, words) = (row.get(5)?, row.get(6)?, row.get(7)?);
        let body = module.words(SectionKind::Code).slice(start as usize, words as usize)?;

        let input_words = usize::from(inputs).div_ceil(2);
        let output_words = usize::from(outputs).div_ceil(2);
        let label_words = (label_count as usize).checked_mul(label_stride(buffers, outputs))?;
        let code_at = label_words.checked_add(input_words + output_words)?;
        Some(Self {
            name: module.string(row.get(0)?)?,
            scalars: small(1)?,
            buffers,
            inputs,
            outputs,
            input_ranks: body.slice(0, input_words)?.0,
            output_ranks: body.slice(input_words, output_words)?.0,
            labels: body.slice(input_words + output_words, label_words)?,
            label_count,
            code: body.slice(code_at, body.len().checked_sub(code_at)?)?,
            start,
            words,
        })
    }

    /// Rank of input `input`.
    pub fn input_rank(&self, input: u16) -> Option<u16> {
        rank(self.input_ranks, self.inputs, input)
    }

    /// Rank of output `output`.
    pub fn output_rank(&self, output: u16) -> Option<u16> {
        rank(self.output_ranks, self.outputs, output)
    }

    /// True for a function that only computes a number.
    pub fn is_scalar(&self) -> bool {
        self.outputs == 0
    }

    /// The instruction at word `pc`, and the word after it.
    ///
    /// # Errors
    /// When no instruction of this function stands there.
    pub fn decode(&self, pc: u32) -> Result<(BorrowedInst<'a>, u32), CodeProblem> {
        let (mut inst, next) = decode(self.code, pc as usize)?;
        if let Inst::Jump { to } | Inst::JumpIf { to, .. } = &mut inst {
            *to = self.label(to.0).ok_or(CodeProblem::Label { found: to.0, count: self.label_count })?;
        }
        Ok((inst, next as u32))
    }

    /// Every instruction with the word it starts at; ends at the first that cannot be read.
    pub fn instructions(&self) -> Instructions<'a> {
        Instructions { function: *self, next: 0 }
    }

    /// The word that label `number` means.
    fn label(&self, number: u32) -> Option<Label> {
        if number >= self.label_count {
            return None;
        }
        let at = (number as usize).checked_mul(label_stride(self.buffers, self.outputs))?;
        self.labels.get(at).map(Label)
    }

    /// The function in the form that the compiler made it, labels as instruction indices again.
    ///
    /// # Errors
    /// When an instruction cannot be read, which verification excludes.
    #[cfg(feature = "std")]
    pub fn to_owned(&self) -> Result<crate::code::Function, CodeProblem> {
        let mut starts = std::vec::Vec::new();
        let mut body = std::vec::Vec::new();
        let mut pc = 0;
        while (pc as usize) < self.code.len() {
            let (inst, next) = self.decode(pc)?;
            starts.push(pc);
            body.push(inst.to_owned_lists());
            pc = next;
        }
        for inst in &mut body {
            if let Inst::Jump { to } | Inst::JumpIf { to, .. } = inst {
                let index =
                    starts.binary_search(&to.0).map_err(|_| CodeProblem::LabelTarget { found: to.0 })?;
                *to = Label(index as u32);
            }
        }
        let ranks = |bytes: &[u8], count: u16| (0..count).filter_map(|i| rank(bytes, count, i)).collect();
        Ok(crate::code::Function {
            name: self.name.into(),
            scalars: self.scalars,
            buffers: self.buffers,
            input_ranks: ranks(self.input_ranks, self.inputs),
            output_ranks: ranks(self.output_ranks, self.outputs),
            body,
        })
    }
}

#[cfg(feature = "std")]
impl BorrowedInst<'_> {
    fn to_owned_lists(&self) -> crate::code::OwnedInst {
        use crate::code::{BufferList, ScalarList};
        let buffers = |list: &BufferList<'_>| list.iter().collect();
        let scalars = |list: &ScalarList<'_>| list.iter().collect();
        match self.clone() {
            Inst::Output { output, src, dims } => Inst::Output { output, src, dims: scalars(&dims) },
            Inst::Dispatch { entry, grid, bindings, constants } => {
                Inst::Dispatch { entry, grid, bindings: buffers(&bindings), constants: scalars(&constants) }
            }
            Inst::Constant { dst, value } => Inst::Constant { dst, value },
            Inst::Arith { op, dst, lhs, rhs } => Inst::Arith { op, dst, lhs, rhs },
            Inst::Select { dst, condition, then, otherwise } => {
                Inst::Select { dst, condition, then, otherwise }
            }
            Inst::Move { dst, src } => Inst::Move { dst, src },
            Inst::MoveBuffer { dst, src } => Inst::MoveBuffer { dst, src },
            Inst::Jump { to } => Inst::Jump { to },
            Inst::JumpIf { condition, to } => Inst::JumpIf { condition, to },
            Inst::Check { condition, message } => Inst::Check { condition, message },
            Inst::InputDim { dst, input, axis } => Inst::InputDim { dst, input, axis },
            Inst::Input { dst, input } => Inst::Input { dst, input },
            Inst::Param { dst, param } => Inst::Param { dst, param },
            Inst::Allocate { dst, bytes } => Inst::Allocate { dst, bytes },
            Inst::Release { buffer } => Inst::Release { buffer },
            Inst::Slice { dst, src, offset, bytes } => Inst::Slice { dst, src, offset, bytes },
            Inst::Copy { src, dst } => Inst::Copy { src, dst },
            Inst::Fill { dst, pattern, width } => Inst::Fill { dst, pattern, width },
            Inst::Barrier => Inst::Barrier,
            Inst::Await => Inst::Await,
            Inst::Load { dst, src, offset, dtype } => Inst::Load { dst, src, offset, dtype },
            Inst::HostCall { call, operands, operand_dims, results, dims } => Inst::HostCall {
                call,
                operands: buffers(&operands),
                operand_dims: scalars(&operand_dims),
                results: buffers(&results),
                dims: scalars(&dims),
            },
            Inst::Return => Inst::Return,
            Inst::ReturnScalar { value } => Inst::ReturnScalar { value },
        }
    }
}

/// Words of one row of a label table.
pub(crate) fn label_stride(buffers: u16, outputs: u16) -> usize {
    1 + (usize::from(buffers) + usize::from(outputs)).div_ceil(32)
}

fn rank(ranks: &[u8], count: u16, index: u16) -> Option<u16> {
    if index >= count {
        return None;
    }
    let at = usize::from(index) * 2;
    Some(u16::from_le_bytes([*ranks.get(at)?, *ranks.get(at + 1)?]))
}

/// The walk of [`Function::instructions`].
#[derive(Clone, Debug)]
pub struct Instructions<'a> {
    function: Function<'a>,
    next: u32,
}

impl<'a> Iterator for Instructions<'a> {
    type Item = (u32, BorrowedInst<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        let pc = self.next;
        let (inst, next) = self.function.decode(pc).ok()?;
        self.next = next;
        Some((pc, inst))
    }
}
