//! Behind `cargo xtask overload`.

use std::process::ExitCode;

use clap::Parser;
use ired_tests::overload::Overload;

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    let good = Overload::parse().run().await?;
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
