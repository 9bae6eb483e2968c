//! Elements moved to other places: transpose, concat, tile, pad, blocks of space and depth, triangles.

use ired_graph::{Builder, CompareFn, DType, Dim, Op, PadMode, Shape, ValueId};

use super::call::{Axes, Call, Outcome, axes, axis, invalid, unsupported};
use super::computed::Integers;
use super::constant::on_diagonal;

pub(super) fn transpose(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    let x = call.input(0)?;
    let rank = b.ty(x).rank();
    let perm = match call.attributes.ints("perm")? {
        Some(perm) => perm.iter().map(|a| axis(*a, rank)).collect::<Outcome<Vec<usize>>>()?,
        None => (0..rank).rev().collect(),
    };
    Ok(b.transpose(x, perm)?)
}

pub(super) fn concat(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    let inputs = call.all_inputs()?;
    let at = match call.attributes.int("axis")? {
        Some(at) => at,
        None if call.version < 4 => 1,
        None => return invalid("attribute `axis` is missing"),
    };
    let at = axis(at, b.ty(inputs[0]).rank())?;
    Ok(b.concat(&inputs, at)?)
}

/// Each axis, repeated as a whole: `[d] -> [1, d] -> [n, d] -> [n * d]`. Before version 6 one axis, by its number.
pub(super) fn tile(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    let x = call.input(0)?;
    let repeats = match call.version >= 6 {
        true => call.sizes_input(b, 1)?,
        false => {
            let rank = b.ty(x).rank();
            let [at] = call.ints_input(b, 2)?[..] else { return invalid("input 2 is not one axis") };
            let mut repeats = vec![Dim::constant(1); rank];
            repeats[axis(at, rank)?] = call.size_input(b, 1)?;
            repeats
        }
    };
    let source = b.ty(x).shape.clone();
    if repeats.len() != source.len() {
        return invalid(format!("{} repeats for an input of rank {}", repeats.len(), source.len()));
    }
    let one = Dim::constant(1);
    let (mut apart, mut repeated, mut joined) = (Shape::new(), Shape::new(), Shape::new());
    for (size, times) in source.iter().zip(&repeats) {
        if *times != one {
            apart.push(one.clone());
            repeated.push(times.clone());
        }
        apart.push(size.clone());
        repeated.push(size.clone());
        joined.push(size.clone() * times.clone());
    }
    let apart = b.reshape(x, apart)?;
    let repeated = b.broadcast_to(apart, repeated)?;
    Ok(b.reshape(repeated, joined)?)
}

/// Amounts are an attribute before version 11, an input from then on, `axes` from 18 on.
pub(super) fn pad(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    let x = call.input(0)?;
    let ty = b.ty(x).clone();
    let mode = match call.attributes.text("mode")?.unwrap_or("constant") {
        "constant" => PadMode::Constant,
        "reflect" => PadMode::Reflect,
        "edge" => PadMode::Edge,
        "wrap" => PadMode::Wrap,
        other => return unsupported(format!("mode `{other}`"), "use constant, reflect, edge or wrap"),
    };
    let (amounts, fill) = match call.version >= 11 {
        true => (call.input(1)?, call.optional(2)),
        false => {
            let name = if call.version >= 2 { "pads" } else { "paddings" };
            let amounts = call.attributes.ints(name)?.unwrap_or_default();
            let fill = call.attributes.float_or("value", 0.0)?;
            (b.constant_i64(amounts)?, Some(b.scalar(ty.dtype, fill)?))
        }
    };
    let (low, high) = match call.axes_list(b, 18, 3)? {
        Some(Axes::Computed { list, count }) => computed_amounts(b, amounts, list, count, ty.rank())?,
        Some(Axes::Known(list)) => {
            axes(&list, ty.rank())?;
            let padded = list.iter().map(|a| axis(*a, ty.rank())).collect::<Outcome<Vec<usize>>>()?;
            amounts_of(b, amounts, &padded, ty.rank())?
        }
        None => amounts_of(b, amounts, &(0..ty.rank()).collect::<Vec<_>>(), ty.rank())?,
    };
    let fill = match (mode, fill) {
        (PadMode::Constant, Some(fill)) => Some(b.reshape(fill, Vec::new())?),
        (PadMode::Constant, None) => Some(b.scalar(ty.dtype, 0.0)?),
        _ => None,
    };
    Ok(b.pad(x, low, high, mode, fill)?)
}

/// How far each axis of an input of `rank` is padded, below and above, given the amounts for the axes `padded`.
fn amounts_of(
    b: &mut Builder<'_>,
    amounts: ValueId,
    padded: &[usize],
    rank: usize,
) -> Outcome<(Vec<Dim>, Vec<Dim>)> {
    let amounts = b.read_integers(amounts, "pad")?;
    if amounts.len() != 2 * padded.len() {
        return invalid(format!("{} amounts for {} axes", amounts.len(), padded.len()));
    }
    let (mut low, mut high) = (vec![Dim::constant(0); rank], vec![Dim::constant(0); rank]);
    for (i, at) in padded.iter().enumerate() {
        low[*at] = amounts[i].clone();
        high[*at] = amounts[i + padded.len()].clone();
    }
    Ok((low, high))
}

