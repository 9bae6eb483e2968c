//! The parent's side of a runtime worker: one supervised process that holds one module.

mod attention;
mod connection;
mod ear;
mod shared;
mod supervise;

use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use connection::{Call, Reply};
use shared::Shared;
use supervise::Start;
use tokio::task::JoinHandle;

use crate::executable;
use crate::messages::handshake::Role;
use crate::messages::runtime::{
    BenchRequest, LoadedModule, ProcessUsage, RuntimeFailure, RuntimeOptions, Timing, WorkPeak, WorkProfile,
    WorkSpan,
};
use crate::messages::sandbox::{SandboxLevel, SandboxReport};
use crate::tensor::{InputBuffer, Tensor};

/// How runtime workers are started and restarted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuntimeConfig {
    /// The executable to start.
    pub executable: PathBuf,
    /// Layers of the sandbox without which to refuse to serve.
    pub require_sandbox: SandboxLevel,
    /// Private memory of the process; `None` leaves it to the machine.
    pub memory_bytes: Option<u64>,
    /// From the start of the process to a loaded module.
    pub start_timeout: Duration,
    /// The pause before the first restart; it doubles with each crash that follows within [`Self::stable_after`].
    pub first_backoff: Duration,
    pub longest_backoff: Duration,
    /// A process that lived this long is taken for healthy: the next pause is the first one again.
    pub stable_after: Duration,
    /// How long the process may go on with a request that was cancelled or missed its deadline; after that it is killed
    /// and started again. What else is in flight is asked again, as after any death.
    pub cancel_grace: Duration,
    /// Requests in flight at most; more are [`RuntimeFailure::Overloaded`].
    pub queue_limit: usize,
}

impl RuntimeConfig {
    /// The executable beside the running one, and defaults.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`] when there is no such executable.
    pub fn beside_current_exe() -> io::Result<Self> {
        Ok(Self::new(executable::beside_current_exe(Role::Runtime)?))
    }

    /// The given executable, and defaults.
    pub fn new(executable: impl Into<PathBuf>) -> Self {
        Self {
            executable: executable.into(),
            require_sandbox: SandboxLevel::default(),
            memory_bytes: None,
            start_timeout: Duration::from_secs(60),
            first_backoff: Duration::from_millis(10),
            longest_backoff: Duration::from_secs(10),
            stable_after: Duration::from_secs(30),
            cancel_grace: Duration::from_secs(2),
            queue_limit: 4096,
        }
    }
}

/// One answered inference.
#[derive(Clone, Debug)]
pub struct InferenceResult {
    pub outputs: Vec<Tensor>,
    /// When the inputs were where the process reads them, and it was told.
    pub sent: Instant,
    pub timing: Timing,
    /// Where it was asked for.
    pub profile: Option<WorkProfile>,
}

/// One answered measurement.
#[derive(Clone, Debug)]
pub struct BenchResult {
    /// Of each timed iteration, in order.
    pub latencies: Vec<Duration>,
    /// CPU time of the worker process, all threads, summed over the timed iterations; the warm-up is not in it.
    pub cpu: Duration,
    /// Resident memory of the worker process after them.
    pub rss_bytes: u64,
    /// Of the last iteration.
    pub outputs: Vec<Tensor>,
    /// Of the fastest profiled iteration; none if nobody asked.
    pub spans: Vec<WorkSpan>,
    /// What the device can do, if somebody asked for a profile and it knows.
    pub peak: Option<WorkPeak>,
}

/// One process holding one module, restarted when it dies. Cheap to clone; the last clone's drop ends the process.
#[derive(Clone, Debug)]
pub struct RuntimeWorker {
    handle: Arc<Handle>,
}

/// Ends the supervision when the last [`RuntimeWorker`] goes.
#[derive(Debug)]
struct Handle {
    shared: Arc<Shared>,
    supervision: Mutex<Option<JoinHandle<()>>>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.close();
    }
}

impl RuntimeWorker {
    /// Starts a process and loads `module` (an `.irm`, open for reading) in it; returns once it can infer.
    ///
    /// Must be called inside a tokio runtime with I/O and time, which from then on attends to the process: answers wait for
    /// whatever else it has to do. Requests may come from others.
    pub async fn start(
        config: RuntimeConfig,
        module: OwnedFd,
        options: RuntimeOptions,
    ) -> Result<Self, RuntimeFailure> {
        let start = Start::new(config, module, options);
        let (live, loaded) = start.launch().await?;
        let shared = Arc::new(Shared::new(start, loaded));
        let supervision = tokio::spawn(supervise::run(Arc::clone(&shared), live));
        let supervision = Mutex::new(Some(supervision));
        shared.wait_until_serving().await;
        Ok(Self { handle: Arc::new(Handle { shared, supervision }) })
    }

