//! `irectl tune`: measures ways to compute a model's kernels on this machine, and writes the fastest to a file.
//!
//! The compiler says what can be tuned and how. Every problem that takes time gets its next candidate in each round, and
//! is timed alone, in turns with what it is now: rounds are about as many as candidates, not problems times candidates.

mod entries;

use std::collections::BTreeMap;
use std::io::{Read, Seek, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use ired_worker::{CompileOptions, ExplainRequest, TargetRequest};

use super::bench::Session;
use crate::compile_args::CompileArgs;
use crate::local;
use crate::tensors::npz;
use entries::{Entries, Entry};

/// A candidate takes this share of the time, or less, to be chosen.
const WORTH_IT: f64 = 0.97;
/// A model that takes more than this share of its time with what was chosen does not get it. Kernels are timed more
/// reliably than models, most of which is something else.
const NO_SLOWER: f64 = 1.02;
/// Problems that take this share of all that can be tuned, the longest first, are.
const HOT: f64 = 0.95;
/// Times that each side of a comparison is measured, in turns.
const TURNS: usize = 4;
/// The second time, candidates vary what was chosen the first time.
const PASSES: usize = 2;

#[derive(clap::Args)]
pub(crate) struct Tune {
    /// The model, with its external data beside it.
    model: PathBuf,
    /// Inputs, an npz archive keyed by tensor name.
    #[arg(long, value_name = "NPZ")]
    inputs: PathBuf,
    /// Where the tuning file goes.
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    #[command(flatten)]
    how: CompileArgs,
    /// Threads that run kernels; all by default. What is best for one number may not be for another.
    #[arg(long)]
    threads: Option<u32>,
    /// No candidates are tried after this many seconds.
    #[arg(long, default_value_t = 300, value_name = "S")]
    budget_s: u64,
}

impl Tune {
    pub(crate) async fn run(self) -> Result<ExitCode> {
        ensure!(
            self.how.tuning.is_none(),
            "`irectl tune` begins without a tuning: `--tuning` goes with other commands"
        );
        let until = Instant::now() + Duration::from_secs(self.budget_s);
        let output = local::Output::create(&self.output)?;
        let usual = self.load("").await?;
        let mut chosen: BTreeMap<String, Entry> = BTreeMap::new();
        let mut header = String::new();
        for _ in 0..PASSES {
            let text = Entries::text(&header, chosen.values());
            let candidates = self.candidates(&text).await?;
            header.clone_from(&candidates.header);
            let better = match chosen.is_empty() {
                true => self.pass(&usual, candidates, &chosen, until).await?,
                false => {
                    let now = self.load(&text).await?;
                    let better = self.pass(&now, candidates, &chosen, until).await;
                    now.worker.shutdown().await;
                    better?
                }
            };
            let is_last = better.is_empty() || Instant::now() >= until;
            chosen.extend(better);
            if is_last {
                break;
            }
        }
        let chosen = self.confirm(&usual, &header, chosen).await?;
        if chosen.is_empty() {
            println!("nothing is faster than what the compiler does without a tuning");
        }
        usual.worker.shutdown().await;
        output
            .file()
            .write_all(Entries::text(&header, chosen.values()).as_bytes())
            .context("cannot write the tuning file")?;
        output.keep()?;
        Ok(ExitCode::SUCCESS)
    }

    /// What of the choices holds when they are measured again, all together: the least of many noisy times looks better than
    /// it is. Nothing does where the model as a whole is slower.
    async fn confirm(
        &self,
        usual: &Session,
        header: &str,
        mut chosen: BTreeMap<String, Entry>,
    ) -> Result<BTreeMap<String, Entry>> {
        if chosen.is_empty() {
            return Ok(chosen);
        }
        let mut tuned = self.load(&Entries::text(header, chosen.values())).await?;
        let (now_times, tuned_times) = compare(usual, &tuned).await?;
        let all = chosen.len();
        chosen.retain(|problem, _| {
            let both = now_times.get(problem).zip(tuned_times.get(problem));
            both.is_some_and(|(now, tuned)| is_worth_it(*now, *tuned))
        });
        println!("measured again, {} of {all} choices are faster", chosen.len());
        if chosen.len() < all {
            tuned.worker.shutdown().await;
            if chosen.is_empty() {
                return Ok(chosen);
            }
            tuned = self.load(&Entries::text(header, chosen.values())).await?;
        }
        let (now, other) = whole(usual, &tuned).await?;
        tuned.worker.shutdown().await;
        println!("the model takes {} without and {} with them", shown(now), shown(other));
        if other > now.mul_f64(NO_SLOWER) {
            chosen.clear();
        }
        Ok(chosen)
    }

    fn options(&self, tuning: &str) -> CompileOptions {
        let tuning = (!tuning.is_empty()).then(|| tuning.to_owned());
        CompileOptions { tuning, ..self.how.options() }
    }

    /// What can be tried, where the model is compiled with this tuning now.
    async fn candidates(&self, tuning: &str) -> Result<Entries> {
        let explain = ExplainRequest { candidates: true, ..ExplainRequest::default() };
        let options = CompileOptions { explain: Some(explain), ..self.options(tuning) };
        let mut file = tempfile::tempfile().context("cannot make a temporary file")?;
        local::compile(&self.model, TargetRequest::default(), options, &file, |_| ()).await?;
        let mut text = String::new();
        file.rewind()?;
        file.read_to_string(&mut text).context("cannot read the candidates")?;
        Ok(Entries::parse(&text))
    }

    async fn load(&self, tuning: &str) -> Result<Session> {
        let file = tempfile::tempfile().context("cannot make a temporary file")?;
        let start = Instant::now();
        local::compile(&self.model, TargetRequest::default(), self.options(tuning), &file, |_| ()).await?;
        let module = local::Module { file, compile_time: start.elapsed() };
        Session::load(&module, npz::Archive::open(&self.inputs)?, self.threads, true).await
    }

    /// Tries every candidate of every problem that takes time, and gives the best of each where that is worth it.
    async fn pass(
        &self,
        now: &Session,
        mut candidates: Entries,
        chosen: &BTreeMap<String, Entry>,
        until: Instant,
    ) -> Result<BTreeMap<String, Entry>> {
        let hot = hot(&times(now).await?);
        candidates.by_problem.retain(|problem, _| hot.contains(problem));
        let rounds = candidates.by_problem.values().map(Vec::len).max().unwrap_or(0);
        let mut least_now = BTreeMap::new();
        let mut best: BTreeMap<String, (Duration, Entry)> = BTreeMap::new();
        for round in 0..rounds {
            if Instant::now() >= until {
                eprintln!("the time is up: {} of {rounds} candidates were not tried", rounds - round);
                break;
            }
            let mut tried = chosen.clone();
            let all = candidates.by_problem.iter();
            let new: BTreeMap<String, Entry> =
                all.filter_map(|(p, entries)| Some((p.clone(), entries.get(round)?.clone()))).collect();
            tried.extend(new.clone());
            let other = self.load(&Entries::text(&candidates.header, tried.values())).await?;
            let (now_times, other_times) = compare(now, &other).await?;
            other.worker.shutdown().await;
            keep_least(&mut least_now, now_times);
            for (problem, entry) in new {
                let Some(time) = other_times.get(&problem) else { continue };
                if best.get(&problem).is_none_or(|(least, _)| time < least) {
                    best.insert(problem, (*time, entry));
                }
            }
        }
        println!("{:>10}  {:>10}  problem: choice", "now", "best other");
        let mut better = BTreeMap::new();
        for (problem, (other, entry)) in best {
            let Some(now) = least_now.get(&problem) else { continue };
            let is_better = is_worth_it(*now, other);
            let choice = if is_better { entry.choice() } else { "as it is".to_owned() };
            println!("{:>10}  {:>10}  {problem}: {choice}", shown(*now), shown(other));
            if is_better {
                better.insert(problem, entry);
            }
        }
        Ok(better)
    }
}

/// Least times by problem.
type Times = BTreeMap<String, Duration>;

fn is_worth_it(now: Duration, other: Duration) -> bool {
    other <= now.mul_f64(WORTH_IT)
}

/// How long each problem takes in the fastest of some iterations.
async fn times(session: &Session) -> Result<Times> {
    let result = session.measure(1, 0.0, 1, true).await?;
    let profile = session.profile(&result);
    Ok(profile.problem_times().into_iter().map(|(problem, time)| (problem.to_owned(), time)).collect())
}

/// Each problem's least time on both sides, measured in turns: what else the machine does comes and goes.
async fn compare(now: &Session, other: &Session) -> Result<(Times, Times)> {
    let (mut now_times, mut other_times) = (Times::new(), Times::new());
    for turn in 0..TURNS {
        // Neither side is always the first.
        if turn % 2 == 0 {
            keep_least(&mut now_times, times(now).await?);
        }
        keep_least(&mut other_times, times(other).await?);
        if turn % 2 == 1 {
            keep_least(&mut now_times, times(now).await?);
        }
    }
    Ok((now_times, other_times))
}

fn keep_least(least: &mut Times, times: Times) {
    for (problem, time) in times {
        let entry = least.entry(problem).or_insert(time);
        *entry = time.min(*entry);
    }
}

/// The least latency of the whole model on both sides.
async fn whole(now: &Session, other: &Session) -> Result<(Duration, Duration)> {
    let mut least = (Duration::MAX, Duration::MAX);
    for _ in 0..TURNS {
        for (session, least) in [(now, &mut least.0), (other, &mut least.1)] {
            let latencies = session.measure(1000, 500.0, 1, false).await?.latencies;
            *least = latencies.into_iter().fold(*least, Duration::min);
        }
    }
    Ok(least)
}

/// The problems that take nearly all of the time.
fn hot(times: &Times) -> Vec<String> {
    let mut by_time: Vec<_> = times.iter().collect();
    by_time.sort_by_key(|(_, time)| std::cmp::Reverse(**time));
    let all: Duration = times.values().sum();
    let mut sum = Duration::ZERO;
    let mut hot = Vec::new();
    for (problem, time) in by_time {
        if sum >= all.mul_f64(HOT) {
            break;
        }
        sum += *time;
        hot.push(problem.clone());
    }
    hot
}

fn shown(time: Duration) -> String {
    format!("{:.1} µs", time.as_secs_f64() * 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_takes_little_time_is_not_hot() {
        let times = |list: &[(&str, u64)]| -> Times {
            list.iter().map(|(name, ms)| ((*name).to_owned(), Duration::from_millis(*ms))).collect()
        };
        assert_eq!(hot(&times(&[("a", 4), ("b", 60), ("c", 36)])), ["b", "c"]);
        assert_eq!(hot(&times(&[("a", 5)])), ["a"]);
        assert!(hot(&times(&[])).is_empty());
    }

    #[test]
    fn the_least_time_of_each_problem_counts() {
        let ms = Duration::from_millis;
        let mut least = BTreeMap::from([("a".to_owned(), ms(5))]);
        keep_least(&mut least, BTreeMap::from([("a".to_owned(), ms(4)), ("b".to_owned(), ms(9))]));
        keep_least(&mut least, BTreeMap::from([("a".to_owned(), ms(6))]));
        assert_eq!(least, BTreeMap::from([("a".to_owned(), ms(4)), ("b".to_owned(), ms(9))]));
    }
}
