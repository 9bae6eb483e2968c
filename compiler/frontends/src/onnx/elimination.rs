//! Determinants and inverses of matrices, by elimination with the largest pivot of each column.

use ired_graph::{ArgReduceFn, BinaryFn, Builder, CompareFn, DType, Dim, Op, UnaryFn, ValueId};

use super::call::{Call, Outcome, invalid};
use super::repeat::{Step, repeat};

/// Matrices up to this size are eliminated without a loop.
const MAX_UNROLLED: i64 = 4;

/// Of the matrices that the last two axes hold.
pub(super) fn determinant(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    let matrices = Matrices::of(b, call)?;
    let one = b.full(matrices.dtype, vec![matrices.count.clone(), 1.into(), 1.into()], 1.0)?;
    let state = matrices.eliminate(b, &[matrices.value, one], |b, matrices, column, before| {
        let pivot = matrices.pivot(b, before[0], column)?;
        let rows = pivot.swap(b, before[0])?;
        let below = b.compare_broadcast(CompareFn::Gt, pivot.rows, pivot.column)?;
        let pivotal = pivot.of(b, rows)?;
        let rows = pivot.clear(b, rows, rows, below, pivotal)?;
        let minus = b.unary(UnaryFn::Neg, pivot.value)?;
        let is_place = b.compare_broadcast(CompareFn::Eq, pivot.row, pivot.column)?;
        let factor = b.select_broadcast(is_place, pivot.value, minus)?;
        Ok(vec![rows, b.binary_broadcast(BinaryFn::Mul, before[1], factor)?])
    })?;
    let shape = matrices.shape[..matrices.shape.len() - 2].to_vec();
    let result = b.reshape(state[1], shape)?;
    Ok(b.cast(result, matrices.given)?)
}

