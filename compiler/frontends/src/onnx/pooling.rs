//! Reductions of sliding windows, and of whole images.

use ired_graph::{ArgReduceFn, BinaryFn, Builder, DType, Dim, Op, PoolFn, ReduceFn, UnaryFn, ValueId};

use super::call::{Call, Outcome, invalid};
use super::convolution::{channels_first, channels_last_again};
use super::windows::Windows;

/// The largest element of every window, and on request where it is in the whole input.
pub(super) fn max_pool(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome<Vec<ValueId>> {
    let column_major = call.attributes.flag("storage_order", false)?;
    let x = call.input(0)?;
    let windows = windows(b, call, x)?;
    let largest = largest_of(b, x, &windows)?;
    if !call.wants(1) {
        return Ok(vec![largest]);
    }
    let lowest = b.scalar_like(x, f64::NEG_INFINITY)?;
    let padded = windows.pad(b, x, lowest)?;
    Ok(vec![largest, indices_of_largest(b, padded, &windows, column_major)?])
}

/// As [`max_pool`] of an input whose channels are its last axis.
pub(super) fn max_pool_channels_last(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    let x = channels_first(b, call.input(0)?)?;
    let windows = windows(b, call, x)?;
    let largest = largest_of(b, x, &windows)?;
    channels_last_again(b, largest)
}

fn largest_of(b: &mut Builder<'_>, x: ValueId, windows: &Windows) -> Outcome {
    if let Some(window) = windows.as_window() {
        return Ok(b.pool(PoolFn::Max, x, window, false)?);
    }
    let lowest = b.scalar_like(x, f64::NEG_INFINITY)?;
    let padded = windows.pad(b, x, lowest)?;
    pool_padded(b, PoolFn::Max, padded, windows)
}

fn pool_padded(b: &mut Builder<'_>, function: PoolFn, padded: ValueId, windows: &Windows) -> Outcome {
    match windows.over_padded() {
        Some(window) => Ok(b.pool(function, padded, window, false)?),
        None => invalid("a window without a size"),
    }
}

/// The numbers, in the row-major or column-major order of each image, of the largest elements.
fn indices_of_largest(
    b: &mut Builder<'_>,
    padded: ValueId,
    windows: &Windows,
    column_major: bool,
) -> Outcome {
    let rank = windows.extent.len();
    let patches = windows.patches(b, padded)?;
    let order = [0, 1].into_iter().chain((0..rank).map(|a| 3 + 2 * a)).chain((0..rank).map(|a| 2 + 2 * a));
    let patches = b.transpose(patches, order.collect())?;
    let mut shape = b.ty(patches).shape[..2 + rank].to_vec();
    shape.push(product(&windows.extent));
    let patches = b.reshape(patches, shape.clone())?;
    shape.pop();
    let mut tap =
        b.push(Op::ArgReduce { function: ArgReduceFn::Max, axis: 2 + rank, last_on_tie: false }, &[patches])?;
    // The image's own number, then its positions by the steps between neighbours.
    let channels = b.dim(shape[1].clone())?;
    let image = b.iota(DType::I64, shape.clone(), 0)?;
    let image = b.binary_broadcast(BinaryFn::Mul, image, channels)?;
    let channel = b.iota(DType::I64, shape.clone(), 1)?;
    let image = b.binary_broadcast(BinaryFn::Add, image, channel)?;
    let size = b.dim(product(windows.spatial()))?;
    let mut number = b.binary_broadcast(BinaryFn::Mul, image, size)?;
    for axis in (0..rank).rev() {
        let extent = b.dim(windows.extent[axis].clone())?;
        let own = b.binary_broadcast(BinaryFn::Rem, tap, extent)?;
        tap = b.binary_broadcast(BinaryFn::Div, tap, extent)?;
        let index = b.iota(DType::I64, shape.clone(), 2 + axis)?;
        let position = windows.position(b, axis, index, own)?;
        let spatial = windows.spatial();
        let step = product(if column_major { &spatial[..axis] } else { &spatial[axis + 1..] });
        let step = b.dim(step)?;
        let position = b.binary_broadcast(BinaryFn::Mul, position, step)?;
        number = b.binary_broadcast(BinaryFn::Add, number, position)?;
    }
    Ok(number)
}

fn product(dims: &[Dim]) -> Dim {
    dims.iter().fold(Dim::constant(1), |all, d| all * d.clone())
}

pub(super) fn average_pool(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    let include_pad = call.attributes.flag("count_include_pad", false)?;
    let windows = windows(b, call, call.input(0)?)?;
    average(b, call.input(0)?, &windows, include_pad)
}

pub(super) fn average(b: &mut Builder<'_>, x: ValueId, windows: &Windows, include_pad: bool) -> Outcome {
    if let Some(window) = windows.as_window() {
        return Ok(b.pool(PoolFn::Average, x, window, include_pad)?);
    }
    // Averages over all elements, of the input and of ones where it counts.
    let zero = b.scalar_like(x, 0.0)?;
    let one = b.scalar_like(x, 1.0)?;
    let padded = windows.pad(b, x, zero)?;
    let sums = pool_padded(b, PoolFn::Average, padded, windows)?;
    let mut image = b.ty(x).shape.clone();
    image[..2].fill(Dim::constant(1));
    let ones = b.broadcast_to(one, image)?;
    let ones = match include_pad {
        true => {
            let counted = windows.pad_as_stated(b, ones, one)?;
            windows.without_padding().pad(b, counted, zero)?
        }
        false => windows.pad(b, ones, zero)?,
    };
    let counts = pool_padded(b, PoolFn::Average, ones, windows)?;
    Ok(b.binary_broadcast(BinaryFn::Div, sums, counts)?)
}

/// The p-norm of every window.
pub(super) fn lp_pool(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    let x = call.input(0)?;
    let windows = windows(b, call, call.input(0)?)?;
    let p = norm(call)?;
    let powers = power(b, x, p)?;
    let zero = b.scalar_like(powers, 0.0)?;
    let padded = windows.pad(b, powers, zero)?;
    let average = pool_padded(b, PoolFn::Average, padded, &windows)?;
    let count = product(&windows.extent).as_static().unwrap_or(1);
    let sum = b.binary_scalar(BinaryFn::Mul, average, count as f64)?;
    root(b, sum, p)
}

/// The p-norm of every image; the spatial axes stay with size 1.
pub(super) fn global_lp_pool(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    let p = norm(call)?;
    let powers = power(b, call.input(0)?, p)?;
    let sum = over_images(b, powers, ReduceFn::Sum)?;
    root(b, sum, p)
}

/// `p`, a float in version 1 and an integer from then on.
fn norm(call: &Call<'_>) -> Outcome<f64> {
    let p = match call.version >= 2 {
        true => call.attributes.int_or("p", 2)? as f64,
        false => call.attributes.float_or("p", 2.0)?,
    };
    if p.is_finite() && p > 0.0 { Ok(p) } else { invalid(format!("`p` is {p}")) }
}

fn power(b: &mut Builder<'_>, x: ValueId, p: f64) -> Outcome {
    let size = b.unary(UnaryFn::Abs, x)?;
    Ok(match p {
        1.0 => size,
        2.0 => b.binary_broadcast(BinaryFn::Mul, size, size)?,
        _ => b.binary_scalar(BinaryFn::Pow, size, p)?,
    })
}

fn root(b: &mut Builder<'_>, x: ValueId, p: f64) -> Outcome {
    Ok(match p {
        1.0 => x,
        2.0 => b.unary(UnaryFn::Sqrt, x)?,
        _ => b.binary_scalar(BinaryFn::Pow, x, 1.0 / p)?,
    })
}

/// The windows of a pool over `x`.
fn windows(b: &Builder<'_>, call: &Call<'_>, x: ValueId) -> Outcome<Windows> {
    let Some(extent) = call.attributes.ints("kernel_shape")? else {
        return invalid("`kernel_shape` is missing");
    };
    if extent.iter().any(|d| *d < 1) {
        return invalid(format!("kernel_shape {extent:?}"));
    }
    let spatial = b.ty(x).shape.get(2..).unwrap_or_default();
    Windows::of(call, spatial, extent.iter().map(|d| Dim::constant(*d)).collect())
}

/// One number a channel; the spatial axes stay with size 1.
pub(super) fn global_pool(b: &mut Builder<'_>, call: &Call<'_>, function: ReduceFn) -> Outcome {
    over_images(b, call.input(0)?, function)
}

fn over_images(b: &mut Builder<'_>, x: ValueId, function: ReduceFn) -> Outcome {
    let rank = b.ty(x).rank();
    if rank < 2 {
        return invalid(format!("input of rank {rank}; expected at least 2"));
    }
    let axes: Vec<usize> = (2..rank).collect();
    if axes.is_empty() { Ok(x) } else { Ok(b.reduce(function, x, &axes, true)?) }
}
