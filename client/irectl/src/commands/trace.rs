//! `irectl trace`: requests that the daemon keeps, and where the time of one went.

mod perfetto;
mod tree;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use ired_client::Client;
use ired_client::proto::TraceSummary;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::{human_time, one_line};

#[derive(clap::Args)]
pub(crate) struct Trace {
    /// The request's id (header `x-request-id` of its answer), or its trace's; without it, a list.
    request: Option<String>,
    /// List only requests of this model.
    #[arg(long, conflicts_with = "request")]
    model: Option<String>,
    /// List at most so many.
    #[arg(long, conflicts_with = "request", default_value_t = 20)]
    limit: u32,
    /// Write the request's steps to a file for Perfetto or Chrome instead.
    #[arg(long, value_name = "FILE", requires = "request")]
    perfetto: Option<PathBuf>,
}

impl Trace {
    pub(crate) async fn run(self, client: &Client) -> Result<ExitCode> {
        let Some(request) = &self.request else {
            let model = self.model.as_deref().unwrap_or_default();
            print!("{}", list(&client.traces(model, self.limit.max(1)).await?));
            return Ok(ExitCode::SUCCESS);
        };
        let trace = client.trace(request).await?;
        match &self.perfetto {
            None => print!("{}", tree::text(&trace).context("a trace without a beginning")?),
            Some(path) => perfetto::write(path, &trace)?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn list(traces: &[TraceSummary]) -> String {
    let mut text = format!(
        "{:<32} {:<24} {:>7} {:<30} {:>10}  OUTCOME\n",
        "REQUEST", "MODEL", "VERSION", "STARTED", "TOOK"
    );
    for trace in traces {
        text.push_str(&format!(
            "{:<32} {:<24} {:>7} {:<30} {:>10}  {}\n",
            one_line(&trace.id),
            one_line(&trace.model),
            trace.version,
            started(trace),
            human_time(Duration::from_nanos(trace.duration_ns)),
            one_line(&trace.outcome),
        ));
    }
    text
}

fn started(trace: &TraceSummary) -> String {
    let at = OffsetDateTime::from_unix_timestamp_nanos(trace.started_unix_ns.into());
    at.ok().and_then(|at| at.format(&Rfc3339).ok()).unwrap_or_else(|| "-".to_owned())
}

#[cfg(test)]
mod tests {
    use ired_client::proto::trace_attribute::Value;
    use ired_client::proto::{Trace, TraceAttribute, TraceSpan};

    use super::*;

    pub(super) fn span(name: &str, parent: Option<u32>, start: u64, end: u64) -> TraceSpan {
        let (start_ns, end_ns) = (start * 1000, end * 1000);
        TraceSpan { name: name.to_owned(), parent, start_ns, end_ns, ..Default::default() }
    }

    pub(super) fn trace() -> Trace {
        let summary = TraceSummary {
            id: "r\n1".to_owned(),
            model: "m".to_owned(),
            version: 2,
            started_unix_ns: 1_700_000_000_000_000_000,
            duration_ns: 1_000_000,
            outcome: "ok".to_owned(),
        };
        let on = |thread, span: TraceSpan| TraceSpan { thread: Some(thread), ..span };
        let nodes =
            TraceAttribute { name: "nodes".to_owned(), value: Some(Value::Text("a (Conv)".to_owned())) };
        let mut dispatch = on(0, span("dispatch conv", Some(2), 200, 400));
        dispatch.attributes.push(nodes);
        Trace {
            summary: Some(summary),
            trace_id: "ab".to_owned(),
            spans: vec![
                span("request", None, 0, 1000),
                span("queue", Some(0), 0, 100),
                span("infer", Some(0), 100, 900),
                dispatch,
                on(1, span("dispatch conv", Some(2), 300, 500)),
            ],
            ..Default::default()
        }
    }

    #[test]
    fn a_list_has_a_line_a_request() {
        let text = list(&[trace().summary.unwrap()]);
        let line: Vec<&str> = text.lines().nth(1).unwrap().split_whitespace().collect();
        assert_eq!(line[1..], ["m", "2", "2023-11-14T22:13:20Z", "1.00", "ms", "ok"]);
        assert_eq!(text.lines().count(), 2, "{text}");
    }
}
