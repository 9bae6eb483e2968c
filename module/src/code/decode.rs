//! From words to instructions: one instruction at a word offset, its lists borrowed.
//!
//! The first word of an instruction is `opcode | small << 8 | register << 16`; registers in later words stand in
//! pairs, low half first. Jumps name a label by its number; the function's label table gives the word it means.

use super::{ArithOp, Buffer, Inst, Label, Scalar};
use crate::error::CodeProblem;
use crate::words::Words;
use crate::{DType, format::MAX_RANK};

/// Numbers of the instructions in the file.
pub(crate) mod opcode {
    pub(crate) const CONSTANT: u8 = 1;
    pub(crate) const ARITH: u8 = 2;
    pub(crate) const SELECT: u8 = 3;
    pub(crate) const JUMP: u8 = 4;
    pub(crate) const JUMP_IF: u8 = 5;
    pub(crate) const CHECK: u8 = 6;
    pub(crate) const INPUT_DIM: u8 = 7;
    pub(crate) const INPUT: u8 = 8;
    pub(crate) const PARAM: u8 = 9;
    pub(crate) const ALLOCATE: u8 = 10;
    pub(crate) const RELEASE: u8 = 11;
    pub(crate) const SLICE: u8 = 12;
    pub(crate) const OUTPUT: u8 = 13;
    pub(crate) const DISPATCH: u8 = 14;
    pub(crate) const COPY: u8 = 15;
    pub(crate) const FILL: u8 = 16;
    pub(crate) const BARRIER: u8 = 17;
    pub(crate) const AWAIT: u8 = 18;
    pub(crate) const LOAD: u8 = 19;
    pub(crate) const RETURN: u8 = 20;
    pub(crate) const RETURN_SCALAR: u8 = 21;
    pub(crate) const MOVE: u8 = 22;
    pub(crate) const MOVE_BUFFER: u8 = 23;
    pub(crate) const HOST_CALL: u8 = 32;
}

/// A borrowed list of registers, packed two to a word.
#[derive(Clone, Copy, Debug)]
pub struct RegisterList<'a, Register> {
    bytes: &'a [u8],
    register: core::marker::PhantomData<Register>,
}

/// The buffers of a dispatch, as they stand in the module.
pub type BufferList<'a> = RegisterList<'a, Buffer>;
/// The constants of a dispatch or the dimensions of an output, as they stand in the module.
pub type ScalarList<'a> = RegisterList<'a, Scalar>;

/// An instruction as it stands in the module; its labels are word offsets within the function's code.
pub type BorrowedInst<'a> = Inst<BufferList<'a>, ScalarList<'a>>;

impl From<u16> for Scalar {
    fn from(number: u16) -> Self {
        Self(number)
    }
}

impl From<u16> for Buffer {
    fn from(number: u16) -> Self {
        Self(number)
    }
}

impl<'a, Register: From<u16>> RegisterList<'a, Register> {
    pub fn len(&self) -> usize {
        self.bytes.len() / 2
    }

    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The registers, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Register> + use<'a, Register> {
        self.bytes.chunks_exact(2).map(|pair| Register::from(u16::from_le_bytes([pair[0], pair[1]])))
    }
}

/// Reads the operands of one instruction.
struct Operands<'a> {
    code: Words<'a>,
    next: usize,
}

impl<'a> Operands<'a> {
    fn word(&mut self) -> Result<u32, CodeProblem> {
        let word = self.code.get(self.next).ok_or(CodeProblem::Truncated)?;
        self.next += 1;
        Ok(word)
    }

    fn pair(&mut self) -> Result<(u16, u16), CodeProblem> {
        let word = self.word()?;
        Ok((word as u16, (word >> 16) as u16))
    }

    /// A register alone in its word.
    fn single(&mut self) -> Result<u16, CodeProblem> {
        match self.pair()? {
            (register, 0) => Ok(register),
            _ => Err(CodeProblem::Reserved),
        }
    }

    fn list<Register>(&mut self, count: usize) -> Result<RegisterList<'a, Register>, CodeProblem> {
        let words = self.code.slice(self.next, count.div_ceil(2)).ok_or(CodeProblem::Truncated)?;
        self.next += count.div_ceil(2);
        let (bytes, rest) = words.0.split_at(count * 2);
        if rest.iter().any(|&byte| byte != 0) {
            return Err(CodeProblem::Reserved);
        }
        Ok(RegisterList { bytes, register: core::marker::PhantomData })
    }
}

