//! A compile job, what is heard while it runs, and how it ends.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::sandbox::{Probe, ProbeOutcome};
use crate::printable;

/// What to compile for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct TargetRequest {
    /// A target triple such as `x86_64-linux`; `None` is the machine the worker runs on.
    pub triple: Option<String>,
    /// Features added (`+avx512f`) to or taken (`-fma`) from the triple's default, in order. For the host, the default
    /// is everything detected.
    pub features: Vec<String>,
}

impl TargetRequest {
    /// One line that is equal exactly when two requests are: `host`, `x86_64-linux,+avx2,+fma`.
    pub fn canonical(&self) -> String {
        let mut text = self.triple.clone().unwrap_or_else(|| "host".to_owned());
        for feature in &self.features {
            text.push(',');
            text.push_str(feature);
        }
        text
    }
}

/// Whether a model may be computed less exactly than it says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Precision {
    /// In the types that the model states.
    #[default]
    Exact,
    /// Products of f32 with constant weights, and attention, take operands rounded to bf16, where the target multiplies
    /// those fast.
    Fast,
}

/// How to compile.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct CompileOptions {
    /// The phase after which to stop, by name; the output is then that phase's text. `None` runs to the module.
    pub stop_after: Option<String>,
    /// The output is a report on what would be compiled.
    pub explain: Option<ExplainRequest>,
    /// What is known of the shapes of inputs besides what the model says: a size for each axis, `None` for one that the
    /// model says or that is open.
    pub shapes: Vec<(String, Vec<Option<u64>>)>,
    pub precision: Precision,
    /// Further machines that the module shall run on, in the order of preference: it has a variant for each.
    pub fallbacks: Vec<TargetRequest>,
    /// The text of a tuning file: ways to compute kernels that were measured to be the fastest.
    pub tuning: Option<String>,
    /// Send every phase's result as a [`Dump`].
    pub dump: bool,
    /// Threads to compile with; 0 is every core the process may use.
    pub threads: u32,
}

/// What a report on a model is to show, and for which sizes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ExplainRequest {
    /// Values of the model's symbolic sizes, by name.
    pub sizes: Vec<(String, u64)>,
    /// List every node of the graph too.
    pub nodes: bool,
    /// The report is what could be tuned instead: entries of a tuning file, several for one problem.
    pub candidates: bool,
}

impl CompileOptions {
    /// The options that change the output, as one line; for cache keys and provenance.
    pub fn canonical(&self) -> String {
        let output = match (&self.stop_after, &self.explain) {
            (None, None) => "default".to_owned(),
            (Some(phase), _) => format!("stop_after={phase}"),
            (None, Some(explain)) => format!("explain={explain:?}"),
        };
        let shapes = match self.shapes.as_slice() {
            [] => String::new(),
            shapes => format!(",shapes={shapes:?}"),
        };
        let precision = match self.precision {
            Precision::Exact => "",
            Precision::Fast => ",precision=fast",
        };
        let tuning = match &self.tuning {
            None => String::new(),
            Some(text) => format!(",tuning={}", blake3::hash(text.as_bytes())),
        };
        let fallbacks = self.fallbacks.iter().map(|target| format!(",or={:?}", target.canonical()));
        let fallbacks: String = fallbacks.collect();
        format!("{output}{shapes}{precision}{tuning}{fallbacks}")
    }
}

/// One model to compile. Its bytes travel as a file descriptor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompileJob {
    pub model_name: String,
    /// A hint at the format and the name in diagnostics, such as `model.onnx`; never opened.
    pub file_name: String,
    pub target: TargetRequest,
    pub options: CompileOptions,
}

/// How far a job is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    pub phase: String,
    pub done: u64,
    /// 0 while it is not known.
    pub total: u64,
    /// What is being worked on, such as an executable's name.
    pub detail: String,
}

/// A phase's result, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dump {
    /// A file name such as `3_program.mlir`: no separators, never `..`.
    pub name: String,
    pub content: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Severity {
    Error,
    Warning,
    Note,
}

/// One thing the compiler has to say about a model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diagnostic {
    pub severity: Severity,
    pub message: String,
    /// A node's name, or `file:line:column`.
    pub location: Option<String>,
    /// What the user can do.
    pub hint: Option<String>,
}

impl std::fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if let Some(location) = &self.location {
            write!(f, "{}: ", printable(location))?;
        }
        f.write_str(&printable(&self.message))?;
        if let Some(hint) = &self.hint {
            write!(f, " ({})", printable(hint))?;
        }
        Ok(())
    }
}

/// Why the compiler refused a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FailureKind {
    /// The model is valid but needs something that is not implemented.
    Unsupported,
    /// The model contradicts its format or itself.
    InvalidModel,
    /// A file that the model refers to is not there.
    MissingFile,
    /// A limit of the job was met in good order (a crash for memory is [`crate::CompileFailure::OutOfMemory`]).
    ResourceLimit,
    /// The compiler is wrong.
    Internal,
}

/// What a successful job leaves besides its output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CompileReport {
    pub module_bytes: u64,
    /// Each phase in order and the wall time it took.
    pub phases: Vec<(String, Duration)>,
    pub peak_rss_bytes: u64,
    pub warnings: Vec<Diagnostic>,
}

/// From the parent to a compile worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(clippy::large_enum_variant, reason = "one job is sent to a process, and never moved about")]
pub enum ToCompiler {
    /// Compile. Carries the model (for reading) and the output (for writing, empty).
    Job(CompileJob),
    /// The answer to [`FromCompiler::OpenFile`]; carries the file when there is one.
    File(Result<(), String>),
    /// Try to break out instead of compiling.
    Probe(Probe),
}

/// From a compile worker to its parent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromCompiler {
    Progress(Progress),
    /// Carries the content as sealed memory.
    Dump {
        name: String,
    },
    /// Asks for a file that the model refers to; one request at a time.
    OpenFile {
        name: String,
    },
    /// The module is written.
    Done(CompileReport),
    Failed {
        kind: FailureKind,
        diagnostics: Vec<Diagnostic>,
    },
    Probed(ProbeOutcome),
}

#[cfg(test)]
mod tests {
    use super::{CompileOptions, TargetRequest};

    #[test]
    fn the_order_of_fallbacks_is_part_of_the_key() {
        let target = |triple: &str| TargetRequest { triple: Some(triple.to_owned()), features: vec![] };
        let key = |fallbacks: &[&str]| {
            let fallbacks = fallbacks.iter().map(|triple| target(triple)).collect();
            CompileOptions { fallbacks, ..CompileOptions::default() }.canonical()
        };
        let keys = [key(&[]), key(&["a"]), key(&["a", "b"]), key(&["b", "a"]), key(&["a,b"])];
        assert!((1..keys.len()).all(|at| !keys[..at].contains(&keys[at])), "{keys:?}");
    }

    #[test]
    fn each_tuning_has_a_key_of_its_own() {
        let key = |tuning: Option<&str>| {
            CompileOptions { tuning: tuning.map(str::to_owned), ..CompileOptions::default() }.canonical()
        };
        let keys = [key(None), key(Some("version = 1")), key(Some("version = 1\n"))];
        assert!(keys[0] != keys[1] && keys[1] != keys[2] && keys[0] != keys[2]);
        assert!(keys.iter().all(|key| !key.contains('\n')));
    }
}
