//! Rules for nodes that move elements or change their type without computing anything.

use ired_graph::{DType, Dim, NodeId, Op, PadMode, Window};

use crate::passes::literal::{self, Number};
use crate::passes::rewrite::{Rewriter, Rewritten};

/// A cast to the same type is nothing, and a cast that loses nothing can be skipped by the next one.
pub(super) fn cast(rw: &mut Rewriter<'_>, id: NodeId) -> Rewritten {
    let node = rw.node(id);
    let (Op::Cast(to), &[x]) = (&node.op, node.operands.as_slice()) else { return Ok(None) };
    let to = *to;
    if rw.ty(x).dtype == to {
        return Ok(Some(vec![x]));
    }
    // An infinity that is cast to this type saturates, even one that was of this type before.
    if to == DType::F8E5M2 {
        return Ok(None);
    }
    if let Some((Op::Cast(middle), &[source])) = rw.op(x)
        && keeps_all_values(rw.ty(source).dtype, *middle)
    {
        return if rw.ty(source).dtype == to {
            Ok(Some(vec![source]))
        } else {
            Ok(Some(vec![rw.add(Op::Cast(to), &[source])?]))
        };
    }
    Ok(None)
}

/// Whether every value of `from` is a value of `to`.
fn keeps_all_values(from: DType, to: DType) -> bool {
    let digits = |float| match float {
        DType::F16 => 11,
        DType::BF16 => 8,
        DType::F32 => 24,
        _ => 53,
    };
    match (from, to) {
        _ if from == to => true,
        (DType::Bool, _) => to != DType::F8E8M0,
        (_, DType::Bool) => false,
        _ if to.is_narrow_float() => false,
        (DType::F8E8M0, DType::F16) => false,
        _ if from.is_narrow_float() => to.is_float(),
        (DType::F16, DType::F32 | DType::F64) | (DType::BF16, DType::F32 | DType::F64) => true,
        (DType::F32, DType::F64) => true,
        _ if from.is_float() => false,
        _ if to.is_float() => from.bits() <= digits(to) && to != DType::F16,
        _ if from.is_signed_integer() => to.is_signed_integer() && from.bits() <= to.bits(),
        _ if to.is_signed_integer() => from.bits() < to.bits(),
        _ => from.bits() <= to.bits(),
    }
}

pub(super) fn transpose(rw: &mut Rewriter<'_>, id: NodeId) -> Rewritten {
    let node = rw.node(id);
    let (Op::Transpose { perm }, &[x]) = (&node.op, node.operands.as_slice()) else { return Ok(None) };
    let perm = perm.clone();
    if perm.iter().enumerate().all(|(i, &p)| i == p) {
        return Ok(Some(vec![x]));
    }
    match rw.op(x) {
        Some((Op::Transpose { perm: inner }, &[source])) => {
            let perm = perm.iter().map(|&p| inner[p]).collect();
            return Ok(Some(vec![rw.transpose(source, perm)?]));
        }
        Some((Op::Broadcast { .. }, &[source])) if rw.ty(source).rank() == 0 => {
            let shape = perm.iter().map(|&p| rw.shape(x)[p].clone()).collect();
            return Ok(Some(vec![rw.broadcast(source, shape)?]));
        }
        _ => {}
    }
    // Only axes of size one change places: the elements stay in order.
    let one = Dim::constant(1);
    let kept: Vec<usize> = perm.iter().copied().filter(|&p| rw.shape(x)[p] != one).collect();
    if kept.is_sorted() {
        let shape = perm.iter().map(|&p| rw.shape(x)[p].clone()).collect();
        return Ok(Some(vec![rw.add(Op::Reshape { shape }, &[x])?]));
    }
    Ok(None)
}

pub(super) fn reshape(rw: &mut Rewriter<'_>, id: NodeId) -> Rewritten {
    let node = rw.node(id);
    let (Op::Reshape { shape }, &[x]) = (&node.op, node.operands.as_slice()) else { return Ok(None) };
    let shape = shape.clone();
    if rw.shape(x) == shape {
        return Ok(Some(vec![x]));
    }
    match rw.op(x) {
        Some((Op::Reshape { .. }, &[source])) => Ok(Some(vec![rw.reshape(source, shape)?])),
        Some((Op::Broadcast { .. }, &[source])) if rw.ty(source).rank() == 0 => {
            Ok(Some(vec![rw.broadcast(source, shape)?]))
        }
        _ => Ok(None),
    }
}

pub(super) fn broadcast(rw: &mut Rewriter<'_>, id: NodeId) -> Rewritten {
    let node = rw.node(id);
    let (Op::Broadcast { shape }, &[x]) = (&node.op, node.operands.as_slice()) else { return Ok(None) };
    let shape = shape.clone();
    if rw.shape(x) == shape {
        return Ok(Some(vec![x]));
    }
    if let Some((Op::Broadcast { .. }, &[source])) = rw.op(x) {
        return Ok(Some(vec![rw.broadcast(source, shape)?]));
    }
    // Leading ones of the operand say nothing.
    let one = Dim::constant(1);
    let ones = rw.shape(x).iter().take_while(|d| **d == one).count();
    if ones > 0 {
        let rest = rw.shape(x)[ones..].to_vec();
        let flat = rw.reshape(x, rest)?;
        return Ok(Some(vec![rw.broadcast(flat, shape)?]));
    }
    Ok(None)
}

