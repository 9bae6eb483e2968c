//! Index maps: nodes that compute nothing, but say which element of what.

mod gather;
mod repeat;
mod reshape;

pub(in crate::kernels) use repeat::repetitions;

use ired_graph::{Dim, Node, Op, PadMode, ValueId};
use ired_mlir::{Builder, Compare, Value};

use super::{Axis, Known, Place, Point, spread};
use crate::kernels::arithmetic::register_type;
use crate::kernels::function::{Function, product};

impl<'m> Function<'_, 'm> {
    pub(super) fn eval_index_map(
        &self,
        b: &Builder<'m>,
        node: &Node,
        value: ValueId,
        point: &Point<'m>,
        known: &mut Known<'m>,
    ) -> Value<'m> {
        let operand = node.operands[0];
        if let (Op::Reshape { .. }, Place::Linear(_)) = (&node.op, &point.place) {
            return self.eval(b, operand, point, known);
        }
        if let (Op::Broadcast { .. }, true) = (&node.op, product(self.shape(operand)).as_static() == Some(1))
        {
            let zeros = vec![Axis::at(b.index(0)); self.shape(operand).len()];
            return self.eval(b, operand, &point.with(zeros), known);
        }
        if let (Op::Broadcast { .. }, Place::Linear(axis)) = (&node.op, &point.place)
            && let Some(times) = repetitions(self.graph, operand, value)
        {
            return self.eval_repeated(b, operand, times, *axis, point, known);
        }
        // Lanes of a linear point may wrap around the last axis.
        if matches!(&point.place, Place::Linear(axis) if axis.step != 0) {
            return self.eval_each_lane(b, value, point, known);
        }
        let axes = self.to_axes(b, value, point);
        let here = point.with(axes.clone());
        match &node.op {
            Op::Broadcast { .. } => self.eval_broadcast(b, operand, value, &here, known),
            Op::Transpose { perm } => self.eval(b, operand, &point.with(transposed(&axes, perm)), known),
            Op::Slice { start, stride, .. } => {
                let from = axes
                    .iter()
                    .zip(start.iter().zip(stride))
                    .map(|(axis, (start, stride))| {
                        let start = self.dim(start);
                        let base = b.addi(b.muli(axis.base, b.index(*stride)), start);
                        let aligned = axis.aligned && *stride == 1 && b.known(start) == Some(0);
                        Axis { base, step: axis.step * stride, aligned }
                    })
                    .collect();
                self.eval(b, operand, &point.with(from), known)
            }
            Op::Reshape { .. } => match self.reshape_axes(b, operand, value, &axes, point.lanes) {
                Some(from) => self.eval(b, operand, &point.with(from), known),
                None => self.eval_each_lane(b, value, &here, known),
            },
            Op::Concat { axis } if axes[*axis].step == 0 => {
                let mut start = Dim::constant(0);
                let mut operands = Vec::new();
                for operand in &node.operands {
                    operands.push((*operand, self.dim(&start)));
                    start = start + self.shape(*operand)[*axis].clone();
                }
                self.eval_concat(b, *axis, &operands, &here, known)
            }
            Op::Pad { low, high, mode } => {
                let padded = |i: usize| low[i] != Dim::constant(0) || high[i] != Dim::constant(0);
                if axes.iter().enumerate().any(|(i, axis)| axis.step != 0 && padded(i)) {
                    return self.eval_each_lane(b, value, &here, known);
                }
                self.eval_pad(b, node, low, *mode, padded, &here, known)
            }
            Op::Gather { axis } => self.eval_gather(b, node, *axis, value, &here, known),
            Op::GatherElements { axis } => {
                let index = self.eval(b, node.operands[1], &here, known);
                if index.ty().vector_lanes().is_some() {
                    return self.eval_each_lane(b, value, &here, known);
                }
                let mut from = axes.clone();
                from[*axis] = Axis::at(self.wrap_index(b, index, &self.shape(operand)[*axis]));
                self.eval(b, operand, &point.with(from), known)
            }
            Op::GatherNd { batch_dims } => self.eval_gather_nd(b, node, *batch_dims, value, &here, known),
            _ => self.eval_each_lane(b, value, &here, known),
        }
    }

    /// `None` where lanes run along an axis that is one or equal only at run time.
    /// Lanes along an axis that only the run knows to be stretched are read in either way.
    fn eval_broadcast(
        &self,
        b: &Builder<'m>,
        operand: ValueId,
        value: ValueId,
        point: &Point<'m>,
        known: &mut Known<'m>,
    ) -> Value<'m> {
        let Place::Axes(axes) = &point.place else { return self.eval_each_lane(b, value, point, known) };
        if let Some(axes) = self.broadcast_axes(b, operand, value, axes, None) {
            return self.eval(b, operand, &point.with(axes), known);
        }
        let new = axes.len() - self.shape(operand).len();
        let lanes = axes[new..].iter().position(|axis| axis.step != 0).unwrap_or(0);
        let one = b.cmpi(Compare::Eq, self.dim(&self.shape(operand)[lanes]), b.index(1));
        let ty = b.vector_type(point.lanes, register_type(b, self.dtype(operand)));
        let read = |b: &Builder<'m>, stretched: bool, mut known: Known<'m>| {
            let axes = self.broadcast_axes(b, operand, value, axes, Some(stretched)).unwrap_or_default();
            vec![self.eval_lanes(b, operand, &point.with(axes), &mut known)]
        };
        b.if_else(one, &[ty], |b| read(b, true, known.clone()), |b| read(b, false, known.clone()))[0]
    }

    /// Where the operand is read; `None` where that depends on whether the axis of the lanes is `stretched`.
    fn broadcast_axes(
        &self,
        b: &Builder<'m>,
        operand: ValueId,
        value: ValueId,
        axes: &[Axis<'m>],
        stretched: Option<bool>,
    ) -> Option<Vec<Axis<'m>>> {
        let (from, to) = (self.shape(operand), self.shape(value));
        let new = to.len() - from.len();
        from.iter()
            .zip(&to[new..])
            .zip(&axes[new..])
            .map(|((from, to), axis)| {
                if from.as_static() == Some(1) {
                    return Some(Axis::at(b.index(0)));
                }
                if from == to || from.as_static().is_some() {
                    return Some(*axis);
                }
                if axis.step != 0 {
                    return stretched.map(|stretched| if stretched { Axis::at(b.index(0)) } else { *axis });
                }
                let one = b.cmpi(Compare::Eq, self.dim(from), b.index(1));
                Some(Axis::at(b.select(one, b.index(0), axis.base)))
            })
            .collect()
    }

    /// The operand that covers `index`, found by halves: `operands` and where each of them starts.
    fn eval_concat(
        &self,
        b: &Builder<'m>,
        axis: usize,
        operands: &[(ValueId, Value<'m>)],
        point: &Point<'m>,
        known: &mut Known<'m>,
    ) -> Value<'m> {
        let Place::Axes(axes) = &point.place else { return b.index(0) };
        let index = axes[axis].base;
        if let [(operand, start)] = operands {
            let mut from = axes.clone();
            from[axis] = Axis::at(b.subi(index, *start));
            return self.eval_lanes(b, *operand, &point.with(from), known);
        }
        let (left, right) = operands.split_at(operands.len() / 2);
        let here = b.cmpi(Compare::SignedLt, index, right[0].1);
        let ty = register_type(b, self.dtype(operands[0].0));
        let ty = if point.lanes > 1 { b.vector_type(point.lanes, ty) } else { ty };
        let (mut yes, mut no) = (known.clone(), known.clone());
        b.if_else(
            here,
            &[ty],
            |b| vec![self.eval_concat(b, axis, left, point, &mut yes)],
            |b| vec![self.eval_concat(b, axis, right, point, &mut no)],
        )[0]
    }

    #[allow(clippy::too_many_arguments, reason = "the node's attributes, taken apart")]
    fn eval_pad(
        &self,
        b: &Builder<'m>,
        node: &Node,
        low: &[Dim],
        mode: PadMode,
        padded: impl Fn(usize) -> bool,
        point: &Point<'m>,
        known: &mut Known<'m>,
    ) -> Value<'m> {
        let operand = node.operands[0];
        let Place::Axes(axes) = &point.place else { return self.zero(b, operand) };
        let mut from = axes.clone();
        let mut inside: Option<Value<'m>> = None;
        for (i, size) in self.shape(operand).iter().enumerate().filter(|(i, _)| padded(*i)) {
            let size = self.dim(size);
            let index = b.subi(axes[i].base, self.dim(&low[i]));
            let (zero, last) = (b.index(0), b.subi(size, b.index(1)));
            let clamped = || b.maxsi(b.minsi(index, last), zero);
            from[i] = Axis::at(match mode {
                PadMode::Constant => {
                    // One unsigned comparison tests both ends.
                    let within = b.cmpi(Compare::UnsignedLt, index, size);
                    inside = Some(inside.map_or(within, |all| b.andi(all, within)));
                    index
                }
                PadMode::Edge => clamped(),
                PadMode::Wrap => b.floor_mod(index, b.maxsi(size, b.index(1))),
                PadMode::Reflect => {
                    let period = b.maxsi(b.addi(last, last), b.index(1));
                    let folded = b.floor_mod(index, period);
                    b.minsi(folded, b.subi(period, folded))
                }
            });
        }
        let here = point.with(from);
        let Some(inside) = inside else { return self.eval(b, operand, &here, known) };
        let fill =
            self.eval(b, node.operands[1], &Point { place: Place::Axes(vec![]), ..point.clone() }, known);
        let fill = spread(b, fill, point.lanes);
        let mut branch = known.clone();
        b.if_else(
            inside,
            &[fill.ty()],
            |b| vec![self.eval_lanes(b, operand, &here, &mut branch)],
            |_| vec![fill],
        )[0]
    }
}

/// Where the operand of a transpose is read for its result at `axes`.
pub(super) fn transposed<'m>(axes: &[Axis<'m>], perm: &[usize]) -> Vec<Axis<'m>> {
    let mut from = axes.to_vec();
    for (axis, &source) in axes.iter().zip(perm) {
        from[source] = *axis;
    }
    from
}
