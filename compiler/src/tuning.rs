//! Tuning files: for problems that kernels solve in several ways, the way that was measured to be the fastest.
//!
//! ```toml
//! version = 1
//! target = "x86_64-linux,+avx2,+fma"
//!
//! [[kernel]]
//! problem = "product f32 f32 m=128 k=768 n=768"
//! m0 = 9
//! n1 = 3
//! rows = 72
//! k_block = 512
//!
//! [[kernel]]
//! problem = "convolution f32 [1, 56, 56, 64] by [64, 64, 3, 3] to [1, 56, 56, 64]"
//! family = "winograd"
//! ```
//!
//! Whatever a file says, kernels compute the same: what would not fit the target or the kernels is refused here.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt;

use ired_graph::Graph;
use serde::Deserialize;
use toml::Spanned;

use crate::kernels;
use crate::passes::form_dispatches::{Plan, Step};
use crate::targets::CpuTarget;

const VERSION: u32 = 1;
/// Of a file; thousands of kernels.
const MAX_BYTES: usize = 1 << 20;
/// Rows of a tile: what is left of a workgroup's is covered by tiles of 8, 4, 2 and 1.
pub(crate) const MAX_TILE_ROWS: usize = 14;
const MAX_TILE_VECTORS: usize = 4;
/// Rows of a workgroup, whose sums lie on its stack between passes.
pub(crate) const MAX_ROWS: i64 = 1024;
/// Steps of a pass.
const MAX_K_BLOCK: i64 = 1 << 16;

/// Which way to take for which problem.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tuning {
    /// Canonical text of the target that was measured.
    target: String,
    choices: BTreeMap<String, Choice>,
}

/// One of the ways to solve a problem.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// How a product is cut up.
    Tile(Tile),
    /// The family that computes a convolution.
    Family(&'static str),
}

/// Sizes that a product is cut up by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tile {
    /// Rows and vectors of a tile.
    pub m0: usize,
    pub n1: usize,
    /// Rows of a workgroup, a multiple of `m0`; the most, where the product's are not known.
    pub rows: i64,
    /// Steps of a pass over `k`; none where one pass makes all.
    pub k_block: Option<i64>,
}

/// A dispatch that can be computed in several ways.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tunable {
    /// What decides which way is the fastest; equal of dispatches that are alike.
    pub problem: String,
    /// Ways worth measuring, without the one that is taken now.
    pub candidates: Vec<Choice>,
}

