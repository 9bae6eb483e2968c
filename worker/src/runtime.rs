//! The parent's side of a runtime worker: one supervised process that holds one module.

use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::executable;
use crate::messages::handshake::Role;
use crate::messages::runtime::{BenchRequest, LoadedModule, RuntimeFailure, RuntimeOptions, Timing};
use crate::messages::sandbox::SandboxReport;
use crate::tensor::{InputBuffer, Tensor};

/// How runtime workers are started and restarted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuntimeConfig {
    /// The executable to start.
    pub executable: PathBuf,
    /// Refuse to serve when any layer of the sandbox is not available.
    pub require_strict: bool,
    /// Private memory of the process; `None` leaves it to the machine.
    pub memory_bytes: Option<u64>,
    /// From the start of the process to a loaded module.
    pub start_timeout: Duration,
    /// The pause before the first restart; it doubles with each crash that follows within [`Self::stable_after`].
    pub first_backoff: Duration,
    pub longest_backoff: Duration,
    /// A process that lived this long is taken for healthy: the next pause is the first one again.
    pub stable_after: Duration,
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
            require_strict: false,
            memory_bytes: None,
            start_timeout: Duration::from_secs(60),
            first_backoff: Duration::from_millis(10),
            longest_backoff: Duration::from_secs(10),
            stable_after: Duration::from_secs(30),
            queue_limit: 4096,
        }
    }
}

/// One answered inference.
#[derive(Clone, Debug)]
pub struct InferenceResult {
    pub outputs: Vec<Tensor>,
    pub timing: Timing,
}

/// One answered measurement.
#[derive(Clone, Debug)]
pub struct BenchResult {
    /// Of each timed iteration, in order.
    pub latencies: Vec<Duration>,
    /// CPU time of the worker process over the timed iterations.
    pub cpu: Duration,
    /// Resident memory of the worker process after them.
    pub rss_bytes: u64,
    /// Of the last iteration.
    pub outputs: Vec<Tensor>,
}

/// One process holding one module, restarted when it dies. Cheap to clone; the last clone's drop ends the process.
#[derive(Clone, Debug)]
pub struct RuntimeWorker {
    module: std::sync::Arc<LoadedModule>,
}

impl RuntimeWorker {
    /// Starts a process and loads `module` (an `.irm`, open for reading) in it; returns once it can infer.
    pub async fn start(
        config: RuntimeConfig,
        module: OwnedFd,
        options: RuntimeOptions,
    ) -> Result<Self, RuntimeFailure> {
        let _ = (config, module, options);
        Err(RuntimeFailure::Unavailable { reason: "not connected yet".to_owned() })
    }

    /// What the worker said about the module when it loaded it.
    pub fn module(&self) -> &LoadedModule {
        &self.module
    }

    /// The layers that confine the process.
    pub fn sandbox(&self) -> SandboxReport {
        SandboxReport::default()
    }

    /// Runs `entry`. Inputs are matched by name; their order is free.
    ///
    /// Dropping the future cancels the request. A death of the process retries it once on the next process.
    pub async fn infer(
        &self,
        entry: &str,
        inputs: Vec<Tensor>,
        deadline: Option<Instant>,
    ) -> Result<InferenceResult, RuntimeFailure> {
        let _ = (entry, inputs, deadline);
        Err(RuntimeFailure::Unavailable { reason: "not connected yet".to_owned() })
    }

    /// Measures `entry` with the loop inside the worker.
    pub async fn bench(
        &self,
        entry: &str,
        inputs: Vec<Tensor>,
        request: BenchRequest,
    ) -> Result<BenchResult, RuntimeFailure> {
        let _ = (entry, inputs, request);
        Err(RuntimeFailure::Unavailable { reason: "not connected yet".to_owned() })
    }

    /// Memory for an input of `len` bytes that needs no copy on the way to the worker. Its content is arbitrary until
    /// written.
    pub fn input_buffer(&self, len: usize) -> Result<InputBuffer, RuntimeFailure> {
        Ok(InputBuffer::owned(len))
    }

    /// The process, while there is one.
    pub fn pid(&self) -> Option<u32> {
        None
    }

    /// How often the process was started again.
    pub fn restarts(&self) -> u64 {
        0
    }

    /// Ends the process; requests in flight are [`RuntimeFailure::Unavailable`].
    pub async fn shutdown(self) {}
}
