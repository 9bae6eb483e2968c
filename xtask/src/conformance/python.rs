//! Python programs in environments of their own.

use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::process::{run as command, target_dir};

/// Where the programs of these packages are; made once for each set of packages.
pub(super) fn environment(name: &str, packages: &[&str]) -> Result<PathBuf> {
    let venv = target_dir("conformance")?.join(name);
    let (bin, installed) = (venv.join("bin"), venv.join("installed.txt"));
    let list = packages.join("\n");
    if std::fs::read_to_string(&installed).is_ok_and(|found| found == list) {
        return Ok(bin);
    }
    command("python3", &["-m", "venv", &venv.to_string_lossy()])
        .context("this needs Python 3 with its `venv` module (Debian: python3-venv)")?;
    let install = [&["-m", "pip", "install", "--quiet"], packages].concat();
    command(&bin.join("python").to_string_lossy(), &install)?;
    std::fs::write(installed, list)?;
    Ok(bin)
}
