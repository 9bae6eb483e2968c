//! Results as people read them: operators by operator set and outcome, totals, and how long cases take.

use std::collections::BTreeMap;

use super::CaseResult;

/// Operators with a case that does not pass, a line an operator and operator set, and the totals.
pub(crate) fn print(title: &str, results: &[CaseResult]) {
    let mut rows: BTreeMap<(&str, i64), BTreeMap<&str, usize>> = BTreeMap::new();
    let mut totals: BTreeMap<&str, usize> = BTreeMap::new();
    for result in results {
        let row = rows.entry((&result.op, result.opset)).or_default();
        *row.entry(&result.outcome).or_default() += 1;
        *totals.entry(&result.outcome).or_default() += 1;
    }
    println!("{title}");
    let (right, other): (Vec<_>, Vec<_>) =
        rows.into_iter().partition(|(_, outcomes)| outcomes.keys().all(|outcome| *outcome == "pass"));
    println!("  {:<34} {:>5}  outcomes", "operator", "opset");
    for ((op, opset), outcomes) in &other {
        println!("  {op:<34} {opset:>5}  {}", counts(outcomes));
    }
    println!("  all cases of the other {} operators and sets pass", right.len());
    let passed = totals.get("pass").copied().unwrap_or(0);
    let share = 100.0 * passed as f64 / results.len().max(1) as f64;
    println!("  {passed} of {} pass, {share:.2} %: {}", results.len(), counts(&totals));
    if let Some((median, slowest)) = times(results) {
        println!(
            "  a passing case takes {median:.3} s (median), the slowest {:.2} s (`{}`)",
            slowest.seconds, slowest.name
        );
    }
}

fn counts(outcomes: &BTreeMap<&str, usize>) -> String {
    outcomes.iter().map(|(outcome, count)| format!("{count} {outcome}")).collect::<Vec<_>>().join(", ")
}

fn times(results: &[CaseResult]) -> Option<(f64, &CaseResult)> {
    let mut passing: Vec<&CaseResult> = results.iter().filter(|r| r.passes()).collect();
    passing.sort_by(|a, b| a.seconds.total_cmp(&b.seconds));
    Some((passing.get(passing.len() / 2)?.seconds, passing.last()?))
}
