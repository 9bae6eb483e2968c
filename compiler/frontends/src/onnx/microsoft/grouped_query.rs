//! Attention of groups of query heads over a cache that has room for more than it holds, and the rotary embedding that
//! goes with it.

use ired_graph::{BinaryFn, Builder, CompareFn, DType, Dim, Op, PadMode, ValueId};

use super::super::attention::{
    Attended, Heads, Mask, Positions, Scoring, attend, join_heads, pad_keys, per_item, split_heads,
};
use super::super::call::{Call, Outcome, invalid, unsupported};
use super::super::normalization::root_mean_square_of;
use super::super::rotary::{Rotation, rotate, rows_at};

/// Inputs: queries (or all packed), keys, values, past keys, past values, the last position of each item, the largest
/// number of positions, cosines, sines, positions, bias of scores, sinks. Outputs: the result, keys and values of the
/// cache, scores or probabilities.
pub(in super::super) fn attention(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome<Vec<ValueId>> {
    refuse_what_is_missing(call)?;
    let parts = heads_of(b, call)?;
    let length = b.ty(parts[0]).shape[2].clone();
    // How many positions of each item are in the cache already.
    let total = per_item(b, call.input(5)?)?;
    let total = b.binary_scalar(BinaryFn::Add, total, 1.0)?;
    let fresh = b.dim(length.clone())?;
    let past = b.binary_broadcast(BinaryFn::Sub, total, fresh)?;
    let past = b.binary_scalar(BinaryFn::Max, past, 0.0)?;
    let [turned_queries, turned_keys, turned_values] = turned(b, call, parts, past)?;
    let mut caches = [turned_keys, turned_values];
    for (cache, old) in caches.iter_mut().zip([call.optional(3), call.optional(4)]) {
        if let Some(old) = old {
            let room = b.ty(old).shape.get(2).cloned().unwrap_or(0.into());
            let all = call.size_input(b, 6)?;
            let size = b.graph.symbols.simplify(&room.maximum(&all));
            *cache = append(b, old, *cache, past, &size)?;
        }
    }
    let [keys, values] = caches;
    let heads = Heads { queries: turned_queries, keys, values };
    let room = b.ty(keys).shape[2].clone();
    let positions = Positions::from(b, past, length, room.clone())?.not_negative();
    let window = call.attributes.int_or("local_window_size", -1)?;
    let causal = call.attributes.flag("causal", true)?;
    let mut mask = if causal { Mask::causal(b, &positions)? } else { Mask::default() };
    // An item of a batch may be shorter than the others.
    let allowed = b.compare_broadcast(CompareFn::Lt, positions.keys, total)?;
    mask.allow_some(b, allowed)?;
    if window > 0 {
        // The window counts the query's own position.
        mask.window(b, &positions, Some(window - 1), None)?;
    }
    if let Some(bias) = call.optional(10) {
        let bias = pad_keys(b, bias, &room)?;
        mask.add_finite(b, bias)?;
    }
    let scoring = Scoring {
        scale: call.attributes.float("scale")?.filter(|scale| *scale != 0.0),
        softcap: call.attributes.float_or("softcap", 0.0)?,
        precision: DType::F32,
        sink: sink_of(b, call)?,
    };
    let Attended { masked, probabilities, result, .. } = attend(b, heads, &mask, scoring)?;
    let stage = match call.attributes.int_or("qk_output", 0)? {
        1 => mask.clear_forbidden(b, masked)?,
        _ => probabilities,
    };
    let result = join_heads(b, result)?;
    Ok(vec![result, keys, values, stage])
}

fn refuse_what_is_missing(call: &Call<'_>) -> Outcome<()> {
    call.attributes.ignore(&["kv_cache_bit_width"]);
    for name in ["k_quant_type", "v_quant_type"] {
        if call.attributes.text(name)?.is_some_and(|kind| kind != "NONE") {
            return unsupported("a quantised cache", "export the model with a cache of floats");
        }
    }
    match call.attributes.flag("sliding_window_cache", false)? {
        true => {
            unsupported("a cache of the size of the window", "export the model with a cache of all positions")
        }
        false => Ok(()),
    }
}

/// Queries, keys and values with heads apart, normalised where the node has weights for that.
fn heads_of(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome<[ValueId; 3]> {
    let counts = [call.attributes.int_or("num_heads", 0)?, call.attributes.int_or("kv_num_heads", 0)?];
    let [count, shared] = counts;
    if count < 1 || shared < 1 || count % shared != 0 {
        return invalid(format!("{count} query heads share {shared} key heads; expected a multiple"));
    }
    let query = call.input(0)?;
    let Some(width) = b.ty(query).shape.get(2).cloned() else { return invalid("queries are not of rank 3") };
    let flat = match (call.optional(1), call.optional(2)) {
        (Some(key), Some(value)) => [query, key, value],
        (None, None) => {
            let size = width.floor_div(&(count + 2 * shared).into());
            let (many, few) = (size.clone() * count.into(), size * shared.into());
            let key = b.slice_axis(query, 2, many.clone(), few.clone())?;
            let value = b.slice_axis(query, 2, many.clone() + few.clone(), few)?;
            [b.slice_axis(query, 2, 0.into(), many)?, key, value]
        }
        _ => return invalid("keys without values, or the other way round"),
    };
    let mut parts = flat;
    for (part, count) in parts.iter_mut().zip([count, shared, shared]) {
        *part = split_heads(b, *part, count.into())?;
    }
    let epsilon = call.attributes.float_or("qk_norm_epsilon", 1e-6)?;
    for (part, index) in parts.iter_mut().zip([14, 15]) {
        if let Some(weight) = call.optional(index) {
            *part = root_mean_square_of(b, *part, weight, 3, epsilon, DType::F32)?[0];
        }
    }
    Ok(parts)
}

/// Queries and keys turned by their positions, where the node does that.
fn turned(
    b: &mut Builder<'_>,
    call: &Call<'_>,
    [queries, keys, values]: [ValueId; 3],
    past: ValueId,
) -> Outcome<[ValueId; 3]> {
    let interleaved = call.attributes.flag("rotary_interleaved", false)?;
    if !call.attributes.flag("do_rotary", false)? {
        return Ok([queries, keys, values]);
    }
    let shape = b.ty(queries).shape.clone();
    let positions = match call.optional(9) {
        Some(positions) => positions,
        None => {
            let first = b.reshape(past, vec![b.ty(past).elements(), 1.into()])?;
            let step = b.iota(DType::I64, vec![1.into(), shape[2].clone()], 1)?;
            b.binary_broadcast(BinaryFn::Add, first, step)?
        }
    };
    let tables = [call.input(7)?, call.input(8)?];
    let rotation = Rotation { interleaved, size: turned_size(b, tables[0], &shape[3]) };
    let tables = [rows_at(b, tables[0], positions)?, rows_at(b, tables[1], positions)?];
    Ok([rotate(b, queries, tables, rotation)?, rotate(b, keys, tables, rotation)?, values])
}

/// How many elements of a head a table of this many pairs turns; 0 for all.
fn turned_size(b: &Builder<'_>, table: ValueId, size: &Dim) -> i64 {
    let pairs = b.ty(table).shape.last().and_then(Dim::as_static);
    match (pairs.map(|pairs| 2 * pairs), size.as_static()) {
        (Some(turned), Some(size)) if turned == size => 0,
        (Some(turned), _) => turned,
        (None, _) => 0,
    }
}

/// The cache of `size` positions in which the first `past` are `old`'s and those after them `new`.
fn append(b: &mut Builder<'_>, old: ValueId, new: ValueId, past: ValueId, size: &Dim) -> Outcome {
    let (old_shape, new_shape) = (b.ty(old).shape.clone(), b.ty(new).shape.clone());
    if old_shape.len() != 4 || b.ty(old).dtype != b.ty(new).dtype {
        return invalid("a cache that is not shaped and typed as the keys are");
    }
    let shape = vec![new_shape[0].clone(), new_shape[1].clone(), size.clone(), new_shape[3].clone()];
    let mut high = vec![Dim::constant(0); 4];
    high[2] = size.clone() - old_shape[2].clone();
    let zero = b.scalar_like(old, 0.0)?;
    let before = b.pad(old, vec![0.into(); 4], high, PadMode::Constant, Some(zero))?;
    let before = b.broadcast_to(before, shape.clone())?;
    let place = b.iota(DType::I64, vec![size.clone(), 1.into()], 0)?;
    let is_old = b.compare_broadcast(CompareFn::Lt, place, past)?;
    let offset = b.binary_broadcast(BinaryFn::Sub, place, past)?;
    let count = b.dim(new_shape[2].clone())?;
    let is_new = b.compare_broadcast(CompareFn::Lt, offset, count)?;
    // What is not new reads any new element.
    let last = b.binary_scalar(BinaryFn::Sub, count, 1.0)?;
    let offset = b.binary_scalar(BinaryFn::Max, offset, 0.0)?;
    let offset = b.binary_broadcast(BinaryFn::Min, offset, last)?;
    let offset = b.broadcast_to(offset, shape.clone())?;
    let after = b.push(Op::GatherElements { axis: 2 }, &[new, offset])?;
    let after = b.select_broadcast(is_new, after, zero)?;
    Ok(b.select_broadcast(is_old, before, after)?)
}

/// What each head adds to the sum below its probabilities, `[1, heads, 1, 1]`.
fn sink_of(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome<Option<ValueId>> {
    if let Some(sink) = call.optional(11) {
        let count = b.ty(sink).elements();
        return Ok(Some(b.reshape(sink, vec![1.into(), count, 1.into(), 1.into()])?));
    }
    match call.attributes.int_or("smooth_softmax", -1)? {
        1 => {
            let dtype = b.ty(call.input(0)?).dtype;
            Ok(Some(b.full(dtype, vec![1.into(); 4], 0.0)?))
        }
        _ => Ok(None),
    }
}

/// Inputs: x of rank 3 or 4, positions (one for the first of a sequence, or one each), cosines, sines.
pub(in super::super) fn rotary_embedding(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    let mut rotation = Rotation::of(call)?;
    let heads = call.attributes.int_or("num_heads", 0)?;
    if call.attributes.flag("is_packed_batching", false)? || call.attributes.float_or("scale", 1.0)? != 1.0 {
        return unsupported(
            "packed sequences, or a scale",
            "export with sequences of one length, and no scale",
        );
    }
    let (x, positions) = (call.input(0)?, call.input(1)?);
    let tables = [call.input(2)?, call.input(3)?];
    let shape = b.ty(x).shape.clone();
    let apart = match shape.len() {
        4 => x,
        3 => {
            let pairs = b.ty(tables[0]).shape.last().cloned().unwrap_or(1.into());
            let heads = match heads {
                1.. => Dim::constant(heads),
                _ => shape[2].floor_div(&(pairs.clone() + pairs)),
            };
            split_heads(b, x, heads)?
        }
        rank => return invalid(format!("input of rank {rank}; expected 3 or 4")),
    };
    let whole = b.ty(apart).shape.clone();
    if rotation.size == 0 {
        rotation.size = turned_size(b, tables[0], &whole[3]);
    }
    let positions = match b.ty(positions).rank() {
        2 => positions,
        _ => {
            let first = b.cast(positions, DType::I64)?;
            let first = b.reshape(first, vec![1.into(), 1.into()])?;
            let step = b.iota(DType::I64, vec![1.into(), whole[2].clone()], 1)?;
            b.binary_broadcast(BinaryFn::Add, first, step)?
        }
    };
    let tables = [rows_at(b, tables[0], positions)?, rows_at(b, tables[1], positions)?];
    let turned = rotate(b, apart, tables, rotation)?;
    match shape.len() {
        4 => Ok(turned),
        _ => {
            let joined = join_heads(b, turned)?;
            Ok(b.reshape(joined, shape)?)
        }
    }
}
