//! One lane's waiting requests and what it knows of its model.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use ired_worker::Tensor;
use tokio::sync::oneshot;

use super::estimate::Estimate;
use super::lane::Turn;
use super::machine::AHEAD;
use super::policy::Batching;
use super::{Policy, Why};
use crate::trace::SpanContext;

/// The hint of a lane that has measured nothing yet.
const UNKNOWN_WAIT: Duration = Duration::from_millis(100);
/// Executions of joined requests in the worker: one that runs and one that follows it.
const BATCHES: usize = 2;

/// A request as its lane sees it.
#[derive(Debug)]
pub struct Ticket {
    pub level: u32,
    pub deadline: Instant,
    /// Memory that its execution takes for its time.
    pub peak_bytes: u64,
    /// Rows of the batch, 1 where there is none.
    pub rows: u64,
    /// What is equal in requests that may run as one; `None`: it runs alone.
    pub joins: Option<Box<[u64]>>,
    pub inputs: Vec<Tensor>,
    /// Of a request that is traced.
    pub context: Option<SpanContext>,
}

/// The order of a queue: the least is next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    /// It has waited too long already and goes last.
    pub(super) last: bool,
    level: u32,
    deadline: Instant,
    arrival: u64,
}

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) ticket: Ticket,
    pub(super) since: Instant,
    pub(super) sender: oneshot::Sender<Turn>,
}

#[derive(Debug)]
pub(super) struct LaneState {
    pub(super) model: String,
    pub(super) policy: Policy,
    pub(super) queue: BTreeMap<Key, Entry>,
    arrivals: u64,
    pub(super) running: usize,
    /// Compute time had so far for its share, never behind the machine's clock when it starts.
    pub(super) tag: f64,
    pub(super) estimate: Estimate,
    parallel: usize,
    /// Requests that the rate leaves now, and when that was so.
    allowance: Option<(f64, Instant)>,
}

impl LaneState {
    pub(super) fn new(model: &str, policy: Policy, parallel: usize) -> Self {
        Self {
            model: model.to_owned(),
            policy,
            queue: BTreeMap::new(),
            arrivals: 0,
            running: 0,
            tag: 0.0,
            estimate: Estimate::default(),
            parallel,
            allowance: None,
        }
    }

    pub(super) fn share(&self) -> f64 {
        self.policy.share.unwrap_or(1.0)
    }

    /// How many executions keep the worker busy.
    fn places(&self) -> usize {
        match (self.policy.instances, &self.policy.batching) {
            (Some(instances), _) => instances,
            (None, Some(_)) => BATCHES,
            // An unknown model may be a slow one that would fill every place with its first requests.
            (None, None) => self.estimate.places(self.parallel, AHEAD).unwrap_or(2 * self.parallel + 2),
        }
    }

    /// `free`: the machine has places left. The first of a lane needs none, so that a stuck model stops no other.
    fn has_place(&self, free: bool) -> bool {
        self.running < self.places() && (free || self.running == 0)
    }

    /// Whether a request that finds nobody waiting may start at once.
    pub(super) fn may_start_alone(&self, free: bool) -> bool {
        let holds_back =
            self.running > 0 && self.policy.batching.as_ref().is_some_and(|b| !b.max_delay.is_zero());
        self.has_place(free) && !holds_back
    }

    pub(super) fn may_start(&self, free: bool, now: Instant) -> bool {
        if self.queue.is_empty() || !self.has_place(free) {
            return false;
        }
        match &self.policy.batching {
            Some(batching) if self.running > 0 && !batching.max_delay.is_zero() => {
                self.joinable(batching).1 >= batching.worth_waiting_for() || self.is_due(batching, now)
            }
            _ => true,
        }
    }

    /// Somebody has waited for others as long as the bound says.
    fn is_due(&self, batching: &Batching, now: Instant) -> bool {
        self.queue.values().any(|entry| now.saturating_duration_since(entry.since) >= batching.max_delay)
    }

    /// Requests that can run with the next one, itself included, and their rows.
    fn joinable(&self, batching: &Batching) -> (Vec<Key>, u64) {
        let (mut keys, mut rows) = (Vec::new(), 0u64);
        let first = self.queue.values().next().map(|entry| &entry.ticket.joins);
        for (key, entry) in &self.queue {
            let alike = entry.ticket.joins.is_some() && Some(&entry.ticket.joins) == first;
            if keys.is_empty() || alike && rows + entry.ticket.rows <= batching.max_rows {
                rows += entry.ticket.rows;
                keys.push(*key);
            }
            if rows >= batching.max_rows {
                break;
            }
        }
        (keys, rows)
    }

