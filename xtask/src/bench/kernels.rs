//! `cargo xtask bench kernels`: single operators, compiled and run as any model is, beside what the machine could do.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;

use super::irectl;
use super::models::{Case, cases};

#[derive(clap::Args)]
pub(crate) struct Kernels {
    /// Only kernels whose name contains this
    #[arg(long)]
    only: Option<String>,
    /// Threads that run kernels
    #[arg(long, value_delimiter = ',', default_value = "1,2")]
    threads: Vec<u32>,
    /// How long each runs
    #[arg(long, default_value_t = 500, value_name = "MS")]
    budget_ms: u64,
}

/// The part of a trace that is needed: what dispatches compute and move, and what the machine can do.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Trace {
    trace_events: Vec<Event>,
    #[serde(rename = "otherData")]
    peak: Option<Peak>,
}

#[derive(Deserialize)]
struct Event {
    args: Arguments,
}

#[derive(Deserialize)]
struct Arguments {
    workgroups: f64,
    of_workgroups: f64,
    operations: Option<f64>,
    bytes: Option<f64>,
}

#[derive(Clone, Copy, Deserialize)]
struct Peak {
    operations_per_second: f64,
    bytes_per_second: f64,
}

/// What `irectl bench` prints.
#[derive(Deserialize)]
struct Latencies {
    latencies_us: Vec<f64>,
}

impl Kernels {
    pub(super) fn run(&self) -> Result<()> {
        let wanted = |case: &Case| self.only.as_ref().is_none_or(|part| case.name.contains(part.as_str()));
        let cases: Vec<Case> = cases(&[], "kernels", false)?.into_iter().filter(wanted).collect();
        let work = tempfile::tempdir().context("cannot make a temporary folder")?;
        println!(
            "time: the least latency of a call; floor: the longer of its operations at the machine's peak"
        );
        println!(
            "and its bytes, each once, at the speed of memory; what caches hold can be faster than that"
        );
        for &threads in &self.threads {
            let measured: Vec<_> =
                cases.iter().map(|case| (case, self.measure(case, threads, work.path()))).collect();
            let peaks = measured.iter().filter_map(|(_, found)| found.as_ref().ok()?.1.peak);
            print(threads, &measured, peaks.reduce(Peak::or_more));
        }
        Ok(())
    }

    /// The least latency in microseconds, and what ran.
    fn measure(&self, case: &Case, threads: u32, work: &Path) -> Result<(f64, Trace)> {
        let trace: PathBuf = work.join("trace.json");
        let mut bench = Command::new(irectl()?);
        bench.arg("bench").arg(&case.model).arg("--inputs").arg(&case.inputs).arg("--trace").arg(&trace);
        bench.args(["--threads", &threads.to_string(), "--budget-ms", &self.budget_ms.to_string()]);
        let output = bench.args(["--iters", "100000"]).stdin(Stdio::null()).output()?;
        let complaint = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{}", complaint.lines().last().unwrap_or_default());
        let times: Latencies =
            serde_json::from_slice(&output.stdout).context("`irectl bench` gave no latencies")?;
        let least =
            times.latencies_us.iter().copied().reduce(f64::min).context("`irectl bench` ran nothing")?;
        let trace: Trace = serde_json::from_slice(&std::fs::read(&trace)?).context("the trace")?;
        Ok((least, trace))
    }
}

impl Peak {
    /// The larger of each: something else had the machine when less was measured.
    fn or_more(self, other: Self) -> Self {
        Self {
            operations_per_second: self.operations_per_second.max(other.operations_per_second),
            bytes_per_second: self.bytes_per_second.max(other.bytes_per_second),
        }
    }

    fn shown(self) -> String {
        let (operations, bytes) = (self.operations_per_second / 1e9, self.bytes_per_second / 1e9);
        format!(", {operations:.0} GFLOP/s of f32 and {bytes:.1} GB/s at most, of as many tries as kernels")
    }
}

fn print(threads: u32, measured: &[(&Case, Result<(f64, Trace)>)], peak: Option<Peak>) {
    println!("{threads} threads{}", peak.map_or(String::new(), Peak::shown));
    println!(
        "  {:<42} {:>10} {:>9} {:>7} {:>10} {:>6}",
        "kernel", "time (µs)", "GFLOP/s", "GB/s", "floor (µs)", "share"
    );
    for (case, found) in measured {
        match found {
            Ok((least_us, trace)) => println!("  {}", line(&case.name, *least_us, trace, peak)),
            Err(error) => println!("  {:<42} fails: {error:#}", case.name),
        }
    }
}

/// A line of the table; what is not known is a dash.
fn line(name: &str, least_us: f64, trace: &Trace, peak: Option<Peak>) -> String {
    let sum = |amount: fn(&Arguments) -> Option<f64>| -> Option<f64> {
        let known = trace.trace_events.iter().filter_map(|event| {
            let part = event.args.workgroups / event.args.of_workgroups;
            amount(&event.args).map(|whole| whole * part)
        });
        Some(known.sum::<f64>()).filter(|sum| *sum > 0.0)
    };
    let (operations, bytes) = (sum(|args| args.operations), sum(|args| args.bytes));
    let floor_us = peak.map(|peak| {
        let compute = operations.unwrap_or(0.0) / peak.operations_per_second;
        let stream = bytes.unwrap_or(0.0) / peak.bytes_per_second;
        compute.max(stream) * 1e6
    });
    let shown = |number: Option<f64>, unit: &str| number.map_or("-".to_owned(), |n| format!("{n:.1}{unit}"));
    let rate = |amount: Option<f64>| shown(amount.map(|n| n / least_us / 1e3), "");
    let share = floor_us.map(|floor| 100.0 * floor / least_us);
    format!(
        "{name:<42} {least_us:>10.1} {:>9} {:>7} {:>10} {:>6}",
        rate(operations),
        rate(bytes),
        shown(floor_us, ""),
        shown(share, "%")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_a_launch_count_as_parts_and_the_longer_need_is_the_floor() {
        let trace = r#"{"traceEvents": [
            {"args": {"workgroups": 1, "of_workgroups": 4, "operations": 4000000, "bytes": 8000}},
            {"args": {"workgroups": 3, "of_workgroups": 4, "operations": 4000000, "bytes": 8000}},
            {"args": {"workgroups": 1, "of_workgroups": 1}}
        ], "otherData": {"operations_per_second": 100000000000, "bytes_per_second": 1000000000}}"#;
        let trace: Trace = serde_json::from_str(trace).unwrap();
        let line = line("k", 80.0, &trace, trace.peak);
        let words: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(words, ["k", "80.0", "50.0", "0.1", "40.0", "50.0%"]);
    }
}
