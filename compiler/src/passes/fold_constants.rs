//! Computes at compile time what depends on nothing but literals, weights and sizes.
//!
//! Shape arithmetic becomes literals and symbolic dimensions; arithmetic on weights becomes new weights, as long
//! as they stay about as large as the old ones.

use ired_graph::{Graph, NodeId, Op, ops};

use super::rewrite::{Rewriter, Rewritten, rewrite};
use super::{MAX_FOLDED_BYTES, PassError};

/// All new weights of one run together.
const MAX_TOTAL_BYTES: u64 = 4 * MAX_FOLDED_BYTES;

/// Results up to this size are worth storing however small their operands are.
const ALWAYS_FOLDED_BYTES: u64 = 64 << 10;

/// Smaller results are literals, which kernels hold in their code.
const MAX_LITERAL_BYTES: usize = 64;

pub(super) fn fold_constants(graph: &mut Graph) -> Result<(), PassError> {
    let mut budget = MAX_TOTAL_BYTES;
    rewrite(graph, &mut |rw, id| {
        if let Some(folded) = ops::fold(rw.graph, id) {
            let op = folded.into_op();
            return Ok(Some(vec![rw.add(op, &[])?]));
        }
        fold_weights(rw, id, &mut budget)
    })?;
    Ok(())
}

fn fold_weights(rw: &mut Rewriter<'_>, id: NodeId, budget: &mut u64) -> Rewritten {
    let node = rw.node(id);
    let stays = matches!(
        node.op,
        Op::Constant(_)
            | Op::Param(_)
            | Op::Dims { .. }
            | Op::Iota { .. }
            | Op::Broadcast { .. }
            | Op::If
            | Op::While
    );
    if stays || node.operands.is_empty() {
        return Ok(None);
    }
    let mut operand_bytes: u64 = 0;
    for &operand in &node.operands {
        let Some(tensor) = rw.tensor(operand) else { return Ok(None) };
        operand_bytes = operand_bytes.saturating_add(tensor.data().len() as u64);
    }
    let ty = rw.ty(node.results[0]);
    let elements = ty.static_shape().and_then(|shape| ired_graph::tensor::element_count(&shape));
    let Some(bytes) = elements.and_then(|n| ty.dtype.bytes(n)) else { return Ok(None) };
    let worth = operand_bytes.saturating_mul(2).clamp(ALWAYS_FOLDED_BYTES, MAX_FOLDED_BYTES);
    let limit = worth.min(*budget);
    if bytes > limit {
        return Ok(None);
    }
    let Some(tensor) = ops::evaluate(rw.graph, id, limit) else { return Ok(None) };
    *budget -= bytes;
    if tensor.data().len() <= MAX_LITERAL_BYTES {
        return Ok(Some(vec![rw.add_constant(tensor)?]));
    }
    Ok(Some(vec![rw.add_param("folded", tensor)?]))
}
