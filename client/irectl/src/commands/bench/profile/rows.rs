//! The table: dispatches of the same nodes and sizes in one row, the longest first.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::time::Duration;

use ired_worker::{WorkPeak, WorkSpan};

use super::{Profile, micros};

/// Nodes of a row, as far as a terminal shows them.
const NODES_WIDTH: usize = 72;

/// What ran as one kernel on tensors of one shape.
#[derive(Default)]
struct Row<'a> {
    nodes: Vec<&'a str>,
    /// Launches; a span counts as the part of one that it is.
    calls: f64,
    /// Of all launches together; not known if that of one is not.
    operations: Option<f64>,
    bytes: Option<f64>,
    spans: Vec<&'a WorkSpan>,
}

impl Row<'_> {
    fn time(&self) -> Duration {
        WorkSpan::covered(self.spans.iter().copied())
    }

    /// The share of its time that the device needs at least: for the operations, or for the bytes.
    fn share_of_peak(&self, peak: Option<WorkPeak>) -> Option<f64> {
        let peak = peak?;
        let compute = self.operations? / peak.operations_per_second as f64;
        let stream = self.bytes? / peak.bytes_per_second as f64;
        Some(compute.max(stream) / self.time().as_secs_f64())
    }
}

/// The profile for people.
pub(in super::super) fn table(profile: &Profile<'_>) -> String {
    let mut rows: BTreeMap<(&str, &str), Row<'_>> = BTreeMap::new();
    for span in profile.spans {
        let known = profile.dispatch(span);
        let result = known.map_or("", |dispatch| dispatch.result.as_str());
        let first = || Row { operations: Some(0.0), bytes: Some(0.0), ..Row::default() };
        let row = rows.entry((&span.work, result)).or_insert_with(first);
        let part = f64::from(span.workgroups) / f64::from(span.of_workgroups.max(1));
        let amount = |of_one: Option<u64>| of_one.map(|n| n as f64 * part);
        row.calls += part;
        row.operations = add(row.operations, amount(known.and_then(|dispatch| dispatch.operations)));
        row.bytes = add(row.bytes, amount(known.and_then(|dispatch| dispatch.bytes)));
        row.nodes.extend(known.map(|dispatch| dispatch.nodes).filter(|nodes| !row.nodes.contains(nodes)));
        row.spans.push(span);
    }
    let mut rows: Vec<_> = rows.into_iter().map(|(key, row)| (row.time(), key, row)).collect();
    rows.sort_by_key(|(time, ..)| std::cmp::Reverse(*time));
    let all: Duration = rows.iter().map(|(time, ..)| *time).sum();

    let mut text = header(profile.peak);
    let _ = writeln!(
        text,
        "{:>10}  {:>6}  {:>5}  {:>8}  {:>7}  {:>6}  {:<26}  nodes",
        "time (µs)", "share", "calls", "GFLOP/s", "GB/s", "peak", "result"
    );
    for (time, (work, result), row) in rows {
        let seconds = time.as_secs_f64().max(1e-9);
        let _ = writeln!(
            text,
            "{:>10.1}  {:>5.1}%  {:>5.0}  {:>8}  {:>7}  {:>6}  {:<26}  {}",
            micros(time),
            100.0 * time.as_secs_f64() / all.as_secs_f64().max(f64::MIN_POSITIVE),
            row.calls,
            shown(row.operations.filter(|n| *n > 0.0).map(|n| n / seconds / 1e9), ""),
            shown(row.bytes.map(|n| n / seconds / 1e9), ""),
            shown(row.share_of_peak(profile.peak).map(|share| 100.0 * share), "%"),
            if result.is_empty() { "-" } else { result },
            named(work, &row.nodes),
        );
    }
    let end = profile.spans.iter().map(|span| span.start + span.took).max().unwrap_or_default();
    let busy: Duration = profile.spans.iter().map(|span| span.took).sum();
    let threads = profile.spans.iter().map(|span| span.thread).collect::<BTreeSet<_>>().len();
    let _ =
        writeln!(text, "{:>10.1}  in kernels, on {threads} threads in {:.1} µs", micros(busy), micros(end));
    text
}

