//! The list of host functions, and the one way to call them.

use std::cell::Cell;

use crate::call::{Attributes, HostCall};
use crate::error::HostError;
use crate::strings::StringTable;
use crate::tensor::{DType, HostTensor, TensorView};
use crate::{image, number, rank, search, split, text, vectorize};

/// A function and what it is called with its attributes still serialized.
pub struct HostFunction {
    pub name: &'static str,
    run: Run,
    /// Whether bytes are attributes of it.
    check: fn(&[u8]) -> bool,
}

type Run = fn(&[u8], &[TensorView<'_>], &mut Context<'_>) -> Result<Vec<HostTensor>, HostError>;

/// Every host function. Adding one is adding a line.
pub const FUNCTIONS: &[HostFunction] = &[
    function::<text::StringConcat>(),
    function::<text::StringNormalize>(),
    function::<text::RegexFullMatch>(),
    function::<split::StringSplit>(),
    function::<search::IndexOf>(),
    function::<rank::StringRank>(),
    function::<vectorize::CountNgrams>(),
    function::<number::Format>(),
    function::<number::Parse>(),
    function::<image::DecodeImage>(),
];

/// What a function does with its attributes.
pub(crate) trait Function: Attributes {
    fn run(
        &self,
        operands: &[TensorView<'_>],
        context: &mut Context<'_>,
    ) -> Result<Vec<HostTensor>, HostError>;
}

const fn function<F: Function>() -> HostFunction {
    fn read<F: Function>(attributes: &[u8]) -> Option<F> {
        postcard::from_bytes(attributes).ok()
    }
    fn run<F: Function>(
        attributes: &[u8],
        operands: &[TensorView<'_>],
        context: &mut Context<'_>,
    ) -> Result<Vec<HostTensor>, HostError> {
        let fault = || HostError::Attributes { name: F::FUNCTION.to_owned() };
        read::<F>(attributes).ok_or_else(fault)?.run(operands, context)
    }
    HostFunction { name: F::FUNCTION, run: run::<F>, check: |attributes| read::<F>(attributes).is_some() }
}

/// What one call may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of results, and of what is held while they are made.
    pub bytes: u64,
    /// Steps of work that is more than linear in the operands, some nanoseconds each.
    pub steps: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { bytes: 2 << 30, steps: 1 << 32 }
    }
}

/// The function that a call names.
///
/// # Errors
/// When there is none, or the attributes are not its own.
pub fn find(call: &HostCall) -> Result<&'static HostFunction, HostError> {
    let found = FUNCTIONS.iter().find(|function| function.name == call.function);
    let function = found.ok_or_else(|| HostError::Unknown { name: call.function.clone() })?;
    match (function.check)(&call.attributes) {
        true => Ok(function),
        false => Err(HostError::Attributes { name: call.function.clone() }),
    }
}

/// Runs a call. New strings go to `strings`, in which the operands' handles are looked up.
///
/// # Errors
/// When there is no such function, the operands do not fit it, or a limit is passed.
pub fn run(
    call: &HostCall,
    operands: &[TensorView<'_>],
    strings: &mut StringTable,
    limits: Limits,
) -> Result<Vec<HostTensor>, HostError> {
    run_until(&|| false, call, operands, strings, limits)
}

/// As [`run`], until `stop`, which is asked now and then, says that nobody waits for the result any more.
///
/// # Errors
/// As [`run`], and [`HostError::Stopped`].
pub fn run_until(
    stop: &dyn Fn() -> bool,
    call: &HostCall,
    operands: &[TensorView<'_>],
    strings: &mut StringTable,
    limits: Limits,
) -> Result<Vec<HostTensor>, HostError> {
    let function = find(call)?;
    let mut context = Context { function: function.name, strings, limits, stop, unasked: Cell::new(0) };
    for (index, operand) in operands.iter().enumerate() {
        if operand.expected_bytes() != Some(operand.data.len() as u64) {
            let found = format!("{} bytes as operand {index}", operand.data.len());
            let expected = format!("{}{:?}", operand.dtype.name(), operand.dims);
            return Err(context.operands(expected, found));
        }
    }
    (function.run)(&call.attributes, operands, &mut context)
}

/// A running call: its strings and limits, and errors that name it.
pub(crate) struct Context<'a> {
    pub(crate) function: &'static str,
    pub(crate) strings: &'a mut StringTable,
    pub(crate) limits: Limits,
    stop: &'a dyn Fn() -> bool,
    /// Work since `stop` was asked.
    unasked: Cell<u64>,
}

/// Work between two questions whether to stop, in bytes or elements looked at: well under a millisecond.
const WORK_UNASKED: u64 = 1 << 16;

impl Context<'_> {
    pub(crate) fn operands(&self, expected: impl Into<String>, found: impl Into<String>) -> HostError {
        HostError::Operands { function: self.function.into(), expected: expected.into(), found: found.into() }
    }

    pub(crate) fn value(&self, problem: impl Into<String>) -> HostError {
        HostError::Value { function: self.function.into(), problem: problem.into() }
    }

    /// Exactly `N` operands.
    pub(crate) fn exactly<'v, const N: usize>(
        &self,
        operands: &[TensorView<'v>],
    ) -> Result<[TensorView<'v>; N], HostError> {
        <[TensorView<'v>; N]>::try_from(operands)
            .map_err(|_| self.operands(format!("{N} operands"), operands.len().to_string()))
    }

    pub(crate) fn dtype(&self, operand: &TensorView<'_>, expected: DType) -> Result<(), HostError> {
        match operand.dtype == expected {
            true => Ok(()),
            false => Err(self.operands(expected.name(), operand.dtype.name())),
        }
    }

    /// Refuses what would take more bytes than allowed.
    pub(crate) fn reserve(&self, bytes: Option<u64>) -> Result<(), HostError> {
        let found_bytes = bytes.unwrap_or(u64::MAX);
        let limit_bytes = self.limits.bytes;
        match found_bytes <= limit_bytes {
            true => Ok(()),
            false => Err(HostError::Memory { function: self.function.into(), found_bytes, limit_bytes }),
        }
    }

    /// Counts work that is about to be done; an error when nobody waits for it any more.
    pub(crate) fn work(&self, amount: u64) -> Result<(), HostError> {
        let unasked = self.unasked.get().saturating_add(amount);
        if unasked < WORK_UNASKED {
            self.unasked.set(unasked);
            return Ok(());
        }
        self.unasked.set(0);
        match (self.stop)() {
            true => Err(HostError::Stopped { function: self.function.into() }),
            false => Ok(()),
        }
    }

    /// Refuses what would take more steps than allowed.
    pub(crate) fn steps(&self, steps: u64) -> Result<(), HostError> {
        let limit = self.limits.steps;
        match steps <= limit {
            true => Ok(()),
            false => Err(HostError::Steps { function: self.function.into(), found: steps, limit }),
        }
    }

    /// The bytes of a string.
    pub(crate) fn bytes(&self, handle: u64) -> Result<&[u8], HostError> {
        let missing = || self.value(format!("{handle} is no string of this call"));
        let bytes = self.strings.get(handle).ok_or_else(missing)?;
        // Whoever asks for the bytes looks at them; handing them out is some work too.
        self.work(bytes.len() as u64 + 16)?;
        Ok(bytes)
    }

    /// The text of a string.
    pub(crate) fn text(&self, handle: u64) -> Result<&str, HostError> {
        std::str::from_utf8(self.bytes(handle)?)
            .map_err(|_| self.value("a string is not UTF-8, which this function needs"))
    }
}
