//! Reductions, products and windows at one point: loops inside of the loops over the result.
//!
//! Lanes along an axis that is kept work as everywhere. Families exist to be faster than this, not to compute
//! more.

mod normalize;
mod product;
mod reduce;
mod window;

use ired_graph::{DType, Node, Op, ValueId};
use ired_mlir::{Builder, Type, Value};

use super::{Axis, Known, Place, Point, spread, zero_of};
use crate::kernels::arithmetic::register_type;
use crate::kernels::function::Function;
pub(in crate::kernels) use normalize::SoftmaxScale;
pub(in crate::kernels) use product::{accumulator, multiply_add};
pub(in crate::kernels) use reduce::identity;

/// A loop nest's body: indices and carried values in, the next carried values out.
pub(in crate::kernels) type NestBody<'n, 'm> =
    dyn FnMut(&Builder<'m>, &[Value<'m>], &[Value<'m>]) -> Vec<Value<'m>> + 'n;

/// Loops over all indices in `ranges`, outermost first, carrying values through.
pub(in crate::kernels) fn loop_nest<'m>(
    b: &Builder<'m>,
    ranges: &[(Value<'m>, Value<'m>)],
    carried: &[Value<'m>],
    body: &mut NestBody<'_, 'm>,
) -> Vec<Value<'m>> {
    nest(b, ranges, &mut Vec::new(), carried, body)
}

fn nest<'m>(
    b: &Builder<'m>,
    ranges: &[(Value<'m>, Value<'m>)],
    indices: &mut Vec<Value<'m>>,
    carried: &[Value<'m>],
    body: &mut NestBody<'_, 'm>,
) -> Vec<Value<'m>> {
    let Some(((low, high), rest)) = ranges.split_first() else { return body(b, indices, carried) };
    // A loop of one turn is no loop.
    if let (Some(l), Some(h)) = (b.known(*low), b.known(*high))
        && h == l + 1
    {
        indices.push(*low);
        let result = nest(b, rest, indices, carried, body);
        indices.pop();
        return result;
    }
    b.for_loop(*low, *high, b.index(1), carried, |b, i, carried| {
        indices.push(i);
        let result = nest(b, rest, indices, carried, body);
        indices.pop();
        result
    })
}

impl<'m> Function<'_, 'm> {
    pub(super) fn eval_nested(
        &self,
        b: &Builder<'m>,
        node: &Node,
        value: ValueId,
        point: &Point<'m>,
        known: &mut Known<'m>,
    ) -> Value<'m> {
        let axes = match &point.place {
            Place::Axes(axes) => axes.clone(),
            Place::Linear(axis) if axis.step == 0 => self.split_index(b, axis.base, self.shape(value)),
            Place::Linear(_) => return self.eval_each_lane(b, value, point, known),
        };
        let lane = axes.iter().position(|axis| axis.step != 0);
        match &node.op {
            Op::Reduce { function, axes: reduced } => {
                self.eval_reduce(b, node, *function, reduced, &axes, point, known)
            }
            Op::ArgReduce { function, axis, last_on_tie } => {
                self.eval_arg_reduce(b, node, *function, *axis, *last_on_tie, &axes, point, known)
            }
            Op::Softmax { axis, .. } if lane == Some(*axis) => self.eval_each_lane(b, value, point, known),
            Op::Softmax { axis, log } => self.eval_softmax(b, node, *axis, *log, &axes, point, known),
            Op::LayerNorm { axis, .. } if lane.is_some_and(|lane| lane >= *axis) => {
                self.eval_each_lane(b, value, point, known)
            }
            Op::LayerNorm { axis, epsilon } => {
                self.eval_layer_norm(b, node, *axis, *epsilon, &axes, point, known)
            }
            Op::MatMul => self.eval_mat_mul(b, node, value, &axes, point, known),
            Op::Conv { window, groups, channels_last } => {
                let channel = if *channels_last { axes.len() - 1 } else { 1 };
                let depthwise = self.shape(node.operands[1])[1].as_static() == Some(1)
                    && self.shape(value)[channel].as_static() == Some(*groups as i64);
                let by_lane =
                    lane.is_some_and(|lane| lane != 0 && (lane != channel || (*groups != 1 && !depthwise)));
                if by_lane {
                    return self.eval_each_lane(b, value, point, known);
                }
                self.eval_conv(b, node, value, window, *groups, channel, &axes, point, known)
            }
            Op::Pool { function, window, include_pad, channels_last } => {
                let channel = if *channels_last { axes.len() - 1 } else { 1 };
                if lane.is_some_and(|lane| lane != 0 && lane != channel) {
                    return self.eval_each_lane(b, value, point, known);
                }
                self.eval_pool(b, node, *function, window, *include_pad, channel, &axes, point, known)
            }
            _ => self.zero(b, value),
        }
    }

    fn lanes_type(&self, b: &Builder<'m>, dtype: DType, lanes: usize) -> Type<'m> {
        let ty = register_type(b, dtype);
        if lanes > 1 { b.vector_type(lanes, ty) } else { ty }
    }
}
