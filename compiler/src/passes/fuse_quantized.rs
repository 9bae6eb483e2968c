//! Computes on integers what a model says as dequantise, compute, quantise.
//!
//! Products and convolutions of dequantised operands become integer ones, scaled once; bias and the next
//! quantisation join that scale. Dequantisation moves down through what only moves elements, until it meets a
//! quantisation of the same scale and both vanish. Results of i8 are computed as u8 with a zero point 128 higher,
//! since kernels multiply u8 by i8, and since after a rectifier that zero point is 0, as padding is.
//!
//! Sums are exact; the order of float operations is the one of ONNX's quantised operators, so that a model means
//! the same written either way.

mod pattern;

use ired_graph::{BinaryFn, DType, Graph, NodeId, Offset, Op, PoolFn, ReduceFn, UnaryFn, ValueId};

use super::PassError;
use super::rewrite::{Rewriter, Rewritten, rewrite};
use pattern::{Dequantized, Quantization, SHIFT, Spread, axis_after_reshape, is_byte};

pub(super) fn fuse_quantized(graph: &mut Graph) -> Result<(), PassError> {
    rewrite(graph, &mut |rw, id| fuse(rw, id))?;
    Ok(())
}

fn fuse(rw: &mut Rewriter<'_>, id: NodeId) -> Rewritten {
    let found = match &rw.node(id).op {
        Op::Cast(DType::I8 | DType::U8) => quantize(rw, id)?,
        Op::Conv { channels_last: false, .. } => convolution(rw, id)?,
        Op::MatMul => product(rw, id)?,
        Op::Binary(BinaryFn::Add) => bias(rw, id)?,
        Op::Reduce { function: ReduceFn::Mean, .. } => mean(rw, id)?,
        Op::Concat { .. } => concat(rw, id)?,
        Op::Transpose { .. }
        | Op::Reshape { .. }
        | Op::Slice { .. }
        | Op::Gather { .. }
        | Op::Pool { function: PoolFn::Max, .. } => movement(rw, id)?,
        _ => None,
    };
    Ok(found.map(|value| vec![value]))
}

type Found = Result<Option<ValueId>, PassError>;

/// A constant, or the transpose of one.
fn is_weight(rw: &Rewriter<'_>, value: ValueId) -> bool {
    match rw.op(value) {
        Some((Op::Transpose { .. }, &[source])) => rw.tensor(source).is_some(),
        _ => rw.tensor(value).is_some(),
    }
}

/// Operands of an integer product: data of one scale, and weights that vary along no axis but `channel`.
fn operands(rw: &Rewriter<'_>, id: NodeId, channel: usize) -> Option<(Dequantized, Dequantized)> {
    let &[x, weights] = rw.node(id).operands.as_slice() else { return None };
    let (x, weights) = (Dequantized::of(rw, x)?, Dequantized::of(rw, weights)?);
    let along_channel = |spread: &Spread| spread.axis.is_none_or(|axis| axis == channel);
    let fits = x.is_plain_byte(rw)
        && is_byte(rw.ty(weights.values).dtype)
        && along_channel(&weights.scale)
        && weights.zero.as_ref().is_none_or(along_channel)
        && is_weight(rw, weights.values);
    fits.then_some((x, weights))
}

fn convolution(rw: &mut Rewriter<'_>, id: NodeId) -> Found {
    let Op::Conv { window, groups, .. } = rw.node(id).op.clone() else { return Ok(None) };
    let Some((x, weights)) = operands(rw, id, 0) else { return Ok(None) };
    let sum = rw.build(|b| {
        let x = offset(b, &x)?;
        let weights = offset(b, &weights)?;
        b.conv_integer(x, weights, window, groups)
    })?;
    scaled(rw, sum, &x, &weights, 1)
}

fn product(rw: &mut Rewriter<'_>, id: NodeId) -> Found {
    let channel = rw.ty(rw.node(id).results[0]).rank() - 1;
    let Some((x, weights)) = operands(rw, id, channel) else { return Ok(None) };
    let sum = rw.build(|b| {
        let x = offset(b, &x)?;
        let weights = offset(b, &weights)?;
        b.matmul_integer(x, weights)
    })?;
    scaled(rw, sum, &x, &weights, channel)
}

