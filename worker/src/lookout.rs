//! Looking out for what comes at once instead of sleeping: to be woken takes tens of microseconds, as long as a small
//! model runs.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// After this long between two looks somebody else has had the core: it is not idle.
const TAKEN: Duration = Duration::from_micros(100);
/// How long not to look out after it was for nothing; it doubles each time that it is again.
const FIRST_REST: Duration = Duration::from_millis(1);
const LONGEST_REST: Duration = Duration::from_millis(128);

static BEGIN: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Knows whether looking out has been worth it.
#[derive(Debug, Default)]
pub struct Lookout {
    /// When to begin again, and the last rest, in microseconds.
    again: AtomicU64,
    rest: AtomicU64,
}

impl Lookout {
    /// Looks again and again, until there is something or it is `longest` since `since`. `None` as well, and at once,
    /// where it has been for nothing of late.
    pub fn look_out<T>(
        &self,
        since: Instant,
        longest: Duration,
        mut look: impl FnMut() -> Option<T>,
    ) -> Option<T> {
        if micros(since) < self.again.load(Ordering::Relaxed) {
            return None;
        }
        let mut last = since;
        loop {
            let found = look();
            let now = Instant::now();
            if found.is_some() {
                self.rest.store(0, Ordering::Relaxed);
                return found;
            }
            if now - since > longest || now - last > TAKEN {
                self.rest(now);
                return None;
            }
            last = now;
            // Who makes it come may need this core.
            std::thread::yield_now();
        }
    }

    fn rest(&self, now: Instant) {
        let (first, longest) = (FIRST_REST.as_micros() as u64, LONGEST_REST.as_micros() as u64);
        let rest = (2 * self.rest.load(Ordering::Relaxed)).clamp(first, longest);
        self.rest.store(rest, Ordering::Relaxed);
        self.again.store(micros(now) + rest, Ordering::Relaxed);
    }
}

fn micros(at: Instant) -> u64 {
    at.saturating_duration_since(*BEGIN).as_micros() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_at_once_is_found_and_what_does_not_is_given_up() {
        let lookout = Lookout::default();
        let mut looks = 0;
        let found = lookout.look_out(Instant::now(), Duration::from_secs(60), || {
            looks += 1;
            (looks == 3).then_some(looks)
        });
        // Unless the core was taken meanwhile.
        assert!(found.is_none() || found == Some(3));
        let since = Instant::now();
        assert_eq!(lookout.look_out(since, Duration::ZERO, || None::<()>), None);
        let again = lookout.look_out(since, Duration::from_secs(60), || Some(()));
        assert_eq!(again, None, "it rests");
        let later = since + 2 * LONGEST_REST;
        assert_eq!(lookout.look_out(later, Duration::from_secs(60), || Some(())), Some(()));
    }
}
