//! Strings: constants, conversion, cleaning, splitting, matching, counting. All but moving them is host functions.

use ired_graph::{Builder, DType, Dim, Op, Tensor, TensorType, ValueId};
use ired_host::{
    CaseChange, CountNgrams, Format, Parse, RegexFullMatch, StringConcat, StringNormalize, StringSplit,
};

use super::call::{Call, Outcome, Refusal, invalid, unsupported};
use super::tensor;

/// A constant of strings.
pub(super) fn constant(b: &mut Builder<'_>, call: &Call<'_>, shape: Vec<u64>, texts: &[&[u8]]) -> Outcome {
    let tensor = strings(b, shape, texts)?;
    tensor::emit_tensor(b, call.name, tensor)
}

/// A tensor of strings, added to the graph's.
pub(super) fn strings(b: &mut Builder<'_>, shape: Vec<u64>, texts: &[&[u8]]) -> Outcome<Tensor> {
    let handles: Result<Vec<u64>, _> = texts.iter().map(|text| b.graph.intern(text)).collect();
    match handles {
        Ok(handles) => Ok(Tensor::from_handles(&shape, &handles)),
        Err(full) => unsupported(full.to_string(), "use fewer or shorter strings"),
    }
}

/// The one result of a host function that gives what has the shape of `x`.
pub(super) fn same_shape(
    b: &mut Builder<'_>,
    attributes: &impl ired_host::Attributes,
    operands: &[ValueId],
    dtype: DType,
) -> Outcome {
    let shape = b.ty(operands[0]).shape.clone();
    Ok(b.host(attributes, operands, vec![TensorType { dtype, shape }], Vec::new())?[0])
}

/// Numbers to strings or strings to numbers. Types that host functions do not know go by way of wider ones, which is exact
/// to strings, and from them rounds as often as a cast from text to f32 and on would.
pub(super) fn cast(b: &mut Builder<'_>, x: ValueId, to: DType) -> Outcome {
    let known = |dtype: DType| ired_host::DType::named(dtype.name());
    let wider = |dtype: DType| if dtype.is_integer() { DType::I32 } else { DType::F32 };
    if to == DType::String {
        let dtype = b.ty(x).dtype;
        let x = if known(dtype).is_some() { x } else { b.cast(x, wider(dtype))? };
        return same_shape(b, &Format, &[x], DType::String);
    }
    let through = if known(to).is_some() { to } else { wider(to) };
    let Some(parsed) = known(through) else { return invalid(format!("a cast from string to {to}")) };
    let numbers = same_shape(b, &Parse { to: parsed }, &[x], through)?;
    Ok(b.cast(numbers, to)?)
}

fn strings_input(b: &Builder<'_>, call: &Call<'_>, index: usize) -> Outcome {
    let x = call.input(index)?;
    match b.ty(x).dtype {
        DType::String => Ok(x),
        found => {
            Err(Refusal::Invalid(crate::Problem::InputType { index, expected: "strings".to_owned(), found }))
        }
    }
}

pub(super) fn concat(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    let (lhs, rhs) = (strings_input(b, call, 0)?, strings_input(b, call, 1)?);
    let [lhs, rhs] = b.broadcast_together([lhs, rhs])?;
    same_shape(b, &StringConcat, &[lhs, rhs], DType::String)
}

pub(super) fn full_match(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    let x = strings_input(b, call, 0)?;
    let pattern = call.attributes.text("pattern")?.unwrap_or_default().to_owned();
    let attributes = RegexFullMatch { pattern };
    match attributes.compile() {
        Ok(_) => same_shape(b, &attributes, &[x], DType::Bool),
        Err(problem) => unsupported(problem, "use the syntax that RE2 and Rust's `regex` share"),
    }
}

/// The locale is that of no country: case changes by Unicode's own rules, on every machine alike.
pub(super) fn normalize(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    let x = strings_input(b, call, 0)?;
    let attributes = &call.attributes;
    attributes.ignore(&["locale"]);
    let case_change = match attributes.text("case_change_action")?.unwrap_or("NONE") {
        "NONE" => CaseChange::None,
        "LOWER" => CaseChange::Lower,
        "UPPER" => CaseChange::Upper,
        other => return invalid(format!("attribute `case_change_action` is `{other}`")),
    };
    let stop_words = attributes.bytes_list("stopwords")?.unwrap_or_default();
    let stop_words: Result<Vec<String>, _> =
        stop_words.iter().map(|word| String::from_utf8(word.to_vec())).collect();
    let Ok(stop_words) = stop_words else { return invalid("attribute `stopwords` is not UTF-8") };
    let case_sensitive = attributes.flag("is_case_sensitive", false)?;
    let mut shape = b.ty(x).shape.clone();
    if !(shape.len() == 1 || shape.len() == 2 && !b.graph.symbols.is_known_ne(&shape[0], &1.into())) {
        return invalid(format!("input of rank {}; expected [c] or [1, c]", shape.len()));
    }
    let Some(last) = shape.last_mut() else { return invalid("input is a scalar") };
    let one = Dim::constant(1);
    let mut symbols = Vec::new();
    if stop_words.is_empty() {
        *last = b.graph.symbols.simplify(&last.maximum(&one));
    } else {
        let most = b.graph.symbols.range(last).max.max(1);
        let kept = b.graph.symbols.fresh("kept");
        (b.graph.symbols.get_mut(kept).min, b.graph.symbols.get_mut(kept).max) = (1, most);
        *last = Dim::symbol(kept);
        symbols.push(kept);
    }
    if shape.len() == 2 {
        shape[0] = one;
    }
    let attributes = StringNormalize { case_change, case_sensitive, stop_words };
    Ok(b.host(&attributes, &[x], vec![TensorType::new(DType::String, shape)], symbols)?[0])
}

