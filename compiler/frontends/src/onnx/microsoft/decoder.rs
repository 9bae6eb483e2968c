//! Attention of one new token of each sequence to all tokens before it.

use ired_graph::{BinaryFn, Builder, CompareFn, DType, Dim, ValueId};

use super::super::attention::{Heads, attend, join_heads, pad_keys, split_heads};
use super::super::call::{Call, Outcome, invalid, unsupported};
use super::attention::{head_count, mask_of, scoring_of};

/// Inputs: queries (or all side by side), keys, values, mask, bias of scores, past keys and values, how much of a shared
/// cache is filled, then what beams need, then a merged bias. Outputs: the result, keys, values, probabilities.
pub(in super::super) fn attention(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome<Vec<ValueId>> {
    if call.optional(8).is_some() || call.optional(9).is_some() {
        return unsupported("beams that share a cache", "export the decoder without a beam search around it");
    }
    call.attributes.ignore(&["output_qk"]);
    let count = head_count(call)?;
    let shared = call.attributes.flag("past_present_share_buffer", false)?;
    let [queries, mut keys, mut values] = heads_of(b, call, &count)?;
    let mut filled = None;
    if let (Some(old_keys), Some(old_values)) = (call.optional(5), call.optional(6)) {
        if shared {
            let past = b.cast(call.input(7)?, DType::I64)?;
            let past = b.reshape(past, vec![1.into(); 4])?;
            keys = put(b, old_keys, keys, past)?;
            values = put(b, old_values, values, past)?;
            filled = Some(past);
        } else {
            keys = b.concat(&[old_keys, keys], 2)?;
            values = b.concat(&[old_values, values], 2)?;
        }
    }
    let heads = Heads { queries, keys, values };
    let room = b.ty(keys).shape.get(2).cloned().unwrap_or(0.into());
    let mut given = [call.optional(3), call.optional(4)];
    if filled.is_some() {
        // What is given is for the keys that are filled.
        for given in given.iter_mut().flatten() {
            *given = pad_keys(b, *given, &room)?;
        }
    }
    let mut mask = mask_of(b, call, heads, 0.into(), given)?;
    if let Some(past) = filled {
        let place = b.iota(DType::I64, vec![room], 0)?;
        let allowed = b.compare_broadcast(CompareFn::Le, place, past)?;
        mask.allow_some(b, allowed)?;
    }
    let scoring = scoring_of(b, call, queries)?;
    let attended = attend(b, heads, &mask, scoring)?;
    Ok(vec![join_heads(b, attended.result)?, keys, values, attended.probabilities])
}

/// The cache with `new`, of one position, in place of what it has at position `past`.
fn put(b: &mut Builder<'_>, cache: ValueId, new: ValueId, past: ValueId) -> Outcome {
    let shape = b.ty(cache).shape.clone();
    if shape.len() != 4 || b.ty(new).rank() != 4 {
        return invalid(format!("a cache of rank {}; expected 4", shape.len()));
    }
    let place = b.iota(DType::I64, vec![shape[2].clone(), 1.into()], 0)?;
    let here = b.compare_broadcast(CompareFn::Eq, place, past)?;
    Ok(b.select_broadcast(here, new, cache)?)
}

/// Queries, keys and values with heads apart, biases added to those that are new.
fn heads_of(b: &mut Builder<'_>, call: &Call<'_>, count: &Dim) -> Outcome<[ValueId; 3]> {
    let query = call.input(0)?;
    let Some(width) = b.ty(query).shape.get(2).cloned() else { return invalid("queries are not of rank 3") };
    let mut parts = match (call.optional(1), call.optional(2)) {
        (Some(key), Some(value)) => [query, key, value],
        (None, None) => {
            let size = width.floor_div(&3.into());
            let mut parts = [query; 3];
            for (i, part) in parts.iter_mut().enumerate() {
                let start = Dim::constant(i as i64) * size.clone();
                *part = b.slice_axis(query, 2, start, size.clone())?;
            }
            parts
        }
        _ => return invalid("keys without values, or the other way round"),
    };
    let mut start = Dim::constant(0);
    for part in &mut parts {
        // Keys and values of rank 4 are another sequence's, ready for use.
        if b.ty(*part).rank() == 4 {
            continue;
        }
        let size = b.ty(*part).shape.last().cloned().unwrap_or(1.into());
        if let Some(bias) = call.optional(10) {
            let own = b.slice_axis(bias, 0, start.clone(), size.clone())?;
            *part = b.binary_broadcast(BinaryFn::Add, *part, own)?;
        }
        start = start + size;
        *part = split_heads(b, *part, count.clone())?;
    }
    Ok(parts)
}
