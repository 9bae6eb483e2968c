//! Attention as BERT, GPT-2 and Whisper are fused into: with input projection, padding masks and caches of both kinds.

use ired_graph::{BinaryFn, Builder, CompareFn, DType, Dim, ValueId};

use super::super::attention::{Heads, Mask, Positions, Scoring, attend, join_heads, split_heads};
use super::super::call::{Call, Outcome, invalid, unsupported};
use super::super::quantized::{Places, product_in_f32};

/// What masked scores are lowered by unless the node says.
const FILTER: f32 = -10000.0;

/// Inputs: x, merged weights, merged bias, mask, past `[2, batch, heads, length, size]`, bias of scores. Outputs: the
/// result and the past with the new keys and values.
pub(in super::super) fn attention(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome<Vec<ValueId>> {
    let projected = b.matmul_broadcast(call.input(0)?, call.input(1)?)?;
    let projected = super::activation::with_bias(b, call, projected, 2)?;
    let given = Given { mask: call.optional(3), past: call.optional(4), bias: call.optional(5) };
    attend_projected(b, call, projected, given)
}

/// As [`attention`] of x and weights in 8 bits. Inputs: x, merged weights, merged bias, scales of x and weights, mask,
/// zero points of x and weights, past.
pub(in super::super) fn quantized(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome<Vec<ValueId>> {
    let places = Places { values: [0, 1], scales: [3, 4], zeros: [6, 7], bias: 2 };
    let projected = product_in_f32(b, call, places)?;
    let projected = b.cast(projected, call.input_type(b, 2)?.dtype)?;
    let given = Given { mask: call.optional(5), past: call.optional(8), bias: None };
    attend_projected(b, call, projected, given)
}

/// What a node is given besides its projected input.
struct Given {
    mask: Option<ValueId>,
    past: Option<ValueId>,
    /// Of scores.
    bias: Option<ValueId>,
}

/// Attention of queries, keys and values side by side.
fn attend_projected(
    b: &mut Builder<'_>,
    call: &Call<'_>,
    projected: ValueId,
    given: Given,
) -> Outcome<Vec<ValueId>> {
    if call.attributes.flag("do_rotary", false)?
        || call.attributes.flag("past_present_share_buffer", false)?
    {
        return unsupported(
            "rotary embedding or a shared cache inside of the node",
            "export with GroupQueryAttention, or with nodes of their own",
        );
    }
    call.attributes.ignore(&["rotary_embedding_dim"]);
    let count = head_count(call)?;
    let [queries, keys, values] = merged_parts(b, call, projected)?;
    let queries = split_heads(b, queries, count.clone())?;
    let mut keys = split_heads(b, keys, count.clone())?;
    let mut values = split_heads(b, values, count)?;
    let mut past = Dim::constant(0);
    if let Some(cache) = given.past {
        let shape = b.ty(cache).shape.clone();
        if shape.len() != 5 {
            return invalid(format!("a past of rank {}; expected 5", shape.len()));
        }
        past = shape[3].clone();
        for (i, new) in [&mut keys, &mut values].into_iter().enumerate() {
            let old = b.slice_axis(cache, 0, (i as i64).into(), 1.into())?;
            let old = b.reshape(old, shape[1..].to_vec())?;
            *new = b.concat(&[old, *new], 2)?;
        }
    }
    let heads = Heads { queries, keys, values };
    let mask = mask_of(b, call, heads, past, [given.mask, given.bias])?;
    let scoring = scoring_of(b, call, queries)?;
    let attended = attend(b, heads, &mask, scoring)?;
    let mut outputs = vec![join_heads(b, attended.result)?];
    if call.wants(1) {
        let (keys, values) = (b.unsqueeze(keys, &[0])?, b.unsqueeze(values, &[0])?);
        outputs.push(b.concat(&[keys, values], 0)?);
    }
    Ok(outputs)
}

/// The queries, keys and values that stand side by side in the last axis of `merged`.
pub(super) fn merged_parts(b: &mut Builder<'_>, call: &Call<'_>, merged: ValueId) -> Outcome<[ValueId; 3]> {
    let shape = &b.ty(merged).shape;
    let (rank, Some(width)) = (shape.len(), shape.last().cloned()) else {
        return invalid("weights of rank 0");
    };
    let sizes: Vec<Dim> = match call.attributes.ints("qkv_hidden_sizes")? {
        Some(sizes) if sizes.len() == 3 => sizes.iter().map(|size| Dim::constant(*size)).collect(),
        Some(sizes) if !sizes.is_empty() => {
            return invalid(format!("qkv_hidden_sizes has {} numbers; expected 3", sizes.len()));
        }
        _ => vec![width.floor_div(&3.into()); 3],
    };
    let mut start = Dim::constant(0);
    let mut parts = [merged; 3];
    for (part, size) in parts.iter_mut().zip(sizes) {
        *part = b.slice_axis(merged, rank - 1, start.clone(), size.clone())?;
        start = start + size;
    }
    Ok(parts)
}

/// Inputs: queries, keys, values (apart or packed), merged bias, mask, bias of scores, past keys, past values.
/// Outputs: the result, keys and values with the past, and probabilities.
pub(in super::super) fn multi_head(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome<Vec<ValueId>> {
    if call.optional(8).is_some() || call.optional(9).is_some() {
        return unsupported(
            "a shared cache",
            "export with GroupQueryAttention, or without sharing the cache",
        );
    }
    let count = head_count(call)?;
    let [queries, new_keys, new_values] = unpacked(b, call, count)?;
    let (mut keys, mut values) = (new_keys, new_values);
    let mut past = Dim::constant(0);
    if let (Some(old_keys), Some(old_values)) = (call.optional(6), call.optional(7)) {
        past = b.ty(old_keys).shape.get(2).cloned().unwrap_or(0.into());
        keys = b.concat(&[old_keys, keys], 2)?;
        values = b.concat(&[old_values, values], 2)?;
    }
    let heads = Heads { queries, keys, values };
    let mask = mask_of(b, call, heads, past, [call.optional(4), call.optional(5)])?;
    let scoring = scoring_of(b, call, queries)?;
    let attended = attend(b, heads, &mask, scoring)?;
    let result = join_heads(b, attended.result)?;
    Ok(vec![result, keys, values, attended.scores])
}

/// Queries, keys and values with heads apart, biases added.
fn unpacked(b: &mut Builder<'_>, call: &Call<'_>, count: Dim) -> Outcome<[ValueId; 3]> {
    let query = call.input(0)?;
    let mut parts = match (b.ty(query).rank(), call.optional(1), call.optional(2)) {
        (5, None, None) => slots(b, query, 3)?,
        (3, Some(key), None) if b.ty(key).rank() == 5 => [vec![query], slots(b, key, 2)?].concat(),
        (3, Some(key), Some(value)) => vec![query, key, value],
        (rank, ..) => return invalid(format!("queries of rank {rank} with these keys and values")),
    };
    let mut start = Dim::constant(0);
    for part in &mut parts {
        // Keys and values of rank 4 have their heads apart, and their biases added, already.
        if b.ty(*part).rank() == 4 {
            continue;
        }
        let Some(size) = b.ty(*part).shape.last().cloned() else { return invalid("input of rank 0") };
        if let Some(bias) = call.optional(3) {
            let bias = b.slice_axis(bias, 0, start.clone(), size.clone())?;
            *part = b.binary_broadcast(BinaryFn::Add, *part, bias)?;
        }
        start = start + size;
        *part = split_heads(b, *part, count.clone())?;
    }
    match parts.as_slice() {
        [queries, keys, values] => Ok([*queries, *keys, *values]),
        _ => invalid("queries, keys and values are not three"),
    }
}

/// `[batch, length, heads, slots, size]` as `slots` tensors `[batch, length, heads * size]`.
fn slots(b: &mut Builder<'_>, packed: ValueId, slots: i64) -> Outcome<Vec<ValueId>> {
    let shape = b.ty(packed).shape.clone();
    let flat = vec![shape[0].clone(), shape[1].clone(), shape[2].clone() * shape[4].clone()];
    (0..slots)
        .map(|slot| {
            let part = b.slice_axis(packed, 3, slot.into(), 1.into())?;
            Ok(b.reshape(part, flat.clone())?)
        })
        .collect()
}

pub(super) fn head_count(call: &Call<'_>) -> Outcome<Dim> {
    match call.attributes.int("num_heads")? {
        Some(count) if count > 0 => Ok(count.into()),
        other => invalid(format!("num_heads is {other:?}")),
    }
}

pub(super) fn scoring_of(b: &Builder<'_>, call: &Call<'_>, queries: ValueId) -> Outcome<Scoring> {
    let scale = call.attributes.float("scale")?.filter(|scale| *scale != 0.0);
    let precision = if b.ty(queries).dtype == DType::F64 { DType::F64 } else { DType::F32 };
    Ok(Scoring { scale, softcap: 0.0, precision, sink: None })
}

/// The mask and the bias of scores that a node is given, and that no query looks ahead where the node says so.
pub(super) fn mask_of(
    b: &mut Builder<'_>,
    call: &Call<'_>,
    heads: Heads,
    past: Dim,
    [padding, bias]: [Option<ValueId>; 2],
) -> Outcome<Mask> {
    let filter = call.attributes.float_or("mask_filter_value", FILTER)?;
    let (queries, keys) = (b.ty(heads.queries).shape.clone(), b.ty(heads.keys).shape[2].clone());
    let positions = Positions::after(b, past, queries[2].clone(), keys.clone())?;
    let mut mask = match call.attributes.flag("unidirectional", false)? {
        true => Mask::causal(b, &positions)?,
        false => Mask::default(),
    };
    let dtype = b.ty(heads.queries).dtype;
    if let Some(padding) = padding {
        let keep = kept(b, padding, &queries[0], positions.keys)?;
        let (zero, lowered) = (b.scalar(dtype, 0.0)?, b.scalar(dtype, filter)?);
        let lowered = b.select_broadcast(keep, zero, lowered)?;
        mask.add_finite(b, lowered)?;
    }
    if let Some(bias) = bias {
        mask.add_finite(b, bias)?;
    }
    Ok(mask)
}

/// Where a padding mask keeps keys, broadcastable to `[batch, heads, queries, keys]`.
fn kept(b: &mut Builder<'_>, padding: ValueId, batch: &Dim, keys: ValueId) -> Outcome {
    let shape = b.ty(padding).shape.clone();
    let zero = b.scalar_like(padding, 0.0)?;
    let raw = |b: &mut Builder<'_>, added: &[usize]| -> Outcome {
        let positive = b.compare_broadcast(CompareFn::Gt, padding, zero)?;
        Ok(b.unsqueeze(positive, added)?)
    };
    match shape.len() {
        2 => raw(b, &[1, 2]),
        3 => raw(b, &[1]),
        // The ends of the items' keys, and perhaps the starts after them.
        1 => {
            let has_starts = b.graph.symbols.is_known_eq(&shape[0], &(batch.clone() + batch.clone()));
            if !has_starts && b.graph.symbols.is_known_ne(&shape[0], batch) {
                return unsupported("a mask of lengths and offsets", "export with a mask of two axes");
            }
            let part = |b: &mut Builder<'_>, start: Dim| -> Outcome {
                let part = b.slice_axis(padding, 0, start, batch.clone())?;
                super::super::attention::per_item(b, part)
            };
            let end = part(b, 0.into())?;
            let keep = b.compare_broadcast(CompareFn::Lt, keys, end)?;
            if !has_starts {
                return Ok(keep);
            }
            let start = part(b, batch.clone())?;
            let begun = b.compare_broadcast(CompareFn::Ge, keys, start)?;
            Ok(b.binary_broadcast(BinaryFn::And, keep, begun)?)
        }
        rank => unsupported(format!("a mask of rank {rank}"), "export with a mask of two or three axes"),
    }
}
