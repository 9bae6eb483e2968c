//! Weights of four bits that number the entries of a table, in blocks that have a scale each.

use ired_graph::{BinaryFn, Builder, DType, Dim, ValueId};

use super::super::call::{Call, Outcome, invalid};
use super::super::tensor;
use super::weights::size_of;

/// Floats of a sign, two bits of exponent and one of mantissa, over their largest.
const FLOATS: [f64; 16] = [
    0.0,
    0.005_208_333_333,
    0.666_666_67,
    1.0,
    0.333_333_33,
    0.5,
    0.166_666_67,
    0.25,
    -0.0,
    -0.005_208_333_333,
    -0.666_666_67,
    -1.0,
    -0.333_333_33,
    -0.5,
    -0.166_666_67,
    -0.25,
];

/// The quantiles of a normal distribution, over the largest.
const QUANTILES: [f64; 16] = [
    -1.0,
    -0.696_192_8,
    -0.525_073_05,
    -0.394_917_5,
    -0.284_441_38,
    -0.184_773_43,
    -0.091_050_036,
    0.0,
    0.079_580_3,
    0.160_930_2,
    0.246_112_3,
    0.337_915_24,
    0.440_709_83,
    0.562_617,
    0.722_956_84,
    1.0,
];

/// `x * weightsᵀ`, or `x * weights` with `transB` 0. Inputs: x, two weights a byte, the high bits first, scales.
pub(in super::super) fn matmul(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    call.attributes.ignore(&["training_mode"]);
    let table = match call.attributes.int("quant_type")? {
        Some(0) => FLOATS,
        Some(1) => QUANTILES,
        other => return invalid(format!("quant_type is {other:?}; expected 0 or 1")),
    };
    let (k, n, block) = (size_of(call, "K")?, size_of(call, "N")?, size_of(call, "block_size")?);
    let (x, bytes) = (call.input(0)?, call.input(1)?);
    if b.ty(bytes).dtype != DType::U8 {
        return invalid(format!("weights of {}; expected bytes", b.ty(bytes).dtype));
    }
    let Some(count) = k.checked_mul(n).filter(|count| *count < 1 << 40) else {
        return invalid(format!("{n} rows of {k} weights"));
    };
    let numbers = high_then_low(b, bytes, count)?;
    let table = ired_graph::Tensor::from_f64s(DType::F32, &[16], &table);
    let table = tensor::emit_tensor(b, &format!("{}/table", call.name), table)?;
    let values = b.gather(table, numbers, 0)?;
    let scales = b.cast(call.input(2)?, DType::F32)?;
    let blocks = count.div_euclid(block) + i64::from(count % block != 0);
    let scales = b.reshape(scales, vec![blocks.into()])?;
    let place = b.iota(DType::I64, vec![count.into()], 0)?;
    let of_weight = b.binary_scalar(BinaryFn::Div, place, block as f64)?;
    let scales = b.gather(scales, of_weight, 0)?;
    let weights = b.binary_broadcast(BinaryFn::Mul, values, scales)?;
    let weights = b.reshape(weights, vec![n.into(), k.into()])?;
    let mut weights = b.cast(weights, b.ty(x).dtype)?;
    if call.attributes.flag("transB", true)? {
        weights = b.transpose(weights, vec![1, 0])?;
    }
    Ok(b.matmul_broadcast(x, weights)?)
}

/// The first `count` numbers of four bits in bytes, as i64.
fn high_then_low(b: &mut Builder<'_>, bytes: ValueId, count: i64) -> Outcome {
    let half = Dim::constant(count.div_euclid(2) + count % 2);
    let bytes = b.reshape(bytes, vec![half.clone(), 1.into()])?;
    let high = b.binary_scalar(BinaryFn::ShiftRight, bytes, 4.0)?;
    let low = b.binary_scalar(BinaryFn::And, bytes, 15.0)?;
    let both = b.concat(&[high, low], 1)?;
    let all = b.reshape(both, vec![half * 2.into()])?;
    let numbers = b.slice_axis(all, 0, 0.into(), count.into())?;
    Ok(b.cast(numbers, DType::I64)?)
}
