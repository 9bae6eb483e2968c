//! The traces that are kept: the newest ones, so many of each model, so many and so many bytes in all.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::kept::Trace;

/// How much is kept.
#[derive(Clone, Copy, Debug)]
pub struct RecentLimits {
    pub requests: usize,
    /// So that a busy model leaves others their place.
    pub of_a_model: usize,
    pub bytes: u64,
}

#[derive(Debug)]
pub struct Recent {
    limits: RecentLimits,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// By model; each with its number, oldest first.
    traces: BTreeMap<String, VecDeque<(u64, Arc<Trace>)>>,
    next: u64,
    count: usize,
    bytes: u64,
}

impl Recent {
    pub fn new(limits: RecentLimits) -> Self {
        Self { limits, state: Mutex::default() }
    }

    pub fn keep(&self, trace: Arc<Trace>) {
        let mut state = self.lock();
        let (number, bytes) = (state.next, trace.bytes());
        state.next += 1;
        state.count += 1;
        state.bytes += bytes;
        let model = trace.model.clone();
        let of_model = state.traces.entry(model.clone()).or_default();
        of_model.push_back((number, trace));
        if of_model.len() > self.limits.of_a_model {
            state.forget_oldest(&model);
        }
        while state.count > self.limits.requests || state.bytes > self.limits.bytes {
            let oldest = |traces: &VecDeque<(u64, _)>| traces.front().map(|(number, _)| *number);
            let model = state.traces.iter().min_by_key(|(_, traces)| oldest(traces)).map(|(model, _)| model);
            let Some(model) = model.cloned() else { break };
            state.forget_oldest(&model);
        }
    }

    /// At most so many of the models that `shows` names, newest first.
    pub fn newest(&self, limit: usize, shows: impl Fn(&str) -> bool) -> Vec<Arc<Trace>> {
        let state = self.lock();
        let shown = state.traces.iter().filter(|(model, _)| shows(model));
        let mut found: Vec<(u64, Arc<Trace>)> =
            shown.flat_map(|(_, traces)| traces.iter().cloned()).collect();
        drop(state);
        found.sort_unstable_by_key(|(number, _)| std::cmp::Reverse(*number));
        found.into_iter().take(limit).map(|(_, trace)| trace).collect()
    }

    /// The newest of a request's id or, failing that, of a trace's.
    pub fn find(&self, id: &str, shows: impl Fn(&str) -> bool) -> Option<Arc<Trace>> {
        let all = self.newest(usize::MAX, shows);
        let trace_id = (id.len() == 32).then(|| u128::from_str_radix(id, 16).ok()).flatten();
        let of_trace = || all.iter().find(|trace| Some(trace.context.trace) == trace_id);
        all.iter().find(|trace| trace.id == id).or_else(of_trace).cloned()
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn forget_oldest(&mut self, model: &str) {
        let Some(traces) = self.traces.get_mut(model) else { return };
        if let Some((_, trace)) = traces.pop_front() {
            self.count -= 1;
            self.bytes -= trace.bytes();
        }
        if traces.is_empty() {
            self.traces.remove(model);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::super::kept::SpanContext;
    use super::*;

    fn trace(model: &str, id: &str) -> Arc<Trace> {
        Arc::new(Trace {
            id: id.to_owned(),
            model: model.to_owned(),
            version: 1,
            started: SystemTime::UNIX_EPOCH,
            context: SpanContext::new(),
            parent: None,
            outcome: "ok",
            error: None,
            spans: Vec::new(),
        })
    }

    fn ids(recent: &Recent) -> Vec<String> {
        recent.newest(usize::MAX, |_| true).iter().map(|trace| trace.id.clone()).collect()
    }

    #[test]
    fn the_oldest_go_first_of_the_busiest_model_and_then_of_all() {
        let recent = Recent::new(RecentLimits { requests: 3, of_a_model: 2, bytes: 1 << 20 });
        for (model, id) in [("quiet", "q"), ("busy", "1"), ("busy", "2"), ("busy", "3")] {
            recent.keep(trace(model, id));
        }
        assert_eq!(ids(&recent), ["3", "2", "q"]);
        recent.keep(trace("third", "t"));
        assert_eq!(ids(&recent), ["t", "3", "2"]);
    }

    #[test]
    fn bytes_are_bounded_and_one_that_is_too_large_is_not_kept() {
        let bytes = trace("m", "1").bytes();
        let recent = Recent::new(RecentLimits { requests: 9, of_a_model: 9, bytes: 2 * bytes });
        for id in ["1", "2", "3"] {
            recent.keep(trace("m", id));
        }
        assert_eq!(ids(&recent), ["3", "2"]);
        recent.keep(trace("m", &"x".repeat(2 * bytes as usize)));
        assert_eq!(ids(&recent), [""; 0]);
    }

    #[test]
    fn the_newest_of_an_id_is_found_where_it_may_be_shown() {
        let recent = Recent::new(RecentLimits { requests: 9, of_a_model: 9, bytes: 1 << 20 });
        let (older, newer) = (trace("a", "same"), trace("b", "same"));
        recent.keep(older.clone());
        recent.keep(newer.clone());
        let found = |id: &str, model: &str| recent.find(id, |shown| shown == model).map(|t| t.model.clone());
        assert!(Arc::ptr_eq(&recent.find("same", |_| true).unwrap(), &newer));
        assert_eq!(found("same", "a").as_deref(), Some("a"));
        assert_eq!(found(&older.context.trace_text(), "a").as_deref(), Some("a"));
        assert_eq!(found(&older.context.trace_text(), "b"), None);
    }
}
