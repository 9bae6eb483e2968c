//! Trials of real daemons, by the programs of `tests/src/bin`, each of which knows its options.

use anyhow::Result;

use crate::process::{run as command, target_dir};
use crate::{python, setup};

/// What chaos needs beyond building and testing.
const CLOCK: &[(&str, &str)] = &[("libfaketime", "a clock that jumps, before one daemon's system calls")];

#[derive(clap::Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Trial {
    /// What the trial takes: `--help` lists it. With `--binaries DIR`, seen from the repository's root, nothing is built
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "OPTIONS")]
    options: Vec<String>,
}

impl Trial {
    pub(crate) fn chaos(&self) -> Result<()> {
        let moto = moto().inspect_err(|e| eprintln!("chaos: there is no S3 server to play with: {e:#}"));
        if let Err(error) = setup::install(CLOCK) {
            eprintln!("chaos: there is no clock to play with: {error:#}");
        }
        self.run("ired-chaos", moto.ok())
    }

    pub(crate) fn overload(&self) -> Result<()> {
        self.run("ired-overload", None)
    }

    pub(crate) fn replicas(&self) -> Result<()> {
        self.run("ired-replicas", Some(moto()?))
    }

    pub(crate) fn soak(&self) -> Result<()> {
        self.run("ired-soak", None)
    }

    /// Runs a program on the daemon, which is built unless there is one.
    fn run(&self, program: &str, moto: Option<String>) -> Result<()> {
        let given = |option: &str| self.options.iter().any(|given| given.starts_with(option));
        let mut added = Vec::new();
        if !given("--binaries") && !given("--help") {
            let packages = ["-p", "ired", "-p", "ired-compiler-worker", "-p", "ired-runtime-worker"];
            command("cargo", &[&["build", "--release"], &packages[..]].concat())?;
            added.push(format!("--binaries={}", target_dir("release")?.display()));
        }
        added.extend(moto.filter(|_| !given("--moto")));
        // Clients are to cost little beside the daemon.
        let mut run = vec!["run", "--release", "--quiet", "-p", "ired-tests", "--bin", program, "--"];
        run.extend(added.iter().chain(&self.options).map(String::as_str));
        command("cargo", &run)
    }
}

fn moto() -> Result<String> {
    Ok(format!("--moto={}", python::moto_server()?.display()))
}
