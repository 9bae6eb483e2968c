//! `ired`: reads the settings, starts the daemon, stops it on a signal.

use std::io::IsTerminal;
use std::process::ExitCode;
use std::sync::Arc;

use clap::Parser;
use ired::engine::workers::{WorkerCompiler, WorkerLauncher};
use ired::{Arguments, Daemon, Settings};
use tokio::signal::unix::{SignalKind, signal};

fn main() -> ExitCode {
    match start() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            for cause in error.chain().skip(1) {
                eprintln!("  because: {cause}");
            }
            ExitCode::FAILURE
        }
    }
}

fn start() -> anyhow::Result<()> {
    let settings = Settings::load(Arguments::parse())?;
    let lines = tracing_subscriber::fmt::layer()
        .compact()
        .with_target(false)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    ired::logging::start(&settings.log, lines)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(run(settings))
}

async fn run(settings: Settings) -> anyhow::Result<()> {
    let compiler = Arc::new(WorkerCompiler::new(&settings)?);
    let launcher = Arc::new(WorkerLauncher::new(&settings)?);
    // Before anything is started, so that no signal finds the default action.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;

    let daemon = Daemon::start(settings, compiler, launcher).await?;
    tracing::info!(http = %daemon.http, grpc = %daemon.grpc, metrics = %daemon.metrics, "listening");
    let wait_for_signal = async {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    };
    tokio::pin!(wait_for_signal);
    let started = tokio::select! {
        () = &mut wait_for_signal => Ok(()),
        started = daemon.started() => {
            if started.is_ok() {
                tracing::info!("ready");
                wait_for_signal.await;
            }
            started
        }
    };
    daemon.stop().await;
    started
}