/// With a zero point in i32: a scalar or a vector.
fn offset(b: &mut ired_graph::Builder<'_>, x: &Dequantized) -> Result<Offset, ired_graph::ShapeError> {
    let zero = x.zero.as_ref().map(|zero| {
        let shape: Vec<u64> = zero.axis.iter().map(|_| zero.numbers.len() as u64).collect();
        b.constant(zero.to_tensor(DType::I32, &shape))
    });
    Ok(Offset { values: x.values, zero: zero.transpose()? })
}

/// A sum of products in the scale of both operands, which varies along `axis`.
fn scaled(rw: &mut Rewriter<'_>, sum: ValueId, x: &Dequantized, weights: &Dequantized, axis: usize) -> Found {
    let Some(factor) = x.scale.as_one() else { return Ok(None) };
    let mut scale = weights.scale.map(|v| factor * v);
    scale.axis = scale.axis.map(|_| axis);
    Dequantized { values: sum, zero: None, scale, shift: 0.0 }.emit(rw).map(Some)
}

/// A bias quantised in the scale of the sum it is added to.
fn bias(rw: &mut Rewriter<'_>, id: NodeId) -> Found {
    let &[a, b] = rw.node(id).operands.as_slice() else { return Ok(None) };
    for (sum, bias) in [(a, b), (b, a)] {
        let inner = match rw.op(bias) {
            Some((Op::Broadcast { .. }, &[inner])) => inner,
            _ => bias,
        };
        let Some(sum) = Dequantized::of(rw, sum).filter(|sum| sum.is_sum(rw)) else { continue };
        let Some(bias) = Dequantized::of(rw, inner).filter(|bias| bias.is_scaled_i32(rw)) else { continue };
        let leading = rw.ty(sum.values).rank() - rw.ty(bias.values).rank();
        if !is_weight_or_view(rw, bias.values) || !same_scale(&sum.scale, &bias.scale, leading) {
            continue;
        }
        let values = rw.build(|b| b.binary_broadcast(BinaryFn::Add, sum.values, bias.values))?;
        return Dequantized { values, ..sum }.emit(rw).map(Some);
    }
    Ok(None)
}

fn is_weight_or_view(rw: &Rewriter<'_>, value: ValueId) -> bool {
    match rw.op(value) {
        Some((Op::Reshape { .. }, &[source])) => rw.tensor(source).is_some(),
        _ => rw.tensor(value).is_some(),
    }
}

/// Whether a bias's scale, `leading` axes fewer, is the sum's but for rounding.
fn same_scale(sum: &Spread, bias: &Spread, leading: usize) -> bool {
    if sum.axis.is_some() && bias.axis.is_some() && sum.axis != bias.axis.map(|axis| axis + leading) {
        return false;
    }
    let count = sum.numbers.len().max(bias.numbers.len());
    let at = |spread: &Spread, i: usize| spread.numbers[if spread.axis.is_some() { i } else { 0 }];
    (0..count).all(|i| (at(sum, i) - at(bias, i)).abs() <= 1e-5 * at(sum, i).abs())
}

/// What only moves elements moves integers as well.
fn movement(rw: &mut Rewriter<'_>, id: NodeId) -> Found {
    let node = rw.node(id);
    let (op, mut operands) = (node.op.clone(), node.operands.clone());
    let Some(mut x) = Dequantized::of(rw, operands[0]) else { return Ok(None) };
    let from = rw.shape(x.values).to_vec();
    let moved = |axis: usize| match &op {
        Op::Transpose { perm } => perm.iter().position(|p| *p == axis),
        Op::Reshape { shape } => axis_after_reshape(&from, shape, axis),
        _ => None,
    };
    if let Op::Pool { .. } = op
        && (!x.is_plain_byte(rw) || x.scale.as_one().is_none_or(|scale| scale <= 0.0))
    {
        return Ok(None);
    }
    for spread in std::iter::once(&mut x.scale).chain(&mut x.zero) {
        if let Some(axis) = spread.axis {
            let Some(axis) = moved(axis) else { return Ok(None) };
            spread.axis = Some(axis);
        }
    }
    operands[0] = x.values;
    x.values = rw.add(op, &operands)?;
    x.emit(rw).map(Some)
}

