//! `irectl inspect`: what a module is, offers and needs.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use ired_module::{Module, Verify};

use super::seal;

#[derive(clap::Args)]
pub(crate) struct Inspect {
    /// A compiled module (`.irm`).
    module: PathBuf,
    /// List the schedule too.
    #[arg(long)]
    code: bool,
    /// Fail unless this public key, or another one given, signed the module.
    #[arg(long, value_name = "FILE")]
    trusted: Vec<PathBuf>,
}

impl Inspect {
    pub(crate) fn run(self) -> Result<ExitCode> {
        let path = self.module.display();
        let bytes = std::fs::read(&self.module).with_context(|| format!("cannot read `{path}`"))?;
        let module = Module::parse(&bytes).with_context(|| format!("cannot read `{path}`"))?;
        module.verify(Verify::All).with_context(|| format!("`{path}` is not sound"))?;
        let listing = if self.code { module.describe() } else { module.summary() };
        let seals = seal::describe(&bytes, &self.trusted).with_context(|| format!("`{path}`"))?;
        print!("{listing}{seals}");
        Ok(ExitCode::SUCCESS)
    }
}
