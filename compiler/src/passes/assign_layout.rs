//! Puts channels last: convolutions and pools read and write `[n, spatial.., c]`, and the transposes this takes
//! sink through what follows until they meet the next one and cancel, or the network ends.

use ired_graph::{Dim, Graph, NodeId, Op, ValueId};

use super::PassError;
use super::axes::matching_axes;
use super::rewrite::{Rewriter, Rewritten, rewrite};

pub(super) fn assign_layout(graph: &mut Graph) -> Result<(), PassError> {
    rewrite(graph, &mut |rw, id| {
        if let Some(values) = channels_last(rw, id)? {
            return Ok(Some(values));
        }
        if let Some(values) = join_transposes(rw, id)? {
            return Ok(Some(values));
        }
        if let Some(values) = sink_through_reshape(rw, id)? {
            return Ok(Some(values));
        }
        sink_transpose(rw, id)
    })?;
    Ok(())
}

fn channels_last(rw: &mut Rewriter<'_>, id: NodeId) -> Rewritten {
    let node = rw.node(id);
    let op = match &node.op {
        Op::Conv { window, groups, channels_last: false } => {
            Op::Conv { window: window.clone(), groups: *groups, channels_last: true }
        }
        Op::Pool { function, window, include_pad, channels_last: false } => Op::Pool {
            function: *function,
            window: window.clone(),
            include_pad: *include_pad,
            channels_last: true,
        },
        _ => return Ok(None),
    };
    let mut operands = node.operands.clone();
    let rank = rw.ty(operands[0]).rank();
    let to_last: Vec<usize> = std::iter::once(0).chain(2..rank).chain([1]).collect();
    operands[0] = transposed(rw, operands[0], &to_last)?;
    let result = rw.add(op, &operands)?;
    Ok(Some(vec![rw.transpose(result, inverse(&to_last))?]))
}

fn inverse(perm: &[usize]) -> Vec<usize> {
    let mut inverse = vec![0; perm.len()];
    for (i, &p) in perm.iter().enumerate() {
        inverse[p] = i;
    }
    inverse
}

/// `value` transposed, cancelling the transpose that made it.
fn transposed(rw: &mut Rewriter<'_>, value: ValueId, perm: &[usize]) -> Result<ValueId, PassError> {
    if let Some((Op::Transpose { perm: inner }, &[source])) = rw.op(value) {
        let perm = perm.iter().map(|&p| inner[p]).collect();
        return rw.transpose(source, perm);
    }
    rw.transpose(value, perm.to_vec())
}

/// One transpose in place of two, so that what follows sinks both.
fn join_transposes(rw: &mut Rewriter<'_>, id: NodeId) -> Rewritten {
    let node = rw.node(id);
    let (Op::Transpose { perm }, &[operand]) = (&node.op, node.operands.as_slice()) else { return Ok(None) };
    let perm = perm.clone();
    match rw.op(operand) {
        Some((Op::Transpose { .. }, _)) => Ok(Some(vec![transposed(rw, operand, &perm)?])),
        _ => Ok(None),
    }
}

/// The perm of the first operand that is a transpose.
fn transpose_above(rw: &Rewriter<'_>, operands: &[ValueId]) -> Option<Vec<usize>> {
    operands.iter().find_map(|&operand| match rw.op(operand) {
        Some((Op::Transpose { perm }, _)) => Some(perm.clone()),
        _ => None,
    })
}

/// `f(transpose(x), ..)` becomes `transpose(f(x, ..))` where every other operand follows for free.
fn sink_transpose(rw: &mut Rewriter<'_>, id: NodeId) -> Rewritten {
    let node = rw.node(id);
    let (op, operands) = (node.op.clone(), node.operands.clone());
    let Some(perm) = transpose_above(rw, &operands) else { return Ok(None) };
    // Operands before this one move with the transpose; those after it (a fill value) do not.
    let (op, moving, after) = match op {
        op if op.is_elementwise() => (op, operands.len(), perm.clone()),
        Op::Concat { axis } => (Op::Concat { axis: perm[axis] }, operands.len(), perm.clone()),
        Op::Softmax { axis, log } => (Op::Softmax { axis: perm[axis], log }, 1, perm.clone()),
        Op::Pad { low, high, mode } => {
            let (low, high) = (unpermute(&low, &perm), unpermute(&high, &perm));
            (Op::Pad { low, high, mode }, 1, perm.clone())
        }
        Op::Slice { start, size, stride } => {
            let (start, size) = (unpermute(&start, &perm), unpermute(&size, &perm));
            (Op::Slice { start, size, stride: unpermute(&stride, &perm) }, 1, perm.clone())
        }
        Op::Broadcast { shape } if shape.len() == perm.len() => {
            (Op::Broadcast { shape: unpermute(&shape, &perm) }, 1, perm.clone())
        }
        Op::Reduce { function, axes } => {
            let mut source_axes: Vec<usize> = axes.iter().map(|&a| perm[a]).collect();
            source_axes.sort_unstable();
            let after = without(&perm, &source_axes);
            (Op::Reduce { function, axes: source_axes }, 1, after)
        }
        Op::ArgReduce { function, axis, last_on_tie } => {
            let after = without(&perm, &[perm[axis]]);
            (Op::ArgReduce { function, axis: perm[axis], last_on_tie }, 1, after)
        }
        _ => return Ok(None),
    };
    let back = inverse(&perm);
    let mut moved = Vec::with_capacity(operands.len());
    for (i, &operand) in operands.iter().enumerate() {
        moved.push(if i >= moving {
            operand
        } else {
            match follow(rw, operand, &perm, &back)? {
                Some(value) => value,
                None => return Ok(None),
            }
        });
    }
    let value = rw.add(op, &moved)?;
    Ok(Some(vec![rw.transpose(value, after)?]))
}

