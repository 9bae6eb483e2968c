//! Starting, talking to, confining and giving up on worker processes.
//!
//! The daemon and the command line hold the parent's side: [`CompileWorkers`] runs one fresh process per compile job,
//! [`RuntimeWorker`] supervises one process that holds one loaded module. The worker executables stand on [`child`]
//! and `confine`. This crate knows neither the compiler nor the runtime: it carries their jobs and answers.

mod channel;
pub mod child;
pub mod compile;
mod confine;
mod cores;
pub mod executable;
mod lookout;
pub mod messages;
mod printable;
mod process;
mod region;
pub mod runtime;
pub mod sandbox;
mod sys;
pub mod tensor;

pub use compile::{
    CompileEvent, CompileFailure, CompileLimits, CompileWorkers, DirectoryFiles, ModelFiles, NoFiles,
};
pub use confine::settle;
pub use cores::{ConfineError, Cores, CoresError};
pub use lookout::Lookout;
pub use messages::compile::{
    CompileJob, CompileOptions, CompileReport, Diagnostic, Dump, ExplainRequest, FailureKind, Precision,
    Progress, Severity, TargetRequest,
};
pub use messages::handshake::Role;
pub use messages::runtime::{
    BenchRequest, LoadedModule, ProcessUsage, RuntimeFailure, RuntimeOptions, Timing, WorkNote, WorkPeak,
    WorkProfile, WorkSpan,
};
pub use messages::sandbox::{LayerState, Probe, ProbeOutcome, SandboxLevel, SandboxReport};
pub use printable::printable;
pub use region::{SharedBuffer, View};
pub use runtime::{BenchResult, InferenceResult, RuntimeConfig, RuntimeWorker};
pub use sandbox::{probe, sandbox_report};
pub use sys::MappedFile;
pub use tensor::{InputBuffer, Tensor, TensorData};
