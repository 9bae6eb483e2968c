//! `irectl top`: what the daemon is doing, as a table that is drawn again and again.

mod rates;

use std::fmt::Write as _;
use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use ired_client::Client;
use ired_client::proto::GetActivityResponse;
use ired_client::proto::model::State;

use self::rates::{Rates, rates};
use super::{human_bytes, human_time, one_line};

/// From the top left corner on, and what was there before goes.
const DRAW_AGAIN: &str = "\x1b[H\x1b[J";
/// Clears the screen.
const CLEAR: &str = "\x1b[2J";

#[derive(clap::Args)]
pub(crate) struct Top {
    /// Seconds between two looks, which the numbers are of.
    #[arg(long, default_value_t = 1.0, value_name = "SECONDS")]
    interval: f64,
    /// Look once, print, and end.
    #[arg(long)]
    once: bool,
}

impl Top {
    pub(crate) async fn run(self, client: &Client) -> Result<ExitCode> {
        let interval =
            Duration::try_from_secs_f64(self.interval.max(0.1)).context("`--interval` is no time")?;
        let draws = std::io::stdout().is_terminal() && !self.once;
        if draws {
            print!("{CLEAR}");
        }
        let mut before = client.activity().await?;
        loop {
            tokio::time::sleep(interval).await;
            let now = client.activity().await?;
            let text = table(&before, &now);
            let start = if draws { DRAW_AGAIN } else { "" };
            print!("{start}{text}");
            if self.once {
                return Ok(ExitCode::SUCCESS);
            }
            before = now;
        }
    }
}

fn table(before: &GetActivityResponse, now: &GetActivityResponse) -> String {
    let mut text = format!(
        "memory {} of {}, {} compilations running, {} waiting\n",
        human_bytes(now.memory_in_use_bytes),
        human_bytes(now.memory_budget_bytes),
        now.compilations_running,
        now.compilations_waiting
    );
    let _ = writeln!(
        text,
        "{:<28} {:>7} {:<11} {:>8} {:>9} {:>9} {:>7} {:>9} {:>6} {:>7} {:>6} {:>11}",
        "MODEL",
        "VERSION",
        "STATE",
        "REQ/S",
        "P50",
        "P99",
        "WAITING",
        "WAIT",
        "BATCH",
        "ERR/S",
        "CPU",
        "MEMORY"
    );
    for model in &now.models {
        let Rates { answered, failed, p50, p99, batch, cpu } = rates(before, now, model);
        let _ = writeln!(
            text,
            "{:<28} {:>7} {:<11} {:>8.1} {:>9} {:>9} {:>7} {:>9} {:>6} {:>7.1} {:>6} {:>11}",
            one_line(&model.name),
            model.version,
            state(model.state()),
            answered,
            shown(p50, human_time),
            shown(p99, human_time),
            model.waiting,
            shown(model.expected_wait_ns.map(Duration::from_nanos), human_time),
            shown(batch, |batch| format!("{batch:.1}")),
            failed,
            shown(cpu, |cpu| format!("{:.0}%", 100.0 * cpu)),
            human_bytes(model.resident_bytes),
        );
    }
    text
}

fn shown<T>(value: Option<T>, text: impl FnOnce(T) -> String) -> String {
    value.map_or("-".to_owned(), text)
}

fn state(state: State) -> &'static str {
    match state {
        State::Unspecified => "unknown",
        State::Loading => "loading",
        State::Ready => "ready",
        State::Unloading => "unloading",
        State::Unavailable => "unavailable",
    }
}

#[cfg(test)]
mod tests {
    use ired_client::proto::ModelActivity;

    use super::*;

    #[test]
    fn queues_are_shown_with_the_wait_that_is_expected() {
        let model = |name: &str, expected_wait_ns| ModelActivity {
            name: name.to_owned(),
            version: 1,
            waiting: 3,
            expected_wait_ns,
            ..Default::default()
        };
        let models = vec![model("known", Some(20_000_000)), model("unknown", None)];
        let look = GetActivityResponse { models, ..Default::default() };
        let text = table(&look, &look);
        let lines: Vec<Vec<&str>> =
            text.lines().skip(1).map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[0][6..8], ["WAITING", "WAIT"]);
        assert_eq!(lines[1][6..9], ["3", "20.00", "ms"], "{text}");
        assert_eq!(lines[2][6..8], ["3", "-"], "{text}");
    }
}
