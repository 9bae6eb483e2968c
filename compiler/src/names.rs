//! What callers call the inputs and outputs of a model.

use ired_graph::{Graph, ValueId};

/// Names of the model's inputs and outputs, taken before passes merge and replace values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EntryNames {
    pub(crate) inputs: Vec<String>,
    pub(crate) outputs: Vec<String>,
}

impl EntryNames {
    pub(crate) fn of(graph: &Graph) -> Self {
        Self {
            inputs: unique(graph, graph.inputs(), "input"),
            outputs: unique(graph, graph.outputs(), "output"),
        }
    }
}

/// Values without a name are numbered; a name that is taken gets a number too.
fn unique(graph: &Graph, values: &[ValueId], kind: &str) -> Vec<String> {
    let mut names: Vec<String> = Vec::with_capacity(values.len());
    for (i, value) in values.iter().enumerate() {
        let given = graph.value(*value).name.clone().filter(|n| !n.is_empty());
        let mut name = given.unwrap_or_else(|| format!("{kind}{i}"));
        while names.contains(&name) {
            name = format!("{name}.{i}");
        }
        names.push(name);
    }
    names
}
