//! Values out of nothing: literals, fills, ranges, identity matrices.

use ired_graph::dim::UNBOUNDED;
use ired_graph::{BinaryFn, Builder, CompareFn, DType, Dim, Op, Tensor, UnaryFn, ValueId};

use super::call::{Call, Outcome, invalid, sizes_of, unsupported};
use super::{tensor, text};

pub(super) fn constant(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    let attributes = &call.attributes;
    if let Some(tensor) = attributes.tensor("value")? {
        return literal(b, call, tensor);
    }
    if let Some(value) = attributes.float("value_float")? {
        return Ok(b.scalar(DType::F32, value)?);
    }
    if let Some(values) = attributes.floats("value_floats")? {
        let data: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        return dense(b, call, DType::F32, vec![values.len() as u64], data);
    }
    if let Some(value) = attributes.int("value_int")? {
        return dense(b, call, DType::I64, Vec::new(), value.to_le_bytes().to_vec());
    }
    if let Some(values) = attributes.ints("value_ints")? {
        let data: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        return dense(b, call, DType::I64, vec![values.len() as u64], data);
    }
    if let Some(value) = attributes.bytes("value_string")? {
        return text::constant(b, call, Vec::new(), &[value]);
    }
    if let Some(values) = attributes.bytes_list("value_strings")? {
        let values: Vec<&[u8]> = values.iter().map(|v| &**v).collect();
        return text::constant(b, call, vec![values.len() as u64], &values);
    }
    match attributes.unread().first() {
        Some(form) => {
            unsupported(format!("a constant in attribute `{form}`"), "store it as a dense tensor of numbers")
        }
        None => invalid("has no value"),
    }
}

fn dense(b: &mut Builder<'_>, call: &Call<'_>, dtype: DType, shape: Vec<u64>, data: Vec<u8>) -> Outcome {
    match Tensor::new(dtype, shape, data.into()) {
        Ok(tensor) => tensor::emit_tensor(b, call.name, tensor),
        Err(error) => invalid(error.to_string()),
    }
}

fn literal(b: &mut Builder<'_>, call: &Call<'_>, tensor: &super::proto::TensorProto) -> Outcome {
    match tensor::dtype(tensor.data_type()) {
        Ok(_) => tensor::emit(b, call.name, tensor, call.files),
        Err(error) => unsupported(error.to_string(), "use a supported element type"),
    }
}

/// A broadcast of one element: the size costs nothing.
pub(super) fn constant_of_shape(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    let list = call.list_input(b, 0, call.stated_rank(0))?;
    let shape = b.read_dims(list, "read")?;
    let value = match call.attributes.tensor("value")? {
        Some(tensor) => literal(b, call, tensor)?,
        None => b.scalar(DType::F32, 0.0)?,
    };
    if b.ty(value).elements().as_static() != Some(1) {
        return invalid("attribute `value` has more than one element");
    }
    let value = b.reshape(value, Vec::new())?;
    Ok(b.broadcast_to(value, shape)?)
}

/// `start, start + delta, ..` up to `limit`.
pub(super) fn range(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    let delta = call.input(2)?;
    range_by(b, call, delta)
}

/// As [`range`], by 1 where there is no step.
pub(super) fn range_by_one(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    let delta = match call.optional(2) {
        Some(delta) => delta,
        None => b.scalar_like(call.input(0)?, 1.0)?,
    };
    range_by(b, call, delta)
}

fn range_by(b: &mut Builder<'_>, call: &Call<'_>, delta: ValueId) -> Outcome {
    let dtype = call.input_type(b, 0)?.dtype;
    let mut ends = [call.input(0)?, call.input(1)?, delta];
    for end in &mut ends {
        *end = b.reshape(*end, Vec::new())?;
    }
    let length = match known_range_length(b, ends)? {
        Some(length) => length,
        None => computed_range_length(b, ends)?,
    };
    let index = b.iota(dtype, vec![length], 0)?;
    let [start, _, delta] = ends;
    let scaled = match sizes_of(b, delta).as_deref() {
        Some([one]) if *one == Dim::constant(1) => index,
        _ => b.binary_broadcast(BinaryFn::Mul, index, delta)?,
    };
    match sizes_of(b, start).as_deref() {
        Some([zero]) if *zero == Dim::constant(0) => Ok(scaled),
        _ => Ok(b.binary_broadcast(BinaryFn::Add, scaled, start)?),
    }
}

