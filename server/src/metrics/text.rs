//! The Prometheus text format, version 0.0.4.

use std::fmt::Write;

use ired_worker::{LayerState, SandboxReport};

use super::{COMPILE_BOUNDS_S, CompileMetrics, SharedCacheMetrics};
use crate::activity::CpuMeter;
use crate::app::App;
use crate::cache::ModuleCache;
use crate::devices::Host;
use crate::registry::{Residents, VersionView};
use crate::stats::{FailureReason, ModelStats};
use crate::trace::{ExportCounts, Traces};

/// Everything that is counted, as text.
pub fn render(app: &App) -> String {
    let (registry, cache) = (&*app.registry, &*app.cache);
    let mut text = Text::default();
    let versions = registry.versions();
    models(&mut text, &versions);
    super::models::render(&mut text, &versions);
    compiles(&mut text, &cache.metrics);
    modules(&mut text, cache);
    if let Some(shared) = cache.shared_metrics() {
        shared_cache(&mut text, shared);
    }
    sandbox(&mut text, cache, &versions);
    memory(&mut text, registry.residents.as_ref());
    super::callers::render(&mut text, &app.gate);
    traces(&mut text, &app.traces);
    machine(&mut text, &app.cpu);
    text.family("ired_build_info", "gauge", "The daemon's version");
    text.sample("ired_build_info", &[("version", env!("CARGO_PKG_VERSION"))], 1);
    text.0
}

fn models(text: &mut Text, versions: &[VersionView]) {
    type Read = fn(&ModelStats) -> u64;
    let counters: &[(&str, &str, &str, Read)] = &[
        ("nv_inference_request_success", "counter", "Requests that were answered", |s| s.success.count()),
        ("nv_inference_count", "counter", "Inferences done, each row of a batch one", |s| s.inferences.get()),
        ("nv_inference_exec_count", "counter", "Executions of the model", |s| s.execution_count()),
        ("nv_inference_pending_request_count", "gauge", "Requests inside, waiting or running", |s| {
            s.pending()
        }),
        ("nv_inference_request_duration_us", "counter", "Time of answered requests", |s| {
            s.success.ns() / 1000
        }),
        ("nv_inference_queue_duration_us", "counter", "Time in the queue", |s| s.queue.ns() / 1000),
        ("nv_inference_compute_input_duration_us", "counter", "Time taking inputs in", |s| {
            s.compute_input.ns() / 1000
        }),
        ("nv_inference_compute_infer_duration_us", "counter", "Time running the model", |s| {
            s.compute_infer.ns() / 1000
        }),
        ("nv_inference_compute_output_duration_us", "counter", "Time giving outputs out", |s| {
            s.compute_output.ns() / 1000
        }),
    ];
    for (name, kind, help, read) in counters {
        text.per_version(versions, name, kind, help, |view| Some(read(&view.stats)));
    }
    text.family("nv_inference_request_failure", "counter", "Requests that failed, by reason");
    for view in versions {
        for reason in FailureReason::ALL {
            let version = view.version_text();
            let labels = [("model", view.name.as_str()), ("reason", reason.name()), ("version", &version)];
            text.sample("nv_inference_request_failure", &labels, view.stats.failures(reason));
        }
    }
    text.family("ired_requests_refused_total", "counter", "Requests that were not run, by reason");
    for view in versions {
        for (reason, count) in view.stats.refused() {
            let version = view.version_text();
            let labels = [("model", view.name.as_str()), ("reason", reason), ("version", &version)];
            text.sample("ired_requests_refused_total", &labels, count);
        }
    }
    text.per_version(versions, "ired_queue_length", "gauge", "Requests that wait for their turn", |view| {
        Some(view.serving.as_ref()?.lane.waiting() as u64)
    });
    expected_waits(text, versions);
    batches(text, versions);
    text.per_version(versions, "ired_model_ready", "gauge", "1 while the version can answer", |view| {
        Some(u64::from(view.serving.is_some()))
    });
    text.per_version(
        versions,
        "ired_runtime_worker_restarts_total",
        "counter",
        "Runtime workers started again after a death",
        |view| Some(view.serving.as_ref()?.runners().iter().map(|runner| runner.restarts()).sum()),
    );
    text.per_version(
        versions,
        "ired_model_resident_bytes",
        "gauge",
        "Memory a model takes while it is idle; 0 where it made room",
        |view| Some(view.serving.as_ref()?.runners().iter().map(|runner| runner.resident_bytes()).sum()),
    );
}

fn expected_waits(text: &mut Text, versions: &[VersionView]) {
    let name = "ired_queue_expected_wait_seconds";
    text.family(name, "gauge", "How long a request that came now would wait for its turn");
    for view in versions {
        let wait = view.serving.as_ref().and_then(|served| served.lane.expected_wait());
        if let Some(wait) = wait {
            let labels = [("model", view.name.as_str()), ("version", &view.version_text())];
            text.sample(name, &labels, wait.as_secs_f64());
        }
    }
}

