//! `irectl profile`: where the time of a model's next requests on the daemon goes.

use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, bail};
use ired_client::Client;
use ired_client::proto::{ProfileModelRequest, ProfileModelResponse, ProfiledDispatch};

use super::{human_time, one_line};

/// Nodes of a row, as far as a terminal shows them.
const NODES: usize = 72;

#[derive(clap::Args)]
pub(crate) struct Profile {
    /// The model's name.
    model: String,
    /// Its version; without it, the newest that is ready.
    #[arg(long, value_name = "N")]
    version: Option<std::num::NonZeroU64>,
    /// Executions to look at; each runs alone in the model's process.
    #[arg(long, default_value_t = 8)]
    requests: u32,
    /// How long to wait for them.
    #[arg(long, default_value_t = 10)]
    seconds: u32,
}

impl Profile {
    pub(crate) async fn run(self, client: &Client) -> Result<ExitCode> {
        let request = ProfileModelRequest {
            model: self.model.clone(),
            version: self.version.map_or(0, u64::from),
            executions: self.requests.max(1),
            seconds: self.seconds.max(1),
        };
        let profile = client.profile(request).await?;
        if profile.executions == 0 {
            bail!(
                "`{}` was not called within {} s: there is nothing to measure",
                self.model,
                self.seconds.max(1)
            );
        }
        print!("{}", table(&profile));
        Ok(ExitCode::SUCCESS)
    }
}

/// Times are of one execution.
fn table(profile: &ProfileModelResponse) -> String {
    let executions = f64::from(profile.executions.max(1));
    let each = |nanos: u64| Duration::from_nanos((nanos as f64 / executions) as u64);
    let all: u64 = profile.dispatches.iter().map(|dispatch| dispatch.time_ns).sum();
    let mut text = format!(
        "version {}, {} executions of {} each, on {} threads\n",
        profile.version,
        profile.executions,
        human_time(each(profile.compute_ns)),
        profile.threads
    );
    let _ = writeln!(
        text,
        "{:>10}  {:>6}  {:>5}  {:>8}  {:>7}  {:<26}  nodes",
        "time", "share", "calls", "GFLOP/s", "GB/s", "result"
    );
    for dispatch in &profile.dispatches {
        // A number each nanosecond is a thousand millions of them each second.
        let rate = |amount: Option<f64>| {
            amount.map_or("-".to_owned(), |n| format!("{:.1}", n / dispatch.time_ns.max(1) as f64))
        };
        let _ = writeln!(
            text,
            "{:>10}  {:>5.1}%  {:>5.1}  {:>8}  {:>7}  {:<26}  {}",
            human_time(each(dispatch.time_ns)),
            100.0 * dispatch.time_ns as f64 / (all as f64).max(1.0),
            dispatch.calls / executions,
            rate(dispatch.operations.filter(|n| *n > 0.0)),
            rate(dispatch.bytes),
            if dispatch.result.is_empty() { "-".to_owned() } else { one_line(&dispatch.result) },
            named(dispatch)
        );
    }
    if profile.left_out > 0 {
        let _ = writeln!(text, "{} short stretches of work are not in it", profile.left_out);
    }
    text
}

/// The model's nodes, or of what has none the kernel.
fn named(dispatch: &ProfiledDispatch) -> String {
    let kernel = one_line(&dispatch.kernel);
    let Some(first) = dispatch.nodes.first() else { return kernel };
    let first = one_line(first);
    let mut text: String = first.chars().take(NODES).collect();
    if text.len() < first.len() {
        text.push('…');
    }
    if dispatch.nodes.len() > 1 {
        let _ = write!(text, " and {} more", dispatch.nodes.len() - 1);
    }
    let _ = write!(text, "  [{kernel}]");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_of_one_execution() {
        let conv = ProfiledDispatch {
            kernel: "conv".to_owned(),
            nodes: vec!["a (Conv)".to_owned(), "b (Conv)".to_owned()],
            result: "f32[8]".to_owned(),
            calls: 4.0,
            time_ns: 60_000,
            operations: Some(240_000.0),
            bytes: None,
        };
        let copy =
            ProfiledDispatch { kernel: "copy".to_owned(), calls: 2.0, time_ns: 20_000, ..Default::default() };
        let profile = ProfileModelResponse {
            version: 3,
            executions: 2,
            compute_ns: 100_000,
            threads: 2,
            dispatches: vec![conv, copy],
            left_out: 0,
        };
        let text = table(&profile);
        let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[0].join(" "), "version 3, 2 executions of 50.0 µs each, on 2 threads");
        assert_eq!(lines[2][..7], ["30.0", "µs", "75.0%", "2.0", "4.0", "-", "f32[8]"], "{text}");
        assert!(text.contains("a (Conv) and 1 more  [conv]"), "{text}");
        assert_eq!(lines[3], ["10.0", "µs", "25.0%", "1.0", "-", "-", "-", "copy"]);
    }
}
