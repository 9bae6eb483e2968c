//! A compiler and models that do what the text of a "model" file says, and a daemon on free ports around them.
//!
//! The script is words: `crash-once`, `crash-always`, `crash-for:TRIPLE` (for that target), `killed`, `unsupported` (and `hostile`: names that are [`MARKUP`]), `hold`
//! (compile until [`World::release`]), `compiles:MS` (compile so long), `unloadable`, `unloadable-once`, `block` (infer until
//! [`World::release`]). Every model doubles input `x` of `[N, 3]` f32 into `y`; of a model that says `strings`, both are
//! strings and the same. One that says `takes:MS` takes so long, one that says `times:N` multiplies by that, one that says
//! `fails` answers nobody, one that `centers` says that its rows depend on each other, one that `rounds` that they are
//! not exact, one that `lingers` ends only once [`World::release`] was called. One keeps `resident:BYTES`, of which `private:BYTES` are each process's own, and takes `peak:BYTES`, `row-peak:BYTES` for each row
//! and `square-peak:BYTES` for each square of rows. A `sequence` adds up instead: `next` is `x` and, unless `start` is 1,
//! `state`; `y` is that, and
//! `corrid` more at the `end`. One that goes on `until:N` says in `last` of each row whether its sum is that or more, and one
//! that `breaks:N` fails once a sum is.

