//! Engines as processes that load a model once and answer bursts, this one's `irectl bench --worker` among them.

use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use super::models::Case;
use super::{folder, irectl, python};
use crate::process::{root, run as command};

/// This engine, beside the others.
pub(super) const OURS: &str = "ired";

/// Engines that the Python worker knows.
const PYTHON_PEERS: &[&str] = &["onnxruntime", "openvino", "openvino_default", "iree"];

/// No burst takes longer.
const BURST_TIMEOUT: Duration = Duration::from_secs(300);

/// How to start each engine.
pub(super) struct Engines {
    irectl: PathBuf,
    python: PathBuf,
    tract: PathBuf,
    /// Where IREE's modules are kept.
    cache: PathBuf,
    load_timeout: Duration,
}

/// An engine with a model loaded; dropping it ends the process.
pub(super) struct Engine {
    process: Child,
    input: ChildStdin,
    answers: Receiver<String>,
    pub(super) ready: Ready,
}

/// What an engine says once its model has run.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Ready {
    #[serde(default)]
    pub(super) load_ms: f64,
    pub(super) version: Option<String>,
    #[serde(default)]
    pub(super) rss_kb: u64,
    /// Of a compiler that works ahead of time.
    pub(super) compile_ms: Option<f64>,
    pub(super) compile_rss_kb: Option<u64>,
}

#[derive(Deserialize)]
struct Burst {
    latencies_us: Vec<f64>,
}

impl Engines {
    /// Installs what `names` need.
    pub(super) fn new(names: &[String], cache: PathBuf, load_timeout: Duration) -> Result<Self> {
        for name in names {
            if !PYTHON_PEERS.contains(&name.as_str()) && name != "tract" && name != OURS {
                bail!("there is no engine `{name}`; expected {}, tract or {OURS}", PYTHON_PEERS.join(", "));
            }
        }
        let is_python = |name: &String| PYTHON_PEERS.contains(&name.as_str());
        let python = if names.iter().any(is_python) { python()? } else { PathBuf::new() };
        let tract = folder()?.join("tract");
        if names.iter().any(|name| name == "tract") {
            let manifest = root().join("benches/peers/tract/Cargo.toml");
            let (manifest, target) = (manifest.to_string_lossy(), tract.to_string_lossy());
            let arguments =
                ["build", "--release", "--locked", "--manifest-path", &manifest, "--target-dir", &target];
            command("cargo", &arguments)?;
        }
        std::fs::create_dir_all(&cache)?;
        Ok(Self { irectl: irectl()?, python, tract: tract.join("release/tract-peer"), cache, load_timeout })
    }

    /// Starts `name` on as many processors as threads, and waits until it has run the model.
    pub(super) fn start(&self, name: &str, case: &Case, threads: u32) -> Result<Engine> {
        let mut pinned = pinned(threads);
        pinned.env("OMP_NUM_THREADS", threads.to_string());
        let threads = threads.to_string();
        match name {
            OURS => {
                pinned.arg(&self.irectl).args(["bench", "--worker", "--threads", &threads, "--inputs"]);
                pinned.arg(&case.inputs).arg(&case.model);
            }
            "tract" => {
                pinned.arg(&self.tract).arg(&case.model).arg(&case.inputs).arg(&threads);
            }
            _ => {
                pinned.arg(&self.python).arg(root().join("benches/peers/peer.py")).arg(name);
                pinned.arg(&case.model).arg(&case.inputs).arg(&threads).arg(self.cache_of(&case.model));
            }
        }
        Engine::start(pinned, self.load_timeout)
    }

    /// One for each model, also of the same name in another folder.
    fn cache_of(&self, model: &Path) -> PathBuf {
        let name: String = model
            .to_string_lossy()
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() { c } else { '_' })
            .collect();
        self.cache.join(name)
    }
}

/// A command on the first so many processors, to be completed with what it runs.
pub(super) fn pinned(processors: u32) -> Command {
    let list = (0..processors).map(|cpu| cpu.to_string()).collect::<Vec<_>>().join(",");
    let mut command = Command::new("taskset");
    command.args(["-c", &list]);
    command
}

impl Engine {
    fn start(mut command: Command, timeout: Duration) -> Result<Self> {
        let mut process = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot run `taskset` (Debian: util-linux)")?;
        let input = process.stdin.take().context("a process has no input")?;
        let output = process.stdout.take().context("a process has no output")?;
        let (sender, answers) = mpsc::channel();
        std::thread::spawn(move || {
            // What is no JSON is an engine's own talk.
            let lines = BufReader::new(output).lines().map_while(Result::ok);
            for line in lines.filter(|line| line.starts_with('{')) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let mut errors = process.stderr.take().context("a process has no errors")?;
        let (said, complaint) = mpsc::channel();
        std::thread::spawn(move || {
            let mut text = Vec::new();
            // Read to the end, so that the process never waits for us; what cannot be read says nothing.
            let _ = errors.read_to_end(&mut text);
            let _ = said.send(String::from_utf8_lossy(&text).into_owned());
        });
        let ready = Ready { load_ms: 0.0, version: None, rss_kb: 0, compile_ms: None, compile_rss_kb: None };
        let mut engine = Self { process, input, answers, ready };
        match engine.answer(timeout) {
            Ok(ready) => engine.ready = ready,
            Err(error) => {
                engine.end();
                let complaint = complaint.recv_timeout(Duration::from_secs(5)).unwrap_or_default();
                let last = complaint.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
                let last: String = last.chars().take(200).collect();
                bail!("{error}: {last}");
            }
        }
        Ok(engine)
    }

    /// Latencies of iterations, in microseconds.
    pub(super) fn burst(&mut self, iterations: u64, budget: Duration) -> Result<Vec<f64>> {
        writeln!(self.input, "run {iterations} {}", budget.as_secs_f64() * 1e3)
            .and_then(|()| self.input.flush())
            .context("the engine has ended")?;
        let burst: Burst = self.answer(BURST_TIMEOUT)?;
        anyhow::ensure!(!burst.latencies_us.is_empty(), "a burst of no iterations");
        Ok(burst.latencies_us)
    }

    fn answer<T: for<'de> Deserialize<'de>>(&self, timeout: Duration) -> Result<T> {
        let line = match self.answers.recv_timeout(timeout) {
            Ok(line) => line,
            Err(RecvTimeoutError::Timeout) => bail!("no answer after {} s", timeout.as_secs()),
            Err(RecvTimeoutError::Disconnected) => bail!("failed"),
        };
        serde_json::from_str(&line).with_context(|| format!("unexpected answer `{line}`"))
    }

    fn end(&mut self) {
        // It may have ended by itself; nothing else is left to do when it cannot be.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.end();
    }
}
