//! Determinants, by elimination with the largest pivot of each column.

use ired_graph::{ArgReduceFn, BinaryFn, Builder, CompareFn, DType, Dim, Op, UnaryFn, ValueId};

use super::call::{Call, Outcome, invalid};

/// Of every matrix in `[.., n, n]`. Computed in f64.
pub(super) fn determinant(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    let x = call.input(0)?;
    let ty = b.ty(x).clone();
    let Some(outer) = ty.rank().checked_sub(2) else {
        return invalid(format!("input of rank {}; expected matrices", ty.rank()));
    };
    let (outer, size) = (ty.shape[..outer].to_vec(), ty.shape[outer].clone());
    if b.graph.symbols.is_known_ne(&size, &ty.shape[outer.len() + 1]) {
        return invalid("matrices that are not square");
    }
    let count = outer.iter().fold(Dim::constant(1), |all, d| all * d.clone());
    let x = b.cast(x, DType::F64)?;
    let matrices = b.reshape(x, vec![count.clone(), size.clone(), size.clone()])?;
    let one = b.full(DType::F64, vec![count, 1.into(), 1.into()], 1.0)?;
    let step = b.graph.symbols.fresh("pivot");
    let body = b.graph.add_region();
    let (matrix_type, product_type) = (b.ty(matrices).clone(), b.ty(one).clone());
    let state = [b.graph.add_region_input(body, matrix_type), b.graph.add_region_input(body, product_type)];
    let mut inner = Builder::in_region(b.graph, body);
    inner.origin = b.origin.clone();
    let next = eliminate(&mut inner, state[0], state[1], Dim::symbol(step))?;
    b.graph.set_outputs(body, next.to_vec());
    let results =
        b.push_with_regions(Op::Repeat { count: size, index: step }, &[matrices, one], vec![body])?;
    let product = b.reshape(results[1], outer)?;
    Ok(b.cast(product, ty.dtype)?)
}

/// One column of all matrices `[m, n, n]` cleared under the diagonal, and the product `[m, 1, 1]` of the pivots so far.
fn eliminate(b: &mut Builder<'_>, matrices: ValueId, product: ValueId, step: Dim) -> Outcome<[ValueId; 2]> {
    let shape = b.ty(matrices).shape.clone();
    let number = b.iota(DType::I64, vec![shape[1].clone(), 1.into()], 0)?;
    let own = b.dim(step.clone())?;
    let column = b.slice_axis(matrices, 2, step.clone(), 1.into())?;
    let size = b.unary(UnaryFn::Abs, column)?;
    let done = b.scalar(DType::F64, -1.0)?;
    let is_left = b.compare_broadcast(CompareFn::Ge, number, own)?;
    let size = b.select_broadcast(is_left, size, done)?;
    let place = Op::ArgReduce { function: ArgReduceFn::Max, axis: 1, last_on_tie: false };
    let place = b.push(place, &[size])?;
    let place = b.unsqueeze(place, &[1])?;
    let across = b.broadcast_to(place, vec![shape[0].clone(), 1.into(), shape[2].clone()])?;
    let pivots = b.push(Op::GatherElements { axis: 1 }, &[matrices, across])?;
    let top = b.slice_axis(matrices, 1, step.clone(), 1.into())?;
    let pivot = b.slice_axis(pivots, 2, step.clone(), 1.into())?;
    // The row with the pivot and the top row change places.
    let is_place = b.compare_broadcast(CompareFn::Eq, number, place)?;
    let rows = b.select_broadcast(is_place, top, matrices)?;
    let leading = b.slice_axis(rows, 2, step, 1.into())?;
    let factor = b.binary_broadcast(BinaryFn::Div, leading, pivot)?;
    let zero = b.scalar(DType::F64, 0.0)?;
    let is_singular = b.compare_broadcast(CompareFn::Eq, pivot, zero)?;
    let factor = b.select_broadcast(is_singular, zero, factor)?;
    let taken = b.binary_broadcast(BinaryFn::Mul, factor, pivots)?;
    let cleared = b.binary_broadcast(BinaryFn::Sub, rows, taken)?;
    let below = b.compare_broadcast(CompareFn::Gt, number, own)?;
    let matrices = b.select_broadcast(below, cleared, matrices)?;
    let stays = b.compare_broadcast(CompareFn::Eq, place, own)?;
    let turned = b.unary(UnaryFn::Neg, pivot)?;
    let signed = b.select_broadcast(stays, pivot, turned)?;
    Ok([matrices, b.binary_broadcast(BinaryFn::Mul, product, signed)?])
}
