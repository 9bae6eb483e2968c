//! Labels of classes: from one name of a class to another, to its number, to a vector with a one.

use ired_graph::{BinaryFn, Builder, CompareFn, DType, Dim, Tensor, ValueId};
use ired_host::IndexOf;

use super::call::{Call, Outcome, invalid};
use super::{tensor, text};

/// The default of a missing string label.
const UNUSED: &[u8] = b"_Unused";

/// Maps each element that is a key to the value in its place, others to a default.
pub(super) fn label_encoder(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    if call.version == 1 {
        return by_class(b, call, "classes_strings");
    }
    let x = call.input(0)?;
    let Some((_, keys)) = list(b, call, "keys")? else { return invalid("has no keys") };
    let Some((kind, values)) = list(b, call, "values")? else { return invalid("has no values") };
    let default = match call.attributes.tensor("default_tensor")? {
        Some(found) => tensor::read(found, call.files, std::sync::Arc::make_mut(&mut b.graph.strings))?,
        None => default(b, call, kind)?,
    };
    if default.dtype() != values.dtype() {
        return invalid(format!("a default of {} for values of {}", default.dtype(), values.dtype()));
    }
    map(b, call, x, keys, values, default)
}

/// Version 1 of the encoder, and the category mapper: strings to numbers, or numbers to strings.
fn by_class(b: &mut Builder<'_>, call: &Call<'_>, names: &str) -> Outcome {
    let x = call.input(0)?;
    let texts: Vec<&[u8]> =
        call.attributes.bytes_list(names)?.unwrap_or_default().iter().map(|text| &**text).collect();
    let strings = text::strings(b, vec![texts.len() as u64], &texts)?;
    let numbers: Vec<i64> = match call.attributes.ints("cats_int64s")? {
        Some(numbers) => numbers.to_vec(),
        None => (0..texts.len() as i64).collect(),
    };
    let numbers = Tensor::from_i64s(&[numbers.len() as u64], &numbers);
    let (int, string) = (default(b, call, "int64s")?, default(b, call, "strings")?);
    match b.ty(x).dtype {
        DType::String => map(b, call, x, strings, numbers, int),
        _ => map(b, call, x, numbers, strings, string),
    }
}

pub(super) fn category_mapper(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    by_class(b, call, "cats_strings")
}

/// The list in attributes `PREFIX_strings`, `_int64s`, `_floats` or `_tensor`, and which of them it is.
fn list(b: &mut Builder<'_>, call: &Call<'_>, prefix: &str) -> Outcome<Option<(&'static str, Tensor)>> {
    let name = |kind: &str| format!("{prefix}_{kind}");
    let attributes = &call.attributes;
    let mut found = Vec::new();
    if let Some(texts) = attributes.bytes_list(&name("strings"))? {
        let texts: Vec<&[u8]> = texts.iter().map(|text| &**text).collect();
        found.push(("strings", text::strings(b, vec![texts.len() as u64], &texts)?));
    }
    if let Some(numbers) = attributes.ints(&name("int64s"))? {
        found.push(("int64s", Tensor::from_i64s(&[numbers.len() as u64], numbers)));
    }
    if let Some(numbers) = attributes.floats(&name("floats"))? {
        found.push(("floats", Tensor::from_f32s(&[numbers.len() as u64], numbers)));
    }
    if let Some(stored) = attributes.tensor(&name("tensor"))? {
        let strings = std::sync::Arc::make_mut(&mut b.graph.strings);
        found.push(("tensor", tensor::read(stored, call.files, strings)?));
    }
    match found.len() {
        0 | 1 => Ok(found.pop()),
        _ => invalid(format!("has more than one list of {prefix}")),
    }
}

/// What stands for a missing label, of the type that the values of `kind` have.
fn default(b: &mut Builder<'_>, call: &Call<'_>, kind: &str) -> Outcome<Tensor> {
    let attributes = &call.attributes;
    let (string, int) = (attributes.bytes("default_string")?, attributes.int("default_int64")?);
    let float = attributes.float("default_float")?;
    match kind {
        "strings" => text::strings(b, Vec::new(), &[string.unwrap_or(UNUSED)]),
        "int64s" => Ok(Tensor::from_i64s(&[], &[int.unwrap_or(-1)])),
        "floats" => Ok(Tensor::scalar(DType::F32, float.unwrap_or(-0.0))),
        _ => invalid("has values in a tensor and no `default_tensor`"),
    }
}

fn map(
    b: &mut Builder<'_>,
    call: &Call<'_>,
    x: ValueId,
    keys: Tensor,
    values: Tensor,
    default: Tensor,
) -> Outcome {
    if keys.len() != values.len() {
        return invalid(format!("has {} keys and {} values", keys.len(), values.len()));
    }
    if keys.dtype() != b.ty(x).dtype {
        return invalid(format!("has keys of {} for an input of {}", keys.dtype(), b.ty(x).dtype));
    }
    let shape = b.ty(x).shape.clone();
    let default = default.with_shape(Vec::new()).or_else(|e| invalid(e.to_string()))?;
    let default = b.constant(default)?;
    let default = b.broadcast_to(default, shape)?;
    if keys.is_empty() {
        return Ok(default);
    }
    let count = keys.len() as u64;
    let (keys, values) = match (keys.with_shape(vec![count]), values.with_shape(vec![count])) {
        (Ok(keys), Ok(values)) => (keys, values),
        _ => return invalid("has keys or values that are no list"),
    };
    let keys = tensor::emit_tensor(b, &format!("{}.keys", call.name), keys)?;
    let values = tensor::emit_tensor(b, &format!("{}.values", call.name), values)?;
    let position = text::same_shape(b, &IndexOf { required: false }, &[x, keys], DType::I64)?;
    let zero = b.scalar(DType::I64, 0.0)?;
    let found = b.compare_broadcast(CompareFn::Ge, position, zero)?;
    let position = b.binary_broadcast(BinaryFn::Max, position, zero)?;
    let value = b.gather(values, position, 0)?;
    Ok(b.push(ired_graph::Op::Select, &[found, value, default])?)
}

/// A new last axis, as long as there are categories, with a one at that of the element.
pub(super) fn one_hot_encoder(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    let x = call.input(0)?;
    let attributes = &call.attributes;
    let required = !attributes.flag("zeros", true)?;
    let (texts, numbers) = (attributes.bytes_list("cats_strings")?, attributes.ints("cats_int64s")?);
    let (x, keys) = match (b.ty(x).dtype, texts, numbers) {
        (DType::String, Some(texts), None) => {
            let texts: Vec<&[u8]> = texts.iter().map(|text| &**text).collect();
            (x, text::strings(b, vec![texts.len() as u64], &texts)?)
        }
        (dtype, None, Some(numbers)) if dtype != DType::String => {
            (b.cast(x, DType::I64)?, Tensor::from_i64s(&[numbers.len() as u64], numbers))
        }
        (dtype, ..) => return invalid(format!("input of {dtype} without categories of its type alone")),
    };
    let count = keys.len() as i64;
    let keys = tensor::emit_tensor(b, &format!("{}.categories", call.name), keys)?;
    let position = text::same_shape(b, &IndexOf { required }, &[x, keys], DType::I64)?;
    let rank = b.ty(position).rank();
    let position = b.unsqueeze(position, &[rank])?;
    let category = b.iota(DType::I64, vec![Dim::constant(count)], 0)?;
    let one = b.compare_broadcast(CompareFn::Eq, position, category)?;
    Ok(b.cast(one, DType::F32)?)
}