/// Of the matrices that the last two axes hold; of one that has none the result is infinite or NaN.
pub(super) fn inverse(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome {
    let matrices = Matrices::of(b, call)?;
    let (row, column) = (matrices.counter(b, 1)?, matrices.counter(b, 2)?);
    let same = b.compare_broadcast(CompareFn::Eq, row, column)?;
    let identity = b.cast(same, matrices.dtype)?;
    let identity = b.broadcast_to(identity, b.ty(matrices.value).shape.clone())?;
    let state = matrices.eliminate(b, &[matrices.value, identity], |b, matrices, column, before| {
        let pivot = matrices.pivot(b, before[0], column)?;
        let rows = pivot.swap(b, before[0])?;
        let others = b.compare_broadcast(CompareFn::Ne, pivot.rows, pivot.column)?;
        let is_here = b.compare_broadcast(CompareFn::Eq, pivot.rows, pivot.column)?;
        let mut after = Vec::new();
        for side in before {
            let swapped = pivot.swap(b, *side)?;
            let pivotal = pivot.of(b, swapped)?;
            let cleared = pivot.clear(b, rows, swapped, others, pivotal)?;
            let scaled = b.binary_broadcast(BinaryFn::Div, cleared, pivot.value)?;
            after.push(b.select_broadcast(is_here, scaled, cleared)?);
        }
        Ok(after)
    })?;
    let result = b.reshape(state[1], matrices.shape.clone())?;
    Ok(b.cast(result, matrices.given)?)
}

/// Square matrices, `[count, size, size]`.
struct Matrices {
    value: ValueId,
    count: Dim,
    size: Dim,
    /// What is computed in.
    dtype: DType,
    given: DType,
    shape: Vec<Dim>,
}

/// The largest element of what is left of a column, and where it stands; all broadcast to the matrices.
struct Pivot {
    /// `[count, 1, 1]`.
    value: ValueId,
    row: ValueId,
    /// The column's number, and those of all rows.
    column: ValueId,
    rows: ValueId,
    at: Dim,
}

impl Matrices {
    fn of(b: &mut Builder<'_>, call: &Call<'_>) -> Outcome<Self> {
        let x = call.input(0)?;
        let ty = b.ty(x).clone();
        let [batch @ .., rows, columns] = ty.shape.as_slice() else {
            return invalid(format!("input of rank {}; expected at least 2", ty.rank()));
        };
        if b.graph.symbols.is_known_ne(rows, columns) {
            return invalid("matrices that are not square");
        }
        let dtype = if ty.dtype.bits() < 32 { DType::F32 } else { ty.dtype };
        let wide = b.cast(x, dtype)?;
        let (count, size) = (ired_graph::types::product(batch), rows.clone());
        let value = b.reshape(wide, vec![count.clone(), size.clone(), size.clone()])?;
        Ok(Self { value, count, size, dtype, given: ty.dtype, shape: ty.shape })
    }

    /// The state after `step` for each column.
    fn eliminate(
        &self,
        b: &mut Builder<'_>,
        initial: &[ValueId],
        step: impl Fn(&mut Builder<'_>, &Self, &Dim, &[ValueId]) -> Outcome<Vec<ValueId>>,
    ) -> Outcome<Vec<ValueId>> {
        if let Some(size) = self.size.as_static().filter(|size| *size <= MAX_UNROLLED) {
            let mut state = initial.to_vec();
            for column in 0..size {
                state = step(b, self, &column.into(), &state)?;
            }
            return Ok(state);
        }
        repeat(b, self.size.clone(), initial, |b, column, before| {
            Ok(Step { state: step(b, self, column, before)?, slices: Vec::new() })
        })
    }

    /// Numbers of rows (axis 1) or columns (axis 2), broadcastable to the matrices.
    fn counter(&self, b: &mut Builder<'_>, axis: usize) -> Outcome {
        let mut shape = vec![Dim::constant(1); 3];
        shape[axis] = self.size.clone();
        Ok(b.iota(DType::I64, shape, axis)?)
    }

    fn pivot(&self, b: &mut Builder<'_>, rows: ValueId, column: &Dim) -> Outcome<Pivot> {
        let elements = b.slice_axis(rows, 2, column.clone(), 1.into())?;
        let magnitude = b.unary(UnaryFn::Abs, elements)?;
        let counter = self.counter(b, 1)?;
        let at = b.dim(column.clone())?;
        let left = b.compare_broadcast(CompareFn::Ge, counter, at)?;
        let none = b.scalar_like(magnitude, -1.0)?;
        let candidates = b.select_broadcast(left, magnitude, none)?;
        let largest = Op::ArgReduce { function: ArgReduceFn::Max, axis: 1, last_on_tie: false };
        let row = b.push(largest, &[candidates])?;
        let row = b.unsqueeze(row, &[1])?;
        let value = b.push(Op::GatherElements { axis: 1 }, &[elements, row])?;
        Ok(Pivot { value, row, column: at, rows: counter, at: column.clone() })
    }
}

impl Pivot {
    /// `side` with the pivot's row where it belongs.
    fn swap(&self, b: &mut Builder<'_>, side: ValueId) -> Outcome {
        let mut shape = b.ty(side).shape.clone();
        shape[1] = 1.into();
        let place = b.broadcast_to(self.row, shape)?;
        let pivotal = b.push(Op::GatherElements { axis: 1 }, &[side, place])?;
        let displaced = self.of(b, side)?;
        let is_pivotal = b.compare_broadcast(CompareFn::Eq, self.rows, self.row)?;
        let is_here = b.compare_broadcast(CompareFn::Eq, self.rows, self.column)?;
        let swapped = b.select_broadcast(is_pivotal, displaced, side)?;
        Ok(b.select_broadcast(is_here, pivotal, swapped)?)
    }

    /// The row of `side` at the column's number.
    fn of(&self, b: &mut Builder<'_>, side: ValueId) -> Outcome {
        Ok(b.slice_axis(side, 1, self.at.clone(), 1.into())?)
    }

    /// `side` less multiples of the pivot's row, in the rows where `which`, that make the column of `rows` zero.
    fn clear(
        &self,
        b: &mut Builder<'_>,
        rows: ValueId,
        side: ValueId,
        which: ValueId,
        pivotal: ValueId,
    ) -> Outcome {
        let column = b.slice_axis(rows, 2, self.at.clone(), 1.into())?;
        let zero = b.scalar_like(column, 0.0)?;
        let factor = b.binary_broadcast(BinaryFn::Div, column, self.value)?;
        // A column of zeros needs no clearing.
        let is_zero = b.compare_broadcast(CompareFn::Eq, column, zero)?;
        let factor = b.select_broadcast(is_zero, zero, factor)?;
        let factor = b.select_broadcast(which, factor, zero)?;
        let share = b.binary_broadcast(BinaryFn::Mul, factor, pivotal)?;
        Ok(b.binary_broadcast(BinaryFn::Sub, side, share)?)
    }
}
