//! Scatters, running sums and orders.

use super::{Builder, Built};
use crate::ops::ShapeError;
use crate::types::product;
use crate::{BinaryFn, CompareFn, CumulativeFn, DType, Dim, Op, ScatterFn, ValueId};

impl Builder<'_> {
    /// [`Op::ScatterNd`].
    ///
    /// # Errors
    /// When indices or updates do not fit the data.
    pub fn scatter_nd(
        &mut self,
        function: ScatterFn,
        data: ValueId,
        indices: ValueId,
        updates: ValueId,
    ) -> Built {
        self.push(Op::ScatterNd { function }, &[data, indices, updates])
    }

    /// Combines `updates[i]` with `data[i with axis replaced by indices[i]]`, in row-major order; indices as in
    /// [`Op::ScatterNd`]. Where `indices` has fewer axes than the data, each names a slice of the rest.
    ///
    /// # Errors
    /// When indices or updates do not fit the data.
    pub fn scatter_along(
        &mut self,
        function: ScatterFn,
        data: ValueId,
        indices: ValueId,
        updates: ValueId,
        axis: usize,
    ) -> Built {
        let (shape, taken) = (self.ty(data).shape.clone(), self.ty(indices).shape.clone());
        let named = taken.len();
        if axis >= named || named > shape.len() {
            let problem = format!("is {axis}; indices have {named} axes and data {}", shape.len());
            return Err(ShapeError::Attribute { op: "scatter", attribute: "axis", problem });
        }
        let (total, count, slice) = (product(&shape[..named]), product(&taken), &shape[named..]);
        let indices = match named {
            1 => indices,
            _ => self.flat_positions(&shape[..named], indices, axis)?,
        };
        let indices = self.reshape(indices, vec![count.clone(), Dim::constant(1)])?;
        let updates = self.reshape(updates, [&[count], slice].concat())?;
        let data = self.reshape(data, [&[total], slice].concat())?;
        let scattered = self.scatter_nd(function, data, indices, updates)?;
        self.reshape(scattered, shape)
    }

    /// Row-major numbers in `shape` of the elements that `indices` name along `axis`; one past the last for those
    /// that are not there.
    fn flat_positions(&mut self, shape: &[Dim], indices: ValueId, axis: usize) -> Built {
        let taken = self.ty(indices).shape.clone();
        let indices = self.cast(indices, DType::I64)?;
        let (zero, extent) = (self.scalar(DType::I64, 0.0)?, self.dim(shape[axis].clone())?);
        let wrapped = self.binary_broadcast(BinaryFn::Add, indices, extent)?;
        let negative = self.compare_broadcast(CompareFn::Lt, indices, zero)?;
        let along = self.select_broadcast(negative, wrapped, indices)?;
        let under = self.compare_broadcast(CompareFn::Lt, along, zero)?;
        let over = self.compare_broadcast(CompareFn::Ge, along, extent)?;
        let outside = self.binary_broadcast(BinaryFn::Or, under, over)?;
        let mut position = zero;
        for a in 0..taken.len() {
            let at = if a == axis { along } else { self.iota(DType::I64, taken.clone(), a)? };
            let stride = self.dim(product(&shape[a + 1..]))?;
            let part = self.binary_broadcast(BinaryFn::Mul, at, stride)?;
            position = self.binary_broadcast(BinaryFn::Add, position, part)?;
        }
        let past = self.dim(product(shape))?;
        self.select_broadcast(outside, past, position)
    }

    /// [`Op::Cumulative`] from the first element on, each with itself.
    ///
    /// # Errors
    /// When there is no such axis, or the elements are no numbers.
    pub fn cumulative(&mut self, function: CumulativeFn, x: ValueId, axis: usize) -> Built {
        self.push(Op::Cumulative { function, axis, exclusive: false, reverse: false }, &[x])
    }

    /// [`Op::Sort`]: positions, to be gathered with [`Op::GatherElements`].
    ///
    /// # Errors
    /// When there is no such axis, or the elements have no order.
    pub fn sort(&mut self, x: ValueId, axis: usize, descending: bool) -> Built {
        self.push(Op::Sort { axis, descending }, &[x])
    }
}
