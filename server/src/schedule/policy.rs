//! How one model's requests are queued and joined.

use std::collections::BTreeMap;
use std::time::Duration;

use super::Sizes;

/// The priority of a request that names none, where the model has no levels: after all that do.
const LAST: u32 = u32::MAX;

/// What a lane goes by. The default is one queue without joining.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Policy {
    /// Executions in the worker at once; `None`: as many as keep it busy.
    pub instances: Option<usize>,
    /// What the model's compute time counts for beside others', 1 where it says nothing.
    pub share: Option<f64>,
    /// Requests let in per second, and as many at once after a pause.
    pub per_second: Option<f64>,
    /// `None`: requests run one by one.
    pub batching: Option<Batching>,
    /// Levels of priority, 1 the most urgent; 0: any number is a level.
    pub levels: u32,
    /// The level of requests that name none.
    pub default_level: u32,
    /// For levels that `queues` does not name.
    pub queue: QueuePolicy,
    pub queues: BTreeMap<u32, QueuePolicy>,
}

/// Joining of requests.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batching {
    /// Rows of one execution at most.
    pub max_rows: u64,
    /// Rows that are worth waiting for, ascending; empty: by `sizes`.
    pub preferred_rows: Vec<u64>,
    pub sizes: Sizes,
    /// How long a request waits for others while the worker has work.
    pub max_delay: Duration,
    /// What an execution may compute, so that nobody waits long for those who joined him; `None`: as long as it takes.
    pub max_compute: Option<Duration>,
}

/// What happens to requests that wait.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct QueuePolicy {
    /// How long a request may wait; `None`: until its deadline.
    pub timeout: Option<Duration>,
    /// Whether a request may say how long.
    pub allow_override: bool,
    pub after_timeout: AfterTimeout,
    /// Requests that may wait; `None`: as many as may be inside.
    pub max_waiting: Option<usize>,
}

/// What becomes of a request that waited too long.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AfterTimeout {
    #[default]
    Refuse,
    /// It runs once nobody else waits.
    GoLast,
}

impl Policy {
    /// The level of a request by what it says; 0 is nothing.
    pub fn level(&self, asked: u64) -> u32 {
        let asked = u32::try_from(asked).unwrap_or(LAST);
        match (asked, self.levels) {
            (0, 0) => LAST,
            (asked, 0) => asked,
            (0, _) => self.default_level,
            (asked, levels) if asked > levels => self.default_level,
            (asked, _) => asked,
        }
    }

    /// The level whose requests count towards a queue's bound, `None` for all: where any number is a level, each could
    /// be another queue.
    pub fn queue_of(&self, level: u32) -> Option<u32> {
        Some(level).filter(|_| self.levels > 0)
    }

    pub fn queue(&self, level: u32) -> &QueuePolicy {
        self.queues.get(&level).unwrap_or(&self.queue)
    }
}

impl QueuePolicy {
    /// How long a request may wait, by what it says itself.
    pub fn wait(&self, asked: Option<Duration>) -> Option<Duration> {
        match asked {
            Some(asked) if self.allow_override => Some(asked),
            _ => self.timeout,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_are_those_of_the_configuration() {
        let any = Policy::default();
        assert_eq!([any.level(1), any.level(7), any.level(0)], [1, 7, LAST]);
        let three = Policy { levels: 3, default_level: 2, ..Policy::default() };
        assert_eq!([three.level(1), three.level(3), three.level(0), three.level(4)], [1, 3, 2, 2]);
    }
}
