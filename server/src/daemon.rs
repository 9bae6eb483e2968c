//! The daemon from start to stop: opens the stores, loads the models, opens the doors, and closes them in order.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use axum::Router;
use ired_proto::FILE_DESCRIPTOR_SET;
use ired_proto::inference::grpc_inference_service_server::GrpcInferenceServiceServer;
use ired_proto::ired::v1::activity_service_server::ActivityServiceServer;
use ired_proto::ired::v1::compile_service_server::CompileServiceServer;
use ired_proto::ired::v1::device_service_server::DeviceServiceServer;
use ired_proto::ired::v1::model_service_server::ModelServiceServer;
use ired_proto::ired::v1::trace_service_server::TraceServiceServer;
use tokio::sync::{Notify, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;
use tonic::codec::CompressionEncoding;
use tonic::service::Routes;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use crate::activity::CpuMeter;
use crate::app::App;
use crate::auth::{Gate, Guarded};
use crate::budget::count_unary;
use crate::cache::ModuleCache;
use crate::config::Settings;
use crate::devices::Host;
use crate::engine::{Compiler, Launcher};
use crate::infer::Inference;
use crate::ledger::Ledger;
use crate::registry::{Labels, Registry, Residents};
use crate::serve::{Door, Port, Protocol, serve};
use crate::services::activity::Activity;
use crate::services::compile::Compile;
use crate::services::devices::Devices;
use crate::services::inference::InferenceService;
use crate::services::models::Models;
use crate::services::rest;
use crate::services::traces::TraceBook;
use crate::shared_memory::Regions;
use crate::store::{DirectoryLock, blocking};
use crate::tls::Tls;
use crate::trace::{Export, Exporting, Traces};
use crate::trust::Trust;
use crate::uploads::Uploads;

/// One message of the daemon's own services: a chunk of a file with its frame.
const MESSAGE_BYTES: usize = 4 << 20;
/// What `grpc.health.v1` knows: the whole server, and the service that clients ask for.
const HEALTH_NAMES: [&str; 2] = ["", "inference.GRPCInferenceService"];

/// How far the start has come.
enum Startup {
    Loading,
    Ready,
    Failed(std::io::Error),
}

/// A running daemon.
pub struct Daemon {
    pub app: Arc<App>,
    pub http: SocketAddr,
    pub grpc: SocketAddr,
    pub metrics: SocketAddr,
    health: HealthReporter,
    stop: CancellationToken,
    doors: JoinSet<()>,
    stop_metrics: CancellationToken,
    metrics_door: JoinHandle<()>,
    started: watch::Receiver<Startup>,
    reload: Arc<Notify>,
    exporting: Option<Exporting>,
    /// Ends with the daemon.
    _followed: JoinSet<()>,
    _lock: DirectoryLock,
}

impl Daemon {
    /// Opens the stores and the doors, and loads models in the background; gRPC opens when that has ended, if the settings
    /// say so.
    ///
    /// # Errors
    /// A data directory that another daemon holds or that cannot be read, a model repository that cannot be
    /// read, an address that cannot be taken.
    pub async fn start(
        settings: Settings,
        compiler: Arc<dyn Compiler>,
        launcher: Arc<dyn Launcher>,
    ) -> anyhow::Result<Self> {
        let settings = Arc::new(settings);
        let gate = Gate::open(&settings)?;
        let tls = Tls::open(&settings.tls)?.map(Arc::new);
        let http = take("REST", &settings.http, &settings).await?;
        let grpc = take("gRPC", &settings.grpc, &settings).await?;
        let metrics = take("metrics", &settings.metrics, &settings).await?;
        let addresses = (http.address, grpc.address, metrics.address);

        let data_dir = settings.data_dir.clone();
        let lock = blocking(move || DirectoryLock::take(&data_dir)).await?;
        let (export, exporting) = Export::start(&settings.tracing, &settings.server_name)?.unzip();
        let app = Arc::new(open(&settings, &gate, compiler, launcher, export).await?);
        let models = app.registry.discover().await?;

        let (health, health_service) = tonic_health::server::health_reporter();
        tell_health(&health, &app).await;
        let routes = Routes::new(health_service);
        let grpc_router = gate.before_grpc(grpc_router(routes, &app)?);
        let door = |protocol, router| Door { protocol, router, tls: tls.clone(), settings: settings.clone() };

        let (stop, stop_metrics) = (CancellationToken::new(), CancellationToken::new());
        let listener = metrics.listen().context("cannot listen for metrics")?;
        let router = gate.before_rest(rest::metrics_router(app.clone()));
        let metrics_door = tokio::spawn(serve(listener, door(Protocol::Rest, router), stop_metrics.clone()));

        let mut doors = JoinSet::new();
        let listener = http.listen().context("cannot listen for REST")?;
        let router = gate.before_rest(rest::router(app.clone()));
        doors.spawn(serve(listener, door(Protocol::Rest, router), stop.clone()));
        let reload = Arc::new(Notify::new());
        let mut followed = follow(&gate, tls.as_deref(), &reload);

        let (tell_started, started) = watch::channel(Startup::Loading);
        let tell_started = Arc::new(tell_started);
        let loads = {
            let (registry, stop) = (app.registry.clone(), stop.clone());
            async move { stop.run_until_cancelled(registry.load_all(models)).await }
        };
        let become_ready = {
            let (app, health, tell_started) = (app.clone(), health.clone(), tell_started.clone());
            async move {
                app.serving.store(true, Ordering::Release);
                tell_health(&health, &app).await;
                tell_started.send_replace(Startup::Ready);
            }
        };
        let grpc_door = {
            let (door, stop) = (door(Protocol::Grpc, grpc_router), stop.clone());
            move |listener| serve(listener, door, stop)
        };
        if settings.grpc_during_startup {
            doors.spawn(grpc_door(grpc.listen().context("cannot listen for gRPC")?));
            doors.spawn(async move {
                if loads.await.is_some() {
                    become_ready.await;
                }
            });
        } else {
            doors.spawn(async move {
                if loads.await.is_none() {
                    return;
                }
                // Who finds the server ready finds the door open.
                match grpc.listen() {
                    Ok(listener) => {
                        become_ready.await;
                        grpc_door(listener).await;
                    }
                    Err(error) => drop(tell_started.send_replace(Startup::Failed(error))),
                }
            });
        }
        {
            let (app, health) = (app.clone(), health.clone());
            let (stop, mut started) = (stop.clone(), started.clone());
            followed.spawn(async move {
                let complete = async {
                    if started.wait_for(|started| matches!(started, Startup::Ready)).await.is_ok() {
                        await_missing(&app, &health).await;
                    }
                };
                stop.run_until_cancelled(complete).await;
            });
        }
        if settings.model_repository.is_some() && settings.repository_poll_s > 0 {
            let every = Duration::from_secs(settings.repository_poll_s);
            let (registry, stop, mut started) = (app.registry.clone(), stop.clone(), started.clone());
            followed.spawn(async move {
                let poll = async {
                    if started.wait_for(|started| matches!(started, Startup::Ready)).await.is_ok() {
                        registry.poll(every).await;
                    }
                };
                stop.run_until_cancelled(poll).await;
            });
        }
        Ok(Self {
            app,
            http: addresses.0,
            grpc: addresses.1,
            metrics: addresses.2,
            health,
            stop,
            doors,
            stop_metrics,
            metrics_door,
            started,
            reload,
            exporting,
            _followed: followed,
            _lock: lock,
        })
    }

    /// Reads certificates and the access file again, where they changed; they are looked at now and then anyway.
    pub fn reload(&self) {
        self.reload.notify_waiters();
    }

    /// Returns when the start-up loads have ended and every door is open.
    ///
    /// # Errors
    /// A door that cannot be opened: the daemon is of no use and should be stopped.
    pub async fn started(&self) -> anyhow::Result<()> {
        let mut started = self.started.clone();
        let ended = started.wait_for(|started| !matches!(started, Startup::Loading)).await;
        match ended.as_deref() {
            Ok(Startup::Ready) => Ok(()),
            Ok(Startup::Failed(error)) => bail!("cannot listen for gRPC on {}: {error}", self.grpc),
            Ok(Startup::Loading) | Err(_) => bail!("the start broke off"),
        }
    }

    /// Says "not ready", refuses connections, lets the requests inside end, ends the workers.
    pub async fn stop(mut self) {
        tracing::info!("stopping");
        self.app.serving.store(false, Ordering::Release);
        tell_health(&self.health, &self.app).await;
        tokio::time::sleep(Duration::from_secs(self.app.settings.shutdown_delay_s)).await;
        // Ends the streams of those who watch the health, which would hold their connections open.
        for name in HEALTH_NAMES {
            self.health.clear_service_status(name).await;
        }
        self.stop.cancel();
        while self.doors.join_next().await.is_some() {}
        self.app.registry.stop().await;
        self.app.cache.stop().await;
        if let Some(exporting) = self.exporting {
            exporting.end().await;
        }
        self.stop_metrics.cancel();
        let _ = self.metrics_door.await;
        tracing::info!("stopped");
    }
}

/// Checks the files that settings name: certificates, keys, who may do what.
///
/// # Errors
/// The first that cannot be used.
pub fn check_files(settings: &Settings) -> anyhow::Result<()> {
    Tls::open(&settings.tls)?;
    Trust::open(settings)?;
    ModuleCache::check_files(settings)?;
    Gate::check_files(settings)
}

async fn take(name: &str, address: &str, settings: &Settings) -> anyhow::Result<Port> {
    let port = Port::take(address).await;
    let port = port.with_context(|| format!("cannot take the {name} address `{address}`"))?;
    Gate::check_address(settings, name, port.address)?;
    Ok(port)
}

/// Keeps what is made of files as they are.
fn follow(gate: &Gate, tls: Option<&Tls>, now: &Arc<Notify>) -> JoinSet<()> {
    let mut followed = JoinSet::new();
    if let Some(access) = &gate.access {
        followed.spawn(access.clone().follow(now.clone()));
    }
    if let Some(tls) = tls {
        followed.spawn(tls.files.clone().follow(now.clone()));
    }
    followed
}

/// Says of a start that has ended which models it lacks, and waits for them.
async fn await_missing(app: &App, health: &HealthReporter) {
    let missing = app.registry.missing();
    if !app.settings.strict_readiness || missing.is_empty() {
        return;
    }
    let models = missing.into_iter().collect::<Vec<_>>().join(", ");
    tracing::error!(models, "not ready, as these models do not answer; setting `strict_readiness` decides");
    app.registry.complete().await;
    tell_health(health, app).await;
    tracing::info!("ready");
}

/// Tells those who watch the health what is so.
async fn tell_health(health: &HealthReporter, app: &App) {
    loop {
        let is_ready = app.is_ready();
        let status = if is_ready { ServingStatus::Serving } else { ServingStatus::NotServing };
        for name in HEALTH_NAMES {
            health.set_service_status(name, status).await;
        }
        // Another may have told what was so before.
        if app.is_ready() == is_ready {
            return;
        }
    }
}

async fn open(
    settings: &Arc<Settings>,
    gate: &Arc<Gate>,
    compiler: Arc<dyn Compiler>,
    launcher: Arc<dyn Launcher>,
    export: Option<Export>,
) -> anyhow::Result<App> {
    let host = Host::detect();
    let uploads = {
        let (settings, trust) = (settings.clone(), Trust::open(settings)?);
        blocking(move || Uploads::open(&settings.data_dir.join("uploads"), &settings, trust)).await?
    };
    let uploads = Arc::new(uploads);
    let modules = settings.data_dir.join("modules");
    let residents = Residents::new(launcher, Ledger::new(settings.memory_bytes), settings.compile_wall());
    let cache = ModuleCache::open(&modules, settings, compiler, host.identity(), residents.clone());
    let cache = Arc::new(cache.await?);
    let labels = settings.data_dir.join("labels");
    let labels = blocking(move || Labels::open(labels)).await?;
    let registry =
        Arc::new(Registry::new(settings.clone(), uploads.clone(), cache.clone(), labels, residents));
    Ok(App {
        inference: Inference::new(registry.clone(), settings.clone()),
        regions: Regions::new(settings.shared_memory_regions),
        traces: Traces::new(&settings.tracing, export),
        cpu: CpuMeter::default(),
        since: Instant::now(),
        settings: settings.clone(),
        host,
        uploads,
        cache,
        registry,
        serving: AtomicBool::new(false),
        gate: gate.clone(),
    })
}

fn grpc_router(routes: Routes, app: &Arc<App>) -> anyhow::Result<Router> {
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(FILE_DESCRIPTOR_SET)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    use CompressionEncoding::{Deflate, Gzip};
    let inference = GrpcInferenceServiceServer::new(Guarded(InferenceService(app.clone())))
        .accept_compressed(Gzip)
        .accept_compressed(Deflate)
        .send_compressed(Gzip)
        .send_compressed(Deflate)
        .max_decoding_message_size(app.settings.message_bytes)
        // Outputs are as large as models make them.
        .max_encoding_message_size(usize::MAX);
    let models = ModelServiceServer::new(Guarded(Models(app.clone())))
        .accept_compressed(Gzip)
        .accept_compressed(Deflate)
        .max_decoding_message_size(MESSAGE_BYTES);
    let compile = CompileServiceServer::new(Guarded(Compile(app.clone())))
        .accept_compressed(Gzip)
        .accept_compressed(Deflate)
        .max_decoding_message_size(MESSAGE_BYTES);
    let devices = DeviceServiceServer::new(Guarded(Devices(app.clone())))
        .accept_compressed(Gzip)
        .accept_compressed(Deflate)
        .max_decoding_message_size(MESSAGE_BYTES);
    let traces = TraceServiceServer::new(Guarded(TraceBook(app.clone())))
        .accept_compressed(Gzip)
        .accept_compressed(Deflate)
        .max_decoding_message_size(MESSAGE_BYTES);
    let activity = ActivityServiceServer::new(Guarded(Activity(app.clone())))
        .accept_compressed(Gzip)
        .accept_compressed(Deflate)
        .max_decoding_message_size(MESSAGE_BYTES);
    let routes = routes
        .add_service(inference)
        .add_service(models)
        .add_service(compile)
        .add_service(devices)
        .add_service(traces)
        .add_service(activity)
        .add_service(reflection().build_v1().context("cannot describe the services")?)
        .add_service(reflection().build_v1alpha().context("cannot describe the services")?);
    let budget = app.inference.budget().clone();
    let count = axum::middleware::from_fn(move |mut request: axum::extract::Request, next| {
        // An answer is packed where its request was. Most clients accept that without wanting it: tensors compress
        // badly, and the processor has better things to do.
        if !request.headers().contains_key("grpc-encoding") {
            request.headers_mut().remove("grpc-accept-encoding");
        }
        count_unary(budget.clone(), request, next)
    });
    Ok(routes.prepare().into_axum_router().layer(count))
}