/// As [`amounts_of`] for axes that only the run knows.
fn computed_amounts(
    b: &mut Builder<'_>,
    amounts: ValueId,
    list: ValueId,
    count: usize,
    rank: usize,
) -> Outcome<(Vec<Dim>, Vec<Dim>)> {
    let mut n = Integers::on(b);
    let (matches, amounts, none) = (n.matches(list, count, rank)?, n.vector(amounts)?, n.number(0)?);
    let found = n.b.ty(amounts).elements();
    if found != Dim::constant(2 * count as i64) {
        let found = found.display(&n.b.graph.symbols);
        return invalid(format!("{found} amounts for {count} axes"));
    }
    let mut all = Vec::new();
    for half in [0, count] {
        let part = n.b.slice_axis(amounts, 0, Dim::constant(half as i64), Dim::constant(count as i64))?;
        all.push(n.spread(matches, part, none)?);
    }
    let all = b.concat(&all, 0)?;
    let mut low = b.read_integers(all, "pad")?;
    let high = low.split_off(rank);
    Ok((low, high))
}

/// The sizes of an image `[n, c, h, w]` and the attribute `blocksize`.
fn blocks(b: &Builder<'_>, call: &Call<'_>) -> Outcome<([Dim; 4], Dim)> {
    let ty = call.input_type(b, 0)?;
    let size = call.attributes.int_or("blocksize", 0)?;
    match <[Dim; 4]>::try_from(ty.shape) {
        Ok(sizes) if (1..=1 << 20).contains(&size) => Ok((sizes, size.into())),
        Ok(_) => invalid(format!("blocksize {size}")),
        Err(shape) => invalid(format!("input of rank {}; expected 4", shape.len())),
    }
}

fn rearrange(b: &mut Builder<'_>, x: ValueId, apart: Shape, perm: &[usize], joined: Shape) -> Outcome {
    let apart = b.reshape(x, apart)?;
    let moved = b.transpose(apart, perm.to_vec())?;
    Ok(b.reshape(moved, joined)?)
}

pub(super) fn depth_to_space(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    let ([n, c, h, w], block) = blocks(b, call)?;
    let area = block.clone() * block.clone();
    let depth = c.floor_div(&area);
    if b.graph.symbols.is_known_ne(&(depth.clone() * area), &c) {
        return invalid("the channels are no multiple of blocksize squared");
    }
    let joined = vec![n.clone(), depth.clone(), h.clone() * block.clone(), w.clone() * block.clone()];
    let (s, x) = (block, call.input(0)?);
    match call.attributes.text("mode")?.unwrap_or("DCR") {
        "DCR" => rearrange(b, x, vec![n, s.clone(), s, depth, h, w], &[0, 3, 4, 1, 5, 2], joined),
        "CRD" => rearrange(b, x, vec![n, depth, s.clone(), s, h, w], &[0, 1, 4, 2, 5, 3], joined),
        other => invalid(format!("mode `{other}`; expected DCR or CRD")),
    }
}

pub(super) fn space_to_depth(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    let ([n, c, h, w], s) = blocks(b, call)?;
    let (rows, columns) = (h.floor_div(&s), w.floor_div(&s));
    let joined = vec![n.clone(), c.clone() * s.clone() * s.clone(), rows.clone(), columns.clone()];
    let (x, apart) = (call.input(0)?, vec![n, c, rows, s.clone(), columns, s]);
    match call.attributes.text("mode")?.unwrap_or("DCR") {
        "DCR" => rearrange(b, x, apart, &[0, 3, 5, 1, 2, 4], joined),
        "CRD" => rearrange(b, x, apart, &[0, 1, 3, 5, 2, 4], joined),
        other => invalid(format!("mode `{other}`; expected DCR or CRD")),
    }
}

/// Keeps the upper or lower triangle from diagonal `k` on; zeros elsewhere.
pub(super) fn triangle(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    let x = call.input(0)?;
    let ty = b.ty(x).clone();
    let k = match call.optional(1) {
        Some(k) => b.reshape(k, Vec::new())?,
        None => b.scalar(DType::I64, 0.0)?,
    };
    let function = if call.attributes.flag("upper", true)? { CompareFn::Ge } else { CompareFn::Le };
    if ty.rank() < 2 {
        return invalid(format!("input of rank {}; expected matrices", ty.rank()));
    }
    let kept = on_diagonal(b, &ty.shape, k, function)?;
    let kept = b.broadcast_to(kept, ty.shape.clone())?;
    let zero = b.full(ty.dtype, ty.shape, 0.0)?;
    Ok(b.push(Op::Select, &[kept, x, zero])?)
}
