//! Activations with a bias or a product fused in.

use ired_graph::{BinaryFn, Builder, DType, Dim, UnaryFn, ValueId};

use super::super::activation::{gelu_of, scale, swish_of};
use super::super::call::{Call, Outcome, axis, invalid};

/// `x + bias`, where input `index` is the bias, if it is given.
pub(super) fn with_bias(b: &mut Builder<'_>, call: &Call<'_>, x: ValueId, index: usize) -> Outcome {
    match call.optional(index) {
        Some(bias) => {
            let bias = b.broadcast_to(bias, b.ty(x).shape.clone())?;
            Ok(b.binary_broadcast(BinaryFn::Add, x, bias)?)
        }
        None => Ok(x),
    }
}

/// `x` in at least f32.
pub(super) fn wide(b: &mut Builder<'_>, x: ValueId) -> Outcome {
    let dtype = b.ty(x).dtype;
    Ok(if dtype.bits() < 32 { b.cast(x, DType::F32)? } else { x })
}

/// Gelu of `x + bias`, by the error function or, `fast`, by tanh; rounded once, to the type of `x`.
pub(in super::super) fn gelu(b: &mut Builder<'_>, call: &Call<'_>, fast: bool) -> Outcome {
    let x = call.input(0)?;
    let (dtype, mut sum) = (b.ty(x).dtype, wide(b, x)?);
    if let Some(bias) = call.optional(1) {
        let bias = wide(b, bias)?;
        let bias = b.broadcast_to(bias, b.ty(x).shape.clone())?;
        sum = b.binary_broadcast(BinaryFn::Add, sum, bias)?;
    }
    let result = gelu_of(b, sum, fast)?;
    Ok(b.cast(result, dtype)?)
}

/// Fast gelu of `x * weights + bias`.
pub(in super::super) fn product_gelu(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    let product = b.matmul_broadcast(call.input(0)?, call.input(1)?)?;
    let x = with_bias(b, call, product, 2)?;
    gelu_of(b, x, true)
}

/// `x * sigmoid(alpha * x)`.
pub(in super::super) fn quick_gelu(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    let alpha = call.attributes.float_or("alpha", 1.702)?;
    swish_of(b, call.input(0)?, alpha)
}

/// The first half of `x + bias` times gelu of the other half.
pub(in super::super) fn bias_split_gelu(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    let x = with_bias(b, call, call.input(0)?, 1)?;
    let shape = b.ty(x).shape.clone();
    let Some(size) = shape.last() else { return invalid("a scalar has no halves") };
    let half = size.floor_div(&2.into());
    let left = b.slice_axis(x, shape.len() - 1, 0.into(), half.clone())?;
    let right = b.slice_axis(x, shape.len() - 1, half.clone(), half)?;
    let gate = gelu_of(b, right, false)?;
    Ok(b.binary_broadcast(BinaryFn::Mul, left, gate)?)
}

/// `x + bias + skip`.
pub(in super::super) fn bias_add(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    let sum = with_bias(b, call, call.input(0)?, 1)?;
    with_bias(b, call, sum, 2)
}

/// Softmax of `x + bias` over all axes from `axis` on as if they were one.
pub(in super::super) fn bias_softmax(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    // Which axes the bias lacks is plain from its shape.
    call.attributes.ignore(&["is_inner_broadcast"]);
    let x = with_bias(b, call, call.input(0)?, 1)?;
    let shape = b.ty(x).shape.clone();
    let at = axis(call.attributes.int_or("axis", 1)?, shape.len())?;
    if at + 1 == shape.len() {
        return Ok(b.softmax(x, at, false)?);
    }
    let matrix = b.flatten(x, at)?;
    let result = b.softmax(matrix, 1, false)?;
    Ok(b.reshape(result, shape)?)
}

