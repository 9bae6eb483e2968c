//! Work in flight: what it waits for, signals and touches, and whether two pieces of it are ordered.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::Violation;
use super::objects::CheckedBuffer;
use crate::{Access, Semaphore, Timepoint};

/// Everything in flight on one device.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    numbers: AtomicU64,
    work: Mutex<Work>,
}

/// One submission. Semaphores and buffers are numbers, so that the ledger keeps nothing alive.
#[derive(Debug, Default)]
pub(super) struct Node {
    pub(super) waits: Vec<(u64, u64)>,
    pub(super) signals: Vec<(u64, u64)>,
    pub(super) uses: Vec<Use>,
}

#[derive(Clone, Debug)]
pub(super) struct Use {
    pub(super) buffer: u64,
    pub(super) bytes: Range<u64>,
    pub(super) access: Access,
}

/// A change of a buffer's memory that a submission makes.
pub(super) struct MemoryChange<'a> {
    pub(super) buffer: &'a CheckedBuffer,
    pub(super) allocate: bool,
}

#[derive(Debug, Default)]
struct Work {
    nodes: HashMap<u64, InFlight>,
    /// Who signals a semaphore, by value.
    signals: HashMap<u64, BTreeMap<u64, u64>>,
    /// Who uses a buffer.
    users: HashMap<u64, Vec<u64>>,
    next: u64,
    /// Completed work is forgotten when there are this many.
    prune_at: usize,
}

#[derive(Debug)]
struct InFlight {
    node: Node,
    /// Points of the device below that it signals, of which the first is nobody else's. The work itself keeps the
    /// semaphores while it is in flight.
    done: Vec<(Weak<dyn Semaphore>, u64)>,
}

impl Ledger {
    pub(super) fn next_number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    /// Adds a submission, or says why it must not be made. `done` is a point of its own, then those it signals.
    pub(super) fn enter(
        &self,
        node: Node,
        done: &[Timepoint],
        change: Option<&MemoryChange<'_>>,
    ) -> Result<(), Violation> {
        let mut work = self.lock();
        if work.nodes.len() >= work.prune_at {
            work.prune();
        }
        work.check_signals(&node, &done[1..])?;
        if let Some(MemoryChange { buffer, allocate }) = change {
            let Some(allocated) = &buffer.allocated else { return Err(Violation::NotReserved) };
            match (allocate, allocated.load(Ordering::SeqCst)) {
                (true, true) => return Err(Violation::AllocatedTwice),
                (false, false) => return Err(Violation::NotAllocated),
                _ => {}
            }
        }
        let done = done.iter().map(|point| (Arc::downgrade(&point.semaphore), point.value)).collect();
        let number = work.insert(node, done);
        if let Err(violation) = work.check_order(number, change.is_some_and(|c| !c.allocate)) {
            work.remove(number);
            return Err(violation);
        }
        if let Some(MemoryChange { buffer, allocate }) = change
            && let Some(allocated) = &buffer.allocated
        {
            allocated.store(*allocate, Ordering::SeqCst);
        }
        Ok(())
    }

    /// Whether work in flight touches these bytes in a way that the host must not come between.
    pub(super) fn is_busy(&self, buffer: u64, bytes: Range<u64>, host_writes: bool) -> bool {
        let work = self.lock();
        let users = work.users.get(&buffer).into_iter().flatten();
        users.filter_map(|number| work.nodes.get(number)).any(|other| {
            let clashes = |used: &Use| {
                let known = used.access != Access::Unknown;
                used.buffer == buffer
                    && overlap(&used.bytes, &bytes)
                    && known
                    && (host_writes || used.access.writes())
            };
            // Work behind points that are not reached has not begun, but the host cannot know when it does.
            other.node.uses.iter().any(clashes) && !other.is_done()
        })
    }

