//! Several nodes at once, in the forms that passes look for: quantisation, normalisation, convolutions.

use arbitrary::Result;
use ired_graph::{
    BinaryFn, Builder, DType, Dim, Graph, Op, ReduceFn, RegionId, ShapeError, UnaryFn, ValueId, Window,
};

use super::{Built, Steps};

pub(super) fn step(
    steps: &mut Steps<'_, '_>,
    graph: &mut Graph,
    region: RegionId,
    [x, y]: [ValueId; 2],
    c: usize,
) -> Result<Built> {
    let b = &mut Builder::in_region(graph, region);
    Ok(match steps.u.int_in_range(0..=5)? {
        0 => layer_norm(b, x, c),
        1 => dequantize(b, x, c),
        2 if !steps.smooth => quantize(b, x, c),
        3 if !steps.smooth => {
            let real = quantize(b, x, c);
            real.and_then(|real| dequantize(b, real, c / 2))
        }
        4 => {
            // Casts up and down again.
            let wide = b.cast(x, [DType::F64, DType::F32, DType::I64][c % 3]);
            let dtype = b.ty(x).dtype;
            wide.and_then(|wide| b.cast(wide, dtype))
        }
        _ => {
            let rank = b.ty(x).rank();
            let turned = b.transpose(x, (0..rank).rev().collect());
            let joined = turned.and_then(|turned| b.binary_broadcast(BinaryFn::Add, turned, y));
            joined.and_then(|joined| {
                let rank = b.ty(joined).rank();
                b.transpose(joined, (0..rank).rev().collect())
            })
        }
    })
}

/// `(x - mean) / sqrt(variance + epsilon)` written out, over the last axes.
fn layer_norm(b: &mut Builder<'_>, x: ValueId, c: usize) -> Built {
    let rank = b.ty(x).rank();
    let axes: Vec<usize> = (rank.saturating_sub(1 + c % 2)..rank).collect();
    let mean = b.reduce(ReduceFn::Mean, x, &axes, true)?;
    let centred = b.binary_broadcast(BinaryFn::Sub, x, mean)?;
    let squared = match c / 2 % 2 {
        0 => b.binary_broadcast(BinaryFn::Mul, centred, centred)?,
        _ => b.binary_scalar(BinaryFn::Pow, centred, 2.0)?,
    };
    let variance = b.reduce(ReduceFn::Mean, squared, &axes, true)?;
    let above = b.binary_scalar(BinaryFn::Add, variance, 1e-2)?;
    if c / 4 % 2 == 0 {
        let deviation = b.unary(UnaryFn::Sqrt, above)?;
        return b.binary_broadcast(BinaryFn::Div, centred, deviation);
    }
    let factor = b.unary(UnaryFn::Rsqrt, above)?;
    b.binary_broadcast(BinaryFn::Mul, centred, factor)
}

fn dequantize(b: &mut Builder<'_>, x: ValueId, c: usize) -> Built {
    let mut real = b.cast(x, DType::F32)?;
    if c.is_multiple_of(2) {
        real = b.binary_scalar(BinaryFn::Sub, real, (c % 5) as f64)?;
    }
    b.binary_scalar(BinaryFn::Mul, real, [0.5, 0.25, 0.1][c % 3])
}

fn quantize(b: &mut Builder<'_>, x: ValueId, c: usize) -> Built {
    let dtype = [DType::U8, DType::I8][c % 2];
    let x = b.cast(x, DType::F32)?;
    let scaled = b.binary_scalar(BinaryFn::Div, x, [0.5, 0.25, 0.1][c % 3])?;
    let rounded = b.unary(UnaryFn::Round, scaled)?;
    let shifted = b.binary_scalar(BinaryFn::Add, rounded, (c % 5) as f64)?;
    b.cast(shifted, dtype)
}

/// A convolution over all axes after the second, with what often follows one.
pub(super) fn convolution(
    steps: &mut Steps<'_, '_>,
    graph: &mut Graph,
    region: RegionId,
    x: ValueId,
    c: usize,
) -> Built {
    let shape = graph.ty(x).shape.clone();
    let channels_last = c.is_multiple_of(7);
    let channels = if channels_last { shape.last() } else { shape.get(1) };
    let channels = channels.and_then(Dim::as_static).filter(|channels| *channels > 0);
    let (Some(channels), axes @ 1..=3) = (channels, shape.len().saturating_sub(2)) else {
        let problem = "is none".to_owned();
        return Err(ShapeError::Attribute { op: "conv", attribute: "window", problem });
    };
    let groups = [1, channels as u64, 2][c % 3];
    let out = groups * (1 + c as u64 / 3 % 2);
    let extent = vec![1 + c as u64 / 2 % 2; axes];
    let weight_shape = [&[out, (channels as u64 / groups).max(1)], &extent[..]].concat();
    let weights = steps.weight(graph, region, &weight_shape)?;
    let (scale, shift) = (steps.weight(graph, region, &[out])?, steps.weight(graph, region, &[out])?);
    let b = &mut Builder::in_region(graph, region);
    let mut window = Window::dense(extent);
    window.stride = vec![1 + c as u64 / 5 % 2; axes];
    window.pad_low = vec![c as u64 / 4 % 2; axes];
    window.pad_high = vec![c as u64 / 8 % 2; axes];
    let op = Op::Conv { window, groups, channels_last };
    let mut value = b.push(op, &[x, weights])?;
    let mut spread = vec![Dim::constant(1); shape.len()];
    spread[if channels_last { shape.len() - 1 } else { 1 }] = Dim::constant(out as i64);
    for (factor, function) in [(scale, BinaryFn::Mul), (shift, BinaryFn::Add)] {
        if c.is_multiple_of(2) {
            let factor = b.reshape(factor, spread.clone())?;
            value = b.binary_broadcast(function, value, factor)?;
        }
    }
    Ok(value)
}
