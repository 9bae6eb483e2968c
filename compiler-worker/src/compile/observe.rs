//! A compilation's progress, dumps and times, on their way to the parent.

use std::time::{Duration, Instant};

use ired_compiler::{Observer, Phase};
use ired_worker::{Dump, Progress};

use crate::job::Events;

pub(crate) struct Observed {
    events: Events,
    wants_dumps: bool,
    /// The phase that runs, and since when.
    current: Option<(Phase, Instant)>,
    finished: Vec<(String, Duration)>,
}

impl Observed {
    pub(crate) fn new(events: Events, wants_dumps: bool) -> Self {
        Self { events, wants_dumps, current: None, finished: Vec::new() }
    }

    /// Each phase and how long it took.
    pub(crate) fn finish(mut self) -> Vec<(String, Duration)> {
        self.end_phase();
        self.finished
    }

    fn end_phase(&mut self) {
        if let Some((phase, since)) = self.current.take() {
            let (name, time) = (phase.name(), since.elapsed());
            // Each target comes by most phases.
            match self.finished.iter_mut().find(|(known, _)| known == name) {
                Some((_, total)) => *total += time,
                None => self.finished.push((name.to_owned(), time)),
            }
        }
    }
}

impl Observer for Observed {
    fn progress(&mut self, phase: Phase, done: u64, total: u64, detail: &str) {
        if self.current.is_none_or(|(current, _)| current != phase) {
            self.end_phase();
            self.current = Some((phase, Instant::now()));
        }
        let phase = phase.name().to_owned();
        self.events.progress(Progress { phase, done, total, detail: detail.to_owned() });
    }

    fn wants_dumps(&self) -> bool {
        self.wants_dumps
    }

    fn dump(&mut self, name: &str, text: &str) {
        self.events.dump(&Dump { name: name.to_owned(), content: text.as_bytes().to_vec() });
    }
}
