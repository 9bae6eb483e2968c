//! A lane's waiting requests: a queue for each tenant, and which tenant is next.

use std::collections::BTreeMap;
use std::time::Instant;

use tokio::sync::oneshot;

use super::lane::Turn;
use super::queue::Ticket;
use super::shares::Shares;
use crate::tenants::{self, Counted};

/// The order of a tenant's queue: the least is next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    /// Equal within a queue.
    pub(super) tenant: u64,
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
    /// Its tenant has one more that waits while this is there.
    pub(super) _waits: Option<Counted>,
}

#[derive(Debug, Default)]
pub(super) struct Backlog {
    /// None is empty, but for that of those without a tenant.
    queues: BTreeMap<u64, BTreeMap<Key, Entry>>,
    length: usize,
    arrivals: u64,
    /// What tenants have had of the lane.
    pub(super) shares: Shares,
}

impl Backlog {
    pub(super) fn len(&self) -> usize {
        self.length
    }

    pub(super) fn is_empty(&self) -> bool {
        self.length == 0
    }

    pub(super) fn contains(&self, key: &Key) -> bool {
        self.queues.get(&key.tenant).is_some_and(|queue| queue.contains_key(key))
    }

    /// Tenants that have a queue.
    #[cfg(test)]
    pub(super) fn tenants(&self) -> usize {
        self.queues.len()
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.queues.values().flat_map(BTreeMap::values)
    }

    pub(super) fn insert(&mut self, entry: Entry) -> Key {
        self.arrivals += 1;
        let Ticket { level, deadline, .. } = entry.ticket;
        let tenant = entry.ticket.tenant_id();
        let key = Key { tenant, last: false, level, deadline, arrival: self.arrivals };
        self.put(key, entry);
        key
    }

    /// Puts back what was taken out under this key.
    pub(super) fn put(&mut self, key: Key, entry: Entry) {
        if self.queues.entry(key.tenant).or_default().insert(key, entry).is_none() {
            self.length += 1;
        }
    }

    pub(super) fn remove(&mut self, key: &Key) -> Option<Entry> {
        let queue = self.queues.get_mut(&key.tenant)?;
        let entry = queue.remove(key)?;
        // That one stays, so that where there are no tenants nothing is allocated for them.
        if queue.is_empty() && key.tenant != tenants::DEFAULT_ID {
            self.queues.remove(&key.tenant);
        }
        self.length -= 1;
        Some(entry)
    }

    /// Puts a waiting request behind all others of its tenant.
    pub(super) fn go_last(&mut self, key: Key) -> Key {
        let Some(entry) = self.remove(&key) else { return key };
        let key = Key { last: true, ..key };
        self.put(key, entry);
        key
    }

    /// The next: of the tenant that has had the least, its most urgent.
    pub(super) fn next(&self) -> Option<(&Key, &Entry)> {
        let mut fronts = self.queues.values().filter_map(BTreeMap::first_key_value);
        let first = fronts.next()?;
        let tag = |(key, _): &(&Key, &Entry)| self.shares.tag(key.tenant);
        let least = fronts.fold(None, |least: Option<(f64, _)>, front| {
            let (known, least) = least.unwrap_or_else(|| (tag(&first), first));
            let found = tag(&front);
            Some(if found < known { (found, front) } else { (known, least) })
        });
        Some(least.map_or(first, |(_, least)| least))
    }

    /// Requests that can run with the next one, itself included, and their rows: up to `most`, as many as fit into
    /// `max_rows`, each of which counts `row_cost` for its tenant's weight.
    pub(super) fn joinable(&self, max_rows: u64, most: usize, row_cost: f64) -> (Vec<Key>, u64) {
        let Some((first, next)) = self.next() else { return (Vec::new(), 0) };
        let (mut keys, mut rows) = (vec![*first], next.ticket.rows);
        let alike = |(_, entry): &(&Key, &Entry)| entry.ticket.joins == next.ticket.joins;
        if next.ticket.joins.is_none() || rows >= max_rows {
            return (keys, rows);
        }
        let queues = self.queues.iter();
        let mut queues: Vec<_> = queues
            .map(|(tenant, queue)| (self.shares.tag(*tenant), queue.iter().filter(alike).peekable()))
            .collect();
        while rows < max_rows && keys.len() < most {
            let waiting = queues.iter_mut().filter_map(|(tag, queue)| {
                queue.peek()?;
                Some((tag, queue))
            });
            let Some((tag, queue)) = waiting.min_by(|a, b| a.0.total_cmp(b.0)) else { break };
            let Some((key, entry)) = queue.next() else { break };
            let is_first = key == first;
            if is_first || rows + entry.ticket.rows <= max_rows {
                *tag += entry.ticket.rows as f64 * row_cost / entry.ticket.weight();
                if !is_first {
                    keys.push(*key);
                    rows += entry.ticket.rows;
                }
            }
        }
        (keys, rows)
    }

    /// How many of a tenant wait on a level, or on all of them.
    pub(super) fn waiting(&self, tenant: u64, level: Option<u32>) -> usize {
        let queue = self.queues.get(&tenant).into_iter().flat_map(BTreeMap::keys);
        queue.filter(|key| level.is_none_or(|level| key.level == level) && !key.last).count()
    }

    /// How many of those that wait will run before a request that comes now, and as many of other tenants as have
    /// their turns meanwhile.
    pub(super) fn before(&self, ticket: &Ticket) -> usize {
        let tenant = ticket.tenant_id();
        let before =
            |key: &&Key| (key.last, key.level, key.deadline) < (false, ticket.level, ticket.deadline);
        let own = self.queues.get(&tenant).map_or(0, |queue| queue.keys().take_while(before).count());
        let others = self.queues.iter().filter(|(other, _)| **other != tenant).map(|(_, queue)| {
            let weight = queue.values().next().map_or(1.0, |entry| entry.ticket.weight());
            let turns = ((own + 1) as f64 * weight / ticket.weight()).ceil();
            queue.len().min(turns as usize)
        });
        own + others.sum::<usize>()
    }
}
