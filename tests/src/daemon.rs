//! A real `ired` on free ports of 127.0.0.1, ended with its test.

use std::collections::BTreeSet;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use ired_client::Client;
use ired_client::proto::Model;

/// How long a daemon may take to start or to end, on a machine that does other things as well.
const PATIENCE: Duration = Duration::from_secs(300);

/// Where a daemon listens.
#[derive(Clone, Debug)]
pub struct Doors {
    pub grpc: String,
    pub rest: String,
    pub metrics: String,
}

impl Doors {
    /// Addresses that are free now.
    pub fn free() -> Result<Self> {
        Ok(Self { grpc: free_address()?, rest: free_address()?, metrics: free_address()? })
    }
}

/// A running daemon. Dropping it kills it.
pub struct Daemon {
    process: Child,
    log: PathBuf,
    pub grpc: String,
    pub rest: String,
    pub metrics: String,
}

impl Daemon {
    /// Starts a daemon that keeps its data in `data`, with further arguments, and waits until it is ready.
    pub fn start(data: &Path, arguments: &[&str]) -> Result<Self> {
        Self::start_by(Command::new(executable("ired")?), &Doors::free()?, data, arguments)
    }

    /// The same by a command that becomes a daemon once it has further arguments, at given addresses.
    pub fn start_by(mut command: Command, doors: &Doors, data: &Path, arguments: &[&str]) -> Result<Self> {
        std::fs::create_dir_all(data)?;
        let log = data.join("ired.log");
        let output = std::fs::File::options().create(true).append(true).open(&log)?;
        let Doors { grpc, rest, metrics } = doors.clone();
        let process = command
            .args(["--grpc", &grpc, "--http", &rest, "--metrics", &metrics, "--data-dir"])
            .arg(data.join("data"))
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .spawn()
            .context("cannot start `ired`")?;
        let mut daemon = Self { process, log, grpc, rest, metrics };
        let deadline = Instant::now() + PATIENCE;
        while ureq::get(format!("http://{}/v2/health/ready", daemon.rest)).call().is_err() {
            if let Some(status) = daemon.process.try_wait()? {
                bail!("`ired` ended: {status}\n{}", daemon.log_text());
            }
            ensure!(
                Instant::now() < deadline,
                "`ired` is not ready after {PATIENCE:?}\n{}",
                daemon.log_text()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(daemon)
    }

    pub async fn client(&self) -> Result<Client> {
        Ok(Client::connect(&self.grpc).await?)
    }

    /// Everything the daemon wrote.
    pub fn log_text(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// The value of a metric, the sum over its labels; `None` when there is no such metric.
    pub fn metric(&self, name: &str) -> Result<Option<f64>> {
        let text =
            ureq::get(format!("http://{}/metrics", self.metrics)).call()?.body_mut().read_to_string()?;
        let values = text.lines().filter_map(|line| {
            let rest = line.strip_prefix(name)?;
            rest.starts_with([' ', '{']).then(|| rest.rsplit(' ').next()?.parse::<f64>().ok()).flatten()
        });
        Ok(values.fold(None, |sum, value| Some(sum.unwrap_or(0.0) + value)))
    }

    /// The daemon's process.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Is the daemon's process still there?
    pub fn is_running(&mut self) -> Result<bool> {
        Ok(self.process.try_wait()?.is_none())
    }

    /// Asks the daemon to end, as a service manager does, and waits until it has.
    pub fn stop(mut self) -> Result<ExitStatus> {
        signal("TERM", self.process.id())?;
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.process.try_wait()? {
                return Ok(status);
            }
            ensure!(Instant::now() < deadline, "`ired` runs on after SIGTERM\n{}", self.log_text());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Takes the daemon away at once, as a power cut does.
    pub fn kill(mut self) -> Result<()> {
        self.process.kill()?;
        self.process.wait()?;
        Ok(())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // A process that ended before is no error here.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The process that holds the loaded `model`.
pub fn runtime_worker(models: &[Model], model: &str) -> Result<u32> {
    let found = models.iter().find(|m| m.name == model).with_context(|| format!("no model `{model}`"))?;
    let module =
        found.module.as_ref().with_context(|| format!("`{model}` is not loaded: {}", found.reason))?;
    Ok(module.worker_pid)
}

/// Sends a signal to a process that a daemon of this test started.
pub fn signal(name: &str, pid: u32) -> Result<()> {
    let status = Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).status()?;
    ensure!(status.success(), "cannot signal process {pid}");
    Ok(())
}

/// A program of the workspace, in the folder that cargo built this test into.
pub fn executable(name: &str) -> Result<PathBuf> {
    let here = std::env::current_exe()?;
    let folder = here.ancestors().find(|folder| folder.join(name).is_file());
    let folder =
        folder.with_context(|| format!("no `{name}`: run `cargo build --workspace --bins` first"))?;
    Ok(folder.join(name))
}

/// An address that is free now, and that nobody in this process was given before: who was may not listen there yet.
pub fn free_address() -> Result<String> {
    static GIVEN: Mutex<BTreeSet<SocketAddr>> = Mutex::new(BTreeSet::new());
    loop {
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        if GIVEN.lock().unwrap_or_else(PoisonError::into_inner).insert(address) {
            return Ok(address.to_string());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_address_is_given_twice() {
        let given = (0..3000).map(|_| free_address().unwrap()).collect::<BTreeSet<_>>();
        assert_eq!(given.len(), 3000);
    }
}
