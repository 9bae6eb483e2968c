//! `irectl compile`: a model file to a module file.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result};
use ired_worker::{CompileOptions, Dump};
use serde_json::json;

use super::human_bytes;
use crate::compile_args::CompileArgs;
use crate::local;
use crate::target::{self, Targets};

/// The compiler's phases, in the order they run.
const PHASES: [&str; 6] = ["input", "graph", "program", "schedule", "executables", "module"];

#[derive(clap::Args)]
pub(crate) struct Compile {
    /// The model, with its external data beside it.
    model: PathBuf,
    /// Where the module goes.
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// `host`, or a triple or level with features: `x86_64-linux,+avx2,+fma`, `aarch64-linux,+dotprod`, `rva23u64`. Several
    /// make a module with a variant for each, of which a machine takes the first that it can run: `x86-64-v4,x86-64-v3`.
    #[arg(long, default_value = "host", value_parser = target::parse_list)]
    target: Targets,
    #[command(flatten)]
    how: CompileArgs,
    /// Stop after this phase and write its text.
    #[arg(long, value_name = "PHASE", value_parser = PHASES)]
    compile_to: Option<String>,
    /// Write every phase's result into this folder.
    #[arg(long, value_name = "DIR")]
    dump_ir: Option<PathBuf>,
    /// Threads to compile with; all by default.
    #[arg(long, default_value_t = 0, hide_default_value = true)]
    threads: u32,
    /// Print what was done as JSON.
    #[arg(long)]
    json: bool,
}

impl Compile {
    pub(crate) async fn run(self) -> Result<ExitCode> {
        if let Some(folder) = &self.dump_ir {
            std::fs::create_dir_all(folder).with_context(|| format!("cannot make `{}`", folder.display()))?;
        }
        let options = CompileOptions {
            stop_after: self.compile_to,
            dump: self.dump_ir.is_some(),
            threads: self.threads,
            fallbacks: self.target.fallbacks,
            ..self.how.options()
        };
        let output = local::Output::create(&self.output)?;
        let mut dumps = Vec::new();
        let start = Instant::now();
        let report =
            local::compile(&self.model, self.target.first, options, output.file(), |dump| dumps.push(dump))
                .await;
        // What was dumped before a failure is what shows its cause.
        for dump in dumps {
            write_dump(self.dump_ir.as_deref(), &dump)?;
        }
        let report = report?;
        output.keep()?;
        let compile_ms = start.elapsed().as_secs_f64() * 1e3;
        for warning in &report.warnings {
            eprintln!("warning: {warning}");
        }
        if self.json {
            let phases: Vec<_> = report
                .phases
                .iter()
                .map(|(name, t)| json!({"name": name, "ms": t.as_secs_f64() * 1e3}))
                .collect();
            let peak = report.peak_rss_bytes;
            println!(
                "{}",
                json!({"output": self.output, "module_bytes": report.module_bytes, "compile_ms": compile_ms,
                       "phases": phases, "peak_rss_bytes": peak})
            );
        } else {
            let size = human_bytes(report.module_bytes);
            println!("{}: {size} in {:.2} s", self.output.display(), compile_ms / 1e3);
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn write_dump(folder: Option<&Path>, dump: &Dump) -> Result<()> {
    let Some(folder) = folder else { return Ok(()) };
    let path = folder.join(&dump.name);
    std::fs::write(&path, &dump.content).with_context(|| format!("cannot write `{}`", path.display()))
}
