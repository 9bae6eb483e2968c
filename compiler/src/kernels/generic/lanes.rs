//! Whether several elements along the last axis can be computed at once without picking them one by one.

use std::cell::RefCell;
use std::collections::HashMap;

use ired_graph::{DType, Graph, Node, Op, ValueId};

use super::{producer, product};
use crate::dispatch::Dispatch;
use crate::kernels::eval::repetitions;
use crate::targets::CpuTarget;

/// How the lanes of a point lie on a value.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Lanes {
    /// All at one element.
    Same,
    /// Along an axis.
    Axis(usize),
    /// Along the row-major order.
    Linear,
}

/// Elements computed at once; 1 where only that is good.
pub(super) fn choose(graph: &Graph, dispatch: &Dispatch, target: &CpuTarget, linear: bool) -> usize {
    let walk = Walk { graph, dispatch, known: RefCell::default() };
    let Some(output) = dispatch.outputs.first() else { return 1 };
    let ty = &graph.values[output.index()].ty;
    let count = if linear { Some(product(&ty.shape)) } else { ty.shape.last().cloned() };
    let length = count.and_then(|d| d.as_static());
    let start = if linear { Lanes::Linear } else { Lanes::Axis(ty.shape.len().saturating_sub(1)) };
    if length.is_some_and(|n| n < 2) || ty.shape.is_empty() || ty.dtype.bits() < 8 {
        return 1;
    }
    if !dispatch.outputs.iter().all(|v| walk.is_smooth(*v, start)) {
        return 1;
    }
    let widest = dispatch
        .nodes
        .iter()
        .flat_map(|id| &graph.nodes[id.index()].results)
        .map(|v| graph.values[v.index()].ty.dtype)
        .filter(|dtype| dtype.is_float() || dtype.is_complex() || *dtype == ty.dtype)
        .map(DType::bits)
        .fold(32, usize::max);
    let lanes = target.lanes(widest);
    match length {
        Some(n) => lanes.min((n.max(1) as usize).next_power_of_two()),
        None => lanes,
    }
}

/// Whether consecutive elements along `axis` of a value can be computed at once.
pub(in crate::kernels) fn is_smooth(graph: &Graph, dispatch: &Dispatch, value: ValueId, axis: usize) -> bool {
    Walk { graph, dispatch, known: RefCell::default() }.is_smooth(value, Lanes::Axis(axis))
}

struct Walk<'a> {
    graph: &'a Graph,
    dispatch: &'a Dispatch,
    /// What was found already: a value may be read by many paths, twice as many with each `x + x`.
    known: RefCell<HashMap<(ValueId, Lanes), bool>>,
}

