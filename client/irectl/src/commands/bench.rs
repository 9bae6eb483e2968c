//! `irectl bench`: latency of a model on this machine, measured inside the runtime worker.

pub(super) mod profile;

use std::io::BufRead;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use ired_module::notes::DispatchNotes;
use ired_worker::{BenchRequest, BenchResult, RuntimeWorker, Tensor};
use serde_json::json;

use crate::compile_args::CompileArgs;
use crate::local::{self, Module};
use crate::tensors::{NamedTensor, npz};

use profile::Profile;

/// Iterations before the first timed one of a burst.
const WARM_UP: u64 = 1;

#[derive(clap::Args)]
pub(crate) struct Bench {
    /// A model, or a compiled module (`.irm`).
    model: PathBuf,
    /// Inputs, an npz archive keyed by tensor name; they stay bound over all iterations.
    #[arg(long, value_name = "NPZ")]
    inputs: PathBuf,
    #[command(flatten)]
    how: CompileArgs,
    /// Where the outputs of the last iteration go, an npz archive.
    #[arg(long, value_name = "NPZ")]
    outputs: Option<PathBuf>,
    /// Threads that run kernels; all by default.
    #[arg(long)]
    threads: Option<u32>,
    /// No iteration starts after this many milliseconds.
    #[arg(long, default_value_t = 1000.0, value_name = "MS")]
    budget_ms: f64,
    /// Timed iterations at most.
    #[arg(long, default_value_t = 1000)]
    iters: u64,
    /// Print what each kernel launch computes, how long it took and how near to the machine's peak that is, instead of
    /// the latencies.
    #[arg(long, conflicts_with = "worker")]
    profile: bool,
    /// Where a trace of one iteration goes, for Perfetto or Chrome.
    #[arg(long, value_name = "FILE", conflicts_with = "worker")]
    trace: Option<PathBuf>,
    /// Load once, then answer `run MAX_ITERS BUDGET_MS` lines on standard input until `quit`.
    #[arg(long)]
    worker: bool,
}

/// A loaded model with its inputs.
pub(super) struct Session {
    pub(super) worker: RuntimeWorker,
    entry: String,
    inputs: Vec<Tensor>,
    notes: DispatchNotes,
    compile_ms: f64,
    load_ms: f64,
}

impl Bench {
    pub(crate) async fn run(self) -> Result<ExitCode> {
        let session = self.start().await?;
        if self.worker {
            self.serve(&session).await?;
        } else {
            let cpu_before = own_cpu();
            let profile = self.profile || self.trace.is_some();
            let result = session.measure(self.iters, self.budget_ms, WARM_UP, profile).await?;
            let cpu = result.cpu + (own_cpu() - cpu_before);
            let profile = session.profile(&result);
            if let Some(path) = &self.trace {
                profile::write_trace(path, &profile)?;
            }
            let line = json!({
                "latencies_us": microseconds(&result.latencies), "load_ms": session.load_ms,
                "compile_ms": session.compile_ms, "rss_kb": result.rss_bytes / 1024,
                "cpu_us": cpu.as_secs_f64() * 1e6, "version": env!("CARGO_PKG_VERSION"),
            });
            match self.profile {
                true => print!("{}", profile::table(&profile)),
                false => println!("{line}"),
            }
            self.write_outputs(result)?;
        }
        session.worker.shutdown().await;
        Ok(ExitCode::SUCCESS)
    }

    async fn start(&self) -> Result<Session> {
        let inputs = npz::Archive::open(&self.inputs)?;
        let module = local::module(&self.model, &self.how).await?;
        Session::load(&module, inputs, self.threads, self.profile || self.trace.is_some()).await
    }

