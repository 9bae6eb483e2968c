//! Tenants: whose a request is, what it counts for beside others', and how many a tenant may have.
//!
//! What a tenant may is written in the access file and replaced with it ([`Tenant`]); what it has inside stays ([`Usage`])
//! and is found again by its name. Tenants without an entry of their own come from tokens of strangers, as many as there
//! are: nothing is kept of one once no request and no verified token of its is left, and metrics count them together.

mod listed;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

pub use listed::{DEFAULT, Listed, OTHERS};

use crate::metrics::Counter;
use crate::schedule::{Allowance, Rate, Refusal, Subject, Why};

/// Of the tenant of those who say none.
pub const DEFAULT_ID: u64 = 0;
/// Of what is bounded for all together, places in a queue or bytes of requests, a tenant has at most so many times as much
/// as there is left. So one that sends without end takes four fifths and not the rest, several take equal parts and
/// leave as much again to whoever comes next, and nothing is set aside for those who are not there.
///
/// Source: Choudhury, Hahne: Dynamic Queue Length Thresholds (1998).
pub const BESIDE_FREE: usize = 4;
/// When to come again for who has too many bytes inside: nobody knows how long their requests take.
const BYTES_HINT: Duration = Duration::from_millis(100);
/// Names that are known before those that nobody uses are looked for.
const FEW: usize = 64;

/// Whose requests share a weight and limits.
#[derive(Debug)]
pub struct Tenant {
    name: Arc<str>,
    limits: Limits,
    usage: Arc<Usage>,
    /// Where metrics find it: its own usage, or that of all without an entry.
    counted: Arc<Usage>,
}

/// What a tenant may have at once, over all models.
#[derive(Clone, Debug, PartialEq)]
pub struct Limits {
    /// What its compute time counts for beside others'.
    pub weight: f64,
    /// Requests inside, waiting or running.
    pub requests: Option<usize>,
    /// Of them, those that wait for their turn.
    pub waiting: Option<usize>,
    pub rate: Option<Rate>,
}

impl Default for Limits {
    fn default() -> Self {
        Self { weight: 1.0, requests: None, waiting: None, rate: None }
    }
}

/// What a tenant has, and has had.
#[derive(Debug, Default)]
pub struct Usage {
    id: u64,
    inside: AtomicUsize,
    waiting: AtomicUsize,
    /// Of its requests.
    bytes: AtomicU64,
    allowance: Mutex<Allowance>,
    admitted: Counter,
    refused: [Counter; REASONS.len()],
    compute_ns: Counter,
}

/// Why requests of a tenant are refused, in the words of [`Why::reason`].
pub const REASONS: [&str; 3] = ["full", "queue", "rate"];

/// A request that counts for its tenant while this is there.
#[derive(Debug)]
pub struct Counted {
    tenant: Arc<Tenant>,
    count: fn(&Usage) -> &AtomicUsize,
}

impl Tenant {
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The same for the same name while anybody is left who has hold of the tenant.
    pub fn id(&self) -> u64 {
        self.usage.id
    }

    pub fn weight(&self) -> f64 {
        self.limits.weight
    }

    /// Lets a request in.
    ///
    /// # Errors
    /// One that is beyond the tenant's limits; `hint` is when to come again where it has too many inside.
    pub fn enter(self: &Arc<Self>, hint: impl FnOnce() -> Duration) -> Result<Counted, Refusal> {
        let inside = self.count(Usage::inside_count, self.limits.requests);
        let inside = inside.map_err(|limit| self.refuse(Why::Full { limit }, hint()))?;
        if let Some(rate) = self.limits.rate {
            let mut allowance = self.usage.allowance.lock().unwrap_or_else(PoisonError::into_inner);
            let spent = allowance.spend(rate, Instant::now());
            drop(allowance);
            let Rate { per_second, burst } = rate;
            spent.map_err(|after| self.refuse(Why::Burst { per_second, burst }, after))?;
        }
        self.counted.admitted.add(1);
        Ok(inside)
    }

