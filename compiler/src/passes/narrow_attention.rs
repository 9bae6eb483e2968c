//! Rounds the operands of attention to bf16, where a user prefers speed and the machine's tiles then multiply them.
//!
//! Scores, their softmax and the result stay in f32. Keys and values that a model keeps from call to call stay as they
//! are: rounding them anew each time would take longer than it saves.

use std::collections::HashMap;

use ired_graph::{DType, Graph, NodeId, Op, ValueId};

use super::PassError;
use super::form_dispatches::attention_products;
use super::narrow_products::{round, round_moved};
use super::rewrite::{Rewriter, Rewritten, rewrite};
use crate::kernels::fills_tiles;

pub(super) fn narrow_attention(graph: &mut Graph) -> Result<(), PassError> {
    let pairs = attention_products(graph).into_iter().filter(|pair| pays(graph, *pair));
    // Whether the left operand is the softmax.
    let products: HashMap<NodeId, bool> =
        pairs.flat_map(|[first, second]| [(first, false), (second, true)]).collect();
    rewrite(graph, &mut |rw, id| match products.get(&id) {
        Some(is_second) => narrow(rw, id, *is_second),
        None => Ok(None),
    })?;
    Ok(())
}

fn narrow(rw: &mut Rewriter<'_>, id: NodeId, is_second: bool) -> Rewritten {
    let &[left, right] = rw.node(id).operands.as_slice() else { return Ok(None) };
    let left = if is_second { round(rw, left)? } else { round_moved(rw, left)? };
    let right = round_moved(rw, right)?;
    Ok(Some(vec![rw.add(Op::MatMul, &[left, right])?]))
}

fn pays(graph: &Graph, [first, second]: [NodeId; 2]) -> bool {
    let [first, second] = [first, second].map(|id| &graph.node(id).operands);
    let (queries, keys, values) = (first[0], first[1], second[1]);
    let (rows, depth) = (&graph.ty(queries).shape, graph.ty(queries).shape.last());
    let (Some(depth), Some(width)) = (depth, graph.ty(values).shape.last()) else { return false };
    let size = |dim: &ired_graph::Dim| dim.as_static().and_then(|size| usize::try_from(size).ok());
    let (Some(depth), Some(width)) = (size(depth), size(width)) else { return false };
    let is_f32 = |value: ValueId| graph.ty(value).dtype == DType::F32;
    [queries, keys, values].into_iter().all(is_f32)
        && fills_tiles(&rows[rows.len() - 2], depth, width)
        && ![keys, values].into_iter().any(|value| is_kept(graph, value))
}

/// Whether what is read comes from outside, alone or with something new in its place or at its end.
fn is_kept(graph: &Graph, value: ValueId) -> bool {
    let Some(node) = graph.producer(value).map(|id| graph.node(id)) else { return true };
    match &node.op {
        Op::Reshape { .. } | Op::Transpose { .. } | Op::Broadcast { .. } | Op::Slice { .. } => {
            is_kept(graph, node.operands[0])
        }
        Op::Concat { .. } | Op::ScatterNd { .. } => {
            node.operands.iter().any(|operand| is_kept(graph, *operand))
        }
        _ => false,
    }
}
