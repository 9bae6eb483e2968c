//! `cargo xtask wire`: buf's lints of the `.proto` files, and that clients of what was there before still understand them.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::process::{root, run as command};
use crate::python;

/// One file without dependencies.
const BUF: [&str; 1] = ["buf-bin==1.75.0"];

#[derive(clap::Args, Default)]
pub(crate) struct Wire {
    /// What it is compared with; the newest release, where there is none what `main` had when this branch began, and on
    /// `main` the commit before
    #[arg(long, value_name = "REVISION")]
    against: Option<String>,
}

impl Wire {
    pub(crate) fn run(&self) -> Result<()> {
        let buf = buf()?;
        self.check(&buf.to_string_lossy())
    }

    /// The same as a part of all tests, which go on where buf is not to be had.
    pub(crate) fn run_if_possible() -> Result<()> {
        match buf() {
            Ok(buf) => Self::default().check(&buf.to_string_lossy()),
            Err(error) => unchecked(error, std::env::var_os("CI").is_some()),
        }
    }

    fn check(&self, buf: &str) -> Result<()> {
        command(buf, &["lint", "proto"])?;
        let before = match &self.against {
            Some(revision) => revision.clone(),
            None => before()?,
        };
        let path = root().join(".git");
        // In a work tree, `.git` is a file that says where it is.
        let git = git(&["rev-parse", "--path-format=absolute", "--git-common-dir"])
            .unwrap_or_else(|_| path.display().to_string());
        command(
            buf,
            &["breaking", "proto", "--against", &format!("{git}#format=git,ref={before},subdir=proto")],
        )
    }
}

/// A person sees that something was left out; where nobody looks, in continuous integration, that is a fault.
fn unchecked(error: anyhow::Error, is_ci: bool) -> Result<()> {
    if is_ci {
        return Err(error
            .context("the .proto files are not checked, and variable `CI` says that nobody would see it"));
    }
    eprintln!("\x1b[1mNOT CHECKED: lints and breaking changes of the .proto files: {error:#}\x1b[0m");
    Ok(())
}

fn buf() -> Result<PathBuf> {
    Ok(python::environment("buf", &BUF)?.join("buf"))
}

/// The commit that the wire is compared with.
fn before() -> Result<String> {
    if let Ok(release) = git(&["describe", "--tags", "--abbrev=0", "--match=v*"]) {
        return git(&["rev-parse", &format!("{release}^{{commit}}")]);
    }
    let here = git(&["rev-parse", "HEAD"])?;
    for main in ["origin/main", "main"] {
        match git(&["merge-base", "HEAD", main]) {
            Ok(base) if base != here => return Ok(base),
            _ => {}
        }
    }
    git(&["rev-parse", "HEAD^1"])
        .context("there is no commit before this one to compare with: fetch more than one")
}

fn git(arguments: &[&str]) -> Result<String> {
    let output =
        Command::new("git").args(arguments).current_dir(root()).output().context("cannot run `git`")?;
    if !output.status.success() {
        bail!("`git {}`: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_checked_is_a_fault_where_nobody_looks() {
        let unreachable = || anyhow::anyhow!("no network");
        assert!(unchecked(unreachable(), false).is_ok());
        let error = format!("{:#}", unchecked(unreachable(), true).unwrap_err());
        assert!(
            error.starts_with("the .proto files are not checked") && error.ends_with("no network"),
            "{error}"
        );
    }
}
