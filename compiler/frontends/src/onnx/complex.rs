//! Complex numbers: moved whole, and otherwise taken apart and put together again.

use ired_graph::{BinaryFn, Builder, CompareFn, Op, UnaryFn, ValueId};

use super::call::Outcome;

/// The real and the imaginary parts.
fn parts(b: &mut Builder<'_>, x: ValueId) -> Outcome<[ValueId; 2]> {
    Ok([b.unary(UnaryFn::Real, x)?, b.unary(UnaryFn::Imag, x)?])
}

/// What `function`, which is linear, makes of `x`: of complex numbers, part by part.
pub(super) fn by_part(
    b: &mut Builder<'_>,
    x: ValueId,
    function: impl Fn(&mut Builder<'_>, ValueId) -> Outcome,
) -> Outcome {
    if !b.ty(x).dtype.is_complex() {
        return function(b, x);
    }
    let [re, im] = parts(b, x)?;
    let (re, im) = (function(b, re)?, function(b, im)?);
    Ok(b.push(Op::Binary(BinaryFn::Complex), &[re, im])?)
}

/// Where complex numbers are not zero.
pub(super) fn is_not_zero(b: &mut Builder<'_>, x: ValueId) -> Outcome {
    let [re, im] = parts(b, x)?;
    let zero = b.scalar_like(re, 0.0)?;
    let re = b.compare_broadcast(CompareFn::Ne, re, zero)?;
    let im = b.compare_broadcast(CompareFn::Ne, im, zero)?;
    Ok(b.push(Op::Binary(BinaryFn::Or), &[re, im])?)
}

/// `[n, k]` complex numbers as `[n, 2k]` parts, a number's side by side, real ones first; other numbers as they are.
pub(super) fn columns_of_parts(b: &mut Builder<'_>, rows: ValueId) -> Outcome {
    if !b.ty(rows).dtype.is_complex() {
        return Ok(rows);
    }
    let mut shape = b.ty(rows).shape.clone();
    let [re, im] = parts(b, rows)?;
    let (re, im) = (b.unsqueeze(re, &[2])?, b.unsqueeze(im, &[2])?);
    let apart = b.concat(&[re, im], 2)?;
    shape[1] = shape[1].clone() * 2.into();
    Ok(b.reshape(apart, shape)?)
}
