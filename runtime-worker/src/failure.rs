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
            // No limit was met: the system refused.
            RuntimeFailure::OutOfMemory { needed_bytes: bytes, limit_bytes: 0 }
        }
        InvokeError::Check { mut message } => {
            message.push_str(&sizes_in(&message, specs.map_or(&[], Vec::as_slice), inputs));
            RuntimeFailure::Execution { message }
        }
        other => RuntimeFailure::Execution { message: full_text(&other) },
    }
}

/// An output that was not written to shared memory; a fault of this program.
pub(crate) fn missing_output(name: &str) -> RuntimeFailure {
    RuntimeFailure::Execution { message: format!("output `{name}` is not in shared memory") }
}

/// ` (with N = 3, M = 4)`: what the named dimensions that the text speaks of are in this call.
fn sizes_in(text: &str, specs: &[TensorSpec], inputs: &[TensorRef]) -> String {
    /// Enough for any expression that one reads.
    const MOST: usize = 8;
    let mut known: Vec<(&str, u64)> = Vec::new();
    for spec in specs {
        let Some(input) = inputs.iter().find(|input| input.name == spec.name) else { continue };
        for (dim, &size) in spec.dims.iter().zip(&input.dims) {
            let DimSpec::Symbolic { name, .. } = dim else { continue };
            let new = known.len() < MOST && !known.iter().any(|(other, _)| other == name);
            if new && speaks_of(text, name) {
                known.push((name, size));
            }
        }
    }
    let sizes: Vec<String> = known.iter().map(|(name, size)| format!("{name} = {size}")).collect();
    if sizes.is_empty() { String::new() } else { format!(" (with {})", sizes.join(", ")) }
}

/// Whether `name` stands in the text as a word of its own.
fn speaks_of(text: &str, name: &str) -> bool {
    let in_word = |c: char| c.is_alphanumeric() || c == '_';
    !name.is_empty()
        && text.match_indices(name).any(|(at, _)| {
            let (before, after) = (&text[..at], &text[at + name.len()..]);
            !before.ends_with(in_word) && !after.starts_with(in_word)
        })
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

#[cfg(test)]
mod tests {
    use ired_module::DType;
    use ired_worker::messages::runtime::Place;

    use super::*;

    #[test]
    fn a_failed_check_says_what_the_sizes_are() {
        let symbolic = |name: &str| DimSpec::Symbolic { name: name.to_owned(), min: 0, max: 1 << 40 };
        let spec =
            |name: &str, dims: Vec<DimSpec>| TensorSpec { name: name.to_owned(), dtype: DType::F32, dims };
        let specs = [
            spec("a", vec![symbolic("N"), DimSpec::Static(4)]),
            spec("b", vec![symbolic("N"), symbolic("NN"), symbolic("M")]),
        ];
        let place = Place { region: 0, offset: 0, len: 0 };
        let input = |name: &str, dims: &[u64]| TensorRef {
            name: name.to_owned(),
            dtype: DType::F32,
            dims: dims.to_vec(),
            place,
        };
        let inputs = [input("b", &[3, 5, 7]), input("a", &[3, 4])];
        let sizes = |text| sizes_in(text, &specs, &inputs);
        assert_eq!(sizes("add: N is neither 1 nor max(N, M)*2"), " (with N = 3, M = 7)");
        assert_eq!(sizes("inner sizes differ: NN and 4"), " (with NN = 5)");
        assert_eq!(sizes("index out of range"), "");
    }
}
