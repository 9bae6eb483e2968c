//! A loop that combines a row into one vector, and a vector into one number.

use ired_graph::{DType, ReduceFn};
use ired_mlir::{Builder, FloatCompare, Value};

use crate::kernels::arithmetic::maximum;

/// Combines `part` of every index below `length` with `sum`; `start` changes nothing when combined.
///
/// Runs over `unroll` vectors at a time, then over what is left with a mask.
#[allow(clippy::too_many_arguments, reason = "a loop and what it does")]
pub(super) fn fold<'m>(
    b: &Builder<'m>,
    length: Value<'m>,
    lanes: usize,
    unroll: usize,
    sum: Value<'m>,
    start: Value<'m>,
    part: &dyn Fn(&Builder<'m>, Value<'m>, Option<Value<'m>>) -> Value<'m>,
    combine: &dyn Fn(&Builder<'m>, Value<'m>, Value<'m>) -> Value<'m>,
) -> Value<'m> {
    let stride = b.index((lanes * unroll) as i64);
    let full = b.subi(length, b.remui(length, stride));
    let mut sums = vec![start; unroll];
    sums[0] = sum;
    if b.known(full) != Some(0) {
        sums = b.for_loop(b.index(0), full, stride, &sums, |b, index, sums| {
            sums.iter()
                .enumerate()
                .map(|(u, sum)| {
                    let at = b.addi(index, b.index((u * lanes) as i64));
                    combine(b, *sum, part(b, at, None))
                })
                .collect()
        });
    }
    let sum = sums.into_iter().reduce(|x, y| combine(b, x, y)).unwrap_or(start);
    if b.known(full).is_some() && b.known(full) == b.known(length) {
        return sum;
    }
    b.for_loop(full, length, b.index(lanes as i64), &[sum], |b, index, sums| {
        let mask = b.mask(b.subi(length, index), lanes);
        vec![combine(b, sums[0], part(b, index, Some(mask)))]
    })[0]
}

/// Combines the lanes of a vector, half with half.
pub(in crate::kernels) fn halve<'m>(
    b: &Builder<'m>,
    vector: Value<'m>,
    combine: &dyn Fn(&Builder<'m>, Value<'m>, Value<'m>) -> Value<'m>,
) -> Value<'m> {
    let lanes = vector.ty().vector_lanes().unwrap_or(1);
    let mut vector = vector;
    let mut half = lanes / 2;
    while half > 0 {
        let other: Vec<i64> = (0..lanes).map(|lane| ((lane + half) % lanes) as i64).collect();
        vector = combine(b, vector, b.shuffle(vector, vector, &other));
        half /= 2;
    }
    b.extract(vector, 0)
}

/// Combines the lanes of a vector.
pub(super) fn across<'m>(b: &Builder<'m>, function: ReduceFn, dtype: DType, vector: Value<'m>) -> Value<'m> {
    let (float, signed) = (dtype.is_float(), dtype.is_signed_integer());
    let how = match function {
        ReduceFn::Max => FloatCompare::Gt,
        _ => FloatCompare::Lt,
    };
    if float && matches!(function, ReduceFn::Max | ReduceFn::Min) {
        return halve(b, vector, &|b, x, y| maximum(b, how, x, y));
    }
    let kind = match function {
        ReduceFn::Product => "mul",
        ReduceFn::Max if signed => "maxsi",
        ReduceFn::Min if signed => "minsi",
        ReduceFn::Max => "maxui",
        ReduceFn::Min => "minui",
        ReduceFn::All => "and",
        ReduceFn::Any => "or",
        _ => "add",
    };
    b.reduce(kind, vector)
}
