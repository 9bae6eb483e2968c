//! `ired.v1.ActivityService`: what the daemon is doing.

use std::sync::Arc;
use std::time::Duration;

use ired_proto::ired::v1::activity_service_server::ActivityService;
use ired_proto::ired::v1::{GetActivityRequest, GetActivityResponse, ModelActivity};
use tonic::{Request, Response, Status};

use super::models::state;
use super::traces::nanos;
use crate::activity::process_cpu;
use crate::app::App;
use crate::registry::VersionView;
use crate::stats::BOUNDS_US;

pub struct Activity(pub Arc<App>);

#[tonic::async_trait]
impl ActivityService for Activity {
    async fn get_activity(
        &self,
        _: Request<GetActivityRequest>,
    ) -> Result<Response<GetActivityResponse>, Status> {
        let app = &self.0;
        let (budget, in_use) = app.registry.residents.ledger().usage();
        let compiling = &app.cache.metrics;
        let few = |count: u64| u32::try_from(count).unwrap_or(u32::MAX);
        Ok(Response::new(GetActivityResponse {
            at_ns: nanos(app.since.elapsed()),
            models: app.registry.versions().iter().map(model).collect(),
            latency_bounds_s: BOUNDS_US.map(|bound| Duration::from_micros(bound).as_secs_f64()).to_vec(),
            units: app.host.units,
            memory_budget_bytes: budget,
            memory_in_use_bytes: in_use,
            compilations_running: few(compiling.running.get()),
            compilations_waiting: few(compiling.waiting.get()),
        }))
    }
}

fn model(view: &VersionView) -> ModelActivity {
    let (stats, serving) = (&view.stats, view.serving.as_ref());
    let processes = serving.map(|served| served.runner.processes()).unwrap_or_default();
    let cpu = processes.iter().filter_map(|process| process_cpu(process.pid?)).sum();
    ModelActivity {
        name: view.name.clone(),
        version: view.version,
        state: state(&view.state).into(),
        waiting: serving.map_or(0, |served| served.lane.waiting() as u64),
        inside: stats.pending(),
        answered: stats.success.count(),
        failed: stats.fail.count(),
        refused: stats.refused().values().sum(),
        executions: stats.execution_count(),
        rows: stats.inferences.get(),
        latencies: stats.success.buckets().to_vec(),
        resident_bytes: serving.map_or(0, |served| served.runner.resident_bytes()),
        cpu_ns: nanos(cpu),
        restarts: serving.map_or(0, |served| served.runner.restarts()),
        expected_wait_ns: serving.and_then(|served| served.lane.expected_wait()).map(nanos),
    }
}
