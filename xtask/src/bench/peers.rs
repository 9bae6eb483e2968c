//! `cargo xtask bench peers`: this engine and others on the same models, inputs and processors, in turns.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::Serialize;

use super::engine::{Engine, Engines, OURS};
use super::models::{Case, cases};
use super::promises::Promises;
use super::{folder, geometric_mean};
use crate::process::root;

#[derive(clap::Args)]
pub(crate) struct Peers {
    /// Models with `CASE.inputs.npz` beside, or folders of them; small ones of each kind by default
    models: Vec<PathBuf>,
    /// Every case of a model, not only the first
    #[arg(long)]
    all_cases: bool,
    /// What to compare with: onnxruntime, openvino (f32), openvino_default (its own precision), iree, tract
    #[arg(long, value_delimiter = ',', default_value = "onnxruntime,openvino,iree,tract")]
    peers: Vec<String>,
    /// Threads, and as many processors
    #[arg(long, value_delimiter = ',', default_value = "1,2")]
    threads: Vec<u32>,
    /// Turns of every engine
    #[arg(long, default_value_t = 5)]
    rounds: u32,
    /// How long one turn is
    #[arg(long, default_value_t = 400, value_name = "MS")]
    budget_ms: u64,
    /// How long an engine may take to load, or to compile
    #[arg(long, default_value_t = 600, value_name = "SECONDS")]
    load_timeout: u64,
    /// Fail where `benches/promises.toml` is not kept
    #[arg(long)]
    check: bool,
    /// Write every number to this file, as JSON
    #[arg(long, value_name = "FILE")]
    results: Option<PathBuf>,
}

/// One model on so many threads.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    pub(super) case: String,
    pub(super) threads: u32,
    pub(super) engines: BTreeMap<String, Outcome>,
    /// Of those that say it.
    pub(super) versions: BTreeMap<String, String>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Outcome {
    Measured(Latency),
    Failed(String),
}

#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Latency {
    pub(super) min_us: f64,
    pub(super) median_us: f64,
}

impl Row {
    pub(super) fn latency(&self, engine: &str) -> Option<Latency> {
        match self.engines.get(engine)? {
            Outcome::Measured(latency) => Some(*latency),
            Outcome::Failed(_) => None,
        }
    }

    /// Ours to a peer's, least and median.
    fn ratio(&self, peer: &str) -> Option<(f64, f64)> {
        let (ours, theirs) = (self.latency(OURS)?, self.latency(peer)?);
        Some((ours.min_us / theirs.min_us, ours.median_us / theirs.median_us))
    }

    /// Ours to that of the fastest of `peers`, by the least times.
    pub(super) fn ratio_to_best(&self, peers: &[String]) -> Option<f64> {
        peers.iter().filter_map(|peer| self.ratio(peer)).map(|(min, _)| min).reduce(f64::max)
    }
}

impl Peers {
    pub(super) fn run(&self) -> Result<()> {
        let promises = Promises::read(&root().join("benches/promises.toml"))?;
        let cases = cases(&self.models, "models", self.all_cases)?;
        let names: Vec<String> = std::iter::once(OURS.to_owned()).chain(self.peers.clone()).collect();
        let timeout = Duration::from_secs(self.load_timeout);
        let engines = Engines::new(&names, folder()?.join("iree"), timeout)?;
        println!("least / median latency in ms; in brackets ours to theirs, below 1 where ours is faster");
        println!(
            "of peers in Python the call from there is part, some microseconds; `tract` and ours have none"
        );
        let mut rows = Vec::new();
        for case in &cases {
            for &threads in &self.threads {
                let row = self.measure(&engines, &names, case, threads);
                self.print(&row);
                rows.push(row);
            }
        }
        self.print_means(&rows);
        if let Some(path) = &self.results {
            let text = serde_json::to_string_pretty(&rows)?;
            std::fs::write(path, text).with_context(|| format!("cannot write `{}`", path.display()))?;
        }
        let broken = promises.report(&rows);
        if self.check && broken > 0 {
            bail!("{broken} promises of benches/promises.toml are not kept");
        }
        Ok(())
    }

    fn measure(&self, engines: &Engines, names: &[String], case: &Case, threads: u32) -> Row {
        let mut failed: BTreeMap<String, Outcome> = BTreeMap::new();
        let mut versions = BTreeMap::new();
        let mut live: Vec<(&String, Engine, Vec<f64>)> = Vec::new();
        for name in names {
            match engines.start(name, case, threads) {
                Ok(engine) => {
                    versions.extend(engine.ready.version.clone().map(|version| (name.clone(), version)));
                    live.push((name, engine, Vec::new()));
                }
                Err(error) => drop(failed.insert(name.clone(), Outcome::Failed(format!("{error:#}")))),
            }
        }
        let budget = Duration::from_millis(self.budget_ms);
        for _ in 0..self.rounds {
            live.retain_mut(|(name, engine, latencies)| match engine.burst(5000, budget) {
                Ok(more) => {
                    latencies.extend(more);
                    true
                }
                Err(error) => {
                    failed.insert((*name).clone(), Outcome::Failed(format!("{error:#}")));
                    false
                }
            });
        }
        let measured = live.into_iter().filter_map(|(name, _, mut latencies)| {
            latencies.sort_by(f64::total_cmp);
            let latency = Latency { min_us: *latencies.first()?, median_us: latencies[latencies.len() / 2] };
            Some((name.clone(), Outcome::Measured(latency)))
        });
        failed.extend(measured);
        Row { case: case.name.clone(), threads, engines: failed, versions }
    }

    fn print(&self, row: &Row) {
        println!("{} on {} threads", row.case, row.threads);
        for name in std::iter::once(OURS).chain(self.peers.iter().map(String::as_str)) {
            match row.engines.get(name) {
                Some(Outcome::Measured(latency)) => {
                    let ratio = row.ratio(name).filter(|_| name != OURS);
                    let ratio =
                        ratio.map_or(String::new(), |(min, median)| format!("  ({min:.2} / {median:.2})"));
                    let (min, median) = (latency.min_us / 1e3, latency.median_us / 1e3);
                    let name = format!("{name} {}", row.versions.get(name).map_or("", String::as_str));
                    println!("  {name:<26} {min:>10.3} / {median:>10.3}{ratio}");
                }
                Some(Outcome::Failed(why)) => println!("  {name:<26} fails: {why}"),
                None => println!("  {name:<26} not measured"),
            }
        }
    }

    fn print_means(&self, rows: &[Row]) {
        println!("geometric means of ours to theirs, least / median");
        for &threads in &self.threads {
            let rows: Vec<&Row> = rows.iter().filter(|row| row.threads == threads).collect();
            for peer in &self.peers {
                let (min, median): (Vec<f64>, Vec<f64>) =
                    rows.iter().filter_map(|row| row.ratio(peer)).unzip();
                if let (Some(least), Some(middle)) = (geometric_mean(&min), geometric_mean(&median)) {
                    println!(
                        "  {threads} threads, {peer:<18} {least:.2} / {middle:.2} of {} cases",
                        min.len()
                    );
                }
            }
            let best: Vec<f64> = rows.iter().filter_map(|row| row.ratio_to_best(&self.peers)).collect();
            if let Some(mean) = geometric_mean(&best) {
                println!("  {threads} threads, the fastest of them {mean:.2} of {} cases", best.len());
            }
        }
    }
}
