//! One lane's state: what waits, what runs, and what it knows of its model.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ired_worker::Tensor;

use super::backlog::{Backlog, Entry, Key};
use super::estimate::Estimate;
use super::machine::{AHEAD, UNKNOWN_COMPUTE};
use super::policy::Batching;
use super::rate::{Allowance, Rate};
use super::{Policy, Why};
use crate::ledger::Reservation;
use crate::peaks::Peaks;
use crate::tenants::{self, Tenant};
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
    /// Its request has run before, and counts against rates and limits of requests no more.
    pub goes_on: bool,
    /// Memory that its execution takes for its time.
    pub peak_bytes: u64,
    /// As much of it as was got beforehand.
    pub memory: Option<Reservation>,
    /// Rows of the batch, 1 where there is none.
    pub rows: u64,
    /// What is equal in requests that may run as one; `None`: it runs alone.
    pub joins: Option<Box<[u64]>>,
    pub inputs: Vec<Tensor>,
    /// Of a request that is traced.
    pub context: Option<SpanContext>,
    /// Whose it is; `None` where nobody is told apart.
    pub tenant: Option<Arc<Tenant>>,
}

impl Ticket {
    pub(super) fn tenant_id(&self) -> u64 {
        self.tenant.as_ref().map_or(tenants::DEFAULT_ID, |tenant| tenant.id())
    }

    pub(super) fn weight(&self) -> f64 {
        self.tenant.as_ref().map_or(1.0, |tenant| tenant.weight())
    }
}

#[derive(Debug)]
pub(super) struct LaneState {
    pub(super) model: String,
    pub(super) policy: Policy,
    pub(super) backlog: Backlog,
    pub(super) running: usize,
    pub(super) estimate: Estimate,
    /// What joined requests take, as far as it is known.
    pub(super) peaks: Option<Arc<Peaks>>,
    parallel: usize,
    allowance: Allowance,
}

impl LaneState {
    pub(super) fn new(model: &str, policy: Policy, parallel: usize) -> Self {
        Self {
            model: model.to_owned(),
            policy,
            backlog: Backlog::default(),
            running: 0,
            estimate: Estimate::default(),
            peaks: None,
            parallel,
            allowance: Allowance::default(),
        }
    }

    pub(super) fn share(&self) -> f64 {
        self.policy.share.unwrap_or(1.0)
    }

    pub(super) fn is_idle(&self) -> bool {
        self.running == 0 && self.backlog.is_empty()
    }

    /// How long an execution computes, as far as is known.
    pub(super) fn compute(&self) -> Duration {
        self.estimate.compute().unwrap_or(UNKNOWN_COMPUTE)
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

    /// Whether all that keeps its next request waiting is that the machine has no place.
    pub(super) fn waits_for_machine(&self) -> bool {
        !self.backlog.is_empty() && self.running < self.places()
    }

    /// Whether a request that finds nobody waiting may start at once.
    pub(super) fn may_start_alone(&self, free: bool) -> bool {
        let holds_back =
            self.running > 0 && self.policy.batching.as_ref().is_some_and(|b| !b.max_delay.is_zero());
        self.has_place(free) && !holds_back
    }

    pub(super) fn may_start(&self, free: bool, now: Instant) -> bool {
        if self.backlog.is_empty() || !self.has_place(free) {
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
        self.backlog.entries().any(|entry| now.saturating_duration_since(entry.since) >= batching.max_delay)
    }

    /// Requests that can run with the next one, itself included, and their rows.
    fn joinable(&self, batching: &Batching) -> (Vec<Key>, u64) {
        let row_cost = self.compute().as_secs_f64() / batching.max_rows.max(1) as f64;
        self.backlog.joinable(batching.max_rows, self.requests_within(batching), row_cost)
    }

    /// How many requests one execution may have by what they compute; one where nobody knows yet what that is.
    fn requests_within(&self, batching: &Batching) -> usize {
        let Some(most) = batching.max_compute else { return usize::MAX };
        let within = |each: Duration| most.as_secs_f64() / each.as_secs_f64().max(1e-9);
        self.estimate.compute_each().map_or(1, |each| within(each).max(1.0) as usize)
    }

    /// Takes what runs next as one execution, most urgent first; at least one request.
    pub(super) fn take(&mut self, now: Instant) -> Vec<(Key, Entry)> {
        let Some(batching) = &self.policy.batching else {
            let next = self.backlog.next().map(|(key, _)| *key);
            return next.and_then(|key| Some((key, self.backlog.remove(&key)?))).into_iter().collect();
        };
        let (keys, rows) = self.joinable(batching);
        let mut left = batching.worth_taking(rows, self.is_due(batching, now));
        let mut taken: Vec<(Key, Entry)> = Vec::with_capacity(keys.len());
        for key in keys {
            let Some(entry) = self.backlog.remove(&key) else { continue };
            if entry.ticket.rows <= left || taken.is_empty() {
                left = left.saturating_sub(entry.ticket.rows);
                taken.push((key, entry));
            } else {
                self.backlog.put(key, entry);
            }
        }
        taken
    }

    /// What the execution of these takes; where nobody has asked that yet, what they take one by one.
    pub(super) fn peak_bytes(&self, members: &[(Key, Entry)]) -> u64 {
        let tickets = || members.iter().map(|(_, entry)| &entry.ticket);
        let known = match (&self.peaks, members) {
            (Some(peaks), [(_, first), _, ..]) => {
                let rows = tickets().map(|ticket| ticket.rows).sum();
                peaks.find(&peaks.joined(first.ticket.tenant.as_deref(), &first.ticket.inputs, rows))
            }
            _ => None,
        };
        known.unwrap_or_else(|| tickets().fold(0, |sum, ticket| sum.saturating_add(ticket.peak_bytes)))
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
        self.too_late(ticket.deadline, self.backlog.len() + self.running, now)?;
        self.too_late(ticket.deadline, self.backlog.before(ticket) + self.running, now)
    }

    /// How long one that came now would wait for its turn, as refusals estimate it; `None` where nobody knows yet.
    pub(super) fn expected_wait(&self, free: bool) -> Option<Duration> {
        if self.backlog.is_empty() && self.may_start_alone(free) {
            return Some(Duration::ZERO);
        }
        self.estimate.until_left(self.backlog.len() + self.running, self.places())
    }

    /// When those that wait now will have left.
    pub(super) fn retry_after(&self) -> Duration {
        let ahead = self.backlog.len() + self.running;
        self.estimate.until_left(ahead.max(1), self.places()).unwrap_or(UNKNOWN_WAIT)
    }

    /// Counts a request against the rate; an error says when there is room for one.
    pub(super) fn spend(&mut self, now: Instant) -> Result<(), (Why, Duration)> {
        let Some(per_second) = self.policy.per_second else { return Ok(()) };
        let spent = self.allowance.spend(Rate::new(per_second), now);
        spent.map_err(|after| (Why::Rate { per_second }, after))
    }
}

impl Batching {
    /// The fewest rows that run although the worker is busy and nobody is due.
    fn worth_waiting_for(&self) -> u64 {
        self.preferred_rows.first().copied().or(self.sizes.enough()).unwrap_or(self.max_rows)
    }

    /// How many of the rows that wait run next; `due`: somebody has waited for others as long as he may.
    fn worth_taking(&self, rows: u64, due: bool) -> u64 {
        if self.preferred_rows.is_empty() {
            return self.sizes.first(rows);
        }
        let preferred = self.preferred_rows.iter().rev().find(|&&preferred| preferred <= rows);
        preferred.copied().filter(|_| !due).unwrap_or(rows)
    }
}