/// What is wrong with a tuning file.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TuningError {
    #[error("the tuning file is {found} bytes; the limit is {MAX_BYTES}")]
    TooLong { found: usize },
    #[error("tuning file, line {line}: {message}")]
    Syntax { line: usize, message: String },
    #[error("tuning file, line {line}: version {found} is not known; known is {VERSION}")]
    Version { line: usize, found: u32 },
    #[error(
        "tuning file, line {line}: it is for target `{found}`, this is for `{expected}`: tune for this target"
    )]
    Target { line: usize, found: String, expected: String },
    #[error("tuning file, line {line}: `{problem}` is there already")]
    Repeated { line: usize, problem: String },
    #[error("tuning file, line {line}: `{problem}` needs `{key}`")]
    Missing { line: usize, problem: String, key: &'static str },
    #[error("tuning file, line {line}: `{key}` is not for `{problem}`")]
    Misplaced { line: usize, problem: String, key: &'static str },
    #[error("tuning file, line {line}: `{key}` is {found}, expected {expected}")]
    Value { line: usize, key: &'static str, found: String, expected: String },
    #[error(
        "tuning file, line {line}: tiles of {m0} x {n1} vectors take {needed} registers; the target has {registers}"
    )]
    Registers { line: usize, m0: usize, n1: usize, needed: usize, registers: usize },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    version: Spanned<u32>,
    target: Spanned<String>,
    #[serde(default)]
    kernel: Vec<Kernel>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Kernel {
    problem: Spanned<String>,
    family: Option<String>,
    m0: Option<usize>,
    n1: Option<usize>,
    rows: Option<i64>,
    k_block: Option<i64>,
}

impl Tuning {
    /// Reads a file for compilation for `target`.
    ///
    /// # Errors
    /// [`TuningError`] with the line of what is not understood, not for this target, or not possible.
    pub fn parse(text: &str, target: &CpuTarget) -> Result<Self, TuningError> {
        if text.len() > MAX_BYTES {
            return Err(TuningError::TooLong { found: text.len() });
        }
        let line_of = |at: usize| 1 + text.bytes().take(at).filter(|byte| *byte == b'\n').count();
        let file: File = toml::from_str(text).map_err(|error| TuningError::Syntax {
            line: line_of(error.span().map_or(0, |span| span.start)),
            message: error.message().to_owned(),
        })?;
        if *file.version.get_ref() != VERSION {
            let (line, found) = (line_of(file.version.span().start), *file.version.get_ref());
            return Err(TuningError::Version { line, found });
        }
        // Products in tiles of the machine are not tuned, so it is the same whether code may use them.
        let expected = target.clone().without_tiles();
        let tuned_for = CpuTarget::parse(file.target.get_ref()).map(CpuTarget::without_tiles);
        if tuned_for.as_ref() != Ok(&expected) {
            let (line, found) = (line_of(file.target.span().start), file.target.into_inner());
            return Err(TuningError::Target { line, found, expected: expected.to_string() });
        }
        let mut tuning = Self::empty(target);
        for kernel in file.kernel {
            let line = line_of(kernel.problem.span().start);
            let choice = kernel.choice(line, target)?;
            match tuning.choices.entry(kernel.problem.into_inner()) {
                Entry::Vacant(entry) => drop(entry.insert(choice)),
                Entry::Occupied(entry) => {
                    return Err(TuningError::Repeated { line, problem: entry.key().clone() });
                }
            }
        }
        Ok(tuning)
    }

    /// A file for `target` without kernels.
    pub(crate) fn empty(target: &CpuTarget) -> Self {
        Self { target: target.clone().without_tiles().to_string(), choices: BTreeMap::new() }
    }

    /// Whether all kernels are as they are without a file.
    pub fn is_empty(&self) -> bool {
        self.choices.is_empty()
    }

    /// Lets dispatches be computed as the file says; problems that do not occur are ignored.
    pub(crate) fn apply(&self, graph: &Graph, plan: &mut Plan, target: &CpuTarget) {
        // Of several targets, a file is for one.
        if self.target != target.clone().without_tiles().to_string() {
            return;
        }
        if self.is_empty() {
            return;
        }
        for step in plan.regions.values_mut().flatten() {
            if let Step::Dispatch(dispatch) = step {
                let tunable = kernels::tunable(graph, dispatch, target);
                dispatch.choice = tunable.and_then(|t| self.choices.get(&t.problem).copied());
            }
        }
    }
}

/// The canonical text, which [`Tuning::parse`] reads.
impl fmt::Display for Tuning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "version = {VERSION}\ntarget = {:?}", self.target)?;
        self.choices.iter().try_for_each(|(problem, choice)| f.write_str(&choice.to_entry(problem)))
    }
}

impl Choice {
    /// What a tuning file says for this.
    pub(crate) fn to_entry(self, problem: &str) -> String {
        let sizes = match self {
            Self::Family(family) => format!("family = {family:?}\n"),
            Self::Tile(Tile { m0, n1, rows, k_block }) => {
                let k_block = k_block.map_or(String::new(), |steps| format!("k_block = {steps}\n"));
                format!("m0 = {m0}\nn1 = {n1}\nrows = {rows}\n{k_block}")
            }
        };
        format!("\n[[kernel]]\nproblem = {problem:?}\n{sizes}")
    }
}

impl Tile {
    /// Registers of the sums, of a vector each along the columns, and of one value.
    pub(crate) fn registers(m0: usize, n1: usize) -> usize {
        m0 * n1 + n1 + 1
    }

