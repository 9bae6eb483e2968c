//! What a command that compiles a model lets its user say about that.

use anyhow::{Result, ensure};
use ired_worker::{CompileOptions, Precision};

use crate::shapes::Shapes;

#[derive(clap::Args, Clone)]
pub(crate) struct CompileArgs {
    #[command(flatten)]
    pub(crate) shapes: Shapes,
    /// `fast` rounds the operands of products with constant weights to bf16, where the target multiplies those.
    #[arg(long, default_value = "exact", value_parser = parse_precision, value_name = "exact|fast")]
    pub(crate) precision: Precision,
}

impl CompileArgs {
    pub(crate) fn options(&self) -> CompileOptions {
        CompileOptions {
            shapes: self.shapes.shapes.clone(),
            precision: self.precision,
            ..CompileOptions::default()
        }
    }

    /// That nothing is said, for what is compiled already.
    pub(crate) fn ensure_none(&self, path: &std::path::Path) -> Result<()> {
        let path = path.display();
        ensure!(self.shapes.shapes.is_empty(), "`{path}` is compiled: `--shape` goes with a model");
        ensure!(self.precision == Precision::Exact, "`{path}` is compiled: `--precision` goes with a model");
        Ok(())
    }
}

fn parse_precision(text: &str) -> Result<Precision, String> {
    match text {
        "exact" => Ok(Precision::Exact),
        "fast" => Ok(Precision::Fast),
        _ => Err("expected `exact` or `fast`".to_owned()),
    }
}
