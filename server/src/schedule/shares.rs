//! Whose turn it is among those who share something: start-time fair queueing.
//!
//! Everybody has a tag: the service that he has had, for his weight. The least goes next, and his tag at that moment is the
//! clock. Nobody's tag counts for less than the clock, so that those who were away begin where the others are and save
//! up nothing; of those at the clock nothing has to be kept. While two of them want service all the time, neither is
//! ever ahead of the other by more than one turn of his own; who comes new waits for one turn of each other at most.
//!
//! Where somebody has to be served out of turn, the clock stays behind those whose turn it was: they get it yet.
//!
//! Source: Goyal, Vin, Cheng: Start-time Fair Queuing (SIGCOMM 1996).

/// Those ahead of the clock that are remembered. Beyond it the clock goes on to the average of their tags, which forgets
/// some of what those below it have had.
const REMEMBERED: usize = 1024;

/// What each of those who share has had.
#[derive(Debug, Default)]
pub(super) struct Shares {
    clock: f64,
    /// Of those ahead of the clock, in their order. No map, as that would allocate each time that it has been empty.
    tags: Vec<(u64, f64)>,
}

impl Shares {
    pub(super) fn tag(&self, of: u64) -> f64 {
        self.find(of).map_or(self.clock, |at| self.tags[at].1.max(self.clock))
    }

    /// Gives a turn that costs so much service for its weight. `least` is the least tag of those who wait for a turn;
    /// infinite where nobody does who has a lower one.
    pub(super) fn serve(&mut self, whom: u64, cost: f64, least: f64) {
        self.clock = self.clock.max(self.tag(whom).min(least));
        self.charge(whom, cost);
    }

    /// Counts service beside a turn: of one who was served in another's, or more or less than was thought.
    pub(super) fn charge(&mut self, whom: u64, cost: f64) {
        let tag = self.tag(whom) + cost;
        match self.find(whom) {
            Ok(at) => self.tags[at].1 = tag,
            Err(at) => self.tags.insert(at, (whom, tag)),
        }
        if self.tags.len() > REMEMBERED {
            let average = self.tags.iter().map(|(_, tag)| tag).sum::<f64>() / self.tags.len() as f64;
            self.clock = self.clock.max(average);
        }
        let clock = self.clock;
        self.tags.retain(|(_, tag)| *tag > clock);
    }

    pub(super) fn forget(&mut self, whom: u64) {
        self.tags.retain(|(known, _)| *known != whom);
    }

    /// Begins anew, where nobody wants anything: then all are equal.
    pub(super) fn reset(&mut self) {
        self.clock = 0.0;
        self.tags.clear();
    }

    /// Where it stands, or would stand.
    fn find(&self, whom: u64) -> Result<usize, usize> {
        self.tags.binary_search_by_key(&whom, |(known, _)| *known)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The next of those who always want service.
    fn next(shares: &Shares, all: &[u64]) -> u64 {
        *all.iter().min_by(|a, b| shares.tag(**a).total_cmp(&shares.tag(**b))).unwrap()
    }

    #[test]
    fn who_was_away_begins_where_the_others_are() {
        let mut shares = Shares::default();
        (0..100).for_each(|_| shares.serve(1, 1.0, f64::INFINITY));
        assert_eq!((shares.tag(1), shares.tag(2)), (100.0, 99.0));
        // Had he saved up, the next hundred turns were his.
        let turns: Vec<u64> = (0..6)
            .map(|_| {
                let next = next(&shares, &[1, 2]);
                shares.serve(next, 1.0, f64::INFINITY);
                next
            })
            .collect();
        assert_eq!(turns, [2, 1, 2, 1, 2, 1]);
    }

    #[test]
    fn what_a_turn_cost_in_the_end_counts() {
        let mut shares = Shares::default();
        shares.serve(1, 1.0, f64::INFINITY);
        shares.charge(1, 9.0);
        let mut turns = 0;
        while next(&shares, &[1, 2]) == 2 {
            shares.serve(2, 1.0, f64::INFINITY);
            turns += 1;
        }
        assert_eq!(turns, 10);
        shares.serve(1, 5.0, f64::INFINITY);
        shares.charge(1, -5.0);
        assert_eq!(shares.tag(1), shares.tag(3), "nobody is behind the clock");
    }

    #[test]
    fn who_is_passed_over_has_his_turns_yet() {
        let mut shares = Shares::default();
        // The other waits all the time, and another's place than theirs is free.
        for _ in 0..10 {
            let waits = shares.tag(2);
            shares.serve(1, 1.0, waits);
        }
        assert_eq!((shares.tag(1), shares.tag(2)), (10.0, 0.0));
        shares.serve(1, 1.0, f64::INFINITY);
        assert_eq!(shares.tag(2), 10.0, "he has gone");
    }

    #[test]
    fn what_is_remembered_of_many_is_bounded() {
        let mut shares = Shares::default();
        for stranger in 0..100_000 {
            shares.serve(stranger, 1.0, f64::INFINITY);
            assert!(shares.tags.len() <= REMEMBERED);
        }
        for _ in 0..10 {
            shares.serve(7, 1.0, f64::INFINITY);
        }
        assert!(shares.tag(7) > shares.tag(100_001));
        shares.reset();
        assert_eq!((shares.tags.len(), shares.tag(7)), (0, 0.0));
    }
}