    /// The most rows that tiles of `n1` vectors can have.
    pub(crate) fn most_rows(n1: usize, target: &CpuTarget) -> usize {
        (target.vector_registers.saturating_sub(n1 + 1) / n1.max(1)).min(MAX_TILE_ROWS)
    }
}

impl Kernel {
    fn choice(&self, line: usize, target: &CpuTarget) -> Result<Choice, TuningError> {
        let problem = self.problem.get_ref();
        let is_convolution = problem.starts_with("convolution ");
        let given = [
            ("family", self.family.is_some(), is_convolution),
            ("m0", self.m0.is_some(), !is_convolution),
            ("n1", self.n1.is_some(), !is_convolution),
            ("rows", self.rows.is_some(), !is_convolution),
            ("k_block", self.k_block.is_some(), problem.starts_with("product ")),
        ];
        if let Some((key, ..)) = given.into_iter().find(|(_, is_given, fits)| *is_given && !fits) {
            return Err(TuningError::Misplaced { line, problem: problem.clone(), key });
        }
        let missing = |key| TuningError::Missing { line, problem: problem.clone(), key };
        if is_convolution {
            let family = self.family.as_deref().ok_or_else(|| missing("family"))?;
            let known = kernels::CONVOLUTIONS.into_iter().find(|known| *known == family);
            return known.map(Choice::Family).ok_or_else(|| TuningError::Value {
                line,
                key: "family",
                found: format!("{family:?}"),
                expected: format!("one of {:?}", kernels::CONVOLUTIONS),
            });
        }
        let m0 = self.m0.ok_or_else(|| missing("m0"))?;
        let n1 = self.n1.ok_or_else(|| missing("n1"))?;
        let rows = self.rows.ok_or_else(|| missing("rows"))?;
        let wrong = |key, found: String, expected| TuningError::Value { line, key, found, expected };
        if !(1..=MAX_TILE_ROWS).contains(&m0) {
            return Err(wrong("m0", m0.to_string(), format!("1 to {MAX_TILE_ROWS}")));
        }
        if !(1..=MAX_TILE_VECTORS).contains(&n1) {
            return Err(wrong("n1", n1.to_string(), format!("1 to {MAX_TILE_VECTORS}")));
        }
        if !(1..=MAX_ROWS).contains(&rows) || rows % m0 as i64 != 0 {
            return Err(wrong("rows", rows.to_string(), format!("a multiple of {m0} up to {MAX_ROWS}")));
        }
        if let Some(steps) = self.k_block.filter(|steps| !(8..=MAX_K_BLOCK).contains(steps) || steps % 8 != 0)
        {
            return Err(wrong("k_block", steps.to_string(), format!("a multiple of 8 up to {MAX_K_BLOCK}")));
        }
        let (needed, registers) = (Tile::registers(m0, n1), target.vector_registers);
        if needed > registers {
            return Err(TuningError::Registers { line, m0, n1, needed, registers });
        }
        Ok(Choice::Tile(Tile { m0, n1, rows, k_block: self.k_block }))
    }
}

