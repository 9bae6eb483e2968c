//! One ONNX test case: a folder with `model.onnx` and `test_data_set_*/{input,output}_*.pb`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use ired_worker::{CompileFailure, FailureKind, RuntimeFailure, RuntimeWorker, Tensor};

use super::values;
use crate::compile_args::CompileArgs;
use crate::local;
use crate::shapes;
use crate::tensors::NamedTensor;
use crate::tensors::compare::{Difference, Tolerance, difference};

/// How a case ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Pass,
    Unsupported,
    CompileError,
    Crash,
    Timeout,
    WrongDType,
    WrongShape,
    WrongValue,
}

impl Outcome {
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Unsupported => "unsupported",
            Self::CompileError => "compile-error",
            Self::Crash => "crash",
            Self::Timeout => "timeout",
            Self::WrongDType => "wrong-dtype",
            Self::WrongShape => "wrong-shape",
            Self::WrongValue => "wrong-value",
        }
    }
}

pub(super) struct Verdict {
    pub(super) outcome: Outcome,
    /// One line; empty for a pass.
    pub(super) detail: String,
}

impl Verdict {
    pub(super) fn pass() -> Self {
        Self { outcome: Outcome::Pass, detail: String::new() }
    }

    pub(super) fn different(difference: Difference) -> Self {
        let (outcome, detail) = match difference {
            Difference::DType(text) => (Outcome::WrongDType, text),
            Difference::Shape(text) => (Outcome::WrongShape, text),
            Difference::Value(text) => (Outcome::WrongValue, text),
        };
        Self { outcome, detail }
    }

    /// What an error on the way to a result means.
    fn of_error(error: &anyhow::Error) -> Self {
        let outcome = error.chain().find_map(|cause| {
            if let Some(failure) = cause.downcast_ref::<CompileFailure>() {
                return Some(of_compile_failure(failure));
            }
            cause.downcast_ref::<RuntimeFailure>().map(of_runtime_failure)
        });
        let detail = detail(error).lines().collect::<Vec<_>>().join("; ");
        Self { outcome: outcome.unwrap_or(Outcome::Unsupported), detail }
    }
}

/// The error with its causes; for a refused model, everything that is wrong with it.
fn detail(error: &anyhow::Error) -> String {
    let refused = error.chain().find_map(|cause| match cause.downcast_ref() {
        Some(CompileFailure::Failed { diagnostics, .. }) if !diagnostics.is_empty() => Some(diagnostics),
        _ => None,
    });
    match refused {
        Some(diagnostics) => diagnostics.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "),
        None => format!("{error:#}"),
    }
}

fn of_compile_failure(failure: &CompileFailure) -> Outcome {
    match failure {
        CompileFailure::Failed { kind: FailureKind::Unsupported, .. } => Outcome::Unsupported,
        CompileFailure::Failed { .. } => Outcome::CompileError,
        CompileFailure::TimedOut { .. } => Outcome::Timeout,
        _ => Outcome::Crash,
    }
}

fn of_runtime_failure(failure: &RuntimeFailure) -> Outcome {
    match failure {
        RuntimeFailure::DeadlineExceeded => Outcome::Timeout,
        RuntimeFailure::Unavailable { .. } | RuntimeFailure::Protocol { .. } => Outcome::Crash,
        // The module does not take what the case says it takes, or stops on it.
        _ => Outcome::WrongShape,
    }
}

#[derive(Clone, Copy)]
pub(super) struct Settings {
    pub(super) within: Tolerance,
    pub(super) timeout: Duration,
    pub(super) threads: Option<u32>,
}

/// Compiles and runs every data set of the case; the first that is not right decides.
pub(super) async fn verify(folder: &Path, how: CompileArgs, settings: Settings) -> Verdict {
    match tokio::time::timeout(settings.timeout, run(folder, how, settings)).await {
        Ok(Ok(verdict)) => verdict,
        Ok(Err(error)) => Verdict::of_error(&error),
        Err(_) => {
            let detail = format!("no result within {:?}", settings.timeout);
            Verdict { outcome: Outcome::Timeout, detail }
        }
    }
}

async fn run(folder: &Path, mut how: CompileArgs, settings: Settings) -> Result<Verdict> {
    let sets = match data_sets(folder) {
        Ok(sets) => sets,
        Err(error) => {
            return Ok(Verdict {
                outcome: Outcome::CompileError,
                detail: format!("no test case: {error:#}"),
            });
        }
    };
    let model = folder.join("model.onnx");
    if how.shapes.shapes.is_empty() {
        how.shapes.shapes = shapes::of_data(&model, &sets[0])?;
    }
    let module = local::module(&model, &how).await?;
    let worker = local::load(&module, settings.threads).await?;
    let mut verdict = Verdict::pass();
    for set in sets {
        if let Some(difference) = run_set(&worker, &set, settings).await.with_context(|| name_of(&set))? {
            verdict = Verdict::different(difference);
            verdict.detail = format!("{}: {}", name_of(&set), verdict.detail);
            break;
        }
    }
    worker.shutdown().await;
    Ok(verdict)
}

async fn run_set(worker: &RuntimeWorker, set: &Path, settings: Settings) -> Result<Option<Difference>> {
    let entry = worker.module().signature.entries.first().context("the module has no entry point")?;
    let inputs = values::read(set, "input", &entry.inputs)?;
    let inputs: Vec<Tensor> = inputs.into_iter().map(Into::into).collect();
    let outputs = worker.infer(&entry.name, inputs, None).await?.outputs;
    let expected = values::read(set, "output", &entry.outputs)?;
    if outputs.len() != expected.len() {
        bail!("{} outputs; expected {}", outputs.len(), expected.len());
    }
    for (found, expected) in outputs.into_iter().zip(expected) {
        let found = NamedTensor::from(found);
        if let Some(difference) = difference(&found, &expected, settings.within) {
            return Ok(Some(difference));
        }
    }
    Ok(None)
}

/// The folders with data, in order of their numbers' text.
fn data_sets(folder: &Path) -> Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder).with_context(|| format!("cannot read `{}`", folder.display()))?;
    let mut sets: Vec<PathBuf> =
        entries.collect::<Result<Vec<_>, _>>()?.into_iter().map(|e| e.path()).collect();
    sets.retain(|path| name_of(path).starts_with("test_data_set_") && path.is_dir());
    sets.sort();
    if sets.is_empty() {
        bail!("`{}` has no test_data_set_*", folder.display());
    }
    Ok(sets)
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
