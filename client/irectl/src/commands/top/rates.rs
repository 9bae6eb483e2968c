//! What two looks at a model tell together.

use std::time::Duration;

use ired_client::proto::{GetActivityResponse, ModelActivity};

/// Between two looks.
#[derive(Debug, PartialEq)]
pub(super) struct Rates {
    /// Requests each second.
    pub(super) answered: f64,
    pub(super) failed: f64,
    /// Latencies of answered requests; `None` where there were none.
    pub(super) p50: Option<Duration>,
    pub(super) p99: Option<Duration>,
    /// Rows of an execution, on average.
    pub(super) batch: Option<f64>,
    /// Share of the machine's processors that the model's process had.
    pub(super) cpu: Option<f64>,
}

pub(super) fn rates(before: &GetActivityResponse, now: &GetActivityResponse, model: &ModelActivity) -> Rates {
    let is_same = |other: &&ModelActivity| other.name == model.name && other.version == model.version;
    let nothing = ModelActivity::default();
    let earlier = before.models.iter().find(is_same).unwrap_or(&nothing);
    let seconds = Duration::from_nanos(now.at_ns.saturating_sub(before.at_ns)).as_secs_f64().max(1e-9);
    let more = |read: fn(&ModelActivity) -> u64| read(model).saturating_sub(read(earlier)) as f64;
    let latencies: Vec<u64> = (model.latencies.iter().enumerate())
        .map(|(at, count)| count.saturating_sub(earlier.latencies.get(at).copied().unwrap_or(0)))
        .collect();
    let quantile = |share| quantile(&now.latency_bounds_s, &latencies, share);
    let (executions, rows) = (more(|model| model.executions), more(|model| model.rows));
    // A process that was started again counts from nothing.
    let cpu = model.cpu_ns.checked_sub(earlier.cpu_ns).filter(|_| earlier.cpu_ns > 0);
    Rates {
        answered: more(|model| model.answered) / seconds,
        failed: more(|model| model.failed) / seconds,
        p50: quantile(0.5),
        p99: quantile(0.99),
        batch: (executions > 0.0).then(|| rows / executions),
        cpu: cpu.map(|cpu| Duration::from_nanos(cpu).as_secs_f64() / seconds / f64::from(now.units.max(1))),
    }
}

/// The time that so large a share of them took at most, as if those of a bucket were spread evenly over it. Beyond the
/// last bound nothing is known but that.
fn quantile(bounds: &[f64], counts: &[u64], share: f64) -> Option<Duration> {
    let all: u64 = counts.iter().sum();
    if all == 0 {
        return None;
    }
    let wanted = share * all as f64;
    let mut below = 0.0;
    for (at, count) in counts.iter().enumerate() {
        let reached = below + *count as f64;
        if reached >= wanted && *count > 0 {
            let from = at.checked_sub(1).and_then(|at| bounds.get(at)).copied().unwrap_or(0.0);
            let to = bounds.get(at).copied().unwrap_or(from);
            return Duration::try_from_secs_f64(from + (to - from) * (wanted - below) / *count as f64).ok();
        }
        below = reached;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn look(at_s: u64, models: Vec<ModelActivity>) -> GetActivityResponse {
        GetActivityResponse {
            at_ns: at_s * 1_000_000_000,
            models,
            latency_bounds_s: vec![0.001, 0.002],
            units: 4,
            ..Default::default()
        }
    }

    #[test]
    fn numbers_are_of_the_time_between_two_looks() {
        let model = |answered, latencies: [u64; 3], cpu_s: u64| ModelActivity {
            name: "m".to_owned(),
            version: 1,
            answered,
            failed: answered / 10,
            executions: answered / 4,
            rows: answered,
            latencies: latencies.to_vec(),
            cpu_ns: cpu_s * 1_000_000_000,
            ..Default::default()
        };
        let before = look(10, vec![model(100, [60, 30, 10], 5)]);
        let now = look(12, vec![model(200, [110, 70, 20], 9)]);
        let found = rates(&before, &now, &now.models[0]);
        let expected = Rates {
            answered: 50.0,
            failed: 5.0,
            p50: Some(Duration::from_millis(1)),
            p99: Some(Duration::from_millis(2)),
            batch: Some(4.0),
            cpu: Some(0.5),
        };
        assert_eq!(found, expected);
        let idle = rates(&now, &now, &now.models[0]);
        assert_eq!((idle.answered, idle.p50, idle.batch), (0.0, None, None));
    }

    #[test]
    fn a_model_that_was_not_there_before_begins_at_nothing() {
        let model = ModelActivity { answered: 4, latencies: vec![4, 0, 0], cpu_ns: 7, ..Default::default() };
        let now = look(2, vec![model.clone()]);
        let found = rates(&look(1, Vec::new()), &now, &model);
        assert_eq!((found.answered, found.p50, found.cpu), (4.0, Some(Duration::from_micros(500)), None));
    }
}
