//! Attention of the standard operators.

mod mask;
mod product;

use ired_graph::{Builder, CompareFn, DType, Dim, ValueId};

use super::call::{Call, Outcome, Refusal, invalid};
use super::import::{Binding, Frame, Importer, Scope};
use super::proto::GraphProto;
use crate::Problem;

pub(super) use mask::{Mask, Positions, pad_keys};
pub(super) use product::{Attended, Heads, Scoring, attend, join_heads, split_heads};

/// Outputs: the result, present keys, present values, and scores at the stage that `qk_matmul_output_mode` says.
pub(super) fn attention(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome<Vec<ValueId>> {
    let (heads, past) = heads_of(b, call)?;
    let flat = call.input_type(b, 0)?.rank() == 3;
    let precision = call.dtype_attribute("softmax_precision")?;
    let scoring = Scoring {
        scale: call.attributes.float("scale")?,
        softcap: call.attributes.float_or("softcap", 0.0)?,
        precision: precision.unwrap_or(b.ty(heads.queries).dtype),
        sink: None,
    };
    if !scoring.precision.is_float() {
        return invalid(format!("softmax_precision is {}; expected a float type", scoring.precision));
    }
    let mask = mask_of(b, call, heads, past)?;
    let mode = call.attributes.int_or("qk_matmul_output_mode", 0)?;
    let Attended { scores, capped, masked, probabilities, result } = attend(b, heads, &mask, scoring)?;
    let result = if flat { join_heads(b, result)? } else { result };
    let stage = match mode {
        0 => scores,
        1 => capped,
        2 => masked,
        3 => probabilities,
        _ => return invalid(format!("qk_matmul_output_mode is {mode}; expected 0 to 3")),
    };
    Ok(vec![result, heads.keys, heads.values, stage])
}

/// Inputs 0 to 2 with heads apart, the past's keys and values put before the new ones; and the past's length.
fn heads_of(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome<(Heads, Dim)> {
    let mut parts = [call.input(0)?, call.input(1)?, call.input(2)?];
    let count = [call.attributes.int("q_num_heads")?, call.attributes.int("kv_num_heads")?];
    let rank = b.ty(parts[0]).rank();
    if parts.iter().any(|part| b.ty(*part).rank() != rank) || !matches!(rank, 3 | 4) {
        return invalid("queries, keys and values are not all of rank 3, or all of rank 4");
    }
    if rank == 3 {
        for (part, count) in parts.iter_mut().zip([count[0], count[1], count[1]]) {
            let Some(count) = count.filter(|count| *count > 0) else {
                return invalid("inputs of rank 3 need `q_num_heads` and `kv_num_heads`");
            };
            *part = split_heads(b, *part, count.into())?;
        }
    }
    let [queries, mut keys, mut values] = parts;
    let past = match (call.optional(4), call.optional(5)) {
        (Some(past_keys), Some(past_values)) => {
            let past = b.ty(past_keys).shape.get(2).cloned().unwrap_or(0.into());
            keys = b.concat(&[past_keys, keys], 2)?;
            values = b.concat(&[past_values, values], 2)?;
            past
        }
        (None, None) => 0.into(),
        _ => return invalid("past keys without past values, or the other way round"),
    };
    Ok((Heads { queries, keys, values }, past))
}

fn mask_of(b: &mut Builder<'_>, call: &Call<'_>, heads: Heads, past: Dim) -> Outcome<Mask> {
    let causal = call.attributes.flag("is_causal", false)?;
    let mut window = [None; 2];
    for (bound, name) in window.iter_mut().zip(["left_window_size", "right_window_size"]) {
        *bound = match call.attributes.int_or(name, -1)? {
            -1 => None,
            size if size < -1 => return invalid(format!("{name} is {size}; expected -1 or more")),
            size => Some(size),
        };
    }
    let [left, right] = window;
    let (queries, keys) = (b.ty(heads.queries).shape[2].clone(), b.ty(heads.keys).shape[2].clone());
    let filled = match call.optional(6) {
        Some(_) if call.optional(4).is_some() => {
            return invalid("lengths of keys that are filled, and past keys");
        }
        Some(filled) => Some(per_item(b, filled)?),
        None => None,
    };
    let positions = match filled {
        // The queries are the last of what is filled.
        Some(filled) => {
            let length = b.dim(queries.clone())?;
            let first = b.binary_broadcast(ired_graph::BinaryFn::Sub, filled, length)?;
            Positions::from(b, first, queries, keys.clone())?
        }
        None => Positions::after(b, past, queries, keys.clone())?,
    };
    let mut mask = if causal { Mask::causal(b, &positions)? } else { Mask::default() };
    mask.window(b, &positions, left, right)?;
    if let Some(filled) = filled {
        let allowed = b.compare_broadcast(CompareFn::Lt, positions.keys, filled)?;
        mask.allow_only(b, allowed)?;
    }
    if let Some(given) = call.optional(3) {
        // From version 24 on a mask may be for the first keys only.
        let given = if call.version >= 24 { pad_keys(b, given, &keys)? } else { given };
        match b.ty(given).dtype {
            DType::Bool => mask.allow_only(b, given)?,
            _ => {
                let bias = b.cast(given, b.ty(heads.queries).dtype)?;
                mask.add(b, bias)?;
            }
        }
    }
    Ok(mask)
}

/// A vector of one number an item, as i64 `[batch, 1, 1, 1]`.
pub(super) fn per_item(b: &mut Builder<'_>, vector: ValueId) -> Outcome {
    let wide = b.cast(vector, DType::I64)?;
    let count = b.ty(wide).elements();
    Ok(b.reshape(wide, vec![count, 1.into(), 1.into(), 1.into()])?)
}

/// Attention whose scores and probabilities pass through graphs of the model's own.
pub(super) fn flex(
    importer: &mut Importer<'_>,
    call: &Call<'_>,
    scope: &Scope<'_>,
    frame: &Frame<'_>,
) -> Outcome<Vec<Binding>> {
    let heads = Heads { queries: call.input(0)?, keys: call.input(1)?, values: call.input(2)? };
    let scale = call.attributes.float("scale")?;
    let precision = call.dtype_attribute("softmax_precision")?;
    let dtype = importer.graph.ty(heads.queries).dtype;
    let precision = precision.unwrap_or(if dtype == DType::F64 { DType::F64 } else { DType::F32 });
    let mut b = importer.builder(call.name, "FlexAttention", frame.region);
    let scores = product::scaled_scores(&mut b, heads, scale)?;
    let scores = b.cast(scores, precision)?;
    let modifiers =
        [call.attributes.optional_graph("score_mod")?, call.attributes.optional_graph("prob_mod")?];
    let Some(scores) = modify(importer, modifiers[0], scores, scope, frame)? else {
        return Ok(vec![Binding::Unknown]);
    };
    let mut b = importer.builder(call.name, "FlexAttention", frame.region);
    let probabilities = product::softmax_in(&mut b, scores, precision)?;
    let Some(probabilities) = modify(importer, modifiers[1], probabilities, scope, frame)? else {
        return Ok(vec![Binding::Unknown]);
    };
    let mut b = importer.builder(call.name, "FlexAttention", frame.region);
    let result = product::weigh_values(&mut b, probabilities, heads.values, dtype)?;
    Ok(vec![Binding::Value(result)])
}

/// What a graph of one input and one output of the same type makes of `x`; nothing if a node of it is refused.
fn modify(
    importer: &mut Importer<'_>,
    graph: Option<&GraphProto>,
    x: ValueId,
    scope: &Scope<'_>,
    frame: &Frame<'_>,
) -> Outcome<Option<ValueId>> {
    let Some(graph) = graph else { return Ok(Some(x)) };
    let outputs = importer.import_subgraph(graph, &[Binding::Value(x)], scope, frame)?;
    let [output] = outputs.as_slice() else {
        return invalid(format!("a modifier gives {} outputs; expected one", outputs.len()));
    };
    let Some(result) = output.value() else { return Ok(None) };
    let (found, expected) = (importer.graph.ty(result), importer.graph.ty(x));
    if found.dtype != expected.dtype || found.rank() != expected.rank() {
        let problem = format!(
            "a modifier gives {} of rank {}; expected {} of rank {}",
            found.dtype,
            found.rank(),
            expected.dtype,
            expected.rank()
        );
        return Err(Refusal::Invalid(Problem::Other(problem)));
    }
    Ok(Some(result))
}
