//! The steps of a request as a tree, with the share of its time that each took.

use std::fmt::Write as _;
use std::time::Duration;

use ired_client::proto::trace_attribute::Value;
use ired_client::proto::{Trace, TraceSpan};

use super::super::{human_time, one_line};
use super::started;

/// Width of the names with what is before them.
const NAMES: usize = 44;
/// Shown of what runs in one step: the steps that take longest.
const CHILDREN: usize = 30;
/// Characters of what is known of a step.
const NOTES: usize = 80;

/// `None` for a trace that lacks its head.
pub(super) fn text(trace: &Trace) -> Option<String> {
    let summary = trace.summary.as_ref()?;
    let mut text = format!(
        "request {} of {}/{}, {}, at {}\n",
        one_line(&summary.id),
        one_line(&summary.model),
        summary.version,
        one_line(&summary.outcome),
        started(summary)
    );
    if !trace.error.is_empty() {
        let _ = writeln!(text, "error: {}", one_line(&trace.error));
    }
    let _ = writeln!(text, "trace {}, span {}", one_line(&trace.trace_id), one_line(&trace.span_id));
    if !trace.traceparent.is_empty() {
        let _ = writeln!(text, "asked for by {}", one_line(&trace.traceparent));
    }
    let root = trace.spans.first()?;
    let mut tree = Tree { trace, all: Duration::from_nanos(root.end_ns), text };
    tree.line(0, &[root]);
    tree.below(0, 1);
    Some(tree.text)
}

struct Tree<'a> {
    trace: &'a Trace,
    all: Duration,
    text: String,
}

impl Tree<'_> {
    /// The steps that are parts of the one at a position, those of one name in one line.
    fn below(&mut self, parent: usize, depth: usize) {
        let mut groups: Vec<Vec<(usize, &TraceSpan)>> = Vec::new();
        // Later ones only: a trace that says otherwise has no end.
        for (at, span) in self.trace.spans.iter().enumerate().skip(parent + 1) {
            if span.parent != u32::try_from(parent).ok() {
                continue;
            }
            match groups.iter_mut().find(|group| group[0].1.name == span.name) {
                Some(group) => group.push((at, span)),
                None => groups.push(vec![(at, span)]),
            }
        }
        let spans = |group: &[(usize, &TraceSpan)]| {
            group.iter().map(|(_, span)| covered_of(span)).collect::<Vec<_>>()
        };
        let left_out = groups.len().saturating_sub(CHILDREN);
        if left_out > 0 {
            groups.sort_by_key(|group| std::cmp::Reverse(covered(spans(group))));
            groups.truncate(CHILDREN);
        }
        for group in groups {
            let alike: Vec<&TraceSpan> = group.iter().map(|(_, span)| *span).collect();
            self.line(depth, &alike);
            for (at, _) in group {
                self.below(at, depth + 1);
            }
        }
        if left_out > 0 {
            let _ = writeln!(self.text, "{}and {left_out} more, which are shorter", "  ".repeat(depth));
        }
    }

    fn line(&mut self, depth: usize, alike: &[&TraceSpan]) {
        let Some(first) = alike.first() else { return };
        let mut name = format!("{}{}", "  ".repeat(depth), one_line(&first.name));
        if alike.len() > 1 {
            let _ = write!(name, " ×{}", alike.len());
        }
        let took = covered(alike.iter().map(|span| covered_of(span)).collect());
        let share = 100.0 * took.as_secs_f64() / self.all.as_secs_f64().max(f64::MIN_POSITIVE);
        let (took, notes) = (human_time(took), notes(first));
        let line = format!("{name:<NAMES$} {took:>10} {share:>5.1}%  {notes}");
        let _ = writeln!(self.text, "{}", line.trim_end());
    }
}

fn covered_of(span: &TraceSpan) -> (u64, u64) {
    (span.start_ns, span.end_ns)
}

/// The time while at least one of them went on.
fn covered(mut spans: Vec<(u64, u64)>) -> Duration {
    spans.sort_unstable();
    let (mut sum, mut reached) = (0, 0);
    for (start, end) in spans {
        sum += end.saturating_sub(start.max(reached));
        reached = reached.max(end);
    }
    Duration::from_nanos(sum)
}

fn notes(span: &TraceSpan) -> String {
    let attribute = |name: &str| span.attributes.iter().find(|attribute| attribute.name == name);
    let text = |name: &str| {
        attribute(name).and_then(|attribute| match attribute.value.as_ref()? {
            Value::Integer(number) => Some(format!("{name} {number}")),
            Value::Text(text) => Some(one_line(text)),
        })
    };
    let shown = ["requests", "rows", "from", "result", "nodes"].iter().filter_map(|name| text(name));
    let mut shown = shown.collect::<Vec<_>>().join(", ");
    if let Some((end, _)) = shown.char_indices().nth(NOTES) {
        shown.truncate(end);
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::super::tests::{span, trace};
    use super::*;

    #[test]
    fn a_tree_shows_steps_below_what_they_are_parts_of() {
        let text = text(&trace()).unwrap();
        let lines: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[0].join(" "), "request r\u{fffd}1 of m/2, ok, at 2023-11-14T22:13:20Z");
        assert_eq!(lines[2], ["request", "1.00", "ms", "100.0%"]);
        assert_eq!(lines[3], ["queue", "100.0", "µs", "10.0%"]);
        assert_eq!(
            lines[5][..6],
            ["dispatch", "conv", "×2", "300.0", "µs", "30.0%"],
            "each moment counts once"
        );
        assert!(text.lines().nth(5).unwrap().starts_with("    dispatch conv"));
        assert!(text.ends_with("a (Conv)\n"), "{text}");
    }

    #[test]
    fn of_many_steps_the_longest_are_shown() {
        let mut trace = trace();
        trace.spans.extend((0..40).map(|at| span(&format!("step {at}"), Some(0), 0, 41 + at)));
        let text = text(&trace).unwrap();
        assert!(text.contains("and 12 more, which are shorter"), "{text}");
        assert!(text.contains("step 39 ") && !text.contains("step 11 "), "{text}");
    }
}
