//! From a job's message to its answer.

use std::fs::File;
use std::io::{Seek, Write};
use std::os::fd::OwnedFd;

use anyhow::Context;
use ired_worker::child::{ChannelError, Receiver, Sender};
use ired_worker::messages::compile::FromCompiler;
use ired_worker::{CompileJob, CompileReport, Diagnostic, Dump, FailureKind, MappedFile, Progress};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};

use crate::broker::Broker;
use crate::compile::compile;

/// Diagnostics that fit into one message whatever they say.
const MAX_DIAGNOSTIC_BYTES: usize = 512 << 10;

/// Why there is no module.
pub(crate) struct Failure {
    pub(crate) kind: FailureKind,
    pub(crate) diagnostics: Vec<Diagnostic>,
}

/// What a compilation says while it runs.
pub(crate) struct Events {
    sender: Sender,
}

impl Events {
    pub(crate) fn progress(&self, progress: Progress) {
        self.send(&FromCompiler::Progress(progress), &[]);
    }

    /// Sends a phase's result as sealed memory. One that cannot be sent is missing: a dump never fails a job.
    pub(crate) fn dump(&self, dump: &Dump) {
        if let Ok(memory) = sealed(&dump.content) {
            self.send(&FromCompiler::Dump { name: dump.name.clone() }, &[memory]);
        }
    }

    fn send(&self, message: &FromCompiler, fds: &[OwnedFd]) {
        // A parent that does not listen any more ends this process by itself.
        let _ = self.sender.send(message, fds);
    }
}

fn sealed(content: &[u8]) -> std::io::Result<OwnedFd> {
    let memory = memfd_create("ired-dump", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    let mut file = File::from(memory);
    file.write_all(content)?;
    file.rewind()?;
    let memory = OwnedFd::from(file);
    fcntl_add_seals(&memory, SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE | SealFlags::SEAL)?;
    Ok(memory)
}

/// Compiles and answers.
pub(crate) fn run(
    job: CompileJob,
    model: OwnedFd,
    output: OwnedFd,
    sender: Sender,
    receiver: Receiver,
) -> anyhow::Result<()> {
    let model = MappedFile::open(model).context("cannot map the model")?;
    let broker = Broker::new(sender.clone(), receiver);
    let events = Events { sender: sender.clone() };
    let mut output = File::from(output);
    let answer = match compile(&job, model, broker, &mut output, events) {
        Ok(report) => FromCompiler::Done(bounded_report(report)),
        Err(Failure { kind, diagnostics }) => {
            FromCompiler::Failed { kind, diagnostics: bounded(diagnostics) }
        }
    };
    match sender.send(&answer, &[]) {
        Ok(()) | Err(ChannelError::Closed) => Ok(()),
        Err(error) => Err(error).context("the answer"),
    }
}

fn bounded_report(report: CompileReport) -> CompileReport {
    CompileReport { warnings: bounded(report.warnings), ..report }
}

/// As many diagnostics as fit into a message, and how many more there are.
fn bounded(mut diagnostics: Vec<Diagnostic>) -> Vec<Diagnostic> {
    let mut bytes = 0;
    let fitting = diagnostics.iter().take_while(|diagnostic| {
        let texts = [Some(&diagnostic.message), diagnostic.location.as_ref(), diagnostic.hint.as_ref()];
        bytes += 32 + texts.into_iter().flatten().map(String::len).sum::<usize>();
        bytes <= MAX_DIAGNOSTIC_BYTES
    });
    let kept = fitting.count();
    let left = diagnostics.len() - kept;
    diagnostics.truncate(kept);
    if left > 0 {
        diagnostics.push(Diagnostic {
            severity: ired_worker::Severity::Note,
            message: format!("{left} more problems"),
            location: None,
            hint: None,
        });
    }
    diagnostics
}
