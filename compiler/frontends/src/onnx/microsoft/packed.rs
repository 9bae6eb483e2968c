//! Attention of tokens of which those that only pad their sequence are left out: they are put in their places, attended
//! to as sequences of one length, and picked out again.

use ired_graph::{BinaryFn, Builder, CompareFn, CumulativeFn, DType, Dim, ReduceFn, ScatterFn, ValueId};

use super::super::attention::{Heads, attend, join_heads, split_heads};
use super::super::call::{Call, Outcome, invalid, read_size, unsupported};
use super::activation::with_bias;
use super::attention::{head_count, mask_of, merged_parts, scoring_of};

/// Inputs: tokens, merged weights, merged bias, places of tokens, lengths added up, bias of scores.
pub(in super::super) fn attention(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    let projected = b.matmul_broadcast(call.input(0)?, call.input(1)?)?;
    let projected = with_bias(b, call, projected, 2)?;
    let parts = merged_parts(b, call, projected)?;
    let packing = Packing::of(b, call, 3)?;
    packing.attend(b, call, parts, call.optional(5))
}

/// Inputs: queries, keys, values (or all packed), merged bias, places of tokens, lengths added up, bias of scores.
pub(in super::super) fn multi_head(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    let query = call.input(0)?;
    let mut parts = match (b.ty(query).rank(), call.optional(1), call.optional(2)) {
        (2, Some(key), Some(value)) => [query, key, value],
        // Tokens, heads, the three parts, size.
        (4, None, None) => {
            let shape = b.ty(query).shape.clone();
            let flat = vec![shape[0].clone(), shape[1].clone() * shape[3].clone()];
            let mut parts = [query; 3];
            for (i, part) in parts.iter_mut().enumerate() {
                let own = b.slice_axis(query, 2, (i as i64).into(), 1.into())?;
                *part = b.reshape(own, flat.clone())?;
            }
            parts
        }
        (rank, ..) => return invalid(format!("queries of rank {rank} with these keys and values")),
    };
    if let Some(bias) = call.optional(3) {
        let mut start = Dim::constant(0);
        for part in &mut parts {
            let size = b.ty(*part).shape.last().cloned().unwrap_or(1.into());
            let own = b.slice_axis(bias, 0, start.clone(), size.clone())?;
            *part = b.binary_broadcast(BinaryFn::Add, *part, own)?;
            start = start + size;
        }
    }
    let packing = Packing::of(b, call, 4)?;
    packing.attend(b, call, parts, call.optional(6))
}

