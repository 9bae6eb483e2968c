//! Settings: flags over the environment over `ired.toml` over defaults. Each is one field of [`Settings`]; nothing else
//! reads the environment, but for a cloud's credentials, which its client looks for where that cloud's users have them.

mod arguments;
mod device_groups;
mod layers;
mod security;
mod shared_cache;
mod show;
mod tracing;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};
use ired_worker::Cores;
use serde::{Deserialize, Serialize};
use tracing_subscriber::EnvFilter;

pub use arguments::{Arguments, Command, ConfigCommand};
pub use layers::{ConfigError, Loaded};
pub(crate) use layers::{at_its_place, at_place};
pub use security::{AcceptModules, AuditSettings, AuthSettings, Open, RequireSandbox, TlsSettings};
pub use shared_cache::SharedCacheSettings;
pub use tracing::{LogFormat, TracingSettings};

use crate::devices::Host;

/// Every setting, as `ired.toml` spells it.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Directory of models to serve; none: uploads only.
    pub model_repository: Option<PathBuf>,
    /// How often to look for what changed in that directory, in seconds; 0: only when a load request says so. A model is
    /// taken as it is found once it has looked the same twice.
    pub repository_poll_s: u64,
    /// Where uploads and compiled modules are kept; relative to the working directory, so that trying it out
    /// needs no rights.
    pub data_dir: PathBuf,
    /// Addresses, Triton's ports. Only this machine by default: another needs `auth`, or a word that it does not.
    pub http: String,
    pub grpc: String,
    pub metrics: String,
    /// What the server calls itself to clients of the inference protocol. Some of Triton's want it to be `triton`.
    pub server_name: String,
    /// Whether the REST address shows the web console at `/`. On: it can do no more than REST can.
    pub console: bool,
    /// What to log, in `tracing` filter syntax.
    pub log: String,
    /// How: `text` for people, `json` for programs, an object each line.
    pub log_format: LogFormat,

    /// The worker executables; none: beside the daemon's own.
    pub compiler_worker: Option<PathBuf>,
    pub runtime_worker: Option<PathBuf>,
    /// Layers of the sandbox without which nothing is compiled or served. None, because containers commonly forbid
    /// namespaces; the metrics say which layers hold.
    #[serde(alias = "require_strict_sandbox")]
    pub require_sandbox: RequireSandbox,

    /// Kernel threads of one runtime worker; none: every core.
    pub threads: Option<u32>,
    /// Pin each kernel thread to a core. Off: several models share the cores.
    pub pin_threads: bool,
    /// Cores by name, such as `numa0 = "0-15"`, which `instance_group.host_policy` of models' configurations names. None:
    /// a model has one process, on every core.
    pub device_groups: BTreeMap<String, Cores>,

    /// Compilations at once. Two, though one already uses every core: a slow model does not block all others.
    pub compile_slots: usize,
    /// Compilations that may wait for a slot; more are refused.
    pub compile_queue: usize,
    /// Threads of one compilation; 0: every core.
    pub compile_threads: u32,
    /// Private memory of one compilation, in bytes, which `memory_bytes` has to have for it while it runs. 0: what
    /// leaves half of that to models when every slot compiles, and 16 GiB at most.
    pub compile_memory_bytes: u64,
    /// Wall time of one compilation, in seconds.
    pub compile_wall_s: u64,
    /// CPU time of one compilation over all its threads, in seconds.
    pub compile_cpu_s: u64,
    /// Size of one compiled module, in bytes.
    pub module_bytes: u64,
    /// How long a model that crashed the compiler twice is refused for the same target and options, in seconds. Long
    /// enough to stop a crash loop, short enough that a machine's hiccup heals by itself.
    pub quarantine_s: u64,
    /// All compiled modules on disk, in bytes; the least recently used go first, and none that is loaded.
    pub cache_bytes: u64,

    /// Newest versions of a model that are loaded; 0: all. One, as Triton has it: each costs a process.
    pub versions_served: usize,
    /// Rows that waiting requests for a model are joined to, whose module says that its rows are exact and whose configuration
    /// says nothing of batches: as far as that costs the first of them no more than two milliseconds. Results are the same
    /// bits then, whatever else was asked.
    pub default_max_batch_size: u64,
    /// Requests of one model version that are inside at once, waiting or running; more are refused at once, as
    /// a client that waits longer than this queue takes has mostly given up.
    pub queue_limit: usize,
    /// Tensor bytes of all requests inside at once, so that a flood cannot exhaust memory.
    pub inflight_bytes: u64,
    /// One request, in bytes.
    pub message_bytes: usize,
    /// Shared memory regions that clients on this machine may have registered; 0: none, tensors come in requests.
    pub shared_memory_regions: usize,
    /// The longest an inference may take, in seconds, whatever its client says.
    pub request_timeout_s: u64,
    /// How long a model's process may work on at a request that was cancelled or timed out, in milliseconds; then it is
    /// killed and started again, as nothing else frees what the request holds.
    pub cancel_grace_ms: u64,
    /// How long the head of an HTTP request may take to arrive, in seconds.
    pub header_timeout_s: u64,
    /// How long the body of a REST request may take to arrive, in seconds.
    pub body_timeout_s: u64,
    /// Open connections per front door; more wait.
    pub connections: usize,
    /// Concurrent calls on one gRPC connection.
    pub streams_per_connection: u32,

    /// Requests in runtime workers at once, over all models; beyond that they wait for their model's fair share of
    /// compute time. 0: eight for each core, at least 64, which is more than keeps the machine busy.
    pub executions: usize,
    /// Requests per second that one model takes, where its configuration says no other; 0: any number.
    pub requests_per_second: f64,
    /// Memory for loaded models, for what their requests take while they run, and for compilations, in bytes; by default
    /// four fifths of the machine's.
    pub memory_bytes: u64,

    /// One upload, in bytes, all its files.
    pub upload_bytes: u64,
    /// Files of one model.
    pub model_files: usize,
    /// Uploads at once.
    pub uploads: usize,
    /// The longest pause within an upload, in seconds.
    pub upload_idle_s: u64,
    /// Which compiled modules to accept as uploads. Those that a trusted key signed: they are native code, and only
    /// their process confines them.
    pub accept_modules: AcceptModules,
    /// Files with the public keys (Ed25519, PEM) whose signature makes an uploaded module acceptable.
    pub trusted_keys: Vec<PathBuf>,

    /// Answer gRPC calls while the start-up loads run, as REST does: a model answers once it is loaded, and the server says
    /// whether it is ready. Off, as Triton has it: who waits for the port finds the models ready.
    pub grpc_during_startup: bool,
    /// Whether the server is ready only once every model that it was to serve from the start has a version that answers, or
    /// was unloaded or taken away. On, as Triton has it: a new instance that lacks a model gets no traffic. Off: it is ready
    /// when the start-up loads have ended, whatever came of them.
    pub strict_readiness: bool,
    /// From the signal to refusing connections, in seconds: time for load balancers to see "not ready".
    pub shutdown_delay_s: u64,
    /// How long requests may take to end after that, in seconds.
    pub drain_s: u64,

    pub tls: TlsSettings,
    pub auth: AuthSettings,
    pub audit: AuditSettings,
    pub shared_cache: SharedCacheSettings,
    pub tracing: TracingSettings,
}

