//! A profile of a model that serves: its next executions, their dispatches added up.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use ired_proto::ired::v1::{ProfileModelRequest, ProfileModelResponse, ProfiledDispatch};
use ired_worker::{WorkNote, WorkProfile, WorkSpan};
use tokio::time::{Instant, interval, timeout_at};

use super::traces::nanos;
use crate::app::App;
use crate::course::Execution;
use crate::error::Error;
use crate::profiling::Asker;

/// What is asked for where nothing is said, and at most.
const EXECUTIONS: (u32, u32) = (8, 256);
const SECONDS: (u32, u32) = (10, 60);
/// How often it looks whether the daemon stops, which shall not wait for this.
const LOOK: Duration = Duration::from_millis(200);

/// Watches the next executions of a model, from now on.
///
/// # Errors
/// More than may be asked for; [`Error::Profiled`] while somebody else does this.
pub(super) fn watch(app: &Arc<App>, request: &ProfileModelRequest) -> Result<Watch, Error> {
    let wanted = bounded("executions", request.executions, EXECUTIONS)?;
    let seconds = bounded("seconds", request.seconds, SECONDS)?;
    let version = if request.version == 0 { String::new() } else { request.version.to_string() };
    let served = app.registry.find(&request.model, &version)?;
    let profiled = || Error::Profiled { model: served.name.clone(), version: served.version };
    let asker = served.profiling.ask(wanted).ok_or_else(profiled)?;
    let end = Instant::now() + Duration::from_secs(seconds.into());
    Ok(Watch { app: app.clone(), version: served.version, asker, wanted, end })
}

/// Executions that are watched; its drop ends that.
pub(super) struct Watch {
    app: Arc<App>,
    version: u64,
    asker: Asker,
    wanted: u32,
    end: Instant,
}

impl Watch {
    /// What was seen, once that is all that was asked for, or the time is over, or the daemon stops.
    pub(super) async fn seen(mut self) -> ProfileModelResponse {
        let mut look = interval(LOOK);
        let mut sum = Sum::default();
        while sum.executions < self.wanted {
            tokio::select! {
                next = timeout_at(self.end, self.asker.next()) => match next {
                    Ok(Some(execution)) => sum.add(&execution),
                    Ok(None) | Err(_) => break,
                },
                _ = look.tick() => if !self.app.is_serving() {
                    break;
                },
            }
        }
        sum.into_response(self.version)
    }
}

fn bounded(name: &str, asked: u32, (default, most): (u32, u32)) -> Result<u32, Error> {
    match asked {
        0 => Ok(default),
        asked if asked <= most => Ok(asked),
        asked => Err(Error::invalid(format!("`{name}` is {asked}; it is at most {most}"))),
    }
}

/// What was seen so far.
#[derive(Default)]
struct Sum {
    executions: u32,
    compute: Duration,
    threads: BTreeSet<u32>,
    left_out: u64,
    /// By kernel and result.
    dispatches: BTreeMap<(String, String), Dispatch>,
}

/// A span, and what the module says of it.
type Noted<'a> = (&'a WorkSpan, Option<&'a WorkNote>);

/// Dispatches of one kernel and size.
struct Dispatch {
    nodes: BTreeSet<String>,
    calls: f64,
    time: Duration,
    operations: Option<f64>,
    bytes: Option<f64>,
}

impl Default for Dispatch {
    fn default() -> Self {
        Self {
            nodes: BTreeSet::new(),
            calls: 0.0,
            time: Duration::ZERO,
            operations: Some(0.0),
            bytes: Some(0.0),
        }
    }
}

impl Sum {
    fn add(&mut self, execution: &Execution) {
        let Some(profile) = &execution.profile else { return };
        self.executions += 1;
        self.compute += execution.timing.compute;
        self.left_out += profile.left_out;
        self.threads.extend(profile.spans.iter().map(|span| span.thread));
        let mut groups: BTreeMap<(&str, &str), Vec<Noted<'_>>> = BTreeMap::new();
        for span in &profile.spans {
            let note = note(profile, span);
            groups.entry((&span.work, note.map_or("", |note| &note.result))).or_default().push((span, note));
        }
        for ((kernel, result), group) in groups {
            let key = (kernel.to_owned(), result.to_owned());
            self.dispatches.entry(key).or_default().add(&group);
        }
    }