/// Parts of one scale are joined as integers.
fn concat(rw: &mut Rewriter<'_>, id: NodeId) -> Found {
    let node = rw.node(id);
    let (op, operands) = (node.op.clone(), node.operands.clone());
    let Some(parts) = operands.iter().map(|v| Dequantized::of(rw, *v)).collect::<Option<Vec<_>>>() else {
        return Ok(None);
    };
    let first = parts[0].clone();
    let same = |part: &Dequantized| {
        part.is_plain_byte(rw)
            && rw.ty(part.values).dtype == rw.ty(first.values).dtype
            && (&part.scale, &part.zero, part.shift) == (&first.scale, &first.zero, first.shift)
    };
    if !parts.iter().all(same) {
        return Ok(None);
    }
    let values: Vec<ValueId> = parts.iter().map(|part| part.values).collect();
    let values = rw.add(op, &values)?;
    Dequantized { values, ..first }.emit(rw).map(Some)
}

/// A mean is an exact sum, scaled.
fn mean(rw: &mut Rewriter<'_>, id: NodeId) -> Found {
    let node = rw.node(id);
    let (Op::Reduce { axes, .. }, &[x]) = (node.op.clone(), node.operands.as_slice()) else {
        return Ok(None);
    };
    let Some(x) = Dequantized::of(rw, x).filter(|x| x.is_plain_byte(rw)) else { return Ok(None) };
    let count = axes.iter().try_fold(1i64, |n, axis| n.checked_mul(rw.shape(x.values)[*axis].as_static()?));
    // Sums of more than this may leave i32.
    const MOST: i64 = 1 << 22;
    let (Some(count @ 1..=MOST), Some(scale), Some(zero)) = (count, x.scale.as_one(), x.one_zero()) else {
        return Ok(None);
    };
    let values = rw.build(|b| {
        let wide = b.cast(x.values, DType::I32)?;
        let sum = b.reduce(ReduceFn::Sum, wide, &axes, false)?;
        match zero {
            0.0 => Ok(sum),
            _ => b.binary_scalar(BinaryFn::Sub, sum, f64::from(zero) * count as f64),
        }
    })?;
    Dequantized { values, zero: None, scale: Spread::one(scale / count as f32), shift: 0.0 }
        .emit(rw)
        .map(Some)
}

/// A quantisation joins the scale in front of it, and gives u8.
fn quantize(rw: &mut Rewriter<'_>, id: NodeId) -> Found {
    let Some(target) = Quantization::of(rw, id) else { return Ok(None) };
    let signed = target.dtype == DType::I8;
    let zero = if signed { target.zero + SHIFT } else { target.zero };
    if let Some(same) = requantized(rw, &target, zero)? {
        return Ok(Some(same));
    }
    let sum_of_two = added(rw, &target)?;
    let shifted_sum = match sum_of_two {
        Some(sum) if signed => rw.build(|b| b.binary_scalar(BinaryFn::Add, sum, f64::from(SHIFT)))?,
        Some(sum) => sum,
        None => {
            let rounded = match rescaled(rw, &target)? {
                Some(rounded) => rounded,
                None if signed => target.rounded,
                None => return Ok(None),
            };
            rw.build(|b| match zero {
                0.0 => Ok(rounded),
                _ => b.binary_scalar(BinaryFn::Add, rounded, f64::from(zero)),
            })?
        }
    };
    let result = rw.build(|b| {
        let bytes = b.cast(shifted_sum, DType::U8)?;
        if signed { b.signed(bytes) } else { Ok(bytes) }
    })?;
    Ok(Some(result))
}

