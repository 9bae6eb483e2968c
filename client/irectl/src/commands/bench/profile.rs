//! Where the time of an iteration went: a table of kernels, and a trace for Perfetto.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use ired_worker::WorkSpan;
use serde_json::json;

use crate::local::Output;

/// What one kernel took in all.
#[derive(Default)]
struct Row {
    busy: Duration,
    workgroups: u64,
}

/// Kernels by the time that all threads spent in them, the longest first.
pub(super) fn table(spans: &[WorkSpan]) -> String {
    let mut rows: BTreeMap<&str, Row> = BTreeMap::new();
    for span in spans {
        let row = rows.entry(&span.work).or_default();
        row.busy += span.took;
        row.workgroups += u64::from(span.workgroups);
    }
    let busy: Duration = rows.values().map(|row| row.busy).sum();
    let mut rows: Vec<_> = rows.into_iter().collect();
    rows.sort_by_key(|(_, row)| std::cmp::Reverse(row.busy));
    let mut text = format!("{:>10}  {:>6}  {:>10}  kernel\n", "time (µs)", "share", "workgroups");
    for (work, row) in rows {
        let share = 100.0 * row.busy.as_secs_f64() / busy.as_secs_f64().max(f64::MIN_POSITIVE);
        let (time, groups) = (micros(row.busy), row.workgroups);
        let _ = writeln!(text, "{time:>10.1}  {share:>5.1}%  {groups:>10}  {work}");
    }
    let end = spans.iter().map(|span| span.start + span.took).max().unwrap_or_default();
    let threads = spans.iter().map(|span| span.thread).collect::<std::collections::BTreeSet<_>>().len();
    let _ =
        writeln!(text, "{:>10.1}  in kernels, on {threads} threads in {:.1} µs", micros(busy), micros(end));
    text
}

/// Writes the spans in the trace event format that Perfetto and Chrome read.
pub(super) fn write_trace(path: &Path, spans: &[WorkSpan]) -> Result<()> {
    let event = |span: &WorkSpan| {
        json!({
            "name": span.work, "ph": "X", "pid": 1, "tid": span.thread, "ts": micros(span.start),
            "dur": micros(span.took), "args": { "workgroups": span.workgroups },
        })
    };
    let trace = json!({ "traceEvents": spans.iter().map(event).collect::<Vec<_>>() });
    let output = Output::create(path)?;
    let write = || writeln!(output.file(), "{trace}");
    write().with_context(|| format!("cannot write `{}`", path.display()))?;
    output.keep()
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(work: &str, thread: u32, start: u64, took: u64) -> WorkSpan {
        let (start, took) = (Duration::from_micros(start), Duration::from_micros(took));
        WorkSpan { work: work.to_owned(), thread, start, took, workgroups: 2 }
    }

    #[test]
    fn the_table_sums_over_threads_and_starts_with_the_longest() {
        let text = table(&[span("a", 0, 0, 10), span("b", 0, 10, 30), span("b", 1, 5, 60)]);
        let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[1], ["90.0", "90.0%", "4", "b"]);
        assert_eq!(lines[2], ["10.0", "10.0%", "2", "a"]);
        assert!(text.ends_with("100.0  in kernels, on 2 threads in 65.0 µs\n"), "{text}");
    }

    #[test]
    fn a_trace_has_one_event_a_span() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("trace.json");
        write_trace(&path, &[span("a", 3, 7, 10)]).unwrap();
        let trace: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        let event = &trace["traceEvents"][0];
        assert_eq!((&event["name"], &event["tid"]), (&json!("a"), &json!(3)));
        assert_eq!((&event["ts"], &event["dur"]), (&json!(7.0), &json!(10.0)));
    }
}