/// How many rows the executions had.
fn batches(text: &mut Text, versions: &[VersionView]) {
    const BOUNDS: [u64; 11] = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024];
    text.family("ired_batch_rows", "histogram", "Rows of an execution");
    for view in versions {
        let (version, executions) = (view.version_text(), view.stats.executions());
        let labels = [("model", view.name.as_str()), ("version", version.as_str())];
        let up_to = |bound: u64| executions.range(..=bound).map(|(_, tally)| tally.count).sum::<u64>();
        let sample = |text: &mut Text, bound: &str, count: u64| {
            text.sample("ired_batch_rows_bucket", &[labels[0], labels[1], ("le", bound)], count);
        };
        for bound in BOUNDS {
            sample(text, &bound.to_string(), up_to(bound));
        }
        sample(text, "+Inf", up_to(u64::MAX));
        text.sample("ired_batch_rows_sum", &labels, view.stats.inferences.get());
        text.sample("ired_batch_rows_count", &labels, up_to(u64::MAX));
    }
}

fn compiles(text: &mut Text, metrics: &CompileMetrics) {
    let outcomes = metrics.outcomes();
    text.family("ired_compile_total", "counter", "Compilations that ended, by outcome");
    for (name, outcome) in &outcomes {
        text.sample("ired_compile_total", &[("outcome", name)], outcome.count());
    }
    text.family("ired_compile_duration_seconds_total", "counter", "Time of compilations, by outcome");
    for (name, outcome) in &outcomes {
        let took = outcome.took.as_secs_f64();
        text.sample("ired_compile_duration_seconds_total", &[("outcome", name)], took);
    }
    text.family("ired_compile_duration_seconds", "histogram", "Time of a compilation, by outcome");
    for (name, outcome) in &outcomes {
        let (labels, took) = ([("outcome", *name)], outcome.took.as_secs_f64());
        text.histogram("ired_compile_duration_seconds", &labels, &COMPILE_BOUNDS_S, &outcome.buckets, took);
    }
    text.single(
        "ired_compile_workers_started_total",
        "counter",
        "Compile workers started",
        metrics.started.get(),
    );
    text.single(
        "ired_compile_crashes_total",
        "counter",
        "Compile workers that crashed",
        metrics.crashes.get(),
    );
    text.single("ired_compile_running", "gauge", "Compilations running", metrics.running.get());
    text.single("ired_compile_waiting", "gauge", "Compilations waiting for a slot", metrics.waiting.get());
}

fn modules(text: &mut Text, cache: &ModuleCache) {
    let metrics = &cache.metrics;
    let (entries, bytes) = cache.size();
    text.family("ired_cache_hits_total", "counter", "Modules found in the cache, by where they were");
    let hits =
        [("memory", &metrics.memory_hits), ("disk", &metrics.disk_hits), ("shared", &metrics.shared_hits)];
    for (tier, hits) in hits {
        text.sample("ired_cache_hits_total", &[("tier", tier)], hits.get());
    }
    text.single("ired_cache_misses_total", "counter", "Modules not found in the cache", metrics.misses.get());
    text.single("ired_cache_evictions_total", "counter", "Modules removed for room", metrics.evicted.get());
    text.single(
        "ired_cache_corrupt_total",
        "counter",
        "Modules that had rotted on disk",
        metrics.corrupt.get(),
    );
    text.single("ired_cache_modules", "gauge", "Modules on disk", entries);
    text.single("ired_cache_bytes", "gauge", "Bytes of modules on disk", bytes);
}

fn shared_cache(text: &mut Text, shared: &SharedCacheMetrics) {
    let single = |text: &mut Text, name: &str, kind: &str, help: &str, value: u64| {
        text.single(&format!("ired_shared_cache_{name}"), kind, help, value);
    };
    single(text, "up", "gauge", "1 while the object store answers", u64::from(shared.is_up()));
    single(
        text,
        "failures_total",
        "counter",
        "Requests to the object store that failed",
        shared.failures.get(),
    );
    single(text, "fetched_bytes_total", "counter", "Bytes of modules fetched", shared.fetched_bytes.get());
    single(text, "stored_bytes_total", "counter", "Bytes of modules put", shared.stored_bytes.get());
    text.family("ired_shared_cache_uploads_total", "counter", "Modules to be put, by outcome");
    let outcomes = [("ok", &shared.stored), ("failed", &shared.failed), ("dropped", &shared.dropped)];
    for (outcome, count) in outcomes {
        text.sample("ired_shared_cache_uploads_total", &[("outcome", outcome)], count.get());
    }
    single(
        text,
        "refused_total",
        "counter",
        "Modules found that were not what they should be",
        shared.refused.get(),
    );
    single(text, "waits_total", "counter", "Compilations of others that were waited for", shared.waits.get());
    single(text, "waiting", "gauge", "Compilations of others that are waited for", shared.waiting.get());
    single(
        text,
        "takeovers_total",
        "counter",
        "Compilations taken over from the dead",
        shared.takeovers.get(),
    );
}

