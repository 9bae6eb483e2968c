//! What must hold of a graph: it verifies, its text reads back, it runs with the types it claims, and passes keep what
//! it computes. The reference interpreter is the judge.

#[cfg(feature = "passes")]
mod passes;

use ired_frontends::onnx::proto::ModelProto;
use ired_frontends::{MemorySource, import};
use ired_graph::{DType, Graph, InterpretError, Limits, Tensor, interpret_strings, parse, verify};
use ired_host::StringTable;
use prost::Message;

#[cfg(feature = "passes")]
use self::passes::judge_passes;
use crate::inputs::{Fill, inputs_for, stored_inputs};

/// Small, so that no operation of a run takes long.
const LIMITS: Limits = Limits { live_bytes: 256 << 10, iterations: 256 };

/// Imports a model, and judges it if it is accepted: on the values it brings for its inputs, and on made ones.
///
/// # Panics
/// When anything does not hold.
pub fn judge_model(model: &ModelProto) {
    let Ok(graph) = import(&MemorySource::new("model.onnx", model.encode_to_vec().into())) else { return };
    judge_text(&graph);
    let mut runs = Vec::new();
    for fill in [None].into_iter().chain(Fill::ALL.map(Some)) {
        let mut strings = graph.call_strings();
        let inputs = match fill {
            None => stored_inputs(model, &graph, &mut strings),
            Some(fill) => inputs_for(&graph, &mut strings, fill),
        };
        runs.extend(inputs.and_then(|inputs| Run::of(&graph, inputs, strings)));
    }
    judge_passes(&graph, runs);
}

/// As [`judge_model`] for a graph that no importer made.
///
/// # Panics
/// When anything does not hold.
pub fn judge_graph(graph: &Graph) {
    judge_text(graph);
    let run = |fill| {
        let mut strings = graph.call_strings();
        Run::of(graph, inputs_for(graph, &mut strings, fill)?, strings)
    };
    judge_passes(graph, Fill::ALL.into_iter().filter_map(run).collect());
}

/// The graph verifies, and so does what its text reads back to.
fn judge_text(graph: &Graph) {
    let text = graph.to_string();
    if let Err(errors) = verify(graph) {
        panic!("an imported graph does not verify: {errors:?}\n{text}");
    }
    // The data of large weights is not part of the text.
    if graph.params.iter().all(|param| param.data.len() <= 256) {
        match parse(&text) {
            Ok(read) => assert_eq!(read.to_string(), text, "the text of a graph reads back to another"),
            Err(error) => panic!("the text of a graph does not read back: {error}\n{text}"),
        }
    }
}

/// What a graph gives on some inputs.
struct Run {
    inputs: Vec<Tensor>,
    /// What the elements of string inputs are handles of.
    strings: StringTable,
    expected: Vec<Value>,
}

/// A tensor, and the texts of its elements if these are strings: handles depend on what ran before.
type Value = (Tensor, Vec<Vec<u8>>);

impl Run {
    /// `None` when the inputs do not suit the graph: sizes that disagree, an index out of range, too much memory.
    fn of(graph: &Graph, inputs: Vec<Tensor>, strings: StringTable) -> Option<Self> {
        match run(graph, &inputs, &strings) {
            Ok(expected) => Some(Self { inputs, strings, expected }),
            Err(error @ (InterpretError::ResultType { .. } | InterpretError::Undefined(_))) => {
                panic!("{error}\n{graph}")
            }
            Err(_) => None,
        }
    }
}

fn run(graph: &Graph, inputs: &[Tensor], strings: &StringTable) -> Result<Vec<Value>, InterpretError> {
    let mut strings = strings.clone();
    let outputs = interpret_strings(graph, inputs, LIMITS, &mut strings)?;
    let texts = |tensor: &Tensor| match tensor.dtype() {
        DType::String => {
            let text = |handle| strings.get(handle).expect("a string is in the table").to_vec();
            tensor.to_handles().into_iter().map(text).collect()
        }
        _ => Vec::new(),
    };
    Ok(outputs.into_iter().map(|tensor| (tensor.clone(), texts(&tensor))).collect())
}

/// Without the compiler there are none.
#[cfg(not(feature = "passes"))]
fn judge_passes(_: &Graph, _: Vec<Run>) {}
