//! Memory for what runs, and for the one that waits for it.
//!
//! Were it given to whoever finds enough, a request that needs much would wait for as long as smaller ones of other lanes
//! take what comes free. So what the first one lacks is kept for it: others that start meanwhile get what is left beside
//! that, so that it has its memory once those have ended that ran before. Nobody has to wait for it who finds room there.

use super::backlog::Key;
use crate::ledger::{Ledger, Reservation};

/// What executions have of the ledger.
#[derive(Debug)]
pub(super) struct Memory {
    ledger: Ledger,
    /// All that runs has so much of it, and will give it back.
    running: Ledger,
    kept: Option<Kept>,
}

/// What is kept for the next request of a lane.
#[derive(Debug)]
struct Kept {
    lane: u64,
    request: Key,
    /// What others may have at the same time.
    beside: Ledger,
}

/// What one execution has.
#[derive(Debug)]
pub(super) struct Held {
    // The first to go: `keep` must not take for a model's what has gone already.
    running: Reservation,
    beside: Option<Reservation>,
    memory: Reservation,
}

impl Held {
    /// Makes it so many bytes; `false` where there are not so many, and nothing has changed then.
    pub(super) fn resize(&mut self, bytes: u64) -> bool {
        let before = self.memory.bytes();
        // Of `running` there is always enough; it is never more than the memory.
        if bytes < before && self.running.resize(bytes).is_err() {
            return false;
        }
        if self.beside.as_mut().is_some_and(|beside| beside.resize(bytes).is_err()) {
            return false;
        }
        if self.memory.resize(bytes).is_err() {
            // Less than there was can always be had.
            let _ = self.beside.as_mut().map(|beside| beside.resize(before));
            return false;
        }
        self.running.resize(bytes).is_ok()
    }
}

impl Memory {
    pub(super) fn new(ledger: Ledger) -> Self {
        Self { ledger, running: Ledger::new(u64::MAX), kept: None }
    }

    /// Takes memory for a request of a lane; `next` says who is the next of one. An error has the budget and what is in
    /// use of it.
    pub(super) fn take(
        &mut self,
        lane: u64,
        bytes: u64,
        next: impl Fn(u64) -> Option<Key>,
    ) -> Result<Held, (u64, u64)> {
        // Who has gone, or has been overtaken by his own, waits no more.
        self.kept.take_if(|kept| next(kept.lane) != Some(kept.request));
        let others = self.kept.as_ref().filter(|kept| kept.lane != lane);
        let beside = others.map(|kept| kept.beside.reserve(bytes)).transpose()?;
        let memory = self.ledger.reserve(bytes)?;
        Ok(Held { running: self.running.reserve(bytes)?, beside, memory })
    }

    /// What a request has that got its memory elsewhere.
    pub(super) fn hold(&self, memory: Reservation) -> Held {
        let mut running = self.running.empty();
        // There is always enough.
        let _ = running.resize(memory.bytes());
        Held { running, beside: None, memory }
    }

    /// Whether a lane does without because of another's request.
    pub(super) fn is_kept_from(&self, lane: u64) -> bool {
        self.kept.as_ref().is_some_and(|kept| kept.lane != lane)
    }

    /// Keeps memory for a request that has found too little, unless some is kept already; `false` where models leave too
    /// little for it, whoever ends.
    pub(super) fn keep(&mut self, lane: u64, request: Key, bytes: u64) -> bool {
        let (budget, in_use) = self.ledger.usage();
        let of_models = in_use.saturating_sub(self.running_bytes());
        let Some(beside) = budget.checked_sub(of_models.saturating_add(bytes)) else { return false };
        self.kept.get_or_insert_with(|| Kept { lane, request, beside: Ledger::new(beside) });
        true
    }

    /// What all that runs has of the ledger.
    pub(super) fn running_bytes(&self) -> u64 {
        self.running.usage().1
    }
}
