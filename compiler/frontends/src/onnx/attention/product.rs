//! Scaled dot product attention over heads, whatever operator asks for it.

use ired_graph::{BinaryFn, Builder, DType, Dim, Op, UnaryFn, ValueId};

use super::super::call::{Outcome, invalid};
use super::mask::Mask;

/// Queries, keys and values, each `[batch, heads, length, size]`. Key heads divide query heads: each is shared by a
/// group of consecutive ones.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Heads {
    pub(in super::super) queries: ValueId,
    pub(in super::super) keys: ValueId,
    pub(in super::super) values: ValueId,
}

/// How scores become probabilities.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Scoring {
    /// What scores are multiplied by; `1 / sqrt(size)` if `None`.
    pub(in super::super) scale: Option<f64>,
    /// Scores become `softcap * tanh(score / softcap)` before masking, unless 0.
    pub(in super::super) softcap: f64,
    /// The element type of the softmax.
    pub(in super::super) precision: DType,
    /// One more score for every query, of a key whose value is nothing; broadcasts to `[batch, heads, queries, 1]`.
    pub(in super::super) sink: Option<ValueId>,
}

/// What [`attend`] computes on the way, each `[batch, query heads, queries, keys]` but for the result.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Attended {
    pub(in super::super) scores: ValueId,
    pub(in super::super) capped: ValueId,
    pub(in super::super) masked: ValueId,
    pub(in super::super) probabilities: ValueId,
    /// `[batch, query heads, queries, value size]`.
    pub(in super::super) result: ValueId,
}

/// `softmax(mask(softcap(scale * queries * keysᵀ))) * values`.
pub(in super::super) fn attend(
    b: &mut Builder<'_>,
    heads: Heads,
    mask: &Mask,
    scoring: Scoring,
) -> Outcome<Attended> {
    let dtype = b.ty(heads.queries).dtype;
    let scores = scaled_scores(b, heads, scoring.scale)?;
    let capped = soft_cap(b, scores, scoring.softcap)?;
    let masked = mask.apply(b, capped)?;
    let probabilities = match scoring.sink {
        Some(sink) => softmax_with_sink(b, masked, sink, scoring.precision)?,
        None => softmax_in(b, masked, scoring.precision)?,
    };
    let probabilities = b.cast(probabilities, dtype)?;
    let probabilities = mask.clear_empty_rows(b, probabilities)?;
    let result = weigh_values(b, probabilities, heads.values, dtype)?;
    Ok(Attended { scores, capped, masked, probabilities, result })
}

/// `scale * queries * keysᵀ`.
pub(super) fn scaled_scores(b: &mut Builder<'_>, heads: Heads, scale: Option<f64>) -> Outcome {
    let Heads { mut queries, mut keys, .. } = heads;
    let ty = b.ty(queries).clone();
    if ty.rank() != 4 || b.ty(keys).rank() != 4 || b.ty(heads.values).rank() != 4 {
        return invalid("queries, keys and values are not all of rank 4");
    }
    // Half precision overflows in the product of whole queries and keys, so each gets the root of the scale.
    let halves = ty.dtype.bits() < 32;
    let factor = scale_factor(b, scale, &ty.shape[3], halves, ty.dtype)?;
    if let Some(factor) = factor {
        queries = b.binary_broadcast(BinaryFn::Mul, queries, factor)?;
        if halves {
            keys = b.binary_broadcast(BinaryFn::Mul, keys, factor)?;
        }
    }
    let keys = b.transpose(keys, vec![0, 1, 3, 2])?;
    multiply_groups(b, queries, keys)
}

/// The scale, or its square root, as a scalar; nothing where it is 1.
fn scale_factor(
    b: &mut Builder<'_>,
    scale: Option<f64>,
    size: &Dim,
    root: bool,
    dtype: DType,
) -> Outcome<Option<ValueId>> {
    let known = scale.or_else(|| size.as_static().map(|size| 1.0 / (size as f64).sqrt()));
    if let Some(known) = known {
        let factor = if root { known.sqrt() } else { known };
        return Ok(if factor == 1.0 { None } else { Some(b.scalar(dtype, factor)?) });
    }
    let size = b.dim(size.clone())?;
    let size = b.cast(size, DType::F32)?;
    let mut factor = b.unary(UnaryFn::Rsqrt, size)?;
    if root {
        factor = b.unary(UnaryFn::Sqrt, factor)?;
    }
    Ok(Some(b.cast(factor, dtype)?))
}

