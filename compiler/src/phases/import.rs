//! The input phase: a frontend's errors as diagnostics, one a node.

use ired_frontends::{ImportError, ImportErrorKind, InputShape, ModelSource, SourceError};
use ired_graph::Graph;

use crate::errors::{CompileError, Diagnostic, DiagnosticKind, chain};

pub(super) fn import(source: &dyn ModelSource, shapes: &[InputShape]) -> Result<Graph, CompileError> {
    let graph = ired_frontends::import_shaped(source, shapes);
    graph.map_err(|error| CompileError { diagnostics: diagnostics(&error) })
}

pub(super) fn source_error(error: &SourceError) -> CompileError {
    Diagnostic::new(DiagnosticKind::MissingFile, chain(error)).into()
}

fn diagnostics(error: &ImportError) -> Vec<Diagnostic> {
    match error {
        ImportError::Unsupported(nodes) => nodes
            .iter()
            .map(|node| {
                let domain = if node.domain.is_empty() { "ai.onnx" } else { &node.domain };
                let mut diagnostic = Diagnostic::new(
                    DiagnosticKind::Unsupported,
                    format!("{} of {domain} {}: {}", node.op_type, node.version, node.reason),
                )
                .at(format!("{} ({})", node.name, node.op_type));
                diagnostic.hint = (!node.hint.is_empty()).then(|| node.hint.clone());
                diagnostic
            })
            .collect(),
        ImportError::Invalid(nodes) => nodes
            .iter()
            .map(|node| {
                Diagnostic::new(DiagnosticKind::InvalidModel, node.problem.to_string())
                    .at(format!("{} ({})", node.name, node.op_type))
            })
            .collect(),
        other => {
            let kind = match other.kind() {
                ImportErrorKind::Unsupported => DiagnosticKind::Unsupported,
                ImportErrorKind::Invalid => DiagnosticKind::InvalidModel,
                ImportErrorKind::MissingFile => DiagnosticKind::MissingFile,
                ImportErrorKind::Limit => DiagnosticKind::ResourceLimit,
            };
            vec![Diagnostic::new(kind, chain(other))]
        }
    }
}