impl Walk<'_> {
    fn shape(&self, value: ValueId) -> &[ired_graph::Dim] {
        &self.graph.values[value.index()].ty.shape
    }

    fn is_smooth(&self, value: ValueId, lanes: Lanes) -> bool {
        if lanes == Lanes::Same {
            return true;
        }
        if let Some(&smooth) = self.known.borrow().get(&(value, lanes)) {
            return smooth;
        }
        let smooth = match producer(self.graph, self.dispatch, value) {
            None => self.is_consecutive(value, lanes),
            Some(node) => self.is_smooth_node(node, value, lanes),
        };
        self.known.borrow_mut().insert((value, lanes), smooth);
        smooth
    }

    /// Whether the next element along the lanes is the next in memory.
    fn is_consecutive(&self, value: ValueId, lanes: Lanes) -> bool {
        match lanes {
            Lanes::Same | Lanes::Linear => true,
            Lanes::Axis(axis) => product(&self.shape(value)[axis + 1..]).as_static() == Some(1),
        }
    }

    fn is_smooth_node(&self, node: &Node, value: ValueId, lanes: Lanes) -> bool {
        let all = |lanes: Lanes| node.operands.iter().all(|v| self.is_smooth(*v, lanes));
        let operand = node.operands.first().copied();
        let on_operand = |lanes: Lanes| operand.is_some_and(|v| self.is_smooth(v, lanes));
        match (&node.op, lanes) {
            (op, _) if op.is_elementwise() => all(lanes),
            (Op::Constant(_), _) => self.is_consecutive(value, lanes),
            (Op::Iota { .. } | Op::Dims { .. }, _) => true,
            (Op::Broadcast { .. }, _) if operand.is_some_and(|v| self.is_one(v)) => true,
            (Op::Reshape { .. }, Lanes::Linear) => on_operand(Lanes::Linear),
            (Op::Broadcast { .. }, Lanes::Linear) => operand.is_some_and(|v| {
                repetitions(self.graph, v, value).is_some() && self.is_smooth(v, Lanes::Linear)
            }),
            (_, Lanes::Linear) => false,
            (Op::Broadcast { .. }, Lanes::Axis(axis)) => operand.is_some_and(|v| {
                let (from, to) = (self.shape(v), self.shape(value));
                let Some(own) = (axis + from.len()).checked_sub(to.len()) else { return true };
                match from[own].as_static() {
                    Some(1) => true,
                    _ if from[own] == to[axis] => self.is_smooth(v, Lanes::Axis(own)),
                    _ => false,
                }
            }),
            // The last axis stays where it is, or is cut into or made of whole lanes; checked when emitted.
            (Op::Reshape { .. }, Lanes::Axis(axis)) => operand.is_some_and(|v| {
                let (from, to) = (self.shape(v), self.shape(value));
                let (Some(own), true) = (from.iter().rposition(|d| d.as_static() != Some(1)), axis + 1 == to.len())
                else {
                    return false;
                };
                let lasts = (from[own].as_static(), to[axis].as_static());
                let fits = from[own] == to[axis]
                    || matches!(lasts, (Some(from), Some(to)) if from % to == 0 || (to % from == 0 && from % 16 == 0));
                fits && self.is_smooth(v, Lanes::Axis(own))
            }),
            (Op::Transpose { perm }, Lanes::Axis(axis)) => on_operand(Lanes::Axis(perm[axis])),
            (Op::Slice { stride, .. }, Lanes::Axis(axis)) => stride[axis] == 1 && on_operand(lanes),
            (Op::Concat { axis: joined }, Lanes::Axis(axis)) => *joined != axis && all(lanes),
            (Op::Pad { low, high, .. }, Lanes::Axis(axis)) => {
                let zero = ired_graph::Dim::constant(0);
                low[axis] == zero && high[axis] == zero && on_operand(lanes)
            }
            (Op::Gather { axis: gathered }, Lanes::Axis(axis)) => {
                let rank = self.shape(node.operands[1]).len();
                if axis < *gathered {
                    on_operand(lanes)
                } else {
                    axis >= gathered + rank && on_operand(Lanes::Axis(axis + 1 - rank))
                }
            }
            (Op::GatherNd { batch_dims }, Lanes::Axis(axis)) => {
                let index_shape = self.shape(node.operands[1]);
                let depth = index_shape.last().and_then(|d| d.as_static()).unwrap_or(0) as usize;
                let outer = index_shape.len() - 1;
                axis >= outer && on_operand(Lanes::Axis(batch_dims + depth + axis - outer))
            }
            (Op::Reduce { axes, .. }, Lanes::Axis(axis)) => on_operand(Lanes::Axis(kept_axis(axes, axis))),
            (Op::ArgReduce { axis: reduced, .. }, Lanes::Axis(axis)) => {
                on_operand(Lanes::Axis(kept_axis(&[*reduced], axis)))
            }
            (Op::Softmax { axis: own, .. }, Lanes::Axis(axis)) => *own != axis && on_operand(lanes),
            (Op::MatMul, Lanes::Axis(axis)) => {
                axis + 1 == self.shape(value).len() && self.is_smooth(node.operands[1], lanes)
            }
            // Weights are gathered; the input is what counts.
            (Op::Conv { channels_last, groups, .. }, Lanes::Axis(axis)) => {
                *channels_last
                    && axis + 1 == self.shape(value).len()
                    && (*groups == 1
                        || (self.shape(node.operands[1])[1].as_static() == Some(1)
                            && self.shape(value)[axis].as_static() == Some(*groups as i64)
                            && on_operand(lanes)))
            }
            (Op::Pool { channels_last, .. }, Lanes::Axis(axis)) => {
                *channels_last && axis + 1 == self.shape(value).len() && on_operand(lanes)
            }
            _ => false,
        }
    }

    fn is_one(&self, value: ValueId) -> bool {
        product(self.shape(value)).as_static() == Some(1)
    }
}

/// The operand's axis that becomes result axis `axis` when `reduced` (ascending) are dropped.
fn kept_axis(reduced: &[usize], axis: usize) -> usize {
    reduced.iter().fold(axis, |axis, r| if *r <= axis { axis + 1 } else { axis })
}
