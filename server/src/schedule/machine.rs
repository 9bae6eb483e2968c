//! All lanes together: what runs, what waits, and who is next.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::lane::{Group, Place, Turn};
use super::queue::{Entry, Key, LaneState};
use super::{Policy, Refusal, Why};
use crate::ledger::{Ledger, Reservation};

/// What a worker shall have to do beyond what it runs: so long can its next request take to come on a busy machine, and so
/// long at most does a more urgent one wait for what cannot be overtaken any more.
pub(super) const AHEAD: Duration = Duration::from_millis(10);
/// What an execution is charged before one was measured.
const UNKNOWN_COMPUTE: Duration = Duration::from_millis(1);

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
    /// The tag of the lane that was last given a place: where lanes that wake up begin.
    clock: f64,
}

/// A turn and whose it is; handed over once the lock is open.
type Handover = (oneshot::Sender<Turn>, Turn);

#[cfg(test)]
impl Machine {
    pub(super) fn is_idle(&self) -> bool {
        let lanes = self.lanes.values().all(|lane| lane.running == 0 && lane.queue.is_empty());
        lanes && self.running == 0 && self.waiting == 0
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
            clock: 0.0,
        };
        Self { shared: Arc::new(Shared { machine: Mutex::new(machine), ledger, parallel: parallel.max(1) }) }
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
        machine.waiting -= removed.as_ref().map_or(0, |lane| lane.queue.len());
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
    pub(super) fn take(&self, machine: &mut Machine, lane: u64, peak_bytes: u64) -> Option<Place> {
        let free = machine.running < machine.places;
        let state = machine.lanes.get_mut(&lane)?;
        if !state.queue.is_empty() || !state.may_start_alone(free) {
            return None;
        }
        let memory = self.shared.ledger.reserve(peak_bytes).ok()?;
        Some(self.start(machine, lane, memory))
    }

    pub(super) fn enqueue(&self, machine: &mut Machine, lane: u64, entry: Entry) -> Option<Key> {
        let key = machine.lanes.get_mut(&lane)?.insert(entry);
        machine.waiting += 1;
        Some(key)
    }

    pub(super) fn dequeue(&self, machine: &mut Machine, lane: u64, key: &Key) -> Option<Entry> {
        let entry = machine.lanes.get_mut(&lane)?.queue.remove(key)?;
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

    fn start(&self, machine: &mut Machine, lane: u64, memory: Reservation) -> Place {
        machine.running += 1;
        let clock = machine.clock;
        let charged = machine.lanes.get_mut(&lane).map_or(0.0, |state| {
            let compute = state.estimate.compute().unwrap_or(UNKNOWN_COMPUTE).as_secs_f64();
            let charged = compute / state.share();
            state.running += 1;
            state.tag = state.tag.max(clock);
            machine.clock = state.tag;
            state.tag += charged;
            charged
        });
        Place::new(self.clone(), lane, charged, memory)
    }

    /// The next that can be told something: its turn, or why it does not come.
    fn next(&self, machine: &mut Machine, now: Instant) -> Option<Handover> {
        let free = machine.running < machine.places;
        let mut ready: Vec<(f64, u64)> = machine
            .lanes
            .iter()
            .filter(|(_, state)| state.may_start(free, now))
            .map(|(id, state)| (state.tag.max(machine.clock), *id))
            .collect();
        ready.sort_by(|a, b| a.0.total_cmp(&b.0));
        for (_, id) in ready {
            let running = machine.running;
            let Some(state) = machine.lanes.get_mut(&id) else { continue };
            let Some(entry) = state.queue.values().next() else { continue };
            if let Some(why) = state.too_late(entry.ticket.deadline, 0, now) {
                let retry_after = state.retry_after();
                return self.refuse(machine, id, why, retry_after);
            }
            match self.shared.ledger.reserve(entry.ticket.peak_bytes) {
                Ok(memory) => return self.give(machine, id, memory, now),
                // Whoever runs gives memory back, and comes by here.
                Err(_) if running > 0 => {}
                Err((budget, in_use)) => {
                    let why = Why::Memory { needs: entry.ticket.peak_bytes, budget, in_use };
                    let retry_after = state.retry_after();
                    return self.refuse(machine, id, why, retry_after);
                }
            }
        }
        None
    }

    fn refuse(&self, machine: &mut Machine, lane: u64, why: Why, after: Duration) -> Option<Handover> {
        let state = machine.lanes.get_mut(&lane)?;
        let (_, entry) = state.queue.pop_first()?;
        let refusal = Refusal::new(&state.model, why, after);
        machine.waiting -= 1;
        Some((entry.sender, Turn::Refused(refusal)))
    }

    fn give(&self, machine: &mut Machine, lane: u64, memory: Reservation, now: Instant) -> Option<Handover> {
        let mut members = machine.lanes.get_mut(&lane)?.take(now);
        machine.waiting -= members.len();
        let place = self.start(machine, lane, memory);
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
            let before = state.queue.len();
            state.queue.extend(members.into_iter().filter(|(_, entry)| !entry.sender.is_closed()));
            let more = state.queue.len() - before;
            machine.waiting += more;
        }
    }

    /// Ends an execution; `worked` is how long it computed and for how many requests.
    pub(super) fn give_back(
        &self,
        lane: u64,
        held: Duration,
        charged: f64,
        worked: Option<(Duration, usize)>,
    ) {
        let mut machine = self.lock();
        machine.running -= 1;
        if let Some(state) = machine.lanes.get_mut(&lane) {
            state.running -= 1;
            if let Some((compute, requests)) = worked {
                state.tag += compute.as_secs_f64() / state.share() - charged;
                state.estimate.note(held, compute, requests);
            }
        }
        self.settle(machine);
    }
}
