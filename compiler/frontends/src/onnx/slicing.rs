//! Parts of tensors: slice and split.

use ired_graph::dim::UNBOUNDED;
use ired_graph::{BinaryFn, Builder, CompareFn, DType, Dim, Symbols, UnaryFn, ValueId};

use super::call::{Axes, Call, Outcome, axes, axis, invalid, unsupported};
use super::computed::Integers;

/// Ends are attributes before version 10, inputs from then on.
pub(super) fn slice(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    let x = call.input(0)?;
    let rank = b.ty(x).rank();
    let (starts, ends, list, steps) = match call.version >= 10 {
        true => {
            let inputs = (call.input(1)?, call.input(2)?);
            (inputs.0, inputs.1, call.axes_list(b, 10, 3)?, call.optional(4))
        }
        false => {
            let ends = |name| Outcome::Ok(call.attributes.ints(name)?.unwrap_or_default());
            let (starts, ends) = (b.constant_i64(ends("starts")?)?, b.constant_i64(ends("ends")?)?);
            (starts, ends, call.axes_list(b, 10, 3)?, None)
        }
    };
    let mut n = Integers::on(b);
    let (starts, ends) = (n.vector(starts)?, n.vector(ends)?);
    let steps = steps.map(|steps| n.vector(steps)).transpose()?;
    let count = |list: ValueId| n.b.ty(list).elements().as_static();
    let found = [Some(starts), Some(ends), steps].map(|list| count(list?));
    // The lists are equally long, so any of them tells how long.
    let of_axes = list.as_ref().map(|list| match list {
        Axes::Known(list) => list.len() as i64,
        Axes::Computed { count, .. } => *count as i64,
    });
    let Some(named) = of_axes.or_else(|| found.into_iter().flatten().next()) else {
        return unsupported(
            "a number of starts that is only known at run time",
            "give the input a length in the model",
        );
    };
    if found.into_iter().flatten().any(|found| found != named) {
        return invalid(format!("{found:?} starts, ends and steps for {named} axes"));
    }
    let length = vec![Dim::from(named)];
    let (starts, ends) = (b.reshape(starts, length.clone())?, b.reshape(ends, length.clone())?);
    let steps = steps.map(|steps| b.reshape(steps, length)).transpose()?;
    let list = match list {
        Some(Axes::Known(list)) => list,
        Some(list @ Axes::Computed { .. }) => {
            let ends = Ends { starts, ends, steps }.of_every_axis(b, x, list)?;
            return slice_axes(b, x, &ends, &(0..rank).collect::<Vec<_>>());
        }
        None => (0..named).collect(),
    };
    axes(&list, rank)?;
    let list = list.iter().map(|at| axis(*at, rank)).collect::<Outcome<Vec<usize>>>()?;
    slice_axes(b, x, &Ends { starts, ends, steps }, &list)
}

/// What a slice takes of some axes, as i64 vectors.
struct Ends {
    starts: ValueId,
    ends: ValueId,
    /// 1 each if left out.
    steps: Option<ValueId>,
}

impl Ends {
    /// The same for all axes of `x`, in order: those that `list` does not name are taken whole.
    fn of_every_axis(&self, b: &mut Builder<'_>, x: ValueId, list: Axes) -> Outcome<Self> {
        let Axes::Computed { list, count } = list else { return invalid("names no axes") };
        let (rank, dims) = (b.ty(x).rank(), b.shape_of(x)?);
        let mut n = Integers::on(b);
        let matches = n.matches(list, count, rank)?;
        let (zero, one) = (n.number(0)?, n.number(1)?);
        let steps = self.steps.map(|steps| n.spread(matches, steps, one)).transpose()?;
        Ok(Self {
            starts: n.spread(matches, self.starts, zero)?,
            ends: n.spread(matches, self.ends, dims)?,
            steps,
        })
    }
}

/// Slices the axes in `list`; each end may be known, computed from sizes, or known to the run only.
fn slice_axes(b: &mut Builder<'_>, x: ValueId, ends: &Ends, list: &[usize]) -> Outcome {
    let source = b.ty(x).shape.clone();
    let (mut start, mut size) = (vec![Dim::constant(0); source.len()], source.clone());
    let mut stride = vec![1; source.len()];
    let known = |b: &Builder<'_>, list: ValueId| b.partly_known_dims(list).unwrap_or_default();
    let (starts, stops) = (known(b, ends.starts), known(b, ends.ends));
    let steps = ends.steps.map(|steps| known(b, steps));
    let step_of = |i: usize| match &steps {
        None => Some(1),
        Some(steps) => steps.get(i).cloned().flatten().and_then(|step| step.as_static()),
    };
    let mut computed = Vec::new();
    for (i, &at) in list.iter().enumerate() {
        let step = step_of(i);
        let (Some(Some(from)), Some(Some(to)), Some(step)) = (starts.get(i), stops.get(i), step) else {
            computed.push((i, at));
            continue;
        };
        let range = Range { start: from, end: to, step, extent: &source[at] };
        let Some((from, count)) = range.resolve(&b.graph.symbols)? else {
            computed.push((i, at));
            continue;
        };
        // The step of an axis that gives one element or none does not matter; huge ones would overflow.
        stride[at] = if count.as_static().is_some_and(|n| n <= 1) { 1 } else { step };
        (start[at], size[at]) = (from, count);
    }
    // Axes whose step is only known to the run are gathered, after the others are cut.
    let mut gathered = Vec::new();
    let (mut axes_read, mut read) = (Vec::new(), Vec::new());
    for (i, at) in computed {
        let (from, count, by) = computed_range(b, ends, i, &source[at])?;
        match step_of(i) {
            Some(step) => {
                axes_read.push((at, step));
                read.extend([from, count]);
            }
            None => gathered.push((at, from, count, by)),
        }
    }
    if !read.is_empty() {
        let read = b.concat(&read, 0)?;
        let numbers = b.read_dims(read, "slice")?;
        for ((at, step), pair) in axes_read.into_iter().zip(numbers.chunks(2)) {
            (start[at], size[at], stride[at]) = (pair[0].clone(), pair[1].clone(), step);
        }
    }
    let mut x = if axes_cut(&start, &size, &stride, &source) { b.slice(x, start, size, stride)? } else { x };
    for (at, from, count, by) in gathered {
        let count = b.read_dims(count, "slice")?;
        let index = b.iota(DType::I64, count, 0)?;
        let mut n = Integers::on(b);
        let moved = n.binary(BinaryFn::Mul, index, by)?;
        let index = n.binary(BinaryFn::Add, moved, from)?;
        x = b.gather(x, index, at)?;
    }
    Ok(x)
}