/// Every way worth measuring for every problem of a plan, as entries of a tuning file: several of one problem.
pub(crate) fn candidates(graph: &Graph, plan: &Plan, target: &CpuTarget) -> String {
    let mut entries: BTreeMap<String, Vec<Choice>> = BTreeMap::new();
    for step in plan.regions.values().flatten() {
        if let Step::Dispatch(dispatch) = step
            && let Some(Tunable { problem, candidates }) = kernels::tunable(graph, dispatch, target)
        {
            entries.insert(problem, candidates);
        }
    }
    let mut text = Tuning::empty(target).to_string();
    for (problem, candidates) in entries {
        candidates.iter().for_each(|choice| text.push_str(&choice.to_entry(&problem)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str = "version = 1\ntarget = \"x86_64-linux,+avx512f\"\n";

    fn target() -> CpuTarget {
        CpuTarget::parse("x86_64-linux,+avx512f").unwrap()
    }

    fn parse(kernel: &str) -> Result<Tuning, TuningError> {
        Tuning::parse(&format!("{HEADER}[[kernel]]\n{kernel}"), &target())
    }

    #[test]
    fn canonical_text_reads_back() {
        let text = "problem = 'product f32 f32 m=1 k=2 n=3'\nrows = 18\nm0 = 9\nn1 = 3\nk_block = 512\n\
                    [[kernel]]\nproblem = 'convolution \"\\\u{e9}'\nfamily = 'winograd'\n";
        let tuning = parse(text).unwrap();
        assert_eq!(tuning.choices.len(), 2);
        assert_eq!(Tuning::parse(&tuning.to_string(), &target()), Ok(tuning));
    }

    #[test]
    fn tiles_of_the_machine_make_no_difference() {
        let tiles = CpuTarget::parse("x86_64-linux,+avx512bf16,+amx-tile,+amx-bf16").unwrap();
        let text = Tuning::empty(&tiles).to_string();
        assert!(Tuning::parse(&text, &tiles).is_ok() && Tuning::parse(&text, &tiles.without_tiles()).is_ok());
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line() {
        let product = "problem = 'product f32 f32 m=1 k=2 n=3'\n";
        let convolution = "problem = 'convolution x'\n";
        let cases = [
            (format!("{product}m0 = 4\nn1 = 2\nrows = 8\nmo = 4"), "line 8: unknown field `mo`"),
            (format!("{product}m0 = 4\nn1 = 2"), "needs `rows`"),
            (format!("{product}m0 = -4\nn1 = 2\nrows = 8"), "line 5: invalid value"),
            (format!("{product}m0 = 15\nn1 = 1\nrows = 15"), "line 4: `m0` is 15, expected 1 to 14"),
            (format!("{product}m0 = 0\nn1 = 1\nrows = 15"), "line 4: `m0` is 0, expected 1 to 14"),
            (format!("{product}m0 = 1\nn1 = 5\nrows = 15"), "`n1` is 5, expected 1 to 4"),
            (
                format!("{product}m0 = 9\nn1 = 4\nrows = 18"),
                "9 x 4 vectors take 41 registers; the target has 32",
            ),
            (
                format!("{product}m0 = 4\nn1 = 2\nrows = 10"),
                "`rows` is 10, expected a multiple of 4 up to 1024",
            ),
            (format!("{product}m0 = 4\nn1 = 2\nrows = 2048"), "`rows` is 2048"),
            (format!("{product}m0 = 4\nn1 = 2\nrows = 8\nk_block = 0"), "`k_block` is 0"),
            (format!("{product}m0 = 4\nn1 = 2\nrows = 8\nfamily = 'winograd'"), "`family` is not for"),
            (
                "problem = 'dot i8 u8 m=1 k=2 n=3'\nm0 = 4\nn1 = 2\nrows = 8\nk_block = 8".to_owned(),
                "`k_block` is not for",
            ),
            (format!("{convolution}m0 = 4\nfamily = 'winograd'"), "`m0` is not for `convolution x`"),
            (convolution.to_owned(), "needs `family`"),
            (format!("{convolution}family = 'sort'"), "`family` is \"sort\", expected one of"),
            (
                format!("{convolution}family = 'winograd'\n[[kernel]]\n{convolution}family = 'convolution'"),
                "line 7: `convolution x` is there already",
            ),
        ];
        for (kernel, expected) in cases {
            let error = parse(&kernel).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}\ninstead of\n{expected}");
        }
        let error = |text: &str| Tuning::parse(text, &target()).unwrap_err().to_string();
        assert!(error("version = 2\ntarget = ''").contains("line 1: version 2 is not known"));
        assert!(
            error("version = 1\ntarget = 'x86_64-linux'").contains("line 2: it is for target `x86_64-linux`")
        );
        assert!(error("version = 1\ntarget = 'pdp11'").contains("line 2: it is for target `pdp11`"));
        assert!(error("version 1").contains("line 1: "));
        assert!(error(&"#".repeat(MAX_BYTES + 1)).contains("the limit is"));
    }
}
