//! A request's steps in the trace event format, which Perfetto and Chrome read.

use std::io::Write as _;
use std::path::Path;

use anyhow::{Context, Result};
use ired_client::proto::trace_attribute::Value;
use ired_client::proto::{Trace, TraceSpan};
use serde_json::{Map, Value as Json, json};

use crate::local::Output;

/// The track of the daemon's steps; a thread of the model's process has its own number and one more.
const DAEMON: u64 = 0;

/// Writes one event a step, and the names of the tracks.
pub(super) fn write(path: &Path, trace: &Trace) -> Result<()> {
    let output = Output::create(path)?;
    let write = || writeln!(output.file(), "{}", events(trace));
    write().with_context(|| format!("cannot write `{}`", path.display()))?;
    output.keep()
}

fn events(trace: &Trace) -> Json {
    let mut tracks: Vec<u64> = trace.spans.iter().map(track).collect();
    tracks.sort_unstable();
    tracks.dedup();
    let name = |track: &u64| {
        let name = if *track == DAEMON { "request".to_owned() } else { format!("thread {}", track - 1) };
        json!({ "name": "thread_name", "ph": "M", "pid": 1, "tid": track, "args": { "name": name } })
    };
    let events: Vec<Json> = tracks.iter().map(name).chain(trace.spans.iter().map(event)).collect();
    let summary = trace.summary.as_ref();
    let about = summary.map(|summary| {
        json!({ "request": summary.id, "model": summary.model, "version": summary.version, "outcome": summary.outcome,
                "trace_id": trace.trace_id, "started_unix_ns": summary.started_unix_ns })
    });
    json!({ "traceEvents": events, "otherData": about })
}

fn track(span: &TraceSpan) -> u64 {
    span.thread.map_or(DAEMON, |thread| u64::from(thread) + 1)
}

fn event(span: &TraceSpan) -> Json {
    let mut args = Map::new();
    for attribute in &span.attributes {
        let value = match &attribute.value {
            Some(Value::Integer(number)) => Json::from(*number),
            Some(Value::Text(text)) => text.as_str().into(),
            None => Json::Null,
        };
        args.insert(attribute.name.clone(), value);
    }
    if !span.links.is_empty() {
        args.insert("links".to_owned(), span.links.clone().into());
    }
    let micros = |ns: u64| ns as f64 / 1e3;
    json!({
        "name": span.name, "ph": "X", "pid": 1, "tid": track(span), "ts": micros(span.start_ns),
        "dur": micros(span.end_ns.saturating_sub(span.start_ns)), "args": args,
    })
}

#[cfg(test)]
mod tests {
    use super::super::tests::trace;
    use super::*;

    #[test]
    fn a_step_is_an_event_on_the_track_of_its_thread() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("trace.json");
        write(&path, &trace()).unwrap();
        let written: Json = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        let events = written["traceEvents"].as_array().unwrap();
        let names: Vec<&Json> =
            events.iter().filter(|event| event["ph"] == "M").map(|event| &event["args"]["name"]).collect();
        assert_eq!(names, ["request", "thread 0", "thread 1"]);
        let dispatch = events.iter().find(|event| event["name"] == "dispatch conv").unwrap();
        assert_eq!((&dispatch["ts"], &dispatch["dur"]), (&json!(200.0), &json!(200.0)));
        assert_eq!((&dispatch["tid"], &dispatch["args"]["nodes"]), (&json!(1), &json!("a (Conv)")));
        assert_eq!(written["otherData"]["request"], "r\n1");
    }
}
