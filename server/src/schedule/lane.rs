//! A model version's way in: waiting, places, and what joined requests are told.

use std::sync::Arc;
use std::time::{Duration, Instant};

use ired_worker::{RuntimeFailure, Tensor};
use tokio::sync::oneshot;

use super::backlog::{Entry, Key};
use super::charge::Charges;
use super::memory::Held;
use super::policy::AfterTimeout;
use super::queue::Ticket;
use super::{Policy, Refusal, Scheduler, Why};
use crate::course::Execution;
use crate::error::Error;
use crate::peaks::Peaks;

/// Where the requests of one model version wait and run.
#[derive(Debug)]
pub struct Lane {
    scheduler: Scheduler,
    id: u64,
    model: String,
    policy: Policy,
}

/// What came of waiting.
#[derive(Debug)]
pub enum Turn {
    /// Run it, as the holder of this place.
    Alone {
        place: Place,
        inputs: Vec<Tensor>,
        since: Instant,
    },
    /// Run these as one, and find the own answer here.
    Lead {
        answer: oneshot::Receiver<Turn>,
        group: Group,
    },
    /// Somebody else has run it: this request's share of the outputs.
    Answered(Result<(Vec<Tensor>, Execution), RuntimeFailure>),
    Refused(Refusal),
    /// Nothing that runs could give enough memory back. Who makes room elsewhere may enter again with it.
    NoRoom(Box<Ticket>),
}

impl Lane {
    pub fn new(scheduler: &Scheduler, model: &str, policy: Policy) -> Self {
        let id = scheduler.add(model, policy.clone());
        Self { scheduler: scheduler.clone(), id, model: model.to_owned(), policy }
    }

    /// Joins requests by what is known of their memory together.
    pub fn know(&self, peaks: Arc<Peaks>) {
        if let Some(state) = self.scheduler.lock().lanes.get_mut(&self.id) {
            state.peaks = Some(peaks);
        }
    }

    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// How many wait.
    pub fn waiting(&self) -> usize {
        self.scheduler.lock().lanes.get(&self.id).map_or(0, |state| state.backlog.len())
    }

    /// How long one that came now would wait for its turn; `None` before the model has run.
    pub fn expected_wait(&self) -> Option<Duration> {
        self.scheduler.lock().expected_wait(self.id)
    }

    /// What executions of all lanes have of the memory budget, which they give back before long.
    pub fn running_bytes(&self) -> u64 {
        self.scheduler.lock().memory.running_bytes()
    }

    /// When to come again for who finds no room.
    pub fn retry_after(&self) -> Duration {
        self.scheduler.lock().lanes.get(&self.id).map_or(Duration::ZERO, |state| state.retry_after())
    }

    /// Gives a request its turn, or a place in the queue.
    ///
    /// `timeout` is what the request says of how long it may wait; the policy decides whether that counts.
    ///
    /// # Errors
    /// [`Error::Refused`] when it does not run; [`Error::Stopping`] when the lane goes.
    pub fn enter(&self, mut ticket: Ticket, timeout: Option<Duration>) -> Result<Entered, Error> {
        let queue = self.policy.queue(ticket.level);
        let refused = |(why, after)| Error::Refused(Refusal::new(&self.model, why, after));
        self.scheduler.check_memory(&self.model, ticket.peak_bytes).map_err(Error::Refused)?;
        let mut machine = self.scheduler.lock();
        let state = machine.lanes.get_mut(&self.id).ok_or(Error::Stopping)?;
        let since = Instant::now();
        // Who has memory already was here before.
        if ticket.memory.is_none() && !ticket.goes_on {
            state.spend(since).map_err(refused)?;
        }
        if let Some(place) = self.scheduler.take(&mut machine, self.id, &mut ticket) {
            return Ok(Entered::Started(Turn::Alone { place, inputs: ticket.inputs, since }));
        }
        let state = machine.lanes.get_mut(&self.id).ok_or(Error::Stopping)?;
        let level = self.policy.queue_of(ticket.level);
        let waiting = |limit: &usize| state.backlog.waiting(ticket.tenant_id(), level) >= *limit;
        if let Some(limit) = queue.max_waiting.filter(waiting) {
            let why = level.map_or(Why::Queued { limit }, |_| Why::Waiting { limit });
            return Err(refused((why, state.retry_after())));
        }
        if let Some(why) = state.late_at_the_door(&ticket, since) {
            return Err(refused((why, state.retry_after())));
        }
        let counts = ticket.tenant.as_ref().filter(|_| !ticket.goes_on);
        let waits = counts.map(|tenant| tenant.wait(|| state.retry_after())).transpose()?;
        let (sender, turn) = oneshot::channel();
        let entry = Entry { ticket, since, sender, _waits: waits };
        let key = self.scheduler.enqueue(&mut machine, self.id, entry).ok_or(Error::Stopping)?;
        // It may be what others waited for.
        self.scheduler.settle(machine);
        // The end of holding back for others comes from those who wait for it.
        let batching = self.policy.batching.as_ref().filter(|batching| !batching.max_delay.is_zero());
        let due = batching.and_then(|batching| since.checked_add(batching.max_delay));
        let limit = queue.wait(timeout);
        let scheduler = self.scheduler.clone();
        Ok(Entered::Waiting(Waiting {
            scheduler,
            lane: self.id,
            key,
            since,
            due,
            limit,
            after: queue.after_timeout,
            turn,
        }))
    }
}

/// What has become of a request that went in.
pub enum Entered {
    Started(Turn),
    Waiting(Waiting),
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.scheduler.remove(self.id);
    }
}

