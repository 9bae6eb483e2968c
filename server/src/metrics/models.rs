//! What is known of each model version beyond counts: times by step, and its process.

use std::time::Duration;

use super::text::Text;
use crate::activity::process_cpu;
use crate::registry::VersionView;
use crate::stats::{BOUNDS_US, ModelStats, Tally};

/// The bounds of Triton's histogram, in milliseconds; all are bounds of ours.
const FIRST_RESPONSE_MS: [u64; 4] = [100, 500, 2000, 5000];

type Step = (&'static str, fn(&ModelStats) -> &Tally);

const STEPS: [Step; 4] = [
    ("queue", |stats| &stats.queue),
    ("input", |stats| &stats.compute_input),
    ("infer", |stats| &stats.compute_infer),
    ("output", |stats| &stats.compute_output),
];

pub(super) fn render(text: &mut Text, versions: &[VersionView]) {
    text.family("ired_request_duration_seconds", "histogram", "Time of answered requests");
    for view in versions {
        histogram(text, "ired_request_duration_seconds", view, None, &view.stats.success);
    }
    text.family("ired_step_duration_seconds", "histogram", "Time of answered requests by step");
    for view in versions {
        for (step, tally) in STEPS {
            histogram(text, "ired_step_duration_seconds", view, Some(("step", step)), tally(&view.stats));
        }
    }
    first_response(text, versions);
    text.family("nv_model_load_duration_secs", "gauge", "Time to make the module ready in its process");
    for view in versions {
        if let Some(served) = &view.serving {
            let version = view.version_text();
            let labels = [("model", view.name.as_str()), ("version", version.as_str())];
            let took = served.runner.module().load_time.as_secs_f64();
            text.sample("nv_model_load_duration_secs", &labels, took);
        }
    }
    text.family("ired_runtime_worker_cpu_seconds_total", "counter", "CPU time of a model's process");
    for view in versions {
        let runners = view.serving.as_ref().map(|served| served.runners()).unwrap_or_default();
        let processes = runners.iter().flat_map(|runner| runner.processes());
        let cpu = processes.filter_map(|process| process_cpu(process.pid?));
        if let Some(cpu) = cpu.reduce(|sum, cpu| sum + cpu) {
            let version = view.version_text();
            let labels = [("model", view.name.as_str()), ("version", version.as_str())];
            text.sample("ired_runtime_worker_cpu_seconds_total", &labels, cpu.as_secs_f64());
        }
    }
}

fn histogram(
    text: &mut Text,
    name: &str,
    view: &VersionView,
    more: Option<(&'static str, &'static str)>,
    tally: &Tally,
) {
    let version = view.version_text();
    let labels: Vec<(&str, &str)> =
        [("model", view.name.as_str()), ("version", &version)].into_iter().chain(more).collect();
    let bounds = BOUNDS_US.map(|bound| Duration::from_micros(bound).as_secs_f64());
    let sum = Duration::from_nanos(tally.ns()).as_secs_f64();
    text.histogram(name, &labels, &bounds, &tally.buckets(), sum);
}

/// Every answer is one response, so that the first one is the whole.
fn first_response(text: &mut Text, versions: &[VersionView]) {
    const NAME: &str = "nv_inference_first_response_histogram_ms";
    text.family(NAME, "histogram", "Time from the request to its first response");
    for view in versions {
        let version = view.version_text();
        let labels = [("model", view.name.as_str()), ("version", version.as_str())];
        let tally = &view.stats.success;
        let mut taken = 0;
        let (mut counts, mut own) = ([0; FIRST_RESPONSE_MS.len() + 1], tally.buckets().into_iter());
        for (count, bound) in counts.iter_mut().zip(FIRST_RESPONSE_MS) {
            let within = BOUNDS_US.partition_point(|&own| own <= bound * 1000);
            *count = own.by_ref().take(within.saturating_sub(taken)).sum();
            taken = within;
        }
        counts[FIRST_RESPONSE_MS.len()] = own.sum();
        let bounds = FIRST_RESPONSE_MS.map(|bound| bound as f64);
        text.histogram(NAME, &labels, &bounds, &counts, tally.ns() / 1_000_000);
    }
}
