//! Features made ready: scaled, normalised, filled in, thresholded, joined.

use ired_graph::{BinaryFn, Builder, CompareFn, DType, Dim, PadMode, ReduceFn, Tensor, UnaryFn, ValueId};

use super::super::call::{Call, Outcome, invalid};
use super::super::tensor;
use super::{floats, weights};

/// `(x - offset) · scale`, one number each or one a feature; in f32.
pub(in super::super) fn scaler(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    let x = b.cast(call.input(0)?, DType::F32)?;
    let (offset, scale) = (floats(call, "offset")?, floats(call, "scale")?);
    let mut result = x;
    for (values, function) in [(offset, BinaryFn::Sub), (scale, BinaryFn::Mul)] {
        if values.is_empty() {
            continue;
        }
        let values = weights(b, call, DType::F32, &[values.len() as u64], &values)?;
        result = b.binary_broadcast(function, result, values)?;
    }
    Ok(result)
}

/// Rows divided by their norms; rows of zeros stay.
pub(in super::super) fn normalizer(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    let x = b.cast(call.input(0)?, DType::F32)?;
    let Some(axis) = b.ty(x).rank().checked_sub(1) else { return invalid("a scalar has no norm") };
    let size = b.unary(UnaryFn::Abs, x)?;
    let norm = match call.attributes.text("norm")?.unwrap_or("MAX") {
        // ONNX Runtime divides by the largest element, not by the largest of their sizes.
        "MAX" => b.reduce(ReduceFn::Max, x, &[axis], true)?,
        "L1" => b.reduce(ReduceFn::Sum, size, &[axis], true)?,
        "L2" => {
            let square = b.binary_broadcast(BinaryFn::Mul, x, x)?;
            let sum = b.reduce(ReduceFn::Sum, square, &[axis], true)?;
            b.unary(UnaryFn::Sqrt, sum)?
        }
        other => return invalid(format!("norm `{other}`")),
    };
    let (zero, one) = (b.scalar_like(x, 0.0)?, b.scalar_like(x, 1.0)?);
    let is_zero = b.compare_broadcast(CompareFn::Eq, norm, zero)?;
    let divisor = b.select_broadcast(is_zero, one, norm)?;
    Ok(b.binary_broadcast(BinaryFn::Div, x, divisor)?)
}

/// 1 where over the threshold, else 0.
pub(in super::super) fn binarizer(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    let x = call.input(0)?;
    let dtype = b.ty(x).dtype;
    let threshold = call.attributes.float_or("threshold", 0.0)?;
    let wide = if dtype.is_float() { x } else { b.cast(x, DType::F64)? };
    let threshold = b.scalar_like(wide, threshold)?;
    let over = b.compare_broadcast(CompareFn::Gt, wide, threshold)?;
    Ok(b.cast(over, dtype)?)
}

/// Elements equal to one value replaced by another, or by one a feature.
pub(in super::super) fn imputer(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    let x = call.input(0)?;
    let dtype = b.ty(x).dtype;
    let (replaced, values) = match dtype.is_float() {
        true => {
            let replaced = call.attributes.float_or("replaced_value_float", 0.0)?;
            let values = floats(call, "imputed_value_floats")?;
            (Tensor::scalar(dtype, replaced), Tensor::from_f64s(dtype, &[values.len() as u64], &values))
        }
        false => {
            let replaced = i128::from(call.attributes.int_or("replaced_value_int64", 0)?);
            let values = call.attributes.ints("imputed_value_int64s")?.unwrap_or_default();
            let values: Vec<i128> = values.iter().map(|v| i128::from(*v)).collect();
            let list = Tensor::from_integers(dtype, &[values.len() as u64], &values);
            (Tensor::from_integers(dtype, &[], &[replaced]), list)
        }
    };
    call.attributes.ignore(&["imputed_value_floats", "imputed_value_int64s"]);
    call.attributes.ignore(&["replaced_value_float", "replaced_value_int64"]);
    if values.is_empty() {
        return invalid("has no imputed values of the input's kind");
    }
    let values = tensor::emit_tensor(b, &format!("{}/values", call.name), values)?;
    let missing = match dtype.is_float() && replaced.to_f64s()[0].is_nan() {
        true => b.unary(UnaryFn::IsNan, x)?,
        false => {
            let replaced = b.constant(replaced)?;
            b.compare_broadcast(CompareFn::Eq, x, replaced)?
        }
    };
    Ok(b.select_broadcast(missing, values, x)?)
}

/// Features side by side, each input cut or filled with zeros to its stated width; in f32.
pub(in super::super) fn feature_vectorizer(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    let inputs = call.all_inputs()?;
    let widths = call.attributes.ints("inputdimensions")?.unwrap_or_default();
    if widths.len() != inputs.len() || widths.iter().any(|w| !(0..1 << 31).contains(w)) {
        return invalid(format!("inputdimensions {widths:?} for {} inputs", inputs.len()));
    }
    let mut parts: Vec<ValueId> = Vec::new();
    for (input, width) in inputs.into_iter().zip(widths) {
        let input = b.cast(input, DType::F32)?;
        let input = match b.ty(input).rank() {
            2 => input,
            // One row.
            1 => b.unsqueeze(input, &[0])?,
            rank => return invalid(format!("features of rank {rank}; expected a matrix")),
        };
        let (found, width) = (b.ty(input).shape[1].clone(), Dim::constant(*width));
        let kept = b.graph.symbols.simplify(&found.minimum(&width));
        let missing = b.graph.symbols.simplify(&(width - kept.clone()));
        let cut = b.slice_axis(input, 1, 0.into(), kept)?;
        let zero = b.scalar(DType::F32, 0.0)?;
        let (low, high) = (vec![0.into(), 0.into()], vec![0.into(), missing]);
        parts.push(b.pad(cut, low, high, PadMode::Constant, Some(zero))?);
    }
    Ok(b.concat(&parts, 1)?)
}
