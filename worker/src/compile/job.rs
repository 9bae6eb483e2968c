//! One job from the launched process to its outcome.

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use rustix::fs::{fcntl_get_seals, fstat};
use tokio::time::timeout;

use super::{CompileEvent, CompileFailure, CompileLimits, ModelFiles};
use crate::channel::ChannelError;
use crate::executable::cores;
use crate::messages::compile::{
    CompileJob, CompileReport, Diagnostic, Dump, FailureKind, FromCompiler, Severity, ToCompiler,
};
use crate::process::{Ending, Launched};

/// All dumps of one job together.
const MAX_DUMP_BYTES: u64 = 1 << 30;

/// A worker that closed its channel has this long to end on its own before it is killed.
const LAST_BREATH: Duration = Duration::from_secs(2);

/// What a job is made of once its process runs.
pub(super) struct Running<'a, Events> {
    pub(super) launched: Launched,
    pub(super) limits: CompileLimits,
    pub(super) files: Arc<dyn ModelFiles>,
    pub(super) output: OwnedFd,
    pub(super) events: &'a mut Events,
    pub(super) dumped_bytes: u64,
}

impl<Events: FnMut(CompileEvent) + Send> Running<'_, Events> {
    /// Sends the job and hears the worker until it is dead; what it wrote is final then.
    pub(super) async fn finish(
        mut self,
        mut job: CompileJob,
        model: OwnedFd,
    ) -> Result<CompileReport, CompileFailure> {
        if job.options.threads == 0 {
            job.options.threads = cores();
        }
        let output = self.output.try_clone().map_err(|error| CompileFailure::Spawn(error.to_string()))?;
        let sent = self.launched.sender.send(&ToCompiler::Job(job), vec![model, output]);
        let outcome = match sent {
            Ok(()) => self.hear().await,
            Err(error) => Err(error.into()),
        };
        match outcome {
            Ok(report) => {
                self.end().await?;
                self.check_output(&report)?;
                Ok(report)
            }
            Err(Unfinished::Outcome(failure)) => Err(failure),
            Err(Unfinished::Channel(ChannelError::Closed)) => Err(self.explain_death().await),
            Err(Unfinished::Channel(error)) => Err(CompileFailure::Protocol(error.to_string())),
        }
    }

    async fn hear(&mut self) -> Result<CompileReport, Unfinished> {
        loop {
            let (message, fds) = self.launched.receiver.receive::<FromCompiler>().await?;
            match message {
                FromCompiler::Progress(progress) => (self.events)(CompileEvent::Progress(progress)),
                FromCompiler::Dump { name } => {
                    let dump = self.read_dump(name, fds).map_err(Unfinished::protocol)?;
                    (self.events)(CompileEvent::Dump(dump));
                }
                FromCompiler::OpenFile { name } => self.answer_file(name).await?,
                FromCompiler::Done(report) => return Ok(report),
                FromCompiler::Failed { kind, diagnostics } => {
                    return Err(Unfinished::Outcome(CompileFailure::Failed { kind, diagnostics }));
                }
                FromCompiler::Probed(_) => {
                    return Err(Unfinished::protocol("a probe's answer to a job".to_owned()));
                }
            }
        }
    }

    fn read_dump(&mut self, name: String, fds: Vec<OwnedFd>) -> Result<Dump, String> {
        let plain = !name.is_empty() && name.len() < 256 && !name.contains(['/', '\0']) && name != "..";
        if !plain || name == "." {
            return Err(format!("a dump is called {name:?}"));
        }
        let [memory] = <[OwnedFd; 1]>::try_from(fds).map_err(|_| "a dump without content".to_owned())?;
        // Only memory has seals; reading anything else could wait without end.
        fcntl_get_seals(&memory).map_err(|_| "a dump that is not memory".to_owned())?;
        let mut content = Vec::new();
        let left = MAX_DUMP_BYTES - self.dumped_bytes;
        let mut file = File::from(memory);
        std::io::Seek::rewind(&mut file).map_err(|error| error.to_string())?;
        file.take(left + 1).read_to_end(&mut content).map_err(|error| error.to_string())?;
        if content.len() as u64 > left {
            return Err(format!("dumps of more than {MAX_DUMP_BYTES} bytes"));
        }
        self.dumped_bytes += content.len() as u64;
        Ok(Dump { name, content })
    }

    async fn answer_file(&mut self, name: String) -> Result<(), Unfinished> {
        let files = Arc::clone(&self.files);
        let opened = tokio::task::spawn_blocking(move || files.open(&name)).await;
        let (answer, fds) = match opened {
            Ok(Ok(file)) => (Ok(()), vec![file]),
            Ok(Err(error)) => (Err(error.to_string()), Vec::new()),
            Err(_) => (Err("the file broker failed".to_owned()), Vec::new()),
        };
        Ok(self.launched.sender.send(&ToCompiler::File(answer), fds)?)
    }

    /// Ends the process: after that nobody else can write to the output.
    async fn end(&mut self) -> Result<(), CompileFailure> {
        self.launched.process.kill();
        let ended = self.launched.process.wait().await;
        ended.map(drop).map_err(|error| CompileFailure::Protocol(error.to_string()))
    }

    fn check_output(&self, report: &CompileReport) -> Result<(), CompileFailure> {
        let size = fstat(&self.output).map_err(|errno| CompileFailure::Protocol(errno.to_string()))?.st_size;
        if u64::try_from(size) == Ok(report.module_bytes) {
            return Ok(());
        }
        let announced = report.module_bytes;
        Err(CompileFailure::Protocol(format!("the output is {size} bytes; the worker announced {announced}")))
    }

    /// What the end of a process without an answer means.
    async fn explain_death(&mut self) -> CompileFailure {
        let process = &mut self.launched.process;
        let (ending, ended_here) = match timeout(LAST_BREATH, process.wait()).await {
            Ok(ending) => (ending, false),
            Err(_) => {
                process.kill();
                (process.wait().await, true)
            }
        };
        let stderr = process.last_words().await;
        match ending {
            Ok(Ending::Signalled(libc::SIGXCPU)) => CompileFailure::TimedOut { after: self.limits.cpu },
            Ok(Ending::Signalled(libc::SIGXFSZ)) => self.output_limit(),
            Ok(Ending::Signalled(_)) if says_out_of_memory(&stderr) => {
                CompileFailure::OutOfMemory { limit_bytes: self.limits.memory_bytes }
            }
            Ok(ending) if ending.is_from_outside() && !ended_here => {
                CompileFailure::Killed { signal: ending.to_string() }
            }
            Ok(ending) => CompileFailure::Crashed { signal_or_status: ending.to_string(), stderr },
            Err(error) => CompileFailure::Crashed { signal_or_status: error.to_string(), stderr },
        }
    }

    fn output_limit(&self) -> CompileFailure {
        let limit = self.limits.output_bytes;
        let diagnostic = Diagnostic {
            severity: Severity::Error,
            message: format!("the module is larger than the limit of {limit} bytes"),
            location: None,
            hint: Some("raise the limit on a module's size".to_owned()),
        };
        CompileFailure::Failed { kind: FailureKind::ResourceLimit, diagnostics: vec![diagnostic] }
    }
}

/// Why [`Running::hear`] stopped before the module was there.
enum Unfinished {
    Outcome(CompileFailure),
    Channel(ChannelError),
}

impl Unfinished {
    fn protocol(message: String) -> Self {
        Self::Outcome(CompileFailure::Protocol(message))
    }
}

impl From<ChannelError> for Unfinished {
    fn from(error: ChannelError) -> Self {
        Self::Channel(error)
    }
}

/// What allocators say before they abort: Rust's, LLVM's, and the C++ library's.
fn says_out_of_memory(stderr: &str) -> bool {
    let tail = stderr.lines().rev().take(20);
    let marks = ["memory allocation of ", "out of memory", "std::bad_alloc"];
    tail.into_iter().any(|line| marks.iter().any(|mark| line.contains(mark)))
}
