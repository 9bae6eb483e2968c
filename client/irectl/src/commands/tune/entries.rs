//! The compiler's candidates: entries of a tuning file, whose sizes only the compiler understands.

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// Where an entry begins.
const KERNEL: &str = "[[kernel]]\n";

/// A tuning file in which a problem may have several entries.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Entries {
    /// What is before the entries.
    pub(super) header: String,
    /// In the order to try them.
    pub(super) by_problem: BTreeMap<String, Vec<Entry>>,
}

/// One entry's lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry(String);

impl Entries {
    /// Reads what the compiler writes. Names of problems have nothing in them that TOML escapes.
    pub(super) fn parse(text: &str) -> Self {
        let mut parts = text.split(KERNEL);
        let header = parts.next().unwrap_or_default().trim_end().to_owned();
        let mut entries = Self { header, ..Self::default() };
        for part in parts {
            let lines = part.trim_end().to_owned();
            let problem = lines.lines().find_map(|line| line.strip_prefix("problem = "));
            if let Some(problem) = problem.map(|quoted| quoted.trim_matches('"').to_owned()) {
                entries.by_problem.entry(problem).or_default().push(Entry(lines));
            }
        }
        entries
    }

    /// A tuning file of these entries; an empty text where there is no header yet.
    pub(super) fn text<'e>(header: &str, entries: impl IntoIterator<Item = &'e Entry>) -> String {
        if header.is_empty() {
            return String::new();
        }
        let mut text = format!("{header}\n");
        for Entry(lines) in entries {
            let _ = write!(text, "\n{KERNEL}{lines}\n");
        }
        text
    }
}

impl Entry {
    /// All but the problem, in one line: `m0 = 9, n1 = 3, rows = 72`.
    pub(super) fn choice(&self) -> String {
        self.0.lines().filter(|line| !line.starts_with("problem = ")).collect::<Vec<_>>().join(", ")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "version = 1\ntarget = \"t\"\n\n[[kernel]]\nproblem = \"a b\"\nm0 = 1\nn1 = 2\n\n[[kernel]]\n\
                        problem = \"a b\"\nm0 = 3\n\n[[kernel]]\nproblem = \"c\"\nfamily = \"winograd\"\n";

    #[test]
    fn entries_are_found_by_problem_and_written_back() {
        let entries = Entries::parse(TEXT);
        assert_eq!(entries.header, "version = 1\ntarget = \"t\"");
        let choices: Vec<String> = entries.by_problem["a b"].iter().map(Entry::choice).collect();
        assert_eq!(choices, ["m0 = 1, n1 = 2", "m0 = 3"]);
        assert_eq!(Entries::text(&entries.header, entries.by_problem.values().flatten()), TEXT);
    }

    #[test]
    fn a_file_may_have_no_entries_and_a_text_no_header() {
        assert!(Entries::parse("version = 1\n").by_problem.is_empty());
        assert_eq!(Entries::text("", []), "");
    }
}
