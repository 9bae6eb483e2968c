//! Whether a program is done sooner by one thread or by several.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// A run that is shorter than this is over before another thread is there to help.
pub(super) const SHORT: Duration = Duration::from_micros(5);
/// One that is longer is shared whatever it was like before.
const LONG: Duration = Duration::from_micros(200);
/// What sharing must save, as somebody else could have the other threads' cores: it takes three quarters of the time.
const GAIN: (u32, u32) = (3, 4);
/// Every so many runs the slower way is tried again: other load may have made it so.
const TRIES: u32 = 64;

/// What runs of a program took lately, alone and shared, in nanoseconds; 0 where there was none.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    alone: AtomicU32,
    shared: AtomicU32,
    runs: AtomicU32,
}

/// How a run goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    Alone,
    /// Alone at first, and shared once it turns out not to be short.
    Unknown,
    Shared,
}

impl Pace {
    pub(super) fn way(&self) -> Way {
        let [alone, shared] = [&self.alone, &self.shared].map(|time| time.load(Ordering::Relaxed));
        // The less of what is known: a first run may have waited for something.
        let least = if alone.min(shared) == 0 { alone.max(shared) } else { alone.min(shared) };
        if least > nanoseconds(LONG) {
            return Way::Shared;
        }
        match (alone, shared) {
            (0, 0) => Way::Unknown,
            (0, _) => Way::Alone,
            (alone, _) if alone <= nanoseconds(SHORT) => Way::Alone,
            (_, 0) => Way::Shared,
            (alone, shared) => {
                let again = self.runs.fetch_add(1, Ordering::Relaxed) % TRIES == TRIES - 1;
                if (GAIN.0 * alone <= GAIN.1 * shared) != again { Way::Alone } else { Way::Shared }
            }
        }
    }

    /// Notes that a run took `took`. It was shared at some time unless that says it was too short.
    pub(super) fn note(&self, way: Way, took: Duration) {
        let took = nanoseconds(took).max(1);
        let time = match way {
            Way::Alone => &self.alone,
            Way::Unknown if took <= nanoseconds(SHORT) => &self.alone,
            Way::Unknown | Way::Shared => &self.shared,
        };
        let before = time.load(Ordering::Relaxed);
        // The least says what it takes; the rest is other load, which passes.
        let after = if before == 0 { took } else { took.min(before + took.saturating_sub(before) / 16) };
        time.store(after, Ordering::Relaxed);
    }
}

fn nanoseconds(duration: Duration) -> u32 {
    u32::try_from(duration.as_nanos()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settle(alone: u64, shared: u64) -> Vec<Way> {
        let pace = Pace::default();
        let run = |_| {
            let way = pace.way();
            let took = match way {
                Way::Alone => alone,
                Way::Unknown => alone.min(shared.max(6)),
                Way::Shared => shared,
            };
            pace.note(way, Duration::from_micros(took));
            way
        };
        (0..1000).map(run).collect()
    }

    #[test]
    fn the_faster_way_is_taken_and_the_other_tried_now_and_then() {
        for (alone, shared, faster) in [(20, 30, Way::Alone), (20, 17, Way::Alone), (60, 35, Way::Shared)] {
            let ways = settle(alone, shared);
            let taken = ways.iter().filter(|way| **way == faster).count();
            assert!((950..1000).contains(&taken), "{alone} {shared}: {taken}");
        }
    }

    #[test]
    fn short_runs_are_never_shared_and_long_ones_always() {
        assert!(settle(3, 2)[1..].iter().all(|way| *way == Way::Alone));
        assert!(settle(5000, 6000)[1..].iter().all(|way| *way == Way::Shared));
    }

    #[test]
    fn a_first_run_that_waited_for_something_decides_nothing() {
        let pace = Pace::default();
        pace.note(Way::Alone, 2 * LONG);
        let runs = (0..TRIES * 3).map(|_| {
            let way = pace.way();
            pace.note(way, Duration::from_micros(7));
            way
        });
        assert_eq!(runs.last(), Some(Way::Alone));
    }

    #[test]
    fn what_was_slow_for_a_while_is_found_to_be_fast_again() {
        let pace = Pace::default();
        pace.note(Way::Alone, Duration::from_micros(20));
        pace.note(Way::Shared, Duration::from_micros(100));
        for _ in 0..TRIES * 2 {
            let way = pace.way();
            pace.note(way, Duration::from_micros(if way == Way::Alone { 20 } else { 10 }));
        }
        assert_eq!(pace.way(), Way::Shared);
    }
}