/// The length where the ends are constants or sizes and the step is a constant.
fn known_range_length(b: &Builder<'_>, ends: [ValueId; 3]) -> Outcome<Option<Dim>> {
    if b.ty(ends[0]).dtype.is_float() {
        return float_range_length(b, ends);
    }
    let known = ends.map(|end| sizes_of(b, end).and_then(|mut d| d.pop()));
    let [Some(start), Some(limit), Some(delta)] = known else { return Ok(None) };
    let steps = match delta.as_static() {
        None => return Ok(None),
        Some(0) => return invalid("delta is 0"),
        Some(1..) => (limit - start).ceil_div(&delta),
        // Negated by hand: the lowest i64 has no negative.
        Some(delta) => (start - limit).ceil_div(&delta.saturating_neg().into()),
    };
    Ok(Some(b.graph.symbols.simplify(&steps.maximum(&0.into()))))
}

fn float_range_length(b: &Builder<'_>, ends: [ValueId; 3]) -> Outcome<Option<Dim>> {
    let constant = |end: ValueId| match b.graph.producer_op(end) {
        Some(Op::Constant(tensor)) => tensor.to_f64s().first().copied(),
        _ => None,
    };
    let [Some(start), Some(limit), Some(delta)] = ends.map(constant) else { return Ok(None) };
    let steps = ((limit - start) / delta).ceil().max(0.0);
    match steps.is_finite() && steps < 1e15 {
        true => Ok(Some(Dim::constant(steps as i64))),
        false => invalid(format!("from {start} to {limit} by {delta} has no length")),
    }
}

/// The length as the run computes it; where that is no number, it is no size either, and refused then.
fn computed_range_length(b: &mut Builder<'_>, ends: [ValueId; 3]) -> Outcome<Dim> {
    let wide = if b.ty(ends[0]).dtype.is_float() { DType::F64 } else { DType::I64 };
    let mut cast = |end: ValueId| b.cast(end, wide);
    let (start, limit, delta) = (cast(ends[0])?, cast(ends[1])?, cast(ends[2])?);
    let span = b.binary_broadcast(BinaryFn::Sub, limit, start)?;
    let steps = match wide {
        DType::F64 => {
            let steps = b.binary_broadcast(BinaryFn::Div, span, delta)?;
            let steps = b.unary(UnaryFn::Ceil, steps)?;
            b.cast(steps, DType::I64)?
        }
        _ => {
            // Rounded up: truncated towards zero, and one more where that left something in the step's direction.
            let whole = b.binary_broadcast(BinaryFn::Div, span, delta)?;
            let rest = b.binary_broadcast(BinaryFn::Rem, span, delta)?;
            let [rest, step] = [b.unary(UnaryFn::Sign, rest)?, b.unary(UnaryFn::Sign, delta)?];
            let more = b.binary_broadcast(BinaryFn::Mul, rest, step)?;
            let more = b.binary_scalar(BinaryFn::Max, more, 0.0)?;
            b.binary_broadcast(BinaryFn::Add, whole, more)?
        }
    };
    let steps = b.binary_scalar(BinaryFn::Max, steps, 0.0)?;
    Ok(b.read_dims(steps, "length")?.pop().unwrap_or(0.into()))
}

/// Ones on diagonal `k` of a matrix shaped like the input.
pub(super) fn eye_like(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    let like = call.input_type(b, 0)?;
    let dtype = call.dtype_attribute("dtype")?.unwrap_or(like.dtype);
    let k = call.attributes.int_or("k", 0)?;
    if like.rank() != 2 {
        return invalid(format!("input of rank {}; expected a matrix", like.rank()));
    }
    let k = b.constant(Tensor::from_i64s(&[], &[k]))?;
    let diagonal = on_diagonal(b, &like.shape, k, CompareFn::Eq)?;
    Ok(b.cast(diagonal, dtype)?)
}

/// Where `column - row ? k`, for the last two axes of `shape` and an i64 scalar `k`; a bool matrix.
pub(super) fn on_diagonal(
    b: &mut Builder<'_>,
    shape: &[Dim],
    k: ValueId,
    function: CompareFn,
) -> Outcome<ValueId> {
    let matrix = shape[shape.len() - 2..].to_vec();
    let row = b.iota(DType::I64, matrix.clone(), 0)?;
    let column = b.iota(DType::I64, matrix, 1)?;
    // A diagonal beyond any size is as good as one at the end of what a size may be.
    let end = UNBOUNDED as f64;
    let k = b.binary_scalar(BinaryFn::Max, k, -end)?;
    let k = b.binary_scalar(BinaryFn::Min, k, end)?;
    let bound = b.binary_broadcast(BinaryFn::Add, row, k)?;
    Ok(b.compare_broadcast(function, column, bound)?)
}
