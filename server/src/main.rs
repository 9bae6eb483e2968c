//! `ired`: reads the settings, starts the daemon, stops it on a signal.

use std::io::IsTerminal;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use clap::Parser;
use ired::auth::Token;
use ired::config::{Command, ConfigCommand, Loaded, LogFormat};
use ired::engine::workers::{WorkerCompiler, WorkerLauncher};
use ired::{Arguments, Daemon, Settings};
use tokio::runtime::{Handle, Runtime};
use tokio::signal::unix::{SignalKind, signal};

mod service_manager;

/// Gives back to the system what a burst of requests needed, which glibc's keeps for as long as the daemon runs.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

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
    let mut arguments = Arguments::parse();
    match arguments.command.take() {
        None => serve(Loaded::from_process(arguments)?),
        Some(Command::Config(ConfigCommand::Check { file })) => {
            arguments.config = file.or(arguments.config);
            let loaded = Loaded::from_process(arguments)?;
            ired::daemon::check_files(&loaded.settings)?;
            loaded.warnings.iter().for_each(|warning| eprintln!("warning: {warning}"));
            println!("the settings are sound");
            Ok(())
        }
        Some(Command::Config(ConfigCommand::Show)) => {
            print!("{}", Loaded::from_process(arguments)?.show());
            Ok(())
        }
        Some(Command::Token { name, role, tenant, expires }) => {
            let token = Token::generate().context("there are no random numbers")?;
            eprintln!("# The token, which is shown only now:");
            println!("{token}");
            let entry = token.entry(&name, &role, tenant.as_deref(), expires.as_deref());
            eprintln!("# What to add to the access file:\n{entry}");
            Ok(())
        }
    }
}

fn serve(loaded: Loaded) -> anyhow::Result<()> {
    let settings = loaded.settings;
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    match settings.log_format {
        LogFormat::Text => {
            let colours = std::io::stderr().is_terminal();
            ired::logging::start(&settings.log, lines.compact().with_target(false).with_ansi(colours))?;
        }
        LogFormat::Json => ired::logging::start(&settings.log, lines.json().flatten_event(true))?,
    }
    loaded.warnings.iter().for_each(|warning| tracing::warn!("{warning}"));
    let processors = std::thread::available_parallelism()?.get();
    // The messages of worker processes are short.
    let attending = runtime("ired-attend", processors.div_ceil(2))?;
    let doors = runtime("ired-door", processors)?;
    doors.block_on(run(settings, attending.handle().clone()))
}

fn runtime(name: &str, threads: usize) -> std::io::Result<Runtime> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.thread_name(name).worker_threads(threads).enable_all().build()
}

/// `attending` has the worker processes to attend to.
async fn run(settings: Settings, attending: Handle) -> anyhow::Result<()> {
    let compiler = Arc::new(WorkerCompiler::new(&settings)?);
    let launcher = Arc::new(WorkerLauncher::new(&settings, attending)?);
    // Before anything is started, so that no signal finds the default action.
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;

    let daemon = Daemon::start(settings, compiler, launcher).await?;
    tracing::info!(http = %daemon.http, grpc = %daemon.grpc, metrics = %daemon.metrics, "listening");
    let mut alive = service_manager::keep_alive();
    let mut wait_for_signal = Box::pin(async {
        loop {
            tokio::select! {
                _ = terminate.recv() => return,
                _ = interrupt.recv() => return,
                _ = hangup.recv() => daemon.reload(),
                never = &mut alive => match never {},
            }
        }
    });
    let started = tokio::select! {
        () = &mut wait_for_signal => Ok(()),
        started = daemon.started() => {
            if started.is_ok() {
                if daemon.app.is_ready() {
                    tracing::info!("ready");
                }
                // The start has ended, which is what a service manager waits for.
                service_manager::tell_ready();
                wait_for_signal.as_mut().await;
            }
            started
        }
    };
    drop(wait_for_signal);
    service_manager::tell_stopping();
    // Whoever watches over this process learns through the drain that it lives.
    let alive = service_manager::keep_alive();
    tokio::select! {
        () = daemon.stop() => {}
        never = alive => match never {},
    }
    started
}
