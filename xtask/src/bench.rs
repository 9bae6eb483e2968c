//! `cargo xtask bench`: how fast this is, beside other engines and beside what the machine can do.
//!
//! Everything runs in optimised builds, in processes of its own, and in turns: what disturbs the machine for a while
//! then disturbs all alike. The least of many times is what the code takes; the median shows how noisy the rest was.

mod compile;
mod engine;
mod kernels;
mod models;
mod peers;
mod promises;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::process::{root, run as command, target_dir};
use crate::python;

#[derive(clap::Subcommand)]
pub(crate) enum Bench {
    /// Single kernels, beside what the machine could do
    Kernels(kernels::Kernels),
    /// Whole models, in turns with ONNX Runtime, OpenVINO, IREE and tract
    Peers(peers::Peers),
    /// Compilation of whole models, beside IREE's and beside what others take to load
    Compile(compile::Compile),
}

pub(crate) fn run(bench: &Bench) -> Result<()> {
    let mut build = vec!["build", "--release", "-p", "irectl"];
    build.extend(["-p", "ired-compiler-worker", "-p", "ired-runtime-worker"]);
    command("cargo", &build)?;
    match bench {
        Bench::Kernels(kernels) => kernels.run(),
        Bench::Peers(peers) => peers.run(),
        Bench::Compile(compile) => compile.run(),
    }
}

fn irectl() -> Result<PathBuf> {
    Ok(target_dir("release")?.join("irectl"))
}

/// Where environments, models and what else is made once are kept.
fn folder() -> Result<PathBuf> {
    target_dir("bench")
}

/// A Python that has what `benches/peers/requirements.txt` lists.
fn python() -> Result<PathBuf> {
    let list = root().join("benches/peers/requirements.txt");
    let list = std::fs::read_to_string(&list).with_context(|| format!("cannot read `{}`", list.display()))?;
    let packages: Vec<&str> =
        list.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')).collect();
    python::interpreter("bench", &packages)
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// The geometric mean; `None` of nothing.
fn geometric_mean(ratios: &[f64]) -> Option<f64> {
    let sum: f64 = ratios.iter().map(|ratio| ratio.ln()).sum();
    (!ratios.is_empty()).then(|| (sum / ratios.len() as f64).exp())
}