use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use ired::engine::{Compiler, EventSink, Launcher, Runner};
use ired::{Daemon, Settings};
use ired_module::DType;
use ired_module::signature::{
    DimSpec, EntryPoint, PeakBytes, Provenance, Rows, Signature, Target, TensorSpec,
};
use ired_worker::{
    CompileEvent, CompileFailure, CompileJob, CompileReport, Cores, Diagnostic, FailureKind, InferenceResult,
    LoadedModule, ModelFiles, Progress, RuntimeFailure, SandboxReport, Severity, Tensor, Timing, WorkNote,
    WorkProfile, WorkSpan,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;

/// A name that a page must not take for anything but a name.
pub(crate) const MARKUP: &str =
    "<img src=\"nowhere\" onerror=\"document.title='taken'\">\u{1b}[31m&amp;\u{202e}";

/// What a configuration says of sequences for a `sequence`, besides how they are batched.
pub(crate) const SEQUENCES: &str = "
  control_input [
    { name: \"start\" control { kind: CONTROL_SEQUENCE_START int32_false_true: [0, 1] } },
    { name: \"end\" control { kind: CONTROL_SEQUENCE_END int32_false_true: [0, 1] } },
    { name: \"corrid\" control { kind: CONTROL_SEQUENCE_CORRID data_type: TYPE_UINT64 } } ]
  state { input_name: \"state\" output_name: \"next\" data_type: TYPE_FP32 dims: [3] }";

/// What has happened so far.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Seen {
    pub(crate) compiles_started: u64,
    pub(crate) compiles_dropped: u64,
    pub(crate) launched: u64,
    pub(crate) launches_refused: u64,
    pub(crate) shut_down: u64,
    pub(crate) inside: u64,
    pub(crate) cancelled: u64,
    pub(crate) peaks_asked: u64,
    pub(crate) answered: u64,
    /// Rows and first value of each execution, in their order.
    pub(crate) ran: Vec<(u64, f32)>,
    /// The cores of each process that was launched, and those of each execution's process; empty: all.
    pub(crate) launched_on: Vec<String>,
    pub(crate) ran_on: Vec<String>,
    /// Set by [`World::release`].
    pub(crate) released: bool,
}

/// What the scripted parts and a test share.
#[derive(Clone, Debug)]
pub(crate) struct World(Arc<watch::Sender<Seen>>);

impl World {
    pub(crate) fn new() -> Self {
        Self(Arc::new(watch::Sender::new(Seen::default())))
    }

    pub(crate) fn seen(&self) -> Seen {
        self.0.borrow().clone()
    }

    /// Waits until it has come to this; a test that waits in vain fails after a while.
    pub(crate) async fn until(&self, what: impl Fn(&Seen) -> bool) -> Seen {
        let mut seen = self.0.subscribe();
        let found = tokio::time::timeout(Duration::from_secs(20), seen.wait_for(|seen| what(seen))).await;
        found.unwrap_or_else(|_| panic!("still only {:?}", self.seen())).unwrap().clone()
    }

    /// Lets everything go on that holds or blocks, from now on.
    pub(crate) fn release(&self) {
        self.note(|seen| seen.released = true);
    }

    fn note(&self, change: impl FnOnce(&mut Seen)) {
        self.0.send_modify(change);
    }

    async fn released(&self) {
        let _ = self.0.subscribe().wait_for(|seen| seen.released).await;
    }
}

/// Counts a drop unless it was disarmed.
struct OnDrop<'a>(Option<(&'a World, Change)>);

type Change = fn(&mut Seen);

impl Drop for OnDrop<'_> {
    fn drop(&mut self) {
        if let Some((world, change)) = self.0.take() {
            world.note(change);
        }
    }
}

pub(crate) struct ScriptedCompiler {
    pub(crate) world: World,
    pub(crate) build: &'static str,
}

impl Compiler for ScriptedCompiler {
    fn identity(&self) -> std::io::Result<String> {
        Ok(self.build.to_owned())
    }

    fn compile(
        &self,
        job: CompileJob,
        model: OwnedFd,
        files: Arc<dyn ModelFiles>,
        output: OwnedFd,
        mut events: EventSink,
    ) -> BoxFuture<'_, Result<CompileReport, CompileFailure>> {
        async move {
            let mut script = Vec::new();
            std::fs::File::from(model).read_to_end(&mut script).unwrap();
            let mut script = String::from_utf8_lossy(&script).into_owned();
            self.world.note(|seen| seen.compiles_started += 1);
            let mut dropped = OnDrop(Some((&self.world, |seen| seen.compiles_dropped += 1)));
            events(CompileEvent::Started { pid: 7, sandbox: SandboxReport::default() });
            let phase =
                |phase: &str| Progress { phase: phase.to_owned(), done: 1, total: 2, detail: String::new() };
            events(CompileEvent::Progress(phase("graph")));
            if script.contains("hold") {
                self.world.released().await;
            }
            tokio::time::sleep(Duration::from_millis(number(&script, "compiles:"))).await;
            dropped.0 = None;
            let crashed =
                CompileFailure::Crashed { signal_or_status: "SIGSEGV".to_owned(), stderr: String::new() };
            if script.contains("crash-once") && self.world.seen().compiles_started == 1
                || script.contains("crash-always")
                || job.target.triple.is_some_and(|triple| script.contains(&format!("crash-for:{triple}")))
            {
                return Err(crashed);
            }
            if script.contains("killed") {
                return Err(CompileFailure::Killed { signal: "SIGKILL".to_owned() });
            }
            if script.contains("unsupported") {
                let problem = |node: &str| Diagnostic {
                    severity: Severity::Error,
                    message: format!("operator of `{node}` is not implemented"),
                    location: Some(node.to_owned()),
                    hint: None,
                };
                let first = if script.contains("hostile") { MARKUP } else { "n1" };
                let diagnostics = vec![problem(first), problem("n2")];
                return Err(CompileFailure::Failed { kind: FailureKind::Unsupported, diagnostics });
            }
            if let Some(name) = script.split_whitespace().find_map(|word| word.strip_prefix("external:")) {
                let opened = files.open(name).map_err(|error| CompileFailure::Failed {
                    kind: FailureKind::MissingFile,
                    diagnostics: vec![Diagnostic {
                        severity: Severity::Error,
                        message: format!("`{name}`: {error}"),
                        location: None,
                        hint: None,
                    }],
                })?;
                std::fs::File::from(opened).read_to_string(&mut script).unwrap();
            }
            let module = format!("module of {script}");
            std::fs::File::from(output).write_all(module.as_bytes()).unwrap();
            Ok(CompileReport {
                module_bytes: module.len() as u64,
                phases: vec![("graph".to_owned(), Duration::from_micros(5))],
                peak_rss_bytes: 1,
                warnings: Vec::new(),
            })
        }
        .boxed()
    }
}

pub(crate) struct ScriptedLauncher(pub(crate) World);

impl Launcher for ScriptedLauncher {
    fn launch(
        &self,
        module: OwnedFd,
        cores: Option<Cores>,
    ) -> BoxFuture<'_, Result<Arc<dyn Runner>, RuntimeFailure>> {
        async move {
            let mut script = Vec::new();
            std::io::Seek::rewind(&mut std::fs::File::from(module.try_clone().unwrap())).unwrap();
            std::fs::File::from(module).read_to_end(&mut script).unwrap();
            // A real module is no text, and says nothing of interest here.
            let script = String::from_utf8_lossy(&script).into_owned();
            let once = script.contains("unloadable-once");
            if script.contains("unloadable") && !(once && self.0.seen().launches_refused > 0) {
                self.0.note(|seen| seen.launches_refused += 1);
                return Err(RuntimeFailure::Load { message: "scripted".to_owned() });
            }
            let cores = cores.map(String::from).unwrap_or_default();
            self.0.note(|seen| {
                seen.launched += 1;
                seen.launched_on.push(cores.clone());
            });
            Ok(Arc::new(Doubler { world: self.0.clone(), module: loaded(&script), script, cores })
                as Arc<dyn Runner>)
        }
        .boxed()
    }
}

