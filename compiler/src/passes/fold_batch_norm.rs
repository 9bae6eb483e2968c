//! Folds what is multiplied to and added to each channel after a convolution or a product with a weight into the
//! weights and one bias. Batch normalisation reaches here as such a multiplication and addition.
//!
//! New weights are computed in f64 and rounded once.

use ired_graph::{BinaryFn, DType, Dim, Graph, NodeId, Op, ValueId};

use super::literal;
use super::rewrite::{Rewriter, Rewritten, rewrite};
use super::{MAX_FOLDED_BYTES, PassError};

/// A chain of this many scalings and shifts is folded; longer ones do not come from models.
const MAX_SWEEPS: usize = 8;

pub(super) fn fold_batch_norm(graph: &mut Graph) -> Result<(), PassError> {
    for _ in 0..MAX_SWEEPS {
        if !rewrite(graph, &mut |rw, id| fold(rw, id))? {
            break;
        }
    }
    Ok(())
}

fn fold(rw: &mut Rewriter<'_>, id: NodeId) -> Rewritten {
    let node = rw.node(id);
    let (Op::Binary(f), &[x, y]) = (&node.op, node.operands.as_slice()) else { return Ok(None) };
    let (f, result) = (*f, node.results[0]);
    if !matches!(rw.ty(x).dtype, DType::F32 | DType::F64) {
        return Ok(None);
    }
    match f {
        BinaryFn::Add | BinaryFn::Mul => {
            for (data, factor) in [(x, y), (y, x)] {
                if let Some(channel) = channel_axis(rw, data)
                    && let Some(values) = per_channel(rw, factor, channel)
                {
                    let folded = match f {
                        BinaryFn::Mul => scale(rw, data, channel, &values)?,
                        _ => shift(rw, data, channel, &values)?,
                    };
                    if folded.is_some() {
                        return Ok(folded.map(|v| vec![v]));
                    }
                }
            }
            Ok(None)
        }
        // The other spellings of the two.
        BinaryFn::Sub | BinaryFn::Div => {
            let Some(channel) = channel_axis(rw, x) else { return Ok(None) };
            let Some(values) = per_channel(rw, y, channel) else { return Ok(None) };
            let (f, values): (_, Vec<f64>) = match f {
                BinaryFn::Sub => (BinaryFn::Add, values.iter().map(|v| -v).collect()),
                _ if values.contains(&0.0) => return Ok(None),
                _ => (BinaryFn::Mul, values.iter().map(|v| v.recip()).collect()),
            };
            let Some(y) = channel_vector(rw, result, channel, &values)? else { return Ok(None) };
            Ok(Some(vec![rw.add(Op::Binary(f), &[x, y])?]))
        }
        _ => Ok(None),
    }
}

/// The axis along which `value`'s weights differ, if it is a foldable product, or one shifted by a constant, that
/// nobody else uses.
fn channel_axis(rw: &Rewriter<'_>, value: ValueId) -> Option<usize> {
    if rw.uses(value) > 1 {
        return None;
    }
    match rw.op(value)? {
        (Op::Conv { channels_last, .. }, &[_, weights]) => {
            rw.tensor(weights)?;
            Some(if *channels_last { rw.ty(value).rank() - 1 } else { 1 })
        }
        (Op::MatMul, &[_, weights]) if rw.ty(value).rank() == 2 => {
            rw.tensor(weights)?;
            Some(1)
        }
        (Op::Binary(BinaryFn::Add), &[product, bias]) if !matches!(rw.op(product)?.0, Op::Binary(_)) => {
            let channel = channel_axis(rw, product)?;
            per_channel(rw, bias, channel).map(|_| channel)
        }
        _ => None,
    }
}