/// The instruction at word `at` of `code`, and the word after it. Labels come out as they stand, by number.
pub(crate) fn decode(code: Words<'_>, at: usize) -> Result<(BorrowedInst<'_>, usize), CodeProblem> {
    let mut operands = Operands { code, next: at };
    let first = operands.word()?;
    let (op, small, register) = (first as u8, (first >> 8) as u8, (first >> 16) as u16);
    let uses_small = matches!(op, opcode::ARITH | opcode::OUTPUT | opcode::FILL | opcode::LOAD);
    let uses_register = !matches!(op, opcode::JUMP | opcode::BARRIER | opcode::AWAIT | opcode::RETURN);
    if (!uses_small && small != 0) || (!uses_register && register != 0) {
        return Err(CodeProblem::Reserved);
    }
    let inst = match op {
        opcode::CONSTANT => {
            let low = operands.word()?;
            let value = (u64::from(low) | u64::from(operands.word()?) << 32) as i64;
            Inst::Constant { dst: Scalar(register), value }
        }
        opcode::ARITH => {
            let op = ArithOp::from_number(small).ok_or(CodeProblem::Arith { found: small })?;
            let (lhs, rhs) = operands.pair()?;
            Inst::Arith { op, dst: Scalar(register), lhs: Scalar(lhs), rhs: Scalar(rhs) }
        }
        opcode::SELECT => {
            let (condition, then) = operands.pair()?;
            let otherwise = operands.single()?;
            Inst::Select {
                dst: Scalar(register),
                condition: Scalar(condition),
                then: Scalar(then),
                otherwise: Scalar(otherwise),
            }
        }
        opcode::MOVE => Inst::Move { dst: Scalar(register), src: Scalar(operands.single()?) },
        opcode::JUMP => Inst::Jump { to: Label(operands.word()?) },
        opcode::JUMP_IF => Inst::JumpIf { condition: Scalar(register), to: Label(operands.word()?) },
        opcode::CHECK => Inst::Check { condition: Scalar(register), message: operands.word()? },
        opcode::INPUT_DIM => {
            let (input, axis) = operands.pair()?;
            Inst::InputDim { dst: Scalar(register), input, axis }
        }
        opcode::INPUT => Inst::Input { dst: Buffer(register), input: operands.single()? },
        opcode::PARAM => Inst::Param { dst: Buffer(register), param: operands.word()? },
        opcode::ALLOCATE => Inst::Allocate { dst: Buffer(register), bytes: Scalar(operands.single()?) },
        opcode::RELEASE => Inst::Release { buffer: Buffer(register) },
        opcode::SLICE => {
            let (src, offset) = operands.pair()?;
            let bytes = operands.single()?;
            Inst::Slice {
                dst: Buffer(register),
                src: Buffer(src),
                offset: Scalar(offset),
                bytes: Scalar(bytes),
            }
        }
        opcode::MOVE_BUFFER => Inst::MoveBuffer { dst: Buffer(register), src: Buffer(operands.single()?) },
        opcode::OUTPUT => {
            let src = Buffer(operands.single()?);
            if usize::from(small) > MAX_RANK {
                return Err(CodeProblem::Rank);
            }
            Inst::Output { output: register, src, dims: operands.list(usize::from(small))? }
        }
        opcode::DISPATCH => {
            let (constants, x) = operands.pair()?;
            let (y, z) = operands.pair()?;
            let entry = operands.word()?;
            let bindings = operands.list(usize::from(register))?;
            let constants = operands.list(usize::from(constants))?;
            Inst::Dispatch { entry, grid: [Scalar(x), Scalar(y), Scalar(z)], bindings, constants }
        }
        opcode::COPY => Inst::Copy { src: Buffer(register), dst: Buffer(operands.single()?) },
        opcode::FILL => {
            if !matches!(small, 1 | 2 | 4 | 8) {
                return Err(CodeProblem::FillWidth { found: small });
            }
            Inst::Fill { dst: Buffer(register), pattern: Scalar(operands.single()?), width: small }
        }
        opcode::BARRIER => Inst::Barrier,
        opcode::AWAIT => Inst::Await,
        opcode::LOAD => {
            let dtype = DType::from_number(small).ok_or(CodeProblem::DType { found: small })?;
            let (src, offset) = operands.pair()?;
            Inst::Load { dst: Scalar(register), src: Buffer(src), offset: Scalar(offset), dtype }
        }
        opcode::HOST_CALL => {
            let (operand_dims, results) = operands.pair()?;
            let dims = operands.single()?;
            Inst::HostCall {
                call: operands.word()?,
                operands: operands.list(usize::from(register))?,
                operand_dims: operands.list(usize::from(operand_dims))?,
                results: operands.list(usize::from(results))?,
                dims: operands.list(usize::from(dims))?,
            }
        }
        opcode::RETURN => Inst::Return,
        opcode::RETURN_SCALAR => Inst::ReturnScalar { value: Scalar(register) },
        found => return Err(CodeProblem::Opcode { found }),
    };
    Ok((inst, operands.next))
}

impl ArithOp {
    /// Every operation; the position is not its number.
    pub const ALL: [Self; 14] = [
        Self::Add,
        Self::Sub,
        Self::Mul,
        Self::FloorDiv,
        Self::CeilDiv,
        Self::Mod,
        Self::Min,
        Self::Max,
        Self::Eq,
        Self::Ne,
        Self::Lt,
        Self::Le,
        Self::And,
        Self::Or,
    ];

    /// The operation of a number in a file.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.iter().copied().find(|op| *op as u8 == number)
    }

    /// `op(lhs, rhs)`; `None` on overflow or division by zero. Division and remainder round towards minus infinity.
    pub fn apply(self, lhs: i64, rhs: i64) -> Option<i64> {
        let floor = |quotient: i64, remainder: i64| {
            quotient - i64::from(remainder != 0 && (remainder < 0) != (rhs < 0))
        };
        Some(match self {
            Self::Add => lhs.checked_add(rhs)?,
            Self::Sub => lhs.checked_sub(rhs)?,
            Self::Mul => lhs.checked_mul(rhs)?,
            Self::FloorDiv => floor(lhs.checked_div(rhs)?, lhs.checked_rem(rhs)?),
            Self::CeilDiv => {
                let (quotient, remainder) = (lhs.checked_div(rhs)?, lhs.checked_rem(rhs)?);
                quotient + i64::from(remainder != 0 && (remainder < 0) == (rhs < 0))
            }
            Self::Mod => {
                let quotient = floor(lhs.checked_div(rhs)?, lhs.checked_rem(rhs)?);
                lhs.wrapping_sub(quotient.wrapping_mul(rhs))
            }
            Self::Min => lhs.min(rhs),
            Self::Max => lhs.max(rhs),
            Self::Eq => i64::from(lhs == rhs),
            Self::Ne => i64::from(lhs != rhs),
            Self::Lt => i64::from(lhs < rhs),
            Self::Le => i64::from(lhs <= rhs),
            Self::And => lhs & rhs,
            Self::Or => lhs | rhs,
        })
    }
}
