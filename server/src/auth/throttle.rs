//! Tokens that are not accepted, counted by the address that they come from.
//!
//! From an address with too many of them within a window, only what is known to be good is let in until the window ends:
//! a key of the access file, a signature that was checked before. So whoever guesses, and a client that goes on with a
//! token that has ended, cost neither signature checks nor a line of the audit log each; while those who share their
//! address, behind a NAT or a proxy, go on working. The price: who knows the public part of a key may go on guessing its
//! secret, of 256 bits.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use moka::policy::EvictionPolicy;
use moka::sync::Cache;

use crate::config::AuthSettings;
use crate::error::Error;
use crate::metrics::Counter;

/// Addresses that are remembered; the least recently seen go first.
const REMEMBERED: u64 = 4096;
/// Bits of an IPv6 address that its holder cannot choose.
const IPV6_NETWORK: u32 = 64;

/// Counts failures, and says who had too many.
pub(crate) struct Throttle {
    /// 0: nobody ever has.
    limit: u32,
    window: Duration,
    windows: Cache<IpAddr, Arc<Mutex<Window>>>,
    pub(crate) failed: Counter,
    pub(crate) refused: Counter,
}

/// Failures of one address.
#[derive(Debug)]
struct Window {
    began: Instant,
    failures: u32,
    /// A refusal was told to the audit log.
    told: bool,
}

/// A refusal, and when it ends.
#[derive(Debug, thiserror::Error)]
#[error("{failures} tokens from this address were not accepted within {} s; none is looked at for {} s", window.as_secs(), retry_after.as_secs_f64().ceil())]
pub struct Throttled {
    failures: u32,
    window: Duration,
    pub(crate) retry_after: Duration,
    /// The first of its window.
    pub(super) is_first: bool,
}

impl Throttle {
    pub(super) fn new(settings: &AuthSettings) -> Self {
        let windows = Cache::builder().max_capacity(REMEMBERED).eviction_policy(EvictionPolicy::lru());
        Self {
            limit: settings.failures,
            window: Duration::from_secs(settings.failures_window_s),
            windows: windows.build(),
            failed: Counter::default(),
            refused: Counter::default(),
        }
    }

    /// Before a token from there is looked at closely.
    ///
    /// # Errors
    /// Where too many were not accepted.
    pub(super) fn check(&self, from: IpAddr, now: Instant) -> Result<(), Throttled> {
        let Some(window) = self.windows.get(&network(from)) else { return Ok(()) };
        let mut window = window.lock().unwrap_or_else(PoisonError::into_inner);
        let left = self.window.saturating_sub(now.saturating_duration_since(window.began));
        if self.limit == 0 || window.failures < self.limit || left.is_zero() {
            return Ok(());
        }
        self.refused.add(1);
        let is_first = !std::mem::replace(&mut window.told, true);
        Err(Throttled { failures: window.failures, window: self.window, retry_after: left, is_first })
    }

    /// A token from there that was not accepted: what to tell its bearer.
    pub(super) fn failed(&self, from: IpAddr, reason: String, now: Instant) -> Error {
        if let Err(throttled) = self.check(from, now) {
            return throttled.into();
        }
        self.failed.add(1);
        if self.limit > 0 {
            let new = || Arc::new(Mutex::new(Window { began: now, failures: 0, told: false }));
            let window = self.windows.get_with(network(from), new);
            let mut window = window.lock().unwrap_or_else(PoisonError::into_inner);
            if now.saturating_duration_since(window.began) >= self.window {
                *window = Window { began: now, failures: 0, told: false };
            }
            window.failures = window.failures.saturating_add(1);
        }
        Error::Unauthenticated(reason)
    }
}

/// What stands for an address: of IPv6 the network, as its holder has all of it.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & (u128::MAX << (128 - IPV6_NETWORK)))),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn throttle(failures: u32) -> Throttle {
        Throttle::new(&AuthSettings { failures, failures_window_s: 60, ..AuthSettings::default() })
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    /// Whether a bad token is told what is wrong with it.
    fn is_looked_at(throttle: &Throttle, from: &str, now: Instant) -> bool {
        matches!(throttle.failed(address(from), String::new(), now), Error::Unauthenticated(_))
    }

    #[test]
    fn an_address_has_so_many_failures_in_a_window_and_then_none() {
        let (throttle, start) = (throttle(3), Instant::now());
        let at = |s: u64| start + Duration::from_secs(s);
        for s in 0..3 {
            throttle.check(address("10.0.0.1"), at(s)).unwrap();
            assert!(is_looked_at(&throttle, "10.0.0.1", at(s)));
        }
        let first = throttle.check(address("10.0.0.1"), at(10)).unwrap_err();
        let text = "3 tokens from this address were not accepted within 60 s; none is looked at for 50 s";
        assert_eq!((first.to_string().as_str(), first.is_first), (text, true));
        assert_eq!(first.retry_after, Duration::from_secs(50));
        let second = throttle.check(address("::ffff:10.0.0.1"), at(59)).unwrap_err();
        assert!(!second.is_first, "the audit log is told once");
        assert!(!is_looked_at(&throttle, "10.0.0.1", at(59)));
        assert!(is_looked_at(&throttle, "10.0.0.2", at(59)), "another's");
        // A new window, from the next failure on.
        throttle.check(address("10.0.0.1"), at(60)).unwrap();
        let again = (0..5).filter(|_| is_looked_at(&throttle, "10.0.0.1", at(70))).count();
        assert_eq!(again, 3);
        assert_eq!((throttle.failed.get(), throttle.refused.get()), (7, 5));
    }

    #[test]
    fn who_has_a_network_has_one_address() {
        let (throttle, now) = (throttle(1), Instant::now());
        assert!(is_looked_at(&throttle, "2001:db8::1", now));
        assert!(!is_looked_at(&throttle, "2001:db8::ffff:2", now));
        assert!(is_looked_at(&throttle, "2001:db8:0:1::1", now));
    }

    #[test]
    fn no_limit_is_none_and_what_is_remembered_is_bounded() {
        let (unlimited, now) = (throttle(0), Instant::now());
        assert!((0..1000).all(|_| is_looked_at(&unlimited, "10.0.0.1", now)));
        let throttle = throttle(1);
        for at in 0..20_000_u32 {
            throttle.failed(IpAddr::V4(at.into()), String::new(), now);
        }
        throttle.windows.run_pending_tasks();
        assert!(throttle.windows.entry_count() <= REMEMBERED);
        throttle.check(IpAddr::V4(19_999.into()), now).unwrap_err();
    }
}
