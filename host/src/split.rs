//! Splitting strings into pieces.

use serde::{Deserialize, Serialize};

use crate::call::Attributes;
use crate::error::HostError;
use crate::functions::{Context, Function};
use crate::tensor::{DType, HostTensor, TensorView, count};

/// Splits each string. Results: the pieces, `x.shape ++ [most]`, filled up with empty strings; and how many there are of
/// each, i64.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StringSplit {
    /// Between pieces; `None` is any run of whitespace, none of which is kept at the ends.
    pub delimiter: Option<String>,
    /// Splits of one string at most; what is left is the last piece.
    pub max_splits: Option<u64>,
}

impl Attributes for StringSplit {
    const FUNCTION: &'static str = "string_split.1";
}

impl Function for StringSplit {
    fn run(
        &self,
        operands: &[TensorView<'_>],
        context: &mut Context<'_>,
    ) -> Result<Vec<HostTensor>, HostError> {
        let [x] = context.exactly(operands)?;
        context.dtype(&x, DType::String)?;
        let limit = usize::try_from(self.max_splits.unwrap_or(u64::MAX)).unwrap_or(usize::MAX);
        // Pieces of all strings, one after the other, and how many each has.
        let (mut pieces, mut counts) = (Vec::new(), Vec::with_capacity(x.len()));
        for handle in x.words() {
            let text = context.text(handle)?;
            let ranges: Vec<(usize, usize)> = match self.delimiter.as_deref() {
                None | Some("") => by_whitespace(text, limit),
                Some(delimiter) => by_delimiter(text, delimiter, limit),
            };
            counts.push(ranges.len() as u64);
            context.reserve(Some((pieces.len() as u64 + ranges.len() as u64).saturating_mul(8)))?;
            for (start, end) in ranges {
                let piece = context.strings.get(handle).and_then(|text| text.get(start..end));
                let piece = piece.unwrap_or_default().to_vec();
                pieces.push(context.strings.intern(&piece)?);
            }
        }
        let most = counts.iter().copied().max().unwrap_or(0);
        let dims: Vec<u64> = x.dims.iter().copied().chain([most]).collect();
        context.reserve(count(&dims).and_then(|n| n.checked_mul(8)))?;
        let mut left = pieces.into_iter();
        let mut filled = Vec::new();
        for &found in &counts {
            filled.extend(left.by_ref().take(found as usize));
            filled.extend(std::iter::repeat_n(0, (most - found) as usize));
        }
        Ok(vec![
            HostTensor::of_words(DType::String, dims, filled),
            HostTensor::of_words(DType::I64, x.dims.to_vec(), counts),
        ])
    }
}

fn by_delimiter(text: &str, delimiter: &str, limit: usize) -> Vec<(usize, usize)> {
    let mut ranges = Vec::new();
    let mut start = 0;
    for (at, _) in text.match_indices(delimiter).take(limit) {
        ranges.push((start, at));
        start = at + delimiter.len();
    }
    ranges.push((start, text.len()));
    ranges
}

fn by_whitespace(text: &str, limit: usize) -> Vec<(usize, usize)> {
    let mut ranges = Vec::new();
    let skip = |from: usize| text.len() - text[from..].trim_start().len();
    let mut start = skip(0);
    while start < text.len() {
        if ranges.len() == limit {
            // The rest keeps its whitespace, that at the end too.
            ranges.push((start, text.len()));
            break;
        }
        let end = text[start..].find(char::is_whitespace).map_or(text.len(), |at| start + at);
        ranges.push((start, end));
        start = skip(end);
    }
    ranges
}