    /// Takes what runs next as one execution, most urgent first; at least one request.
    pub(super) fn take(&mut self, now: Instant) -> Vec<(Key, Entry)> {
        let Some(batching) = &self.policy.batching else {
            return self.queue.pop_first().into_iter().collect();
        };
        let (keys, rows) = self.joinable(batching);
        let due = self.is_due(batching, now);
        let preferred = batching.preferred_rows.iter().rev().find(|&&preferred| preferred <= rows);
        let enough = preferred.copied().filter(|_| !due).unwrap_or(rows);
        let mut taken: Vec<(Key, Entry)> = Vec::with_capacity(keys.len());
        let mut left = enough;
        for key in keys {
            let fits = self.queue.get(&key).is_some_and(|entry| entry.ticket.rows <= left);
            if (fits || taken.is_empty())
                && let Some(entry) = self.queue.remove(&key)
            {
                left = left.saturating_sub(entry.ticket.rows);
                taken.push((key, entry));
            }
        }
        taken
    }

    pub(super) fn insert(&mut self, entry: Entry) -> Key {
        self.arrivals += 1;
        let Ticket { level, deadline, .. } = entry.ticket;
        let key = Key { last: false, level, deadline, arrival: self.arrivals };
        self.queue.insert(key, entry);
        key
    }

    /// Puts a waiting request behind all others.
    pub(super) fn go_last(&mut self, key: Key) -> Key {
        let Some(entry) = self.queue.remove(&key) else { return key };
        let key = Key { last: true, ..key };
        self.queue.insert(key, entry);
        key
    }

    /// How many of a level wait.
    pub(super) fn waiting(&self, level: u32) -> usize {
        self.queue.keys().filter(|key| key.level == level && !key.last).count()
    }

    /// Why a request that has so many before it cannot be answered in time; `None` where it can, or nobody knows.
    pub(super) fn too_late(&self, deadline: Instant, before: usize, now: Instant) -> Option<Why> {
        let own = self.estimate.compute()?;
        let wait = match before {
            0 => own,
            before => own + self.estimate.until_left(before, self.places())?,
        };
        let left = deadline.saturating_duration_since(now);
        (wait / 2 > left).then_some(Why::Late { wait, left })
    }

    /// As [`Self::too_late`], for one that would have to wait.
    pub(super) fn late_at_the_door(&self, ticket: &Ticket, now: Instant) -> Option<Why> {
        // Most have the time for all that wait; only for others it is counted who would be before them.
        self.too_late(ticket.deadline, self.queue.len() + self.running, now)?;
        let before =
            |key: &&Key| (key.last, key.level, key.deadline) < (false, ticket.level, ticket.deadline);
        self.too_late(ticket.deadline, self.queue.keys().take_while(before).count() + self.running, now)
    }

    /// When those that wait now will have left.
    pub(super) fn retry_after(&self) -> Duration {
        let ahead = self.queue.len() + self.running;
        self.estimate.until_left(ahead.max(1), self.places()).unwrap_or(UNKNOWN_WAIT)
    }

    /// Counts a request against the rate; an error says when there is room for one.
    pub(super) fn spend(&mut self, now: Instant) -> Result<(), (Why, Duration)> {
        let Some(per_second) = self.policy.per_second else { return Ok(()) };
        let most = per_second.max(1.0);
        let left = self.allowance.map_or(most, |(left, at)| {
            (left + now.saturating_duration_since(at).as_secs_f64() * per_second).min(most)
        });
        let enough = left >= 1.0;
        self.allowance = Some((if enough { left - 1.0 } else { left }, now));
        if enough {
            return Ok(());
        }
        let after = Duration::try_from_secs_f64((1.0 - left) / per_second).unwrap_or(Duration::MAX);
        Err((Why::Rate { per_second }, after))
    }
}

impl Batching {
    /// The fewest rows that run although the worker is busy and nobody is due.
    fn worth_waiting_for(&self) -> u64 {
        self.preferred_rows.first().copied().unwrap_or(self.max_rows)
    }
}
