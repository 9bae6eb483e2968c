//! The ONNX backend suite: exported from the `onnx` package, run case by case in parallel, compared with
//! `tests/expectations/onnx*.toml`.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use serde::Deserialize;

use super::expectations::Expectations;
use super::{CaseResult, table};
use crate::process::{root, run as command, target_dir};
use crate::python;

/// The suite is that of this version; another one has other cases.
const ONNX: &str = "onnx==1.23.2";

/// Cases a process is given at once: progress is seen, and command lines stay short.
const BATCH: usize = 100;

#[derive(clap::Args)]
pub(crate) struct Onnx {
    /// Only cases whose name contains this; what is not run is not missed
    #[arg(long)]
    only: Option<String>,
    /// Cases at once; one a core by default
    #[arg(long)]
    jobs: Option<usize>,
    /// Run the debug build
    #[arg(long)]
    debug: bool,
    /// Write every result to this file, as JSON
    #[arg(long, value_name = "FILE")]
    results: Option<PathBuf>,
}

/// What the export says of the suite.
#[derive(Deserialize)]
struct Suite {
    cases: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    kind: String,
    op: String,
    opset: i64,
    left_out: Option<String>,
    dynamic: bool,
}

impl Onnx {
    pub(super) fn run(&self) -> Result<()> {
        let profile = if self.debug { "debug" } else { "release" };
        let mut build =
            vec!["build", "-p", "irectl", "-p", "ired-compiler-worker", "-p", "ired-runtime-worker"];
        build.extend((!self.debug).then_some("--release"));
        command("cargo", &build)?;
        let irectl = target_dir(profile)?.join("irectl");
        let suite_dir = export()?;
        let text = std::fs::read_to_string(suite_dir.join("cases.json"))?;
        let suite: Suite = serde_json::from_str(&text).context("the export's list of cases")?;
        let left_out = suite.cases.iter().filter(|case| case.left_out.is_some()).count();
        println!("{ONNX}: {} cases, {left_out} of training and random operators left out", suite.cases.len());

        let wanted = |case: &&Case| {
            case.left_out.is_none() && self.only.as_ref().is_none_or(|part| case.name.contains(part))
        };
        let fixed: Vec<&Case> = suite.cases.iter().filter(wanted).collect();
        let symbolic: Vec<&Case> = fixed.iter().copied().filter(|case| case.dynamic).collect();
        let fixed = self.run_cases(&irectl, &suite_dir.join("static"), &fixed)?;
        let symbolic = self.run_cases(&irectl, &suite_dir.join("dynamic"), &symbolic)?;
        if let Some(path) = &self.results {
            write_results(path, &fixed, &symbolic)?;
        }
        table::print("As exported", &fixed);
        table::print("With symbolic sizes", &symbolic);
        match self.compare("onnx.toml", &fixed)? + self.compare("onnx_symbolic.toml", &symbolic)? {
            0 => Ok(()),
            surprises => bail!("{surprises} results are not what tests/expectations says"),
        }
    }

    /// Prints every surprise and says how many there are.
    fn compare(&self, list: &str, results: &[CaseResult]) -> Result<usize> {
        let path = root().join("tests/expectations").join(list);
        let surprises = Expectations::read(&path)?.surprises(results, self.only.is_none());
        for line in &surprises {
            println!("not as expected ({list}): {line}");
        }
        Ok(surprises.len())
    }

    fn run_cases(&self, irectl: &Path, suite: &Path, cases: &[&Case]) -> Result<Vec<CaseResult>> {
        let mut results = Vec::with_capacity(cases.len());
        for batch in cases.chunks(BATCH) {
            let mut verify = Command::new(irectl);
            verify.args(["verify", "--json", "--rtol", "1e-3", "--atol", "1e-4", "--timeout", "60"]);
            verify.args(self.jobs.map(|jobs| format!("--jobs={jobs}")));
            verify.args(batch.iter().map(|case| suite.join(&case.kind).join(&case.name)));
            let output = verify.stdin(Stdio::null()).stderr(Stdio::inherit()).output();
            let output = output.with_context(|| format!("cannot run `{}`", irectl.display()))?;
            let report: Report =
                serde_json::from_slice(&output.stdout).context("`irectl verify --json` gave no report")?;
            ensure!(report.cases.len() == batch.len(), "`irectl verify` left out a case");
            for (case, verdict) in batch.iter().zip(report.cases) {
                results.push(CaseResult {
                    name: case.name.clone(),
                    op: case.op.clone(),
                    opset: case.opset,
                    outcome: verdict.outcome,
                    detail: verdict.detail,
                    seconds: verdict.seconds,
                });
            }
            eprint!("\r{} of {} cases", results.len(), cases.len());
        }
        eprintln!();
        Ok(results)
    }
}

/// What `irectl verify --json` prints.
#[derive(Deserialize)]
struct Report {
    cases: Vec<Verdict>,
}

#[derive(Deserialize)]
struct Verdict {
    outcome: String,
    detail: String,
    seconds: f64,
}

fn write_results(path: &Path, fixed: &[CaseResult], symbolic: &[CaseResult]) -> Result<()> {
    let rows = |results: &[CaseResult]| -> HashMap<String, serde_json::Value> {
        let row = |r: &CaseResult| {
            let value = serde_json::json!({"outcome": r.outcome, "detail": r.detail, "seconds": r.seconds});
            (r.name.clone(), value)
        };
        results.iter().map(row).collect()
    };
    let text = serde_json::json!({"static": rows(fixed), "dynamic": rows(symbolic)}).to_string();
    std::fs::write(path, text).with_context(|| format!("cannot write `{}`", path.display()))
}

/// Where the suite is exported to.
pub(super) fn folder() -> Result<PathBuf> {
    Ok(target_dir("conformance")?.join(ONNX.replace("==", "-")))
}

/// Exports the suite once for each version.
fn export() -> Result<PathBuf> {
    let folder = folder()?;
    if folder.join("cases.json").exists() {
        return Ok(folder);
    }
    let python = python::interpreter("onnx", &[ONNX, "numpy<3", "ml_dtypes"])?;
    let path = |path: &Path| path.to_string_lossy().into_owned();
    let script = root().join("tests/conformance/export_onnx.py");
    command(&path(&python), &[&path(&script), &path(&folder)])?;
    Ok(folder)
}
