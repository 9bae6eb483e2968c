//! A loaded module, requests to run it, and every way a request can fail.

use std::time::{Duration, Instant};

use ired_module::DType;
use ired_module::signature::{Provenance, Signature, Target};
use serde::{Deserialize, Serialize};

use super::module as remote;
use super::sandbox::{Probe, ProbeOutcome};
use crate::cores::Cores;

/// How a runtime worker uses the machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RuntimeOptions {
    /// The cores that it keeps to; `None`: all that the process may use.
    pub cores: Option<Cores>,
    /// Threads that run kernels, no more than there are cores of its own; `None`: one for each core.
    pub threads: Option<u32>,
    /// Pin each thread to a core of its own.
    pub pin: bool,
    /// What its requests may take together, beyond their inputs; more is [`RuntimeFailure::OutOfMemory`] for the request
    /// that needs it. `None`: what the machine has.
    pub memory_bytes: Option<u64>,
}

/// What a worker says about the module it holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoadedModule {
    #[serde(with = "remote::SignatureWire")]
    pub signature: Signature,
    /// What the variant that runs was compiled for.
    #[serde(with = "remote::TargetWire")]
    pub target: Target,
    /// Which of the module's variants runs, from 0, and how many there are.
    pub variant: (usize, usize),
    #[serde(with = "remote::ProvenanceWire")]
    pub provenance: Provenance,
    pub module_bytes: u64,
    pub parameter_bytes: u64,
    /// Memory that the instance keeps while it is idle.
    pub resident_bytes: u64,
    /// As much of it as other processes with the same module do not share.
    pub private_bytes: u64,
    /// From the module's bytes to a ready instance.
    pub load_time: Duration,
}

/// Where one inference's time went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timing {
    /// From the parent's send to the worker's start on it.
    pub queue: Duration,
    /// Checking and binding inputs.
    pub input: Duration,
    pub compute: Duration,
    /// Making outputs readable for the parent.
    pub output: Duration,
}

/// Timed iterations of one measurement at most, so that all latencies fit into one message.
pub const MAX_BENCH_ITERATIONS: u64 = 100_000;

/// A measurement whose loop runs inside the worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BenchRequest {
    /// Timed iterations at most, up to [`MAX_BENCH_ITERATIONS`]; at least one is made.
    pub max_iters: u64,
    /// No iteration starts after this much time, warm-up not counted.
    pub budget: Duration,
    /// Iterations before the first timed one.
    pub warmup: u64,
    /// Whether to look where the time goes, in some iterations more.
    pub profile: bool,
}

/// Workgroups of one kernel that one thread of the worker ran without a break.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkSpan {
    pub work: String,
    /// The instruction of the entry's function that a dispatch is; not of copies and fills.
    pub instruction: Option<u32>,
    pub thread: u32,
    /// From the start of the iteration on.
    pub start: Duration,
    pub took: Duration,
    pub workgroups: u32,
    /// Workgroups of the whole launch.
    pub of_workgroups: u32,
}

impl WorkSpan {
    /// The time while at least one thread worked on one of these.
    pub fn covered<'a>(spans: impl IntoIterator<Item = &'a Self>) -> Duration {
        let mut spans: Vec<(Duration, Duration)> =
            spans.into_iter().map(|span| (span.start, span.start + span.took)).collect();
        spans.sort_unstable();
        let (mut sum, mut reached) = (Duration::ZERO, Duration::ZERO);
        for (start, end) in spans {
            sum += end.saturating_sub(start.max(reached));
            reached = reached.max(end);
        }
        sum
    }
}

/// Spans of one request's profile at most, and notes on them, so that all fit into one message.
pub const MAX_PROFILE_SPANS: usize = 4096;
pub const MAX_PROFILE_NOTES: usize = 1024;
/// Characters of a text in a profile.
pub const MAX_PROFILE_TEXT: usize = 200;

/// Where the time of one inference went inside the device. It ran alone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkProfile {
    /// In the order of their starts, which count from the beginning of the computation.
    pub spans: Vec<WorkSpan>,
    /// Of what ran, as far as the module says it.
    pub notes: Vec<WorkNote>,
    /// Spans that are not here, as there were too many; they are the shortest.
    pub left_out: u64,
}

/// What a dispatch computes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkNote {
    /// That of the spans.
    pub instruction: u32,
    /// The model's nodes.
    pub nodes: String,
    /// Element type and dimensions of what its main node gives.
    pub result: String,
    /// Of the whole launch; `None` where the sizes are only known to the run.
    pub operations: Option<u64>,
    pub bytes: Option<u64>,
}

/// What the worker's threads do at most, as measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkPeak {
    /// Of f32, a multiply-add counting two.
    pub operations_per_second: u64,
    /// Read from memory.
    pub bytes_per_second: u64,
}

