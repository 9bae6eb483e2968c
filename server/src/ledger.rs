//! Who has how much of a number of bytes. One such budget is the memory of loaded models and of what requests take
//! while they run; another is that of the requests themselves ([`crate::budget`]).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The bytes that are promised to somebody. Cheap to clone; clones share it.
#[derive(Clone, Debug)]
pub struct Ledger {
    account: Arc<Account>,
}

#[derive(Debug)]
struct Account {
    budget: u64,
    in_use: AtomicU64,
}

/// Bytes that are somebody's while this is held.
#[derive(Debug)]
pub struct Reservation {
    account: Arc<Account>,
    bytes: u64,
}

impl Ledger {
    pub fn new(budget_bytes: u64) -> Self {
        Self { account: Arc::new(Account { budget: budget_bytes, in_use: AtomicU64::new(0) }) }
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

impl Reservation {
    /// Makes it so many bytes; an error is [`Ledger::usage`] at the time, and nothing has changed then.
    pub fn resize(&mut self, bytes: u64) -> Result<(), (u64, u64)> {
        let Account { budget, in_use } = &*self.account;
        if bytes > self.bytes {
            let more = bytes - self.bytes;
            let sum = |in_use: u64| in_use.checked_add(more).filter(|sum| sum <= budget);
            let taken = in_use.fetch_update(Ordering::AcqRel, Ordering::Acquire, sum);
            taken.map_err(|in_use| (*budget, in_use))?;
        } else {
            in_use.fetch_sub(self.bytes - bytes, Ordering::AcqRel);
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
        self.account.in_use.fetch_sub(self.bytes, Ordering::AcqRel);
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
}
