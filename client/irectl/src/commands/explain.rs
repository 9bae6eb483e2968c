//! `irectl explain`: how the compiler understands a model, and what it would run.

use std::io::{Read, Seek};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use ired_worker::{CompileOptions, ExplainRequest, TargetRequest};

use crate::compile_args::CompileArgs;
use crate::{local, target};

#[derive(clap::Args)]
pub(crate) struct Explain {
    /// The model, with its external data beside it.
    model: PathBuf,
    /// `host`, or a triple with features: `x86_64-linux,+avx2,+fma`.
    #[arg(long, default_value = "host", value_parser = target::parse)]
    target: TargetRequest,
    #[command(flatten)]
    how: CompileArgs,
    /// What a symbolic size is where numbers are printed; 1 for those not given.
    #[arg(long = "size", value_name = "NAME=N", value_parser = size)]
    sizes: Vec<(String, u64)>,
    /// List every node of the graph too.
    #[arg(long)]
    nodes: bool,
}

fn size(text: &str) -> Result<(String, u64), String> {
    let (name, size) = text.rsplit_once('=').ok_or("expected `NAME=N`, such as `batch=8`")?;
    let size = size.parse().map_err(|error| format!("`{size}` is no size: {error}"))?;
    Ok((name.to_owned(), size))
}

impl Explain {
    pub(crate) async fn run(self) -> Result<ExitCode> {
        let explain = ExplainRequest { sizes: self.sizes, nodes: self.nodes, candidates: false };
        let options = CompileOptions { explain: Some(explain), ..self.how.options() };
        let mut output = tempfile::tempfile().context("cannot make a temporary file")?;
        local::compile(&self.model, self.target, options, &output, |_| ()).await?;
        let mut report = String::new();
        output.rewind()?;
        output.read_to_string(&mut report).context("cannot read the report")?;
        print!("{report}");
        Ok(ExitCode::SUCCESS)
    }
}

#[cfg(test)]
mod tests {
    use super::size;

    #[test]
    fn sizes_are_names_and_numbers() {
        assert_eq!(size("batch=8"), Ok(("batch".to_owned(), 8)));
        assert_eq!(size("a=b=2"), Ok(("a=b".to_owned(), 2)));
        assert!(size("batch").is_err() && size("batch=many").is_err() && size("batch=-1").is_err());
    }
}
