//! Why a module could not be loaded, and why an invocation gave no outputs.

use std::sync::Arc;

use ired_hal::{AllocateError, Failure, HostAccessError, PrepareError, RecordError, SubmitError};
use ired_module::{DType, ParseError, VerifyError};

/// Why a module could not be loaded.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    #[error("this is not a module")]
    Parse(#[from] ParseError),
    #[error("the module is damaged or not sound")]
    Verify(#[from] VerifyError),
    #[error("cannot prepare the module's kernels on device `{device}`")]
    Prepare {
        device: String,
        #[source]
        cause: PrepareError,
    },
    #[error("device `{device}` can run no variant of the module: {refusals}")]
    NoVariant { device: String, refusals: String },
    #[error("the string constants of the module")]
    Strings(#[source] StringsError),
    #[error("host function for `{origin}`")]
    HostFunction {
        origin: String,
        #[source]
        cause: ired_host::HostError,
    },
    #[error("cannot place {bytes} bytes of parameters on device `{device}`")]
    Params {
        device: String,
        bytes: u64,
        #[source]
        cause: AllocateError,
    },
    #[error("cannot fill the parameters on device `{device}`")]
    Upload {
        device: String,
        #[source]
        cause: UploadError,
    },
}

/// Why strings are not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StringsError {
    #[error(transparent)]
    Full(#[from] ired_host::TableFull),
    #[error("string {index} is there twice")]
    Twice { index: u64 },
    #[error("bytes hold {found:?} strings, expected {expected}")]
    Count { found: Option<u64>, expected: u64 },
    #[error("{found} bytes are no whole number of handles")]
    HandleBytes { found: usize },
    #[error("element {index} is no string")]
    NoString { index: usize },
    #[error("a string of {bytes} bytes; 4 GiB is the longest that can be passed on")]
    TooLong { bytes: usize },
}

/// Why parameters did not reach the device.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum UploadError {
    #[error("the copy was not taken")]
    Submit(#[from] SubmitError),
    #[error("the copy failed")]
    Failed(#[from] ired_hal::WaitError),
}

/// Why an invocation gave no outputs. Everything up to [`InvokeError::BufferTooShort`] is the caller's to mend.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InvokeError {
    #[error("there is no entry point `{found}`; there is {expected}")]
    NoSuchEntry { found: String, expected: String },
    #[error("found {found} inputs, expected {expected}: {names}")]
    InputCount { found: usize, expected: usize, names: String },
    #[error("input `{name}` is missing")]
    MissingInput { name: String },
    #[error("there is no input `{name}`; expected {expected}")]
    UnknownInput { name: String, expected: String },
    #[error("input `{name}` is given twice")]
    DuplicateInput { name: String },
    #[error("input `{name}` has element type {found}, expected {expected}")]
    DType { name: String, found: DType, expected: DType },
    #[error("input `{name}` has {found} dimensions, expected {expected}")]
    Rank { name: String, found: usize, expected: usize },
    #[error("input `{name}`: dimension {axis} is {found}, expected {expected}")]
    Dim { name: String, axis: usize, found: u64, expected: u64 },
    #[error("input `{name}`: dimension {axis} (`{symbol}`) is {found}, expected {min} to {max}")]
    DimRange { name: String, axis: usize, symbol: String, found: u64, min: u64, max: u64 },
    #[error(
        "input `{name}`: dimension {axis} (`{symbol}`) is {found}, but `{symbol}` is {expected} in input `{other}`"
    )]
    Symbol { name: String, axis: usize, symbol: String, found: u64, expected: u64, other: String },
    #[error("input `{name}` takes more bytes than can be counted")]
    TooLarge { name: String },
    #[error("input `{name}` is bound to {found_bytes} bytes, expected {expected_bytes}")]
    BufferTooShort { name: String, found_bytes: u64, expected_bytes: u64 },

    /// The model's own condition on its inputs.
    #[error("{message}")]
    Check { message: String },
    #[error("deadline passed")]
    DeadlinePassed,
    #[error("cancelled")]
    Cancelled,
    #[error("{needed_bytes} bytes are needed; {available_bytes} of the budget of {limit_bytes} are free")]
    OverBudget { needed_bytes: u64, available_bytes: u64, limit_bytes: u64 },
    #[error("no device memory for an invocation")]
    Allocate(#[from] AllocateError),
    #[error("memory given for output `{name}` cannot take {needed_bytes} bytes")]
    OutputMemory { name: String, needed_bytes: u64 },
    #[error(
        "memory given for output `{name}` overlaps {what} `{other}`; give it memory of its own, or exactly that of an input of its size"
    )]
    OutputOverlaps { name: String, what: &'static str, other: String },
    #[error("function `{function}`, instruction {instruction}")]
    Fault {
        function: String,
        instruction: u32,
        #[source]
        fault: Fault,
    },
    #[error("device refuses the recorded work")]
    Record(#[from] RecordError),
    #[error("device does not take the work")]
    Submit(#[source] Arc<SubmitError>),
    #[error("device failed")]
    Failed(#[source] Failure),
    #[error("`{origin}`")]
    Host {
        origin: String,
        #[source]
        cause: ired_host::HostError,
    },
    #[error("outputs were taken before")]
    OutputsTaken,
}

/// What a verified schedule can still do wrong: numbers that depend on the inputs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    #[error("ran {limit} steps without an end")]
    OutOfFuel { limit: u64 },
    #[error("recorded more than {limit} operations")]
    TooMuchWork { limit: usize },
    #[error("holds more than {limit} allocations at once")]
    TooManyAllocations { limit: usize },
    #[error("overflow or division by zero")]
    Arithmetic,
    #[error("{what} is {found}")]
    OutOfRange { what: &'static str, found: i64 },
    #[error("bytes {offset}..+{bytes} are outside of a buffer of {buffer_bytes}")]
    OutOfBounds { offset: i64, bytes: i64, buffer_bytes: u64 },
    #[error("uses a released allocation")]
    Released,
    #[error("releases a part of an allocation")]
    ReleasesSlice,
    #[error("copies {src_bytes} bytes to a buffer of {dst_bytes}")]
    CopyTooLong { src_bytes: u64, dst_bytes: u64 },
    #[error("output {output} of {needed_bytes} bytes is in a buffer of {buffer_bytes}")]
    OutputTooShort { output: u16, needed_bytes: u64, buffer_bytes: u64 },
    #[error("output {output} has dimensions {found:?}, which its signature does not allow")]
    OutputDims { output: u16, found: Vec<u64> },
    #[error("loads what unfinished work may still write")]
    LoadBeforeAwait,
    #[error("a loaded element does not fit a scalar register")]
    LoadTooLarge,
    #[error("host function gives {found}, expected {expected}")]
    HostResults { found: String, expected: String },
    #[error("cannot load from device memory")]
    Load(#[source] HostAccessError),
}