/// The function that a fused operator names in `activation`, of numbers that its kind of operator keeps elsewhere.
pub(super) fn fused(b: &mut Builder<'_>, call: &Call<'_>, x: ValueId, numbers: [Option<f64>; 2]) -> Outcome {
    use super::super::activation::{hard_sigmoid_of, where_negative};
    let [first, second] = numbers;
    match call.attributes.text("activation")?.unwrap_or("") {
        "" => Ok(x),
        "Relu" => Ok(b.binary_scalar(BinaryFn::Max, x, 0.0)?),
        "Tanh" => Ok(b.unary(UnaryFn::Tanh, x)?),
        "Sigmoid" => Ok(b.unary(UnaryFn::Sigmoid, x)?),
        "LeakyRelu" => {
            let negative = scale(b, x, first.unwrap_or(f64::from(0.01f32)))?;
            where_negative(b, x, negative)
        }
        "Clip" => {
            let low = b.binary_scalar(BinaryFn::Max, x, first.unwrap_or(f64::NEG_INFINITY))?;
            Ok(b.binary_scalar(BinaryFn::Min, low, second.unwrap_or(f64::INFINITY))?)
        }
        "HardSigmoid" => hard_sigmoid_of(b, x, first.unwrap_or(f64::from(0.2f32)), second.unwrap_or(0.5)),
        "HardSwish" => {
            let gate = hard_sigmoid_of(b, x, first.unwrap_or(1.0 / 6.0), second.unwrap_or(0.5))?;
            Ok(b.binary_broadcast(BinaryFn::Mul, x, gate)?)
        }
        other => super::super::call::unsupported(
            format!("activation `{other}`"),
            "export the model with the activation as a node of its own",
        ),
    }
}

/// Biases of the buckets that distances from queries to keys fall into, as T5 has them: `[1, heads, queries, keys]`.
/// Small distances have a bucket each, larger ones share buckets that grow with the logarithm.
pub(in super::super) fn relative_position_bias(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    use ired_graph::CompareFn;
    let both_ways = call.attributes.flag("is_bidirectional", false)?;
    let farthest = call.attributes.int_or("max_distance", 0)?;
    let table = call.input(0)?;
    let [buckets, heads] = b.ty(table).shape.as_slice() else {
        return invalid("a bias table that is no matrix");
    };
    let heads = heads.clone();
    let Some(all) = buckets.as_static() else {
        return invalid("a bias table of an unknown number of buckets");
    };
    let (queries, keys) = (call.size_input(b, 1)?, call.size_input(b, 2)?);
    let shape = vec![queries, keys];
    let row = b.iota(DType::I64, shape.clone(), 0)?;
    let column = b.iota(DType::I64, shape, 1)?;
    let ahead = b.binary_broadcast(BinaryFn::Sub, column, row)?;
    let zero = b.scalar(DType::I64, 0.0)?;
    let count = if both_ways { all / 2 } else { all };
    let exact = count / 2;
    if exact < 1 || farthest <= exact {
        return invalid(format!("{all} buckets for distances up to {farthest}"));
    }
    let (distance, base) = if both_ways {
        let is_ahead = b.compare_broadcast(CompareFn::Gt, ahead, zero)?;
        let offset = b.dim(count.into())?;
        (b.unary(UnaryFn::Abs, ahead)?, b.select_broadcast(is_ahead, offset, zero)?)
    } else {
        let behind = b.unary(UnaryFn::Neg, ahead)?;
        (b.binary_broadcast(BinaryFn::Max, behind, zero)?, zero)
    };
    let wide = b.cast(distance, DType::F32)?;
    let ratio = b.binary_scalar(BinaryFn::Div, wide, exact as f64)?;
    let log = b.unary(UnaryFn::Log, ratio)?;
    let steps = (count - exact) as f64 / (farthest as f64 / exact as f64).ln();
    let far = scale(b, log, steps)?;
    let far = b.cast(far, DType::I64)?;
    let far = b.binary_scalar(BinaryFn::Add, far, exact as f64)?;
    let far = b.binary_scalar(BinaryFn::Min, far, (count - 1) as f64)?;
    let limit = b.dim(exact.into())?;
    let is_near = b.compare_broadcast(CompareFn::Lt, distance, limit)?;
    let bucket = b.select_broadcast(is_near, distance, far)?;
    let bucket = b.binary_broadcast(BinaryFn::Add, bucket, base)?;
    let biases = b.gather(table, bucket, 0)?;
    let biases = b.transpose(biases, vec![2, 0, 1])?;
    let mut whole: Vec<Dim> = b.ty(biases).shape.clone();
    whole[0] = heads;
    whole.insert(0, 1.into());
    Ok(b.reshape(biases, whole)?)
}
