//! What a lane has measured of its model, as averages that forget.

use std::time::Duration;

/// The weight of the newest measurement.
const NEWEST: f64 = 0.1;

/// Times of one model. Nothing is known before the first execution has ended.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Estimate {
    /// A place held, from its grant to its return, in seconds.
    held: Option<f64>,
    /// The worker's computing, in seconds.
    compute: Option<f64>,
    /// Requests of one execution.
    requests: Option<f64>,
}

impl Estimate {
    pub(super) fn note(&mut self, held: Duration, compute: Duration, requests: usize) {
        let average = |known: &mut Option<f64>, found: f64| {
            *known = Some(known.map_or(found, |known| known + NEWEST * (found - known)));
        };
        average(&mut self.held, held.as_secs_f64());
        average(&mut self.compute, compute.as_secs_f64());
        average(&mut self.requests, requests as f64);
    }

    /// How long one execution computes.
    pub(super) fn compute(&self) -> Option<Duration> {
        self.compute.map(Duration::from_secs_f64)
    }

    /// How long one request computes, also among others.
    pub(super) fn compute_each(&self) -> Option<Duration> {
        Some(self.compute()?.div_f64(self.requests?.max(1.0)))
    }

    /// How long it takes until so many requests have left `places` that are all taken.
    pub(super) fn until_left(&self, requests: usize, places: usize) -> Option<Duration> {
        let each = self.held? / self.requests?.max(1.0) / places.max(1) as f64;
        Duration::try_from_secs_f64(each * requests as f64).ok()
    }

    /// Places that keep a worker busy that runs `parallel` at once: those, and what it does in `ahead`, at least
    /// one, so that it need not wait for the next.
    pub(super) fn places(&self, parallel: usize, ahead: Duration) -> Option<usize> {
        let each = self.compute?.max(1e-6);
        let more = (ahead.as_secs_f64() * parallel as f64 / each) as usize;
        Some(parallel + more.max(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn estimates_follow_from_what_was_measured() {
        let (ms, mut estimate) = (Duration::from_millis, Estimate::default());
        assert_eq!(estimate.until_left(3, 1), None);
        estimate.note(ms(10), ms(8), 2);
        assert_eq!(estimate.until_left(6, 3), Some(ms(10)));
        assert_eq!(estimate.places(2, ms(2)), Some(3), "a long one: one more than runs");
        assert_eq!(estimate.places(2, ms(80)), Some(22));
        (0..100).for_each(|_| estimate.note(ms(1), ms(1), 1));
        let left = estimate.until_left(1, 1).unwrap();
        assert!(left < Duration::from_micros(1100), "old measurements are forgotten: {left:?}");
    }
}
