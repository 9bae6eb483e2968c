//! The trace event format that Perfetto and Chrome read.

use std::io::Write as _;
use std::path::Path;

use anyhow::{Context, Result};
use ired_worker::WorkSpan;
use serde_json::{Value, json};

use super::{Profile, micros};
use crate::local::Output;

/// Writes one event a span.
pub(in super::super) fn write_trace(path: &Path, profile: &Profile<'_>) -> Result<()> {
    let events: Vec<Value> = profile.spans.iter().map(|span| event(profile, span)).collect();
    let mut trace = json!({ "traceEvents": events });
    if let Some(peak) = profile.peak {
        trace["otherData"] = json!({
            "operations_per_second": peak.operations_per_second,
            "bytes_per_second": peak.bytes_per_second,
        });
    }
    let output = Output::create(path)?;
    let write = || writeln!(output.file(), "{trace}");
    write().with_context(|| format!("cannot write `{}`", path.display()))?;
    output.keep()
}

/// Operations and bytes are those of the whole launch, of which the span may be a part.
fn event(profile: &Profile<'_>, span: &WorkSpan) -> Value {
    let mut args = json!({ "workgroups": span.workgroups, "of_workgroups": span.of_workgroups });
    if let Some(dispatch) = profile.dispatch(span) {
        args["nodes"] = dispatch.nodes.into();
        args["result"] = dispatch.result.as_str().into();
        args["operations"] = dispatch.operations.into();
        args["bytes"] = dispatch.bytes.into();
        let part = f64::from(span.workgroups) / f64::from(span.of_workgroups.max(1));
        let rate =
            |of_all: Option<u64>| of_all.map(|n| n as f64 * part / span.took.as_secs_f64().max(1e-9) / 1e9);
        args["gflop_per_s"] = rate(dispatch.operations).into();
        args["gb_per_s"] = rate(dispatch.bytes).into();
    }
    json!({
        "name": span.work, "ph": "X", "pid": 1, "tid": span.thread, "ts": micros(span.start),
        "dur": micros(span.took), "args": args,
    })
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::Duration;

    use ired_module::notes::KnownDispatch;

    use super::*;

    pub(in super::super) fn span(work: &str, instruction: Option<u32>, start: u64, took: u64) -> WorkSpan {
        let (start, took) = (Duration::from_micros(start), Duration::from_micros(took));
        WorkSpan {
            work: work.to_owned(),
            instruction,
            thread: 3,
            start,
            took,
            workgroups: 2,
            of_workgroups: 4,
        }
    }

    #[test]
    fn a_trace_has_one_event_a_span_and_says_what_it_computes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("trace.json");
        let (nodes, result) = ("c (Conv)", "f32[8]".to_owned());
        let (operations, bytes) = (Some(40_000), None);
        let dispatches = vec![KnownDispatch {
            function: 0,
            instruction: 9,
            nodes,
            problem: "",
            result,
            operations,
            bytes,
        }];
        let spans = [span("a", Some(9), 7, 10), span("copy", None, 17, 1)];
        write_trace(&path, &Profile { spans: &spans, peak: None, dispatches }).unwrap();
        let trace: Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        let event = &trace["traceEvents"][0];
        assert_eq!((&event["name"], &event["tid"]), (&json!("a"), &json!(3)));
        assert_eq!((&event["ts"], &event["dur"]), (&json!(7.0), &json!(10.0)));
        let args = &event["args"];
        assert_eq!((&args["nodes"], &args["result"]), (&json!("c (Conv)"), &json!("f32[8]")));
        assert_eq!((&args["gflop_per_s"], &args["bytes"]), (&json!(2.0), &Value::Null));
        assert_eq!(trace["traceEvents"][1]["args"]["nodes"], Value::Null);
    }
}
