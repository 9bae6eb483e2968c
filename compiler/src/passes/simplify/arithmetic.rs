//! Rules for elementwise nodes.

use ired_graph::{BinaryFn, Dim, NodeId, Op, Tensor, UnaryFn, ValueId};

use crate::passes::literal::{self, Number};
use crate::passes::rewrite::{Rewriter, Rewritten};

/// The number that all elements of `value` are.
fn number(rw: &Rewriter<'_>, value: ValueId) -> Option<Number> {
    match rw.op(value)? {
        (Op::Broadcast { .. } | Op::Reshape { .. }, &[x]) => number(rw, x),
        (Op::Constant(tensor), _) => literal::splat(tensor),
        (Op::Param(_), _) if rw.ty(value).static_shape()?.iter().all(|&d| d == 1) => {
            literal::splat(&rw.tensor(value)?)
        }
        _ => None,
    }
}

/// Neutral and absorbing operands. `x + 0.0` is left alone, as it turns -0 into 0.
pub(super) fn binary(rw: &mut Rewriter<'_>, id: NodeId) -> Rewritten {
    let node = rw.node(id);
    let (Op::Binary(f), &[x, y]) = (&node.op, node.operands.as_slice()) else { return Ok(None) };
    let (f, dtype) = (*f, rw.ty(x).dtype);
    let (left, right) = (number(rw, x), number(rw, y));
    let is = |n: Option<Number>, v| n.is_some_and(|n| n.is(v));
    let negative_zero = |n| matches!(n, Some(Number::Float(v)) if v == 0.0 && v.is_sign_negative());
    let boolean = dtype == ired_graph::DType::Bool;
    let kept = match f {
        BinaryFn::Mul if is(right, 1) => Some(x),
        BinaryFn::Mul if is(left, 1) => Some(y),
        BinaryFn::Div if is(right, 1) => Some(x),
        BinaryFn::Pow if is(right, 1) => Some(x),
        BinaryFn::Add if (dtype.is_integer() && is(right, 0)) || negative_zero(right) => Some(x),
        BinaryFn::Add if (dtype.is_integer() && is(left, 0)) || negative_zero(left) => Some(y),
        BinaryFn::Sub if is(right, 0) && !negative_zero(right) => Some(x),
        BinaryFn::Mul if dtype.is_integer() && is(right, 0) => Some(y),
        BinaryFn::Mul if dtype.is_integer() && is(left, 0) => Some(x),
        BinaryFn::And if boolean && (is(right, 1) || is(left, 0)) => Some(x),
        BinaryFn::And if boolean && (is(left, 1) || is(right, 0)) => Some(y),
        BinaryFn::Or if boolean && (is(right, 0) || is(left, 1)) => Some(x),
        BinaryFn::Or if boolean && (is(left, 0) || is(right, 1)) => Some(y),
        BinaryFn::And | BinaryFn::Or | BinaryFn::Max | BinaryFn::Min if x == y => Some(x),
        _ => None,
    };
    if let Some(kept) = kept {
        return Ok(Some(vec![kept]));
    }
    if f == BinaryFn::Pow && is(right, 2) && dtype.is_float() {
        return Ok(Some(vec![rw.add(Op::Binary(BinaryFn::Mul), &[x, x])?]));
    }
    Ok(None)
}

pub(super) fn unary(rw: &mut Rewriter<'_>, id: NodeId) -> Rewritten {
    let node = rw.node(id);
    let (Op::Unary(outer), &[x]) = (&node.op, node.operands.as_slice()) else { return Ok(None) };
    if *outer == UnaryFn::Erf {
        return erf_of_quotient(rw, x);
    }
    let Some((Op::Unary(inner), &[source])) = rw.op(x) else { return Ok(None) };
    Ok(match (outer, inner) {
        (UnaryFn::Neg, UnaryFn::Neg) | (UnaryFn::Not, UnaryFn::Not) | (UnaryFn::BitNot, UnaryFn::BitNot) => {
            Some(vec![source])
        }
        (UnaryFn::Abs, UnaryFn::Abs)
        | (UnaryFn::Floor, UnaryFn::Floor | UnaryFn::Ceil | UnaryFn::Round)
        | (UnaryFn::Ceil, UnaryFn::Floor | UnaryFn::Ceil | UnaryFn::Round)
        | (UnaryFn::Round, UnaryFn::Floor | UnaryFn::Ceil | UnaryFn::Round) => Some(vec![x]),
        _ => None,
    })
}

/// `erf(x / c)` as a product, which takes a quarter of the time. Its rounding differs: steps could show that, but not a function
/// as smooth as this one.
fn erf_of_quotient(rw: &mut Rewriter<'_>, quotient: ValueId) -> Rewritten {
    let Some((Op::Binary(BinaryFn::Div), &[x, divisor])) = rw.op(quotient) else { return Ok(None) };
    let Some(Number::Float(divisor)) = number(rw, divisor) else { return Ok(None) };
    let factor = divisor.recip();
    let is_plain = (1e-3..1e3).contains(&factor.abs());
    if !is_plain || rw.uses(quotient) > 1 {
        return Ok(None);
    }
    let ty = rw.ty(quotient).clone();
    let factor = rw.add_constant(Tensor::from_f64s(ty.dtype, &[], &[factor]))?;
    let factor = rw.broadcast(factor, ty.shape)?;
    let product = rw.add(Op::Binary(BinaryFn::Mul), &[x, factor])?;
    Ok(Some(vec![rw.add(Op::Unary(UnaryFn::Erf), &[product])?]))
}

pub(super) fn select(rw: &mut Rewriter<'_>, id: NodeId) -> Rewritten {
    let node = rw.node(id);
    let (Op::Select, &[condition, then, otherwise]) = (&node.op, node.operands.as_slice()) else {
        return Ok(None);
    };
    if then == otherwise {
        return Ok(Some(vec![then]));
    }
    Ok(match number(rw, condition) {
        Some(n) if n.is(0) => Some(vec![otherwise]),
        Some(_) => Some(vec![then]),
        None => None,
    })
}

/// An elementwise node of operands that were all broadcast computes before broadcasting: fewer elements, and
/// constants meet.
pub(super) fn hoist_broadcast(rw: &mut Rewriter<'_>, id: NodeId) -> Rewritten {
    let node = rw.node(id);
    if !node.op.is_elementwise() {
        return Ok(None);
    }
    let (op, operands, result) = (node.op.clone(), node.operands.clone(), node.results[0]);
    let mut sources = Vec::with_capacity(operands.len());
    let mut widest: Vec<Dim> = Vec::new();
    for &operand in &operands {
        let source = match rw.op(operand) {
            Some((Op::Broadcast { .. }, &[source])) => source,
            Some((Op::Constant(tensor), _))
                if !tensor.shape().is_empty() && literal::splat(tensor).is_some() =>
            {
                let Some(scalar) = literal::to_scalar(tensor) else { return Ok(None) };
                rw.add_constant(scalar)?
            }
            _ => return Ok(None),
        };
        let shape = rw.shape(source);
        if !shape.is_empty() {
            if !widest.is_empty() && widest != shape {
                return Ok(None);
            }
            widest = shape.to_vec();
        }
        sources.push(source);
    }
    let shape = rw.shape(result).to_vec();
    if shape == widest {
        return Ok(None);
    }
    for source in &mut sources {
        *source = rw.broadcast(*source, widest.clone())?;
    }
    let small = rw.add(op, &sources)?;
    Ok(Some(vec![rw.broadcast(small, shape)?]))
}