fn axes_cut(start: &[Dim], size: &[Dim], stride: &[i64], source: &[Dim]) -> bool {
    let zero = Dim::constant(0);
    size != source || start.iter().any(|d| *d != zero) || stride.iter().any(|step| *step != 1)
}

/// Where slice `i` of an axis of size `extent` begins, how many elements it has, and its step, clamped to what sizes
/// are: vectors of one element each.
fn computed_range(
    b: &mut Builder<'_>,
    ends: &Ends,
    i: usize,
    extent: &Dim,
) -> Outcome<(ValueId, ValueId, ValueId)> {
    let extent = b.dims(vec![extent.clone()])?;
    let mut n = Integers::on(b);
    let (start, end) = (n.element(ends.starts, i)?, n.element(ends.ends, i)?);
    let step = match ends.steps {
        Some(steps) => n.element(steps, i)?,
        None => n.b.dims(vec![1.into()])?,
    };
    let step = n.binary_number(BinaryFn::Max, step, -UNBOUNDED)?;
    let step = n.binary_number(BinaryFn::Min, step, UNBOUNDED)?;
    let backwards = n.compare_number(CompareFn::Lt, step, 0)?;
    let zero = n.number(0)?;
    let (start, end) = (n.count_from_front(start, extent)?, n.count_from_front(end, extent)?);
    let last = n.binary_number(BinaryFn::Sub, extent, 1)?;
    let high = n.select(backwards, last, extent)?;
    let minus_one = n.number(-1)?;
    let low = n.select(backwards, minus_one, zero)?;
    let start = n.binary(BinaryFn::Max, start, zero)?;
    let start = n.binary(BinaryFn::Min, start, high)?;
    let end = n.binary(BinaryFn::Max, end, low)?;
    let end = n.binary(BinaryFn::Min, end, high)?;
    let (forth, back) = (n.binary(BinaryFn::Sub, end, start)?, n.binary(BinaryFn::Sub, start, end)?);
    let span = n.select(backwards, back, forth)?;
    let by = n.b.unary(UnaryFn::Abs, step)?;
    let rounded = n.binary(BinaryFn::Add, span, by)?;
    let rounded = n.binary_number(BinaryFn::Sub, rounded, 1)?;
    let count = n.binary(BinaryFn::Div, rounded, by)?;
    let count = n.binary(BinaryFn::Max, count, zero)?;
    // An empty slice begins anywhere; at 0 it is within any axis.
    let empty = n.compare_number(CompareFn::Eq, count, 0)?;
    let start = n.select(empty, zero, start)?;
    Ok((start, count, step))
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
    /// Where the slice begins, and how many elements it has; `None` where an end may count from either side.
    fn resolve(&self, symbols: &Symbols) -> Outcome<Option<(Dim, Dim)>> {
        let zero = Dim::constant(0);
        let last = self.extent.clone() - 1.into();
        let (start, length) = match self.step {
            0 => return invalid("step 0"),
            i64::MIN => return invalid("a step beyond all sizes"),
            1.. => {
                let start = self.position(symbols, self.start, &zero, self.extent);
                let end = self.position(symbols, self.end, &zero, self.extent);
                let (Some(start), Some(end)) = (start, end) else { return Ok(None) };
                (start.clone(), end - start)
            }
            _ => {
                let start = self.position(symbols, self.start, &zero, &last);
                let end = self.position(symbols, self.end, &Dim::constant(-1), &last);
                let (Some(start), Some(end)) = (start, end) else { return Ok(None) };
                (start.clone(), start - end)
            }
        };
        let count = length.ceil_div(&self.step.saturating_abs().into());
        let count = symbols.simplify(&count.maximum(&zero));
        // An empty slice begins anywhere; at 0 it is within any axis.
        let start = if count == zero { zero } else { symbols.simplify(&start) };
        Ok(Some((start, count)))
    }

    /// One end, counted from the front and clamped.
    fn position(&self, symbols: &Symbols, at: &Dim, low: &Dim, high: &Dim) -> Option<Dim> {
        let known = symbols.range(at);
        let from_front = match at.as_static() {
            Some(n) if n >= FAR => return Some(high.clone()),
            Some(n) if n <= -FAR => return Some(low.clone()),
            Some(n) if n < 0 => at.clone() + self.extent.clone(),
            Some(_) => at.clone(),
            None if known.min >= 0 => at.clone(),
            None if known.max < 0 => at.clone() + self.extent.clone(),
            None => return None,
        };
        Some(symbols.simplify(&symbols.simplify(&from_front.maximum(low)).minimum(high)))
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
    // Where nobody knows that they do, the run checks it.
    let mut whole = shape;
    whole[at] = total;
    let x = b.reshape(x, whole)?;
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
