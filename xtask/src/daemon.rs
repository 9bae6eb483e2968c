//! A daemon of our own, on free ports and with its data in a folder that goes.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::process::{run as command, target_dir};

/// How long a daemon may take to load its models: those of a suite are compiled first.
const START: Duration = Duration::from_secs(300);

/// A running daemon; killed on drop unless it was stopped.
pub(crate) struct Daemon {
    process: Child,
    pub(crate) grpc: String,
    pub(crate) rest: String,
}

impl Daemon {
    /// Starts `ired` with its data and its log in `work`; returns when it is ready.
    pub(crate) fn start(binaries: &Path, work: &Path, arguments: &[&str]) -> Result<Self> {
        let [grpc, rest, metrics] = free_addresses()?;
        let log = std::fs::File::create(work.join("ired.log"))?;
        let process = Command::new(binaries.join("ired"))
            .args(["--grpc", &grpc, "--http", &rest, "--metrics", &metrics, "--data-dir"])
            .arg(work.join("data"))
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("cannot start `ired`")?;
        let mut daemon = Self { process, grpc, rest };
        let deadline = Instant::now() + START;
        while ureq::get(daemon.url("/v2/health/ready")).call().is_err() {
            if let Some(status) = daemon.process.try_wait()? {
                bail!("`ired` ended: {status}\n{}", std::fs::read_to_string(work.join("ired.log"))?);
            }
            ensure!(Instant::now() < deadline, "`ired` is not ready after {} s", START.as_secs());
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(daemon)
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.rest)
    }

    /// Tells it to stop; gives how long that took.
    pub(crate) fn stop(mut self) -> Result<Duration> {
        let start = Instant::now();
        let kill = Command::new("kill").args(["-TERM", &self.process.id().to_string()]).status()?;
        ensure!(kill.success(), "cannot signal `ired`");
        while start.elapsed() < Duration::from_secs(20) {
            if let Some(status) = self.process.try_wait()? {
                ensure!(status.success(), "`ired` ended badly: {status}");
                return Ok(start.elapsed());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        bail!("`ired` did not end within 20 s of SIGTERM")
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if matches!(self.process.try_wait(), Ok(None)) {
            // Nothing is left to do when even this fails: the process belongs to the terminal then.
            let _ = self.process.kill();
            let _ = self.process.wait();
        }
    }
}

/// Builds the daemon and its workers; gives the folder that they are in.
pub(crate) fn build(release: bool) -> Result<PathBuf> {
    let mut build = vec!["build", "-p", "ired", "-p", "ired-compiler-worker", "-p", "ired-runtime-worker"];
    build.extend(release.then_some("--release"));
    command("cargo", &build)?;
    target_dir(if release { "release" } else { "debug" })
}

/// Addresses that are free now, each another: none is given back before all are found.
fn free_addresses() -> Result<[String; 3]> {
    let listen = || TcpListener::bind("127.0.0.1:0").context("cannot find a free port");
    let listeners = [listen()?, listen()?, listen()?];
    let [grpc, rest, metrics] = listeners.each_ref().map(TcpListener::local_addr);
    Ok([grpc?.to_string(), rest?.to_string(), metrics?.to_string()])
}
