//! Gathers: which element is said by the elements of another value.

use ired_graph::{Dim, Node, ValueId};
use ired_mlir::{Builder, Compare, Value};

use super::{Axis, Known, Place, Point};
use crate::kernels::function::Function;

impl<'m> Function<'_, 'm> {
    /// A gather index as a valid one: negative ones count from the end, wrong ones are clamped.
    pub(super) fn wrap_index(&self, b: &Builder<'m>, index: Value<'m>, size: &Dim) -> Value<'m> {
        let size = self.dim(size);
        let index = b.index_cast(index, b.index_type());
        let zero = b.index(0);
        let from_end = b.addi(index, size);
        let index = b.select(b.cmpi(Compare::SignedLt, index, zero), from_end, index);
        b.maxsi(b.minsi(index, b.subi(size, b.index(1))), zero)
    }

    pub(super) fn eval_gather(
        &self,
        b: &Builder<'m>,
        node: &Node,
        axis: usize,
        value: ValueId,
        point: &Point<'m>,
        known: &mut Known<'m>,
    ) -> Value<'m> {
        let Place::Axes(axes) = &point.place else { return self.zero(b, value) };
        let (data, indices) = (node.operands[0], node.operands[1]);
        let rank = self.shape(indices).len();
        let index_point = point.with(axes[axis..axis + rank].to_vec());
        let index = self.eval(b, indices, &index_point, known);
        if index.ty().vector_lanes().is_some() {
            return self.eval_each_lane(b, value, point, known);
        }
        let at = Axis::at(self.wrap_index(b, index, &self.shape(data)[axis]));
        let from = [&axes[..axis], &[at], &axes[axis + rank..]].concat();
        self.eval(b, data, &point.with(from), known)
    }

    pub(super) fn eval_gather_nd(
        &self,
        b: &Builder<'m>,
        node: &Node,
        batch: usize,
        value: ValueId,
        point: &Point<'m>,
        known: &mut Known<'m>,
    ) -> Value<'m> {
        let Place::Axes(axes) = &point.place else { return self.zero(b, value) };
        let (data, indices) = (node.operands[0], node.operands[1]);
        let index_rank = self.shape(indices).len();
        let Some(depth) = self.shape(indices)[index_rank - 1].as_static() else {
            self.unsupported(node, self.dtype(data), "the number of indices per element must be known");
            return self.zero(b, value);
        };
        if axes[..index_rank - 1].iter().any(|axis| axis.step != 0) {
            return self.eval_each_lane(b, value, point, known);
        }
        let mut from = axes[..batch].to_vec();
        for k in 0..depth {
            let mut at = axes[..index_rank - 1].to_vec();
            at.push(Axis::at(b.index(k)));
            let index = self.eval(b, indices, &Point::axes(at, 1, None), known);
            from.push(Axis::at(self.wrap_index(b, index, &self.shape(data)[batch + k as usize])));
        }
        from.extend_from_slice(&axes[index_rank - 1..]);
        self.eval(b, data, &point.with(from), known)
    }
}
