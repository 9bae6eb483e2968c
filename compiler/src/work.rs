//! How much a dispatch computes and moves, and what of the model it is.
//!
//! A multiplication, addition, comparison or function of one element is one operation; moving data is none.

use std::collections::HashMap;

use ired_graph::{Dim, Graph, NodeId, Op, SymbolId, TensorType, ValueId, product};

use crate::dispatch::Dispatch;

/// Operations of a dispatch, as an expression of sizes.
pub(crate) fn operations(graph: &Graph, dispatch: &Dispatch) -> Dim {
    dispatch.nodes.iter().fold(Dim::constant(0), |sum, id| sum + operations_of_node(graph, *id))
}

/// Bytes that a dispatch cannot do without reading or writing, each once.
pub(crate) fn bytes(graph: &Graph, dispatch: &Dispatch) -> Dim {
    let read = dispatch.inputs.iter().map(|value| bytes_read(graph, dispatch, *value));
    let written = dispatch.outputs.iter().map(|value| bytes_of(graph.ty(*value)));
    read.chain(written).fold(Dim::constant(0), |sum, bytes| sum + bytes)
}

/// Those of them that are of parameters.
pub(crate) fn param_bytes(graph: &Graph, dispatch: &Dispatch) -> Dim {
    let is_param = |value: &&ValueId| matches!(graph.producer_op(**value), Some(Op::Param(_)));
    let read = dispatch.inputs.iter().filter(is_param).map(|value| bytes_read(graph, dispatch, *value));
    read.fold(Dim::constant(0), |sum, bytes| sum + bytes)
}

/// Symbols that are names for sizes the host knows, and these.
pub(crate) fn named_sizes(graph: &Graph) -> HashMap<SymbolId, Dim> {
    let mut named = HashMap::new();
    for node in &graph.nodes {
        let read = node.operands.first().and_then(|read| graph.producer_op(*read));
        if let (Op::ReadDims { symbols }, Some(Op::Dims { values, .. })) = (&node.op, read) {
            named.extend(symbols.iter().copied().zip(values.iter().cloned()));
        }
    }
    named
}

/// What is read of `value`: as much as is taken, where all that reads it takes a part.
fn bytes_read(graph: &Graph, dispatch: &Dispatch, value: ValueId) -> Dim {
    let whole = bytes_of(graph.ty(value));
    let mut parts = Dim::constant(0);
    for id in &dispatch.nodes {
        let node = graph.node(*id);
        for (index, _) in node.operands.iter().enumerate().filter(|(_, operand)| **operand == value) {
            let takes_part = matches!(
                (&node.op, index),
                (Op::Slice { .. } | Op::Gather { .. } | Op::GatherNd { .. } | Op::GatherElements { .. }, 0)
            );
            match node.results.first() {
                Some(result) if takes_part => parts = parts + bytes_of(graph.ty(*result)),
                _ => return whole,
            }
        }
    }
    whole.minimum(&parts)
}

/// Bytes of a tensor, as an expression.
pub(crate) fn bytes_of(ty: &TensorType) -> Dim {
    let bits = ty.elements() * Dim::constant(ty.dtype.bits() as i64);
    bits.ceil_div(&Dim::constant(8))
}

/// The model's nodes that a dispatch computes, each once, the main one first; weights and constants are not worth a name.
pub(crate) fn origins(graph: &Graph, dispatch: &Dispatch) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    let computes = |id: &NodeId| !matches!(graph.node(*id).op, Op::Constant(_) | Op::Param(_));
    for id in std::iter::once(&dispatch.root).chain(&dispatch.nodes).filter(|id| computes(id)) {
        let node = graph.node(*id);
        let name = match &node.origin {
            Some(origin) if origin.name.is_empty() => origin.op.clone(),
            Some(origin) => format!("{} ({})", origin.name, origin.op),
            None => format!("({})", node.op.name()),
        };
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

fn operations_of_node(graph: &Graph, id: NodeId) -> Dim {
    let node = graph.node(id);
    let result = || node.results.first().map_or(Dim::constant(0), |v| graph.ty(*v).elements());
    let shape = |i: usize| node.operands.get(i).map_or(&[][..], |v| &graph.ty(*v).shape[..]);
    let each = |factor: i64, of: Dim| Dim::constant(factor) * of;
    match &node.op {
        Op::Unary(_) | Op::Binary(_) | Op::Compare(_) | Op::Select | Op::Cast(_) => result(),
        Op::MatMul => each(2, result() * shape(0).last().cloned().unwrap_or(Dim::constant(0))),
        // A kernel `[k, c / groups, window..]` gives each element of the result.
        Op::Conv { .. } => each(2, result() * product(shape(1).get(1..).unwrap_or(&[]))),
        Op::Pool { window, .. } => {
            let taps = window
                .extent
                .iter()
                .fold(1i64, |n, e| n.saturating_mul(i64::try_from(*e).unwrap_or(i64::MAX)));
            each(taps, result())
        }
        Op::Reduce { .. } | Op::ArgReduce { .. } | Op::Cumulative { .. } => product(shape(0)),
        // The maximum, the difference, its exponential, the sum, the quotient.
        Op::Softmax { .. } => each(5, result()),
        // Two sums, the difference, its square, the quotient; scale and bias.
        Op::LayerNorm { .. } => each(5 + node.operands.len() as i64 - 1, result()),
        _ => Dim::constant(0),
    }
}
