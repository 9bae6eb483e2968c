//! What a tool can check of the house style.

use anyhow::Result;

use crate::process::run as command;

pub(crate) fn run() -> Result<()> {
    command("cargo", &["fmt", "--all", "--check"])?;
    command("cargo", &["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"])?;
    command("cargo", &["check", "-p", "ired-module", "--no-default-features"])?;
    let deny_warnings = r#"build.rustdocflags=["-Dwarnings"]"#;
    command("cargo", &["doc", "--workspace", "--no-deps", "--quiet", "--config", deny_warnings])
}
