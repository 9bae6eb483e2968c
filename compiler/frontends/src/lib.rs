//! Readers of model formats: bytes in, [`ired_graph::Graph`] out.
//!
//! A frontend decodes a file without copying its weights, composes each of its operators from graph operations, and
//! names everything it cannot import at once. Input is hostile: no file panics, hangs or takes unbounded memory.
//! This crate knows nothing of what happens to a graph afterwards.

mod error;
pub mod onnx;
mod source;

pub use error::{ImportError, ImportErrorKind, InvalidNode, Problem, UnsupportedNode};
pub use source::{
    DirectorySource, MemorySource, ModelSource, SiblingName, SiblingNameError, SourceError, map_file,
};

use ired_graph::Graph;

/// Reads one model format.
pub trait Frontend: Sync {
    /// The format, as users know it: `ONNX`.
    fn name(&self) -> &'static str;

    /// Whether a file looks like this format, by its name and its first bytes ([`HEAD_BYTES`] of them, or the whole
    /// file if it is shorter). A guess: [`Frontend::import`] is what checks.
    fn recognises(&self, file_name: &str, head: &[u8]) -> bool;

    /// Reads the whole model, as if it said of its inputs what `shapes` does.
    ///
    /// # Errors
    /// [`ImportError`]; where many nodes are at fault, all of them are in it.
    fn import_shaped(&self, source: &dyn ModelSource, shapes: &[InputShape]) -> Result<Graph, ImportError>;

    /// Reads the whole model.
    ///
    /// # Errors
    /// As [`Frontend::import_shaped`].
    fn import(&self, source: &dyn ModelSource) -> Result<Graph, ImportError> {
        self.import_shaped(source, &[])
    }
}

/// What is known of an input's shape besides what the model says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InputShape {
    pub input: String,
    /// A size for each axis; `None` leaves it to the model, or open where that says nothing.
    pub dims: Vec<Option<u64>>,
}

/// Every input format, in the order they are tried. Adding one is adding a line.
pub const FRONTENDS: &[&dyn Frontend] = &[&onnx::Onnx];

/// How much of a file [`Frontend::recognises`] is shown.
pub const HEAD_BYTES: usize = 256;

/// Reads a model with the first frontend that recognises it.
///
/// # Errors
/// [`ImportError::Unrecognised`] when there is none, or what that frontend reports.
pub fn import(source: &dyn ModelSource) -> Result<Graph, ImportError> {
    import_shaped(source, &[])
}

/// As [`import`], with shapes stated of inputs.
///
/// # Errors
/// As [`import`].
pub fn import_shaped(source: &dyn ModelSource, shapes: &[InputShape]) -> Result<Graph, ImportError> {
    let model = source.model()?;
    let head = &model[..model.len().min(HEAD_BYTES)];
    let frontend = FRONTENDS.iter().find(|f| f.recognises(source.file_name(), head));
    let Some(frontend) = frontend else {
        let formats = FRONTENDS.iter().map(|f| f.name()).collect::<Vec<_>>().join(", ");
        return Err(ImportError::Unrecognised { file_name: source.file_name().to_owned(), formats });
    };
    frontend.import_shaped(source, shapes)
}
