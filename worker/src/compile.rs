//! The parent's side of a compile job: one fresh, confined process per call.

mod files;
mod job;

use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

pub use files::{DirectoryFiles, ModelFiles, NoFiles};
use job::Running;
use rustix::fs::fstat;
use tokio::time::timeout;

use crate::confine::Confinement;
use crate::executable;
use crate::messages::compile::{CompileJob, CompileReport, Diagnostic, Dump, FailureKind, Progress};
use crate::messages::full_text;
use crate::messages::handshake::Role;
use crate::messages::sandbox::{SandboxLevel, SandboxReport};
use crate::process::{LaunchError, Launched, launch};

/// What one compile job may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CompileLimits {
    /// Private memory of the process; the mapped model does not count.
    pub memory_bytes: u64,
    pub wall: Duration,
    /// CPU time, summed over threads.
    pub cpu: Duration,
    pub output_bytes: u64,
}

impl Default for CompileLimits {
    /// Two minutes, an hour of CPU time, and 16 GiB of memory or half of the machine's where that is less: one model
    /// neither blocks the others for long nor takes the memory of those that are served.
    fn default() -> Self {
        Self {
            memory_bytes: (memory_of_machine() / 2).min(16 << 30),
            wall: Duration::from_secs(120),
            cpu: Duration::from_secs(3600),
            output_bytes: 16 << 30,
        }
    }
}

fn memory_of_machine() -> u64 {
    let info = rustix::system::sysinfo();
    info.totalram.saturating_mul(u64::from(info.mem_unit))
}

/// Something that happened while a job ran.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CompileEvent {
    /// The process runs and is confined; nothing of the model has been read yet.
    Started {
        pid: u32,
        sandbox: SandboxReport,
    },
    Progress(Progress),
    Dump(Dump),
}

/// Why a job has no module.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CompileFailure {
    /// The compiler refused, with everything it found.
    #[error("{}", summary(diagnostics))]
    Failed { kind: FailureKind, diagnostics: Vec<Diagnostic> },
    /// The process died; `stderr` is the end of what it wrote there.
    #[error("the compile worker crashed: {signal_or_status}")]
    Crashed { signal_or_status: String, stderr: String },
    /// The process was ended by somebody else: the job says nothing about the compiler or the model.
    #[error("the compile worker was ended from outside: {signal}")]
    Killed { signal: String },
    #[error("the compile job took longer than {after:?}")]
    TimedOut { after: Duration },
    #[error("the compile job needed more than {limit_bytes} bytes of memory")]
    OutOfMemory { limit_bytes: u64 },
    #[error("cannot start the compile worker: {0}")]
    Spawn(String),
    #[error("compile worker protocol: {0}")]
    Protocol(String),
}

fn summary(diagnostics: &[Diagnostic]) -> String {
    match diagnostics {
        [] => "the compiler refused the model without saying why".to_owned(),
        [only] => only.to_string(),
        [first, rest @ ..] => format!("{first} (and {} more)", rest.len()),
    }
}

/// Runs compile jobs, each in a process of its own. Cheap to clone.
#[derive(Clone, Debug)]
pub struct CompileWorkers {
    /// The executable to start.
    pub executable: PathBuf,
    pub limits: CompileLimits,
    /// Layers of the sandbox without which to refuse to compile.
    pub require_sandbox: SandboxLevel,
}

impl CompileWorkers {
    /// The executable beside the running one, default limits, layers best effort.
    ///
    /// # Errors
    /// [`io::ErrorKind::NotFound`] when there is no such executable.
    pub fn beside_current_exe() -> io::Result<Self> {
        Ok(Self::new(executable::beside_current_exe(Role::Compile)?))
    }

    /// The given executable, default limits, layers best effort.
    pub fn new(executable: impl Into<PathBuf>) -> Self {
        Self {
            executable: executable.into(),
            limits: CompileLimits::default(),
            require_sandbox: SandboxLevel::default(),
        }
    }

    /// A text that changes with the compiler: for cache keys. Reads the executable; starts nothing.
    pub fn compiler_identity(&self) -> io::Result<String> {
        executable::identity(&self.executable)
    }

    /// Compiles `model` into `output` (open for reading and writing, empty) in a fresh process.
    ///
    /// `files` answers for the files the model refers to. `events` is called in order, on the caller's task. Dropping
    /// the future kills the process.
    pub async fn compile(
        &self,
        job: CompileJob,
        model: OwnedFd,
        files: Arc<dyn ModelFiles>,
        output: OwnedFd,
        events: impl FnMut(CompileEvent) + Send,
    ) -> Result<CompileReport, CompileFailure> {
        let limits = self.limits;
        let work = async {
            let launched = self.launch(&model).await?;
            let mut events = events;
            let (pid, sandbox) = (launched.process.pid(), launched.sandbox.clone());
            events(CompileEvent::Started { pid, sandbox });
            let running = Running { launched, limits, files, output, events: &mut events, dumped_bytes: 0 };
            running.finish(job, model).await
        };
        // Dropping the work kills the process.
        timeout(limits.wall, work).await.unwrap_or(Err(CompileFailure::TimedOut { after: limits.wall }))
    }

    async fn launch(&self, model: &OwnedFd) -> Result<Launched, CompileFailure> {
        let size = fstat(model).map_err(|errno| CompileFailure::Spawn(format!("model: {errno}")))?.st_size;
        let confinement = Confinement {
            require: self.require_sandbox,
            memory_bytes: Some(self.limits.memory_bytes),
            mapped_bytes: u64::try_from(size).unwrap_or_default().saturating_add(self.limits.output_bytes),
            cpu: Some(self.limits.cpu),
            file_bytes: Some(self.limits.output_bytes),
        };
        let launched = launch(&self.executable, Role::Compile, confinement).await;
        launched.map_err(|error| match error {
            LaunchError::Killed { signal } => CompileFailure::Killed { signal },
            error if error.is_protocol() => CompileFailure::Protocol(full_text(&error)),
            error => CompileFailure::Spawn(full_text(&error)),
        })
    }
}
