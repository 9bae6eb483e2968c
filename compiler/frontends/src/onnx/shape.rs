//! Shapes as data, and the same elements in another shape.

use ired_graph::{Builder, Dim};

use super::call::{Call, Outcome, axes, axis, invalid, unsupported};

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
    let target = match call.version >= 5 {
        true => call.sizes_input(b, 1)?,
        false => {
            call.attributes.ignore(&["consumed_inputs"]);
            let shape = call.attributes.ints("shape")?.unwrap_or_default();
            shape.iter().map(|d| Dim::constant(*d)).collect()
        }
    };
    let keep_zero = call.attributes.flag("allowzero", false)?;
    let source = b.ty(x).shape.clone();
    let mut shape = Vec::with_capacity(target.len());
    for (position, dim) in target.into_iter().enumerate() {
        shape.push(match dim.as_static() {
            Some(0) if !keep_zero => match source.get(position) {
                Some(kept) => kept.clone(),
                None => {
                    return invalid(format!(
                        "keeps dimension {position} of an input of rank {}",
                        source.len()
                    ));
                }
            },
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
        Some(list) => axes(&list, shape.len())?,
        None if shape.iter().any(|d| d.as_static().is_none()) => {
            return unsupported("axes left out for a shape that is not static", "name the axes to drop");
        }
        None => (0..shape.len()).filter(|a| shape[*a] == Dim::constant(1)).collect(),
    };
    Ok(b.squeeze(x, &dropped)?)
}

pub(super) fn unsqueeze(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    let x = call.input(0)?;
    let Some(list) = call.axes_list(b, 13, 1)? else { return invalid("names no axes") };
    let added = axes(&list, b.ty(x).rank() + list.len())?;
    Ok(b.unsqueeze(x, &added)?)
}

pub(super) fn expand(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    let shape = call.sizes_input(b, 1)?;
    Ok(b.expand(call.input(0)?, &shape)?)
}
