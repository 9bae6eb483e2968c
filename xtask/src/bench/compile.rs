//! `cargo xtask bench compile`: time and memory from a model to what runs, beside IREE's compiler and beside what
//! engines take to load that compile nothing ahead of time.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use super::engine::{Engines, pinned};
use super::models::{Case, cases};
use super::{geometric_mean, irectl};

#[derive(clap::Args)]
pub(crate) struct Compile {
    /// Models with `CASE.inputs.npz` beside, or folders of them; small ones of each kind by default
    models: Vec<PathBuf>,
    /// What to compare with: onnxruntime, openvino, iree, tract
    #[arg(long, value_delimiter = ',', default_value = "iree,onnxruntime,openvino")]
    peers: Vec<String>,
    /// Threads, and as many processors
    #[arg(long, default_value_t = 2)]
    threads: u32,
    /// How long an engine may take
    #[arg(long, default_value_t = 600, value_name = "SECONDS")]
    load_timeout: u64,
}

/// What making a model ready took.
struct Cost {
    seconds: f64,
    /// The most that one process had.
    memory_bytes: u64,
}

/// What `irectl compile --json` prints.
#[derive(Deserialize)]
struct Report {
    compile_ms: f64,
    peak_rss_bytes: u64,
}

impl Compile {
    pub(super) fn run(&self) -> Result<()> {
        let cases = cases(&self.models, "models", false)?;
        // Of this run alone: nothing that an earlier one compiled.
        let work = tempfile::tempdir().context("cannot make a temporary folder")?;
        let timeout = Duration::from_secs(self.load_timeout);
        let engines = Engines::new(&self.peers, work.path().join("iree"), timeout)?;
        println!(
            "seconds to compile (ired, iree) or to load (others), peak memory; in brackets ours to theirs"
        );
        let mut ratios = vec![Vec::new(); self.peers.len()];
        for case in &cases {
            let model_bytes = std::fs::metadata(&case.model)?.len();
            let ours = self.ours(case, &work.path().join("module.irm"))?;
            println!("{} ({:.1} MB)", case.name, model_bytes as f64 / 1e6);
            println!("  {:<18} {:>8.2} s  {:>6.0} MB", "ired", ours.seconds, ours.memory_bytes as f64 / 1e6);
            for (peer, ratios) in self.peers.iter().zip(&mut ratios) {
                match self.theirs(&engines, peer, case) {
                    Ok(theirs) => {
                        let ratio = ours.seconds / theirs.seconds;
                        ratios.push(ratio);
                        let memory = theirs.memory_bytes as f64 / 1e6;
                        println!("  {peer:<18} {:>8.2} s  {memory:>6.0} MB  ({ratio:.2})", theirs.seconds);
                    }
                    Err(error) => println!("  {peer:<18} fails: {error:#}"),
                }
            }
        }
        println!("geometric means of ours to theirs");
        for (peer, ratios) in self.peers.iter().zip(&ratios) {
            if let Some(mean) = geometric_mean(ratios) {
                println!("  {peer:<18} {mean:.3} of {} models", ratios.len());
            }
        }
        Ok(())
    }

    fn ours(&self, case: &Case, module: &std::path::Path) -> Result<Cost> {
        let threads = self.threads.to_string();
        let mut compile = pinned(self.threads);
        compile.arg(irectl()?).arg("compile").arg(&case.model).arg("-o").arg(module).args([
            "--json",
            "--threads",
            &threads,
        ]);
        let output = compile.stdin(Stdio::null()).stderr(Stdio::inherit()).output()?;
        ensure!(output.status.success(), "`irectl compile {}` failed", case.model.display());
        let report: Report =
            serde_json::from_slice(&output.stdout).context("`irectl compile` gave no report")?;
        Ok(Cost { seconds: report.compile_ms / 1e3, memory_bytes: report.peak_rss_bytes })
    }

    fn theirs(&self, engines: &Engines, peer: &str, case: &Case) -> Result<Cost> {
        let ready = engines.start(peer, case, self.threads)?.ready.clone();
        let milliseconds = ready.compile_ms.unwrap_or(ready.load_ms);
        let memory_bytes = ready.compile_rss_kb.unwrap_or(ready.rss_kb) * 1024;
        Ok(Cost { seconds: milliseconds / 1e3, memory_bytes })
    }
}
