//! Reductions, products and windows at one point: loops inside of the loops over the result.
//!
//! Lanes along an axis that is kept work as everywhere. Families exist to be faster than this, not to compute
//! more.

use ired_graph::{ArgReduceFn, BinaryFn, DType, Dim, Node, Op, PoolFn, ReduceFn, ValueId, Window};
use ired_mlir::{Builder, FloatCompare, Type, Value};

use super::{Axis, Known, Place, Point, spread, zero_of};
use crate::kernels::arithmetic::{cast, compare, register_type};
use crate::kernels::function::{Function, product};
use crate::kernels::math::Math;

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

    #[allow(clippy::too_many_arguments, reason = "the node's attributes, taken apart")]
    fn eval_reduce(
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
    fn eval_arg_reduce(
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

    #[allow(clippy::too_many_arguments, reason = "the node's attributes, taken apart")]
    fn eval_softmax(
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
        let ty = self.lanes_type(b, dtype, point.lanes);
        let read = |b: &Builder<'m>, index: Value<'m>| {
            let mut at = axes.to_vec();
            at[axis] = Axis::at(index);
            self.eval_lanes(b, operand, &point.with(at), &mut known.clone())
        };
        let range = [(b.index(0), self.dim(&self.shape(operand)[axis]))];
        let lowest = identity(b, ReduceFn::Max, dtype, ty);
        let greatest = loop_nest(b, &range, &[lowest], &mut |b, i, carried| {
            vec![crate::kernels::arithmetic::maximum(b, FloatCompare::Gt, read(b, i[0]), carried[0])]
        })[0];
        let sum = loop_nest(b, &range, &[zero_of(b, ty)], &mut |b, i, carried| {
            let shifted = b.subf(read(b, i[0]), greatest);
            vec![b.addf(carried[0], Math::new(b, ty).exp(shifted))]
        })[0];
        let shifted = b.subf(read(b, axes[axis].base), greatest);
        let math = Math::new(b, ty);
        if log { b.subf(shifted, math.log(sum)) } else { b.divf(math.exp(shifted), sum) }
    }

    #[allow(clippy::too_many_arguments, reason = "the node's attributes, taken apart")]
    fn eval_layer_norm(
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

    fn eval_mat_mul(
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

    #[allow(clippy::too_many_arguments, reason = "the node's attributes, taken apart")]
    fn eval_conv(
        &self,
        b: &Builder<'m>,
        node: &Node,
        value: ValueId,
        window: &Window,
        groups: u64,
        channel: usize,
        axes: &[Axis<'m>],
        point: &Point<'m>,
        known: &Known<'m>,
    ) -> Value<'m> {
        let (x, weights) = (node.operands[0], node.operands[1]);
        let dtype = self.dtype(value);
        let ty = self.lanes_type(b, dtype, point.lanes);
        let per_group = self.dim(&self.shape(weights)[1]);
        let out_per_group = self.shape(value)[channel].floor_div(&Dim::constant(groups as i64));
        let k = axes[channel];
        // The group of lanes that differ is only asked for in a depthwise convolution, where it is the channel.
        let group = if groups == 1 {
            Axis::at(b.index(0))
        } else if k.step != 0 {
            k
        } else {
            Axis::at(b.divui(k.base, self.dim(&out_per_group)))
        };
        let first_spatial = if channel == 1 { 2 } else { 1 };
        let spatial: Vec<_> = (0..window.extent.len()).map(|i| axes[first_spatial + i].base).collect();
        let (starts, mut ranges) = self.window_ranges(b, window, x, first_spatial, &spatial);
        ranges.push((b.index(0), per_group));
        loop_nest(b, &ranges, &[zero_of(b, ty)], &mut |b, indices, carried| {
            let mut inner = known.clone();
            let (&c, taps) = indices.split_last().expect("the channel loop is always there");
            let channel_axis = Axis { base: b.addi(b.muli(group.base, per_group), c), ..group };
            let mut at = vec![axes[0]];
            if channel == 1 {
                at.push(channel_axis);
            }
            at.extend(
                taps.iter().enumerate().map(|(i, tap)| Axis::at(tap_index(b, window, &starts, i, *tap))),
            );
            if channel != 1 {
                at.push(channel_axis);
            }
            let mut weight_at = vec![k, Axis::at(c)];
            weight_at.extend(taps.iter().map(|t| Axis::at(*t)));
            let a = self.eval(b, x, &point.with(at), &mut inner);
            let w = self.eval(b, weights, &point.with(weight_at), &mut inner);
            let a = cast(b, self.dtype(x), accumulator(dtype), a);
            let w = cast(b, self.dtype(weights), accumulator(dtype), w);
            vec![multiply_add(b, spread(b, a, point.lanes), spread(b, w, point.lanes), carried[0])]
        })[0]
    }

    #[allow(clippy::too_many_arguments, reason = "the node's attributes, taken apart")]
    fn eval_pool(
        &self,
        b: &Builder<'m>,
        node: &Node,
        function: PoolFn,
        window: &Window,
        include_pad: bool,
        channel: usize,
        axes: &[Axis<'m>],
        point: &Point<'m>,
        known: &Known<'m>,
    ) -> Value<'m> {
        let x = node.operands[0];
        let dtype = self.dtype(x);
        let ty = self.lanes_type(b, dtype, point.lanes);
        let first_spatial = if channel == 1 { 2 } else { 1 };
        let spatial: Vec<_> = (0..window.extent.len()).map(|i| axes[first_spatial + i].base).collect();
        let (starts, ranges) = self.window_ranges(b, window, x, first_spatial, &spatial);
        let reduce = match function {
            PoolFn::Max => ReduceFn::Max,
            PoolFn::Average => ReduceFn::Sum,
        };
        let start = identity(b, reduce, dtype, ty);
        let sum = loop_nest(b, &ranges, &[start], &mut |b, taps, carried| {
            let mut at = axes.to_vec();
            for (i, tap) in taps.iter().enumerate() {
                at[first_spatial + i] = Axis::at(tap_index(b, window, &starts, i, *tap));
            }
            let value = self.eval_lanes(b, x, &point.with(at), &mut known.clone());
            vec![self.combine(b, node, reduce, dtype, carried[0], value)]
        })[0];
        if function == PoolFn::Max {
            return sum;
        }
        let mut count = b.index(1);
        for (i, (low, high)) in ranges.iter().enumerate() {
            let taps = if include_pad {
                // Padding counts, what lies beyond it does not.
                let size = self.dim(&self.shape(x)[first_spatial + i]);
                let end = b.addi(size, b.index(window.pad_high[i] as i64));
                let reach = b.ceil_div(b.maxsi(b.subi(end, starts[i]), b.index(0)), dilation(b, window, i));
                b.minsi(b.index(window.extent[i] as i64), reach)
            } else {
                b.subi(*high, *low)
            };
            count = b.muli(count, taps);
        }
        let count = cast(b, DType::I64, dtype, b.index_cast(count, b.int_type(64)));
        let count = spread(b, count, point.lanes);
        if dtype.is_float() { b.divf(sum, count) } else { b.divsi(sum, count) }
    }

    /// Where the window over an output element starts on each spatial axis (may be negative), and the taps of it
    /// that lie on the input.
    #[allow(clippy::type_complexity, reason = "two lists, made together")]
    pub(in crate::kernels) fn window_ranges(
        &self,
        b: &Builder<'m>,
        window: &Window,
        x: ValueId,
        first_spatial: usize,
        spatial: &[Value<'m>],
    ) -> (Vec<Value<'m>>, Vec<(Value<'m>, Value<'m>)>) {
        let mut starts = Vec::new();
        let mut ranges = Vec::new();
        for (i, index) in spatial.iter().enumerate() {
            let size = &self.shape(x)[first_spatial + i];
            let (range, start) = self.window_range(b, window, i, size, *index);
            starts.push(start);
            ranges.push(range);
        }
        (starts, ranges)
    }

    /// The taps of one axis that lie on the input, and where the window starts.
    pub(in crate::kernels) fn window_range(
        &self,
        b: &Builder<'m>,
        window: &Window,
        axis: usize,
        size: &Dim,
        index: Value<'m>,
    ) -> ((Value<'m>, Value<'m>), Value<'m>) {
        let (low, high) = (window.pad_low[axis] as i64, window.pad_high[axis] as i64);
        let (stride, extent) = (b.index(window.stride[axis] as i64), window.extent[axis] as i64);
        let start = b.subi(b.muli(index, stride), b.index(low));
        let dilation = dilation(b, window, axis);
        let zero = b.index(0);
        let first = if low == 0 { zero } else { b.ceil_div(b.maxsi(b.subi(zero, start), zero), dilation) };
        let last = if high == 0 && !window.ceil {
            b.index(extent)
        } else {
            let room = b.maxsi(b.subi(self.dim(size), start), zero);
            b.minsi(b.ceil_div(room, dilation), b.index(extent))
        };
        ((first, last), start)
    }
}

fn dilation<'m>(b: &Builder<'m>, window: &Window, axis: usize) -> Value<'m> {
    b.index(window.dilation[axis] as i64)
}

/// The input index that a tap of the window reads.
fn tap_index<'m>(
    b: &Builder<'m>,
    window: &Window,
    starts: &[Value<'m>],
    axis: usize,
    tap: Value<'m>,
) -> Value<'m> {
    b.addi(b.muli(tap, dilation(b, window, axis)), starts[axis])
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
