//! Writing at computed positions.

use super::ShapeError;
use super::check::Operands;
use super::elementwise::larger;
use super::interpret::Call;
use super::positions::{count, strides};
use crate::{DType, ScatterFn, Tensor, TensorType};

impl ScatterFn {
    /// Whether the function is defined on elements of `dtype`. Elements share no byte, so that each is written alone.
    pub const fn accepts(self, dtype: DType) -> bool {
        let whole = dtype.bits() >= 8;
        match self {
            Self::Set => whole,
            _ => whole && (dtype.is_float() || dtype.is_integer() || matches!(dtype, DType::Bool)),
        }
    }
}

pub(super) fn infer(operands: &Operands<'_>, function: ScatterFn) -> Result<TensorType, ShapeError> {
    let [data, indices, updates] = operands.exactly()?;
    operands.dtype(
        0,
        function.accepts(data.dtype),
        "a type of whole bytes that the function is defined on",
    )?;
    operands.dtype(1, matches!(indices.dtype, DType::I32 | DType::I64), "i32 or i64")?;
    operands.same_dtype(2, 0)?;
    let Some((coordinates, outer)) = indices.shape.split_last() else {
        return Err(ShapeError::OperandRank {
            op: operands.op,
            operand: 1,
            expected: "over 0".to_owned(),
            found: 0,
        });
    };
    let Some(coordinates) = coordinates.as_static().and_then(|k| usize::try_from(k).ok()) else {
        return Err(operands.attribute("indices", "have a symbolic last dimension; expected a number"));
    };
    operands.rank(0, coordinates <= data.rank(), format!("at least {coordinates}"))?;
    let expected = [outer, &data.shape[coordinates..]].concat();
    operands.rank(2, updates.rank() == expected.len(), expected.len())?;
    for (a, (expected, found)) in expected.iter().zip(&updates.shape).enumerate() {
        operands.unify(format!("dimension {a} of operand 2"), expected, found)?;
    }
    Ok(data.clone())
}

pub(super) fn compute(call: &Call<'_>, function: ScatterFn) -> Tensor {
    let [data, updates] = [call.operands[0], call.operands[2]];
    let targets = Targets::new(data.shape(), call.operands[1]);
    if function == ScatterFn::Set {
        let mut bits = data.to_bits();
        targets.combine(&mut bits, &updates.to_bits(), |_, update| update);
        return call.bits(&bits);
    }
    if data.dtype().is_float() {
        let mut values = data.to_f64s();
        targets.combine(&mut values, &updates.to_f64s(), |x, update| match function {
            ScatterFn::Mul => x * update,
            ScatterFn::Max => larger(x, update),
            ScatterFn::Min => -larger(-x, -update),
            _ => x + update,
        });
        return call.floats(&values);
    }
    let mut values = data.to_integers();
    targets.combine(&mut values, &updates.to_integers(), |x, update| match function {
        ScatterFn::Mul => x.wrapping_mul(update),
        ScatterFn::Max => x.max(update),
        ScatterFn::Min => x.min(update),
        _ => x.wrapping_add(update),
    });
    call.integers(&values)
}

/// Where each slice of the updates goes.
struct Targets {
    /// First element of the slice in data; `None` where an index is outside.
    starts: Vec<Option<usize>>,
    /// Elements of a slice.
    length: usize,
}

impl Targets {
    fn new(data: &[u64], indices: &Tensor) -> Self {
        let coordinates = indices.shape().last().map_or(0, |&k| k as usize);
        let tuples = count(&indices.shape()[..indices.shape().len() - 1]);
        let (strides, values) = (strides(data), indices.to_i64s());
        let start = |tuple: usize| {
            let tuple = &values[tuple * coordinates..(tuple + 1) * coordinates];
            tuple.iter().zip(data).zip(&strides).try_fold(0, |start, ((&index, &size), stride)| {
                let front = if index < 0 { index.checked_add_unsigned(size)? } else { index };
                let inside = usize::try_from(front).ok().filter(|front| (*front as u64) < size);
                inside.map(|front| start + front * stride)
            })
        };
        Self { starts: (0..tuples).map(start).collect(), length: count(&data[coordinates..]) }
    }

    fn combine<T: Copy>(&self, data: &mut [T], updates: &[T], combine: impl Fn(T, T) -> T) {
        for (slice, start) in self.starts.iter().enumerate() {
            let Some(start) = start else { continue };
            for i in 0..self.length {
                let to = &mut data[start + i];
                *to = combine(*to, updates[slice * self.length + i]);
            }
        }
    }
}