impl Default for Settings {
    fn default() -> Self {
        const GIB: u64 = 1 << 30;
        let limits = ired_worker::CompileLimits::default();
        Self {
            model_repository: None,
            repository_poll_s: 0,
            data_dir: PathBuf::from("ired-data"),
            http: "127.0.0.1:8000".to_owned(),
            grpc: "127.0.0.1:8001".to_owned(),
            metrics: "127.0.0.1:8002".to_owned(),
            server_name: "ired".to_owned(),
            console: true,
            log: "info".to_owned(),
            log_format: LogFormat::default(),
            compiler_worker: None,
            runtime_worker: None,
            require_sandbox: RequireSandbox::default(),
            threads: None,
            pin_threads: false,
            device_groups: BTreeMap::new(),
            compile_slots: 2,
            compile_queue: 64,
            compile_threads: 0,
            compile_memory_bytes: 0,
            compile_wall_s: limits.wall.as_secs(),
            compile_cpu_s: limits.cpu.as_secs(),
            module_bytes: limits.output_bytes,
            quarantine_s: 600,
            cache_bytes: 32 * GIB,
            versions_served: 1,
            default_max_batch_size: 64,
            queue_limit: 256,
            inflight_bytes: GIB,
            message_bytes: 256 << 20,
            shared_memory_regions: 1024,
            request_timeout_s: 60,
            cancel_grace_ms: 2000,
            header_timeout_s: 10,
            body_timeout_s: 60,
            connections: 4096,
            streams_per_connection: 128,
            executions: 0,
            requests_per_second: 0.0,
            memory_bytes: Host::memory().total_bytes / 5 * 4,
            upload_bytes: 16 * GIB,
            model_files: 1024,
            uploads: 8,
            upload_idle_s: 60,
            accept_modules: AcceptModules::default(),
            trusted_keys: Vec::new(),
            grpc_during_startup: true,
            strict_readiness: true,
            shutdown_delay_s: 0,
            drain_s: 30,
            tls: TlsSettings::default(),
            auth: AuthSettings::default(),
            audit: AuditSettings::default(),
            shared_cache: SharedCacheSettings::default(),
            tracing: TracingSettings::default(),
        }
    }
}

