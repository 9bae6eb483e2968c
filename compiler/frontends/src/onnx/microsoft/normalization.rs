//! Normalisation with a residual sum, an embedding or an activation fused in.

use ired_graph::{BinaryFn, Builder, DType, Dim, Op, ReduceFn, ValueId};

use super::super::activation::swish_of;
use super::super::call::{Call, Outcome, invalid};
use super::super::normalization::{layer_of, root_mean_square_of};
use super::activation::wide;

/// Layer normalisation of `x + skip + bias`. Outputs: the result, mean, inverse deviation, and the sum.
pub(in super::super) fn skip_layer(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome<Vec<ValueId>> {
    let epsilon = call.attributes.float_or("epsilon", 1e-12)?;
    let dtype = call.input_type(b, 0)?.dtype;
    let sum = wide_sum(b, call, [0, 1, 4])?;
    let last = last_axis(b, sum)?;
    let scale = Some(wide(b, call.input(2)?)?);
    let bias = call.optional(3).map(|bias| wide(b, bias)).transpose()?;
    let mut outputs = layer_of(b, sum, last, epsilon, [scale, bias], DType::F32)?;
    outputs[0] = b.cast(outputs[0], dtype)?;
    outputs.push(b.cast(sum, dtype)?);
    Ok(outputs)
}

/// As [`skip_layer`] by the root of the mean square; there is no mean to give.
pub(in super::super) fn skip_root_mean_square(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome<Vec<ValueId>> {
    let epsilon = call.attributes.float_or("epsilon", 1e-12)?;
    let dtype = call.input_type(b, 0)?.dtype;
    let sum = wide_sum(b, call, [0, 1, 3])?;
    let last = last_axis(b, sum)?;
    let scale = wide(b, call.input(2)?)?;
    let [result, inverse] = root_mean_square_of(b, sum, scale, last, epsilon, DType::F32)?;
    let mean = b.full(DType::F32, b.ty(inverse).shape.clone(), 0.0)?;
    Ok(vec![b.cast(result, dtype)?, mean, inverse, b.cast(sum, dtype)?])
}

/// The sum of these inputs, of which the last may be missing, in at least f32: only the results are rounded to halves.
fn wide_sum(b: &mut Builder<'_>, call: &Call<'_>, [x, skip, bias]: [usize; 3]) -> Outcome {
    let mut sum = wide(b, call.input(x)?)?;
    let shape = b.ty(sum).shape.clone();
    for term in [Some(call.input(skip)?), call.optional(bias)].into_iter().flatten() {
        let term = wide(b, term)?;
        let term = b.broadcast_to(term, shape.clone())?;
        sum = b.binary_broadcast(BinaryFn::Add, sum, term)?;
    }
    Ok(sum)
}

fn last_axis(b: &Builder<'_>, x: ValueId) -> Outcome<usize> {
    match b.ty(x).rank().checked_sub(1) {
        Some(last) => Ok(last),
        None => invalid("a scalar has no axis to normalise"),
    }
}

/// Layer normalisation of the sum of embeddings of words, positions and segments. Outputs: the result, the number of
/// words of each item that the mask leaves, and the sum.
pub(in super::super) fn embedding(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome<Vec<ValueId>> {
    call.attributes.ignore(&["mask_index_type"]);
    let epsilon = call.attributes.float_or("epsilon", 1e-12)?;
    let words = call.input(0)?;
    let shape = b.ty(words).shape.clone();
    let [batch, length] = shape.as_slice() else { return invalid("words that are not of rank 2") };
    let mut sum = b.gather(call.input(2)?, words, 0)?;
    let places = match call.optional(8) {
        Some(places) => places,
        None => b.iota(DType::I64, vec![length.clone()], 0)?,
    };
    let positions = b.gather(call.input(3)?, places, 0)?;
    let positions = b.broadcast_to(positions, b.ty(sum).shape.clone())?;
    sum = b.binary_broadcast(BinaryFn::Add, sum, positions)?;
    if let (Some(segments), Some(table)) = (call.optional(1), call.optional(4)) {
        let segments = b.gather(table, segments, 0)?;
        sum = b.binary_broadcast(BinaryFn::Add, sum, segments)?;
    }
    let normal = layer_of(b, sum, 2, epsilon, [Some(call.input(5)?), call.optional(6)], DType::F32)?[0];
    let count = match call.optional(7) {
        Some(mask) => {
            let mask = b.cast(mask, DType::I32)?;
            b.reduce(ReduceFn::Sum, mask, &[1], false)?
        }
        None => b.full(DType::I32, vec![batch.clone()], 0.0)?,
    };
    Ok(vec![normal, count, sum])
}

/// Group normalisation of `x`, or of `x + skip + bias`, channels last by default, and perhaps silu of it. The second
/// output is the sum.
pub(in super::super) fn group(b: &mut Builder<'_>, call: &Call<'_>, skips: bool) -> Outcome<Vec<ValueId>> {
    let epsilon = call.attributes.float_or("epsilon", 1e-5)?;
    let groups = call.attributes.int_or("groups", 0)?;
    let channels_last = call.attributes.flag("channels_last", true)?;
    let activates = call.attributes.flag("activation", false)?;
    let mut x = call.input(0)?;
    let rank = b.ty(x).rank();
    if rank < 3 || groups < 1 {
        return invalid(format!("input of rank {rank} in {groups} groups"));
    }
    if skips {
        let mut skip = call.input(3)?;
        if b.ty(skip).rank() == 2 {
            let middle: Vec<usize> =
                if channels_last { (1..rank - 1).collect() } else { (2..rank).collect() };
            skip = b.unsqueeze(skip, &middle)?;
        }
        let skip = b.broadcast_to(skip, b.ty(x).shape.clone())?;
        x = b.binary_broadcast(BinaryFn::Add, x, skip)?;
        if let Some(bias) = call.optional(4) {
            let bias = channels(b, bias, rank, channels_last)?;
            x = b.binary_broadcast(BinaryFn::Add, x, bias)?;
        }
    }
    let sum = x;
    let (dtype, shape) = (b.ty(x).dtype, b.ty(x).shape.clone());
    // Channels stand in front while groups of them are normalised.
    let front: Vec<usize> = [0, rank - 1].into_iter().chain(1..rank - 1).collect();
    let back: Vec<usize> = [0].into_iter().chain(2..rank).chain([1]).collect();
    let first = if channels_last { b.transpose(x, front)? } else { x };
    let moved = b.ty(first).shape.clone();
    let size = ired_graph::types::product(&moved[1..]).floor_div(&groups.into());
    let apart = b.reshape(first, vec![shape[0].clone(), groups.into(), size])?;
    let wide = b.cast(apart, DType::F32)?;
    let normal = b.push(Op::LayerNorm { axis: 2, epsilon }, &[wide])?;
    let normal = b.reshape(normal, moved)?;
    let normal = if channels_last { b.transpose(normal, back)? } else { normal };
    let mut parameters = [normal; 2];
    for (index, parameter) in parameters.iter_mut().enumerate() {
        let wide = b.cast(call.input(index + 1)?, DType::F32)?;
        *parameter = channels(b, wide, rank, channels_last)?;
    }
    let scaled = b.binary_broadcast(BinaryFn::Mul, normal, parameters[0])?;
    let mut result = b.binary_broadcast(BinaryFn::Add, scaled, parameters[1])?;
    if activates {
        result = swish_of(b, result, 1.0)?;
    }
    Ok(vec![b.cast(result, dtype)?, sum])
}

/// A vector of one number a channel, shaped to broadcast.
fn channels(b: &mut Builder<'_>, vector: ValueId, rank: usize, last: bool) -> Outcome {
    if last {
        return Ok(vector);
    }
    let mut shape = vec![Dim::constant(1); rank - 1];
    shape[0] = b.ty(vector).elements();
    Ok(b.reshape(vector, shape)?)
}