struct Doubler {
    world: World,
    module: LoadedModule,
    script: String,
    cores: String,
}

/// The number after a word of a script; 0 where it is not there.
fn number(script: &str, word: &str) -> u64 {
    let found = script.split_whitespace().find_map(|found| found.strip_prefix(word));
    found.map_or(0, |text| text.parse().unwrap_or(0))
}

fn values<const N: usize, T>(tensor: &Tensor, read: impl Fn([u8; N]) -> T) -> Vec<T> {
    tensor.data.chunks_exact(N).map(|bytes| read(bytes.try_into().unwrap())).collect()
}

/// What a `sequence` computes, row by row.
fn add_up(script: &str, inputs: &[Tensor]) -> Result<Vec<Tensor>, RuntimeFailure> {
    let find = |name: &str| inputs.iter().find(|tensor| tensor.name == name).unwrap();
    let floats = |name: &str| values(find(name), f32::from_le_bytes);
    let (start, end) = (values(find("start"), i32::from_le_bytes), values(find("end"), i32::from_le_bytes));
    let corrid = values(find("corrid"), u64::from_le_bytes);
    let (mut y, mut next) = (Vec::new(), Vec::new());
    for (at, (x, state)) in floats("x").iter().zip(floats("state")).enumerate() {
        let row = at / 3;
        let sum = x + if start[row] == 1 { 0.0 } else { state };
        y.push(sum + if end[row] == 1 { corrid[row] as f32 } else { 0.0 });
        next.push(sum);
    }
    let tensor = |name: &str, values: Vec<f32>| Tensor {
        name: name.to_owned(),
        dtype: DType::F32,
        dims: find("x").dims.clone(),
        data: values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>().into(),
    };
    let beyond = |word: &str| match number(script, word) {
        0 => None,
        bound => Some(next.iter().step_by(3).map(|&sum| u8::from(sum >= bound as f32)).collect::<Vec<_>>()),
    };
    if beyond("breaks:").is_some_and(|rows| rows.contains(&1)) {
        return Err(RuntimeFailure::Execution { message: "scripted".to_owned() });
    }
    let last = beyond("until:").map(|rows| Tensor {
        name: "last".to_owned(),
        dtype: DType::Bool,
        dims: vec![rows.len() as u64, 1],
        data: rows.into(),
    });
    Ok([tensor("y", y), tensor("next", next.clone())].into_iter().chain(last).collect())
}

/// What a model is that says this.
pub(crate) fn loaded(script: &str) -> LoadedModule {
    let dtype = if script.contains("strings") { DType::String } else { DType::F32 };
    let spec = |name: &str| TensorSpec {
        name: name.to_owned(),
        dtype,
        dims: vec![DimSpec::Symbolic { name: "N".to_owned(), min: 0, max: 1 << 20 }, DimSpec::Static(3)],
    };
    let one = |name: &str, dtype| TensorSpec {
        name: name.to_owned(),
        dtype,
        dims: vec![DimSpec::Symbolic { name: "N".to_owned(), min: 0, max: 1 << 20 }, DimSpec::Static(1)],
    };
    let output = if script.contains("hostile") { MARKUP } else { "y" };
    let (mut inputs, mut outputs) = (vec![spec("x")], vec![spec(output)]);
    if script.contains("sequence") {
        inputs.extend([
            one("start", DType::I32),
            one("end", DType::I32),
            one("corrid", DType::U64),
            spec("state"),
        ]);
        outputs.push(spec("next"));
        if script.contains("until:") {
            outputs.push(one("last", DType::Bool));
        }
    }
    let rows = if script.contains("centers") {
        let reason = "rows of output `y` depend on each other: `/mean` (ReduceMean) works along the rows";
        Rows::Dependent { reason: reason.to_owned() }
    } else if script.contains("rounds") {
        let why = "`/fc` (Gemm): contraction: rows that do not fill a tile are summed in another order";
        Rows::Independent { exact: Err(why.to_owned()), costs: Vec::new() }
    } else {
        Rows::Independent { exact: Ok(()), costs: Vec::new() }
    };
    let entry = EntryPoint {
        name: "main".to_owned(),
        function: 0,
        inputs,
        outputs,
        rows,
        peak: PeakBytes::Function(0),
    };
    LoadedModule {
        signature: Signature { entries: vec![entry] },
        target: Target { triple: "scripted".to_owned(), features: Vec::new() },
        variant: (0, 1),
        provenance: Provenance {
            model_digest: [0; 32],
            model_name: "scripted".to_owned(),
            compiler: "scripted".to_owned(),
            options: String::new(),
        },
        module_bytes: 1,
        parameter_bytes: 0,
        resident_bytes: number(script, "resident:"),
        private_bytes: number(script, "private:"),
        load_time: Duration::ZERO,
    }
}