impl Settings {
    /// Reads the settings of this process: flags, environment, and the file that either names.
    ///
    /// # Errors
    /// Every setting that is unknown or has no value of its kind, with its place; then what contradicts itself.
    pub fn load(arguments: Arguments) -> anyhow::Result<Self> {
        Ok(Loaded::from_process(arguments)?.settings)
    }

    fn check(&self) -> anyhow::Result<()> {
        let positive = [
            ("compile_slots", self.compile_slots as u64),
            ("compile_wall_s", self.compile_wall_s),
            ("queue_limit", self.queue_limit as u64),
            ("inflight_bytes", self.inflight_bytes),
            ("message_bytes", self.message_bytes as u64),
            ("request_timeout_s", self.request_timeout_s),
            ("cancel_grace_ms", self.cancel_grace_ms),
            ("connections", self.connections as u64),
            ("streams_per_connection", u64::from(self.streams_per_connection)),
            ("uploads", self.uploads as u64),
            ("model_files", self.model_files as u64),
        ];
        for (name, value) in positive {
            if value == 0 {
                bail!("setting `{name}` is 0; it must be at least 1");
            }
        }
        let doors = [("http", &self.http), ("grpc", &self.grpc), ("metrics", &self.metrics)];
        for (at, (name, address)) in doors.iter().enumerate() {
            // Port 0 is a free one each time.
            let same = |(_, other): &&(&str, &String)| other == address && !address.ends_with(":0");
            if let Some((other, _)) = doors[..at].iter().find(same) {
                bail!("settings `{other}` and `{name}` are the same address, `{address}`");
            }
        }
        // One message can always be inside.
        if self.inflight_bytes < self.message_bytes as u64 {
            bail!(
                "setting `inflight_bytes` is {}, less than `message_bytes` ({})",
                self.inflight_bytes,
                self.message_bytes
            );
        }
        if self.compile_memory_bytes > self.memory_bytes {
            bail!(
                "setting `compile_memory_bytes` is {}, more than `memory_bytes` ({})",
                self.compile_memory_bytes,
                self.memory_bytes
            );
        }
        EnvFilter::try_new(&self.log)
            .with_context(|| format!("setting `log` is `{}`, which is no filter", self.log))?;
        self.tls.check()?;
        self.auth.check()?;
        self.audit.check()?;
        self.shared_cache.check()?;
        self.tracing.check()?;
        Ok(())
    }

    /// Private memory of one compilation.
    pub(crate) fn compile_memory(&self) -> u64 {
        match self.compile_memory_bytes {
            0 => (self.memory_bytes / 2 / self.compile_slots.max(1) as u64).min(16 << 30),
            bytes => bytes,
        }
    }

    /// Requests in runtime workers at once.
    pub(crate) fn executions(&self) -> usize {
        match self.executions {
            0 => (8 * cores()).max(64),
            executions => executions,
        }
    }

    /// Requests that one runtime worker runs at the same time.
    pub(crate) fn parallel(&self) -> usize {
        match (self.pin_threads, self.threads) {
            (true, _) => 1,
            (false, None | Some(0)) => cores(),
            (false, Some(threads)) => threads as usize,
        }
    }

    pub(crate) fn compile_wall(&self) -> Duration {
        Duration::from_secs(self.compile_wall_s)
    }

    pub(crate) fn request_timeout(&self) -> Duration {
        Duration::from_secs(self.request_timeout_s)
    }

    pub(crate) fn drain(&self) -> Duration {
        Duration::from_secs(self.drain_s)
    }
}

fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

#[cfg(test)]
mod tests;
