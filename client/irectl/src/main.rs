//! `irectl`: the command line of ired. One file per command; local commands need no daemon.

#[macro_use]
mod print;

mod commands;
mod compile_args;
mod exit;
mod local;
mod progress;
mod shapes;
mod target;
mod tensors;

use std::process::ExitCode;

use clap::Parser;

use commands::Arguments;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match commands::run(arguments) {
        Ok(code) => code,
        Err(error) => exit::report(&error),
    }
}
