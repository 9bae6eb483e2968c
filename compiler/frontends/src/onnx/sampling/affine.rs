//! Grids for GridSample from affine maps.

use ired_graph::{BinaryFn, Builder, CompareFn, DType, Dim, ValueId};

use super::super::call::{Call, Outcome, invalid, unsupported};

/// Maps `[n, rank, rank + 1]` and the size of an image `[n, c, spatial..]`; the grid is `[n, spatial.., rank]`.
pub(in super::super) fn affine_grid(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    let maps = call.input(0)?;
    let align_corners = call.attributes.flag("align_corners", false)?;
    let ty = b.ty(maps).clone();
    let listed = call.input_type(b, 1)?.elements().as_static().and_then(|n| usize::try_from(n).ok());
    let mapped = ty.shape.get(1).and_then(Dim::as_static).and_then(|n| usize::try_from(n).ok());
    let stated = call.stated_rank(0);
    let Some(image_rank) = listed.or(mapped.map(|n| n.saturating_add(2))).or(stated) else {
        return unsupported(
            "maps of a rank only known at run time",
            "state the rank of the node's output in the model",
        );
    };
    let rank = image_rank.saturating_sub(2);
    let fits = ty.rank() == 3
        && !b.graph.symbols.is_known_ne(&ty.shape[1], &(rank as i64).into())
        && !b.graph.symbols.is_known_ne(&ty.shape[2], &(rank as i64 + 1).into());
    if !(2..=3).contains(&rank) || !fits {
        return invalid(format!("maps of rank {} for an image of rank {image_rank}", ty.rank()));
    }
    let size = call.counted_sizes(b, 1, image_rank)?;
    let working = if ty.dtype == DType::F64 { DType::F64 } else { DType::F32 };
    let spatial = &size[2..];
    // Points in homogeneous coordinates, the last axis first.
    let column = [spatial, &[1.into()]].concat();
    let mut columns = Vec::new();
    for axis in (0..rank).rev() {
        let line = coordinates(b, &spatial[axis], align_corners, working)?;
        let after: Vec<usize> = (1..rank + 1 - axis).collect();
        let line = b.unsqueeze(line, &after)?;
        columns.push(b.broadcast_to(line, column.clone())?);
    }
    columns.push(b.full(working, column, 1.0)?);
    let points = b.concat(&columns, rank)?;
    let count = spatial.iter().fold(Dim::constant(1), |all, d| all * d.clone());
    let points = b.reshape(points, vec![1.into(), count, (rank as i64 + 1).into()])?;
    let maps = b.cast(maps, working)?;
    let maps = b.reshape(maps, vec![ty.shape[0].clone(), (rank as i64).into(), (rank as i64 + 1).into()])?;
    let maps = b.transpose(maps, vec![0, 2, 1])?;
    let grid = b.matmul_broadcast(points, maps)?;
    let grid = b.reshape(grid, [&ty.shape[..1], spatial, &[(rank as i64).into()]].concat())?;
    Ok(b.cast(grid, ty.dtype)?)
}

/// Where the elements of an axis lie between -1 and 1: its ends are the corners' centres or their edges.
fn coordinates(b: &mut Builder<'_>, size: &Dim, align_corners: bool, dtype: DType) -> Outcome<ValueId> {
    let index = b.iota(DType::F64, vec![size.clone()], 0)?;
    let count = b.dim(size.clone())?;
    let whole = b.cast(count, DType::F64)?;
    let twice = b.binary_scalar(BinaryFn::Mul, index, 2.0)?;
    let parts = match align_corners {
        true => {
            let steps = b.binary_scalar(BinaryFn::Sub, whole, 1.0)?;
            let parts = b.binary_broadcast(BinaryFn::Div, twice, steps)?;
            // The one element of an axis lies in the middle.
            let one = b.dim(1.into())?;
            let is_one = b.compare_broadcast(CompareFn::Eq, count, one)?;
            let middle = b.scalar(DType::F64, 1.0)?;
            b.select_broadcast(is_one, middle, parts)?
        }
        false => {
            let centres = b.binary_scalar(BinaryFn::Add, twice, 1.0)?;
            b.binary_broadcast(BinaryFn::Div, centres, whole)?
        }
    };
    let from_centre = b.binary_scalar(BinaryFn::Sub, parts, 1.0)?;
    Ok(b.cast(from_centre, dtype)?)
}
