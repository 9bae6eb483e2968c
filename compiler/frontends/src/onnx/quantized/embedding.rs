//! Embeddings whose tables are quantised.

use ired_graph::{BinaryFn, Builder, DType, Dim, Op, ReduceFn, ValueId};

use super::super::call::{Call, Outcome, invalid};
use super::{Quantized, scale_of, zero_of};

/// The sum of words', positions' and segments' embeddings, normalised; and the number of words of each row.
pub(crate) fn embed_layer_norm(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome<Vec<ValueId>> {
    let ids = call.input(0)?;
    let [rows, columns] = b.ty(ids).shape.as_slice() else {
        return invalid(format!("input 0 is of rank {}; expected a matrix", b.ty(ids).rank()));
    };
    let (rows, columns) = (rows.clone(), columns.clone());
    let mut sum = rows_of(b, call, 2, 8, 13, ids)?;
    let positions = b.iota(DType::I32, vec![columns], 0)?;
    let position = rows_of(b, call, 3, 9, 14, positions)?;
    sum = b.binary_broadcast(BinaryFn::Add, sum, position)?;
    if let (Some(segments), Some(_)) = (call.optional(1), call.optional(4)) {
        let segment = rows_of(b, call, 4, 10, 15, segments)?;
        sum = b.binary_broadcast(BinaryFn::Add, sum, segment)?;
    }
    let scale = table(b, call, 5, 11, 16)?.real(b)?;
    let bias = table(b, call, 6, 12, 17)?.real(b)?;
    let epsilon = call.attributes.float_or("epsilon", 1e-12)?;
    let normal = b.push(Op::LayerNorm { axis: 2, epsilon }, &[sum, scale, bias])?;
    let words = match call.optional(7) {
        Some(mask) => {
            let mask = b.cast(mask, DType::I32)?;
            b.reduce(ReduceFn::Sum, mask, &[1], false)?
        }
        None => b.full(DType::I32, vec![rows], 0.0)?,
    };
    Ok(vec![normal, words])
}

fn table(
    b: &mut Builder<'_>,
    call: &Call<'_>,
    values: usize,
    scale: usize,
    zero: usize,
) -> Outcome<Quantized> {
    let scale = call.input(scale)?;
    Ok(Quantized {
        values: call.input(values)?,
        scale: scale_of(b, scale)?,
        zero: zero_of(b, call.optional(zero))?,
    })
}

/// Rows of a table, in f32.
fn rows_of(
    b: &mut Builder<'_>,
    call: &Call<'_>,
    values: usize,
    scale: usize,
    zero: usize,
    indices: ValueId,
) -> Outcome {
    let table = table(b, call, values, scale, zero)?;
    if b.ty(table.values).rank() != 2 || b.ty(table.values).shape[0] == Dim::constant(0) {
        return invalid(format!("input {values} is no table of embeddings"));
    }
    let rows = b.gather(table.values, indices, 0)?;
    Quantized { values: rows, ..table }.real(b)
}
