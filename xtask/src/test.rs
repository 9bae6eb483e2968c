//! Every test, and the format of what is tested. The worker executables are built first: tests of whole processes start
//! them.

use anyhow::Result;

use crate::process::run as command;
use crate::wire::Wire;

pub(crate) fn run() -> Result<()> {
    command("cargo", &["fmt", "--all", "--check"])?;
    // The module reader is for places without an allocator, too.
    command("cargo", &["check", "-p", "ired-module", "--no-default-features"])?;
    Wire::run_if_possible()?;
    // With the tests' own features, or cargo would build and link much of it a second time.
    command("cargo", &["build", "--workspace", "--all-targets"])?;
    command("cargo", &["test", "--workspace", "--no-fail-fast"])
}
