//! All lanes together: what runs, what waits, and who is next.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::backlog::{Entry, Key};
use super::charge::Charges;
use super::lane::{Group, Place, Turn};
use super::memory::{Held, Memory};
use super::queue::{LaneState, Ticket};
use super::shares::Shares;
use super::{Policy, Refusal, Why};
use crate::ledger::Ledger;

/// What a worker shall have to do beyond what it runs: so long can its next request take to come on a busy machine, and so
/// long at most does a more urgent one wait for what cannot be overtaken any more.
pub(super) const AHEAD: Duration = Duration::from_millis(10);
/// What an execution is charged before one was measured.
pub(super) const UNKNOWN_COMPUTE: Duration = Duration::from_millis(1);

/// What the lanes share. Cheap to clone; clones are the same.
#[derive(Clone, Debug)]
pub struct Scheduler {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    machine: Mutex<Machine>,
    ledger: Ledger,
    /// Executions that one worker runs at the same time.
    parallel: usize,
}

#[derive(Debug)]
pub(super) struct Machine {
    pub(super) lanes: BTreeMap<u64, LaneState>,
    next_lane: u64,
    places: usize,
    running: usize,
    waiting: usize,
    pub(super) memory: Memory,
    /// What tenants have had of the machine, for their weights.
    tenants: Shares,
    /// What lanes have had of it, for their models' shares.
    models: Shares,
}

/// What a tenant and a model have had, by their tags.
#[derive(Clone, Copy)]
struct Tags {
    tenant: f64,
    model: f64,
}

impl Tags {
    /// Of nobody.
    const NONE: Self = Self { tenant: f64::INFINITY, model: f64::INFINITY };
}

/// A turn and whose it is; handed over once the lock is open.
type Handover = (oneshot::Sender<Turn>, Turn);

impl Machine {
    /// The tags of the next of a lane.
    fn tags(&self, id: u64, state: &LaneState) -> Option<Tags> {
        let (next, _) = state.backlog.next()?;
        Some(Tags { tenant: self.tenants.tag(next.tenant), model: self.models.tag(id) })
    }

    /// The least of those who wait for nothing but the machine.
    fn least(&self) -> Tags {
        let waiting = self.lanes.iter().filter(|(_, state)| state.waits_for_machine());
        waiting.filter_map(|(id, state)| self.tags(*id, state)).fold(Tags::NONE, |least, found| Tags {
            tenant: least.tenant.min(found.tenant),
            model: least.model.min(found.model),
        })
    }

    /// How long a request that came now would wait in a lane; `None` where nobody knows yet.
    pub(super) fn expected_wait(&self, lane: u64) -> Option<Duration> {
        self.lanes.get(&lane)?.expected_wait(self.running < self.places)
    }

    /// Takes memory for the next request of a lane, or for one that finds nobody waiting in it.
    fn take_memory(&mut self, lane: u64, bytes: u64) -> Result<Held, (u64, u64)> {
        let next = |lane| Some(*self.lanes.get(&lane)?.backlog.next()?.0);
        self.memory.take(lane, bytes, next)
    }

    #[cfg(test)]
    pub(super) fn is_idle(&self) -> bool {
        self.lanes.values().all(LaneState::is_idle) && self.running == 0 && self.waiting == 0
    }
}

impl Scheduler {
    /// `places` is for executions of all lanes; each lane may have one beyond it.
    pub fn new(places: usize, parallel: usize, ledger: Ledger) -> Self {
        let machine = Machine {
            lanes: BTreeMap::new(),
            next_lane: 0,
            places: places.max(1),
            running: 0,
            waiting: 0,
            memory: Memory::new(ledger.clone()),
            tenants: Shares::default(),
            models: Shares::default(),
        };
        Self { shared: Arc::new(Shared { machine: Mutex::new(machine), ledger, parallel: parallel.max(1) }) }
    }

    /// What executions have their memory from.
    pub fn ledger(&self) -> Ledger {
        self.shared.ledger.clone()
    }

    pub(super) fn add(&self, model: &str, policy: Policy) -> u64 {
        let mut machine = self.lock();
        let id = machine.next_lane;
        machine.next_lane += 1;
        machine.lanes.insert(id, LaneState::new(model, policy, self.shared.parallel));
        id
    }

