//! The instructions of the host schedule: scalars for dimensions, buffers, control flow, queue work.
//!
//! A function has inputs (buffers with dimensions), scalar registers (`i64`) and buffer registers. Queue work
//! ([`Inst::Dispatch`], [`Inst::Copy`], [`Inst::Fill`]) is recorded, in order, and runs later; work before an
//! [`Inst::Barrier`] completes before work after it, work between two barriers may overlap. Only
//! [`Inst::Await`] waits. Executing a function twice with the same input dimensions records the same work as
//! long as it has no `Await`, so a runtime may keep what it recorded.
//!
//! Scalar registers start as 0; a buffer register may only be used where every way to the use defines it.

mod decode;
#[cfg(feature = "std")]
pub(crate) mod encode;

pub(crate) use decode::decode;
pub use decode::{BorrowedInst, BufferList, RegisterList, ScalarList};

/// A scalar register of the running function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Scalar(pub u16);

/// A buffer register of the running function: a range of bytes, or nothing yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Buffer(pub u16);

/// A place to jump to: an index into [`Function::body`], or a word offset in a module's code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Label(pub u32);

/// One instruction. `Buffers` and `Scalars` are how lists stand: owned by the writer, borrowed by the reader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Inst<Buffers, Scalars> {
    /// `dst = value`.
    Constant {
        dst: Scalar,
        value: i64,
    },
    /// `dst = op(lhs, rhs)`; overflow and division by zero end the invocation with an error.
    Arith {
        op: ArithOp,
        dst: Scalar,
        lhs: Scalar,
        rhs: Scalar,
    },
    /// `dst = if condition != 0 { then } else { otherwise }`.
    Select {
        dst: Scalar,
        condition: Scalar,
        then: Scalar,
        otherwise: Scalar,
    },
    /// `dst = src`.
    Move {
        dst: Scalar,
        src: Scalar,
    },
    Jump {
        to: Label,
    },
    /// Jumps when `condition != 0`.
    JumpIf {
        condition: Scalar,
        to: Label,
    },
    /// Ends the invocation with message `message` of the string table unless `condition != 0`.
    Check {
        condition: Scalar,
        message: u32,
    },

    /// `dst` = dimension `axis` of input `input`.
    InputDim {
        dst: Scalar,
        input: u16,
        axis: u16,
    },
    /// `dst` = the whole of input `input`.
    Input {
        dst: Buffer,
        input: u16,
    },
    /// `dst` = parameter `param` of the module.
    Param {
        dst: Buffer,
        param: u32,
    },
    /// `dst` = `bytes` new bytes of undefined content, 64-byte aligned, alive until the invocation has ended or
    /// [`Inst::Release`].
    Allocate {
        dst: Buffer,
        bytes: Scalar,
    },
    /// Ends the life of an allocation, once all work recorded so far has run.
    Release {
        buffer: Buffer,
    },
    /// `dst` = `bytes` bytes of `src` from `offset`; outside of `src` ends the invocation with an error.
    Slice {
        dst: Buffer,
        src: Buffer,
        offset: Scalar,
        bytes: Scalar,
    },
    /// `dst` = what `src` is. Releasing one of them ends the life of both.
    MoveBuffer {
        dst: Buffer,
        src: Buffer,
    },
    /// Output `output` = the start of `src`, as a tensor of `dims`. An allocation that is output outlives the invocation.
    Output {
        output: u16,
        src: Buffer,
        dims: Scalars,
    },

    /// Runs entry `entry` of the executable over `grid[0] * grid[1] * grid[2]` workgroups. A grid with a zero runs nothing.
    Dispatch {
        entry: u32,
        grid: [Scalar; 3],
        bindings: Buffers,
        constants: Scalars,
    },
    /// Copies the whole of `src` to the start of `dst`.
    Copy {
        src: Buffer,
        dst: Buffer,
    },
    /// Repeats the low `width` bytes (1, 2, 4 or 8) of `pattern` over `dst`.
    Fill {
        dst: Buffer,
        pattern: Scalar,
        width: u8,
    },
    /// Orders recorded work: see the module's text.
    Barrier,
    /// Waits until everything recorded has run.
    Await,
    /// `dst` = the element of `dtype` at byte `offset` of `src`, as an i64 (bool gives 0 or 1). Only after an
    /// [`Inst::Await`] that covers what wrote it.
    Load {
        dst: Scalar,
        src: Buffer,
        offset: Scalar,
        dtype: crate::DType,
    },

    /// Calls host function `call` of the module, on this thread. `operands` have `operand_dims`, one tensor's after the
    /// other's; `results` become new allocations as large as the function decides, and `dims` their dimensions. Only
    /// after an [`Inst::Await`] that covers what wrote the operands.
    HostCall {
        call: u32,
        operands: Buffers,
        operand_dims: Scalars,
        results: Buffers,
        dims: Scalars,
    },

    /// Ends the function.
    Return,
    /// Ends a scalar function, such as one that computes peak bytes.
    ReturnScalar {
        value: Scalar,
    },
}

/// Operations on scalars; comparisons give 0 or 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum ArithOp {
    Add = 1,
    Sub = 2,
    Mul = 3,
    FloorDiv = 4,
    CeilDiv = 5,
    /// Remainder of floor division.
    Mod = 6,
    Min = 7,
    Max = 8,
    Eq = 9,
    Ne = 10,
    Lt = 11,
    Le = 12,
    /// Bit by bit, as `Or`; on conditions the logical operation.
    And = 13,
    Or = 14,
}

/// An instruction as the compiler makes it.
#[cfg(feature = "std")]
pub type OwnedInst = Inst<std::vec::Vec<Buffer>, std::vec::Vec<Scalar>>;

/// A function as the compiler makes it.
#[cfg(feature = "std")]
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Function {
    pub name: std::string::String,
    /// How many registers it uses; [`Scalar`]s and [`Buffer`]s are below these.
    pub scalars: u16,
    pub buffers: u16,
    /// Rank of each input.
    pub input_ranks: std::vec::Vec<u16>,
    /// Rank of each output; empty for a scalar function.
    pub output_ranks: std::vec::Vec<u16>,
    pub body: std::vec::Vec<OwnedInst>,
}
