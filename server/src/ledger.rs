//! Who has how much of a number of bytes. One such budget is the memory of loaded models and of what requests take
//! while they run; another is that of the requests themselves ([`crate::budget`]).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use tokio::sync::Notify;

/// The bytes that are promised to somebody. Cheap to clone; clones share it.
#[derive(Clone, Debug)]
pub struct Ledger {
    account: Arc<Account>,
}

#[derive(Debug)]
struct Account {
    budget: u64,
    in_use: AtomicU64,
    /// Told when some may have become free, while somebody waits for that.
    changed: Notify,
    waiting: AtomicUsize,
}

/// Somebody who waits for bytes, while this is held.
#[derive(Debug)]
pub struct Waiting<'a>(&'a Account);

/// Bytes that are somebody's while this is held.
#[derive(Debug)]
pub struct Reservation {
    account: Arc<Account>,
    bytes: u64,
}

impl Ledger {
    pub fn new(budget_bytes: u64) -> Self {
        let (in_use, changed, waiting) = Default::default();
        Self { account: Arc::new(Account { budget: budget_bytes, in_use, changed, waiting }) }
    }

    /// Waits for bytes, which one has to look for again each time that something [changed](Waiting::changed).
    pub fn wait(&self) -> Waiting<'_> {
        self.account.waiting.fetch_add(1, Ordering::AcqRel);
        Waiting(&self.account)
    }

    /// Tells those who wait that there may be more for them.
    pub fn tell(&self) {
        self.account.tell();
    }

    /// The budget and what is promised of it.
    pub fn usage(&self) -> (u64, u64) {
        (self.account.budget, self.account.in_use.load(Ordering::Relaxed))
    }

    /// Promises nothing yet; see [`Reservation::resize`].
    pub fn empty(&self) -> Reservation {
        Reservation { account: self.account.clone(), bytes: 0 }
    }

    /// Promises so many bytes; an error is [`Self::usage`] at the time.
    pub fn reserve(&self, bytes: u64) -> Result<Reservation, (u64, u64)> {
        let mut reservation = self.empty();
        reservation.resize(bytes)?;
        Ok(reservation)
    }
}

impl Account {
    fn give_back(&self, bytes: u64) {
        // Who looks in vain has had none, and must not wake himself.
        if bytes > 0 {
            self.in_use.fetch_sub(bytes, Ordering::AcqRel);
            self.tell();
        }
    }

    fn tell(&self) {
        if self.waiting.load(Ordering::Acquire) > 0 {
            self.changed.notify_waiters();
        }
    }
}

impl Waiting<'_> {
    /// The next change from now on, whenever this is polled.
    pub fn changed(&self) -> impl Future<Output = ()> {
        let mut changed = Box::pin(self.0.changed.notified());
        changed.as_mut().enable();
        changed
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Reservation {
    /// Makes it so many bytes; an error is [`Ledger::usage`] at the time, and nothing has changed then.
    pub fn resize(&mut self, bytes: u64) -> Result<(), (u64, u64)> {
        let Account { budget, in_use, .. } = &*self.account;
        if bytes > self.bytes {
            let more = bytes - self.bytes;
            let sum = |in_use: u64| in_use.checked_add(more).filter(|sum| sum <= budget);
            let taken = in_use.fetch_update(Ordering::AcqRel, Ordering::Acquire, sum);
            taken.map_err(|in_use| (*budget, in_use))?;
        } else {
            self.account.give_back(self.bytes - bytes);
        }
        self.bytes = bytes;
        Ok(())
    }

    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// As [`Ledger::usage`].
    pub fn usage(&self) -> (u64, u64) {
        (self.account.budget, self.account.in_use.load(Ordering::Relaxed))
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.account.give_back(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_promised_never_exceeds_the_budget() {
        let ledger = Ledger::new(10);
        let six = ledger.reserve(6).unwrap();
        assert_eq!(ledger.reserve(5).unwrap_err(), (10, 6));
        let mut four = ledger.reserve(1).unwrap();
        four.resize(4).unwrap();
        assert_eq!(four.resize(5).unwrap_err(), (10, 10));
        assert_eq!(ledger.reserve(u64::MAX).unwrap_err(), (10, 10));
        drop(six);
        assert_eq!((ledger.usage(), four.bytes()), ((10, 4), 4));
        four.resize(1).unwrap();
        assert_eq!(ledger.usage(), (10, 1));
        drop(four);
        assert_eq!(ledger.usage(), (10, 0));
    }

    #[tokio::test]
    async fn who_waits_is_told_of_what_becomes_free() {
        let ledger = Ledger::new(10);
        let mut held = ledger.reserve(10).unwrap();
        let waiting = ledger.wait();
        let mut changed = std::pin::pin!(waiting.changed());
        assert!(futures::poll!(&mut changed).is_pending());
        held.resize(5).unwrap();
        assert!(futures::poll!(changed).is_ready());
        // But not of one who finds nothing.
        held.resize(10).unwrap();
        let mut changed = std::pin::pin!(waiting.changed());
        ledger.reserve(1).unwrap_err();
        assert!(futures::poll!(&mut changed).is_pending());
        drop(held);
        changed.await;
    }
}
