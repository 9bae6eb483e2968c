//! What `ired.v1` tells of models and the machine, as JSON. Versions are texts, as in the inference protocol.

use ired_proto::ired::v1::{Device, DeviceGroup};
use serde_json::{Value, json};

use crate::app::App;
use crate::devices::Host;
use crate::engine::Process;
use crate::models::Origin;
use crate::registry::{Served, State, VersionView};
use crate::schedule::Lane;
use crate::services::traces::nanos;
use crate::stats::{BOUNDS_US, ModelStats, Tally};

pub(super) fn version(version: &VersionView) -> Value {
    let (state, reason) = match &version.state {
        State::Loading => ("LOADING", ""),
        State::Ready => ("READY", ""),
        State::Unloading => ("UNLOADING", ""),
        State::Unavailable(reason) => ("UNAVAILABLE", reason.as_str()),
    };
    let source = match version.source.origin {
        Origin::Repository => "repository",
        Origin::Upload => "upload",
    };
    let stats = &version.stats;
    let lane = version.serving.as_ref().map(|served| &served.lane);
    json!({
        "name": version.name,
        "version": version.version_text(),
        "labels": version.labels,
        "source": source,
        "state": state,
        "reason": reason,
        "file": version.source.main.name,
        "bytes": version.source.bytes(),
        "digest": version.source.digest.get().map(ToString::to_string),
        "module": version.serving.as_deref().map(module),
        "requests": {
            "answered": stats.success.count(),
            "failed": stats.fail.count(),
            "inside": stats.pending(),
            "waiting": lane.map_or(0, Lane::waiting),
            "expected_wait_ns": lane.and_then(Lane::expected_wait).map(nanos),
        },
        "last_inference_ms": stats.last_inference_ms(),
    })
}

fn module(served: &Served) -> Value {
    let (module, runner) = (served.runner.module(), &served.runner);
    json!({
        "triple": module.target.triple,
        "features": module.target.features,
        "module_bytes": module.module_bytes,
        // Of these it takes none while it makes room for others.
        "resident_bytes": module.resident_bytes,
        "in_memory": runner.resident_bytes() == module.resident_bytes,
        "worker_pid": runner.pid(),
        "restarts": runner.restarts(),
        "processes": runner.processes().iter().map(process).collect::<Vec<_>>(),
    })
}

fn process(Process { group, pid, restarts }: &Process) -> Value {
    json!({
        "device_group": group.device_group.as_ref().map(|group| &group.name),
        "count": group.count,
        "pid": pid,
        "restarts": restarts,
    })
}

/// How long answered requests took, each step from coming in to going out.
pub(super) fn latency(stats: &ModelStats) -> Value {
    let steps = [
        ("request", &stats.success),
        ("queue", &stats.queue),
        ("input", &stats.compute_input),
        ("infer", &stats.compute_infer),
        ("output", &stats.compute_output),
    ];
    let step = |(name, tally): (&str, &Tally)| {
        let bounds = BOUNDS_US.iter().map(|us| Some(us * 1000)).chain([None]);
        let buckets =
            bounds.zip(tally.buckets()).map(|(up_to, count)| json!({ "up_to_ns": up_to, "count": count }));
        json!({
            "step": name,
            "count": tally.count(),
            "sum_ns": tally.ns(),
            "buckets": buckets.collect::<Vec<_>>(),
        })
    };
    json!({ "steps": steps.map(step) })
}

pub(super) fn device(device: &Device) -> Value {
    json!({
        "id": device.id,
        "driver": device.driver,
        "name": device.name,
        "triple": device.triple,
        "features": device.features,
        "units": device.units,
        "memory_bytes": device.memory_bytes,
        "models": device.models,
        "groups": device.groups.iter().map(group).collect::<Vec<_>>(),
    })
}

fn group(group: &DeviceGroup) -> Value {
    json!({ "name": group.name, "cores": group.cores })
}

pub(super) fn status(app: &App) -> Value {
    let settings = &app.settings;
    let (budget, promised) = app.registry.residents.ledger().usage();
    let (limit, inside) = app.inference.budget().usage();
    let machine = Host::memory();
    let (modules, module_bytes) = app.cache.size();
    let compile = &app.cache.metrics;
    let versions = app.registry.versions();
    let lanes = || versions.iter().filter_map(|version| Some(&version.serving.as_ref()?.lane));
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "ready": app.is_ready(),
        "memory": {
            "budget_bytes": budget,
            "promised_bytes": promised,
            "machine_bytes": machine.total_bytes,
            "machine_used_bytes": machine.used_bytes,
            "daemon_bytes": Host::own_resident_bytes(),
        },
        "requests": {
            "limit_bytes": limit,
            "inside_bytes": inside,
            "waiting": lanes().map(Lane::waiting).sum::<usize>(),
            // Of the model where it is longest.
            "expected_wait_ns": lanes().filter_map(Lane::expected_wait).max().map(nanos),
        },
        "compile": {
            "running": compile.running.get(),
            "waiting": compile.waiting.get(),
            "slots": settings.compile_slots,
            "queue": settings.compile_queue,
            "crashes": compile.crashes.get(),
        },
        "cache": {
            "modules": modules,
            "bytes": module_bytes,
            "limit_bytes": settings.cache_bytes,
            "hits": compile.memory_hits.get() + compile.disk_hits.get() + compile.shared_hits.get(),
            "misses": compile.misses.get(),
            "evictions": compile.evicted.get(),
        },
        "models": {
            "evictions": app.registry.residents.evicted.get(),
            "reloads": app.registry.residents.faulted.get(),
        },
    })
}
