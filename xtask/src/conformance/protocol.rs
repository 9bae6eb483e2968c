//! The inference protocol: Triton's Python clients, and what schemathesis makes of the OpenAPI document, against a
//! daemon with real models.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::daemon::{Daemon, build};
use crate::process::{root, run as command};
use crate::python;

const PACKAGES: [&str; 5] =
    ["tritonclient[grpc,http]==2.73.0", "onnx==1.23.2", "ml_dtypes", "numpy<3", "schemathesis==4.32.5"];

#[derive(clap::Args)]
pub(crate) struct Protocol {
    /// Run the debug build
    #[arg(long)]
    debug: bool,
    /// Requests that are made up for each operation of REST
    #[arg(long, default_value_t = 50)]
    examples: u32,
    /// Take the programs from this folder instead of building them
    #[arg(long, value_name = "DIR")]
    binaries: Option<PathBuf>,
}

impl Protocol {
    pub(super) fn run(&self) -> Result<()> {
        let binaries = match &self.binaries {
            Some(folder) => folder.clone(),
            None => build(!self.debug)?,
        };
        let tools = python::environment("protocol", &PACKAGES)?;
        let script = |name: &str| text(&root().join("tests/protocol").join(name));
        let work = tempfile::tempdir().context("cannot make a temporary folder")?;
        let models = text(&work.path().join("models"));
        command(&text(&tools.join("python")), &[&script("models.py"), &models])?;

        let daemon = Daemon::start(&binaries, work.path(), &["--model-repository", &models])?;
        command(&text(&tools.join("python")), &[&script("clients.py"), &daemon.grpc, &daemon.rest])?;
        let document = daemon.url("/openapi.json");
        let examples = self.examples.to_string();
        // More workers than one share a parser that is not made for that.
        let options = ["--max-examples", &examples, "--workers", "1", "--continue-on-failure", "--no-color"];
        // Lists tell it names to unload and it uploads what is no model; routes that run models rightly fail on both.
        for part in ["--exclude-path-regex", "--include-path-regex"] {
            command(
                &text(&tools.join("st")),
                &[&["run", &document], &options[..], &[part, "^/v1/"]].concat(),
            )?;
        }
        daemon.stop()?;
        Ok(())
    }
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
