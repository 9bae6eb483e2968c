//! Finds layer normalisation that an exporter wrote out:
//! `(x - mean(x)) / sqrt(mean((x - mean(x))²) + ε)`, with or without scale and bias after it.

use ired_graph::{BinaryFn, Dim, Graph, NodeId, Op, ReduceFn, UnaryFn, ValueId};

use super::PassError;
use super::literal::{self, Number};
use super::rewrite::{Rewriter, Rewritten, rewrite};

pub(super) fn recognize_layer_norm(graph: &mut Graph) -> Result<(), PassError> {
    rewrite(graph, &mut |rw, id| normalised(rw, id))?;
    rewrite(graph, &mut |rw, id| absorb(rw, id))?;
    Ok(())
}

/// `centred / deviation`, or times its reciprocal.
fn normalised(rw: &mut Rewriter<'_>, id: NodeId) -> Rewritten {
    let node = rw.node(id);
    let (Op::Binary(f), &[x, y]) = (&node.op, node.operands.as_slice()) else { return Ok(None) };
    let candidates = match f {
        BinaryFn::Div => [Some((x, deviation(rw, y, false))), None],
        BinaryFn::Mul => [Some((x, deviation(rw, y, true))), Some((y, deviation(rw, x, true)))],
        _ => return Ok(None),
    };
    for (centred, deviation) in candidates.into_iter().flatten() {
        let Some(Deviation { of, axis, epsilon }) = deviation else { continue };
        let Some((Op::Binary(BinaryFn::Sub), &[source, mean])) = rw.op(centred) else { continue };
        if of == centred && trailing_mean(rw, mean) == Some((source, axis)) {
            return Ok(Some(vec![rw.add(Op::LayerNorm { axis, epsilon }, &[source])?]));
        }
    }
    Ok(None)
}

/// `sqrt(mean(of², axis..) + epsilon)`, or its reciprocal.
struct Deviation {
    of: ValueId,
    axis: usize,
    epsilon: f64,
}

fn deviation(rw: &Rewriter<'_>, value: ValueId, reciprocal: bool) -> Option<Deviation> {
    let inner = match (rw.op(aligned(rw, value))?, reciprocal) {
        ((Op::Unary(UnaryFn::Sqrt), &[inner]), false) | ((Op::Unary(UnaryFn::Rsqrt), &[inner]), true) => {
            inner
        }
        ((Op::Unary(UnaryFn::Reciprocal), &[root]), true) => match rw.op(aligned(rw, root))? {
            (Op::Unary(UnaryFn::Sqrt), &[inner]) => inner,
            _ => return None,
        },
        _ => return None,
    };
    let (Op::Binary(BinaryFn::Add), &[a, b]) = rw.op(aligned(rw, inner))? else { return None };
    let (variance, epsilon) = match (float(rw, a), float(rw, b)) {
        (None, Some(epsilon)) => (a, epsilon),
        (Some(epsilon), None) => (b, epsilon),
        _ => return None,
    };
    let (squared, axis) = trailing_mean(rw, variance)?;
    match rw.op(squared)? {
        (Op::Binary(BinaryFn::Mul), &[a, b]) if a == b => Some(Deviation { of: a, axis, epsilon }),
        _ => None,
    }
}

/// `value` before it was stretched along trailing axes: broadcasts that keep the rank and reshapes that add or
/// drop trailing ones.
fn aligned(rw: &Rewriter<'_>, mut value: ValueId) -> ValueId {
    loop {
        match rw.op(value) {
            Some((Op::Broadcast { .. }, &[source])) if rw.ty(source).rank() == rw.ty(value).rank() => {
                value = source
            }
            Some((Op::Reshape { .. }, &[source]))
                if strip_ones(rw.shape(source)) == strip_ones(rw.shape(value)) =>
            {
                value = source;
            }
            _ => return value,
        }
    }
}

fn strip_ones(shape: &[Dim]) -> &[Dim] {
    let one = Dim::constant(1);
    let kept = shape.iter().rposition(|d| *d != one).map_or(0, |last| last + 1);
    &shape[..kept]
}

fn float(rw: &Rewriter<'_>, mut value: ValueId) -> Option<f64> {
    while let Some((Op::Broadcast { .. } | Op::Reshape { .. }, &[source])) = rw.op(value) {
        value = source;
    }
    match literal::splat(&rw.tensor(value)?)? {
        Number::Float(v) => Some(v),
        Number::Int(_) => None,
    }
}

/// `x` and `axis` where `value` is `mean(x, axis..)`, stretched along those axes or not.
fn trailing_mean(rw: &Rewriter<'_>, value: ValueId) -> Option<(ValueId, usize)> {
    let (Op::Reduce { function: ReduceFn::Mean, axes }, &[x]) = rw.op(aligned(rw, value))? else {
        return None;
    };
    let first = *axes.first()?;
    axes.iter().copied().eq(first..rw.ty(x).rank()).then_some((x, first))
}

/// Scale and bias that follow a normalisation nobody else reads.
fn absorb(rw: &mut Rewriter<'_>, id: NodeId) -> Rewritten {
    let node = rw.node(id);
    let (Op::Binary(f), &[x, y]) = (&node.op, node.operands.as_slice()) else { return Ok(None) };
    let f = *f;
    for (data, vector) in [(x, y), (y, x)] {
        let Some((&Op::LayerNorm { axis, epsilon }, operands)) = rw.op(data) else { continue };
        let operands = operands.to_vec();
        let Some(vector) = trailing_vector(rw, vector, axis) else { continue };
        if rw.uses(data) > 1 {
            continue;
        }
        match (f, operands.as_slice()) {
            (BinaryFn::Mul, &[source]) => {
                let shape = rw.shape(vector).to_vec();
                let ty = rw.ty(vector).dtype;
                let Some(zero) = literal::from_floats(ty, Vec::new(), &[0.0]) else { return Ok(None) };
                let zero = rw.add_constant(zero)?;
                let zero = rw.broadcast(zero, shape)?;
                return Ok(Some(vec![rw.add(Op::LayerNorm { axis, epsilon }, &[source, vector, zero])?]));
            }
            (BinaryFn::Add, &[source, scale, bias]) if is_zero(rw, bias) => {
                return Ok(Some(vec![rw.add(Op::LayerNorm { axis, epsilon }, &[source, scale, vector])?]));
            }
            _ => {}
        }
    }
    Ok(None)
}

fn is_zero(rw: &Rewriter<'_>, value: ValueId) -> bool {
    float(rw, value) == Some(0.0)
}

/// The weight that `value` broadcasts along the axes before `axis`.
fn trailing_vector(rw: &Rewriter<'_>, value: ValueId, axis: usize) -> Option<ValueId> {
    let (Op::Broadcast { shape }, &[source]) = rw.op(value)? else { return None };
    rw.tensor(source)?;
    (rw.shape(source) == &shape[axis..]).then_some(source)
}
