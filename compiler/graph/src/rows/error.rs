//! Why the rows of a model are not known to be independent, in words.

use crate::{Graph, NodeId, ValueId};

/// Why a model's rows are not known to be independent.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DependentRows {
    #[error("it has no inputs")]
    NoInputs,
    #[error("input `{input}` is {found}, which does not begin with a size that each call chooses")]
    Input { input: String, found: String },
    #[error("input `{input}` has the batch `{batch}` elsewhere than first")]
    Elsewhere { input: String, batch: String },
    #[error("output `{output}` is {found}, which does not begin with the batch")]
    Output { output: String, found: String },
    #[error("output `{output}` has the places of rows in the batch")]
    Places { output: String },
    #[error("rows of output `{output}` depend on each other: {meeting}")]
    Meet { output: String, meeting: String },
}

/// Where rows meet first on the way to a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Meeting {
    pub node: NodeId,
    pub why: Why,
}

/// What a node does so that its result is not a part for each row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// It reduces, sorts, slices or reads along the axis of the rows.
    Along,
    /// Its operands have rows in different places, or its result has them where they cannot be told apart.
    Together,
    /// It computes with the number of rows.
    Count,
    /// It computes with the places that rows have in the batch.
    Place,
    /// Rows decide a size.
    Size,
    /// Rows decide what is done for all of them.
    Decision,
    /// Nothing is known of it.
    Unknown,
}

impl Meeting {
    /// The node and what it does: `/norm/ReduceMean (ReduceMean) works along the rows`.
    pub fn describe(&self, graph: &Graph) -> String {
        let node = graph.node(self.node);
        let name = match &node.origin {
            Some(origin) => format!("`{}` ({})", origin.name, origin.op),
            None => match node.results.first() {
                Some(result) => format!("{} ({})", value_name(graph, *result), node.op.name()),
                None => node.op.name().to_owned(),
            },
        };
        format!("{name} {}", self.why.text())
    }
}

impl Why {
    const fn text(self) -> &'static str {
        match self {
            Self::Along => "works along the rows",
            Self::Together => "brings different rows together",
            Self::Count => "depends on how many rows there are",
            Self::Place => "depends on the places of rows in the batch",
            Self::Size => "has a size that rows decide",
            Self::Decision => "does for all rows what some decide",
            Self::Unknown => "is not known to treat each row alone",
        }
    }
}

/// What people call a value.
pub(super) fn value_name(graph: &Graph, value: ValueId) -> String {
    graph.value(value).name.clone().unwrap_or_else(|| format!("%{}", value.0))
}
