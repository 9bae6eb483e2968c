//! The seam to the worker processes: what the daemon needs of a compiler and of a loaded model.
//!
//! In service these are `ired-worker`'s processes ([`workers`]); the tests of the front door script them.

mod instances;
pub mod workers;

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Instant;

use futures::future::BoxFuture;
use ired_worker::{
    CompileEvent, CompileFailure, CompileJob, CompileReport, Cores, InferenceResult, InputBuffer,
    LoadedModule, ModelFiles, RuntimeFailure, SandboxReport, Tensor,
};
use tokio::runtime::Handle;

pub(crate) use instances::Instances;
pub use instances::{DeviceGroup, InstanceGroup, Process};

/// Hears what happens while a job runs.
pub type EventSink = Box<dyn FnMut(CompileEvent) + Send>;

/// Compiles models. Dropping the future ends the job.
pub trait Compiler: Send + Sync + 'static {
    /// A text that changes with the compiler's build: part of every cache key. Blocks.
    fn identity(&self) -> std::io::Result<String>;

    /// Compiles `model` into `output`, which is open for reading and writing and empty.
    fn compile(
        &self,
        job: CompileJob,
        model: OwnedFd,
        files: Arc<dyn ModelFiles>,
        output: OwnedFd,
        events: EventSink,
    ) -> BoxFuture<'_, Result<CompileReport, CompileFailure>>;
}

/// Makes compiled modules ready to run.
pub trait Launcher: Send + Sync + 'static {
    /// Returns once the module can answer, on these cores or on all.
    fn launch(
        &self,
        module: OwnedFd,
        cores: Option<Cores>,
    ) -> BoxFuture<'_, Result<Arc<dyn Runner>, RuntimeFailure>>;
}

/// One loaded module.
pub trait Runner: Send + Sync + 'static {
    fn module(&self) -> &LoadedModule;

    /// Dropping the future cancels the inference. With `profile` it looks where the time goes: the module runs nothing else
    /// meanwhile.
    fn infer<'a>(
        &'a self,
        entry: &'a str,
        inputs: Vec<Tensor>,
        deadline: Option<Instant>,
        profile: bool,
    ) -> BoxFuture<'a, Result<InferenceResult, RuntimeFailure>>;

    /// The runtime that attends to it. What waits for it does best to wait there.
    fn runtime(&self) -> Handle;

    /// Bytes that an inference takes while it runs, its outputs among them: as far as these dimensions of its inputs, in
    /// signature order, say it.
    fn peak<'a>(
        &'a self,
        entry: &'a str,
        dims: Vec<Vec<u64>>,
        deadline: Option<Instant>,
    ) -> BoxFuture<'a, Result<u64, RuntimeFailure>>;

    /// Memory for an input of so many bytes, of arbitrary content, that needs no copy on the way to the process, where there
    /// is such memory.
    fn input_buffer(&self, _bytes: usize) -> Option<InputBuffer> {
        None
    }

    /// The process that holds it, while there is one.
    fn pid(&self) -> Option<u32>;

    /// How often that process was started again.
    fn restarts(&self) -> u64;

    /// The layers that confine it.
    fn sandbox(&self) -> SandboxReport;

    /// Ends it; requests still inside fail.
    fn shutdown(&self) -> BoxFuture<'_, ()>;
}
