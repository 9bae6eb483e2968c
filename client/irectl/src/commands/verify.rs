//! `irectl verify`: results against expected ones, for one module or for folders of ONNX test cases.

mod case;
mod values;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde_json::json;
use tokio::sync::Semaphore;

use crate::compile_args::CompileArgs;
use crate::exit::FAILED;
use crate::local;
use crate::tensors::compare::{Tolerance, difference};
use crate::tensors::{NamedTensor, npz};
use case::{Outcome, Verdict};

/// A model or case that was looked at, compiling included.
struct Checked {
    path: PathBuf,
    verdict: Verdict,
    took: Duration,
}

#[derive(clap::Args)]
pub(crate) struct Verify {
    /// A model or module; or, without `--inputs`, folders with `model.onnx` and `test_data_set_*`.
    #[arg(required = true, value_name = "MODEL_OR_DIR")]
    paths: Vec<PathBuf>,
    /// Inputs, an npz archive keyed by tensor name.
    #[arg(long, value_name = "NPZ", requires = "expected")]
    inputs: Option<PathBuf>,
    /// Expected outputs, an npz archive keyed by tensor name.
    #[arg(long, value_name = "NPZ", requires = "inputs")]
    expected: Option<PathBuf>,
    #[command(flatten)]
    how: CompileArgs,
    /// A float may differ by this much of its expected value, and `--atol` more.
    #[arg(long, default_value_t = 1e-3)]
    rtol: f64,
    /// A float may differ by this much; by default `--rtol` of the largest expected value of its tensor.
    #[arg(long)]
    atol: Option<f64>,
    /// A case may take this long.
    #[arg(long, default_value_t = 60.0, value_name = "SECONDS")]
    timeout: f64,
    /// Threads that run kernels; all by default.
    #[arg(long)]
    threads: Option<u32>,
    /// Cases at once; one a core by default.
    #[arg(long)]
    jobs: Option<usize>,
    /// Print the outcomes as JSON.
    #[arg(long)]
    json: bool,
}

impl Verify {
    pub(crate) async fn run(self) -> Result<ExitCode> {
        let checked = match (&self.inputs, &self.expected) {
            (Some(inputs), Some(expected)) => {
                ensure!(self.paths.len() == 1, "`--inputs` goes with one model; found {}", self.paths.len());
                let (path, start) = (self.paths[0].clone(), Instant::now());
                let verdict = self.one(&path, inputs, expected).await?;
                vec![Checked { path, verdict, took: start.elapsed() }]
            }
            _ => self.folders().await?,
        };
        let failed = checked.iter().filter(|case| case.verdict.outcome != Outcome::Pass).count();
        self.print(&checked, failed);
        Ok(if failed == 0 { ExitCode::SUCCESS } else { ExitCode::from(FAILED) })
    }

    fn tolerance(&self) -> Tolerance {
        Tolerance { relative: self.rtol, absolute: self.atol }
    }

    /// One module, inputs and expectations by name.
    async fn one(&self, model: &Path, inputs: &Path, expected: &Path) -> Result<Verdict> {
        let (inputs, expected) = (npz::Archive::open(inputs)?, npz::Archive::open(expected)?);
        let module = local::module(model, &self.how).await?;
        let worker = local::load(&module, self.threads).await?;
        let entry = local::first_entry(&worker)?;
        let inputs = inputs.read_named(local::input_names(&worker))?.into_iter().map(Into::into).collect();
        let outputs = worker.infer(&entry, inputs, None).await?.outputs;
        worker.shutdown().await;
        let expected = expected.read_all()?;
        let outputs: Vec<NamedTensor> = outputs.into_iter().map(Into::into).collect();
        for expected in &expected {
            let found = outputs.iter().find(|output| output.name == expected.name);
            let found = found.with_context(|| format!("the model has no output `{}`", expected.name))?;
            if let Some(difference) = difference(found, expected, self.tolerance()) {
                return Ok(Verdict::different(difference));
            }
        }
        Ok(Verdict::pass())
    }

    /// Every folder is a case; several run at once, the verdicts come in the order of the folders.
    async fn folders(&self) -> Result<Vec<Checked>> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let jobs = self.jobs.unwrap_or(cores).max(1);
        let slots = Arc::new(Semaphore::new(jobs));
        let settings = case::Settings {
            within: self.tolerance(),
            timeout: Duration::try_from_secs_f64(self.timeout).context("`--timeout` is not a time")?,
            // Cases share the cores as long as there is more than one.
            threads: self.threads.or((jobs > 1).then_some(1)),
        };
        let mut tasks = Vec::new();
        for folder in &self.paths {
            let (slots, folder, how) = (slots.clone(), folder.clone(), self.how.clone());
            tasks.push(tokio::spawn(async move {
                let _slot = slots.acquire_owned().await?;
                let start = Instant::now();
                let verdict = case::verify(&folder, how, settings).await;
                anyhow::Ok(Checked { path: folder, verdict, took: start.elapsed() })
            }));
        }
        let mut verdicts = Vec::with_capacity(tasks.len());
        for task in tasks {
            verdicts.push(task.await.context("a case ended without a verdict")??);
        }
        Ok(verdicts)
    }

    fn print(&self, checked: &[Checked], failed: usize) {
        if self.json {
            let case = |Checked { path, verdict, took }: &Checked| {
                let (outcome, detail) = (verdict.outcome.word(), &verdict.detail);
                json!({"case": path, "outcome": outcome, "detail": detail, "seconds": took.as_secs_f64()})
            };
            let cases: Vec<_> = checked.iter().map(case).collect();
            println!("{}", json!({ "cases": cases }));
            return;
        }
        for Checked { path, verdict, .. } in checked {
            let (word, detail) = (verdict.outcome.word(), &verdict.detail);
            println!("{word:<14} {}{}{detail}", path.display(), if detail.is_empty() { "" } else { ": " });
        }
        println!("{} passed, {failed} failed", checked.len() - failed);
    }
}
