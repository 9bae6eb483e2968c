//! Convolution and pooling: loops over the taps of a window that lie on the input.

use ired_graph::{DType, Dim, Node, PoolFn, ReduceFn, ValueId, Window};
use ired_mlir::{Builder, Value};

use super::{Axis, Known, Point, accumulator, identity, loop_nest, multiply_add, spread, zero_of};
use crate::kernels::arithmetic::cast;
use crate::kernels::function::Function;

impl<'m> Function<'_, 'm> {
    #[allow(clippy::too_many_arguments, reason = "the node's attributes, taken apart")]
    pub(super) fn eval_conv(
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
    pub(super) fn eval_pool(
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