/// `reshape(transpose(x))` becomes `transpose(reshape(transpose(x)))`, the first of which only brings together what the
/// reshape merges, and leaves the axes that end in the last one of `x` last: most often it is none at all.
fn sink_through_reshape(rw: &mut Rewriter<'_>, id: NodeId) -> Rewritten {
    let node = rw.node(id);
    let (Op::Reshape { shape }, &[operand]) = (&node.op, node.operands.as_slice()) else { return Ok(None) };
    let shape = shape.clone();
    let Some((Op::Transpose { perm }, &[source])) = rw.op(operand) else { return Ok(None) };
    let perm = perm.clone();
    let Some(groups) = matching_axes(rw.shape(operand), &shape) else { return Ok(None) };
    let mut order: Vec<usize> = (0..groups.len()).collect();
    order.sort_by_key(|&group| perm[groups[group].0.end - 1]);
    if order.is_sorted() {
        return Ok(None);
    }
    let gathered = order.iter().flat_map(|&group| perm[groups[group].0.clone()].iter().copied()).collect();
    let axes: Vec<usize> = order.iter().flat_map(|&group| groups[group].1.clone()).collect();
    let gathered = rw.transpose(source, gathered)?;
    let reshaped = rw.reshape(gathered, axes.iter().map(|&axis| shape[axis].clone()).collect())?;
    Ok(Some(vec![rw.transpose(reshaped, inverse(&axes))?]))
}

/// Entry `i` of the transposed axes belongs to source axis `perm[i]`.
fn unpermute<T: Clone>(entries: &[T], perm: &[usize]) -> Vec<T> {
    inverse(perm).iter().map(|&i| entries[i].clone()).collect()
}

/// `perm` once the source axes in `removed` are gone.
fn without(perm: &[usize], removed: &[usize]) -> Vec<usize> {
    perm.iter()
        .filter(|p| !removed.contains(p))
        .map(|&p| p - removed.iter().filter(|&&r| r < p).count())
        .collect()
}

/// `operand` with the transpose undone, if that costs nothing.
fn follow(
    rw: &mut Rewriter<'_>,
    operand: ValueId,
    perm: &[usize],
    back: &[usize],
) -> Result<Option<ValueId>, PassError> {
    match rw.op(operand) {
        Some((Op::Transpose { perm: own }, &[source])) if own == perm => Ok(Some(source)),
        Some((Op::Broadcast { shape }, &[source])) => {
            let shape: Vec<Dim> = back.iter().map(|&p| shape[p].clone()).collect();
            if rw.ty(source).rank() == 0 {
                return rw.broadcast(source, shape).map(Some);
            }
            let ones = shape.len() - rw.ty(source).rank();
            let full =
                std::iter::repeat_n(Dim::constant(1), ones).chain(rw.shape(source).iter().cloned()).collect();
            let full = rw.reshape(source, full)?;
            let turned = follow_or_transpose(rw, full, back)?;
            rw.broadcast(turned, shape).map(Some)
        }
        Some((Op::Constant(_), _)) => rw.transpose(operand, back.to_vec()).map(Some),
        _ => Ok(None),
    }
}

/// Small operands of broadcasts are transposed outright; most often only ones change places.
fn follow_or_transpose(rw: &mut Rewriter<'_>, value: ValueId, back: &[usize]) -> Result<ValueId, PassError> {
    let one = Dim::constant(1);
    let kept: Vec<usize> = back.iter().copied().filter(|&p| rw.shape(value)[p] != one).collect();
    if kept.is_sorted() {
        let shape = back.iter().map(|&p| rw.shape(value)[p].clone()).collect();
        return rw.reshape(value, shape);
    }
    transposed(rw, value, back)
}
