//! Crops and pads around the centre.

use ired_graph::{Builder, Dim, PadMode};

use super::call::{Call, Outcome, axes, axis};

/// Each of the axes at its new size, the middle staying in the middle; new elements are 0.
pub(super) fn center_crop_pad(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    let x = call.input(0)?;
    let shape = b.ty(x).shape.clone();
    let list = match call.attributes.ints("axes")? {
        Some(list) => {
            axes(list, shape.len())?;
            list.iter().map(|a| axis(*a, shape.len())).collect::<Outcome<Vec<_>>>()?
        }
        None => (0..shape.len()).collect(),
    };
    let sizes = call.counted_sizes(b, 1, list.len())?;
    let zero = Dim::constant(0);
    let (mut start, mut kept) = (vec![zero.clone(); shape.len()], shape.clone());
    let (mut low, mut high) = (vec![zero.clone(); shape.len()], vec![zero.clone(); shape.len()]);
    for (at, size) in list.into_iter().zip(sizes) {
        let (from, symbols) = (&shape[at], &b.graph.symbols);
        let simple = |dim: Dim| symbols.simplify(&dim);
        kept[at] = simple(from.minimum(&size));
        start[at] = simple((from.clone() - kept[at].clone()).floor_div(&2.into()));
        let missing = simple((size.clone() - from.clone()).maximum(&zero));
        low[at] = simple(missing.floor_div(&2.into()));
        // What is left, so that the size is the stated one as an expression too.
        high[at] = simple(size - kept[at].clone() - low[at].clone());
    }
    let stride = vec![1; shape.len()];
    let cropped = b.slice(x, start, kept, stride)?;
    let fill = b.scalar_like(x, 0.0)?;
    Ok(b.pad(cropped, low, high, PadMode::Constant, Some(fill))?)
}
