//! `irectl serve`, `config` and `token`: become the daemon's program, whose business that is.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};

/// `--help` and everything else go to `ired`, whose arguments these are.
#[derive(clap::Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Serve {
    /// Arguments of `ired`.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENTS")]
    arguments: Vec<OsString>,
}

impl Serve {
    pub(crate) fn run(self) -> Result<ExitCode> {
        become_ired(self.arguments)
    }
}

/// What follows `irectl config` or `irectl token`, for `ired`.
#[derive(clap::Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Forwarded {
    /// Arguments of the same command of `ired`.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "ARGUMENTS")]
    arguments: Vec<OsString>,
}

impl Forwarded {
    pub(crate) fn run(self, command: &str) -> Result<ExitCode> {
        become_ired(std::iter::once(command.into()).chain(self.arguments).collect())
    }
}

fn become_ired(arguments: Vec<OsString>) -> Result<ExitCode> {
    let executable = std::env::current_exe()?.with_file_name("ired");
    // Returns only when it could not be started.
    let error = Command::new(&executable).args(arguments).exec();
    Err(error).with_context(|| format!("cannot start the daemon `{}`", executable.display()))
}