fn sandbox(text: &mut Text, cache: &ModuleCache, versions: &[VersionView]) {
    let runtime = versions.iter().find_map(|view| view.serving.as_ref()).map(|s| s.runner.sandbox());
    let reports = [("compile", cache.metrics.sandbox()), ("runtime", runtime)];
    text.family("ired_sandbox_layer", "gauge", "1 where a layer of confinement is in force");
    for (role, report) in &reports {
        for (layer, state) in report.iter().flat_map(|report| &report.layers) {
            let active = matches!(state, LayerState::Active(_));
            text.sample("ired_sandbox_layer", &[("role", role), ("layer", layer)], u64::from(active));
        }
    }
    text.family("ired_sandbox_level", "gauge", "Layers of confinement in force");
    for (role, report) in &reports {
        if let Some(report) = report {
            text.sample("ired_sandbox_level", &[("role", role)], active_layers(report));
        }
    }
}

fn active_layers(report: &SandboxReport) -> u64 {
    report.layers.iter().filter(|(_, state)| matches!(state, LayerState::Active(_))).count() as u64
}

fn memory(text: &mut Text, residents: &Residents) {
    let (budget, in_use) = residents.ledger().usage();
    text.single(
        "ired_memory_budget_bytes",
        "gauge",
        "Memory for models and what their requests take",
        budget,
    );
    text.single(
        "ired_memory_in_use_bytes",
        "gauge",
        "Memory that is promised to models and requests",
        in_use,
    );
    let (evicted, faulted) = (residents.evicted.get(), residents.faulted.get());
    text.single("ired_model_evictions_total", "counter", "Models unloaded to make room", evicted);
    text.single("ired_model_reloads_total", "counter", "Models loaded again on demand", faulted);
}

fn traces(text: &mut Text, traces: &Traces) {
    let Some(export) = &traces.export else { return };
    let ExportCounts { exported, dropped } = export.counts();
    text.single("ired_trace_spans_exported_total", "counter", "Spans that a collector took", exported.get());
    text.single(
        "ired_trace_spans_dropped_total",
        "counter",
        "Spans that no collector took: it was slow, gone or unwilling",
        dropped.get(),
    );
}

fn machine(text: &mut Text, cpu: &CpuMeter) {
    if let Some(share) = cpu.share() {
        text.single(
            "nv_cpu_utilization",
            "gauge",
            "Share of its time that the machine computes, from 0 to 1",
            share,
        );
    }
    let memory = Host::memory();
    text.single("nv_cpu_memory_total_bytes", "gauge", "Memory of the machine", memory.total_bytes);
    text.single("nv_cpu_memory_used_bytes", "gauge", "Memory in use on the machine", memory.used_bytes);
    text.single(
        "ired_process_resident_bytes",
        "gauge",
        "Memory of the daemon itself",
        Host::own_resident_bytes(),
    );
}

#[derive(Default)]
pub(super) struct Text(String);

impl Text {
    pub(super) fn family(&mut self, name: &str, kind: &str, help: &str) {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    pub(super) fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl std::fmt::Display) {
        self.0.push_str(name);
        for (at, (label, text)) in labels.iter().enumerate() {
            let open = if at == 0 { '{' } else { ',' };
            let escaped = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let _ = write!(self.0, "{open}{label}=\"{escaped}\"");
        }
        let close = if labels.is_empty() { "" } else { "}" };
        let _ = writeln!(self.0, "{close} {value}");
    }

    /// The samples of one histogram: `counts` has those within each bound and not the one before, and those beyond.
    pub(super) fn histogram(
        &mut self,
        name: &str,
        labels: &[(&str, &str)],
        bounds: &[f64],
        counts: &[u64],
        sum: impl std::fmt::Display,
    ) {
        let bounds = bounds.iter().map(f64::to_string).chain(["+Inf".to_owned()]);
        let mut within = 0;
        for (bound, count) in bounds.zip(counts) {
            within += count;
            let labels: Vec<(&str, &str)> = labels.iter().copied().chain([("le", bound.as_str())]).collect();
            self.sample(&format!("{name}_bucket"), &labels, within);
        }
        self.sample(&format!("{name}_sum"), labels, sum);
        self.sample(&format!("{name}_count"), labels, within);
    }

    pub(super) fn single(&mut self, name: &str, kind: &str, help: &str, value: impl std::fmt::Display) {
        self.family(name, kind, help);
        self.sample(name, &[], value);
    }

    /// A family of one value for each version that has it.
    fn per_version(
        &mut self,
        versions: &[VersionView],
        name: &str,
        kind: &str,
        help: &str,
        read: impl Fn(&VersionView) -> Option<u64>,
    ) {
        self.family(name, kind, help);
        for view in versions {
            if let Some(value) = read(view) {
                self.sample(name, &[("model", &view.name), ("version", &view.version_text())], value);
            }
        }
    }
}
