//! The little of ONNX models that this side of the wire reads: the names of the files that one keeps weights in, and
//! its inputs.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context, Result};
use bytes::Bytes;
use prost::Message;

/// The fields of an ONNX model that say which other files it needs.
#[derive(Clone, PartialEq, Message)]
struct ModelFiles {
    #[prost(message, optional, tag = "7")]
    graph: Option<GraphFiles>,
}

#[derive(Clone, PartialEq, Message)]
struct GraphFiles {
    #[prost(message, repeated, tag = "1")]
    node: Vec<NodeFiles>,
    #[prost(message, repeated, tag = "5")]
    initializer: Vec<TensorFile>,
}

#[derive(Clone, PartialEq, Message)]
struct NodeFiles {
    #[prost(message, repeated, tag = "5")]
    attribute: Vec<AttributeFiles>,
}

#[derive(Clone, PartialEq, Message)]
struct AttributeFiles {
    #[prost(message, optional, tag = "5")]
    t: Option<TensorFile>,
    #[prost(message, optional, tag = "6")]
    g: Option<GraphFiles>,
}

#[derive(Clone, PartialEq, Message)]
struct TensorFile {
    #[prost(message, repeated, tag = "13")]
    external_data: Vec<Entry>,
    /// 1 is external.
    #[prost(int32, tag = "14")]
    data_location: i32,
}

#[derive(Clone, PartialEq, Message)]
struct Entry {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(string, tag = "2")]
    value: String,
}

/// The fields of an ONNX model that say what its inputs are.
#[derive(Clone, PartialEq, Message)]
struct ModelInputs {
    #[prost(message, optional, tag = "7")]
    graph: Option<GraphInputs>,
}

#[derive(Clone, PartialEq, Message)]
struct GraphInputs {
    #[prost(message, repeated, tag = "5")]
    initializer: Vec<TensorName>,
    #[prost(message, repeated, tag = "11")]
    input: Vec<Input>,
}

#[derive(Clone, PartialEq, Message)]
struct TensorName {
    #[prost(string, tag = "8")]
    name: String,
}

#[derive(Clone, PartialEq, Message)]
struct Input {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "2")]
    ty: Option<InputType>,
}

#[derive(Clone, PartialEq, Message)]
struct InputType {
    #[prost(message, optional, tag = "1")]
    tensor: Option<InputTensor>,
}

#[derive(Clone, PartialEq, Message)]
struct InputTensor {
    #[prost(message, optional, tag = "2")]
    shape: Option<InputShape>,
}

#[derive(Clone, PartialEq, Message)]
struct InputShape {}

/// Those inputs of an ONNX model that are tensors whose rank it does not say: number and name.
///
/// A file that is no model has none: the compiler says what is wrong with it.
pub(crate) fn inputs_of_unknown_rank(model: &Path) -> Result<Vec<(usize, String)>> {
    let bytes = std::fs::read(model).with_context(|| format!("cannot read `{}`", model.display()))?;
    let graph = ModelInputs::decode(Bytes::from(bytes)).unwrap_or_default().graph.unwrap_or_default();
    let weights: BTreeSet<&str> = graph.initializer.iter().map(|tensor| tensor.name.as_str()).collect();
    let inputs = graph.input.iter().filter(|input| !weights.contains(input.name.as_str()));
    let is_open = |input: &Input| {
        let tensor = input.ty.as_ref().and_then(|ty| ty.tensor.as_ref());
        tensor.is_some_and(|tensor| tensor.shape.is_none())
    };
    let open = inputs.enumerate().filter(|(_, input)| is_open(input));
    Ok(open.map(|(number, input)| (number, input.name.clone())).collect())
}

/// The files that an ONNX model keeps weights in, as it names them, each once and sorted.
///
/// A file that is no model names none: the daemon says what is wrong with it.
pub(crate) fn external_files(model: &Path) -> Result<Vec<String>> {
    let bytes = std::fs::read(model).context("cannot read it")?;
    let model = ModelFiles::decode(Bytes::from(bytes)).unwrap_or_default();
    let mut files = BTreeSet::new();
    if let Some(graph) = &model.graph {
        collect_files(graph, &mut files);
    }
    Ok(files.into_iter().collect())
}

fn collect_files(graph: &GraphFiles, files: &mut BTreeSet<String>) {
    let attributes = || graph.node.iter().flat_map(|node| &node.attribute);
    let tensors = graph.initializer.iter().chain(attributes().filter_map(|a| a.t.as_ref()));
    for tensor in tensors.filter(|t| t.data_location == 1) {
        let location = tensor.external_data.iter().find(|entry| entry.key == "location");
        files.extend(location.map(|entry| entry.value.clone()));
    }
    for inner in attributes().filter_map(|a| a.g.as_ref()) {
        collect_files(inner, files);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inputs_without_a_shape_are_found_by_their_number() {
        let input = |name: &str, shape: Option<InputShape>| Input {
            name: name.to_owned(),
            ty: Some(InputType { tensor: Some(InputTensor { shape }) }),
        };
        let graph = GraphInputs {
            initializer: vec![TensorName { name: "weight".to_owned() }],
            input: vec![
                input("weight", None),
                input("known", Some(InputShape {})),
                Input { name: "sequence".to_owned(), ty: Some(InputType { tensor: None }) },
                input("open", None),
            ],
        };
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), ModelInputs { graph: Some(graph) }.encode_to_vec()).unwrap();
        assert_eq!(inputs_of_unknown_rank(file.path()).unwrap(), [(2, "open".to_owned())]);
        std::fs::write(file.path(), b"\xff no model").unwrap();
        assert_eq!(inputs_of_unknown_rank(file.path()).unwrap(), []);
    }
}
