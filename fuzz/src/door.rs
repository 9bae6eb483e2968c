//! The services behind the daemon's doors, with a compiler and models that only copy: what a stranger's bytes can reach.

use std::io::Write;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::http::Request;
use futures::FutureExt;
use futures::future::BoxFuture;
use ired::engine::{Compiler, EventSink, Launcher, Runner};
use ired::services::inference::InferenceService;
use ired::services::rest;
use ired::{Daemon, Settings};
use ired_module::DType;
use ired_module::signature::{
    DimSpec, EntryPoint, PeakBytes, Provenance, Rows, Signature, Target, TensorSpec,
};
use ired_proto::inference::grpc_inference_service_server::GrpcInferenceServiceServer;
use ired_worker::{
    CompileFailure, CompileJob, CompileReport, Cores, InferenceResult, LoadedModule, ModelFiles,
    RuntimeFailure, SandboxReport, Tensor, Timing,
};
use tokio::runtime::Runtime;
use tower::ServiceExt;

/// The only model: its output is its input.
const MODEL: &str = "m";

/// A daemon that nobody reaches over a network.
pub struct Door {
    runtime: Runtime,
    rest: Router,
    grpc: GrpcInferenceServiceServer<InferenceService>,
    _daemon: Daemon,
    _folder: tempfile::TempDir,
}

impl Door {
    pub fn open() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let folder = tempfile::tempdir().unwrap();
        let models = folder.path().join("models");
        std::fs::create_dir(&models).unwrap();
        std::fs::write(models.join(format!("{MODEL}.onnx")), "m").unwrap();
        let any = || "127.0.0.1:0".to_owned();
        let settings = Settings {
            model_repository: Some(models),
            data_dir: folder.path().join("data"),
            http: any(),
            grpc: any(),
            metrics: any(),
            message_bytes: 1 << 20,
            inflight_bytes: 1 << 24,
            ..Settings::default()
        };
        let daemon = runtime.block_on(async {
            let daemon = Daemon::start(settings, Arc::new(Copier), Arc::new(Copier)).await.unwrap();
            daemon.started().await.unwrap();
            daemon
        });
        Self {
            rest: rest::router(daemon.app.clone()),
            grpc: GrpcInferenceServiceServer::new(InferenceService(daemon.app.clone()))
                .max_decoding_message_size(1 << 20),
            runtime,
            _daemon: daemon,
            _folder: folder,
        }
    }

    /// Answers a request: the first line is a method and path of REST or a path of gRPC, what comes after it the body.
    pub fn ask(&self, request: &[u8]) {
        let Some(end) = request.iter().position(|byte| *byte == b'\n') else { return };
        let (Ok(head), body) = (std::str::from_utf8(&request[..end]), &request[end + 1..]) else { return };
        let (status, answer) = match head.split_once(' ') {
            Some((method, path)) => {
                let request = Request::builder().method(method).uri(path).body(Body::from(body.to_vec()));
                let Ok(request) = request else { return };
                self.runtime.block_on(read(self.rest.clone().oneshot(request)))
            }
            None => {
                let frame = [&[0][..], &(body.len() as u32).to_be_bytes(), body].concat();
                let request =
                    Request::builder().method("POST").uri(head).header("content-type", "application/grpc");
                let Ok(request) = request.body(Body::from(frame)) else { return };
                let answer = async {
                    let response = self.grpc.clone().oneshot(request).await.unwrap();
                    Ok(response.map(Body::new))
                };
                self.runtime.block_on(read(answer))
            }
        };
        // Routes that ask who calls have no gate before them here that says so.
        let nobody = answer.starts_with(b"Missing request extension");
        assert!(status != 500 || nobody, "an error of the server's own");
    }
}

/// Reads an answer to its end; gives its status and body.
async fn read(
    answer: impl Future<Output = Result<axum::response::Response, std::convert::Infallible>>,
) -> (u16, Bytes) {
    let Ok(response) = answer.await;
    let status = response.status().as_u16();
    // Where it breaks off is its end.
    (status, axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap_or_default())
}

struct Copier;

impl Compiler for Copier {
    fn identity(&self) -> std::io::Result<String> {
        Ok("copier".to_owned())
    }

    fn compile(
        &self,
        _: CompileJob,
        _: OwnedFd,
        _: Arc<dyn ModelFiles>,
        output: OwnedFd,
        _: EventSink,
    ) -> BoxFuture<'_, Result<CompileReport, CompileFailure>> {
        std::fs::File::from(output).write_all(b"m").unwrap();
        let report =
            CompileReport { module_bytes: 1, phases: Vec::new(), peak_rss_bytes: 1, warnings: Vec::new() };
        std::future::ready(Ok(report)).boxed()
    }
}

impl Launcher for Copier {
    fn launch(&self, _: OwnedFd, _: Option<Cores>) -> BoxFuture<'_, Result<Arc<dyn Runner>, RuntimeFailure>> {
        std::future::ready(Ok(Arc::new(Copying(loaded())) as Arc<dyn Runner>)).boxed()
    }
}

struct Copying(LoadedModule);

/// `[N, 3]` of f32, as the recorded requests have it.
pub fn entry() -> EntryPoint {
    let spec = |name: &str| TensorSpec {
        name: name.to_owned(),
        dtype: DType::F32,
        dims: vec![DimSpec::Symbolic { name: "N".to_owned(), min: 0, max: 1 << 20 }, DimSpec::Static(3)],
    };
    EntryPoint {
        name: "main".to_owned(),
        function: 0,
        inputs: vec![spec("x")],
        outputs: vec![spec("y")],
        rows: Rows::Independent { exact: Ok(()), costs: Vec::new() },
        peak: PeakBytes::Static(0),
    }
}

fn loaded() -> LoadedModule {
    LoadedModule {
        signature: Signature { entries: vec![entry()] },
        target: Target { triple: "none".to_owned(), features: Vec::new() },
        variant: (0, 1),
        provenance: Provenance {
            model_digest: [0; 32],
            model_name: MODEL.to_owned(),
            compiler: "copier".to_owned(),
            options: String::new(),
        },
        module_bytes: 1,
        parameter_bytes: 0,
        resident_bytes: 0,
        private_bytes: 0,
        load_time: Duration::ZERO,
    }
}

impl Runner for Copying {
    fn module(&self) -> &LoadedModule {
        &self.0
    }

    fn runtime(&self) -> tokio::runtime::Handle {
        tokio::runtime::Handle::current()
    }

    fn infer<'a>(
        &'a self,
        _: &'a str,
        inputs: Vec<Tensor>,
        _: Option<Instant>,
        _: bool,
    ) -> BoxFuture<'a, Result<InferenceResult, RuntimeFailure>> {
        let outputs = inputs.into_iter().map(|tensor| Tensor { name: "y".to_owned(), ..tensor }).collect();
        std::future::ready(Ok(InferenceResult {
            outputs,
            sent: Instant::now(),
            timing: Timing::default(),
            profile: None,
        }))
        .boxed()
    }

    fn peak<'a>(
        &'a self,
        _: &'a str,
        _: Vec<Vec<u64>>,
        _: Option<Instant>,
    ) -> BoxFuture<'a, Result<u64, RuntimeFailure>> {
        std::future::ready(Ok(0)).boxed()
    }

    fn pid(&self) -> Option<u32> {
        None
    }

    fn restarts(&self) -> u64 {
        0
    }

    fn sandbox(&self) -> SandboxReport {
        SandboxReport::default()
    }

    fn shutdown(&self) -> BoxFuture<'_, ()> {
        std::future::ready(()).boxed()
    }
}
