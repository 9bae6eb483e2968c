//! Reductions of sliding windows, and of whole images.

use ired_graph::{Builder, Dim, PoolFn, ReduceFn};

use super::call::{Call, Outcome, invalid};
use super::convolution::window;

pub(super) fn max_pool(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    // The order that indices would be numbered in; they are refused.
    call.attributes.ignore(&["storage_order"]);
    call.only_first_output()?;
    pool(b, call, PoolFn::Max, false)
}

pub(super) fn average_pool(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    let include_pad = call.attributes.flag("count_include_pad", false)?;
    pool(b, call, PoolFn::Average, include_pad)
}

fn pool(b: &mut Builder<'_>, call: &Call<'_>, function: PoolFn, include_pad: bool) -> Outcome {
    let Some(extent) = call.attributes.ints("kernel_shape")? else {
        return invalid("`kernel_shape` is missing");
    };
    let Ok(extent) = extent.iter().map(|d| u64::try_from(*d)).collect() else {
        return invalid(format!("kernel_shape {extent:?}"));
    };
    let window = window(b, call, extent)?;
    Ok(b.pool(function, call.input(0)?, window, include_pad)?)
}

/// One number a channel; the spatial axes stay with size 1.
pub(super) fn global_pool(b: &mut Builder<'_>, call: &Call<'_>, function: ReduceFn) -> Outcome {
    let x = call.input(0)?;
    let rank = b.ty(x).rank();
    if rank < 2 {
        return invalid(format!("input of rank {rank}; expected at least 2"));
    }
    let axes: Vec<usize> = (2..rank).collect();
    if axes.is_empty() {
        return Ok(b.reshape(x, b.ty(x).shape.iter().cloned().chain(Vec::<Dim>::new()).collect())?);
    }
    Ok(b.reduce(function, x, &axes, true)?)
}
