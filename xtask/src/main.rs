//! `cargo xtask`: what people and machines do with this repository. Needs nothing but Rust, so that `setup` can
//! run on a fresh machine.

mod bench;
mod check;
mod conformance;
mod daemon;
mod demo;
mod fuzz;
mod process;
mod python;
mod setup;
mod test;
mod under_load;
mod wire;

use anyhow::Result;
use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Build, test and show ired")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Installs the Debian packages that building and testing need
    Setup,
    /// Builds ired, serves a real model and calls it, from nothing
    Demo,
    /// Sets up, looks at the format, then runs every test: what CI does
    Test,
    /// Runs a public test suite and compares with what is known to fail
    #[command(subcommand)]
    Conformance(conformance::Conformance),
    /// Measures kernels, whole models beside other engines, and compilation
    #[command(subcommand)]
    Bench(bench::Bench),
    /// Runs the fuzzers for a while each: what strangers send, and what passes do to it
    Fuzz(fuzz::Fuzz),
    /// Plays what goes wrong with a daemon under load: kills, disconnects, a full disk, a clock that jumps
    Chaos(under_load::Trial),
    /// Has a daemon work for long and looks at what changes: latency and memory
    Soak(under_load::Trial),
    /// Asks a daemon for several times as much as it can do, and looks at how much of that it does and how it refuses the rest
    Overload(under_load::Trial),
    /// Lints the .proto files, and finds what would break clients
    Wire(wire::Wire),
    /// Formatting, lints, docs, and that the module reader needs neither std nor an allocator
    Check,
}

fn main() -> Result<()> {
    match Arguments::parse().task {
        Task::Setup => setup::run(),
        Task::Demo => setup::run().and_then(|()| demo::run()),
        Task::Test => setup::run().and_then(|()| test::run()),
        Task::Conformance(suite) => setup::run().and_then(|()| conformance::run(&suite)),
        Task::Bench(bench) => setup::run().and_then(|()| bench::run(&bench)),
        Task::Fuzz(fuzz) => setup::run().and_then(|()| fuzz.run()),
        Task::Chaos(trial) => setup::run().and_then(|()| trial.chaos()),
        Task::Soak(trial) => setup::run().and_then(|()| trial.soak()),
        Task::Overload(trial) => setup::run().and_then(|()| trial.overload()),
        Task::Wire(wire) => wire.run(),
        Task::Check => check::run(),
    }
}
