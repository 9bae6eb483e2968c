//! Behind `cargo xtask chaos`.

use std::process::ExitCode;

use clap::Parser;
use ired_tests::chaos::Chaos;

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let good = Chaos::parse().run().await?;
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
