//! Starting processes, hearing them, and starting the next when one dies: at once after a single death, with growing
//! pauses when they keep dying.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::fs::fstat;
use tokio::time::{sleep, timeout};

use super::RuntimeConfig;
use super::connection::Connection;
use super::shared::Shared;
use crate::channel::ChannelError;
use crate::confine::Confinement;
use crate::executable::cores;
use crate::messages::full_text;
use crate::messages::handshake::Role;
use crate::messages::runtime::{FromRuntime, LoadedModule, RuntimeFailure, RuntimeOptions, ToRuntime};
use crate::messages::sandbox::SandboxReport;
use crate::process::{Launched, Process, launch};

/// Everything a process is started from, the first as the last.
#[derive(Debug)]
pub(super) struct Start {
    pub(super) config: RuntimeConfig,
    pub(super) module: OwnedFd,
    pub(super) options: RuntimeOptions,
    /// Of one process. The parent counts cores: a confined process does not see the limits of its container.
    threads: u32,
}

/// A process that has loaded the module.
#[derive(Debug)]
pub(super) struct Live {
    process: Process,
    connection: Arc<Connection>,
    sandbox: SandboxReport,
}

impl Start {
    pub(super) fn new(config: RuntimeConfig, module: OwnedFd, options: RuntimeOptions) -> Self {
        let own = options.cores.as_ref().map_or(u32::MAX, |cores| cores.count() as u32);
        let threads = options.threads.unwrap_or_else(cores).min(own);
        Self { config, module, options, threads }
    }

    /// How many requests a process runs at once.
    pub(super) fn runners(&self) -> usize {
        if self.options.pin { 1 } else { self.threads.max(1) as usize }
    }

    /// Starts a process and loads the module in it.
    pub(super) async fn launch(&self) -> Result<(Live, LoadedModule), RuntimeFailure> {
        let limit = self.config.start_timeout;
        let late = || RuntimeFailure::Unavailable { reason: format!("not loaded within {limit:?}") };
        timeout(limit, self.launch_and_load()).await.unwrap_or_else(|_| Err(late()))
    }

    async fn launch_and_load(&self) -> Result<(Live, LoadedModule), RuntimeFailure> {
        let load_error = |message: String| RuntimeFailure::Load { message };
        let size = fstat(&self.module).map_err(|errno| load_error(errno.to_string()))?.st_size;
        let confinement = Confinement {
            require: self.config.require_sandbox,
            memory_bytes: self.config.memory_bytes,
            mapped_bytes: u64::try_from(size).unwrap_or_default(),
            cpu: None,
            file_bytes: None,
        };
        let launched = launch(&self.config.executable, Role::Runtime, confinement).await;
        let launched = launched.map_err(|error| match error.is_protocol() {
            true => RuntimeFailure::Protocol { message: full_text(&error) },
            false => RuntimeFailure::Unavailable { reason: full_text(&error) },
        })?;
        let Launched { mut process, sender, mut receiver, sandbox } = launched;
        let module = self.module.try_clone().map_err(|error| load_error(error.to_string()))?;
        let options = RuntimeOptions { threads: Some(self.threads), ..self.options.clone() };
        let loaded = match sender.send(&ToRuntime::Load(options), vec![module]) {
            Ok(()) => receiver.receive::<FromRuntime>().await,
            Err(error) => Err(error),
        };
        match loaded {
            Ok((FromRuntime::Loaded(loaded), _)) => {
                let connection = Connection::new(sender, receiver);
                Ok((Live { process, connection, sandbox }, loaded?))
            }
            Ok(_) => Err(RuntimeFailure::Protocol { message: "no answer to the first message".to_owned() }),
            Err(ChannelError::Closed) => {
                Err(RuntimeFailure::Unavailable { reason: obituary(&mut process).await })
            }
            Err(error) => Err(RuntimeFailure::Protocol { message: error.to_string() }),
        }
    }
}

/// Serves until the worker is closed.
pub(super) async fn run(shared: Arc<Shared>, live: Live) {
    let mut live = Some(live);
    tokio::select! {
        () = serve_forever(&shared, &mut live) => {}
        () = shared.closing.notified() => {}
    }
    if let Some(mut live) = live {
        live.process.kill();
        if let Err(error) = live.process.wait().await {
            tracing::warn!(%error, "a runtime worker cannot be waited for");
        }
    }
}

async fn serve_forever(shared: &Shared, slot: &mut Option<Live>) {
    let config = &shared.start.config;
    let mut deaths: u32 = 0;
    while let Some(live) = slot.as_mut() {
        let since = Instant::now();
        let pid = live.process.pid();
        shared.serve(Arc::clone(&live.connection), pid, live.sandbox.clone());
        let grace = config.cancel_grace;
        let connection = Arc::clone(&live.connection);
        let wrong = tokio::select! {
            never = shared.give_back_when_idle(&connection) => match never {},
            wrong = connection.hear(shared) => wrong,
            () = shared.runaway(grace) => Some(format!("busy with an unwanted request for more than {grace:?}")),
        };
        if wrong.is_some() {
            live.process.kill();
        }
        live.connection.stop();
        let death = obituary(&mut live.process).await;
        let mut reason = wrong.unwrap_or(death);
        tracing::warn!(pid, %reason, "a runtime worker ended");
        *slot = None;
        shared.lost(&reason);
        deaths = if since.elapsed() >= config.stable_after { 1 } else { deaths.saturating_add(1) };
        while slot.is_none() {
            if let Some(pause) = backoff(config, deaths) {
                shared.down(&reason, pause);
                sleep(pause).await;
                shared.starting();
            }
            match shared.start.launch().await {
                Ok((next, _)) => *slot = Some(next),
                Err(error) => {
                    reason = error.to_string();
                    tracing::warn!(%reason, deaths, "a runtime worker cannot be restarted");
                    deaths = deaths.saturating_add(1);
                    shared.lost(&reason);
                }
            }
        }
    }
}

/// The pause before the next start: none after one death, then doubling.
fn backoff(config: &RuntimeConfig, deaths: u32) -> Option<Duration> {
    let doublings = deaths.checked_sub(2)?;
    let pause = config.first_backoff.saturating_mul(2u32.saturating_pow(doublings));
    Some(pause.min(config.longest_backoff))
}

/// Waits for the end of a process that closed its channel and says how it ended.
async fn obituary(process: &mut Process) -> String {
    const LAST_BREATH: Duration = Duration::from_secs(2);
    let ending = match timeout(LAST_BREATH, process.wait()).await {
        Ok(ending) => ending,
        Err(_) => {
            process.kill();
            process.wait().await
        }
    };
    let ending = ending.map_or_else(|error| error.to_string(), |ending| ending.to_string());
    match process.last_words().await {
        words if words.is_empty() => ending,
        words => format!("{ending}; it said: {words}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest() {
        let config = RuntimeConfig::new("worker");
        assert_eq!(backoff(&config, 1), None);
        assert_eq!(backoff(&config, 2), Some(config.first_backoff));
        assert_eq!(backoff(&config, 4), Some(config.first_backoff * 4));
        assert_eq!(backoff(&config, u32::MAX), Some(config.longest_backoff));
    }
}
