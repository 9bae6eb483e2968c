//! `cargo xtask fuzz`: builds the fuzzers of `fuzz/` and runs each for a while, from seeds that this repository has.
//!
//! What they look for are panics, wrong types and changed results in safe Rust, so they are built without a sanitizer
//! unless one is asked for: that is twice as fast.

mod seeds;

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::process::{root, target_dir};

/// Every fuzzer, and the largest input it makes.
const TARGETS: [(&str, u32); 8] = [
    ("onnx_decoder", 16 << 10),
    ("onnx_models", 16 << 10),
    ("onnx_shapes", 1 << 10),
    ("graph_passes", 512),
    ("module_reader", 16 << 10),
    ("requests", 4 << 10),
    ("model_config", 4 << 10),
    ("settings", 4 << 10),
];

/// No input may take longer.
const TIMEOUT_SECONDS: u32 = 10;

/// No process may take more memory.
const MEMORY_MIB: u32 = 2048;

#[derive(clap::Args)]
pub(crate) struct Fuzz {
    /// Only this fuzzer; a name that there is not lists them
    target: Option<String>,
    /// How long each runs
    #[arg(long, default_value_t = 60)]
    seconds: u32,
    /// A sanitizer to build with, as `cargo fuzz` names it
    #[arg(long, default_value = "none")]
    sanitizer: String,
    /// Go on after a finding, rather than end with the first
    #[arg(long)]
    keep_going: bool,
}

/// What a fuzzer says when it ends.
#[derive(Default)]
struct Report {
    executions: String,
    coverage: String,
    failed: bool,
}

impl Fuzz {
    pub(crate) fn run(&self) -> Result<()> {
        let known = |name: &str| TARGETS.iter().any(|(target, _)| *target == name);
        if let Some(name) = self.target.as_deref().filter(|name| !known(name)) {
            let names = TARGETS.map(|(target, _)| target).join(", ");
            bail!("there is no fuzzer `{name}`; expected one of {names}");
        }
        install()?;
        let wanted =
            TARGETS.iter().filter(|(name, _)| self.target.as_deref().is_none_or(|only| only == *name));
        let mut rows = Vec::new();
        for (name, most_bytes) in wanted {
            self.build(name)?;
            rows.push((name, self.fuzz(name, *most_bytes)?));
        }
        println!("{:<16}{:>12}{:>10}  findings", "fuzzer", "executions", "edges");
        for (name, report) in &rows {
            let found = if report.failed { "in fuzz/artifacts/" } else { "none" };
            println!("{name:<16}{:>12}{:>10}  {found}", report.executions, report.coverage);
        }
        ensure!(
            !rows.iter().any(|(_, report)| report.failed),
            "there are findings; `cargo fuzz run --sanitizer none FUZZER FILE` runs one again, and each wants a test"
        );
        Ok(())
    }

    fn build(&self, name: &str) -> Result<()> {
        let status = self.cargo_fuzz("build", name)?.status().context("cannot run `cargo fuzz`")?;
        ensure!(status.success(), "fuzzer `{name}` does not build: {status}");
        Ok(())
    }

    fn fuzz(&self, name: &str, most_bytes: u32) -> Result<Report> {
        let (corpus, artifacts) = (folder("corpus", name)?, folder("artifacts", name)?);
        let before = count_files(&artifacts)?;
        let mut run = self.cargo_fuzz("run", name)?;
        run.arg(&corpus).args(seeds::gather(name)?).arg("--");
        run.args([
            format!("-max_total_time={}", self.seconds),
            format!("-max_len={most_bytes}"),
            format!("-timeout={TIMEOUT_SECONDS}"),
            format!("-rss_limit_mb={MEMORY_MIB}"),
            "-print_final_stats=1".to_owned(),
            "-use_value_profile=0".to_owned(),
        ]);
        if self.keep_going {
            run.args(["-fork=1", "-ignore_crashes=1", "-ignore_timeouts=1", "-ignore_ooms=1"]);
        }
        let mut child = run.stderr(Stdio::piped()).spawn().context("cannot run `cargo fuzz`")?;
        let mut report = Report::default();
        let output = child.stderr.take().context("a fuzzer has no output")?;
        for line in BufReader::new(output).split(b'\n') {
            let line = line.context("cannot read what a fuzzer says")?;
            let line = String::from_utf8_lossy(&line);
            eprintln!("{line}");
            report.read(&line);
        }
        let status = child.wait().context("cannot wait for `cargo fuzz`")?;
        report.failed = !status.success() || count_files(&artifacts)? > before;
        Ok(report)
    }

    /// `cargo fuzz COMMAND NAME` with the flags of this run. Its own are a nightly's.
    fn cargo_fuzz(&self, command: &str, name: &str) -> Result<Command> {
        let mut cargo = Command::new("cargo");
        cargo.args(["fuzz", command, "--sanitizer", &self.sanitizer, "--target-dir"]);
        cargo.arg(target_dir("fuzz")?).arg(name);
        cargo.env("RUSTC_BOOTSTRAP", "1").current_dir(root()).stdin(Stdio::null());
        Ok(cargo)
    }
}

impl Report {
    /// Lines like `#4096 pulse cov: 1234 ft: 5678 ...`, `#4096: cov: 1234 ...` and `stat::number_of_executed_units: 4096`.
    fn read(&mut self, line: &str) {
        let after = |key: &str| line.split_once(key).and_then(|(_, rest)| rest.split_whitespace().next());
        if let Some(executions) = line.strip_prefix('#').and_then(|rest| rest.split([':', '\t', ' ']).next())
        {
            self.executions = executions.to_owned();
        }
        if let Some(executions) = after("stat::number_of_executed_units:") {
            self.executions = executions.to_owned();
        }
        if let Some(coverage) = after(" cov: ") {
            self.coverage = coverage.to_owned();
        }
    }
}

fn install() -> Result<()> {
    let version = Command::new("cargo").args(["fuzz", "--version"]).output();
    if version.is_ok_and(|output| output.status.success()) {
        return Ok(());
    }
    crate::process::run("cargo", &["install", "cargo-fuzz", "--locked"])
}

/// A folder of the fuzzer's own, which git does not look at.
fn folder(kind: &str, name: &str) -> Result<PathBuf> {
    let folder = root().join("fuzz").join(kind).join(name);
    std::fs::create_dir_all(&folder).with_context(|| format!("cannot make `{}`", folder.display()))?;
    Ok(folder)
}

fn count_files(folder: &Path) -> Result<usize> {
    Ok(std::fs::read_dir(folder).with_context(|| format!("cannot list `{}`", folder.display()))?.count())
}
