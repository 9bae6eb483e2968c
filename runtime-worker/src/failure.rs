//! The runtime's errors in the words of the messages.

use std::fmt::Write;

use ired_hal::AllocateError;
use ired_module::signature::{DimSpec, Signature, TensorSpec};
use ired_runtime::InvokeError;
use ired_worker::RuntimeFailure;
use ired_worker::messages::full_text;
use ired_worker::messages::runtime::TensorRef;

/// What the parent is told about a call of `entry` that did not work.
pub(crate) fn describe(
    signature: &Signature,
    entry: &str,
    inputs: &[TensorRef],
    error: InvokeError,
) -> RuntimeFailure {
    let specs = signature.entries.iter().find(|candidate| candidate.name == entry).map(|found| &found.inputs);
    let expected = |name: &str| {
        let spec = specs.and_then(|specs| specs.iter().find(|spec| spec.name == name));
        spec.map_or_else(|| "no such input".to_owned(), spec_text)
    };
    let found = |name: &str| {
        let input = inputs.iter().find(|input| input.name == name);
        input.map_or_else(|| "nothing".to_owned(), |input| format!("{}{:?}", input.dtype, input.dims))
    };
    let invalid = |tensor: String, found: String, expected: String| RuntimeFailure::InvalidInput {
        tensor,
        found,
        expected,
    };
    match error {
        InvokeError::NoSuchEntry { .. } => RuntimeFailure::NoSuchEntry {
            entry: entry.to_owned(),
            entries: signature.entries.iter().map(|candidate| candidate.name.clone()).collect(),
        },
        InvokeError::InputCount { found, expected, names } => {
            invalid(names, format!("{found} inputs"), expected.to_string())
        }
        InvokeError::UnknownInput { name, expected } => {
            let found = found(&name);
            invalid(name, found, format!("one of {expected}"))
        }
        InvokeError::DuplicateInput { name } => invalid(name, "it twice".to_owned(), "it once".to_owned()),
        InvokeError::MissingInput { name }
        | InvokeError::DType { name, .. }
        | InvokeError::Rank { name, .. }
        | InvokeError::Dim { name, .. }
        | InvokeError::TooLarge { name }
        | InvokeError::BufferTooShort { name, .. } => {
            let (found, expected) = (found(&name), expected(&name));
            invalid(name, found, expected)
        }
        InvokeError::DimRange { name, symbol, min, max, .. } => {
            let expected = format!("{} with {symbol} from {min} to {max}", expected(&name));
            let found = found(&name);
            invalid(name, found, expected)
        }
        InvokeError::Symbol { name, symbol, expected: size, other, .. } => {
            let expected = format!("{} with {symbol} = {size} as in `{other}`", expected(&name));
            let found = found(&name);
            invalid(name, found, expected)
        }
        InvokeError::DeadlinePassed => RuntimeFailure::DeadlineExceeded,
        InvokeError::Cancelled => RuntimeFailure::Cancelled,
        InvokeError::OverBudget { needed_bytes, limit_bytes, .. } => {
            RuntimeFailure::OutOfMemory { needed_bytes, limit_bytes }
        }
        InvokeError::Allocate(AllocateError::OutOfMemory { bytes }) => {
            RuntimeFailure::OutOfMemory { needed_bytes: bytes, limit_bytes: 0 }
        }
        other => RuntimeFailure::Execution { message: full_text(&other) },
    }
}

/// An output that was not written to shared memory; a fault of this program.
pub(crate) fn missing_output(name: &str) -> RuntimeFailure {
    RuntimeFailure::Execution { message: format!("output `{name}` is not in shared memory") }
}

/// `f32[batch, 4]`.
fn spec_text(spec: &TensorSpec) -> String {
    let mut text = format!("{}[", spec.dtype);
    for (axis, dim) in spec.dims.iter().enumerate() {
        if axis > 0 {
            text.push_str(", ");
        }
        // Writing to a string cannot fail.
        let _ = match dim {
            DimSpec::Static(size) => write!(text, "{size}"),
            DimSpec::Symbolic { name, .. } => write!(text, "{name}"),
        };
    }
    text.push(']');
    text
}