    /// Lets a request wait.
    ///
    /// # Errors
    /// One that is beyond the tenant's limit; `hint` is when to come again.
    pub fn wait(self: &Arc<Self>, hint: impl FnOnce() -> Duration) -> Result<Counted, Refusal> {
        let waiting = self.count(Usage::waiting_count, self.limits.waiting);
        waiting.map_err(|limit| self.refuse(Why::Queued { limit }, hint()))
    }

    /// Counts bytes of a request that has `own` bytes so far; `left` of `limit` are left to all.
    ///
    /// # Errors
    /// What would be more than the tenant's part; it is not counted then. Its only request is never too large.
    pub(crate) fn add_bytes(&self, own: u64, more: u64, left: u64, limit: u64) -> Result<(), Refusal> {
        let inside = self.usage.bytes.fetch_add(more, Ordering::Relaxed).saturating_add(more);
        let is_alone = inside <= own.saturating_add(more);
        if is_alone || inside <= left.saturating_mul(BESIDE_FREE as u64) {
            return Ok(());
        }
        self.remove_bytes(more);
        let inside = inside.saturating_sub(more);
        Err(self.refuse(Why::Bytes { inside, left: left.saturating_add(more), limit }, BYTES_HINT))
    }

    pub(crate) fn remove_bytes(&self, bytes: u64) {
        self.usage.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }

    /// Notes compute time of its requests.
    pub fn computed(&self, took: Duration) {
        self.counted.compute_ns.add(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX));
    }

    fn refuse(&self, why: Why, retry_after: Duration) -> Refusal {
        if let Some(at) = REASONS.iter().position(|reason| *reason == why.reason()) {
            self.counted.refused[at].add(1);
        }
        Refusal::of(Subject::Tenant(self.name.to_string()), why, retry_after)
    }

    /// Counts one more; an error is the limit that it would be beyond.
    fn count(
        self: &Arc<Self>,
        count: fn(&Usage) -> &AtomicUsize,
        limit: Option<usize>,
    ) -> Result<Counted, usize> {
        let one_more = |found: usize| (found < limit.unwrap_or(usize::MAX)).then(|| found + 1);
        let taken = count(&self.usage).fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more);
        taken.map_err(|_| limit.unwrap_or(usize::MAX))?;
        if !self.is_counted_alone() {
            count(&self.counted).fetch_add(1, Ordering::Relaxed);
        }
        Ok(Counted { tenant: self.clone(), count })
    }

    fn is_counted_alone(&self) -> bool {
        Arc::ptr_eq(&self.usage, &self.counted)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let Self { tenant, count } = self;
        count(&tenant.usage).fetch_sub(1, Ordering::Relaxed);
        if !tenant.is_counted_alone() {
            count(&tenant.counted).fetch_sub(1, Ordering::Relaxed);
        }
    }
}

impl Usage {
    fn inside_count(&self) -> &AtomicUsize {
        &self.inside
    }

    fn waiting_count(&self) -> &AtomicUsize {
        &self.waiting
    }

    /// Requests inside, waiting or running.
    pub fn inside(&self) -> usize {
        self.inside.load(Ordering::Relaxed)
    }

    /// Requests that wait for their turn.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Requests that the tenant's own limits let in.
    pub fn admitted(&self) -> u64 {
        self.admitted.get()
    }

    /// Requests beyond the tenant's limits, for each of [`REASONS`].
    pub fn refused(&self) -> [u64; REASONS.len()] {
        self.refused.each_ref().map(Counter::get)
    }

    pub fn compute(&self) -> Duration {
        Duration::from_nanos(self.compute_ns.get())
    }
}

/// The usage of every tenant that anybody has hold of, by name.
#[derive(Debug, Default)]
pub struct Tenants(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    usages: HashMap<Arc<str>, Weak<Usage>>,
    /// How many there may be before those that are gone are looked for.
    enough: usize,
    last_id: u64,
}

