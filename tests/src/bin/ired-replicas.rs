//! Behind `cargo xtask conformance cache`.

use clap::Parser;
use ired_tests::replicas::Replicas;

fn main() -> anyhow::Result<()> {
    Replicas::parse().run()
}