/// A request in the queue, which its drop takes out.
pub struct Waiting {
    scheduler: Scheduler,
    lane: u64,
    key: Key,
    since: Instant,
    /// When it is held back no longer for others to join it.
    due: Option<Instant>,
    /// How long it may wait, and what happens then.
    limit: Option<Duration>,
    after: AfterTimeout,
    turn: oneshot::Receiver<Turn>,
}

impl Waiting {
    /// The request's turn. Dropping the future gives up the wait.
    ///
    /// # Errors
    /// [`Error::Refused`] when it does not run; [`Error::Stopping`] when the lane goes.
    pub async fn turn(mut self) -> Result<Turn, Error> {
        match self.waited().await? {
            Turn::Refused(refusal) => Err(Error::Refused(refusal)),
            turn => Ok(turn),
        }
    }

    async fn waited(&mut self) -> Result<Turn, Error> {
        let timed_out = self.limit.and_then(|limit| self.since.checked_add(limit));
        let mut alarms = [(self.due, false), (timed_out, true)];
        alarms.sort_by_key(|(at, _)| (at.is_none(), *at));
        for (at, is_timeout) in alarms {
            let Some(at) = at else { break };
            if let Ok(turn) = tokio::time::timeout_at(at.into(), &mut self.turn).await {
                return turn.map_err(|_| Error::Stopping);
            }
            if is_timeout {
                self.time_out()?;
            } else {
                self.scheduler.settle(self.scheduler.lock());
            }
        }
        (&mut self.turn).await.map_err(|_| Error::Stopping)
    }

    fn time_out(&mut self) -> Result<(), Error> {
        let mut machine = self.scheduler.lock();
        let Some(state) = machine.lanes.get_mut(&self.lane) else { return Ok(()) };
        if !state.backlog.contains(&self.key) {
            // Its turn is on the way.
            return Ok(());
        }
        match self.after {
            AfterTimeout::GoLast => {
                self.key = state.backlog.go_last(self.key);
                Ok(())
            }
            AfterTimeout::Refuse => {
                let limit = self.limit.unwrap_or_default();
                let refusal = Refusal::new(&state.model, Why::Waited { limit }, state.retry_after());
                Err(Error::Refused(refusal))
            }
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let scheduler = &self.scheduler;
        let mut machine = scheduler.lock();
        let entry = scheduler.dequeue(&mut machine, self.lane, &self.key);
        // It may have been what others waited behind.
        if let Some(mut entry) = entry {
            // First, so that whoever comes next finds it free.
            entry.ticket.memory = None;
            scheduler.settle(machine);
        }
    }
}

/// The right to one execution in the worker; its drop hands it on.
#[derive(Debug)]
pub struct Place {
    scheduler: Scheduler,
    lane: u64,
    since: Instant,
    charges: Charges,
    worked: Option<(Duration, usize)>,
    memory: Option<Held>,
}

impl Place {
    pub(super) fn new(scheduler: Scheduler, lane: u64, charges: Charges, memory: Held) -> Self {
        Self { scheduler, lane, since: Instant::now(), charges, worked: None, memory: Some(memory) }
    }

    /// Since when it is held.
    pub fn since(&self) -> Instant {
        self.since
    }

    /// Makes its memory so many bytes; `false` where there are not so many.
    fn resize(&mut self, bytes: u64) -> bool {
        self.memory.as_mut().is_some_and(|memory| memory.resize(bytes))
    }

    /// Notes what the execution took; one that did not end counts for the time that the place was held.
    pub fn worked(&mut self, compute: Duration, requests: usize) {
        self.worked = Some((compute, requests));
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // First, so that whoever comes next finds the memory free.
        self.memory = None;
        self.scheduler.give_back(self.lane, self.since.elapsed(), &self.charges, self.worked);
    }
}

/// Requests that run as one. Dropped before it was taken, it puts them back.
#[derive(Debug)]
pub struct Group {
    scheduler: Scheduler,
    lane: u64,
    taken: Option<(Place, Vec<(Key, Entry)>)>,
}

/// One of a group.
#[derive(Debug)]
pub struct Member {
    pub ticket: Ticket,
    pub since: Instant,
    pub answer: oneshot::Sender<Turn>,
}

impl Group {
    pub(super) fn new(scheduler: Scheduler, lane: u64, place: Place, members: Vec<(Key, Entry)>) -> Self {
        Self { scheduler, lane, taken: Some((place, members)) }
    }

    /// The leader's request, and the rows of all.
    pub fn leader(&self) -> Option<(&Ticket, u64)> {
        let (_, members) = self.taken.as_ref()?;
        let rows = members.iter().map(|(_, entry)| entry.ticket.rows).sum();
        Some((&members.first()?.1.ticket, rows))
    }

    /// Makes its memory so many bytes; `false` where there are not so many.
    pub fn resize(&mut self, bytes: u64) -> bool {
        self.taken.as_mut().is_some_and(|(place, _)| place.resize(bytes))
    }

    /// The place and the members, first the leader.
    pub fn take(mut self) -> Option<(Place, Vec<Member>)> {
        let (place, members) = self.taken.take()?;
        let member = |(_, entry): (Key, Entry)| {
            let Entry { ticket, since, sender, .. } = entry;
            Member { ticket, since, answer: sender }
        };
        Some((place, members.into_iter().map(member).collect()))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some((place, members)) = self.taken.take() {
            self.scheduler.take_back(self.lane, members);
            drop(place);
        }
    }
}
