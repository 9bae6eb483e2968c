//! Deformable convolution: the input sampled where offsets say, then a product with the weights.

use ired_graph::{BinaryFn, Builder, DType, Dim, ValueId};

use super::super::call::{Call, Outcome, invalid};
use super::super::convolution::{add_to_channels, extent_of, groups};
use super::super::windows::Windows;
use super::image::Image;
use super::linear_taps;

/// Input `[n, c, spatial..]`, weights `[k, c / groups, window..]`, offsets `[n, offset_groups · window · rank, out..]`,
/// bias `[k]`, mask `[n, offset_groups · window, out..]`.
pub(in super::super) fn deform_conv(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    let (x, weights, offsets) = (call.input(0)?, call.input(1)?, call.input(2)?);
    let extent = extent_of(b, call, x, weights)?;
    let windows = Windows::of(call, &b.ty(x).shape[2..], extent)?;
    let groups = Dim::constant(i64::try_from(groups(call)?).unwrap_or(i64::MAX));
    let offset_groups = call.attributes.int_or("offset_group", 1)?;
    let shape = b.ty(x).shape.clone();
    let rank = shape.len() - 2;
    if b.ty(offsets).rank() != rank + 2 || offset_groups < 1 {
        return invalid(format!("offsets of rank {}, in {offset_groups} groups", b.ty(offsets).rank()));
    }
    let offset_groups = Dim::constant(offset_groups);
    let product = |dims: &[Dim]| dims.iter().fold(Dim::constant(1), |all, d| all * d.clone());
    let (terms, counts) = (product(&windows.extent), windows.counts());
    let points = terms.clone() * product(&counts);
    // Every group of channels has its own points; as batch elements they are alike.
    let batch = shape[0].clone() * offset_groups.clone();
    let working = if b.ty(x).dtype == DType::F64 { DType::F64 } else { DType::F32 };
    let offsets = b.cast(offsets, working)?;
    let table = [&[batch.clone(), terms.clone(), (rank as i64).into()], counts.as_slice()].concat();
    let offsets = b.reshape(offsets, table)?;
    let mut taps = Vec::new();
    for axis in 0..rank {
        let offset = b.slice_axis(offsets, 2, (axis as i64).into(), 1.into())?;
        let apart = [std::slice::from_ref(&batch), windows.extent.as_slice(), counts.as_slice()].concat();
        let offset = b.reshape(offset, apart)?;
        let base = windows.positions(b, axis)?;
        let base = b.cast(base, working)?;
        // The window's axes come first, then those of the result.
        let after: Vec<usize> = (0..2 * rank).filter(|a| *a != axis && *a != rank + axis).collect();
        let base = b.unsqueeze(base, &after)?;
        let position = b.binary_broadcast(BinaryFn::Add, offset, base)?;
        let position = b.reshape(position, vec![batch.clone(), points.clone()])?;
        taps.push(linear_taps(b, position, &shape[2 + axis])?);
    }
    let channels = shape[1].floor_div(&offset_groups);
    let grouped = [&[batch.clone(), channels], &shape[2..]].concat();
    let grouped = b.reshape(x, grouped)?;
    let image = Image::new(b, grouped, true)?;
    let mut sampled = image.sample(b, &taps)?;
    if let Some(mask) = call.optional(4) {
        let mask = b.reshape(mask, vec![batch, 1.into(), points])?;
        sampled = b.binary_broadcast(BinaryFn::Mul, sampled, mask)?;
    }
    let result = times_weights(b, sampled, weights, &shape[0], &groups, &counts, &terms)?;
    match call.optional(3) {
        Some(bias) => add_to_channels(b, result, bias),
        None => Ok(result),
    }
}

/// Samples, in the order `[n, c, window.., out..]`, as a product with the weights of their group of channels.
fn times_weights(
    b: &mut Builder<'_>,
    samples: ValueId,
    weights: ValueId,
    batch: &Dim,
    groups: &Dim,
    counts: &[Dim],
    terms: &Dim,
) -> Outcome {
    let shape = b.ty(weights).shape.clone();
    let out = counts.iter().fold(Dim::constant(1), |all, d| all * d.clone());
    let terms = shape[1].clone() * terms.clone();
    let columns = b.reshape(samples, vec![batch.clone(), groups.clone(), terms.clone(), out])?;
    let rows = b.reshape(weights, vec![groups.clone(), shape[0].floor_div(groups), terms])?;
    let result = b.matmul_broadcast(rows, columns)?;
    Ok(b.reshape(result, [&[batch.clone(), shape[0].clone()], counts].concat())?)
}
