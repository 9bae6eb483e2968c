//! What stops a compilation: every problem that was found, each with its place and, where there is one, a way out.

/// All problems of one compilation, at least one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", list(.diagnostics))]
pub struct CompileError {
    pub diagnostics: Vec<Diagnostic>,
}

/// One problem.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    pub kind: DiagnosticKind,
    /// Where in the model, such as `/layer1/conv1 (Conv)`.
    pub location: Option<String>,
    pub message: String,
    /// What a user can do about it.
    pub hint: Option<String>,
}

/// What a caller may want to tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DiagnosticKind {
    /// The model is fine; this compiler does not do it yet.
    Unsupported,
    /// The model contradicts itself or its format.
    InvalidModel,
    /// A file the model names is not there or cannot be read.
    MissingFile,
    /// A size is over a limit.
    ResourceLimit,
    /// A fault of the compiler.
    Internal,
}

impl DiagnosticKind {
    pub const fn name(self) -> &'static str {
        match self {
            Self::Unsupported => "unsupported",
            Self::InvalidModel => "invalid-model",
            Self::MissingFile => "missing-file",
            Self::ResourceLimit => "resource-limit",
            Self::Internal => "internal",
        }
    }
}

impl Diagnostic {
    pub fn new(kind: DiagnosticKind, message: impl Into<String>) -> Self {
        Self { kind, location: None, message: message.into(), hint: None }
    }

    pub fn at(mut self, location: impl Into<String>) -> Self {
        self.location = Some(location.into());
        self
    }

    /// A fault of the compiler, with its chain of causes.
    pub(crate) fn internal(what: &str, cause: &dyn std::error::Error) -> Self {
        Self::new(DiagnosticKind::Internal, format!("{what}: {}", chain(cause)))
    }
}

/// An error and what caused it, in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

impl std::fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(location) = &self.location {
            write!(f, "{location}: ")?;
        }
        f.write_str(&self.message)?;
        if let Some(hint) = &self.hint {
            write!(f, " ({hint})")?;
        }
        Ok(())
    }
}

impl From<Diagnostic> for CompileError {
    fn from(diagnostic: Diagnostic) -> Self {
        Self { diagnostics: vec![diagnostic] }
    }
}

fn list(diagnostics: &[Diagnostic]) -> String {
    diagnostics.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}