/// The numbers of a constant that varies along axis `channel` alone, one a channel.
fn per_channel(rw: &Rewriter<'_>, value: ValueId, channel: usize) -> Option<Vec<f64>> {
    let ty = rw.ty(value);
    let count = usize::try_from(ty.shape.get(channel)?.as_static()?).ok()?;
    if count as u64 * 8 > MAX_FOLDED_BYTES {
        return None;
    }
    let rank = ty.rank();
    let mut source = value;
    if let Some((Op::Broadcast { .. }, &[inner])) = rw.op(source) {
        source = inner;
    }
    let one = Dim::constant(1);
    let shape = rw.shape(source).to_vec();
    let leading = rank - shape.len();
    let only_channel = shape.iter().enumerate().all(|(i, d)| *d == one || i + leading == channel);
    if !only_channel {
        return None;
    }
    if let Some((Op::Reshape { .. }, &[inner])) = rw.op(source) {
        source = inner;
    }
    let values = literal::to_floats(&rw.tensor(source)?)?;
    match values.len() {
        1 => Some(vec![values[0]; count]),
        n if n == count => Some(values),
        _ => None,
    }
}

/// `values` along axis `channel` of `like`'s shape.
fn channel_vector(
    rw: &mut Rewriter<'_>,
    like: ValueId,
    channel: usize,
    values: &[f64],
) -> Result<Option<ValueId>, PassError> {
    let ty = rw.ty(like).clone();
    let Some(tensor) = literal::from_floats(ty.dtype, vec![values.len() as u64], values) else {
        return Ok(None);
    };
    let vector = rw.add_param("folded", tensor)?;
    let mut shape = vec![Dim::constant(values.len() as i64)];
    shape.extend(std::iter::repeat_n(Dim::constant(1), ty.rank() - 1 - channel));
    let vector = rw.reshape(vector, shape)?;
    rw.broadcast(vector, ty.shape).map(Some)
}

/// `value * factor` along `channel`.
fn scale(
    rw: &mut Rewriter<'_>,
    value: ValueId,
    channel: usize,
    factor: &[f64],
) -> Result<Option<ValueId>, PassError> {
    let Some((op, operands)) = rw.op(value).map(|(op, operands)| (op.clone(), operands.to_vec())) else {
        return Ok(None);
    };
    if let Op::Binary(BinaryFn::Add) = op {
        let (Some(bias), Some(product)) =
            (per_channel(rw, operands[1], channel), scale(rw, operands[0], channel, factor)?)
        else {
            return Ok(None);
        };
        let bias: Vec<f64> = bias.iter().zip(factor).map(|(b, f)| b * f).collect();
        let Some(bias) = channel_vector(rw, value, channel, &bias)? else { return Ok(None) };
        return rw.add(op, &[product, bias]).map(Some);
    }
    let weights = operands[1];
    let Some(tensor) = rw.tensor(weights) else { return Ok(None) };
    if tensor.data().len() as u64 > MAX_FOLDED_BYTES {
        return Ok(None);
    }
    let Some(mut numbers) = literal::to_floats(&tensor) else { return Ok(None) };
    match op {
        // `[k, c, window..]`: one factor a leading index.
        Op::Conv { .. } if !factor.is_empty() && numbers.len() % factor.len() == 0 => {
            let each = numbers.len() / factor.len();
            for (row, f) in numbers.chunks_mut(each.max(1)).zip(factor) {
                row.iter_mut().for_each(|w| *w *= f);
            }
        }
        // `[k, n]`: one factor a column.
        Op::MatMul if !factor.is_empty() => {
            for row in numbers.chunks_mut(factor.len()) {
                row.iter_mut().zip(factor).for_each(|(w, f)| *w *= f);
            }
        }
        _ => return Ok(None),
    }
    let Some(tensor) = literal::from_floats(tensor.dtype(), tensor.shape().to_vec(), &numbers) else {
        return Ok(None);
    };
    let weights = rw.add_param("folded", tensor)?;
    rw.add(op, &[operands[0], weights]).map(Some)
}

/// `(product + bias) + values` becomes `product + (bias + values)`; a first shift already has its final form.
fn shift(
    rw: &mut Rewriter<'_>,
    value: ValueId,
    channel: usize,
    values: &[f64],
) -> Result<Option<ValueId>, PassError> {
    let Some((Op::Binary(BinaryFn::Add), &[product, bias])) = rw.op(value) else { return Ok(None) };
    let Some(bias) = per_channel(rw, bias, channel) else { return Ok(None) };
    let sum: Vec<f64> = bias.iter().zip(values).map(|(b, v)| b + v).collect();
    let Some(sum) = channel_vector(rw, value, channel, &sum)? else { return Ok(None) };
    rw.add(Op::Binary(BinaryFn::Add), &[product, sum]).map(Some)
}
