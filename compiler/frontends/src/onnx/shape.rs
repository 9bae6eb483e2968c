//! Shapes as data, and the same elements in another shape.

use ired_graph::{BinaryFn, Builder, CompareFn, Dim, UnaryFn, ValueId};

use super::call::{Axes, Call, Outcome, axes, axis, invalid, sizes_of, unsupported};
use super::computed::Integers;

/// `shape(x)[start..end]`, with ends counted and clamped as slices are.
pub(super) fn shape(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    let ty = call.input_type(b, 0)?;
    let rank = ty.rank() as i64;
    let position = |name, default| {
        let at = call.attributes.int_or(name, default)?;
        let at = if at < 0 { at.saturating_add(rank) } else { at };
        Outcome::Ok(at.clamp(0, rank) as usize)
    };
    let (start, end) = (position("start", 0)?, position("end", rank)?);
    Ok(b.dims(ty.shape[start..end.max(start)].to_vec())?)
}

pub(super) fn size(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    let elements = call.input_type(b, 0)?.elements();
    Ok(b.dim(elements)?)
}

/// 0 keeps the input's dimension unless `allowzero`; -1 is what is left.
pub(super) fn reshape(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    let x = call.input(0)?;
    let keep_zero = call.attributes.flag("allowzero", false)?;
    let target = match call.version >= 5 {
        true => match sizes_of(b, call.input(1)?) {
            Some(target) => target,
            None => {
                let target = call.list_input(b, 1, call.stated_rank(0))?;
                return reshape_computed(b, x, target, keep_zero);
            }
        },
        false => {
            call.attributes.ignore(&["consumed_inputs"]);
            let shape = call.attributes.ints("shape")?.unwrap_or_default();
            shape.iter().map(|d| Dim::constant(*d)).collect()
        }
    };
    let source = b.ty(x).shape.clone();
    let mut shape = Vec::with_capacity(target.len());
    for (position, dim) in target.into_iter().enumerate() {
        shape.push(match dim.as_static() {
            Some(0) if !keep_zero => kept(&source, position)?,
            Some(d) if d < -1 => return invalid(format!("dimension {d} in the target shape")),
            _ => dim,
        });
    }
    // What both shapes have cancels, which keeps the dimension that is left over simple.
    let unknown = Dim::constant(-1);
    if let Some(position) = shape.iter().position(|d| *d == unknown)
        && shape.iter().filter(|d| **d == unknown).count() == 1
        && let Some(left) = what_is_left(&source, &shape)
    {
        shape[position] = left;
    }
    Ok(b.reshape_infer(x, &shape)?)
}

fn kept(source: &[Dim], position: usize) -> Outcome<Dim> {
    match source.get(position) {
        Some(kept) => Ok(kept.clone()),
        None => invalid(format!("keeps dimension {position} of an input of rank {}", source.len())),
    }
}

/// A target of which some dimension is only known when the model runs; so is what -1 stands for then.
fn reshape_computed(b: &mut Builder<'_>, x: ValueId, target: ValueId, keep_zero: bool) -> Outcome {
    let source = b.ty(x).shape.clone();
    let Some(known) = b.partly_known_dims(target) else {
        return unsupported(
            "a target shape of a length that is only known at run time",
            "give the target shape a length in the model",
        );
    };
    let count = b.ty(x).elements();
    let mut of_source: Vec<Dim> = source.iter().take(known.len()).cloned().collect();
    of_source.resize(known.len(), 0.into());
    let mut n = Integers::on(b);
    let mut shape = n.vector(target)?;
    if !keep_zero {
        let of_source = n.b.dims(of_source)?;
        let zero = n.compare_number(CompareFn::Eq, shape, 0)?;
        shape = n.select(zero, of_source, shape)?;
    }
    let left = n.compare_number(CompareFn::Eq, shape, -1)?;
    let one = n.number(1)?;
    let others = n.select(left, one, shape)?;
    let (others, count) = (n.product(others)?, n.b.dim(count)?);
    let rest = n.binary(BinaryFn::Div, count, others)?;
    shape = n.select(left, rest, shape)?;
    let mut parts = Vec::with_capacity(known.len());
    for (position, dim) in known.into_iter().enumerate() {
        parts.push(match dim {
            Some(dim) if dim == Dim::constant(0) && !keep_zero => {
                let kept = kept(&source, position)?;
                n.b.dims(vec![kept])?
            }
            Some(dim) if dim != Dim::constant(-1) => n.b.dims(vec![dim])?,
            _ => n.element(shape, position)?,
        });
    }
    let sizes = b.concat(&parts, 0)?;
    let shape = b.read_dims(sizes, "read")?;
    Ok(b.reshape(x, shape)?)
}

