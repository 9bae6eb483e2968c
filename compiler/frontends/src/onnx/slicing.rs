//! Parts of tensors: slice and split.

use ired_graph::{Builder, Dim, Symbols, ValueId};

use super::call::{Call, Outcome, axes, axis, invalid, unsupported};

/// Ends are attributes before version 10, inputs from then on.
pub(super) fn slice(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    let x = call.input(0)?;
    let source = b.ty(x).shape.clone();
    let (starts, ends, list, steps) = match call.version >= 10 {
        true => (
            call.sizes_input(b, 1)?,
            call.sizes_input(b, 2)?,
            call.optional_ints(b, 3)?,
            call.optional_ints(b, 4)?,
        ),
        false => {
            let ends = |name| {
                let list = call.attributes.ints(name)?.unwrap_or_default();
                Outcome::Ok(list.iter().map(|d| Dim::constant(*d)).collect())
            };
            (ends("starts")?, ends("ends")?, call.attributes.ints("axes")?.map(<[i64]>::to_vec), None)
        }
    };
    let list = list.unwrap_or_else(|| (0..starts.len() as i64).collect());
    let steps = steps.unwrap_or_else(|| vec![1; list.len()]);
    if starts.len() != list.len() || ends.len() != list.len() || steps.len() != list.len() {
        let (starts, ends, steps) = (starts.len(), ends.len(), steps.len());
        return invalid(format!("{starts} starts, {ends} ends and {steps} steps for {} axes", list.len()));
    }
    axes(&list, source.len())?;
    let (mut start, mut size) = (vec![Dim::constant(0); source.len()], source.clone());
    let mut stride = vec![1; source.len()];
    for (i, at) in list.iter().enumerate() {
        let at = axis(*at, source.len())?;
        let range = Range { start: &starts[i], end: &ends[i], step: steps[i], extent: &source[at] };
        (start[at], size[at]) = range.resolve(&b.graph.symbols)?;
        // The step of an axis that gives one element or none does not matter; huge ones would overflow.
        stride[at] = if size[at].as_static().is_some_and(|n| n <= 1) { 1 } else { steps[i] };
    }
    Ok(b.slice(x, start, size, stride)?)
}

/// `start:end:step` of an axis of size `extent`, as numpy reads it.
struct Range<'a> {
    start: &'a Dim,
    end: &'a Dim,
    step: i64,
    extent: &'a Dim,
}

/// Ends this far out mean "to the end"; exporters write the limits of i32 or i64.
const FAR: i64 = i32::MAX as i64 - 1;

impl Range<'_> {
    /// Where the slice begins, and how many elements it has.
    fn resolve(&self, symbols: &Symbols) -> Outcome<(Dim, Dim)> {
        let zero = Dim::constant(0);
        let last = self.extent.clone() - 1.into();
        let (start, length) = match self.step {
            0 => return invalid("step 0"),
            i64::MIN => return invalid("a step beyond all sizes"),
            1.. => {
                let start = self.position(symbols, self.start, &zero, self.extent)?;
                let end = self.position(symbols, self.end, &zero, self.extent)?;
                (start.clone(), end - start)
            }
            _ => {
                let start = self.position(symbols, self.start, &zero, &last)?;
                let end = self.position(symbols, self.end, &Dim::constant(-1), &last)?;
                (start.clone(), start - end)
            }
        };
        let count = length.ceil_div(&self.step.saturating_abs().into());
        let count = symbols.simplify(&count.maximum(&zero));
        // An empty slice begins anywhere; at 0 it is within any axis.
        let start = if count == zero { zero } else { symbols.simplify(&start) };
        Ok((start, count))
    }

    /// One end, counted from the front and clamped.
    fn position(&self, symbols: &Symbols, at: &Dim, low: &Dim, high: &Dim) -> Outcome<Dim> {
        let known = symbols.range(at);
        let from_front = match at.as_static() {
            Some(n) if n >= FAR => return Ok(high.clone()),
            Some(n) if n <= -FAR => return Ok(low.clone()),
            Some(n) if n < 0 => at.clone() + self.extent.clone(),
            Some(_) => at.clone(),
            None if known.min >= 0 => at.clone(),
            None if known.max < 0 => at.clone() + self.extent.clone(),
            None => {
                return unsupported("an end that may count from either side", "clamp it to be non-negative");
            }
        };
        Ok(symbols.simplify(&symbols.simplify(&from_front.maximum(low)).minimum(high)))
    }
}

/// Equal parts, or parts of given sizes: an attribute before version 13, an input from then on.
pub(super) fn split(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome<Vec<ValueId>> {
    let x = call.input(0)?;
    let shape = b.ty(x).shape.clone();
    let at = axis(call.attributes.int_or("axis", 0)?, shape.len())?;
    let given = match call.version >= 13 || call.optional(1).is_some() {
        true => call.optional_sizes(b, 1)?,
        false => call.attributes.ints("split")?.map(|list| list.iter().map(|d| Dim::constant(*d)).collect()),
    };
    let count = call.outputs.len();
    if let Some(wanted) = call.attributes.int("num_outputs")?
        && usize::try_from(wanted) != Ok(count)
    {
        return invalid(format!("num_outputs is {wanted}; the node has {count} outputs"));
    }
    let sizes = match given {
        Some(sizes) if sizes.len() == count => sizes,
        Some(sizes) => return invalid(format!("{} sizes for {count} outputs", sizes.len())),
        None => equal_parts(b, &shape[at], count)?,
    };
    let total = sizes.iter().fold(Dim::constant(0), |sum, d| sum + d.clone());
    if b.graph.symbols.is_known_ne(&total, &shape[at]) {
        return invalid("the sizes do not add up to the axis");
    }
    let mut start = Dim::constant(0);
    let mut parts = Vec::with_capacity(count);
    for size in sizes {
        parts.push(b.slice_axis(x, at, start.clone(), size.clone())?);
        start = start + size;
    }
    Ok(parts)
}

/// Parts of one size; the last is smaller where the axis does not divide.
fn equal_parts(b: &Builder<'_>, extent: &Dim, count: usize) -> Outcome<Vec<Dim>> {
    let parts = Dim::constant(count as i64);
    let size = b.graph.symbols.simplify(&extent.ceil_div(&parts));
    let mut sizes = vec![size.clone(); count];
    if let Some(last) = sizes.last_mut() {
        *last = b.graph.symbols.simplify(&(extent.clone() - size.clone() * (parts - 1.into())));
        if b.graph.symbols.range(last).max < 0 {
            return invalid(format!("an axis too short for {count} parts"));
        }
    }
    Ok(sizes)
}
