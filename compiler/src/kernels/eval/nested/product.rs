//! A matrix product's element, and how every product multiplies and adds.

use ired_graph::{DType, Node, ValueId};
use ired_mlir::{Builder, Value};

use super::{Axis, Known, Point, loop_nest, spread, zero_of};
use crate::kernels::arithmetic::cast;
use crate::kernels::function::Function;

impl<'m> Function<'_, 'm> {
    pub(super) fn eval_mat_mul(
        &self,
        b: &Builder<'m>,
        node: &Node,
        value: ValueId,
        axes: &[Axis<'m>],
        point: &Point<'m>,
        known: &Known<'m>,
    ) -> Value<'m> {
        let (lhs, rhs) = (node.operands[0], node.operands[1]);
        let rank = axes.len();
        let dtype = self.dtype(value);
        let ty = self.lanes_type(b, dtype, point.lanes);
        let range = [(b.index(0), self.dim(&self.shape(lhs)[rank - 1]))];
        loop_nest(b, &range, &[zero_of(b, ty)], &mut |b, k, carried| {
            let mut inner = known.clone();
            let (mut left, mut right) = (axes.to_vec(), axes.to_vec());
            left[rank - 1] = Axis::at(k[0]);
            right[rank - 2] = Axis::at(k[0]);
            let x = self.eval(b, lhs, &point.with(left), &mut inner);
            let y = self.eval(b, rhs, &point.with(right), &mut inner);
            let x = cast(b, self.dtype(lhs), accumulator(dtype), x);
            let y = cast(b, self.dtype(rhs), accumulator(dtype), y);
            vec![multiply_add(b, spread(b, x, point.lanes), spread(b, y, point.lanes), carried[0])]
        })[0]
    }
}

/// What a product of this result type multiplies in.
pub(in crate::kernels) fn accumulator(result: DType) -> DType {
    match result {
        DType::F16 | DType::BF16 => DType::F32,
        other => other,
    }
}

/// `x * y + sum`, fused for floats.
pub(in crate::kernels) fn multiply_add<'m>(
    b: &Builder<'m>,
    x: Value<'m>,
    y: Value<'m>,
    sum: Value<'m>,
) -> Value<'m> {
    match (x.ty().is_float(), x.ty().vector_lanes()) {
        (true, Some(_)) => b.vector_fma(x, y, sum),
        (true, None) => b.fma(x, y, sum),
        (false, _) => b.addi(b.muli(x, y), sum),
    }
}
