//! Attention whose state is a matrix a head, changed from step to step, rather than all keys and values.

use ired_graph::{BinaryFn, Builder, DType, Dim, Op, UnaryFn, ValueId};

use super::attention::split_heads;
use super::call::{Call, Outcome, invalid};
use super::repeat::{Step, repeat};

/// What a step takes, each with its time first: `[length, batch, key heads, ..]`.
struct Steps {
    queries: ValueId,
    keys: ValueId,
    values: ValueId,
    /// What the state is multiplied by, along its keys.
    decay: Option<ValueId>,
    /// How much of the difference between a value and what the state gives for its key is added.
    rate: Option<ValueId>,
}

/// Outputs: the result `[batch, length, query heads * value size]`, and the state
/// `[batch, key heads, key size, value size]`. All is computed in f32.
pub(super) fn linear_attention(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome<Vec<ValueId>> {
    call.attributes.ignore(&["chunk_size"]);
    let heads = [call.attributes.int_or("q_num_heads", 0)?, call.attributes.int_or("kv_num_heads", 0)?];
    let [query_heads, key_heads] = heads;
    if key_heads < 1 || query_heads < 1 || query_heads % key_heads != 0 {
        return invalid(format!(
            "{query_heads} query heads share {key_heads} key heads; expected a multiple"
        ));
    }
    let (decays, corrects) = match call.attributes.text("update_rule")?.unwrap_or("gated_delta") {
        "linear" => (false, false),
        "gated" => (true, false),
        "delta" => (false, true),
        "gated_delta" => (true, true),
        other => return invalid(format!("update_rule `{other}`")),
    };
    for (index, name, wanted) in [(4, "decay", decays), (5, "beta", corrects)] {
        if call.optional(index).is_some() != wanted {
            return invalid(format!("the update rule and input {index} (`{name}`) do not go together"));
        }
    }
    let dtype = call.input_type(b, 0)?.dtype;
    let steps = Steps::of(b, call, query_heads, key_heads)?;
    let scale = call.attributes.float_or("scale", 0.0)?;
    let (queries, values) = (b.ty(steps.queries).shape.clone(), b.ty(steps.values).shape.clone());
    let shape = vec![queries[1].clone(), key_heads.into(), queries[4].clone(), values[4].clone()];
    let (initial, state_dtype) = match call.optional(3) {
        Some(past) => {
            let (wide, dtype) = (b.cast(past, DType::F32)?, b.ty(past).dtype);
            (b.reshape(wide, shape)?, dtype)
        }
        None => (b.full(DType::F32, shape, 0.0)?, dtype),
    };
    let mut results = repeat(b, queries[0].clone(), &[initial], |b, index, before| {
        let (state, read) = steps.step(b, index, before[0])?;
        Ok(Step { state: vec![state], slices: vec![read] })
    })?;
    let (Some(read), Some(state)) = (results.pop(), results.pop()) else { return invalid("no steps") };
    let scale = match scale {
        0.0 => {
            let size = b.dim(queries[4].clone())?;
            let size = b.cast(size, DType::F32)?;
            b.unary(UnaryFn::Rsqrt, size)?
        }
        scale => b.scalar(DType::F32, scale)?,
    };
    let read = b.binary_broadcast(BinaryFn::Mul, read, scale)?;
    let read = b.cast(read, dtype)?;
    // Time stands first; heads become one axis.
    let read = b.transpose(read, vec![1, 0, 2, 3, 4])?;
    let hidden = Dim::constant(query_heads) * values[4].clone();
    let result = b.reshape(read, vec![queries[1].clone(), queries[0].clone(), hidden])?;
    Ok(vec![result, b.cast(state, state_dtype)?])
}

impl Steps {
    fn of(b: &mut Builder<'_>, call: &Call<'_>, query_heads: i64, key_heads: i64) -> Outcome<Self> {
        let group = query_heads / key_heads;
        // [batch, heads, length, size] with the time first, and an axis for the heads that share a state.
        let mut packed = |index: usize, heads: i64, group: i64| -> Outcome {
            let wide = b.cast(call.input(index)?, DType::F32)?;
            let apart = split_heads(b, wide, heads.into())?;
            let timed = b.transpose(apart, vec![2, 0, 1, 3])?;
            let shape = b.ty(timed).shape.clone();
            let [length, batch, _, size] = shape.as_slice() else {
                return invalid("heads are not of rank 4");
            };
            let shared = (heads / group).into();
            Ok(b.reshape(timed, vec![length.clone(), batch.clone(), shared, group.into(), size.clone()])?)
        };
        let queries = packed(0, query_heads, group)?;
        let keys = packed(1, key_heads, 1)?;
        let values = packed(2, key_heads, 1)?;
        let mut gates = |index: usize| -> Outcome<Option<ValueId>> {
            let Some(gate) = call.optional(index) else { return Ok(None) };
            // A gate of one number is one for all heads.
            let Some(width) = b.ty(gate).shape.get(2).cloned() else {
                return invalid("a gate not of rank 3");
            };
            let heads = b.graph.symbols.simplify(&width.minimum(&key_heads.into()));
            let wide = b.cast(gate, DType::F32)?;
            let apart = split_heads(b, wide, heads)?;
            let timed = b.transpose(apart, vec![2, 0, 1, 3])?;
            // A column: a number for each key of a head, or one for all.
            Ok(Some(b.unsqueeze(timed, &[4])?))
        };
        let (decay, rate) = (gates(4)?, gates(5)?);
        let decay = decay.map(|decay| b.unary(UnaryFn::Exp, decay)).transpose()?;
        Ok(Self { queries, keys, values, decay, rate })
    }

    /// The state after a step, and what its queries read from it, `[batch, key heads, group, value size]`.
    fn step(&self, b: &mut Builder<'_>, index: &Dim, mut state: ValueId) -> Outcome<(ValueId, ValueId)> {
        let shape = b.ty(state).shape.clone();
        let now = |b: &mut Builder<'_>, steps: ValueId| -> Outcome {
            let part = b.slice_axis(steps, 0, index.clone(), 1.into())?;
            Ok(b.squeeze(part, &[0])?)
        };
        let (queries, keys) = (now(b, self.queries)?, now(b, self.keys)?);
        let mut values = now(b, self.values)?;
        if let Some(decay) = self.decay {
            let decay = now(b, decay)?;
            let decay = b.broadcast_to(decay, shape.clone())?;
            state = b.binary_broadcast(BinaryFn::Mul, state, decay)?;
        }
        if let Some(rate) = self.rate {
            let known = b.push(Op::MatMul, &[keys, state])?;
            let rate = now(b, rate)?;
            let difference = b.binary_broadcast(BinaryFn::Sub, values, known)?;
            let rate = b.broadcast_to(rate, b.ty(difference).shape.clone())?;
            values = b.binary_broadcast(BinaryFn::Mul, difference, rate)?;
        }
        let column = b.transpose(keys, vec![0, 1, 3, 2])?;
        let column = b.broadcast_to(column, shape.clone())?;
        let values = b.broadcast_to(values, shape)?;
        let added = b.binary_broadcast(BinaryFn::Mul, column, values)?;
        let state = b.binary_broadcast(BinaryFn::Add, state, added)?;
        Ok((state, b.push(Op::MatMul, &[queries, state])?))
    }
}