fn soft_cap(b: &mut Builder<'_>, scores: ValueId, cap: f64) -> Outcome {
    if cap == 0.0 {
        return Ok(scores);
    }
    let share = b.binary_scalar(BinaryFn::Div, scores, cap)?;
    let bent = b.unary(UnaryFn::Tanh, share)?;
    Ok(b.binary_scalar(BinaryFn::Mul, bent, cap)?)
}

pub(super) fn softmax_in(b: &mut Builder<'_>, scores: ValueId, precision: DType) -> Outcome {
    let scores = b.cast(scores, precision)?;
    Ok(b.softmax(scores, 3, false)?)
}

fn softmax_with_sink(b: &mut Builder<'_>, scores: ValueId, sink: ValueId, precision: DType) -> Outcome {
    let keys = b.ty(scores).shape[3].clone();
    let mut column = b.ty(scores).shape.clone();
    column[3] = 1.into();
    let sink = b.cast(sink, b.ty(scores).dtype)?;
    let sink = b.broadcast_to(sink, column)?;
    let both = b.concat(&[scores, sink], 3)?;
    let all = softmax_in(b, both, precision)?;
    Ok(b.slice_axis(all, 3, 0.into(), keys)?)
}

/// `probabilities * values` in `dtype`.
pub(super) fn weigh_values(
    b: &mut Builder<'_>,
    probabilities: ValueId,
    values: ValueId,
    dtype: DType,
) -> Outcome {
    let (left, right) = (b.ty(probabilities).dtype, b.ty(values).dtype);
    let wide = match left == right {
        true => left,
        false if left == DType::F64 || right == DType::F64 => DType::F64,
        false => DType::F32,
    };
    let probabilities = b.cast(probabilities, wide)?;
    let values = b.cast(values, wide)?;
    let result = multiply_groups(b, probabilities, values)?;
    Ok(b.cast(result, dtype)?)
}

/// `left[b, h] * right[b, h / group]`. Groups of heads become rows of one product, so that nothing is repeated.
fn multiply_groups(b: &mut Builder<'_>, left: ValueId, right: ValueId) -> Outcome {
    let (l, r) = (b.ty(left).shape.clone(), b.ty(right).shape.clone());
    if b.graph.symbols.is_known_eq(&l[1], &r[1]) {
        return Ok(b.push(Op::MatMul, &[left, right])?);
    }
    if let (Some(queries), Some(keys)) = (l[1].as_static(), r[1].as_static())
        && (keys < 1 || queries % keys != 0)
    {
        return invalid(format!("{queries} query heads share {keys} key heads; expected a multiple"));
    }
    let rows = l[1].floor_div(&r[1]) * l[2].clone();
    let grouped = b.reshape(left, vec![r[0].clone(), r[1].clone(), rows, l[3].clone()])?;
    let product = b.push(Op::MatMul, &[grouped, right])?;
    Ok(b.reshape(product, vec![l[0].clone(), l[1].clone(), l[2].clone(), r[3].clone()])?)
}

/// `[batch, length, heads * size]` as `[batch, heads, length, size]`.
pub(in super::super) fn split_heads(b: &mut Builder<'_>, x: ValueId, heads: Dim) -> Outcome {
    let shape = b.ty(x).shape.clone();
    let [batch, length, hidden] = shape.as_slice() else {
        return invalid(format!("input of rank {} for heads side by side; expected 3", shape.len()));
    };
    let size = hidden.floor_div(&heads);
    let apart = b.reshape(x, vec![batch.clone(), length.clone(), heads, size])?;
    Ok(b.transpose(apart, vec![0, 2, 1, 3])?)
}

/// `[batch, heads, length, size]` as `[batch, length, heads * size]`.
pub(in super::super) fn join_heads(b: &mut Builder<'_>, x: ValueId) -> Outcome {
    let shape = b.ty(x).shape.clone();
    let [batch, heads, length, size] = shape.as_slice() else {
        return invalid(format!("heads of rank {}; expected 4", shape.len()));
    };
    let hidden = heads.clone() * size.clone();
    let together = b.transpose(x, vec![0, 2, 1, 3])?;
    Ok(b.reshape(together, vec![batch.clone(), length.clone(), hidden])?)
}
