//! Softmax and layer normalisation: several folds over the same axes, then the element itself.

use ired_graph::{DType, Node, ReduceFn};
use ired_mlir::{Builder, FloatCompare, Type, Value};

use super::{Axis, Known, Point, identity, loop_nest, zero_of};
use crate::kernels::function::{Function, product};
use crate::kernels::math::Math;

impl<'m> Function<'_, 'm> {
    #[allow(clippy::too_many_arguments, reason = "the node's attributes, taken apart")]
    pub(super) fn eval_softmax(
        &self,
        b: &Builder<'m>,
        node: &Node,
        axis: usize,
        log: bool,
        axes: &[Axis<'m>],
        point: &Point<'m>,
        known: &Known<'m>,
    ) -> Value<'m> {
        let operand = node.operands[0];
        let dtype = self.dtype(operand);
        if !dtype.is_float() {
            self.unsupported(node, dtype, "only floats have a softmax");
            return self.zero(b, operand);
        }
        let read = |b: &Builder<'m>, index: Value<'m>| {
            let mut at = axes.to_vec();
            at[axis] = Axis::at(index);
            self.eval_lanes(b, operand, &point.with(at), &mut known.clone())
        };
        let ty = self.lanes_type(b, dtype, point.lanes);
        let scale = SoftmaxScale::of(b, ty, self.dim(&self.shape(operand)[axis]), &read, dtype);
        let x = read(b, axes[axis].base);
        scale.apply(b, x, log)
    }

    #[allow(clippy::too_many_arguments, reason = "the node's attributes, taken apart")]
    pub(super) fn eval_layer_norm(
        &self,
        b: &Builder<'m>,
        node: &Node,
        axis: usize,
        epsilon: f64,
        axes: &[Axis<'m>],
        point: &Point<'m>,
        known: &mut Known<'m>,
    ) -> Value<'m> {
        let operand = node.operands[0];
        let (shape, dtype) = (self.shape(operand), self.dtype(operand));
        if !dtype.is_float() {
            self.unsupported(node, dtype, "only floats are normalised");
            return self.zero(b, operand);
        }
        let ty = self.lanes_type(b, dtype, point.lanes);
        let ranges: Vec<_> = shape[axis..].iter().map(|d| (b.index(0), self.dim(d))).collect();
        let read = |b: &Builder<'m>, indices: &[Value<'m>]| {
            let mut at = axes[..axis].to_vec();
            at.extend(indices.iter().map(|i| Axis::at(*i)));
            self.eval_lanes(b, operand, &point.with(at), &mut known.clone())
        };
        let count = product(&shape[axis..]);
        let sum = loop_nest(b, &ranges, &[zero_of(b, ty)], &mut |b, i, carried| {
            vec![b.addf(carried[0], read(b, i))]
        })[0];
        let mean = self.finish(b, ReduceFn::Mean, dtype, sum, &count);
        let squares = loop_nest(b, &ranges, &[zero_of(b, ty)], &mut |b, i, carried| {
            let d = b.subf(read(b, i), mean);
            vec![b.fma(d, d, carried[0])]
        })[0];
        let variance = self.finish(b, ReduceFn::Mean, dtype, squares, &count);
        let deviation = b.sqrt(b.addf(variance, b.float(ty, epsilon)));
        let here: Vec<_> = axes[axis..].iter().map(|a| a.base).collect();
        let mut y = b.divf(b.subf(read(b, &here), mean), deviation);
        let within = point.with(axes[axis..].to_vec());
        if let Some(scale) = node.operands.get(1) {
            y = b.mulf(y, self.eval_lanes(b, *scale, &within, known));
        }
        if let Some(bias) = node.operands.get(2) {
            y = b.addf(y, self.eval_lanes(b, *bias, &within, known));
        }
        y
    }
}

/// What elements are normalised by that a softmax normalises together.
pub(in crate::kernels) struct SoftmaxScale<'m> {
    greatest: Value<'m>,
    sum: Value<'m>,
}

impl<'m> SoftmaxScale<'m> {
    /// Of `count` elements, each of a type of one lane or several.
    pub(in crate::kernels) fn of(
        b: &Builder<'m>,
        ty: Type<'m>,
        count: Value<'m>,
        read: &dyn Fn(&Builder<'m>, Value<'m>) -> Value<'m>,
        dtype: DType,
    ) -> Self {
        let range = [(b.index(0), count)];
        let lowest = identity(b, ReduceFn::Max, dtype, ty);
        let greatest = loop_nest(b, &range, &[lowest], &mut |b, i, carried| {
            vec![crate::kernels::arithmetic::maximum(b, FloatCompare::Gt, read(b, i[0]), carried[0])]
        })[0];
        let sum = loop_nest(b, &range, &[zero_of(b, ty)], &mut |b, i, carried| {
            let shifted = b.subf(read(b, i[0]), greatest);
            vec![b.addf(carried[0], Math::new(b, ty).exp(shifted))]
        })[0];
        Self { greatest, sum }
    }

    pub(in crate::kernels) fn apply(&self, b: &Builder<'m>, x: Value<'m>, log: bool) -> Value<'m> {
        let math = Math::new(b, x.ty());
        let shifted = b.subf(x, self.greatest);
        if log { b.subf(shifted, math.log(self.sum)) } else { b.divf(math.exp(shifted), self.sum) }
    }
}
