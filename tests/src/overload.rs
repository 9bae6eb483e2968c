//! `cargo xtask overload`: what a daemon can do, and what is left of that when it is asked for several times as much. What it
//! does not answer it has to refuse: at once, and with a hint when to come again.
//!
//! The daemon and its workers have one half of the processors, those who ask them the other: else it would be measured how
//! they take them from each other. All is done in turns and several times, for a machine is not always the same.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use ired_client::{Client, ClientError};

use crate::chaos::{Question, output};
use crate::daemon::{Daemon, Doors};
use crate::load::{median, peak, percentile, steadily};
use crate::{dense, digits};

/// Connections, and clients at once while it is measured what the daemon can do.
const CLIENTS: usize = 32;
/// Before anything counts.
const WARM_UP: Duration = Duration::from_secs(5);
/// How many times as much the daemon is asked for as it can do. The first is judged; the last is to be looked at: such a
/// flood may be more than these clients can send, or a network can carry.
const TIMES: [f64; 2] = [3.0, 12.0];
/// What is asked, and the least share of what the daemon can do that it then does. Requests of both have as many bytes, and
/// a refusal costs what it costs to read them: about a tenth of a light answer, and next to nothing of a heavy one.
const LOADS: [(Load, f64); 2] = [(Load::Light, 0.7), (Load::Heavy, 0.9)];
/// Of the layers of the heavy model.
const WIDTH: usize = 1024;
/// The least share of the requests that were due which have to be sent, or it is not known what was measured.
const SENT: f64 = 0.9;
/// tonic's code.
const RESOURCE_EXHAUSTED: i32 = 8;

/// What to do.
#[derive(clap::Parser, Debug)]
#[command(name = "cargo xtask overload")]
pub struct Overload {
    /// How long each measurement takes, in seconds
    #[arg(long, default_value_t = 5.0)]
    seconds: f64,
    /// How often all are made; what is in the middle counts
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Images of 256 bytes in one request, which make it larger and longer
    #[arg(long, default_value_t = 256)]
    images: usize,
    /// Where `ired` and its workers are
    #[arg(long, value_name = "DIR")]
    binaries: PathBuf,
}

#[derive(Clone, Copy, Debug)]
enum Load {
    /// The digit classifier.
    Light,
    /// Wide layers.
    Heavy,
}

/// How requests ended; times in microseconds.
#[derive(Debug, Default)]
struct Heard {
    answered: Vec<u32>,
    refused: Vec<u32>,
    /// Answers that came while requests were made.
    in_time: u64,
    without_hint: u64,
    sent: u64,
}

/// What came of one measurement.
#[derive(Clone, Copy, Debug)]
struct Measured {
    /// Of what the daemon can do.
    goodput: f64,
    sent: f64,
    answered_p50_us: f64,
    refused_p50_us: f64,
    refused_p99_us: f64,
}

impl Overload {
    /// `false` when the daemon does less than it should, or refuses without a hint or slowly.
    ///
    /// # Errors
    /// A wrong answer, an error that is no refusal, a daemon that ends badly.
    pub async fn run(self) -> Result<bool> {
        let work = tempfile::tempdir()?;
        let daemon = on_half_of_the_processors(&self.binaries, work.path())?;
        let mut clients = Vec::new();
        for _ in 0..CLIENTS {
            clients.push(daemon.client().await?);
        }
        let mut good = true;
        for (load, least) in LOADS {
            good &= self.under(load, least, &clients, work.path()).await?;
        }
        ensure!(daemon.stop()?.success(), "the daemon ended badly");
        Ok(good)
    }

    async fn under(&self, load: Load, least: f64, clients: &[Client], work: &Path) -> Result<bool> {
        let questions = Arc::new(load.questions(&clients[0], self.images, work).await?);
        peak(clients, &questions, WARM_UP).await?;
        let time = Duration::from_secs_f64(self.seconds);
        let mut rounds = TIMES.map(|_| Vec::new());
        let mut without_hint = 0;
        for round in 1..=self.rounds {
            let able = peak(clients, &questions, time).await?;
            println!(
                "{load:?}, round {round}: {able:.0} requests of {} images per second at {CLIENTS} clients",
                self.images
            );
            for (times, measured) in TIMES.iter().zip(&mut rounds) {
                let heard = flood(clients, &questions, able * times, time).await?;
                without_hint += heard.without_hint;
                let found = heard.measured(able, able * times, time);
                println!("  {times:>2} x: {found}");
                measured.push(found);
            }
        }
        println!("{without_hint} refusals without a hint when to come again");
        let mut good = without_hint == 0;
        for (number, (times, measured)) in TIMES.iter().zip(&rounds).enumerate() {
            let middle = |of: fn(&Measured) -> f64| median(measured.iter().map(of));
            let (goodput, sent) = (middle(|m| m.goodput), middle(|m| m.sent));
            let quick = middle(|m| m.refused_p99_us) < middle(|m| m.answered_p50_us);
            let quickly = if quick { "sooner" } else { "later" };
            println!(
                "asked for {:.1} x as much: {goodput:.2} of what it can do; refusals come {quickly} than answers",
                times * sent
            );
            if number == 0 {
                ensure!(sent >= SENT, "only {sent:.2} of what was due could be sent: nothing was measured");
                println!("  at least {least}, and sooner");
                good &= quick && goodput >= least;
            }
        }
        Ok(good)
    }
}

