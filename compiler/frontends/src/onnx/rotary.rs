//! Rotary position embedding: pairs of a head's elements turned by an angle that grows with the position.

use ired_graph::{BinaryFn, Builder, DType, Dim, ValueId};

use super::attention::{join_heads, split_heads};
use super::call::{Call, Outcome, invalid};

/// Which elements of a head are turned, and which form a pair.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rotation {
    /// Neighbours are pairs, rather than elements half the turned part apart.
    pub(super) interleaved: bool,
    /// Elements that are turned, the first ones; all if 0.
    pub(super) size: i64,
}

impl Rotation {
    pub(super) fn of(call: &Call<'_>) -> Outcome<Self> {
        let interleaved = call.attributes.flag("interleaved", false)?;
        let size = call.attributes.int_or("rotary_embedding_dim", 0)?;
        match size >= 0 && size % 2 == 0 {
            true => Ok(Self { interleaved, size }),
            false => invalid(format!("rotary_embedding_dim is {size}; expected an even number")),
        }
    }
}

/// Inputs: x of rank 4 or 3, cosines, sines, and perhaps positions `[batch, length]`: rows of the tables, which
/// without them are `[batch, length, pairs]`.
pub(super) fn rotary_embedding(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    let rotation = Rotation::of(call)?;
    let heads = call.attributes.int_or("num_heads", 0)?;
    let x = call.input(0)?;
    let mut tables = [call.input(1)?, call.input(2)?];
    for table in &mut tables {
        *table = match call.optional(3) {
            Some(positions) => rows_at(b, *table, positions)?,
            None => b.unsqueeze(*table, &[1])?,
        };
    }
    match b.ty(x).rank() {
        4 => rotate(b, x, tables, rotation),
        3 if heads > 0 => {
            let apart = split_heads(b, x, heads.into())?;
            let turned = rotate(b, apart, tables, rotation)?;
            let shape = b.ty(x).shape.clone();
            let joined = join_heads(b, turned)?;
            Ok(b.reshape(joined, shape)?)
        }
        3 => invalid("an input of rank 3 needs `num_heads`"),
        rank => invalid(format!("input of rank {rank}; expected 3 or 4")),
    }
}

/// Rows of a table `[positions, pairs]` at positions `[batch, length]`, as `[batch, 1, length, pairs]`.
pub(super) fn rows_at(b: &mut Builder<'_>, table: ValueId, positions: ValueId) -> Outcome {
    if b.ty(table).rank() != 2 || b.ty(positions).rank() != 2 {
        let (table, positions) = (b.ty(table).rank(), b.ty(positions).rank());
        return invalid(format!(
            "a table of rank {table} at positions of rank {positions}; expected 2 and 2"
        ));
    }
    let positions = b.cast(positions, DType::I64)?;
    let rows = b.gather(table, positions, 0)?;
    Ok(b.unsqueeze(rows, &[1])?)
}

/// `x`, `[batch, heads, length, size]`, turned by angles whose cosines and sines are `[batch, 1, length, pairs]`.
pub(super) fn rotate(b: &mut Builder<'_>, x: ValueId, tables: [ValueId; 2], rotation: Rotation) -> Outcome {
    let shape = b.ty(x).shape.clone();
    let [batch, heads, length, size] = shape.as_slice() else {
        return invalid(format!("heads of rank {}; expected 4", shape.len()));
    };
    let turned_size = if rotation.size == 0 { size.clone() } else { rotation.size.into() };
    if b.graph.symbols.is_known_gt(&turned_size, size) {
        return invalid(format!("rotary_embedding_dim is {} of heads that are smaller", rotation.size));
    }
    let pairs = turned_size.floor_div(&2.into());
    let mut halves = [x; 2];
    for (i, half) in halves.iter_mut().enumerate() {
        let mut start = vec![Dim::constant(0); 4];
        let mut stride = vec![1; 4];
        (start[3], stride[3]) = match rotation.interleaved {
            true => ((i as i64).into(), 2),
            false => (if i == 0 { 0.into() } else { pairs.clone() }, 1),
        };
        let part = vec![batch.clone(), heads.clone(), length.clone(), pairs.clone()];
        *half = b.slice(x, start, part, stride)?;
    }
    let [real, imaginary] = halves;
    let mut angle = [x; 2];
    for (angle, table) in angle.iter_mut().zip(tables) {
        let table = b.cast(table, b.ty(x).dtype)?;
        *angle = b.broadcast_to(table, b.ty(real).shape.clone())?;
    }
    let [cos, sin] = angle;
    let mut product = |x, y| b.binary_broadcast(BinaryFn::Mul, x, y);
    let (cos_real, sin_imaginary) = (product(cos, real)?, product(sin, imaginary)?);
    let (sin_real, cos_imaginary) = (product(sin, real)?, product(cos, imaginary)?);
    let mut parts = vec![
        b.binary_broadcast(BinaryFn::Sub, cos_real, sin_imaginary)?,
        b.binary_broadcast(BinaryFn::Add, sin_real, cos_imaginary)?,
    ];
    if rotation.interleaved {
        for part in &mut parts {
            *part = b.unsqueeze(*part, &[4])?;
        }
        let neighbours = b.concat(&parts, 4)?;
        let whole = vec![batch.clone(), heads.clone(), length.clone(), turned_size.clone()];
        parts = vec![b.reshape(neighbours, whole)?];
    }
    if turned_size != *size {
        let rest = size.clone() - turned_size.clone();
        parts.push(b.slice_axis(x, 3, turned_size, rest)?);
    }
    let whole = b.concat(&parts, 3)?;
    Ok(b.reshape(whole, shape)?)
}
