//! Running sums and products along an axis.

use super::ShapeError;
use super::check::Operands;
use super::interpret::Call;
use super::positions::count;
use crate::{CumulativeFn, Tensor, TensorType};

pub(super) fn infer(operands: &Operands<'_>, axis: usize) -> Result<TensorType, ShapeError> {
    let [x] = operands.exactly()?;
    let number = x.dtype.is_float() || x.dtype.is_integer();
    operands.dtype(0, number && x.dtype.bits() >= 8, "a number type of whole bytes")?;
    operands.axis(axis, x.rank())?;
    Ok(x.clone())
}

pub(super) fn compute(
    call: &Call<'_>,
    function: CumulativeFn,
    axis: usize,
    exclusive: bool,
    reverse: bool,
) -> Tensor {
    let x = call.x();
    let product = function == CumulativeFn::Product;
    let walk = Walk { shape: x.shape(), axis, exclusive, reverse };
    if x.dtype().is_float() {
        let start = if product { 1.0 } else { 0.0 };
        return call.floats(&walk.run(&x.to_f64s(), start, |a, v| if product { a * v } else { a + v }));
    }
    let join = |a: i128, v| if product { a.wrapping_mul(v) } else { a.wrapping_add(v) };
    call.integers(&walk.run(&x.to_integers(), i128::from(product), join))
}

struct Walk<'a> {
    shape: &'a [u64],
    axis: usize,
    exclusive: bool,
    reverse: bool,
}

impl Walk<'_> {
    fn run<T: Copy>(&self, x: &[T], start: T, join: impl Fn(T, T) -> T) -> Vec<T> {
        let (extent, inner) = (self.shape[self.axis] as usize, count(&self.shape[self.axis + 1..]));
        let mut out = x.to_vec();
        for row in 0..count(&self.shape[..self.axis]) {
            for column in 0..inner {
                let mut total = start;
                for i in 0..extent {
                    let i = if self.reverse { extent - 1 - i } else { i };
                    let at = (row * extent + i) * inner + column;
                    let next = join(total, x[at]);
                    out[at] = if self.exclusive { total } else { next };
                    total = next;
                }
            }
        }
        out
    }
}