/// What the numbers mean.
fn header(peak: Option<WorkPeak>) -> String {
    let Some(peak) = peak else { return "peak: not known of this device, or in a debug build\n".to_owned() };
    format!(
        "peak: {:.0} GFLOP/s (f32 multiply-adds in registers) and {:.0} GB/s (reading 256 MiB), measured on these \
         threads just now;\na dispatch's is the share of its time that the larger of operations and bytes, each once, \
         takes at that; what caches hold can be over 100 %\n",
        peak.operations_per_second as f64 / 1e9,
        peak.bytes_per_second as f64 / 1e9,
    )
}

fn add(sum: Option<f64>, more: Option<f64>) -> Option<f64> {
    Some(sum? + more?)
}

fn shown(number: Option<f64>, unit: &str) -> String {
    number.map_or("-".to_owned(), |number| format!("{number:.1}{unit}"))
}

/// The model's nodes, or of what has none the kernel.
fn named(work: &str, nodes: &[&str]) -> String {
    let Some(first) = nodes.first() else { return work.to_owned() };
    let mut text: String = first.chars().take(NODES_WIDTH).collect();
    if text.len() < first.len() {
        text.push('…');
    }
    if nodes.len() > 1 {
        let _ = write!(text, " and {} more", nodes.len() - 1);
    }
    let _ = write!(text, "  [{work}]");
    text
}

#[cfg(test)]
mod tests {
    use ired_module::notes::KnownDispatch;

    use super::super::trace::tests::span;
    use super::*;

    fn dispatch(instruction: u32, nodes: &'static str, operations: Option<u64>) -> KnownDispatch<'static> {
        let result = "f32[2, 3]".to_owned();
        KnownDispatch { function: 0, instruction, nodes, problem: "", result, operations, bytes: Some(1000) }
    }

    fn lines(text: &str) -> Vec<Vec<&str>> {
        text.lines()
            .skip_while(|line| !line.contains("GFLOP/s  "))
            .map(|line| line.split_whitespace().collect())
            .collect()
    }

    #[test]
    fn a_row_takes_the_time_in_which_any_thread_was_at_it() {
        let mut apart = span("a", Some(1), 0, 10);
        apart.workgroups = 4;
        let halves = [span("b", Some(2), 10, 30), span("b", Some(2), 20, 40)];
        let spans = [apart, halves[0].clone(), halves[1].clone()];
        let peak = WorkPeak { operations_per_second: 1_000_000_000, bytes_per_second: 1_000_000_000 };
        let dispatches = vec![dispatch(1, "x (Relu)", Some(5000)), dispatch(2, "y (Conv)", Some(25_000))];
        let profile = Profile { spans: &spans, peak: Some(peak), dispatches };
        let text = table(&profile);
        let rows = lines(&text);
        assert_eq!(rows[1][..6], ["50.0", "83.3%", "1", "0.5", "0.0", "50.0%"], "{text}");
        assert_eq!(rows[2][..6], ["10.0", "16.7%", "1", "0.5", "0.1", "50.0%"], "{text}");
        assert!(text.contains("f32[2, 3]                   y (Conv)  [b]"), "{text}");
        assert!(text.ends_with("80.0  in kernels, on 1 threads in 60.0 µs\n"), "{text}");
    }

    #[test]
    fn what_is_not_known_is_a_dash() {
        let mut spans = [span("a", Some(1), 0, 10), span("copy", None, 10, 5)];
        spans[0].workgroups = spans[0].of_workgroups;
        let peak = WorkPeak { operations_per_second: 1, bytes_per_second: 1 };
        let dispatches = vec![dispatch(1, "x (Relu)", None)];
        let text = table(&Profile { spans: &spans, peak: Some(peak), dispatches });
        let rows = lines(&text);
        assert_eq!(rows[1][3..6], ["-", "0.1", "-"], "{text}");
        assert_eq!(rows[2][3..], ["-", "-", "-", "-", "copy"], "{text}");
    }

    #[test]
    fn launches_of_one_kernel_and_size_share_a_row() {
        let mut spans = [span("a", Some(1), 0, 10), span("a", Some(2), 10, 10)];
        spans.iter_mut().for_each(|span| span.workgroups = span.of_workgroups);
        let dispatches = vec![dispatch(1, "x (Relu)", Some(1)), dispatch(2, "y (Relu)", Some(1))];
        let text = table(&Profile { spans: &spans, peak: None, dispatches });
        assert!(text.contains("x (Relu) and 1 more  [a]"), "{text}");
    }
}
