//! Convolution.

use ired_graph::{BinaryFn, Builder, Dim, ValueId};

use super::call::{Call, Outcome, invalid};
use super::windows::Windows;

/// Input `[n, c, spatial..]`, weights `[k, c / groups, window..]`, bias `[k]`.
pub(super) fn conv(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    conv_of(b, call, call.input(0)?)
}

/// As [`conv`] of `x` in place of input 0.
pub(super) fn conv_of(b: &mut Builder<'_>, call: &Call<'_>, x: ValueId) -> Outcome {
    let weights = call.input(1)?;
    let extent = extent_of(b, call, x, weights)?;
    let windows = Windows::of(call, &b.ty(x).shape[2..], extent)?;
    let result = convolve(b, x, weights, &windows, groups(call)?)?;
    match call.optional(2) {
        Some(bias) => add_to_channels(b, result, bias),
        None => Ok(result),
    }
}

/// The size of the window: that of the weights, or stated where that of the weights is only known at run time.
pub(super) fn extent_of(b: &Builder<'_>, call: &Call<'_>, x: ValueId, weights: ValueId) -> Outcome<Vec<Dim>> {
    let shape = &b.ty(weights).shape;
    if shape.len() < 3 || b.ty(x).rank() != shape.len() {
        let (found, weights) = (b.ty(x).rank(), shape.len());
        return invalid(format!(
            "input of rank {found}, weights of rank {weights}; expected the same, at least 3"
        ));
    }
    let mut extent = shape[2..].to_vec();
    let Some(stated) = call.attributes.ints("kernel_shape")? else { return Ok(extent) };
    if stated.len() != extent.len() {
        return invalid(format!("kernel_shape is {stated:?}; the weights have {} axes", shape.len()));
    }
    for (dim, stated) in extent.iter_mut().zip(stated) {
        if dim.as_static().is_some_and(|size| size != *stated) || *stated < 1 {
            return invalid(format!(
                "kernel_shape is {:?}; the weights' differs",
                call.attributes.ints("kernel_shape")?
            ));
        }
        *dim = Dim::constant(*stated);
    }
    Ok(extent)
}

pub(super) fn groups(call: &Call<'_>) -> Outcome<u64> {
    let groups = call.attributes.int_or("group", 1)?;
    match u64::try_from(groups).ok().filter(|g| *g > 0) {
        Some(groups) => Ok(groups),
        None => invalid(format!("group {groups}")),
    }
}

/// `x` under every window, times the weights. What the graph's convolution does not take (a window or padding only
/// known at run time) is a product of matrices instead.
pub(super) fn convolve(
    b: &mut Builder<'_>,
    x: ValueId,
    weights: ValueId,
    windows: &Windows,
    groups: u64,
) -> Outcome {
    if let Some(window) = windows.as_window() {
        return Ok(b.conv(x, weights, window, groups)?);
    }
    let zero = b.scalar_like(x, 0.0)?;
    let padded = windows.pad(b, x, zero)?;
    if let Some(window) = windows.over_padded() {
        return Ok(b.conv(padded, weights, window, groups)?);
    }
    let spatial = windows.extent.len();
    let patches = windows.patches(b, padded)?;
    let order =
        [0, 1].into_iter().chain((0..spatial).map(|a| 2 + 2 * a)).chain((0..spatial).map(|a| 3 + 2 * a));
    let patches = b.transpose(patches, order.collect())?;
    let (batch, kernels) = (b.ty(x).shape[0].clone(), b.ty(weights).shape[0].clone());
    let channels = b.ty(weights).shape[1].clone();
    let groups = Dim::constant(i64::try_from(groups).unwrap_or(i64::MAX));
    let product = |dims: &[Dim]| dims.iter().fold(Dim::constant(1), |all, d| all * d.clone());
    let (terms, counts) = (channels * product(&windows.extent), windows.counts());
    let columns = vec![batch.clone(), groups.clone(), terms.clone(), product(&counts)];
    let columns = b.reshape(patches, columns)?;
    let rows = vec![groups.clone(), kernels.floor_div(&groups), terms];
    let rows = b.reshape(weights, rows)?;
    let result = b.matmul_broadcast(rows, columns)?;
    Ok(b.reshape(result, [&[batch, kernels], counts.as_slice()].concat())?)
}

/// `x + bias` with `bias` along axis 1.
pub(super) fn add_to_channels(b: &mut Builder<'_>, x: ValueId, bias: ValueId) -> Outcome {
    let bias = along_channels(b, bias, b.ty(x).rank())?;
    Ok(b.binary_broadcast(BinaryFn::Add, x, bias)?)
}

/// A vector as `[1, c, 1..]` of rank `rank`.
pub(super) fn along_channels(b: &mut Builder<'_>, vector: ValueId, rank: usize) -> Outcome {
    let [channels] = b.ty(vector).shape.as_slice() else {
        return invalid(format!(
            "a parameter of rank {}; expected one number a channel",
            b.ty(vector).rank()
        ));
    };
    if rank < 2 {
        return invalid(format!("input of rank {rank}; expected channels along axis 1"));
    }
    let mut shape = vec![Dim::constant(1); rank - 1];
    shape[0] = channels.clone();
    Ok(b.reshape(vector, shape)?)
}

/// `[n, spatial.., c]` as `[n, c, spatial..]`.
pub(super) fn channels_first(b: &mut Builder<'_>, x: ValueId) -> Outcome {
    let rank = b.ty(x).rank();
    if rank < 3 {
        return invalid(format!("input of rank {rank}; expected at least 3"));
    }
    Ok(b.transpose(x, [0, rank - 1].into_iter().chain(1..rank - 1).collect())?)
}

/// Undoes [`channels_first`].
pub(super) fn channels_last_again(b: &mut Builder<'_>, x: ValueId) -> Outcome {
    let rank = b.ty(x).rank();
    Ok(b.transpose(x, std::iter::once(0).chain(2..rank).chain([1]).collect())?)
}
