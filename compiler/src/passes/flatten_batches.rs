//! Gives products with a weight their two-dimensional form, `[.., m, k] · [k, n]` as one `[m', k] · [k, n]`, and
//! sinks the reshapes that this leaves below elementwise and normalising nodes, so that these stay next to
//! the product they can be fused into.

use ired_graph::{Dim, Graph, NodeId, Op, ValueId};

use super::PassError;
use super::rewrite::{Rewriter, Rewritten, rewrite};

pub(super) fn flatten_batches(graph: &mut Graph) -> Result<(), PassError> {
    rewrite(graph, &mut |rw, id| {
        if let Some(values) = flatten_product(rw, id)? {
            return Ok(Some(values));
        }
        sink_unflatten(rw, id)
    })?;
    Ok(())
}

/// `[batch.., m, k] · broadcast([k, n])` becomes a product of matrices.
fn flatten_product(rw: &mut Rewriter<'_>, id: NodeId) -> Rewritten {
    let node = rw.node(id);
    let (Op::MatMul, &[lhs, rhs]) = (&node.op, node.operands.as_slice()) else { return Ok(None) };
    let result = node.results[0];
    if rw.ty(lhs).rank() < 3 {
        return Ok(None);
    }
    let Some((Op::Broadcast { .. }, &[matrix])) = rw.op(rhs) else { return Ok(None) };
    if rw.ty(matrix).rank() != 2 {
        return Ok(None);
    }
    let shape = rw.shape(lhs).to_vec();
    let k = shape[shape.len() - 1].clone();
    if rw.shape(matrix)[0] != k || rw.shape(matrix)[1] != rw.shape(rhs)[rw.ty(rhs).rank() - 1] {
        return Ok(None);
    }
    let flat = rw.reshape(lhs, vec![product(&shape[..shape.len() - 1]), k])?;
    let flat = rw.add(Op::MatMul, &[flat, matrix])?;
    let shape = rw.shape(result).to_vec();
    Ok(Some(vec![rw.reshape(flat, shape)?]))
}

fn product(dims: &[Dim]) -> Dim {
    dims.iter().cloned().fold(Dim::constant(1), |a, b| a * b)
}

/// The value before a reshape that only splits the first axis: `[p, rest..]` to `[p1, p2.., rest..]`.
fn unflattened(rw: &Rewriter<'_>, value: ValueId) -> Option<ValueId> {
    let Some((Op::Reshape { shape }, &[source])) = rw.op(value) else { return None };
    let flat = rw.shape(source);
    let rest = flat.len().checked_sub(1)?;
    let leading = shape.len().checked_sub(rest)?;
    (leading > 1 && rest > 0 && shape[leading..] == flat[1..]).then_some(source)
}

/// `f(unflatten(x), ..)` becomes `unflatten(f(x, ..))` where the other operands can follow at no cost.
fn sink_unflatten(rw: &mut Rewriter<'_>, id: NodeId) -> Rewritten {
    let node = rw.node(id);
    let (op, operands, result) = (node.op.clone(), node.operands.clone(), node.results.first().copied());
    let Some(source) = operands.iter().find_map(|&operand| unflattened(rw, operand)) else { return Ok(None) };
    let Some(result) = result else { return Ok(None) };
    let flat = rw.shape(source).to_vec();
    let rank = rw.ty(operands[0]).rank();
    let leading = rank.saturating_sub(flat.len() - 1);
    let op = match op {
        op if op.is_elementwise() => op,
        Op::LayerNorm { axis, epsilon } if axis >= leading => {
            Op::LayerNorm { axis: axis + 1 - leading, epsilon }
        }
        Op::Softmax { axis, log } if axis >= leading => Op::Softmax { axis: axis + 1 - leading, log },
        _ => return Ok(None),
    };
    let normalises = matches!(op, Op::LayerNorm { .. });
    let mut flattened = Vec::with_capacity(operands.len());
    for (i, &operand) in operands.iter().enumerate() {
        flattened.push(if normalises && i > 0 {
            operand
        } else {
            match flatten_operand(rw, operand, &flat, leading)? {
                Some(value) => value,
                None => return Ok(None),
            }
        });
    }
    let value = rw.add(op, &flattened)?;
    let shape = rw.shape(result).to_vec();
    Ok(Some(vec![rw.reshape(value, shape)?]))
}

/// `operand` as a tensor of shape `flat`: what it was before, the same broadcast of it, or its bytes seen anew.
fn flatten_operand(
    rw: &mut Rewriter<'_>,
    operand: ValueId,
    flat: &[Dim],
    leading: usize,
) -> Result<Option<ValueId>, PassError> {
    if let Some(source) = unflattened(rw, operand)
        && rw.shape(source) == flat
    {
        return Ok(Some(source));
    }
    if let Some((Op::Broadcast { .. }, &[source])) = rw.op(operand) {
        let follows = rw.ty(source).rank() < flat.len();
        return if follows { rw.broadcast(source, flat.to_vec()).map(Some) } else { Ok(None) };
    }
    // Anything else is dense in memory or cheap to make so; one that depends on both shapes is neither.
    let same = product(&rw.shape(operand)[..leading]) == flat[0];
    if same { rw.reshape(operand, flat.to_vec()).map(Some) } else { Ok(None) }
}