/// What a profile of one execution with this output says.
fn profile_of(y: &Tensor, took: Duration) -> WorkProfile {
    let span = |thread, workgroups| WorkSpan {
        work: "double".to_owned(),
        instruction: Some(4),
        thread,
        start: Duration::ZERO,
        took,
        workgroups,
        of_workgroups: 4,
    };
    let note = WorkNote {
        instruction: 4,
        nodes: "y (Mul)".to_owned(),
        result: format!("f32{:?}", y.dims),
        operations: Some(y.dims.iter().product()),
        bytes: None,
    };
    WorkProfile { spans: vec![span(0, 3), span(1, 1)], notes: vec![note], left_out: 0 }
}

impl Runner for Doubler {
    fn runtime(&self) -> tokio::runtime::Handle {
        tokio::runtime::Handle::current()
    }

    fn module(&self) -> &LoadedModule {
        &self.module
    }

    fn infer<'a>(
        &'a self,
        _: &'a str,
        inputs: Vec<Tensor>,
        _: Option<Instant>,
        profile: bool,
    ) -> BoxFuture<'a, Result<InferenceResult, RuntimeFailure>> {
        async move {
            let sent = Instant::now();
            self.world.note(|seen| seen.inside += 1);
            let mut cancelled = OnDrop(Some((&self.world, |seen| {
                seen.inside -= 1;
                seen.cancelled += 1;
            })));
            let x = inputs.iter().find(|tensor| tensor.name == "x").unwrap();
            let first = x.data.first_chunk().map_or(0.0, |bytes| f32::from_le_bytes(*bytes));
            self.world.note(|seen| {
                seen.ran.push((x.dims[0], first));
                seen.ran_on.push(self.cores.clone());
            });
            if self.script.contains("block") {
                self.world.released().await;
            }
            let took = Duration::from_millis(number(&self.script, "takes:"));
            if !took.is_zero() {
                tokio::time::sleep(took).await;
            }
            cancelled.0 = None;
            if self.script.contains("fails") {
                self.world.note(|seen| seen.inside -= 1);
                return Err(RuntimeFailure::Execution { message: "scripted".to_owned() });
            }
            self.world.note(|seen| {
                seen.inside -= 1;
                seen.answered += 1;
            });
            let timing = Timing { compute: took.max(Duration::from_micros(3)), ..Timing::default() };
            if self.script.contains("sequence") {
                let outputs = add_up(&self.script, &inputs)?;
                return Ok(InferenceResult { outputs, sent, timing, profile: None });
            }
            let factor = match number(&self.script, "times:") {
                0 => 2.0,
                factor => factor as f32,
            };
            let doubled = values(x, f32::from_le_bytes).into_iter().flat_map(|v| (factor * v).to_le_bytes());
            let data = match x.dtype {
                DType::String => x.data.to_vec().into(),
                _ => doubled.collect::<Vec<u8>>().into(),
            };
            let name = self.module.signature.entries[0].outputs[0].name.clone();
            let y = Tensor { name, dtype: x.dtype, dims: x.dims.clone(), data };
            let profile = profile.then(|| profile_of(&y, timing.compute));
            Ok(InferenceResult { outputs: vec![y], sent, timing, profile })
        }
        .boxed()
    }

    fn peak<'a>(
        &'a self,
        _: &'a str,
        dims: Vec<Vec<u64>>,
        _: Option<Instant>,
    ) -> BoxFuture<'a, Result<u64, RuntimeFailure>> {
        self.world.note(|seen| seen.peaks_asked += 1);
        let rows = dims[0][0];
        let bytes = number(&self.script, "peak:")
            + rows * number(&self.script, "row-peak:")
            + rows * rows * number(&self.script, "square-peak:");
        std::future::ready(Ok(bytes)).boxed()
    }

    fn pid(&self) -> Option<u32> {
        Some(8)
    }

    fn restarts(&self) -> u64 {
        0
    }

    fn sandbox(&self) -> SandboxReport {
        SandboxReport::default()
    }

    fn shutdown(&self) -> BoxFuture<'_, ()> {
        self.world.note(|seen| seen.shut_down += 1);
        async {
            if self.script.contains("lingers") {
                self.world.released().await;
            }
        }
        .boxed()
    }
}