    fn into_response(self, version: u64) -> ProfileModelResponse {
        let row = |((kernel, result), dispatch): ((String, String), Dispatch)| ProfiledDispatch {
            kernel,
            result,
            nodes: dispatch.nodes.into_iter().collect(),
            calls: dispatch.calls,
            time_ns: nanos(dispatch.time),
            operations: dispatch.operations,
            bytes: dispatch.bytes,
        };
        let mut dispatches: Vec<ProfiledDispatch> = self.dispatches.into_iter().map(row).collect();
        dispatches.sort_by_key(|dispatch| std::cmp::Reverse(dispatch.time_ns));
        ProfileModelResponse {
            version,
            executions: self.executions,
            compute_ns: nanos(self.compute),
            threads: u32::try_from(self.threads.len()).unwrap_or(u32::MAX),
            dispatches,
            left_out: self.left_out,
        }
    }
}

impl Dispatch {
    fn add(&mut self, spans: &[Noted<'_>]) {
        self.time += WorkSpan::covered(spans.iter().map(|(span, _)| *span));
        for (span, note) in spans {
            let part = f64::from(span.workgroups) / f64::from(span.of_workgroups.max(1));
            let more = |sum: Option<f64>, of_one: Option<u64>| Some(sum? + of_one? as f64 * part);
            self.calls += part;
            self.operations = more(self.operations, note.and_then(|note| note.operations));
            self.bytes = more(self.bytes, note.and_then(|note| note.bytes));
            self.nodes.extend(note.map(|note| note.nodes.clone()));
        }
    }
}

fn note<'a>(profile: &'a WorkProfile, span: &WorkSpan) -> Option<&'a WorkNote> {
    profile.notes.iter().find(|note| Some(note.instruction) == span.instruction)
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use ired_worker::Timing;

    use super::*;

    fn span(work: &str, instruction: Option<u32>, thread: u32, start: u64, took: u64) -> WorkSpan {
        let (start, took) = (Duration::from_micros(start), Duration::from_micros(took));
        WorkSpan { work: work.to_owned(), instruction, thread, start, took, workgroups: 2, of_workgroups: 4 }
    }

    #[test]
    fn dispatches_of_a_kernel_and_size_are_added_up_over_executions() {
        let now = Instant::now();
        let note = WorkNote {
            instruction: 1,
            nodes: "a (Conv)".to_owned(),
            result: "f32[2]".to_owned(),
            operations: Some(1000),
            bytes: None,
        };
        // Two threads at the same launch, half of it each; then a copy.
        let spans = vec![
            span("conv", Some(1), 0, 0, 10),
            span("conv", Some(1), 1, 5, 10),
            span("copy", None, 0, 15, 1),
        ];
        let profile = WorkProfile { spans, notes: vec![note], left_out: 3 };
        let execution = Execution {
            since: now,
            turn: now,
            sent: now,
            answered: now,
            timing: Timing { compute: Duration::from_micros(20), ..Timing::default() },
            batch: None,
            profile: Some(Arc::new(profile)),
        };
        let mut sum = Sum::default();
        sum.add(&execution);
        sum.add(&execution);
        let response = sum.into_response(4);
        let numbers =
            (response.version, response.executions, response.compute_ns, response.threads, response.left_out);
        assert_eq!(numbers, (4, 2, 40_000, 2, 6));
        let [conv, copy] = &response.dispatches[..] else { panic!("{:?}", response.dispatches) };
        assert_eq!(
            (conv.kernel.as_str(), conv.result.as_str(), conv.nodes.as_slice()),
            ("conv", "f32[2]", &["a (Conv)".to_owned()][..])
        );
        assert_eq!(
            (conv.calls, conv.time_ns, conv.operations, conv.bytes),
            (2.0, 30_000, Some(2000.0), None)
        );
        assert_eq!((copy.kernel.as_str(), copy.result.as_str(), copy.time_ns), ("copy", "", 2000));
        assert_eq!((copy.operations, copy.bytes), (None, None));
    }
}
