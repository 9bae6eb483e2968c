//! Behind `cargo xtask soak`.

use std::process::ExitCode;

use clap::Parser;
use ired_tests::soak::Soak;

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let good = Soak::parse().run().await?;
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
