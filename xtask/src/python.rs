//! Programs that come as Python packages, in environments of their own.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::process::{run as command, target_dir};

/// The interpreter of an environment, as [`environment`] makes it.
pub(crate) fn interpreter(name: &str, packages: &[&str]) -> Result<PathBuf> {
    Ok(environment(name, packages)?.join("python"))
}

/// An S3 server.
const MOTO: &str = "moto[server]==5.2.1";

/// The program of an S3 server, in an environment that is made for it.
pub(crate) fn moto_server() -> Result<PathBuf> {
    Ok(environment("cache", &[MOTO])?.join("moto_server"))
}

/// The folder of the programs in an environment that has these packages; made once for each list of them.
pub(crate) fn environment(name: &str, packages: &[&str]) -> Result<PathBuf> {
    let venv = target_dir("python")?.join(name);
    let (bin, installed) = (venv.join("bin"), venv.join("installed.txt"));
    let list = packages.join("\n");
    if std::fs::read_to_string(&installed).is_ok_and(|found| found == list) {
        return Ok(bin);
    }
    let text = |path: &Path| path.to_string_lossy().into_owned();
    command("python3", &["-m", "venv", &text(&venv)])
        .context("this needs Python 3 with its `venv` module (Debian: python3-venv)")?;
    command(&text(&bin.join("python")), &[&["-m", "pip", "install", "--quiet"], packages].concat())?;
    std::fs::write(installed, list)?;
    Ok(bin)
}