pub(super) fn split(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome<Vec<ValueId>> {
    let x = strings_input(b, call, 0)?;
    let delimiter = call.attributes.text("delimiter")?.filter(|text| !text.is_empty()).map(str::to_owned);
    // Python's -1 is no limit.
    let max_splits = call.attributes.int("maxsplit")?.and_then(|n| u64::try_from(n).ok());
    let shape = b.ty(x).shape.clone();
    let pieces = b.graph.symbols.fresh("pieces");
    let split_shape = [shape.as_slice(), &[Dim::symbol(pieces)]].concat();
    let results = vec![TensorType::new(DType::String, split_shape), TensorType::new(DType::I64, shape)];
    Ok(b.host(&StringSplit { delimiter, max_splits }, &[x], results, vec![pieces])?)
}

/// Counts by a host function; what counts are worth is arithmetic.
pub(super) fn tf_idf(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    let x = call.input(0)?;
    let attributes = &call.attributes;
    let mode = attributes.text("mode")?.unwrap_or("TF");
    let weights = attributes.floats("weights")?;
    let list = |name: &str| -> Outcome<Vec<u64>> {
        let found: Option<Vec<u64>> =
            attributes.ints(name)?.unwrap_or_default().iter().map(|n| u64::try_from(*n).ok()).collect();
        found.map_or_else(|| invalid(format!("attribute `{name}` has a negative entry")), Ok)
    };
    let number = |name: &str| -> Outcome<u64> {
        let found = attributes.int(name)?.and_then(|n| u64::try_from(n).ok());
        found.map_or_else(|| invalid(format!("attribute `{name}` is missing or negative")), Ok)
    };
    let columns = list("ngram_indexes")?;
    let size = columns.iter().max().map_or(0, |last| last.saturating_add(1));
    let counts = CountNgrams {
        min_length: number("min_gram_length")?,
        max_length: number("max_gram_length")?,
        max_skip: number("max_skip_count")?,
        starts: list("ngram_counts")?,
        columns,
        size,
    };
    let (strings_pool, ints_pool) = (attributes.bytes_list("pool_strings")?, attributes.ints("pool_int64s")?);
    let (x, pool) = match (b.ty(x).dtype, strings_pool, ints_pool) {
        (DType::String, Some(pool), None) => {
            let texts: Vec<&[u8]> = pool.iter().map(|text| &**text).collect();
            (x, strings(b, vec![texts.len() as u64], &texts)?)
        }
        (dtype, None, Some(pool)) if dtype.is_integer() => {
            (b.cast(x, DType::I64)?, Tensor::from_i64s(&[pool.len() as u64], pool))
        }
        (dtype, ..) => return invalid(format!("input of {dtype} without a pool of its type alone")),
    };
    let pool = tensor::emit_tensor(b, &format!("{}.pool", call.name), pool)?;
    let mut shape = b.ty(x).shape.clone();
    let Ok(columns) = i64::try_from(size) else {
        return invalid("attribute `ngram_indexes` is out of range");
    };
    if !matches!(shape.len(), 1 | 2) {
        return invalid(format!("input of rank {}; expected 1 or 2", shape.len()));
    }
    shape.truncate(shape.len() - 1);
    shape.push(Dim::constant(columns));
    let ty = TensorType::new(DType::F32, shape.clone());
    let counts = b.host(&counts, &[x, pool], vec![ty], Vec::new())?[0];
    let weights = match weights {
        None => None,
        Some(weights) => match weights.get(..size as usize) {
            Some(weights) => {
                let weights = Tensor::from_f32s(&[size], weights);
                let weights = tensor::emit_tensor(b, &format!("{}.weights", call.name), weights)?;
                Some(b.broadcast_to(weights, shape.clone())?)
            }
            None => {
                return invalid(format!(
                    "attribute `weights` has {} entries for {size} columns",
                    weights.len()
                ));
            }
        },
    };
    match (mode, weights) {
        ("TF", _) | ("TFIDF", None) => Ok(counts),
        ("TFIDF", Some(weights)) => Ok(b.push(Op::Binary(ired_graph::BinaryFn::Mul), &[counts, weights])?),
        ("IDF", weights) => {
            let (zero, one) = (b.full(DType::F32, shape.clone(), 0.0)?, b.full(DType::F32, shape, 1.0)?);
            let occurs = b.push(Op::Compare(ired_graph::CompareFn::Gt), &[counts, zero])?;
            Ok(b.push(Op::Select, &[occurs, weights.unwrap_or(one), zero])?)
        }
        (other, _) => invalid(format!("attribute `mode` is `{other}`")),
    }
}
