//! Where the time of an iteration went: a table of dispatches, and a trace for Perfetto.

mod rows;
mod trace;

use std::collections::BTreeMap;
use std::fs::File;
use std::time::Duration;

use anyhow::{Context, Result};
use ired_module::Module;
use ired_module::notes::{DispatchNotes, KnownDispatch};
use ired_worker::{MappedFile, WorkPeak, WorkSpan};

pub(super) use rows::table;
pub(super) use trace::write_trace;

/// What is measured, and what the module says of it.
pub(in super::super) struct Profile<'a> {
    pub(super) spans: &'a [WorkSpan],
    pub(super) peak: Option<WorkPeak>,
    /// Of the entry's function.
    pub(super) dispatches: Vec<KnownDispatch<'a>>,
}

impl<'a> Profile<'a> {
    /// `function` is the one that ran, on inputs of dimensions `inputs`.
    pub(super) fn new(
        spans: &'a [WorkSpan],
        peak: Option<WorkPeak>,
        notes: &'a DispatchNotes,
        function: u32,
        inputs: &[Vec<u64>],
    ) -> Self {
        let mut dispatches = notes.at(inputs);
        dispatches.retain(|dispatch| dispatch.function == function);
        Self { spans, peak, dispatches }
    }

    /// How long each problem took that can be tuned, by its name.
    pub(in super::super) fn problem_times(&self) -> BTreeMap<&'a str, Duration> {
        let mut spans: BTreeMap<&str, Vec<&WorkSpan>> = BTreeMap::new();
        for span in self.spans {
            if let Some(dispatch) = self.dispatch(span).filter(|dispatch| !dispatch.problem.is_empty()) {
                spans.entry(dispatch.problem).or_default().push(span);
            }
        }
        spans.into_iter().map(|(problem, spans)| (problem, WorkSpan::covered(spans))).collect()
    }

    /// What is known of what a span ran.
    fn dispatch(&self, span: &WorkSpan) -> Option<&KnownDispatch<'a>> {
        let instruction = span.instruction?;
        self.dispatches.iter().find(|dispatch| dispatch.instruction == instruction)
    }
}

/// What variant `variant` of a module says of its dispatches; nothing where it says nothing one understands.
pub(super) fn read_notes(module: &File, variant: usize) -> Result<DispatchNotes> {
    let bytes = MappedFile::open(module).context("cannot map the module")?;
    let module = Module::parse(&bytes).ok().and_then(|module| module.variants().nth(variant));
    let notes = module.and_then(|module| DispatchNotes::decode(module.debug()));
    Ok(notes.unwrap_or_default())
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}