    fn lock(&self) -> MutexGuard<'_, Work> {
        self.work.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Work {
    fn check_signals(&self, node: &Node, points: &[Timepoint]) -> Result<(), Violation> {
        for (index, (semaphore, value)) in node.signals.iter().enumerate() {
            if node.signals[..index].iter().any(|(other, _)| other == semaphore) {
                return Err(Violation::SignalsTwice);
            }
            let waited = node.waits.iter().filter(|(other, _)| other == semaphore).map(|(_, waited)| *waited);
            if let Some(waited) = waited.max().filter(|waited| waited >= value) {
                return Err(Violation::WaitsForItself { value: waited, signalled: *value });
            }
            // A failed semaphore fails the work; that is no mistake of the caller's.
            let current = points[index].semaphore.value().unwrap_or(0);
            let promised = self.signals.get(semaphore).is_some_and(|by_value| by_value.contains_key(value));
            if current >= *value || promised {
                return Err(Violation::SignalNotIncreasing { value: *value, current });
            }
        }
        Ok(())
    }

    /// Whether everything in flight that clashes with `number` comes before or after it.
    fn check_order(&self, number: u64, frees: bool) -> Result<(), Violation> {
        let Some(this) = self.nodes.get(&number) else { return Ok(()) };
        let mut before: Option<HashSet<u64>> = None;
        for used in &this.node.uses {
            for other in self.users.get(&used.buffer).into_iter().flatten() {
                let Some(others) = self.nodes.get(other).filter(|_| *other != number) else { continue };
                let mut clashes = others.node.uses.iter().filter(|theirs| clash(used, theirs, frees));
                let Some(theirs) = clashes.next() else { continue };
                if others.is_done() {
                    continue;
                }
                if before.get_or_insert_with(|| self.ancestors(number)).contains(other)
                    || self.ancestors(*other).contains(&number)
                {
                    continue;
                }
                if frees {
                    return Err(Violation::InUse);
                }
                let start = used.bytes.start.max(theirs.bytes.start);
                let len_bytes = used.bytes.end.min(theirs.bytes.end) - start;
                return Err(Violation::Unordered { offset_bytes: start, len_bytes });
            }
        }
        Ok(())
    }

    /// Everything in flight that completes before `number` starts: what signals a point it waits for, or an earlier
    /// point of the same semaphore, and so on.
    fn ancestors(&self, number: u64) -> HashSet<u64> {
        let mut found = HashSet::new();
        let mut open = vec![number];
        while let Some(number) = open.pop() {
            let waits = self.nodes.get(&number).map_or(&[][..], |n| &n.node.waits);
            for (semaphore, value) in waits {
                let Some(signals) = self.signals.get(semaphore) else { continue };
                for before in signals.range(..=value).map(|(_, before)| *before) {
                    if found.insert(before) {
                        open.push(before);
                    }
                }
            }
        }
        found
    }

    fn insert(&mut self, node: Node, done: Vec<(Weak<dyn Semaphore>, u64)>) -> u64 {
        let number = self.next;
        self.next += 1;
        for (semaphore, value) in &node.signals {
            self.signals.entry(*semaphore).or_default().insert(*value, number);
        }
        for used in &node.uses {
            let users = self.users.entry(used.buffer).or_default();
            if users.last() != Some(&number) {
                users.push(number);
            }
        }
        self.nodes.insert(number, InFlight { node, done });
        number
    }

    fn remove(&mut self, number: u64) {
        let Some(InFlight { node, .. }) = self.nodes.remove(&number) else { return };
        for (semaphore, value) in node.signals {
            if let Some(signals) = self.signals.get_mut(&semaphore) {
                signals.remove(&value);
                if signals.is_empty() {
                    self.signals.remove(&semaphore);
                }
            }
        }
        for used in node.uses {
            if let Some(users) = self.users.get_mut(&used.buffer) {
                users.retain(|user| *user != number);
                if users.is_empty() {
                    self.users.remove(&used.buffer);
                }
            }
        }
    }

    fn prune(&mut self) {
        let done: Vec<u64> =
            self.nodes.iter().filter(|(_, n)| n.is_done()).map(|(number, _)| *number).collect();
        for number in done {
            self.remove(number);
        }
        self.prune_at = (2 * self.nodes.len()).max(64);
    }
}

impl InFlight {
    /// Any point that is reached will do, as a driver may signal them in any order; others can fail what is not theirs.
    fn is_done(&self) -> bool {
        self.done.iter().enumerate().any(|(index, (semaphore, value))| {
            let Some(semaphore) = semaphore.upgrade() else { return true };
            semaphore.value().map_or(index == 0, |current| current >= *value)
        })
    }
}

fn clash(a: &Use, b: &Use, frees: bool) -> bool {
    let known = a.access != Access::Unknown && b.access != Access::Unknown;
    a.buffer == b.buffer
        && (frees || (known && (a.access.writes() || b.access.writes()) && overlap(&a.bytes, &b.bytes)))
}

fn overlap(a: &Range<u64>, b: &Range<u64>) -> bool {
    a.start < b.end && b.start < a.end
}
