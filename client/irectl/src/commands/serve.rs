//! `irectl serve`: becomes the daemon.

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
        let executable = std::env::current_exe()?.with_file_name("ired");
        // Returns only when the daemon could not be started.
        let error = Command::new(&executable).args(self.arguments).exec();
        Err(error).with_context(|| format!("cannot start the daemon `{}`", executable.display()))
    }
}