/// Inputs: tokens `[batch, length, size]`, how many of each item count. Outputs: those that count, their places and after
/// them those of the others, the numbers added up, and the largest of them.
pub(in super::super) fn remove_padding(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome<Vec<ValueId>> {
    let (x, counts) = (call.input(0)?, call.input(1)?);
    let shape = b.ty(x).shape.clone();
    let [batch, length, size] = shape.as_slice() else {
        return invalid(format!("tokens of rank {}; expected 3", shape.len()));
    };
    let counts = b.cast(counts, DType::I64)?;
    let counts = b.reshape(counts, vec![batch.clone()])?;
    let column = b.unsqueeze(counts, &[1])?;
    let position = b.iota(DType::I64, vec![length.clone()], 0)?;
    let pads = b.compare_broadcast(CompareFn::Ge, position, column)?;
    let pads = b.cast(pads, DType::I64)?;
    let all = batch.clone() * length.clone();
    let pads = b.reshape(pads, vec![all.clone()])?;
    // Of equals the order stays, so that tokens come first, in theirs.
    let places = b.sort(pads, 0, false)?;
    let total = b.reduce(ReduceFn::Sum, counts, &[0], false)?;
    let total = read_size(b, total, "tokens")?;
    let kept = b.slice_axis(places, 0, 0.into(), total)?;
    let rows = b.reshape(x, vec![all, size.clone()])?;
    let tokens = b.gather(rows, kept, 0)?;
    let places = b.cast(places, DType::I32)?;
    let places = b.reshape(places, vec![batch.clone(), length.clone()])?;
    let sums = b.cumulative(CumulativeFn::Sum, counts, 0)?;
    let none = b.full(DType::I64, vec![1.into()], 0.0)?;
    let sums = b.concat(&[none, sums], 0)?;
    let largest = b.reduce(ReduceFn::Max, counts, &[0], true)?;
    Ok(vec![tokens, places, b.cast(sums, DType::I32)?, b.cast(largest, DType::I32)?])
}

/// Tokens put in their places, zeros in the others. Inputs: tokens `[tokens, size]`, places as [`remove_padding`] gives
/// them.
pub(in super::super) fn restore_padding(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    let (x, places) = (call.input(0)?, call.input(1)?);
    let (tokens, shape) = (b.ty(x).shape.clone(), b.ty(places).shape.clone());
    let ([count, size], [batch, length]) = (tokens.as_slice(), shape.as_slice()) else {
        return invalid(format!("tokens of rank {} at places of rank {}", tokens.len(), shape.len()));
    };
    let all = batch.clone() * length.clone();
    let places = b.reshape(places, vec![all.clone()])?;
    let kept = b.slice_axis(places, 0, 0.into(), count.clone())?;
    let kept = b.cast(kept, DType::I64)?;
    let kept = b.unsqueeze(kept, &[1])?;
    let nothing = b.full(b.ty(x).dtype, vec![all, size.clone()], 0.0)?;
    let restored = b.scatter_nd(ScatterFn::Set, nothing, kept, x)?;
    Ok(b.reshape(restored, vec![batch.clone(), length.clone(), size.clone()])?)
}

/// Where tokens are among sequences of one length.
struct Packing {
    batch: Dim,
    length: Dim,
    /// The place of each token, i64 `[tokens, 1]`.
    places: ValueId,
    /// How many tokens each sequence has, `[batch]`.
    lengths: ValueId,
}

impl Packing {
    /// Input `at` holds the places of tokens, and after them those of what pads; the next one the lengths added up.
    fn of(b: &mut Builder<'_>, call: &Call<'_>, at: usize) -> Outcome<Self> {
        let (offsets, sums) = (call.input(at)?, call.input(at + 1)?);
        let tokens = call.input_type(b, 0)?.shape.first().cloned().unwrap_or(1.into());
        let shape = b.ty(offsets).shape.clone();
        let [batch, length] = shape.as_slice() else {
            return invalid(format!("places of tokens of rank {}; expected 2", shape.len()));
        };
        let all = b.reshape(offsets, vec![batch.clone() * length.clone()])?;
        let places = b.slice_axis(all, 0, 0.into(), tokens.clone())?;
        let places = b.cast(places, DType::I64)?;
        let places = b.reshape(places, vec![tokens, 1.into()])?;
        let ends = b.slice_axis(sums, 0, 1.into(), batch.clone())?;
        let starts = b.slice_axis(sums, 0, 0.into(), batch.clone())?;
        let lengths = b.binary_broadcast(BinaryFn::Sub, ends, starts)?;
        Ok(Self { batch: batch.clone(), length: length.clone(), places, lengths })
    }

    /// Queries, keys and values are `[tokens, heads * size]` each, and so is the result.
    fn attend(
        &self,
        b: &mut Builder<'_>,
        call: &Call<'_>,
        parts: [ValueId; 3],
        bias: Option<ValueId>,
    ) -> Outcome {
        if call.attributes.flag("unidirectional", false)? {
            return unsupported("packed tokens that only look back", "export the model without packing");
        }
        let count = head_count(call)?;
        let mut heads = parts;
        for part in &mut heads {
            let Some(width) = b.ty(*part).shape.get(1).cloned() else { return invalid("tokens of rank 1") };
            let padded = vec![self.batch.clone() * self.length.clone(), width.clone()];
            let nothing = b.full(b.ty(*part).dtype, padded, 0.0)?;
            let padded = b.scatter_nd(ScatterFn::Set, nothing, self.places, *part)?;
            let apart = b.reshape(padded, vec![self.batch.clone(), self.length.clone(), width])?;
            *part = split_heads(b, apart, count.clone())?;
        }
        let [queries, keys, values] = heads;
        let heads = Heads { queries, keys, values };
        let mask = mask_of(b, call, heads, 0.into(), [Some(self.lengths), bias])?;
        let scoring = scoring_of(b, call, queries)?;
        let result = attend(b, heads, &mask, scoring)?.result;
        let result = join_heads(b, result)?;
        let width = b.ty(result).shape[2].clone();
        let rows = b.reshape(result, vec![self.batch.clone() * self.length.clone(), width])?;
        let places = b.reshape(self.places, vec![b.ty(self.places).shape[0].clone()])?;
        Ok(b.gather(rows, places, 0)?)
    }
}