    /// What the worker said about the module when it loaded it.
    pub fn module(&self) -> &LoadedModule {
        &self.handle.shared.loaded
    }

    /// The layers that confine the process.
    pub fn sandbox(&self) -> SandboxReport {
        self.handle.shared.sandbox()
    }

    /// Runs `entry`. Inputs are matched by name; their order is free.
    ///
    /// Dropping the future cancels the request; so does its deadline. A process that does not let go of a cancelled
    /// request within [`RuntimeConfig::cancel_grace`] is replaced, and the request is not asked again. A death of the process retries it once on the next process.
    pub async fn infer(
        &self,
        entry: &str,
        inputs: Vec<Tensor>,
        deadline: Option<Instant>,
    ) -> Result<InferenceResult, RuntimeFailure> {
        self.ask(entry, inputs, deadline, false).await
    }

    /// As [`Self::infer`], and looks where the time goes: the process does nothing else meanwhile.
    pub async fn profile(
        &self,
        entry: &str,
        inputs: Vec<Tensor>,
        deadline: Option<Instant>,
    ) -> Result<InferenceResult, RuntimeFailure> {
        self.ask(entry, inputs, deadline, true).await
    }

    async fn ask(
        &self,
        entry: &str,
        inputs: Vec<Tensor>,
        deadline: Option<Instant>,
        profile: bool,
    ) -> Result<InferenceResult, RuntimeFailure> {
        let inputs = self.handle.shared.bind(inputs)?;
        let sent = Instant::now();
        let call = Call::Infer { entry: entry.to_owned(), inputs, profile };
        match self.handle.shared.request(call, deadline).await? {
            Reply::Infer { outputs, timing, profile } => {
                Ok(InferenceResult { outputs, sent, timing, profile })
            }
            other => Err(other.unexpected()),
        }
    }

    /// Measures `entry` with the loop inside the worker.
    pub async fn bench(
        &self,
        entry: &str,
        inputs: Vec<Tensor>,
        request: BenchRequest,
    ) -> Result<BenchResult, RuntimeFailure> {
        let inputs = self.handle.shared.bind(inputs)?;
        let call = Call::Bench { entry: entry.to_owned(), inputs, request };
        match self.handle.shared.request(call, None).await? {
            Reply::Bench(result) => Ok(result),
            other => Err(other.unexpected()),
        }
    }

    /// Bytes that a request takes while it runs, its outputs among them, its inputs not. It does not run for that; sizes
    /// that data decides count as little as they can be. `dims` are those of the inputs, in signature order.
    pub async fn peak(
        &self,
        entry: &str,
        dims: Vec<Vec<u64>>,
        deadline: Option<Instant>,
    ) -> Result<u64, RuntimeFailure> {
        let call = Call::Peak { entry: entry.to_owned(), dims };
        match self.handle.shared.request(call, deadline).await? {
            Reply::Peak(bytes) => Ok(bytes),
            other => Err(other.unexpected()),
        }
    }

    /// What the process has used since it was started.
    pub async fn usage(&self) -> Result<ProcessUsage, RuntimeFailure> {
        match self.handle.shared.request(Call::Usage, None).await? {
            Reply::Usage(usage) => Ok(usage),
            other => Err(other.unexpected()),
        }
    }

    /// Memory for an input of `len` bytes that needs no copy on the way to the worker. Its content is arbitrary until
    /// written.
    pub fn input_buffer(&self, len: usize) -> Result<InputBuffer, RuntimeFailure> {
        self.handle.shared.buffer(len)
    }

    /// The process, while there is one.
    pub fn pid(&self) -> Option<u32> {
        self.handle.shared.pid()
    }

    /// How often the process was started again.
    pub fn restarts(&self) -> u64 {
        self.handle.shared.restarts()
    }

    /// Ends the process and waits for its end; requests in flight are [`RuntimeFailure::Unavailable`]. Other clones of
    /// this worker are of no use any more.
    pub async fn shutdown(self) {
        self.handle.shared.close();
        let supervision = self.handle.supervision.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(supervision) = supervision {
            // It ends by itself; a panic in it was reported where it happened.
            let _ = supervision.await;
        }
    }
}
