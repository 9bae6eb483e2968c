//! `irectl run`: one inference on this machine.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;

use crate::compile_args::CompileArgs;
use crate::exit::printable;
use crate::local;
use crate::tensors::{NamedTensor, npz};

#[derive(clap::Args)]
pub(crate) struct Run {
    /// A model, or a compiled module (`.irm`).
    model: PathBuf,
    #[command(flatten)]
    how: CompileArgs,
    /// Inputs, an npz archive keyed by tensor name.
    #[arg(long, value_name = "NPZ")]
    inputs: PathBuf,
    /// Where the outputs go, an npz archive.
    #[arg(long, value_name = "NPZ")]
    outputs: PathBuf,
    /// Threads that run kernels; all by default.
    #[arg(long)]
    threads: Option<u32>,
}

impl Run {
    pub(crate) async fn run(self) -> Result<ExitCode> {
        let inputs = npz::Archive::open(&self.inputs)?;
        let module = local::module(&self.model, &self.how).await?;
        let worker = local::load(&module, self.threads).await?;
        let entry = local::first_entry(&worker)?;
        let inputs = inputs.read_named(local::input_names(&worker))?;
        let result = worker.infer(&entry, inputs.into_iter().map(Into::into).collect(), None).await?;
        let outputs: Vec<NamedTensor> = result.outputs.into_iter().map(Into::into).collect();
        npz::write(&self.outputs, &outputs)?;
        for output in &outputs {
            println!("{}: {}", printable(&output.name), output.type_text());
        }
        worker.shutdown().await;
        Ok(ExitCode::SUCCESS)
    }
}
