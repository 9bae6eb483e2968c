//! Known failures, as data: each with the outcome it has and the reason. Whatever is not listed must pass, and what is
//! listed must fail just so, so that the list stays true.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use super::CaseResult;

/// The failures that are known of one suite.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Expectations {
    #[serde(default)]
    known_failure: Vec<KnownFailure>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct KnownFailure {
    case: String,
    outcome: String,
    why: String,
}

impl Expectations {
    /// # Errors
    /// When the file cannot be read, lists a case twice, or gives no reason for one.
    pub(crate) fn read(path: &Path) -> Result<Self> {
        let shown = path.display();
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read `{shown}`"))?;
        let expectations: Self = toml::from_str(&text).with_context(|| format!("`{shown}`"))?;
        let mut seen = BTreeMap::new();
        for failure in &expectations.known_failure {
            ensure!(!failure.why.trim().is_empty(), "`{shown}`: `{}` has no reason", failure.case);
            let twice = seen.insert(&failure.case, ()).is_some();
            ensure!(!twice, "`{shown}`: `{}` is listed twice", failure.case);
        }
        Ok(expectations)
    }

    /// Every way in which the results of `cases` are not what was expected, a line each. With `all`, a listed case that
    /// was not run is one too.
    pub(crate) fn surprises(&self, results: &[CaseResult], all: bool) -> Vec<String> {
        let known: BTreeMap<&str, &KnownFailure> =
            self.known_failure.iter().map(|failure| (failure.case.as_str(), failure)).collect();
        let mut lines = Vec::new();
        for result in results {
            match known.get(result.name.as_str()) {
                None if result.passes() => {}
                None => lines.push(format!("{}: {}: {}", result.name, result.outcome, result.detail)),
                Some(_) if result.passes() => {
                    lines.push(format!("{}: passes, but is listed as a known failure", result.name));
                }
                Some(failure) if failure.outcome != result.outcome => lines.push(format!(
                    "{}: {}; expected {} ({}): {}",
                    result.name, result.outcome, failure.outcome, failure.why, result.detail
                )),
                Some(_) => {}
            }
        }
        let ran = |case: &str| results.iter().any(|result| result.name == case);
        for failure in self.known_failure.iter().filter(|failure| all && !ran(&failure.case)) {
            lines.push(format!("{}: is listed as a known failure, but there is no such case", failure.case));
        }
        lines
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result(name: &str, outcome: &str) -> CaseResult {
        CaseResult {
            name: name.to_owned(),
            op: "Add".to_owned(),
            opset: 14,
            outcome: outcome.to_owned(),
            detail: String::new(),
            seconds: 0.0,
        }
    }

    fn list() -> Expectations {
        let failure = |case: &str, outcome: &str| KnownFailure {
            case: case.to_owned(),
            outcome: outcome.to_owned(),
            why: "a reason".to_owned(),
        };
        Expectations { known_failure: vec![failure("a", "unsupported"), failure("b", "wrong-value")] }
    }

    #[test]
    fn results_as_listed_are_no_surprise() {
        let results = [result("a", "unsupported"), result("b", "wrong-value"), result("c", "pass")];
        assert!(list().surprises(&results, true).is_empty());
    }

    #[test]
    fn failures_passes_other_outcomes_and_missing_cases_are() {
        let results = [result("a", "pass"), result("b", "crash"), result("c", "unsupported")];
        assert_eq!(list().surprises(&results, true).len(), 3);
        assert_eq!(list().surprises(&[result("a", "unsupported")], true).len(), 1);
        assert!(list().surprises(&[result("a", "unsupported")], false).is_empty());
    }
}
