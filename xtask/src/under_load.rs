//! Trials of real daemons under load, by the programs of `tests/src/bin`.

use std::path::PathBuf;

use anyhow::Result;

use crate::process::{run as command, target_dir};
use crate::python;

/// What all have.
#[derive(clap::Args)]
pub(crate) struct Programs {
    /// Take `ired` and its workers from this folder instead of building them
    #[arg(long, value_name = "DIR")]
    binaries: Option<PathBuf>,
}

#[derive(clap::Args)]
pub(crate) struct Chaos {
    #[command(flatten)]
    programs: Programs,
    /// How long all of it takes, about
    #[arg(long, default_value_t = 240)]
    seconds: u64,
    /// Only this scenario; a name that there is not lists them
    #[arg(long, value_name = "NAME")]
    scenario: Option<String>,
    /// The seed of a run before: choices follow from it
    #[arg(long)]
    seed: Option<u64>,
}

#[derive(clap::Args)]
pub(crate) struct Soak {
    #[command(flatten)]
    programs: Programs,
    /// How long it takes
    #[arg(long, default_value_t = 20.0)]
    minutes: f64,
    /// The share of what the daemon can do that it is asked for
    #[arg(long, default_value_t = 0.7)]
    load: f64,
}

#[derive(clap::Args)]
pub(crate) struct Overload {
    #[command(flatten)]
    programs: Programs,
    /// How long each measurement takes, in seconds
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// How often all are made; what is in the middle counts
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Images of 256 bytes in one request, which make it larger and longer
    #[arg(long, default_value_t = 256)]
    images: usize,
}

impl Chaos {
    pub(crate) fn run(&self) -> Result<()> {
        let mut arguments = vec![format!("--seconds={}", self.seconds)];
        arguments.extend(self.scenario.as_ref().map(|name| format!("--scenario={name}")));
        arguments.extend(self.seed.map(|seed| format!("--seed={seed}")));
        match python::moto_server() {
            Ok(program) => arguments.push(format!("--moto={}", program.display())),
            Err(error) => eprintln!("chaos: there is no S3 server to play with: {error:#}"),
        }
        self.programs.start("ired-chaos", arguments)
    }
}

impl Soak {
    pub(crate) fn run(&self) -> Result<()> {
        let arguments = vec![format!("--minutes={}", self.minutes), format!("--load={}", self.load)];
        self.programs.start("ired-soak", arguments)
    }
}

impl Overload {
    pub(crate) fn run(&self) -> Result<()> {
        let Self { programs, seconds, rounds, images } = self;
        let arguments =
            vec![format!("--seconds={seconds}"), format!("--rounds={rounds}"), format!("--images={images}")];
        programs.start("ired-overload", arguments)
    }
}

impl Programs {
    /// Runs a program of `tests/` on the daemon, which is built unless there is one.
    pub(crate) fn start(&self, program: &str, arguments: Vec<String>) -> Result<()> {
        let binaries = match &self.binaries {
            // The program runs in the repository's root.
            Some(folder) => std::path::absolute(folder)?,
            None => {
                let packages = ["-p", "ired", "-p", "ired-compiler-worker", "-p", "ired-runtime-worker"];
                command("cargo", &[&["build", "--release"], &packages[..]].concat())?;
                target_dir("release")?
            }
        };
        let binaries = format!("--binaries={}", binaries.display());
        // Clients are to cost little beside the daemon.
        let mut run =
            vec!["run", "--release", "--quiet", "-p", "ired-tests", "--bin", program, "--", &binaries];
        run.extend(arguments.iter().map(String::as_str));
        command("cargo", &run)
    }
}
