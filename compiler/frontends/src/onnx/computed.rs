//! Shape arithmetic on tensors: what an operator does with sizes, axes and positions that only the run knows, so that
//! what is read of them in the end are plain sizes.

use ired_graph::{BinaryFn, Builder, CompareFn, DType, Dim, ReduceFn, Tensor, ValueId};

use super::call::Outcome;

/// Elements of i64 vectors and scalars, computed together: a builder with the few operations that takes.
pub(super) struct Integers<'b, 'g> {
    pub(super) b: &'b mut Builder<'g>,
}

impl<'b, 'g> Integers<'b, 'g> {
    pub(super) fn on(b: &'b mut Builder<'g>) -> Self {
        Self { b }
    }

    pub(super) fn number(&mut self, value: i64) -> Outcome {
        Ok(self.b.constant(Tensor::from_i64s(&[], &[value]))?)
    }

    /// A list of numbers as an i64 vector; a scalar is a list of one.
    pub(super) fn vector(&mut self, value: ValueId) -> Outcome {
        let value = self.b.cast(value, DType::I64)?;
        let count = self.b.ty(value).elements();
        if self.b.ty(value).rank() == 1 { Ok(value) } else { Ok(self.b.reshape(value, vec![count])?) }
    }

    /// A tensor of one element as an i64 scalar.
    pub(super) fn scalar(&mut self, value: ValueId) -> Outcome {
        let value = self.b.cast(value, DType::I64)?;
        Ok(self.b.reshape(value, Vec::new())?)
    }

    /// Element `at` of a vector, as a vector of one.
    pub(super) fn element(&mut self, vector: ValueId, at: usize) -> Outcome {
        let at = Dim::constant(i64::try_from(at).unwrap_or(i64::MAX));
        Ok(self.b.slice_axis(vector, 0, at, 1.into())?)
    }

    pub(super) fn binary(&mut self, function: BinaryFn, lhs: ValueId, rhs: ValueId) -> Outcome {
        Ok(self.b.binary_broadcast(function, lhs, rhs)?)
    }

    pub(super) fn binary_number(&mut self, function: BinaryFn, lhs: ValueId, rhs: i64) -> Outcome {
        let rhs = self.number(rhs)?;
        self.binary(function, lhs, rhs)
    }

    pub(super) fn compare(&mut self, function: CompareFn, lhs: ValueId, rhs: ValueId) -> Outcome {
        Ok(self.b.compare_broadcast(function, lhs, rhs)?)
    }

    pub(super) fn compare_number(&mut self, function: CompareFn, lhs: ValueId, rhs: i64) -> Outcome {
        let rhs = self.number(rhs)?;
        self.compare(function, lhs, rhs)
    }

    pub(super) fn select(&mut self, condition: ValueId, if_true: ValueId, if_false: ValueId) -> Outcome {
        Ok(self.b.select_broadcast(condition, if_true, if_false)?)
    }

    pub(super) fn select_number(&mut self, condition: ValueId, if_true: ValueId, if_false: i64) -> Outcome {
        let if_false = self.number(if_false)?;
        self.select(condition, if_true, if_false)
    }

    /// `x` counted from the front of `extent`: a negative number counts from the end.
    pub(super) fn count_from_front(&mut self, x: ValueId, extent: ValueId) -> Outcome {
        let negative = self.compare_number(CompareFn::Lt, x, 0)?;
        let wrapped = self.binary(BinaryFn::Add, x, extent)?;
        self.select(negative, wrapped, x)
    }

    /// `0..count` along `axis` of a tensor of rank 2.
    fn counter(&mut self, shape: [usize; 2], axis: usize) -> Outcome {
        let shape = shape.map(|n| Dim::constant(i64::try_from(n).unwrap_or(i64::MAX))).to_vec();
        Ok(self.b.iota(DType::I64, shape, axis)?)
    }

    /// A bool matrix: whether `axes[column]`, counted from the end where it is negative, is `row`.
    pub(super) fn matches(&mut self, axes: ValueId, count: usize, rank: usize) -> Outcome {
        let axes = self.vector(axes)?;
        let extent = self.number(i64::try_from(rank).unwrap_or(i64::MAX))?;
        let axes = self.count_from_front(axes, extent)?;
        let row = self.counter([rank, count], 0)?;
        self.compare(CompareFn::Eq, row, axes)
    }

    /// A bool vector of length `rank`: whether `axes` names the axis.
    pub(super) fn named(&mut self, axes: ValueId, count: usize, rank: usize) -> Outcome {
        let matches = self.matches(axes, count, rank)?;
        Ok(self.b.reduce(ReduceFn::Any, matches, &[1], false)?)
    }

    /// For each row of `matches` the element of `values` whose column is set; `otherwise` where none is.
    pub(super) fn spread(&mut self, matches: ValueId, values: ValueId, otherwise: ValueId) -> Outcome {
        let values = self.vector(values)?;
        let chosen = self.select_number(matches, values, 0)?;
        let chosen = self.b.reduce(ReduceFn::Sum, chosen, &[1], false)?;
        let any = self.b.reduce(ReduceFn::Any, matches, &[1], false)?;
        self.select(any, chosen, otherwise)
    }

    /// How many elements of a bool vector before each one are set.
    fn ranks(&mut self, chosen: ValueId, length: usize) -> Outcome {
        let (row, column) = (self.counter([length, length], 0)?, self.counter([length, length], 1)?);
        let before = self.compare(CompareFn::Lt, column, row)?;
        let counted = self.b.cast(chosen, DType::I64)?;
        let counted = self.select_number(before, counted, 0)?;
        Ok(self.b.reduce(ReduceFn::Sum, counted, &[1], false)?)
    }

    /// The `wanted` elements of `values`, of length `length`, that `kept` is set for, in order; -1, which is no size,
    /// where there are fewer.
    pub(super) fn compact(
        &mut self,
        values: ValueId,
        kept: ValueId,
        length: usize,
        wanted: usize,
    ) -> Outcome {
        let ranks = self.ranks(kept, length)?;
        let place = self.counter([wanted, length], 0)?;
        let here = self.compare(CompareFn::Eq, place, ranks)?;
        let here = self.binary(BinaryFn::And, here, kept)?;
        let missing = self.number(-1)?;
        self.spread(here, values, missing)
    }

    /// A vector of length `rank` that is 1 where `added` is set, and `values`, of length `length`, in order elsewhere.
    pub(super) fn expand_with_ones(
        &mut self,
        values: ValueId,
        added: ValueId,
        length: usize,
        rank: usize,
    ) -> Outcome {
        let kept = self.b.unary(ired_graph::UnaryFn::Not, added)?;
        let ranks = self.ranks(kept, rank)?;
        let ranks = self.b.unsqueeze(ranks, &[1])?;
        let column = self.counter([rank, length], 1)?;
        let here = self.compare(CompareFn::Eq, column, ranks)?;
        let missing = self.number(-1)?;
        let spread = self.spread(here, values, missing)?;
        let one = self.number(1)?;
        self.select(added, one, spread)
    }

    pub(super) fn product(&mut self, vector: ValueId) -> Outcome {
        Ok(self.b.reduce(ReduceFn::Product, vector, &[0], false)?)
    }
}
