//! Why a model cannot be imported. Faults of nodes come as lists: a user mends a model once, not node by node.

use std::fmt;

use ired_graph::DType;

use crate::onnx::{TensorError, WireError};
use crate::source::{SiblingNameError, SourceError};

/// Why a model cannot be imported.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ImportError {
    #[error("`{file_name}` is in no known model format; known are: {formats}")]
    Unrecognised { file_name: String, formats: String },
    #[error("the model cannot be read")]
    Source(#[from] SourceError),
    #[error("not a valid ONNX file")]
    Malformed(#[from] WireError),
    #[error("not a valid ONNX file")]
    Undecodable(#[from] prost::DecodeError),
    #[error("the model has no graph")]
    NoGraph,
    #[error("the model has no outputs")]
    NoOutputs,
    #[error("ONNX IR version {found}; supported are {oldest} to {newest}")]
    IrVersion { found: i64, oldest: i64, newest: i64 },
    #[error("operator set version {found} of domain `{domain}`; supported are {oldest} to {newest}")]
    OperatorSet { domain: String, found: i64, oldest: i64, newest: i64 },
    #[error("model input `{input}` {problem}")]
    Input { input: String, problem: String },
    #[error("model output `{output}` {problem}")]
    Output { output: String, problem: String },
    #[error("tensor `{tensor}`")]
    Tensor {
        tensor: String,
        #[source]
        cause: TensorError,
    },
    #[error("external data of tensor `{tensor}`")]
    ExternalName {
        tensor: String,
        #[source]
        cause: SiblingNameError,
    },
    #[error("external data of tensor `{tensor}`")]
    ExternalFile {
        tensor: String,
        #[source]
        cause: SourceError,
    },
    #[error("`{name}` is defined more than once")]
    DuplicateName { name: String },
    #[error("nodes depend on each other in a cycle: {}", .nodes.join(" -> "))]
    Cycle { nodes: Vec<String> },
    #[error("the model has more than {limit} {what}")]
    Limit { what: &'static str, limit: u64 },
    #[error("{} cannot be imported:{}", count(.0.len(), "node"), list(.0))]
    Unsupported(Vec<UnsupportedNode>),
    #[error("{} invalid:{}", count_are(.0.len(), "node"), list(.0))]
    Invalid(Vec<InvalidNode>),
}

/// What a caller does about an [`ImportError`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImportErrorKind {
    /// The model is fine; ired lacks something.
    Unsupported,
    /// The model is broken.
    Invalid,
    /// A file of the model is missing or unreadable.
    MissingFile,
    /// The model is larger than any that ired takes.
    Limit,
}

impl ImportError {
    pub fn kind(&self) -> ImportErrorKind {
        match self {
            Self::Unrecognised { .. }
            | Self::Unsupported(_)
            | Self::IrVersion { .. }
            | Self::OperatorSet { .. }
            | Self::Tensor { cause: TensorError::DType { .. }, .. } => ImportErrorKind::Unsupported,
            Self::Source(SourceError::Read { .. } | SourceError::Absent { .. })
            | Self::ExternalFile { cause: SourceError::Read { .. } | SourceError::Absent { .. }, .. } => {
                ImportErrorKind::MissingFile
            }
            Self::Tensor { cause: TensorError::Strings(_), .. }
            | Self::Limit { .. }
            | Self::Malformed(WireError::TooLarge { .. }) => ImportErrorKind::Limit,
            _ => ImportErrorKind::Invalid,
        }
    }
}

/// A node that is valid but that ired cannot import.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnsupportedNode {
    /// The node's name in the model, or of its first output where it has none.
    pub name: String,
    pub op_type: String,
    /// Empty for the standard operators.
    pub domain: String,
    /// The version of the operator set that the model asks for; 0 where it names none.
    pub version: i64,
    /// What is not supported: the operator itself, or an attribute, an element type, a form of it.
    pub reason: String,
    /// What the user can do about it.
    pub hint: String,
}

impl fmt::Display for UnsupportedNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let domain = if self.domain.is_empty() { "ai.onnx" } else { &self.domain };
        write!(f, "`{}` ({} of {domain} {}): {}", self.name, self.op_type, self.version, self.reason)?;
        match self.hint.is_empty() {
            true => Ok(()),
            false => write!(f, "; {}", self.hint),
        }
    }
}

/// A node that is not valid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidNode {
    /// The node's name in the model, or of its first output where it has none.
    pub name: String,
    pub op_type: String,
    pub problem: Problem,
}

impl fmt::Display for InvalidNode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` ({}): {}", self.name, self.op_type, self.problem)
    }
}

/// What is wrong with an [`InvalidNode`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Problem {
    #[error("input `{value}` is not defined anywhere")]
    UndefinedInput { value: String },
    #[error("function `{function}` calls itself")]
    RecursiveFunction { function: String },
    #[error("attribute `{attribute}` {problem}")]
    Attribute { attribute: String, problem: String },
    #[error("input {index} is missing")]
    MissingInput { index: usize },
    #[error("takes {expected} as input {index}; found {found}")]
    InputType { index: usize, expected: String, found: DType },
    #[error("{0}")]
    Shape(#[from] ired_graph::ShapeError),
    #[error("{0}")]
    Other(String),
}

fn count(n: usize, what: &str) -> String {
    format!("{n} {what}{}", if n == 1 { "" } else { "s" })
}

fn count_are(n: usize, what: &str) -> String {
    format!("{} {}", count(n, what), if n == 1 { "is" } else { "are" })
}

fn list(items: &[impl fmt::Display]) -> String {
    items.iter().map(|item| format!("\n  {item}")).collect()
}
