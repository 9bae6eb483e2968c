//! What can go wrong here, with MLIR's diagnostics and their locations.

/// How serious a diagnostic is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    Error,
    Warning,
    Note,
    Remark,
}

/// One message of MLIR, with its location as MLIR prints it; notes follow the message they belong to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    pub severity: Severity,
    pub location: String,
    pub message: String,
}

impl std::fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.location, self.message)
    }
}

/// Why an operation on IR failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("cannot parse the module: {}", list(.0))]
    Parse(Vec<Diagnostic>),
    #[error("the module is invalid: {}", list(.0))]
    Verify(Vec<Diagnostic>),
    #[error("pass pipeline `{pipeline}` is malformed: {message}")]
    Pipeline { pipeline: String, message: String },
    #[error("a pass failed: {}", list(.0))]
    Pass(Vec<Diagnostic>),
    #[error("cannot translate to LLVM: {}", list(.0))]
    Translate(Vec<Diagnostic>),
    #[error("cannot make the target machine: {0}")]
    Machine(#[from] crate::object::MachineError),
    #[error("cannot generate code: {0}")]
    Codegen(String),
    #[error("cannot link: {0}")]
    Link(String),
    #[error("cannot make a memory file: {0}")]
    MemoryFile(#[source] std::io::Error),
}

fn list(diagnostics: &[Diagnostic]) -> String {
    match diagnostics {
        [] => "no diagnostic was given".to_owned(),
        some => some.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "),
    }
}
