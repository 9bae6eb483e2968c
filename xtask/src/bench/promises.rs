//! Numbers that users may rely on, and whether they hold.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use super::engine::OURS;
use super::geometric_mean;
use super::peers::Row;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Promises {
    #[serde(default)]
    ratio: Vec<Ratio>,
    #[serde(default)]
    latency: Vec<LatencyLimit>,
}

/// The geometric mean over models of ours to the fastest of some peers' is at most so much.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Ratio {
    name: String,
    /// Names of models, all of their cases; those that a run measures count.
    models: Vec<String>,
    peers: Vec<String>,
    threads: u32,
    at_most: f64,
    /// What was measured, when and on what.
    measured: String,
}

/// Our least latency is at most so much.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct LatencyLimit {
    name: String,
    model: String,
    threads: u32,
    at_most_us: f64,
    measured: String,
}

impl Promises {
    pub(super) fn read(path: &Path) -> Result<Self> {
        let shown = path.display();
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read `{shown}`"))?;
        Self::parse(&text).with_context(|| format!("`{shown}`"))
    }

    fn parse(text: &str) -> Result<Self> {
        let promises: Self = toml::from_str(text)?;
        let ratios = promises.ratio.iter().map(|ratio| (&ratio.name, &ratio.measured));
        let latencies = promises.latency.iter().map(|latency| (&latency.name, &latency.measured));
        for (name, measured) in ratios.chain(latencies) {
            ensure!(!measured.trim().is_empty(), "`{name}` does not say what was measured");
        }
        Ok(promises)
    }

    /// Prints each promise with what was found, and says how many are broken. What no row is of is not.
    pub(super) fn report(&self, rows: &[Row]) -> usize {
        let ratios =
            self.ratio.iter().map(|promise| (&promise.name, promise.found(rows), promise.at_most, ""));
        let latencies = self
            .latency
            .iter()
            .map(|promise| (&promise.name, promise.found(rows), promise.at_most_us, " µs"));
        println!("promises");
        let mut broken = 0;
        for (name, found, at_most, unit) in ratios.chain(latencies) {
            let verdict = match found {
                None => "not measured".to_owned(),
                Some(found) if found <= at_most => format!("{found:.2}{unit}, kept"),
                Some(found) => {
                    broken += 1;
                    format!("{found:.2}{unit}, BROKEN")
                }
            };
            println!("  {name:<52} at most {at_most:.2}{unit}: {verdict}");
        }
        broken
    }
}

impl Ratio {
    fn found(&self, rows: &[Row]) -> Option<f64> {
        let is_of =
            |row: &&Row| row.threads == self.threads && self.models.iter().any(|m| is_case_of(row, m));
        let ratios: Vec<f64> =
            rows.iter().filter(is_of).filter_map(|row| row.ratio_to_best(&self.peers)).collect();
        geometric_mean(&ratios)
    }
}

impl LatencyLimit {
    fn found(&self, rows: &[Row]) -> Option<f64> {
        let is_of = |row: &&Row| row.threads == self.threads && is_case_of(row, &self.model);
        rows.iter()
            .filter(is_of)
            .filter_map(|row| row.latency(OURS))
            .map(|latency| latency.min_us)
            .reduce(f64::max)
    }
}

fn is_case_of(row: &Row, model: &str) -> bool {
    row.case.split('/').next() == Some(model)
}

#[cfg(test)]
mod tests {
    use super::super::peers::{Latency, Outcome};
    use super::*;

    fn row(case: &str, threads: u32, latencies: &[(&str, f64)]) -> Row {
        let engines = latencies.iter().map(|(engine, min_us)| {
            let latency = Latency { min_us: *min_us, median_us: *min_us };
            ((*engine).to_owned(), Outcome::Measured(latency))
        });
        Row { case: case.to_owned(), threads, engines: engines.collect(), versions: Default::default() }
    }

    const TEXT: &str = r#"
        [[ratio]]
        name = "one thread"
        models = ["a", "b"]
        peers = ["onnxruntime", "openvino"]
        threads = 1
        at_most = 1.0
        measured = "by hand"
        [[latency]]
        name = "overhead"
        model = "c"
        threads = 1
        at_most_us = 2.0
        measured = "by hand"
    "#;

    #[test]
    fn the_fastest_peer_is_what_counts_and_means_are_over_cases() {
        let promises = Promises::parse(TEXT).unwrap();
        let twice = row("a/x", 1, &[(OURS, 2.0), ("onnxruntime", 1.0), ("openvino", 8.0)]);
        let half = row("b", 1, &[(OURS, 1.0), ("onnxruntime", 2.0)]);
        let other_threads = row("b", 2, &[(OURS, 100.0), ("onnxruntime", 2.0)]);
        assert_eq!(promises.report(&[twice, half, other_threads]), 0);
        let twice = row("a/x", 1, &[(OURS, 2.0), ("onnxruntime", 1.0), ("openvino", 8.0)]);
        assert_eq!(promises.report(&[twice]), 1);
        assert_eq!(promises.report(&[row("c", 1, &[(OURS, 3.0)])]), 1);
        assert_eq!(promises.report(&[]), 0);
    }

    #[test]
    fn a_promise_says_what_was_measured() {
        assert!(Promises::parse(&TEXT.replacen("by hand", " ", 1)).is_err());
    }

    #[test]
    fn the_promises_of_this_repository_can_be_read() {
        Promises::read(&crate::process::root().join("benches/promises.toml")).unwrap();
    }
}