    /// Answers bursts; the first run is timed apart and gives the outputs.
    async fn serve(&self, session: &Session) -> Result<()> {
        let first = session.measure(1, 0.0, 0, false).await?;
        let first_ms = first.latencies.first().copied().map(milliseconds);
        let rss_kb = first.rss_bytes / 1024;
        self.write_outputs(first)?;
        println!(
            "{}",
            json!({
                "event": "ready", "load_ms": session.load_ms, "compile_ms": session.compile_ms, "first_ms": first_ms,
                "rss_kb": rss_kb, "version": env!("CARGO_PKG_VERSION"),
            })
        );
        for line in std::io::stdin().lock().lines() {
            let line = line.context("cannot read standard input")?;
            let words: Vec<&str> = line.split_whitespace().collect();
            match words.as_slice() {
                [] => {}
                ["quit"] => break,
                ["run", iters, budget_ms] => {
                    let iters = iters.parse().with_context(|| format!("`{iters}` is not a count"))?;
                    let budget = budget_ms.parse().with_context(|| format!("`{budget_ms}` is not a time"))?;
                    let cpu_before = own_cpu();
                    let result = session.burst(iters, budget).await?;
                    let cpu = result.cpu + (own_cpu() - cpu_before);
                    println!(
                        "{}",
                        json!({
                            "event": "burst", "latencies_us": microseconds(&result.latencies),
                            "rss_kb": result.rss_bytes / 1024, "cpu_us": cpu.as_secs_f64() * 1e6,
                        })
                    );
                }
                _ => bail!("`{line}`: expected `run MAX_ITERS BUDGET_MS` or `quit`"),
            }
        }
        Ok(())
    }

    fn write_outputs(&self, result: BenchResult) -> Result<()> {
        let Some(path) = &self.outputs else { return Ok(()) };
        let outputs: Vec<NamedTensor> = result.outputs.into_iter().map(Into::into).collect();
        npz::write(path, &outputs)
    }
}

impl Session {
    pub(super) async fn load(
        module: &Module,
        inputs: npz::Archive,
        threads: Option<u32>,
        wants_notes: bool,
    ) -> Result<Self> {
        let start = Instant::now();
        let worker = local::load(module, threads).await?;
        let load_ms = milliseconds(start.elapsed());
        let (variant, _) = worker.module().variant;
        let notes = wants_notes.then(|| profile::read_notes(&module.file, variant)).transpose()?;
        let entry = local::first_entry(&worker)?;
        let inputs = inputs.read_named(local::input_names(&worker))?.into_iter().map(Into::into).collect();
        let compile_ms = milliseconds(module.compile_time);
        Ok(Self { worker, entry, inputs, notes: notes.unwrap_or_default(), compile_ms, load_ms })
    }

    pub(super) fn profile<'a>(&'a self, result: &'a BenchResult) -> Profile<'a> {
        let entries = &self.worker.module().signature.entries;
        let entry = entries.iter().find(|entry| entry.name == self.entry);
        let dims_of = |name: &str| {
            let input = self.inputs.iter().find(|input| input.name == name);
            input.map(|input| input.dims.clone()).unwrap_or_default()
        };
        let dims: Vec<Vec<u64>> =
            entry.into_iter().flat_map(|entry| &entry.inputs).map(|input| dims_of(&input.name)).collect();
        let function = entry.map_or(0, |entry| entry.function);
        Profile::new(&result.spans, result.peak, &self.notes, function, &dims)
    }

    async fn burst(&self, iters: u64, budget_ms: f64) -> Result<BenchResult> {
        self.measure(iters, budget_ms, WARM_UP, false).await
    }

    pub(super) async fn measure(
        &self,
        max_iters: u64,
        budget_ms: f64,
        warmup: u64,
        profile: bool,
    ) -> Result<BenchResult> {
        let budget = Duration::try_from_secs_f64(budget_ms / 1e3).context("the budget is not a time")?;
        let request = BenchRequest { max_iters: max_iters.max(1), budget, warmup, profile };
        Ok(self.worker.bench(&self.entry, self.inputs.clone(), request).await?)
    }
}

fn microseconds(latencies: &[Duration]) -> Vec<f64> {
    latencies.iter().map(|t| t.as_secs_f64() * 1e6).collect()
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// CPU time that this process has taken. Reported on top of the worker's, so that `cpu_us` is the sum over a burst of what
/// both processes took: the worker over its timed iterations alone, this one over the whole request, which it spends
/// almost entirely asleep.
fn own_cpu() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec.unsigned_abs() as u32)
}
