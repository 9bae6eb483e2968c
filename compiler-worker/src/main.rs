//! One compile job in one confined process: the model comes in as a descriptor, the module goes out through another.
//!
//! Started by the daemon or the command line, never by a person. It knows nothing of caches, names or the network.

mod broker;
mod compile;
mod job;

use std::process::ExitCode;

use anyhow::{Context, bail};
use ired_worker::Role;
use ired_worker::child::{self, ChannelError};
use ired_worker::messages::compile::{FromCompiler, ToCompiler};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("ired-compiler-worker: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> anyhow::Result<()> {
    let (sender, mut receiver) = child::start(Role::Compile)?;
    let (message, fds) = match receiver.receive() {
        // Asked for its sandbox only.
        Err(ChannelError::Closed) => return Ok(()),
        received => received.context("the first message")?,
    };
    match message {
        ToCompiler::Probe(probe) => {
            sender.send(&FromCompiler::Probed(child::attempt(probe)), &[])?;
            Ok(())
        }
        ToCompiler::Job(job) => {
            let Ok([model, output]) = <[_; 2]>::try_from(fds) else {
                bail!("a job comes with a model and an output");
            };
            job::run(job, model, output, sender, receiver)
        }
        ToCompiler::File(_) => bail!("a file that nobody asked for"),
    }
}
