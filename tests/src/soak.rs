//! `cargo xtask soak`: what a daemon can do, then a share of that for a long time. Latency counts from when a request was due,
//! so that a daemon that stands still is not asked less.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use ired_client::Client;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::chaos::{Question, output, questions};
use crate::daemon::{Daemon, Doors};
use crate::digits;
use crate::vitals::resident_bytes;

/// Connections, and clients at once while it is measured what the daemon can do.
const CLIENTS: usize = 16;
/// Before anything counts: caches fill, allocators learn.
const WARM_UP: Duration = Duration::from_secs(20);
/// Requests under way at once; one that is due beyond that waits, and that counts.
const UNDER_WAY: usize = 4096;
const PARTS: usize = 5;
/// How much worse the last part may be than the first.
const LATENCY: f64 = 1.1;
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

/// A fifth of the time.
#[derive(Debug, Default)]
struct Part {
    latencies_us: Vec<u32>,
    resident_bytes: u64,
}

impl Soak {
    /// `false` when latency or memory have grown by more than they may.
    pub async fn run(self) -> Result<bool> {
        ensure!(self.load > 0.0 && self.load < 1.0, "`--load` is {}, not between 0 and 1", self.load);
        ensure!(self.minutes > 0.0, "`--minutes` is {}", self.minutes);
        let work = tempfile::tempdir()?;
        let daemon = daemon(&self.binaries, work.path())?;
        let client = daemon.client().await?;
        digits::push(&client, "digits").await?;
        let questions = Arc::new(questions(&client, "digits").await?);
        let mut clients = Vec::new();
        for _ in 0..CLIENTS {
            clients.push(daemon.client().await?);
        }
        capacity(&clients, &questions, WARM_UP).await?;
        let per_second = capacity(&clients, &questions, WARM_UP).await?;
        let rate = per_second * self.load;
        println!("{per_second:.0} requests per second at {CLIENTS} clients; asked for {rate:.0}");
        let parts = self.ask(&daemon, &clients, &questions, rate).await?;
        ensure!(daemon.stop()?.success(), "the daemon ended badly");
        Ok(judge(&parts))
    }

    /// Asks at a steady rate, whatever the answers take.
    async fn ask(
        &self,
        daemon: &Daemon,
        clients: &[Client],
        questions: &Arc<Vec<Question>>,
        rate: f64,
    ) -> Result<Vec<Part>> {
        let part = Duration::from_secs_f64(self.minutes * 60.0 / PARTS as f64);
        let under_way = Arc::new(Semaphore::new(UNDER_WAY));
        let mut parts = Vec::new();
        let begin = Instant::now();
        let mut number = 0u64;
        for at in 0..PARTS {
            let end = begin + part * u32::try_from(at + 1)?;
            let latencies = Arc::new(Mutex::new(Vec::new()));
            let mut asking = JoinSet::new();
            loop {
                let due = begin + Duration::from_secs_f64(number as f64 / rate);
                if due >= end {
                    break;
                }
                number += 1;
                if due > Instant::now() {
                    tokio::time::sleep_until(due.into()).await;
                }
                while let Some(ended) = asking.try_join_next() {
                    ended??;
                }
                let place = under_way.clone().acquire_owned().await?;
                let client = clients[number as usize % clients.len()].clone();
                let (questions, latencies) = (questions.clone(), latencies.clone());
                asking.spawn(async move {
                    let question = &questions[number as usize % questions.len()];
                    ask_one(&client, question).await?;
                    let took = u32::try_from(due.elapsed().as_micros()).unwrap_or(u32::MAX);
                    latencies.lock().unwrap_or_else(PoisonError::into_inner).push(took);
                    drop(place);
                    anyhow::Ok(())
                });
            }
            while let Some(ended) = asking.join_next().await {
                ended??;
            }
            let mut latencies_us =
                std::mem::take(&mut *latencies.lock().unwrap_or_else(PoisonError::into_inner));
            latencies_us.sort_unstable();
            let found = Part { latencies_us, resident_bytes: resident_bytes(daemon.pid())? };
            println!("part {}: {found}", at + 1);
            parts.push(found);
        }
        Ok(parts)
    }
}

impl Part {
    fn percentile(&self, share: f64) -> u32 {
        let at = (self.latencies_us.len() as f64 * share) as usize;
        self.latencies_us.get(at.min(self.latencies_us.len().saturating_sub(1))).copied().unwrap_or(0)
    }
}

impl std::fmt::Display for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (p50, p99) = (self.percentile(0.5), self.percentile(0.99));
        let mib = self.resident_bytes as f64 / f64::from(1 << 20);
        write!(f, "{} answers, p50 {p50} us, p99 {p99} us, {mib:.1} MiB resident", self.latencies_us.len())
    }
}

fn judge(parts: &[Part]) -> bool {
    let (Some(first), Some(last)) = (parts.first(), parts.last()) else { return false };
    let latency = f64::from(last.percentile(0.99)) / f64::from(first.percentile(0.99).max(1));
    let memory = last.resident_bytes as f64 / first.resident_bytes as f64;
    println!("p99 of the last part: {latency:.2} x that of the first, at most {LATENCY}");
    println!("memory at the end: {memory:.3} x that after the first part, at most {MEMORY}");
    latency <= LATENCY && memory <= MEMORY
}

/// Answers per second where each client asks as soon as it has its answer.
async fn capacity(clients: &[Client], questions: &Arc<Vec<Question>>, time: Duration) -> Result<f64> {
    let (begin, answered) = (Instant::now(), Arc::new(AtomicU64::new(0)));
    let mut asking = JoinSet::new();
    for (number, client) in clients.iter().enumerate() {
        let (client, questions, answered) = (client.clone(), questions.clone(), answered.clone());
        asking.spawn(async move {
            let mut at = number;
            while begin.elapsed() < time {
                ask_one(&client, &questions[at % questions.len()]).await?;
                answered.fetch_add(1, Ordering::Relaxed);
                at += 1;
            }
            anyhow::Ok(())
        });
    }
    while let Some(ended) = asking.join_next().await {
        ended??;
    }
    Ok(answered.load(Ordering::Relaxed) as f64 / begin.elapsed().as_secs_f64())
}

async fn ask_one(client: &Client, question: &Question) -> Result<()> {
    let response = client.infer(question.request.clone()).await.context("a request was not answered")?;
    ensure!(
        output(&response)? == question.answer,
        "a wrong answer to {:?}",
        question.request.inputs[0].shape
    );
    Ok(())
}

fn daemon(binaries: &Path, work: &Path) -> Result<Daemon> {
    let ired =
        binaries.canonicalize().with_context(|| format!("no folder `{}`", binaries.display()))?.join("ired");
    // Requests that are late are to be seen, not refused.
    Daemon::start_by(Command::new(ired), &Doors::free()?, work, &["--set", "queue_limit=100000"])
}
