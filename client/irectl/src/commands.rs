//! Every command, its arguments and where it is carried out.

mod bench;
mod compile;
mod completions;
mod devices;
mod doctor;
mod explain;
mod infer;
mod inspect;
mod models;
mod profile;
mod push;
mod run;
mod seal;
mod serve;
mod top;
mod trace;
mod tune;
mod verify;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use ired_client::{Client, ClientError, Credentials};

use crate::exit::printable;

/// Compile and run machine-learning models, here or on an ired daemon.
#[derive(Parser)]
#[command(name = "irectl", version)]
pub(crate) struct Arguments {
    #[command(flatten)]
    daemon: Daemon,
    #[command(subcommand)]
    command: Command,
}

/// Which daemon the commands that need one talk to.
#[derive(clap::Args)]
struct Daemon {
    /// gRPC address of the daemon.
    #[arg(
        long,
        global = true,
        env = "IRED_SERVER",
        default_value = "http://127.0.0.1:8001",
        value_name = "URL"
    )]
    server: String,
    /// Certificates of the authorities that vouch for the daemon (PEM); without, those that this system trusts.
    #[arg(long, global = true, env = "IRED_CA", value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Certificate that this caller shows the daemon (PEM).
    #[arg(long, global = true, env = "IRED_CERT", value_name = "FILE", requires = "key")]
    cert: Option<PathBuf>,
    /// The certificate's key (PEM).
    #[arg(long, global = true, env = "IRED_KEY", value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,
    /// Token that this caller shows the daemon; `@FILE` reads it, so that lists of processes do not show it.
    #[arg(long, global = true, env = "IRED_TOKEN", hide_env_values = true, value_name = "TOKEN")]
    token: Option<String>,
}

impl Daemon {
    async fn connect(&self) -> Result<Client> {
        let read = |path: &PathBuf| {
            std::fs::read_to_string(path).with_context(|| format!("cannot read `{}`", path.display()))
        };
        let identity = match (&self.cert, &self.key) {
            (Some(cert), Some(key)) => Some((read(cert)?, read(key)?)),
            _ => None,
        };
        let token = match self.token.as_ref().map(|token| (token, token.strip_prefix('@'))) {
            Some((_, Some(file))) => Some(read(&file.into())?),
            Some((token, None)) => Some(token.clone()),
            None => None,
        };
        let credentials = Credentials { ca: self.ca.as_ref().map(read).transpose()?, identity, token };
        Ok(Client::connect_with(&self.server, &credentials).await?)
    }
}

#[derive(Subcommand)]
enum Command {
    /// Starts the daemon (the same as running `ired`)
    Serve(serve::Serve),
    /// Checks (`check FILE`) or shows (`show`) the daemon's settings, here
    Config(serve::Forwarded),
    /// Makes a token for callers of the daemon (`NAME --role ROLE [--tenant TENANT] [--expires TIME]`)
    Token(serve::Forwarded),
    /// Uploads a model to the daemon, compiles and loads it
    Push(push::Push),
    /// Compiles a model into a module, here
    Compile(compile::Compile),
    /// Shows how a model is understood and what would run: shapes, sizes, work, memory, fusion
    Explain(explain::Explain),
    /// Runs a model or module once, here
    Run(run::Run),
    /// Measures a model or module, here
    Bench(bench::Bench),
    /// Measures ways to compute a model's kernels, here, and writes the fastest for `--tuning`
    Tune(tune::Tune),
    /// Compares a model's or module's results with expected ones, here
    Verify(verify::Verify),
    /// Shows what a compiled module is and offers
    Inspect(inspect::Inspect),
    /// Makes keys that sign modules
    Key(seal::Key),
    /// Signs a module, so that daemons that trust the key accept it
    Sign(seal::Sign),
    /// Calls a model on the daemon
    Infer(infer::Infer),
    /// Lists the daemon's models
    Models(models::Models),
    /// Loads a model on the daemon
    Load(models::Load),
    /// Unloads a model from the daemon
    Unload(models::Unload),
    /// Names a version of a model on the daemon, for requests to use in place of its number
    Label(models::Label),
    /// Deletes an uploaded model from the daemon
    Delete(models::Delete),
    /// Shows what the daemon is doing, again and again
    Top(top::Top),
    /// Lists the requests that the daemon keeps, or shows where the time of one went
    Trace(trace::Trace),
    /// Shows where the time of a model's next requests on the daemon goes, kernel by kernel
    Profile(profile::Profile),
    /// Lists the daemon's devices
    Devices(devices::Devices),
    /// Says what holds on this machine: sandbox layers, CPU features, worker programs
    Doctor(doctor::Doctor),
    /// Writes a shell's completion script
    Completions(completions::Completions),
}

pub(crate) fn run(arguments: Arguments) -> Result<ExitCode> {
    let Arguments { daemon, command } = arguments;
    match command {
        Command::Serve(serve) => return serve.run(),
        Command::Completions(completions) => return completions.run(),
        Command::Inspect(inspect) => return inspect.run(),
        Command::Config(config) => return config.run("config"),
        Command::Token(token) => return token.run("token"),
        Command::Key(key) => return key.run(),
        Command::Sign(sign) => return sign.run(),
        _ => {}
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("cannot start the asynchronous runtime")?;
    let ended = runtime.block_on(async {
        match command {
            Command::Serve(_) | Command::Completions(_) | Command::Inspect(_) => Ok(ExitCode::SUCCESS),
            Command::Config(_) | Command::Token(_) | Command::Key(_) | Command::Sign(_) => {
                Ok(ExitCode::SUCCESS)
            }
            Command::Push(push) => push.run(&daemon.connect().await?).await,
            Command::Compile(compile) => compile.run().await,
            Command::Explain(explain) => explain.run().await,
            Command::Run(run) => run.run().await,
            Command::Bench(bench) => bench.run().await,
            Command::Tune(tune) => tune.run().await,
            Command::Verify(verify) => verify.run().await,
            Command::Infer(infer) => infer.run(&daemon.connect().await?).await,
            Command::Models(models) => models.run(&daemon.connect().await?).await,
            Command::Load(load) => load.run(&daemon.connect().await?).await,
            Command::Unload(unload) => unload.run(&daemon.connect().await?).await,
            Command::Label(label) => label.run(&daemon.connect().await?).await,
            Command::Delete(delete) => delete.run(&daemon.connect().await?).await,
            Command::Top(top) => top.run(&daemon.connect().await?).await,
            Command::Trace(trace) => trace.run(&daemon.connect().await?).await,
            Command::Profile(profile) => profile.run(&daemon.connect().await?).await,
            Command::Devices(devices) => devices.run(&daemon.connect().await?).await,
            Command::Doctor(doctor) => doctor.run().await,
        }
    });
    ended.map_err(|error| match error.downcast_ref() {
        Some(ClientError::NotGrpc) => {
            error.context(format!("`{}` does not speak gRPC; is it the REST port?", daemon.server))
        }
        _ => error,
    })
}

/// A daemon's text as a part of a line.
fn one_line(text: &str) -> String {
    printable(text).replace(char::is_control, "\u{fffd}")
}

/// A time as people read it.
fn human_time(time: Duration) -> String {
    match time.as_secs_f64() {
        seconds if seconds < 1e-3 => format!("{:.1} µs", seconds * 1e6),
        seconds if seconds < 1.0 => format!("{:.2} ms", seconds * 1e3),
        seconds => format!("{seconds:.2} s"),
    }
}

/// A number of bytes as people read it.
fn human_bytes(bytes: u64) -> String {
    indicatif::HumanBytes(bytes).to_string()
}
