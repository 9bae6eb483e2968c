//! Rounds the operands of products and convolutions with constant weights to bf16, where a user prefers speed.
//!
//! Sums stay in f32. The operands are written as what they are, bf16 seen as f32, so that the graph says what is computed;
//! weights are stored as bf16.

use ired_graph::{DType, Dim, Graph, NodeId, Op, Tensor, ValueId};

use super::PassError;
use super::form_dispatches::is_root;
use super::rewrite::{Rewriter, Rewritten, rewrite};

/// Shorter sums are not worth rounding for.
const LEAST_TERMS: u64 = 16;

pub(super) fn narrow_products(graph: &mut Graph) -> Result<(), PassError> {
    rewrite(graph, &mut narrow)?;
    Ok(())
}

fn narrow(rw: &mut Rewriter<'_>, id: NodeId) -> Rewritten {
    let node = rw.node(id);
    let (op, operands) = (node.op.clone(), node.operands.clone());
    if !matches!(op, Op::MatMul | Op::Conv { .. }) {
        return Ok(None);
    }
    let &[x, weights] = operands.as_slice() else { return Ok(None) };
    if rw.ty(x).dtype != DType::F32 {
        return Ok(None);
    }
    let (source, stretched) = match rw.op(weights) {
        Some((Op::Broadcast { shape }, &[source])) => (source, Some(shape.clone())),
        _ => (weights, None),
    };
    let Some(tensor) = rw.tensor(source) else { return Ok(None) };
    let is_made_here = producer_of_moved(rw, x).is_some_and(|op| is_root(op) || op.is_elementwise());
    if is_depthwise(&op, &tensor) && is_made_here {
        // Its few products take less time than its input takes to come from memory.
        let x = round_moved(rw, x)?;
        return Ok(Some(vec![rw.add(op, &[x, weights])?]));
    }
    if terms(&op, &tensor) < LEAST_TERMS {
        return Ok(None);
    }
    let x = if is_made_here { round_moved(rw, x)? } else { round(rw, x)? };
    let weights = rounded_weights(rw, &tensor, stretched)?;
    Ok(Some(vec![rw.add(op, &[x, weights])?]))
}

fn is_depthwise(op: &Op, weights: &Tensor) -> bool {
    matches!(op, Op::Conv { groups, channels_last: true, .. } if *groups > 1 && weights.shape()[..2] == [*groups, 1])
}

/// Products that are summed into an element.
fn terms(op: &Op, weights: &Tensor) -> u64 {
    let shape = weights.shape();
    match op {
        Op::MatMul => shape.iter().rev().nth(1).copied().unwrap_or(0),
        _ => shape.get(1).copied().unwrap_or(0),
    }
}

/// What makes the elements that `value` has in other places.
fn producer_of_moved<'r>(rw: &'r Rewriter<'_>, value: ValueId) -> Option<&'r Op> {
    match rw.op(value)? {
        (Op::Reshape { .. } | Op::Transpose { .. }, &[source]) => producer_of_moved(rw, source),
        (op, _) => Some(op),
    }
}

/// [`round`], where its elements are made: that stores bf16, and moves them as such.
pub(super) fn round_moved(rw: &mut Rewriter<'_>, value: ValueId) -> Result<ValueId, PassError> {
    let mut moves = Vec::new();
    let mut source = value;
    while let Some((op, &[operand])) = rw.op(source) {
        // Readers of the f32 would have it moved twice. A reshape moves nothing.
        let moves_once = matches!(op, Op::Transpose { .. } | Op::Broadcast { .. }) && rw.uses(source) <= 1;
        if !moves_once && !matches!(op, Op::Reshape { .. }) {
            break;
        }
        moves.push(op.clone());
        source = operand;
    }
    let narrow = rw.add(Op::Cast(DType::BF16), &[source])?;
    let moved = moves.into_iter().rev().try_fold(narrow, |value, op| rw.add(op, &[value]))?;
    rw.add(Op::Cast(DType::F32), &[moved])
}

/// `value` as the nearest bf16 numbers.
pub(super) fn round(rw: &mut Rewriter<'_>, value: ValueId) -> Result<ValueId, PassError> {
    let narrow = rw.add(Op::Cast(DType::BF16), &[value])?;
    rw.add(Op::Cast(DType::F32), &[narrow])
}

fn rounded_weights(
    rw: &mut Rewriter<'_>,
    tensor: &Tensor,
    stretched: Option<Vec<Dim>>,
) -> Result<ValueId, PassError> {
    let narrow = rw.add_param("rounded", to_bf16(tensor))?;
    let wide = rw.add(Op::Cast(DType::F32), &[narrow])?;
    match stretched {
        Some(shape) => rw.add(Op::Broadcast { shape }, &[wide]),
        None => Ok(wide),
    }
}

fn to_bf16(tensor: &Tensor) -> Tensor {
    let words = tensor.data().chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]));
    let data: Vec<u8> = words.flat_map(|x| half::bf16::from_f32(x).to_le_bytes()).collect();
    Tensor::new(DType::BF16, tensor.shape().to_vec(), data.into()).expect("two bytes an element")
}
