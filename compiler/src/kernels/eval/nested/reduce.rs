//! Reductions: a fold over some axes, or where its best element is.

use ired_graph::{ArgReduceFn, BinaryFn, DType, Dim, Node, ReduceFn};
use ired_mlir::{Builder, Type, Value};

use super::{Axis, Known, Point, loop_nest, spread, zero_of};
use crate::kernels::arithmetic::{cast, compare};
use crate::kernels::function::{Function, product};

impl<'m> Function<'_, 'm> {
    #[allow(clippy::too_many_arguments, reason = "the node's attributes, taken apart")]
    pub(super) fn eval_reduce(
        &self,
        b: &Builder<'m>,
        node: &Node,
        function: ReduceFn,
        reduced: &[usize],
        axes: &[Axis<'m>],
        point: &Point<'m>,
        known: &Known<'m>,
    ) -> Value<'m> {
        let operand = node.operands[0];
        let (shape, own) = (self.shape(operand), self.dtype(operand));
        // A mean of integers divides a sum that has not wrapped.
        let wide = function == ReduceFn::Mean && own.is_integer();
        let dtype = if wide { DType::I64 } else { own };
        let ty = self.lanes_type(b, dtype, point.lanes);
        let ranges: Vec<_> = reduced.iter().map(|a| (b.index(0), self.dim(&shape[*a]))).collect();
        let start = identity(b, function, dtype, ty);
        let sum = loop_nest(b, &ranges, &[start], &mut |b, indices, carried| {
            let mut inner = known.clone();
            let at = point.with(insert_axes(axes, reduced, indices));
            let x = self.eval_lanes(b, operand, &at, &mut inner);
            let x = if wide { cast(b, own, dtype, x) } else { x };
            vec![self.combine(b, node, function, dtype, carried[0], x)]
        })[0];
        let count = product(reduced.iter().map(|a| &shape[*a]));
        let result = self.finish(b, function, dtype, sum, &count);
        if wide { cast(b, dtype, own, result) } else { result }
    }

    /// One step of a reduction.
    pub(in crate::kernels) fn combine(
        &self,
        b: &Builder<'m>,
        node: &Node,
        function: ReduceFn,
        dtype: DType,
        sum: Value<'m>,
        x: Value<'m>,
    ) -> Value<'m> {
        let binary = match function {
            ReduceFn::Sum | ReduceFn::Mean => BinaryFn::Add,
            ReduceFn::Product => BinaryFn::Mul,
            ReduceFn::Max => BinaryFn::Max,
            ReduceFn::Min => BinaryFn::Min,
            ReduceFn::All => BinaryFn::And,
            ReduceFn::Any => BinaryFn::Or,
            _ => {
                self.unsupported(node, dtype, "the reduction is not known to kernels");
                BinaryFn::Add
            }
        };
        self.eval_binary(b, node, binary, dtype, sum, x)
    }

    /// A mean's division.
    pub(in crate::kernels) fn finish(
        &self,
        b: &Builder<'m>,
        function: ReduceFn,
        dtype: DType,
        sum: Value<'m>,
        count: &Dim,
    ) -> Value<'m> {
        if function != ReduceFn::Mean {
            return sum;
        }
        let count = b.index_cast(self.dim(count), b.int_type(64));
        let count = cast(b, DType::I64, dtype, count);
        let lanes = sum.ty().vector_lanes().unwrap_or(1);
        let count = spread(b, count, lanes);
        if dtype.is_float() {
            b.divf(sum, count)
        } else {
            crate::kernels::arithmetic::binary(b, BinaryFn::Div, dtype, sum, count).unwrap_or(sum)
        }
    }

    #[allow(clippy::too_many_arguments, reason = "the node's attributes, taken apart")]
    pub(super) fn eval_arg_reduce(
        &self,
        b: &Builder<'m>,
        node: &Node,
        function: ArgReduceFn,
        axis: usize,
        last_on_tie: bool,
        axes: &[Axis<'m>],
        point: &Point<'m>,
        known: &Known<'m>,
    ) -> Value<'m> {
        let operand = node.operands[0];
        let dtype = self.dtype(operand);
        let index_type = self.lanes_type(b, DType::I64, point.lanes);
        let read = |b: &Builder<'m>, index: Value<'m>| {
            let at = point.with(insert_axes(axes, &[axis], &[index]));
            self.eval_lanes(b, operand, &at, &mut known.clone())
        };
        let best = match function {
            ArgReduceFn::Max => identity(b, ReduceFn::Max, dtype, self.lanes_type(b, dtype, point.lanes)),
            ArgReduceFn::Min => identity(b, ReduceFn::Min, dtype, self.lanes_type(b, dtype, point.lanes)),
        };
        let ranges = [(b.index(0), self.dim(&self.shape(operand)[axis]))];
        let carried = [best, b.integer(index_type, 0)];
        let how = match (function, last_on_tie) {
            (ArgReduceFn::Max, false) => ired_graph::CompareFn::Gt,
            (ArgReduceFn::Max, true) => ired_graph::CompareFn::Ge,
            (ArgReduceFn::Min, false) => ired_graph::CompareFn::Lt,
            (ArgReduceFn::Min, true) => ired_graph::CompareFn::Le,
        };
        loop_nest(b, &ranges, &carried, &mut |b, indices, carried| {
            let x = read(b, indices[0]);
            let better = compare(b, how, dtype, x, carried[0]);
            let number = b.index_cast(indices[0], b.int_type(64));
            let number = spread(b, number, point.lanes);
            vec![b.select(better, x, carried[0]), b.select(better, number, carried[1])]
        })[1]
    }
}

/// The value that a reduction starts from.
pub(in crate::kernels) fn identity<'m>(
    b: &Builder<'m>,
    function: ReduceFn,
    dtype: DType,
    ty: Type<'m>,
) -> Value<'m> {
    let bits = dtype.bits().max(8) as u32;
    let signed = dtype.is_signed_integer();
    match function {
        ReduceFn::Max if dtype.is_float() => b.float(ty, f64::NEG_INFINITY),
        ReduceFn::Min if dtype.is_float() => b.float(ty, f64::INFINITY),
        ReduceFn::Product if dtype.is_float() => b.float(ty, 1.0),
        ReduceFn::Max if signed => b.integer(ty, i64::MIN >> (64 - bits)),
        ReduceFn::Min if signed => b.integer(ty, i64::MAX >> (64 - bits)),
        ReduceFn::Min if dtype == DType::Bool => b.integer(ty, 1),
        ReduceFn::Min => b.integer(ty, -1),
        ReduceFn::Product | ReduceFn::All => b.integer(ty, 1),
        _ => zero_of(b, ty),
    }
}

/// Puts `indices` in as axes `inserted`, which ascend.
fn insert_axes<'m>(axes: &[Axis<'m>], inserted: &[usize], indices: &[Value<'m>]) -> Vec<Axis<'m>> {
    let mut result = axes.to_vec();
    for (axis, index) in inserted.iter().zip(indices) {
        result.insert(*axis, Axis::at(*index));
    }
    result
}
