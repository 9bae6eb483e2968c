//! A bound on requests per second: a bucket that fills at that rate, and from which each request takes one.

use std::time::{Duration, Instant};

/// How many requests, over time and at once after a pause.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    pub per_second: f64,
    /// At least 1.
    pub burst: f64,
}

/// Requests that a rate leaves, and when that was so; full before the first.
#[derive(Clone, Copy, Debug, Default)]
pub struct Allowance(Option<(f64, Instant)>);

impl Rate {
    /// A rate that lets as many in at once as it lets in a second.
    pub fn new(per_second: f64) -> Self {
        Self { per_second, burst: per_second.max(1.0) }
    }
}

impl Allowance {
    /// Counts a request; an error says when there is room for one.
    pub fn spend(&mut self, rate: Rate, now: Instant) -> Result<(), Duration> {
        let Rate { per_second, burst } = rate;
        let left = self.0.map_or(burst, |(left, at)| {
            (left + now.saturating_duration_since(at).as_secs_f64() * per_second).min(burst)
        });
        let enough = left >= 1.0;
        self.0 = Some((if enough { left - 1.0 } else { left }, now));
        if enough {
            return Ok(());
        }
        Err(Duration::try_from_secs_f64((1.0 - left) / per_second).unwrap_or(Duration::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_saves_up_a_burst_and_no_more() {
        let (rate, mut allowance) = (Rate { per_second: 2.0, burst: 3.0 }, Allowance::default());
        let start = Instant::now();
        let mut at = |ms: u64| allowance.spend(rate, start + Duration::from_millis(ms));
        for _ in 0..3 {
            assert_eq!(at(0), Ok(()));
        }
        assert_eq!(at(0), Err(Duration::from_millis(500)));
        assert_eq!(at(250), Err(Duration::from_millis(250)), "a refused one takes nothing");
        assert_eq!(at(500), Ok(()));
        let later: Vec<bool> = (0..5).map(|_| at(60_000).is_ok()).collect();
        assert_eq!(later, [true, true, true, false, false]);
    }
}
