//! The one place where the compiler is called: its types on one side, the messages' on the other.

use std::fs::File;

use ired_worker::{CompileJob, CompileReport, Diagnostic, FailureKind, MappedFile, Severity};

use crate::broker::Broker;
use crate::job::{Events, Failure};

/// Compiles `model` for the job's target into `output`.
pub(crate) fn compile(
    job: &CompileJob,
    model: MappedFile,
    broker: Broker,
    output: &mut File,
    events: Events,
) -> Result<CompileReport, Failure> {
    let _ = (job, model, broker, output, events);
    let diagnostic = Diagnostic {
        severity: Severity::Error,
        message: "this build has no compiler".to_owned(),
        location: None,
        hint: None,
    };
    Err(Failure { kind: FailureKind::Internal, diagnostics: vec![diagnostic] })
}