/// Settings on free ports, with a repository of these files.
pub(crate) struct Place {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) settings: Settings,
}

impl Place {
    pub(crate) fn new(models: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let place = Self {
            settings: Settings {
                model_repository: Some(dir.path().join("models")),
                data_dir: dir.path().join("data"),
                http: "127.0.0.1:0".to_owned(),
                grpc: "127.0.0.1:0".to_owned(),
                metrics: "127.0.0.1:0".to_owned(),
                drain_s: 10,
                // A test can tell what ran.
                default_max_batch_size: 0,
                ..Settings::default()
            },
            dir,
        };
        std::fs::create_dir(place.path("")).unwrap();
        for (path, script) in models {
            place.write(path, script);
        }
        place
    }

    pub(crate) fn path(&self, file: &str) -> PathBuf {
        self.dir.path().join("models").join(file)
    }

    pub(crate) fn write(&self, file: &str, script: &str) {
        let path = self.path(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, script).unwrap();
    }

    /// Starts a daemon and waits until it is ready.
    pub(crate) async fn start(&self, world: &World) -> Daemon {
        let daemon = self.start_early(world).await;
        daemon.started().await.unwrap();
        daemon
    }

    /// Starts a daemon and does not wait for its models.
    pub(crate) async fn start_early(&self, world: &World) -> Daemon {
        self.try_start(world).await.unwrap()
    }

    pub(crate) async fn try_start(&self, world: &World) -> anyhow::Result<Daemon> {
        let compiler = Arc::new(ScriptedCompiler { world: world.clone(), build: "build 1" });
        let launcher = Arc::new(ScriptedLauncher(world.clone()));
        Daemon::start(self.settings.clone(), compiler, launcher).await
    }
}

pub(crate) async fn client(daemon: &Daemon) -> ired_client::Client {
    ired_client::Client::connect(&daemon.grpc.to_string()).await.unwrap()
}

/// A bare connection, for clients of other services.
pub(crate) async fn channel(address: std::net::SocketAddr) -> tonic::transport::Channel {
    tonic::transport::Channel::from_shared(format!("http://{address}")).unwrap().connect().await.unwrap()
}

/// Input `x` of `[rows, 3]`.
pub(crate) fn x(rows: u64) -> ired_client::Tensor {
    let values = (0..rows * 3).flat_map(|i| (i as f32 + 0.25).to_le_bytes());
    ired_client::Tensor {
        name: "x".to_owned(),
        data_type: ired_client::DataType::Fp32,
        shape: vec![rows, 3],
        data: values.collect::<Vec<u8>>().into(),
    }
}

pub(crate) fn request(model: &str) -> ired_client::InferRequest {
    ired_client::InferRequest { model: model.to_owned(), inputs: vec![x(2)], ..Default::default() }
}

pub(crate) fn gzip(content: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

/// As HTTP means it: with zlib's frame.
pub(crate) fn deflate(content: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(content).unwrap();
    encoder.finish().unwrap()
}

/// An answer of a REST door.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Bytes,
}

impl Reply {
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }

    pub(crate) fn error(&self) -> String {
        self.json()["error"].as_str().unwrap_or_else(|| panic!("no error: {self:?}")).to_owned()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.into_iter().find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }
}

/// One HTTP/1.1 request on a connection of its own.
pub(crate) async fn http(
    address: std::net::SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Reply {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let mut head = format!("{method} {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n");
    if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-length")) {
        head.push_str(&format!("content-length: {}\r\n", body.len()));
    }
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    // The server may answer and close before it has read all of a body it refuses.
    let _ = stream.write_all(body).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    let reply = split(&answer).unwrap_or_else(|| panic!("no answer to {path}"));
    if let Some(length) = reply.header("content-length") {
        assert_eq!(reply.body.len().to_string(), length, "an answer to {path} that breaks off");
    }
    reply
}

/// Head and body of an answer.
pub(crate) fn split(answer: &[u8]) -> Option<Reply> {
    let split = answer.windows(4).position(|w| w == b"\r\n\r\n")?;
    let head = String::from_utf8(answer[..split].to_vec()).ok()?;
    let status = head.split_whitespace().nth(1)?.parse().ok()?;
    Some(Reply { status, head, body: Bytes::copy_from_slice(&answer[split + 4..]) })
}