/// What is quantised as it was before it was dequantised.
fn requantized(rw: &mut Rewriter<'_>, target: &Quantization, zero: f32) -> Found {
    let Some(x) = Dequantized::of(rw, target.real).filter(|x| x.is_plain_byte(rw)) else { return Ok(None) };
    let own = match (rw.ty(x.values).dtype, target.dtype) {
        (found, wanted) if found == wanted => target.zero,
        (DType::U8, DType::I8) => zero,
        _ => return Ok(None),
    };
    if x.scale.as_one() != Some(target.scale) || x.one_zero() != Some(own) {
        return Ok(None);
    }
    if rw.ty(x.values).dtype == target.dtype {
        return Ok(Some(x.values));
    }
    rw.build(|b| b.signed(x.values)).map(Some)
}

/// `round(sum * (scale / target))`, the sum rectified if it is in the model.
fn rescaled(rw: &mut Rewriter<'_>, target: &Quantization) -> Found {
    let (real, rectified) = match rw.op(target.real) {
        Some((Op::Binary(BinaryFn::Max), &[x, zero])) if is_zero(rw, zero) => (x, true),
        Some((Op::Binary(BinaryFn::Max), &[zero, x])) if is_zero(rw, zero) => (x, true),
        _ => (target.real, false),
    };
    let Some(mut sum) = Dequantized::of(rw, real).filter(|sum| sum.is_sum(rw)) else { return Ok(None) };
    sum.scale = sum.scale.map(|v| v / target.scale);
    let scaled = sum.emit(rw)?;
    rw.build(|b| {
        let real = if rectified { b.binary_scalar(BinaryFn::Max, scaled, 0.0)? } else { scaled };
        b.unary(UnaryFn::Round, real)
    })
    .map(Some)
}

fn is_zero(rw: &Rewriter<'_>, value: ValueId) -> bool {
    let source = match rw.op(value) {
        Some((Op::Broadcast { .. }, &[inner])) => inner,
        _ => value,
    };
    rw.tensor(source).is_some_and(|t| t.len() == 1 && t.data().iter().all(|byte| *byte == 0))
}

/// Two dequantised operands added and quantised: `round(x * a + (y * b + c))`, of the numbers that the model has, for
/// others round otherwise.
fn added(rw: &mut Rewriter<'_>, target: &Quantization) -> Found {
    let Some((Op::Binary(BinaryFn::Add), &[x, y])) = rw.op(target.real) else { return Ok(None) };
    let plain = |value: ValueId| Dequantized::of(rw, value).filter(|x| x.is_plain_byte(rw));
    let (Some(x), Some(y)) = (plain(x), plain(y)) else { return Ok(None) };
    if rw.shape(x.values) != rw.shape(y.values) {
        return Ok(None);
    }
    let ratio = |x: &Dequantized| x.scale.as_one().map(|scale| scale / target.scale);
    let own_zero = |x: &Dequantized| x.one_zero().map(|zero| zero - x.shift);
    let (Some(a), Some(b), Some(x_zero), Some(y_zero)) = (ratio(&x), ratio(&y), own_zero(&x), own_zero(&y))
    else {
        return Ok(None);
    };
    let constant = target.zero - (a * x_zero + b * y_zero);
    rw.build(|builder| {
        let term = |builder: &mut ired_graph::Builder<'_>, x: &Dequantized, ratio: f32| {
            let mut wide = builder.cast(x.values, DType::F32)?;
            if x.shift != 0.0 {
                wide = builder.binary_scalar(BinaryFn::Sub, wide, f64::from(x.shift))?;
            }
            builder.binary_scalar(BinaryFn::Mul, wide, f64::from(ratio))
        };
        let second = term(builder, &y, b)?;
        let second = builder.binary_scalar(BinaryFn::Add, second, f64::from(constant))?;
        let first = term(builder, &x, a)?;
        let sum = builder.binary_broadcast(BinaryFn::Add, first, second)?;
        builder.unary(UnaryFn::Round, sum)
    })
    .map(Some)
}
