//! Joining, cleaning and matching strings.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use crate::call::Attributes;
use crate::error::HostError;
use crate::functions::{Context, Function};
use crate::tensor::{DType, HostTensor, TensorView};

/// Element by element, the second operand's string after the first's; both of one shape.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StringConcat;

impl Attributes for StringConcat {
    const FUNCTION: &'static str = "string_concat.1";
}

impl Function for StringConcat {
    fn run(
        &self,
        operands: &[TensorView<'_>],
        context: &mut Context<'_>,
    ) -> Result<Vec<HostTensor>, HostError> {
        let [lhs, rhs] = context.exactly(operands)?;
        context.dtype(&lhs, DType::String)?;
        context.dtype(&rhs, DType::String)?;
        if lhs.dims != rhs.dims {
            return Err(
                context.operands(format!("operands of shape {:?}", lhs.dims), format!("{:?}", rhs.dims))
            );
        }
        let mut joined = Vec::new();
        let mut handles = Vec::with_capacity(lhs.len());
        for (l, r) in lhs.words().zip(rhs.words()) {
            joined.clear();
            joined.extend_from_slice(context.bytes(l)?);
            joined.extend_from_slice(context.bytes(r)?);
            handles.push(context.strings.intern(&joined)?);
        }
        Ok(vec![HostTensor::of_words(DType::String, lhs.dims.to_vec(), handles)])
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CaseChange {
    None,
    Lower,
    Upper,
}

impl CaseChange {
    /// By Unicode's rules without a locale: a result must not depend on the machine it is made on.
    fn apply(self, text: &str) -> String {
        match self {
            Self::None => text.to_owned(),
            Self::Lower => text.to_lowercase(),
            Self::Upper => text.to_uppercase(),
        }
    }
}

/// Drops stop words from a list, then changes case. The operand is `[c]` or `[1, c]`; the result has one string at
/// least, an empty one where all were dropped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StringNormalize {
    pub case_change: CaseChange,
    /// Whether stop words are compared with their case.
    pub case_sensitive: bool,
    pub stop_words: Vec<String>,
}

impl Attributes for StringNormalize {
    const FUNCTION: &'static str = "string_normalize.1";
}

impl Function for StringNormalize {
    fn run(
        &self,
        operands: &[TensorView<'_>],
        context: &mut Context<'_>,
    ) -> Result<Vec<HostTensor>, HostError> {
        let [x] = context.exactly(operands)?;
        context.dtype(&x, DType::String)?;
        if !matches!(x.dims, [_] | [1, _]) {
            return Err(context.operands("strings of shape [c] or [1, c]", format!("{:?}", x.dims)));
        }
        let fold = |text: &str| if self.case_sensitive { text.to_owned() } else { text.to_lowercase() };
        let stop_words: HashSet<String> = self.stop_words.iter().map(|word| fold(word)).collect();
        let mut kept = Vec::new();
        for handle in x.words() {
            let text = context.text(handle)?;
            if stop_words.is_empty() || !stop_words.contains(&fold(text)) {
                let changed = self.case_change.apply(text);
                kept.push(context.strings.intern(changed.as_bytes())?);
            }
        }
        if kept.is_empty() {
            kept.push(0);
        }
        let mut dims = x.dims.to_vec();
        if let Some(last) = dims.last_mut() {
            *last = kept.len() as u64;
        }
        Ok(vec![HostTensor::of_words(DType::String, dims, kept)])
    }
}

/// Whether each whole string matches the pattern.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegexFullMatch {
    pub pattern: String,
}

/// What a compiled pattern may take; larger ones are refused.
const MAX_PATTERN_BYTES: usize = 4 << 20;

impl RegexFullMatch {
    /// The compiled pattern, or what is wrong with it.
    ///
    /// Matching takes time linear in the text, whatever the pattern.
    pub fn compile(&self) -> Result<regex::Regex, String> {
        let build = |pattern: &str| {
            regex::RegexBuilder::new(pattern)
                .size_limit(MAX_PATTERN_BYTES)
                .dfa_size_limit(MAX_PATTERN_BYTES)
                .nest_limit(100)
                .build()
                .map_err(|error| format!("pattern {:?}: {error}", self.pattern))
        };
        let pattern = with_ascii_classes(&self.pattern);
        // On its own first: one with a bracket too many must not close that which is put around it.
        build(&pattern)?;
        build(&format!(r"\A(?:{pattern})\z"))
    }
}

/// The pattern with `\w`, `\d`, `\s`, their opposites and `\b` meaning what they mean to RE2: ASCII alone.
fn with_ascii_classes(pattern: &str) -> String {
    let mut written = String::with_capacity(pattern.len());
    let mut chars = pattern.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            written.push(c);
            continue;
        }
        // Classes nest, so that these may stand in others.
        match chars.next() {
            Some('w') => written.push_str("[0-9A-Za-z_]"),
            Some('W') => written.push_str("[^0-9A-Za-z_]"),
            Some('d') => written.push_str("[0-9]"),
            Some('D') => written.push_str("[^0-9]"),
            Some('s') => written.push_str(r"[\t\n\f\r ]"),
            Some('S') => written.push_str(r"[^\t\n\f\r ]"),
            Some('b') => written.push_str(r"(?-u:\b)"),
            Some(other) => written.extend(['\\', other]),
            None => written.push('\\'),
        }
    }
    written
}

impl Attributes for RegexFullMatch {
    const FUNCTION: &'static str = "regex_full_match.1";
}

impl Function for RegexFullMatch {
    fn run(
        &self,
        operands: &[TensorView<'_>],
        context: &mut Context<'_>,
    ) -> Result<Vec<HostTensor>, HostError> {
        let [x] = context.exactly(operands)?;
        context.dtype(&x, DType::String)?;
        let pattern = self.compile().map_err(|problem| context.value(problem))?;
        let matches = |handle| Ok(pattern.is_match(context.text(handle)?));
        let matches = x.words().map(matches).collect::<Result<Vec<bool>, HostError>>()?;
        Ok(vec![HostTensor::of_bools(x.dims.to_vec(), matches)])
    }
}
