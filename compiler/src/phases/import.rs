//! The input phase: a frontend's errors as diagnostics, one a node.

use ired_frontends::{ImportError, ImportErrorKind, ModelSource, SourceError};
use ired_graph::{DType, Graph, Op};

use crate::errors::{CompileError, Diagnostic, DiagnosticKind, chain};

pub(super) fn import(source: &dyn ModelSource) -> Result<Graph, CompileError> {
    let graph =
        ired_frontends::import(source).map_err(|error| CompileError { diagnostics: diagnostics(&error) })?;
    refuse_host_functions(&graph)?;
    Ok(graph)
}

/// What the interpreter runs and modules do not hold yet.
fn refuse_host_functions(graph: &Graph) -> Result<(), CompileError> {
    let strings = graph.values.iter().any(|value| value.ty.dtype == DType::String);
    if strings || graph.nodes.iter().any(|node| matches!(node.op, Op::Host { .. })) {
        let message = "strings and host functions are not compiled";
        return Err(Diagnostic::new(DiagnosticKind::Unsupported, message).into());
    }
    Ok(())
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