impl Heard {
    fn measured(mut self, able: f64, rate: f64, time: Duration) -> Measured {
        self.answered.sort_unstable();
        self.refused.sort_unstable();
        let at = |sorted: &[u32], share| f64::from(percentile(sorted, share));
        Measured {
            goodput: self.in_time as f64 / time.as_secs_f64() / able,
            sent: self.sent as f64 / time.as_secs_f64() / rate,
            answered_p50_us: at(&self.answered, 0.5),
            refused_p50_us: at(&self.refused, 0.5),
            refused_p99_us: at(&self.refused, 0.99),
        }
    }
}

impl std::fmt::Display for Measured {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { goodput, sent, answered_p50_us, refused_p50_us, refused_p99_us } = self;
        write!(
            f,
            "{goodput:.2} of that answered (p50 {:.0} ms), the rest refused in {:.1} ms (p99 {:.0} ms); {sent:.2} sent in time",
            answered_p50_us / 1e3,
            refused_p50_us / 1e3,
            refused_p99_us / 1e3
        )
    }
}

/// Asks at a rate that is far too high.
async fn flood(
    clients: &[Client],
    questions: &Arc<Vec<Question>>,
    rate: f64,
    time: Duration,
) -> Result<Heard> {
    let heard = Arc::new(Mutex::new(Heard::default()));
    let end = Instant::now() + time;
    steadily(rate, time, |number, _| {
        let at = number as usize;
        let client = clients[at % clients.len()].clone();
        let (questions, heard) = (questions.clone(), heard.clone());
        async move {
            let question = &questions[at % questions.len()];
            let sent = Instant::now();
            let result = client.infer(question.request.clone()).await;
            let took = u32::try_from(sent.elapsed().as_micros()).unwrap_or(u32::MAX);
            let mut heard = heard.lock().unwrap_or_else(PoisonError::into_inner);
            heard.sent += u64::from(sent < end);
            match result {
                Ok(response) => {
                    ensure!(output(&response)? == question.answer, "a wrong answer");
                    heard.in_time += u64::from(Instant::now() < end);
                    heard.answered.push(took);
                }
                Err(ClientError::Call { code, retry_after, .. }) if code as i32 == RESOURCE_EXHAUSTED => {
                    heard.without_hint += u64::from(retry_after.is_none());
                    heard.refused.push(took);
                }
                Err(error) => bail!("neither an answer nor a refusal: {error:?}"),
            }
            Ok(())
        }
    })
    .await?;
    Ok(std::mem::take(&mut *heard.lock().unwrap_or_else(PoisonError::into_inner)))
}

impl Load {
    /// Some requests of so many images, and what a daemon answers that nothing disturbs.
    async fn questions(self, client: &Client, images: usize, work: &Path) -> Result<Vec<Question>> {
        match self {
            Self::Light => drop(digits::push(client, "light").await?),
            Self::Heavy => {
                let file = work.join("heavy.onnx");
                std::fs::write(&file, dense::model(WIDTH))?;
                digits::push_file(client, "heavy", &file).await?;
            }
        }
        let (pixels, _) = digits::samples()?;
        let mut questions = Vec::new();
        for from in 0..8 {
            let rows: Vec<f32> = pixels.iter().copied().cycle().skip(from * 64).take(images * 64).collect();
            let mut request = digits::request("light", &rows);
            if let Self::Heavy = self {
                request.model = "heavy".into();
                request.inputs[0].name = "x".into();
                request.inputs[0].shape = vec![images as u64, dense::INPUT as u64];
            }
            let answer: Bytes = output(&client.infer(request.clone()).await?)?;
            questions.push(Question { request, answer, samples: 0..0 });
        }
        Ok(questions)
    }
}

/// Starts a daemon on the first half of the processors that this process may use, and keeps to the second.
fn on_half_of_the_processors(binaries: &Path, work: &Path) -> Result<Daemon> {
    let ired =
        binaries.canonicalize().with_context(|| format!("no folder `{}`", binaries.display()))?.join("ired");
    let processors = processors()?;
    let (first, second) = processors.split_at(processors.len() / 2);
    ensure!(!first.is_empty(), "one processor is too few: the daemon needs its own");
    let list = |half: &[u32]| half.iter().map(u32::to_string).collect::<Vec<_>>().join(",");
    println!("the daemon has processors {}, its clients {}", list(first), list(second));
    let mut command = Command::new("taskset");
    command.args(["--cpu-list", &list(first)]).arg(ired);
    let daemon = Daemon::start_by(command, &Doors::free()?, work, &[])?;
    let status = Command::new("taskset")
        .args(["--all-tasks", "--cpu-list", "--pid", &list(second), &std::process::id().to_string()])
        .stdout(Stdio::null())
        .status()
        .context("cannot run `taskset`")?;
    ensure!(status.success(), "`taskset` failed: {status}");
    Ok(daemon)
}

/// Those that this process may use.
fn processors() -> Result<Vec<u32>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    let mut processors = Vec::new();
    for part in list.context("no list of processors")?.trim().split(',') {
        let (from, to) = part.split_once('-').unwrap_or((part, part));
        processors.extend(from.parse::<u32>()?..=to.parse()?);
    }
    Ok(processors)
}
