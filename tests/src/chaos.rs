//! `cargo xtask chaos`: a real daemon and its workers, 64 clients that hold each answer against the known one, and what goes
//! wrong in the meantime. Nothing here depends on how fast the machine is.

mod crowd;
mod known;
mod random;
mod report;
mod scenarios;
mod stage;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

pub use known::{Question, output, questions};
pub use random::Random;

use report::Row;
use scenarios::SCENARIOS;
use stage::{Setup, Stage};

/// What to do.
#[derive(clap::Parser, Debug)]
#[command(name = "cargo xtask chaos")]
pub struct Chaos {
    /// How long all of it takes, about: most scenarios have equal shares, some end when they are through
    #[arg(long, default_value_t = 240)]
    seconds: u64,
    /// Only this one
    #[arg(long, value_name = "NAME")]
    scenario: Option<String>,
    /// Where `ired` and its workers are
    #[arg(long, value_name = "DIR")]
    binaries: PathBuf,
    /// An S3 server: the program `moto_server`
    #[arg(long, value_name = "FILE")]
    moto: Option<PathBuf>,
    /// Choices follow from it
    #[arg(long)]
    seed: Option<u64>,
}

impl Chaos {
    /// Plays the scenarios one after the other and prints what came of each. `false` when one has failed.
    pub async fn run(self) -> Result<bool> {
        let chosen: Vec<_> =
            SCENARIOS.iter().filter(|s| self.scenario.as_deref().is_none_or(|only| only == s.name)).collect();
        if chosen.is_empty() {
            let names: Vec<_> = SCENARIOS.iter().map(|scenario| scenario.name).collect();
            bail!("there is no such scenario; expected one of {}", names.join(", "));
        }
        let seed = self.seed.unwrap_or_else(|| u64::from(std::process::id()));
        println!("seed {seed}");
        let work = tempfile::tempdir()?;
        let setup = Arc::new(Setup::prepare(&self.binaries, self.moto, work.path()).await?);
        let share = Duration::from_secs(self.seconds) / u32::try_from(chosen.len())?;
        let mut rows = Vec::new();
        for scenario in chosen {
            let began = Instant::now();
            eprintln!("{}: {}", scenario.name, scenario.what);
            let row = match Stage::open(setup.clone(), scenario.name, seed, share).await {
                Ok(stage) => stage.play(scenario).await,
                Err(error) => Row::failed(scenario.name, &error),
            };
            let row = Row { took: began.elapsed(), ..row };
            eprintln!("{row}");
            rows.push(row);
        }
        report::print(&rows);
        let good = rows.iter().all(Row::is_good);
        if !good {
            // What the daemons wrote is evidence.
            println!("seed {seed}; logs are in {}", work.keep().display());
        }
        Ok(good)
    }
}
