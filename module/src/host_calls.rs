//! The table of host functions that code calls: each with its attributes and the kinds of tensors it takes and gives.
//!
//! The section holds the count, the first word of each row, then the rows: function and origin (strings), bytes of
//! attributes, operands, results, a word for each operand and each result (element type in the low half, rank in the
//! high half), and the attributes, filled up to whole words with zeros.

use crate::DType;
use crate::error::VerifyError;
use crate::format::{MAX_KERNEL_OPERANDS, MAX_RANK, SectionKind};
use crate::reader::Module;
use crate::words::Words;

/// An element type and a number of axes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TensorKind {
    pub dtype: DType,
    pub rank: usize,
}

/// A call as the compiler makes it.
#[cfg(feature = "std")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostCallDraft {
    /// The function's name and version.
    pub function: std::string::String,
    /// The node of the model that it computes, for errors.
    pub origin: std::string::String,
    /// In the function's own encoding.
    pub attributes: std::vec::Vec<u8>,
    pub operands: std::vec::Vec<TensorKind>,
    pub results: std::vec::Vec<TensorKind>,
}

/// A call as it stands in the module.
#[derive(Clone, Copy, Debug)]
pub struct HostCallRef<'a> {
    pub function: &'a str,
    pub origin: &'a str,
    pub attributes: &'a [u8],
    pub operands: TensorKinds<'a>,
    pub results: TensorKinds<'a>,
}

/// The kinds of a call's operands or results.
#[derive(Clone, Copy, Debug)]
pub struct TensorKinds<'a>(Words<'a>);

impl<'a> TensorKinds<'a> {
    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Each kind in order; ends at one that is none.
    pub fn iter(&self) -> impl Iterator<Item = TensorKind> + use<'a> {
        let words = self.0;
        (0..words.len()).map_while(move |at| {
            let word = words.get(at)?;
            let dtype = DType::from_number(u8::try_from(word & 0xffff).ok()?)?;
            let rank = (word >> 16) as usize;
            (rank <= MAX_RANK).then_some(TensorKind { dtype, rank })
        })
    }

    /// Dimensions of all together.
    pub fn dims(&self) -> usize {
        self.iter().map(|kind| kind.rank).sum()
    }
}

/// Words of a row before its kinds.
const HEAD_WORDS: usize = 5;

impl<'a> Module<'a> {
    /// How many host calls there are.
    pub fn host_calls(&self) -> u32 {
        let words = self.words(SectionKind::HostCalls);
        // A section that does not hold as many rows as it says does not verify.
        words.get(0).unwrap_or(0).min(words.len() as u32)
    }

    /// Host call `index`; `None` when there is none, or its row does not fit the section.
    pub fn host_call(&self, index: u32) -> Option<HostCallRef<'a>> {
        self.host_call_row(index).map(|(call, _, _)| call)
    }

    /// The row, the words of its string indices, and the word after it.
    fn host_call_row(&self, index: u32) -> Option<(HostCallRef<'a>, [u32; 2], usize)> {
        let words = self.words(SectionKind::HostCalls);
        if index >= self.host_calls() {
            return None;
        }
        let at = words.get(1 + index as usize)? as usize;
        let head = words.slice(at, HEAD_WORDS)?;
        let names = [head.get(0)?, head.get(1)?];
        let (bytes, operands, results) =
            (head.get(2)? as usize, head.get(3)? as usize, head.get(4)? as usize);
        let operands_at = at.checked_add(HEAD_WORDS)?;
        let results_at = operands_at.checked_add(operands)?;
        let attributes_at = results_at.checked_add(results)?;
        let attributes = words.slice(attributes_at, bytes.div_ceil(4))?;
        let call = HostCallRef {
            function: self.string(names[0])?,
            origin: self.string(names[1])?,
            attributes: attributes.0.get(..bytes)?,
            operands: TensorKinds(words.slice(operands_at, operands)?),
            results: TensorKinds(words.slice(results_at, results)?),
        };
        Some((call, names, attributes_at + bytes.div_ceil(4)))
    }
}

/// Checks the table; `name` checks an index of a string.
pub(crate) fn verify(
    module: &Module<'_>,
    mut name: impl FnMut(u32) -> Result<(), VerifyError>,
) -> Result<(), VerifyError> {
    const SECTION: SectionKind = SectionKind::HostCalls;
    let words = module.words(SECTION);
    let bad =
        |word: usize, problem| VerifyError::Malformed { section: SECTION, offset: word as u64 * 4, problem };
    let count = words.get(0).ok_or(bad(0, "there is no count"))? as usize;
    let mut next = count.checked_add(1).filter(|&end| end <= words.len()).ok_or(bad(0, "too many calls"))?;
    for index in 0..count {
        if words.get(1 + index).map(|at| at as usize) != Some(next) {
            return Err(bad(1 + index, "a row does not follow the one before it"));
        }
        for at in [next, next + 1] {
            name(words.get(at).ok_or(bad(at, "cut short"))?)?;
        }
        let (call, _, end) = module.host_call_row(index as u32).ok_or(bad(next, "cut short"))?;
        if call.operands.len().max(call.results.len()) > MAX_KERNEL_OPERANDS {
            return Err(bad(next, "more operands or results than a call can have"));
        }
        let kinds = [call.operands, call.results];
        if kinds.iter().any(|kinds| kinds.iter().count() != kinds.len() || kinds.dims() > MAX_KERNEL_OPERANDS)
        {
            return Err(bad(next, "an unknown element type, or too many dimensions"));
        }
        let padding = module.section(SECTION).get((end - call.attributes.len().div_ceil(4)) * 4..end * 4);
        let padding = padding.and_then(|bytes| bytes.get(call.attributes.len()..)).unwrap_or_default();
        if padding.iter().any(|&byte| byte != 0) {
            return Err(bad(end, "bits that should be zero are not"));
        }
        next = end;
    }
    match next * 4 == module.section(SECTION).len() {
        true => Ok(()),
        false => Err(bad(next, "there is more than should be")),
    }
}

/// The words of the section; `name` gives the index of a string.
#[cfg(feature = "std")]
pub(crate) fn words<E>(
    calls: &[HostCallDraft],
    mut name: impl FnMut(&str) -> Result<u32, E>,
    number: impl Fn(usize) -> Result<u32, E>,
) -> Result<std::vec::Vec<u32>, E> {
    let mut words = std::vec![number(calls.len())?];
    let mut rows = std::vec::Vec::new();
    for call in calls {
        words.push(number(1 + calls.len() + rows.len())?);
        rows.extend([name(&call.function)?, name(&call.origin)?, number(call.attributes.len())?]);
        rows.extend([number(call.operands.len())?, number(call.results.len())?]);
        for kind in call.operands.iter().chain(&call.results) {
            rows.push(kind.dtype as u32 | number(kind.rank)? << 16);
        }
        rows.extend(call.attributes.chunks(4).map(|chunk| {
            let mut word = [0; 4];
            word[..chunk.len()].copy_from_slice(chunk);
            u32::from_le_bytes(word)
        }));
    }
    words.extend(rows);
    Ok(words)
}