/// The product of `source` over the product of `target` without its -1, where it comes out even symbol by symbol.
fn what_is_left(source: &[Dim], target: &[Dim]) -> Option<Dim> {
    let mut source: Vec<&Dim> = source.iter().collect();
    let mut target: Vec<&Dim> = target.iter().filter(|d| **d != Dim::constant(-1)).collect();
    target.retain(|dim| match source.iter().position(|s| s == dim) {
        // A zero does not cancel: anything times zero is zero.
        Some(at) if dim.as_static() != Some(0) => {
            source.swap_remove(at);
            false
        }
        _ => true,
    });
    let known: Option<i64> = target.iter().map(|d| d.as_static()).try_fold(1i64, |n, d| n.checked_mul(d?));
    let known = known.filter(|n| *n > 0)?;
    let product = source.into_iter().fold(Dim::constant(1), |product, d| product * d.clone());
    Some(product.floor_div(&known.into())).filter(|_| product.modulo(&known.into()) == Dim::constant(0))
}

pub(super) fn flatten(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    let x = call.input(0)?;
    let rank = b.ty(x).rank();
    let at = call.attributes.int_or("axis", 1)?;
    // The axis may be the rank itself.
    let at = if at == rank as i64 { rank } else { axis(at, rank)? };
    Ok(b.flatten(x, at)?)
}

pub(super) fn squeeze(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    let x = call.input(0)?;
    let shape = b.ty(x).shape.clone();
    let dropped = match call.axes_list(b, 13, 1)? {
        Some(Axes::Known(list)) => axes(&list, shape.len())?,
        Some(Axes::Computed { list, count }) => return squeeze_computed(b, x, list, count),
        None if shape.iter().any(|d| !is_decided(b, d)) => return squeeze_ones(b, call, x),
        None => (0..shape.len()).filter(|a| shape[*a] == Dim::constant(1)).collect(),
    };
    Ok(b.squeeze(x, &dropped)?)
}

/// Whether a dimension is known to be 1, or known to be something else.
fn is_decided(b: &Builder<'_>, dim: &Dim) -> bool {
    *dim == Dim::constant(1) || b.graph.symbols.is_known_ne(dim, &Dim::constant(1))
}

fn squeeze_computed(b: &mut Builder<'_>, x: ValueId, list: ValueId, count: usize) -> Outcome {
    let rank = b.ty(x).rank();
    let Some(wanted) = rank.checked_sub(count) else {
        return invalid(format!("{count} axes of an input of rank {rank}"));
    };
    let dims = b.shape_of(x)?;
    let mut n = Integers::on(b);
    let dropped = n.named(list, count, rank)?;
    let kept = n.b.unary(UnaryFn::Not, dropped)?;
    let sizes = n.compact(dims, kept, rank, wanted)?;
    let shape = b.read_dims(sizes, "read")?;
    Ok(b.reshape(x, shape)?)
}

/// Drops every axis of size 1, of which the model states by the rank of the output how many there are.
fn squeeze_ones(b: &mut Builder<'_>, call: &Call<'_>, x: ValueId) -> Outcome {
    let shape = b.ty(x).shape.clone();
    let certain: Vec<usize> = (0..shape.len()).filter(|a| shape[*a] == Dim::constant(1)).collect();
    let Some(wanted) = call.stated_rank(0) else {
        return unsupported(
            "axes left out for sizes of which only the run knows which are 1",
            "name the axes to drop, or state the output's rank in the model",
        );
    };
    if shape.len() - certain.len() == wanted {
        return Ok(b.squeeze(x, &certain)?);
    }
    let dims = b.shape_of(x)?;
    let mut n = Integers::on(b);
    let kept = n.compare_number(CompareFn::Ne, dims, 1)?;
    let sizes = n.compact(dims, kept, shape.len(), wanted)?;
    let shape = b.read_dims(sizes, "read")?;
    Ok(b.reshape(x, shape)?)
}

pub(super) fn unsqueeze(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    let x = call.input(0)?;
    let source = b.ty(x).rank();
    match call.axes_list(b, 13, 1)? {
        None => invalid("names no axes"),
        Some(Axes::Known(list)) => {
            let added = axes(&list, source + list.len())?;
            Ok(b.unsqueeze(x, &added)?)
        }
        Some(Axes::Computed { list, count }) => {
            let dims = b.shape_of(x)?;
            let mut n = Integers::on(b);
            let added = n.named(list, count, source + count)?;
            let sizes = n.expand_with_ones(dims, added, source, source + count)?;
            let shape = b.read_dims(sizes, "read")?;
            Ok(b.reshape(x, shape)?)
        }
    }
}

pub(super) fn expand(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    let shape = call.sizes_input(b, 1)?;
    Ok(b.expand(call.input(0)?, &shape)?)
}
