//! Operations without operands: literals, weights, symbolic dimensions as data, counting.

use super::ShapeError;
use super::check::Operands;
use super::interpret::Call;
use super::positions::Positions;
use crate::tensor::element_count;
use crate::types::sizes_to_shape;
use crate::{DType, Dim, Param, ParamId, Shape, SymbolId, Tensor, TensorType};

pub(super) fn infer_constant(operands: &Operands<'_>, tensor: &Tensor) -> Result<TensorType, ShapeError> {
    operands.exactly::<0>()?;
    Ok(TensorType::of_sizes(tensor.dtype(), tensor.shape()))
}

pub(super) fn infer_param(
    operands: &Operands<'_>,
    id: ParamId,
    params: &[Param],
) -> Result<TensorType, ShapeError> {
    operands.exactly::<0>()?;
    match params.get(id.index()) {
        Some(param) => Ok(TensorType::of_sizes(param.dtype, &param.shape)),
        None => Err(operands.attribute("param", format!("is {}; the graph has {}", id.0, params.len()))),
    }
}

pub(super) fn infer_dims(
    operands: &Operands<'_>,
    values: &[Dim],
    shape: &[u64],
) -> Result<TensorType, ShapeError> {
    operands.exactly::<0>()?;
    if element_count(shape) != Some(values.len() as u64) {
        return Err(operands.attribute("values", format!("has {} entries for shape {shape:?}", values.len())));
    }
    Ok(TensorType { dtype: DType::I64, shape: sizes_to_shape(shape) })
}

pub(super) fn infer_iota(
    operands: &Operands<'_>,
    dtype: DType,
    shape: &Shape,
    axis: usize,
) -> Result<TensorType, ShapeError> {
    operands.exactly::<0>()?;
    operands.sizes("shape", shape)?;
    operands.axis(axis, shape.len())?;
    if !dtype.is_float() && !dtype.is_integer() {
        return Err(operands.attribute("dtype", format!("is {dtype}; expected a number type")));
    }
    Ok(TensorType::new(dtype, shape.clone()))
}

pub(super) fn infer_read_dims(
    operands: &Operands<'_>,
    symbols: &[SymbolId],
) -> Result<TensorType, ShapeError> {
    let [x] = operands.exactly()?;
    operands.dtype(0, x.dtype == DType::I64, "i64")?;
    operands.rank(0, x.rank() == 1, 1)?;
    let expected = Dim::constant(i64::try_from(symbols.len()).unwrap_or(i64::MAX));
    if x.shape[0] != expected {
        return Err(operands.mismatch("the number of sizes", &expected, &x.shape[0]));
    }
    let mut distinct = symbols.to_vec();
    distinct.sort_unstable();
    distinct.dedup();
    if distinct.len() != symbols.len() {
        return Err(operands.attribute("symbols", "names a symbol twice"));
    }
    Ok(x.clone())
}

pub(super) fn compute_dims(call: &Call<'_>, values: &[Dim]) -> Tensor {
    let values: Vec<i128> = values.iter().map(|d| i128::from(d.offset())).collect();
    call.integers(&values)
}

pub(super) fn compute_iota(call: &Call<'_>, axis: usize) -> Tensor {
    let along = |(a, &size): (usize, &u64)| Positions::steps(size, usize::from(a == axis));
    let mut values = Vec::new();
    Positions::new(call.shape.iter().enumerate().map(along).collect())
        .for_each(&mut |i| values.push(i as i128));
    call.integers(&values)
}