    /// Those that still wait in it find their channel closed.
    pub(super) fn remove(&self, lane: u64) {
        let mut machine = self.lock();
        let removed = machine.lanes.remove(&lane);
        machine.waiting -= removed.as_ref().map_or(0, |lane| lane.backlog.len());
        machine.models.forget(lane);
        drop(machine);
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Machine> {
        self.shared.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives out what can be given, and opens the lock.
    pub(super) fn settle(&self, mut machine: MutexGuard<'_, Machine>) {
        let mut handovers = Vec::new();
        if machine.waiting > 0 {
            let now = Instant::now();
            while let Some(handover) = self.next(&mut machine, now) {
                handovers.push(handover);
            }
        }
        drop(machine);
        for (sender, turn) in handovers {
            // Who has gone meanwhile gives it back by dropping it.
            let _ = sender.send(turn);
        }
    }

    /// Takes a place for a request that need not wait, if there is one.
    pub(super) fn take(&self, machine: &mut Machine, lane: u64, ticket: &mut Ticket) -> Option<Place> {
        let free = machine.running < machine.places;
        let state = machine.lanes.get_mut(&lane)?;
        if !state.backlog.is_empty() || !state.may_start_alone(free) {
            return None;
        }
        let charges = Charges::of(ticket, state.compute());
        let memory = match ticket.memory.take() {
            Some(memory) => machine.memory.hold(memory),
            None => machine.take_memory(lane, ticket.peak_bytes).ok()?,
        };
        // While there are places, nobody waits for one.
        let least = if free { Tags::NONE } else { machine.least() };
        Some(self.start(machine, lane, memory, charges, least))
    }

    pub(super) fn enqueue(&self, machine: &mut Machine, lane: u64, entry: Entry) -> Option<Key> {
        let key = machine.lanes.get_mut(&lane)?.backlog.insert(entry);
        machine.waiting += 1;
        Some(key)
    }

    pub(super) fn dequeue(&self, machine: &mut Machine, lane: u64, key: &Key) -> Option<Entry> {
        let entry = machine.lanes.get_mut(&lane)?.backlog.remove(key)?;
        machine.waiting -= 1;
        Some(entry)
    }

    /// What can never have its memory is told so at once.
    pub(super) fn check_memory(&self, model: &str, peak_bytes: u64) -> Result<(), Refusal> {
        let (budget, in_use) = self.shared.ledger.usage();
        if peak_bytes <= budget {
            return Ok(());
        }
        let why = Why::Memory { needs: peak_bytes, budget, in_use };
        Err(Refusal::new(model, why, Duration::MAX))
    }

    fn start(&self, machine: &mut Machine, lane: u64, memory: Held, charges: Charges, least: Tags) -> Place {
        machine.running += 1;
        charges.serve(&mut machine.tenants, least.tenant);
        if let Some(state) = machine.lanes.get_mut(&lane) {
            state.running += 1;
            // Here it always was the least's turn.
            charges.serve(&mut state.backlog.shares, f64::INFINITY);
            let cost = charges.estimated.as_secs_f64() / state.share();
            machine.models.serve(lane, cost, least.model);
        }
        Place::new(self.clone(), lane, charges, memory)
    }

    /// The next that can be told something: its turn, or why it does not come.
    fn next(&self, machine: &mut Machine, now: Instant) -> Option<Handover> {
        let free = machine.running < machine.places;
        // First between tenants, whichever models they ask; then between models.
        let ready = machine.lanes.iter().filter(|(_, state)| state.may_start(free, now));
        let ready = ready.filter_map(|(id, state)| Some((machine.tags(*id, state)?, *id)));
        let mut ready: Vec<(Tags, u64)> = ready.collect();
        ready.sort_by(|(a, _), (b, _)| a.tenant.total_cmp(&b.tenant).then(a.model.total_cmp(&b.model)));
        for (_, id) in ready {
            let Some(state) = machine.lanes.get(&id) else { continue };
            let Some((key, entry)) = state.backlog.next() else { continue };
            if let Some(why) = state.too_late(entry.ticket.deadline, 0, now) {
                let retry_after = state.retry_after();
                return self.refuse(machine, id, why, retry_after);
            }
            if entry.ticket.memory.is_some() {
                return self.give(machine, id, None, now);
            }
            let (key, needs) = (*key, entry.ticket.peak_bytes);
            match machine.take_memory(id, needs) {
                Ok(memory) => return self.give(machine, id, Some(memory), now),
                // Whoever runs gives memory back, and comes by here.
                Err(_) if machine.running > 0 && machine.memory.keep(id, key, needs) => {}
                // The one that it is kept for is among those that are looked at.
                Err(_) if machine.memory.is_kept_from(id) => {}
                Err(_) => return self.hand_back(machine, id),
            }
        }
        None
    }

    fn refuse(&self, machine: &mut Machine, lane: u64, why: Why, after: Duration) -> Option<Handover> {
        let state = machine.lanes.get_mut(&lane)?;
        let next = *state.backlog.next()?.0;
        let entry = state.backlog.remove(&next)?;
        let refusal = Refusal::new(&state.model, why, after);
        machine.waiting -= 1;
        Some((entry.sender, Turn::Refused(refusal)))
    }

    /// Lets the next of a lane see for itself how it gets memory.
    fn hand_back(&self, machine: &mut Machine, lane: u64) -> Option<Handover> {
        let state = machine.lanes.get_mut(&lane)?;
        let next = *state.backlog.next()?.0;
        let entry = state.backlog.remove(&next)?;
        machine.waiting -= 1;
        Some((entry.sender, Turn::NoRoom(Box::new(entry.ticket))))
    }

    /// Gives the next of a lane its turn, and those who join it; `memory` is what was got for it here.
    fn give(&self, machine: &mut Machine, lane: u64, memory: Option<Held>, now: Instant) -> Option<Handover> {
        let state = machine.lanes.get_mut(&lane)?;
        let mut members = state.take(now);
        let own = members.first_mut().and_then(|(_, entry)| entry.ticket.memory.take());
        let mut memory = match memory {
            Some(memory) => memory,
            None => machine.memory.hold(own.unwrap_or_else(|| self.shared.ledger.empty())),
        };
        // As many as there is memory for.
        while !memory.resize(state.peak_bytes(&members)) && members.len() > 1 {
            let last = members.pop();
            last.into_iter().for_each(|(key, entry)| state.backlog.put(key, entry));
        }
        // What they had brought is counted now.
        members.iter_mut().for_each(|(_, entry)| entry.ticket.memory = None);
        let charges = Charges::of_all(&members, state.compute());
        machine.waiting -= members.len();
        let least = if machine.waiting > 0 { machine.least() } else { Tags::NONE };
        let place = self.start(machine, lane, memory, charges, least);
        if members.len() == 1 {
            let (_, entry) = members.pop()?;
            return Some((
                entry.sender,
                Turn::Alone { place, inputs: entry.ticket.inputs, since: entry.since },
            ));
        }
        // The leader's own answer comes to it as everybody's does.
        let (sender, answer) = oneshot::channel();
        let to_leader = std::mem::replace(&mut members.first_mut()?.1.sender, sender);
        let group = Group::new(self.clone(), lane, place, members);
        Some((to_leader, Turn::Lead { answer, group }))
    }

    /// Takes back what a leader has left.
    pub(super) fn take_back(&self, lane: u64, members: Vec<(Key, Entry)>) {
        let mut machine = self.lock();
        if let Some(state) = machine.lanes.get_mut(&lane) {
            let before = state.backlog.len();
            for (key, entry) in members.into_iter().filter(|(_, entry)| !entry.sender.is_closed()) {
                state.backlog.put(key, entry);
            }
            machine.waiting += state.backlog.len() - before;
        }
    }

    /// Ends an execution; `worked` is how long it computed and for how many requests. One that was given up may have
    /// computed all the time that it was held, and is charged that; but nothing is learned from it.
    pub(super) fn give_back(
        &self,
        lane: u64,
        held: Duration,
        charges: &Charges,
        worked: Option<(Duration, usize)>,
    ) {
        let mut guard = self.lock();
        let machine = &mut *guard;
        machine.running -= 1;
        let took = worked.map_or(held.max(charges.estimated), |(compute, _)| compute);
        charges.correct(&mut machine.tenants, took);
        if worked.is_some() {
            charges.note(took);
        }
        if let Some(state) = machine.lanes.get_mut(&lane) {
            state.running -= 1;
            charges.correct(&mut state.backlog.shares, took);
            machine.models.charge(lane, charges.more(took) / state.share());
            if let Some((compute, requests)) = worked {
                state.estimate.note(held, compute, requests);
            }
            if state.is_idle() {
                state.backlog.shares.reset();
            }
        }
        if machine.running == 0 && machine.waiting == 0 {
            machine.tenants.reset();
            machine.models.reset();
        }
        self.settle(guard);
    }
}
