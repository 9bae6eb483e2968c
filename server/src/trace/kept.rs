//! A trace: what is kept of a request, its steps as spans.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use ired_worker::{WorkNote, WorkProfile};

use super::origin::Parent;
use crate::course::{Course, Execution};

/// A span's name in the world: its trace and itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SpanContext {
    pub trace: u128,
    pub span: u64,
}

/// The outcome of a request that was answered.
pub(super) const OK: &str = "ok";

/// Spans of other requests.
pub type Links = Arc<[SpanContext]>;

/// What is kept of one request.
#[derive(Clone, Debug)]
pub struct Trace {
    /// The client's name for the request, or ours.
    pub id: String,
    pub model: String,
    pub version: u64,
    pub started: SystemTime,
    pub context: SpanContext,
    /// The caller's span.
    pub parent: Option<Parent>,
    /// `ok`, or the name of the gRPC code that it ended with.
    pub outcome: &'static str,
    /// Why it failed.
    pub error: Option<String>,
    /// First that of the whole request.
    pub spans: Vec<Span>,
}

/// One step, in time since the request began.
#[derive(Clone, Debug, PartialEq)]
pub struct Span {
    pub name: Cow<'static, str>,
    /// The position of the step that it is a part of.
    pub parent: Option<usize>,
    pub start: Duration,
    pub end: Duration,
    /// Of the worker.
    pub thread: Option<u32>,
    pub attributes: Vec<Attribute>,
    pub links: Option<Links>,
}

/// What is known of a step.
pub type Attribute = (&'static str, Value);

#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Integer(i64),
    Text(String),
}

impl SpanContext {
    pub fn new() -> Self {
        Self { trace: rand::random_range(1..=u128::MAX), span: new_span() }
    }

    /// A span of a caller's trace.
    pub fn below(parent: &Parent) -> Self {
        Self { trace: parent.trace, span: new_span() }
    }

    pub fn trace_text(&self) -> String {
        format!("{:032x}", self.trace)
    }

    pub fn span_text(&self) -> String {
        format!("{:016x}", self.span)
    }
}

/// The trace and the span, in hexadecimal digits.
impl fmt::Display for SpanContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}-{:016x}", self.trace, self.span)
    }
}

impl Default for SpanContext {
    fn default() -> Self {
        Self::new()
    }
}

pub(super) fn new_span() -> u64 {
    rand::random_range(1..=u64::MAX)
}

impl From<u64> for Value {
    fn from(number: u64) -> Self {
        Self::Integer(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

impl Trace {
    pub fn duration(&self) -> Duration {
        self.spans.first().map_or(Duration::ZERO, |request| request.end)
    }

    /// Memory that it takes, about.
    pub fn bytes(&self) -> u64 {
        let text = |text: Option<&String>| text.map_or(0, String::len);
        let spans: usize = self.spans.iter().map(Span::bytes).sum();
        let state = text(self.parent.as_ref().map(|parent| &parent.state));
        let texts = self.id.len() + self.model.len() + text(self.error.as_ref()) + state;
        (size_of::<Self>() + texts + spans) as u64
    }
}

impl Span {
    fn bytes(&self) -> usize {
        let attribute = |(_, value): &Attribute| {
            size_of::<Attribute>() + if let Value::Text(text) = value { text.len() } else { 0 }
        };
        let links = self.links.as_ref().map_or(0, |links| size_of_val(&**links));
        let attributes: usize = self.attributes.iter().map(attribute).sum();
        size_of::<Self>() + self.name.len() + attributes + links
    }
}

/// The steps of a request that began and ended at these times.
pub(super) fn spans(course: &Course, began: Instant, ended: Instant) -> Vec<Span> {
    let mut steps = Steps { began, spans: Vec::with_capacity(8) };
    let request = steps.add("request", None, began, ended);
    if let Some(fetched) = course.fetched {
        let at = steps.add("input copy", Some(request), began, fetched);
        steps.spans[at].attributes.push(("from", Value::Text("shared memory".to_owned())));
    }
    match &course.execution {
        Some(execution) => steps.execution(request, execution),
        None => {
            if let Some(waits) = course.waits {
                steps.add("queue", Some(request), waits, course.turn.get().copied().unwrap_or(ended));
            }
            if let Some(&turn) = course.turn.get() {
                steps.add("infer", Some(request), turn, ended);
            }
        }
    }
    steps.spans
}

struct Steps {
    began: Instant,
    spans: Vec<Span>,
}

impl Steps {
    fn add(&mut self, name: &'static str, parent: Option<usize>, start: Instant, end: Instant) -> usize {
        let since = |at: Instant| at.saturating_duration_since(self.began);
        let (start, end) = (since(start), since(end.max(start)));
        let name = Cow::Borrowed(name);
        self.spans.push(Span { name, parent, start, end, thread: None, attributes: Vec::new(), links: None });
        self.spans.len() - 1
    }

    fn execution(&mut self, request: usize, execution: &Execution) {
        let Execution { since, turn, sent, answered, timing, batch, profile } = execution;
        self.add("queue", Some(request), *since, *turn);
        let mut parent = request;
        if let Some(batch) = batch {
            parent = self.add("batch", Some(request), *turn, *answered);
            let span = &mut self.spans[parent];
            span.attributes.push(("requests", (batch.requests as u64).into()));
            span.attributes.push(("rows", batch.rows.into()));
            span.links.clone_from(&batch.traced);
        }
        let parent = Some(parent);
        // Steps follow each other without gaps; the worker's answer ends the last one.
        let taken = (*sent + timing.queue).min(*answered);
        let computes = (taken + timing.input).min(*answered);
        let computed = (computes + timing.compute).min(*answered);
        self.add("input copy", parent, *turn, *sent);
        self.add("worker queue", parent, *sent, taken);
        let infer = self.add("infer", parent, taken, computed);
        self.add("output copy", parent, computed, *answered);
        if let Some(profile) = profile {
            self.dispatches(infer, computes, profile);
        }
    }

    fn dispatches(&mut self, infer: usize, computes: Instant, profile: &WorkProfile) {
        if profile.left_out > 0 {
            self.spans[infer].attributes.push(("dispatch_spans_left_out", profile.left_out.into()));
        }
        let start = computes.saturating_duration_since(self.began);
        for span in &profile.spans {
            let note = profile.notes.iter().find(|note| Some(note.instruction) == span.instruction);
            let mut attributes = vec![
                ("workgroups", u64::from(span.workgroups).into()),
                ("of_workgroups", u64::from(span.of_workgroups).into()),
            ];
            if let Some(WorkNote { nodes, result, operations, bytes, .. }) = note {
                attributes.push(("nodes", Value::Text(nodes.clone())));
                attributes.push(("result", Value::Text(result.clone())));
                attributes.extend(operations.map(|operations| ("operations", operations.into())));
                attributes.extend(bytes.map(|bytes| ("bytes", bytes.into())));
            }
            self.spans.push(Span {
                name: Cow::Owned(format!("dispatch {}", span.work)),
                parent: Some(infer),
                start: start + span.start,
                end: start + span.start + span.took,
                thread: Some(span.thread),
                attributes,
                links: None,
            });
        }
    }
}
