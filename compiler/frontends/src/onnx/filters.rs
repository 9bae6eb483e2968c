//! What signals are weighed with: window functions, and the filters of the mel scale.

use ired_graph::{BinaryFn, Builder, CompareFn, DType, UnaryFn, ValueId};

use super::call::{Call, Outcome, read_size};

/// `Σ_k coefficients[k] · cos(2π · k · i / length)` for every element i of a window.
pub(super) fn cosine_window(b: &mut Builder<'_>, call: &Call<'_>, coefficients: &[f64]) -> Outcome {
    let size = read_size(b, call.input(0)?, call.name)?;
    let dtype = call.dtype_attribute("output_datatype")?.unwrap_or(DType::F32);
    let periodic = call.attributes.flag("periodic", true)?;
    let length = if periodic { size.clone() } else { (size.clone() - 1.into()).maximum(&1.into()) };
    let length = b.dim(length)?;
    let length = b.cast(length, DType::F64)?;
    let index = b.iota(DType::F64, vec![size], 0)?;
    let turns = b.binary_broadcast(BinaryFn::Div, index, length)?;
    let mut sum = b.scalar(DType::F64, coefficients[0])?;
    for (k, coefficient) in coefficients.iter().enumerate().skip(1) {
        let angle = b.binary_scalar(BinaryFn::Mul, turns, std::f64::consts::TAU * k as f64)?;
        let cosine = b.unary(UnaryFn::Cos, angle)?;
        let part = b.binary_scalar(BinaryFn::Mul, cosine, *coefficient)?;
        sum = b.binary_broadcast(BinaryFn::Add, sum, part)?;
    }
    Ok(b.cast(sum, dtype)?)
}

/// Triangles over the bins of a spectrum, evenly spaced on the mel scale: `[dft_length / 2 + 1, bins]`.
pub(super) fn mel_weights(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    let bins = read_size(b, call.input(0)?, call.name)?;
    let length = read_size(b, call.input(1)?, call.name)?;
    let dtype = call.dtype_attribute("output_datatype")?.unwrap_or(DType::F32);
    let scalar = |b: &mut Builder<'_>, index| {
        let value = b.reshape(call.input(index)?, Vec::new())?;
        Outcome::Ok(b.cast(value, DType::F64)?)
    };
    let rate = scalar(b, 2)?;
    let (lower, upper) = (scalar(b, 3)?, scalar(b, 4)?);
    let (lower, upper) = (mel_of_hertz(b, lower)?, mel_of_hertz(b, upper)?);
    let points = bins.clone() + 2.into();
    let count = b.dim(points.clone())?;
    let count = b.cast(count, DType::F64)?;
    let range = b.binary_broadcast(BinaryFn::Sub, upper, lower)?;
    let step = b.binary_broadcast(BinaryFn::Div, range, count)?;
    let point = b.iota(DType::F64, vec![points], 0)?;
    let point = b.binary_broadcast(BinaryFn::Mul, point, step)?;
    let point = b.binary_broadcast(BinaryFn::Add, point, lower)?;
    let hertz = hertz_of_mel(b, point)?;
    let scale = b.dim(length.clone() + 1.into())?;
    let scale = b.cast(scale, DType::F64)?;
    let place = b.binary_broadcast(BinaryFn::Mul, hertz, scale)?;
    let place = b.binary_broadcast(BinaryFn::Div, place, rate)?;
    let place = b.unary(UnaryFn::Floor, place)?;
    let mut end = |from: i64| b.slice_axis(place, 0, from.into(), bins.clone());
    let (left, centre, right) = (end(0)?, end(1)?, end(2)?);
    let rows = length.floor_div(&2.into()) + 1.into();
    let row = b.iota(DType::F64, vec![rows, 1.into()], 0)?;
    let weights = triangle(b, row, left, centre, right)?;
    Ok(b.cast(weights, dtype)?)
}

/// 2595 · log10(1 + hertz / 700)
fn mel_of_hertz(b: &mut Builder<'_>, hertz: ValueId) -> Outcome {
    let ratio = b.binary_scalar(BinaryFn::Div, hertz, 700.0)?;
    let ratio = b.binary_scalar(BinaryFn::Add, ratio, 1.0)?;
    let log = b.unary(UnaryFn::Log, ratio)?;
    Ok(b.binary_scalar(BinaryFn::Mul, log, 2595.0 / std::f64::consts::LN_10)?)
}

fn hertz_of_mel(b: &mut Builder<'_>, mel: ValueId) -> Outcome {
    let log = b.binary_scalar(BinaryFn::Mul, mel, std::f64::consts::LN_10 / 2595.0)?;
    let ratio = b.unary(UnaryFn::Exp, log)?;
    let ratio = b.binary_scalar(BinaryFn::Sub, ratio, 1.0)?;
    Ok(b.binary_scalar(BinaryFn::Mul, ratio, 700.0)?)
}

/// Up from `left` to 1 at `centre` and down to `right`; where `left` is `centre` only that one element is 1.
fn triangle(b: &mut Builder<'_>, at: ValueId, left: ValueId, centre: ValueId, right: ValueId) -> Outcome {
    let (zero, one) = (b.scalar_like(at, 0.0)?, b.scalar_like(at, 1.0)?);
    let (up, down) =
        (b.binary_broadcast(BinaryFn::Sub, centre, left)?, b.binary_broadcast(BinaryFn::Sub, right, centre)?);
    let gone = b.binary_broadcast(BinaryFn::Sub, at, left)?;
    let rising = b.binary_broadcast(BinaryFn::Div, gone, up)?;
    let is_steep = b.compare_broadcast(CompareFn::Eq, up, zero)?;
    let rising = b.select_broadcast(is_steep, one, rising)?;
    let to_go = b.binary_broadcast(BinaryFn::Sub, right, at)?;
    let falling = b.binary_broadcast(BinaryFn::Div, to_go, down)?;
    let from_left = b.compare_broadcast(CompareFn::Ge, at, left)?;
    let to_centre = b.compare_broadcast(CompareFn::Le, at, centre)?;
    let rises = b.binary_broadcast(BinaryFn::And, from_left, to_centre)?;
    let from_centre = b.compare_broadcast(CompareFn::Ge, at, centre)?;
    let to_right = b.compare_broadcast(CompareFn::Lt, at, right)?;
    let falls = b.binary_broadcast(BinaryFn::And, from_centre, to_right)?;
    let weight = b.select_broadcast(rises, rising, zero)?;
    Ok(b.select_broadcast(falls, falling, weight)?)
}
