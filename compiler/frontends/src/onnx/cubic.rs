//! The cubic filter of images: a polynomial for distances up to 1 and another up to 2 (Keys, 1981).

use ired_graph::{BinaryFn, Builder, ValueId};

use super::call::Outcome;

/// The weight at distance `d`, 0 to 1.
pub(super) fn near(b: &mut Builder<'_>, d: ValueId, a: f64) -> Outcome {
    polynomial(b, d, [a + 2.0, -(a + 3.0), 0.0, 1.0])
}

/// The weight at distance `d`, 1 to 2.
pub(super) fn far(b: &mut Builder<'_>, d: ValueId, a: f64) -> Outcome {
    polynomial(b, d, [a, -5.0 * a, 8.0 * a, -4.0 * a])
}

/// `Σ coefficients · x^n`, the highest power first.
fn polynomial(b: &mut Builder<'_>, x: ValueId, coefficients: [f64; 4]) -> Outcome {
    let mut sum = b.scalar_like(x, coefficients[0])?;
    for coefficient in &coefficients[1..] {
        sum = b.binary_broadcast(BinaryFn::Mul, sum, x)?;
        sum = b.binary_scalar(BinaryFn::Add, sum, *coefficient)?;
    }
    Ok(sum)
}