/// Why a runtime worker did not answer a request, or could not be started.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum RuntimeFailure {
    /// A tensor is missing, unknown, or of another type or shape than the module takes.
    #[error("input `{tensor}`: found {found}, expected {expected}")]
    InvalidInput { tensor: String, found: String, expected: String },
    #[error("no entry point `{entry}`; the module has {}", entries.join(", "))]
    NoSuchEntry { entry: String, entries: Vec<String> },
    #[error("the deadline passed")]
    DeadlineExceeded,
    #[error("cancelled")]
    Cancelled,
    /// The worker died (again) or is restarting; the same request may work later.
    #[error("the runtime worker is unavailable: {reason}")]
    Unavailable { reason: String },
    /// More than the limit, or with a limit of 0 more than the system gives.
    #[error("not enough memory: {}", memory(*needed_bytes, *limit_bytes))]
    OutOfMemory { needed_bytes: u64, limit_bytes: u64 },
    /// The module cannot be used on this machine or at all.
    #[error("cannot load the module: {message}")]
    Load { message: String },
    /// The module itself found something wrong, such as an index out of range.
    #[error("execution failed: {message}")]
    Execution { message: String },
    #[error("too many requests in flight: the limit is {limit}")]
    Overloaded { limit: usize },
    /// Parent and worker do not understand each other.
    #[error("worker protocol: {message}")]
    Protocol { message: String },
}

fn memory(needed_bytes: u64, limit_bytes: u64) -> String {
    match limit_bytes {
        0 => format!("the system refused {needed_bytes} bytes"),
        _ => format!("{needed_bytes} bytes needed, {limit_bytes} allowed"),
    }
}

/// A tensor in shared memory of the side that sends this.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TensorRef {
    pub name: String,
    #[serde(with = "remote::dtype")]
    pub dtype: DType,
    pub dims: Vec<u64>,
    pub place: Place,
}

/// Where bytes are in shared memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Place {
    pub region: u32,
    pub offset: u64,
    pub len: u64,
}

/// What a worker process has used so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessUsage {
    /// CPU time, user and system, of all threads.
    pub cpu: Duration,
    pub rss_bytes: u64,
    /// What of it is not mapped from files.
    pub private_bytes: u64,
    pub peak_rss_bytes: u64,
}

/// A moment that parent and worker understand alike: nanoseconds of the system's monotonic clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Moment(u64);

impl Moment {
    pub fn now() -> Self {
        let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        let seconds = u64::try_from(time.tv_sec).unwrap_or_default();
        Self(
            seconds
                .saturating_mul(1_000_000_000)
                .saturating_add(u64::try_from(time.tv_nsec).unwrap_or_default()),
        )
    }

    /// The same moment on this process's clock, if it is not past; [`Instant`] cannot be encoded.
    pub fn to_instant(self) -> Option<Instant> {
        let left = self.0.checked_sub(Self::now().0)?;
        Instant::now().checked_add(Duration::from_nanos(left))
    }

    /// A moment to come; one that is past becomes now.
    pub fn from_instant(instant: Instant) -> Self {
        let left = instant.saturating_duration_since(Instant::now());
        Self(Self::now().0.saturating_add(u64::try_from(left.as_nanos()).unwrap_or(u64::MAX)))
    }

    /// The time since then; zero when it is to come.
    pub fn elapsed(self) -> Duration {
        Duration::from_nanos(Self::now().0.saturating_sub(self.0))
    }
}

/// From the parent to a runtime worker. Both sides announce shared memory before they refer to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ToRuntime {
    /// Carries the module. The first message but for a probe.
    Load(RuntimeOptions),
    /// Carries sealed memory of this length, known by this number from now on.
    Region {
        region: u32,
        len: u64,
    },
    /// The region is not used any more.
    Forget {
        region: u32,
    },
    Infer {
        id: u64,
        entry: String,
        inputs: Vec<TensorRef>,
        sent: Moment,
        deadline: Option<Moment>,
        /// Whether to look where the time goes; nothing else runs meanwhile.
        profile: bool,
        /// Whether to look out for the next request before sleeping, as cores are idle.
        attentive: bool,
    },
    Bench {
        id: u64,
        entry: String,
        inputs: Vec<TensorRef>,
        request: BenchRequest,
    },
    /// What a request of these sizes takes while it runs; `dims` are those of the inputs, in signature order.
    Peak {
        id: u64,
        entry: String,
        dims: Vec<Vec<u64>>,
    },
    Usage {
        id: u64,
    },
    /// The answer is not wanted any more; there still is one.
    Cancel {
        id: u64,
    },
    /// The outputs at these places were read; their memory may be reused.
    Release(Vec<Place>),
    /// Try to break out instead of loading.
    Probe(Probe),
}

/// From a runtime worker to its parent. Every request is answered once, in any order; its inputs are free then.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromRuntime {
    Loaded(Result<LoadedModule, RuntimeFailure>),
    /// Carries sealed memory of this length, known by this number from now on.
    Region {
        region: u32,
        len: u64,
    },
    /// The region is not used any more.
    Forget {
        region: u32,
    },
    Answer {
        id: u64,
        answer: Result<Answer, RuntimeFailure>,
    },
    Probed(ProbeOutcome),
}

/// The answer to one request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    Infer {
        outputs: Vec<TensorRef>,
        timing: Timing,
        /// Where it was asked for.
        profile: Option<WorkProfile>,
    },
    Bench {
        outputs: Vec<TensorRef>,
        latencies: Vec<Duration>,
        cpu: Duration,
        rss_bytes: u64,
        spans: Vec<WorkSpan>,
        peak: Option<WorkPeak>,
    },
    /// In bytes.
    Peak(u64),
    Usage(ProcessUsage),
}
