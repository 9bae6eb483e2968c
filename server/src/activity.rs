//! What the machine's processors and single processes are doing, read from the kernel.

use std::fs;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The shortest time that a share is measured over.
const SPAN: Duration = Duration::from_secs(1);

/// Measures how busy the machine's processors are, between two looks.
#[derive(Debug, Default)]
pub struct CpuMeter(Mutex<Option<Look>>);

#[derive(Clone, Copy, Debug)]
struct Look {
    at: Instant,
    times: CpuTimes,
    /// Of the time before it.
    share: f64,
}

/// Of all processors since the machine started, in the kernel's ticks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct CpuTimes {
    busy: u64,
    all: u64,
}

impl CpuMeter {
    /// The share of its time that the machine computed since the last look, from 0 to 1; looks that follow one another
    /// at once see the same, and the first one the share since the machine started. `None` where the kernel does not say.
    pub fn share(&self) -> Option<f64> {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(look) = last.filter(|look| look.at.elapsed() < SPAN) {
            return Some(look.share);
        }
        let times = CpuTimes::parse(&fs::read_to_string("/proc/stat").ok()?)?;
        let start = CpuTimes { busy: 0, all: 0 };
        let share = times.share_since(last.map_or(start, |last| last.times)).unwrap_or(0.0);
        *last = Some(Look { at: Instant::now(), times, share });
        Some(share)
    }
}

impl CpuTimes {
    /// The first line has user, nice, system, idle, iowait and more; of guests the first two tell already.
    fn parse(stat: &str) -> Option<Self> {
        let line = stat.lines().next()?.strip_prefix("cpu ")?;
        let ticks: Vec<u64> = line.split_whitespace().take(8).map_while(|tick| tick.parse().ok()).collect();
        let idle = ticks.get(3)? + ticks.get(4)?;
        let all = ticks.iter().sum();
        Some(Self { busy: all - idle, all })
    }

    fn share_since(self, earlier: Self) -> Option<f64> {
        let all = self.all.checked_sub(earlier.all).filter(|&all| all > 0)?;
        Some(self.busy.saturating_sub(earlier.busy) as f64 / all as f64)
    }
}

/// CPU time of a process since its start, user and system, all threads; `None` where there is none.
pub fn process_cpu(pid: u32) -> Option<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let ticks = process_ticks(&stat)?;
    Some(Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second().max(1) as f64))
}

fn process_ticks(stat: &str) -> Option<u64> {
    // The name before it may hold anything, brackets too.
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut fields = fields.split_whitespace().skip(11);
    Some(fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_of_the_time_between_two_looks() {
        let times = |text: &str| CpuTimes::parse(text).unwrap();
        let first = times("cpu  10 0 10 70 10 0 0 0 5 5\ncpu0 1 1 1 1\n");
        let second = times("cpu  40 10 20 120 10 0 0 0 5 5\n");
        assert_eq!(first, CpuTimes { busy: 20, all: 100 });
        assert_eq!(second.share_since(first), Some(0.5));
        assert_eq!(first.share_since(first), None);
        assert_eq!(CpuTimes::parse("cpu 1"), None);
    }

    #[test]
    fn a_process_may_have_any_name() {
        let line = "7 (a) b (c) S 1 7 7 0 -1 4194560 20 0 0 0 21 12 0 0 20 0 1 0";
        assert_eq!(process_ticks(line), Some(33));
        assert_eq!(process_ticks("7 (a"), None);
        assert!(process_cpu(std::process::id()).is_some());
    }
}
