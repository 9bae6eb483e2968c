//! Convolution, and the window geometry it shares with pooling.

use ired_graph::{BinaryFn, Builder, Dim, ValueId, Window};

use super::call::{Call, Outcome, invalid, unsupported};

/// Input `[n, c, spatial..]`, weights `[k, c / groups, window..]`, bias `[k]`.
pub(super) fn conv(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    let (x, weights) = (call.input(0)?, call.input(1)?);
    let shape = b.ty(weights).shape.clone();
    if shape.len() < 3 || b.ty(x).rank() != shape.len() {
        let (found, weights) = (b.ty(x).rank(), shape.len());
        return invalid(format!(
            "input of rank {found}, weights of rank {weights}; expected the same, at least 3"
        ));
    }
    let extent: Option<Vec<u64>> =
        shape[2..].iter().map(|d| d.as_static().and_then(|d| u64::try_from(d).ok())).collect();
    let Some(extent) = extent else {
        return unsupported("weights whose window is only known at run time", "make the weights constant");
    };
    if let Some(stated) = call.attributes.ints("kernel_shape")?
        && !stated.iter().map(|d| u64::try_from(*d).ok()).eq(extent.iter().map(|d| Some(*d)))
    {
        return invalid(format!("kernel_shape is {stated:?}; the weights' window is {extent:?}"));
    }
    let groups = call.attributes.int_or("group", 1)?;
    let Some(groups) = u64::try_from(groups).ok().filter(|g| *g > 0) else {
        return invalid(format!("group {groups}"));
    };
    let window = window(b, call, extent)?;
    let result = b.conv(x, weights, window, groups)?;
    match call.optional(2) {
        Some(bias) => add_to_channels(b, result, bias),
        None => Ok(result),
    }
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
    let mut shape = vec![Dim::constant(1); rank.saturating_sub(1)];
    shape[0] = channels.clone();
    Ok(b.reshape(vector, shape)?)
}

/// The window that the attributes describe, over input 0.
pub(super) fn window(b: &Builder<'_>, call: &Call<'_>, extent: Vec<u64>) -> Outcome<Window> {
    let spatial = b.ty(call.input(0)?).shape.get(2..).unwrap_or_default().to_vec();
    let rank = spatial.len();
    let list = |name: &str, length: usize, default: u64| match call.attributes.ints(name)? {
        None => Outcome::Ok(vec![default; length]),
        Some(list) if list.len() == length => match list.iter().map(|d| u64::try_from(*d)).collect() {
            Ok(list) => Ok(list),
            Err(_) => {
                unsupported(format!("a negative number in `{name}`"), "crop with Slice before the node")
            }
        },
        Some(list) => invalid(format!("`{name}` has {} numbers; expected {length}", list.len())),
    };
    if extent.len() != rank {
        return invalid(format!("a window of rank {} over {rank} axes", extent.len()));
    }
    let (stride, dilation) = (list("strides", rank, 1)?, list("dilations", rank, 1)?);
    let pads = list("pads", 2 * rank, 0)?;
    let ceil = call.attributes.flag("ceil_mode", false)?;
    let mut window = Window {
        extent,
        stride,
        dilation,
        pad_low: pads[..rank].to_vec(),
        pad_high: pads[rank..].to_vec(),
        ceil,
    };
    match call.attributes.text("auto_pad")?.unwrap_or("NOTSET") {
        "NOTSET" => {}
        "VALID" => (window.pad_low, window.pad_high) = (vec![0; rank], vec![0; rank]),
        same @ ("SAME_UPPER" | "SAME_LOWER") => {
            for (axis, size) in spatial.iter().enumerate() {
                let padding = same_padding(&window, axis, size)?;
                let (less, more) = (padding / 2, padding - padding / 2);
                let upper = same == "SAME_UPPER";
                (window.pad_low[axis], window.pad_high[axis]) =
                    if upper { (less, more) } else { (more, less) };
            }
        }
        other => return invalid(format!("auto_pad is `{other}`")),
    }
    Ok(window)
}

/// How much padding makes the result `ceil(size / stride)` long.
fn same_padding(window: &Window, axis: usize, size: &Dim) -> Outcome<u64> {
    let (stride, extent, dilation) = (window.stride[axis], window.extent[axis], window.dilation[axis]);
    let reach = extent.saturating_sub(1).checked_mul(dilation).and_then(|r| r.checked_add(1));
    let Some(reach) = reach.filter(|_| stride > 0) else { return invalid("a window beyond all sizes") };
    if stride == 1 {
        return Ok(reach - 1);
    }
    match size.as_static().map(u64::try_from) {
        Some(Ok(size)) => {
            let covered =
                (size.div_ceil(stride).saturating_sub(1)).saturating_mul(stride).saturating_add(reach);
            Ok(covered.saturating_sub(size))
        }
        _ => unsupported("auto_pad over a size only known at run time", "export with explicit pads"),
    }
}