impl Tenants {
    fn usage(&self, name: &str) -> Arc<Usage> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(usage) = known.usages.get(name).and_then(Weak::upgrade) {
            return usage;
        }
        if known.usages.len() >= known.enough.max(FEW) {
            known.usages.retain(|_, usage| usage.strong_count() > 0);
            known.enough = 2 * known.usages.len();
        }
        let id = match name {
            DEFAULT => DEFAULT_ID,
            _ => {
                known.last_id += 1;
                known.last_id
            }
        };
        let usage = Arc::new(Usage { id, ..Usage::default() });
        known.usages.insert(name.into(), Arc::downgrade(&usage));
        usage
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(limits: Limits) -> (Arc<Tenants>, Listed) {
        let known = Arc::new(Tenants::default());
        let listed = Listed::new(vec![("a".to_owned(), limits)], &known);
        (known, listed)
    }

    fn now() -> Duration {
        Duration::ZERO
    }

    #[test]
    fn what_is_beyond_a_limit_is_refused_with_the_numbers() {
        let rate = Some(Rate { per_second: 0.5, burst: 3.0 });
        let limits = Limits { requests: Some(2), waiting: Some(1), rate, ..Limits::default() };
        let (_, listed) = listed(limits);
        let tenant = listed.find("a");
        let inside = [tenant.enter(now).unwrap(), tenant.enter(now).unwrap()];
        let full = tenant.enter(|| Duration::from_secs(3)).unwrap_err();
        assert_eq!(full.to_string(), "tenant `a` has 2 requests inside already");
        assert_eq!(full.retry_after, Duration::from_secs(3));
        let waits = tenant.wait(now).unwrap();
        let queued = tenant.wait(now).unwrap_err().to_string();
        assert_eq!(queued, "tenant `a` has 1 requests waiting already");
        drop((inside, waits));
        drop(tenant.wait(now).unwrap());
        // What was refused took nothing of the rate.
        drop(tenant.enter(now).unwrap());
        let late = tenant.enter(now).unwrap_err();
        assert_eq!(late.to_string(), "tenant `a` sends 0.5 requests a second at most, and 3 at once");
        assert!(late.retry_after > Duration::from_secs(1) && late.retry_after <= Duration::from_secs(2));
        let usage = &tenant.usage;
        assert_eq!((usage.inside(), usage.waiting(), usage.admitted()), (0, 0, 3));
        assert_eq!(usage.refused(), [1, 1, 1]);
    }

    #[test]
    fn what_a_tenant_has_inside_outlives_the_file_that_lists_it() {
        let (known, before) = listed(Limits::default());
        let inside = [before.find("a").enter(now).unwrap(), before.find("b").enter(now).unwrap()];
        let limits = Limits { requests: Some(1), ..Limits::default() };
        let entries = ["a", "b"].map(|name| (name.to_owned(), limits.clone()));
        let after = Listed::new(entries.into(), &known);
        drop(before);
        for name in ["a", "b"] {
            after.find(name).enter(now).unwrap_err();
        }
        drop(inside);
        for name in ["a", "b"] {
            after.find(name).enter(now).unwrap();
        }
    }

    #[test]
    fn of_strangers_nothing_is_kept_and_they_are_counted_together() {
        let limits = Limits { requests: Some(1), ..Limits::default() };
        let known = Arc::new(Tenants::default());
        let listed = Listed::new(vec![(OTHERS.to_owned(), limits)], &known);
        let held: Vec<Counted> =
            (0..100).map(|at| listed.find(&format!("stranger {at}")).enter(now).unwrap()).collect();
        listed.find("stranger 7").enter(now).unwrap_err();
        for at in 0..100_000 {
            listed.find(&format!("another {at}")).enter(now).unwrap();
        }
        let names = known.0.lock().unwrap().usages.len();
        assert!(names <= 2 * (held.len() + 2), "{names} names are known");
        let counted: Vec<(String, usize, u64)> = listed
            .counted()
            .map(|(name, usage)| (name.to_owned(), usage.inside(), usage.admitted()))
            .collect();
        assert_eq!(counted, [("*".to_owned(), 100, 100_100), (DEFAULT.to_owned(), 0, 0)]);
        assert_eq!(listed.default_tenant().id(), DEFAULT_ID);
    }
}
