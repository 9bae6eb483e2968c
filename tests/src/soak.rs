//! `cargo xtask soak`: what a daemon can do, then a share of that for a long time. Latency counts from when a request was due,
//! so that a daemon that stands still is not asked less.
//!
//! What else a machine does comes and goes, and makes the last part slower or faster than the first whatever the daemon does.
//! So at the end a daemon that has just been started is asked in turns with the one that has worked all the time: both have the
//! same machine, and only that comparison judges latency. The parts are printed beside it.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use ired_client::Client;

use crate::chaos::{Question, questions};
use crate::daemon::{Daemon, Doors};
use crate::digits;
use crate::load::{ask, median, peak, percentile, steadily};
use crate::vitals::resident_bytes;

/// Connections, and clients at once while it is measured what the daemon can do.
const CLIENTS: usize = 16;
/// Before anything counts: caches fill, allocators learn.
const WARM_UP: Duration = Duration::from_secs(20);
const PARTS: u32 = 5;
/// What is asked of one daemon without a pause.
const WINDOW: Duration = Duration::from_secs(5);
/// Windows of each of two daemons that are asked in turns.
const TURNS: usize = 15;
/// How much worse a daemon may be that has worked for long than one that has not.
const LATENCY: f64 = 1.1;
/// How much more memory there may be after the last part than after the first.
const MEMORY: f64 = 1.02;

/// What to do.
#[derive(clap::Parser, Debug)]
#[command(name = "cargo xtask soak")]
pub struct Soak {
    /// How long it takes
    #[arg(long, default_value_t = 20.0)]
    minutes: f64,
    /// The share of what the daemon can do that it is asked for
    #[arg(long, default_value_t = 0.7)]
    load: f64,
    /// Where `ired` and its workers are
    #[arg(long, value_name = "DIR")]
    binaries: PathBuf,
}

impl Soak {
    /// `false` when latency or memory have grown by more than they may.
    ///
    /// # Errors
    /// A request that is not answered or wrongly; a daemon that cannot be started or ends badly.
    pub async fn run(self) -> Result<bool> {
        ensure!(self.load > 0.0 && self.load < 1.0, "`--load` is {}, not between 0 and 1", self.load);
        ensure!(self.minutes > 0.0, "`--minutes` is {}", self.minutes);
        let work = tempfile::tempdir()?;
        let old = Asked::start(&self.binaries, &work.path().join("old")).await?;
        let per_second = peak(&old.clients, &old.questions, WARM_UP).await?;
        let rate = per_second * self.load;
        println!("{per_second:.0} requests per second at {CLIENTS} clients; asked for {rate:.0}");

        let mut parts = Vec::new();
        let windows =
            Duration::from_secs_f64(self.minutes * 60.0 / f64::from(PARTS)).div_duration_f64(WINDOW);
        for number in 1..=PARTS {
            let mut part = Part::default();
            for _ in 0..(windows.ceil() as usize).max(1) {
                part.windows.push(old.window(rate).await?);
            }
            part.resident_bytes = resident_bytes(old.daemon.pid())?;
            println!("part {number}: {part}");
            parts.push(part);
        }

        let new = Asked::start(&self.binaries, &work.path().join("new")).await?;
        let mut ratios = Vec::new();
        for _ in 0..TURNS {
            let (old, new) = (old.window(rate).await?, new.window(rate).await?);
            ratios.push(f64::from(percentile(&old, 0.99)) / f64::from(percentile(&new, 0.99).max(1)));
        }
        for asked in [old, new] {
            ensure!(asked.daemon.stop()?.success(), "a daemon ended badly");
        }
        judge(&parts, &ratios)
    }
}

/// A daemon with its clients.
struct Asked {
    daemon: Daemon,
    clients: Vec<Client>,
    questions: Arc<Vec<Question>>,
}

impl Asked {
    /// Starts a daemon and has it work for a while.
    async fn start(binaries: &Path, work: &Path) -> Result<Self> {
        let binaries =
            binaries.canonicalize().with_context(|| format!("no folder `{}`", binaries.display()))?;
        // Requests that are late are to be seen, not refused.
        let settings = ["--set", "queue_limit=100000"];
        let daemon = Daemon::start_by(Command::new(binaries.join("ired")), &Doors::free()?, work, &settings)?;
        let client = daemon.client().await?;
        digits::push(&client, "digits").await?;
        let questions = Arc::new(questions(&client, "digits").await?);
        let mut clients = Vec::new();
        for _ in 0..CLIENTS {
            clients.push(daemon.client().await?);
        }
        peak(&clients, &questions, WARM_UP).await?;
        Ok(Self { daemon, clients, questions })
    }

    /// Asks at a steady rate; gives the latencies in microseconds, sorted.
    async fn window(&self, rate: f64) -> Result<Vec<u32>> {
        let latencies = Arc::new(Mutex::new(Vec::new()));
        steadily(rate, WINDOW, |number, due| {
            let at = number as usize;
            let client = self.clients[at % self.clients.len()].clone();
            let (questions, latencies) = (self.questions.clone(), latencies.clone());
            async move {
                ask(&client, &questions[at % questions.len()]).await?;
                let took = u32::try_from(due.elapsed().as_micros()).unwrap_or(u32::MAX);
                latencies.lock().unwrap_or_else(PoisonError::into_inner).push(took);
                Ok(())
            }
        })
        .await?;
        let mut latencies = std::mem::take(&mut *latencies.lock().unwrap_or_else(PoisonError::into_inner));
        latencies.sort_unstable();
        Ok(latencies)
    }
}

/// A fifth of the time.
#[derive(Debug, Default)]
struct Part {
    windows: Vec<Vec<u32>>,
    resident_bytes: u64,
}

impl Part {
    /// Over all its requests.
    fn percentile(&self, share: f64) -> u32 {
        let mut all: Vec<u32> = self.windows.iter().flatten().copied().collect();
        all.sort_unstable();
        percentile(&all, share)
    }

    /// Of the window in the middle, which a moment's trouble does not change.
    fn middle_p99(&self) -> f64 {
        median(self.windows.iter().map(|window| f64::from(percentile(window, 0.99))))
    }
}

impl std::fmt::Display for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let answers: usize = self.windows.iter().map(Vec::len).sum();
        let (p50, p99, middle) = (self.percentile(0.5), self.percentile(0.99), self.middle_p99());
        let mib = self.resident_bytes as f64 / f64::from(1 << 20);
        write!(
            f,
            "{answers} answers, p50 {p50} us, p99 {p99} us, of the window in the middle {middle:.0} us, "
        )?;
        write!(f, "{mib:.1} MiB resident")
    }
}

fn judge(parts: &[Part], ratios: &[f64]) -> Result<bool> {
    let (first, last) = parts.first().zip(parts.last()).context("no part")?;
    let over_time = f64::from(last.percentile(0.99)) / f64::from(first.percentile(0.99).max(1));
    let middle = last.middle_p99() / first.middle_p99().max(1.0);
    let in_turns = median(ratios.iter().copied());
    let memory = last.resident_bytes as f64 / first.resident_bytes as f64;
    println!(
        "p99 of the last part: {over_time:.2} x that of the first; windows in the middle: {middle:.2} x"
    );
    println!("p99 in turns with a daemon that has just been started: {in_turns:.2} x, at most {LATENCY}");
    println!("memory at the end: {memory:.3} x that after the first part, at most {MEMORY}");
    Ok(in_turns <= LATENCY && memory <= MEMORY)
}
