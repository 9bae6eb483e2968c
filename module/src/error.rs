//! Why bytes are not a module: the frame ([`ParseError`]), the contents ([`VerifyError`]), an instruction
//! ([`CodeProblem`]). None of them allocates.

use crate::format::{
    HEADER_BYTES, MAX_BUFFERS, MAX_NAMES_BYTES, MAX_RANK, MAX_VARIANTS, SectionKind, VERSION,
};

/// Why bytes do not have the frame of a module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    #[error("module is {found} bytes; its header alone is {HEADER_BYTES}")]
    TooShort { found: u64 },
    #[error("not a module: the first bytes are not those of an `.irm` file")]
    NotAModule,
    #[error("module has format version {found}, this build reads version {VERSION}")]
    Version { found: u32 },
    #[error("module is {found} bytes, its header says {expected}")]
    Size { found: u64, expected: u64 },
    #[error("module has {found} sections, more than the format allows or the file can hold")]
    SectionCount { found: u32 },
    #[error("header or section table are damaged: their BLAKE3 hash differs from the one recorded")]
    TableHash,
    #[error("section kind {found} is unknown, repeated or out of order")]
    SectionKind { found: u32 },
    #[error("variant {found} is out of order, or none of at most {MAX_VARIANTS}")]
    Variant { found: u32 },
    #[error("section `{section}` is missing")]
    Missing { section: SectionKind },
    #[error("section of kind {kind} at {offset} with {bytes} bytes is misplaced or outside of the file")]
    SectionRange { kind: u32, offset: u64, bytes: u64 },
    #[error("bytes around {offset} should be zero and are not")]
    NotZero { offset: u64 },
}

/// How much of a module to check against its hashes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verify {
    /// Everything.
    All,
    /// Everything but the parameters' content, which may be gigabytes. A damaged parameter can give wrong
    /// numbers, never an invalid access.
    WithoutParams,
}

/// Why a module with a sound frame cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    #[error("section `{section}` is damaged: its BLAKE3 hash differs from the one recorded")]
    Hash { section: SectionKind },
    #[error("section `{section}` is malformed at byte {offset}: {problem}")]
    Malformed { section: SectionKind, offset: u64, problem: &'static str },
    #[error("section `{section}` names string {found}; there are {count}")]
    String { section: SectionKind, found: u32, count: u32 },
    #[error("the names that the module uses take more than {MAX_NAMES_BYTES} bytes together")]
    TooManyNames,
    #[error(
        "parameter {param} at {offset} with {bytes} bytes is outside of the {section_bytes} bytes of parameters or misaligned"
    )]
    Param { param: u32, offset: u64, bytes: u64, section_bytes: u64 },
    #[error("entry point {entry} does not fit function {function}: {problem}")]
    EntryPoint { entry: u32, function: u32, problem: &'static str },
    #[error("variant {variant} offers other entry points than the first")]
    Variant { variant: u32 },
    #[error("function {function}: {problem}")]
    Function { function: u32, problem: &'static str },
    #[error("function {function}, instruction {instruction}: {problem}")]
    Code { function: u32, instruction: u32, problem: CodeProblem },
}

/// What is wrong with an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CodeProblem {
    #[error("the function ends within the instruction")]
    Truncated,
    #[error("unknown opcode {found}")]
    Opcode { found: u8 },
    #[error("bits that should be zero are not")]
    Reserved,
    #[error("unknown scalar operation {found}")]
    Arith { found: u8 },
    #[error("unknown element type {found}")]
    DType { found: u8 },
    #[error("fill width {found} is not 1, 2, 4 or 8")]
    FillWidth { found: u8 },
    #[error("scalar register {found} of {count}")]
    Scalar { found: u16, count: u16 },
    #[error("buffer register {found} of {count}")]
    Buffer { found: u16, count: u16 },
    #[error("buffer register {found} may be used before it is defined")]
    Undefined { found: u16 },
    #[error("label {found} of {count}")]
    Label { found: u32, count: u32 },
    #[error("label {found} is not at the start of an instruction")]
    LabelTarget { found: u32 },
    #[error("label {found} claims more defined registers than every way to it defines")]
    LabelState { found: u32 },
    #[error("message {found} of {count}")]
    Message { found: u32, count: u32 },
    #[error("input {found} of {count}")]
    Input { found: u16, count: u16 },
    #[error("axis {found} of an input of rank {rank}")]
    Axis { found: u16, rank: u16 },
    #[error("parameter {found} of {count}")]
    Param { found: u32, count: u32 },
    #[error("executable entry {found} of {count}")]
    Entry { found: u32, count: u32 },
    #[error("{found} bindings for a kernel of {expected}")]
    Bindings { found: u32, expected: u32 },
    #[error("{found} constants for a kernel of {expected}")]
    Constants { found: u32, expected: u32 },
    #[error("host call {found} of {count}")]
    HostCall { found: u32, count: u32 },
    #[error("{found} {what} for a host call of {expected}")]
    HostOperands { what: &'static str, found: u32, expected: u32 },
    #[error("buffer register {found} is written to and may hold an input or a parameter")]
    WritesReadOnly { found: u16 },
    #[error("buffer register {found} holds an allocation elsewhere and would take an input or a parameter")]
    TakesReadOnly { found: u16 },
    #[error("output {found} of {count}")]
    Output { found: u16, count: u16 },
    #[error("output has {found} dimensions, its rank is {rank}")]
    OutputRank { found: u32, rank: u16 },
    #[error("output {found} is not set on every way to the return")]
    OutputUnset { found: u16 },
    #[error("a scalar function may only compute; it cannot use buffers or return without a value")]
    NotScalar,
    #[error("a function with outputs cannot return a scalar")]
    NotBuffers,
    #[error("the last instruction does not end the function")]
    FallsOffTheEnd,
    #[error("more than {MAX_RANK} dimensions")]
    Rank,
    #[error("more than {MAX_BUFFERS} buffer registers and outputs")]
    TooManyBuffers,
    #[error("a list is longer than the encoding allows")]
    ListTooLong,
}