pub(super) fn slice(rw: &mut Rewriter<'_>, id: NodeId) -> Rewritten {
    let node = rw.node(id);
    let (Op::Slice { start, size, stride }, &[x]) = (&node.op, node.operands.as_slice()) else {
        return Ok(None);
    };
    let whole = start.iter().all(|s| s.as_static() == Some(0))
        && stride.iter().all(|&s| s == 1)
        && size.as_slice() == rw.shape(x);
    Ok(whole.then(|| vec![x]))
}

pub(super) fn concat(rw: &mut Rewriter<'_>, id: NodeId) -> Rewritten {
    let node = rw.node(id);
    match (&node.op, node.operands.as_slice()) {
        (Op::Concat { .. }, &[x]) => Ok(Some(vec![x])),
        _ => Ok(None),
    }
}

pub(super) fn pad(rw: &mut Rewriter<'_>, id: NodeId) -> Rewritten {
    let node = rw.node(id);
    let Op::Pad { low, high, .. } = &node.op else { return Ok(None) };
    let nothing = low.iter().chain(high).all(|d| d.as_static() == Some(0));
    Ok(nothing.then(|| vec![node.operands[0]]))
}

/// A convolution pads with zeros itself. It leaves them out, while products of zeros with infinite weights are NaN.
pub(super) fn pad_into_window(rw: &mut Rewriter<'_>, id: NodeId) -> Rewritten {
    let node = rw.node(id);
    let (Op::Conv { window, groups, channels_last }, &[x, weights]) = (&node.op, node.operands.as_slice())
    else {
        return Ok(None);
    };
    let Some((Op::Pad { low, high, mode: PadMode::Constant }, &[source, fill])) = rw.op(x) else {
        return Ok(None);
    };
    let rank = low.len();
    let spatial = if *channels_last { 1..rank - 1 } else { 2..rank };
    let amounts = |amounts: &[Dim]| -> Option<Vec<u64>> {
        let elsewhere =
            (0..rank).filter(|axis| !spatial.contains(axis)).all(|a| amounts[a] == Dim::constant(0));
        elsewhere.then_some(())?;
        spatial.clone().map(|a| amounts[a].as_static().and_then(|v| u64::try_from(v).ok())).collect()
    };
    let (Some(low), Some(high)) = (amounts(low), amounts(high)) else { return Ok(None) };
    let zero = matches!(rw.tensor(fill).and_then(|t| literal::splat(&t)), Some(n) if n == Number::Float(0.0) || n == Number::Int(0));
    if !zero || window.ceil || !rw.tensor(weights).is_some_and(|weights| literal::is_finite(&weights)) {
        return Ok(None);
    }
    let mut window = window.clone();
    for (total, more) in window.pad_low.iter_mut().zip(low).chain(window.pad_high.iter_mut().zip(high)) {
        *total = total.saturating_add(more);
    }
    let op = Op::Conv { window, groups: *groups, channels_last: *channels_last };
    Ok(Some(vec![rw.add(op, &[source, weights])?]))
}

/// A window of one element over an axis of one: the axis is not there. What is left is walked along a longer one.
pub(super) fn drop_unit_axes(rw: &mut Rewriter<'_>, id: NodeId) -> Rewritten {
    let node = rw.node(id);
    let (Op::Conv { window, groups, channels_last }, &[x, weights]) = (&node.op, node.operands.as_slice())
    else {
        return Ok(None);
    };
    let axes = window.extent.len();
    let first = if *channels_last { 1 } else { 2 };
    let is_unit = |axis: &usize| {
        rw.shape(x)[first + axis].as_static() == Some(1)
            && window.extent[*axis] == 1
            && window.pad_low[*axis] == 0
            && window.pad_high[*axis] == 0
    };
    let kept: Vec<usize> = (0..axes).filter(|axis| !is_unit(axis)).collect();
    if kept.is_empty() || kept.len() == axes {
        return Ok(None);
    }
    let keep = |sizes: &[u64]| kept.iter().map(|&axis| sizes[axis]).collect();
    let window = Window {
        extent: keep(&window.extent),
        stride: keep(&window.stride),
        dilation: keep(&window.dilation),
        pad_low: keep(&window.pad_low),
        pad_high: keep(&window.pad_high),
        ceil: window.ceil,
    };
    let op = Op::Conv { window, groups: *groups, channels_last: *channels_last };
    let without = |shape: &[Dim], first: usize| -> Vec<Dim> {
        let dropped = |at: usize| (first..first + axes).contains(&at) && !kept.contains(&(at - first));
        shape.iter().enumerate().filter(|(at, _)| !dropped(*at)).map(|(_, size)| size.clone()).collect()
    };
    let (narrow_x, narrow_weights) = (without(rw.shape(x), first), without(rw.shape(weights), 2));
    let x = rw.reshape(x, narrow_x)?;
    let weights = rw.reshape(weights, narrow_weights)?;
    Ok(Some(vec![rw.add(op, &[x, weights])?]))
}
