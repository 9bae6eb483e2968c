//! Sources and index maps: nodes that compute nothing, but say which element of what.

use ired_graph::{DType, Dim, Node, Op, PadMode, ValueId};
use ired_mlir::{Builder, Compare, Value};

use super::{Axis, Known, Place, Point, spread};
use crate::kernels::arithmetic::{cast, register_type};
use crate::kernels::function::{Function, product};

impl<'m> Function<'_, 'm> {
    pub(super) fn eval_source(
        &self,
        b: &Builder<'m>,
        node: &Node,
        value: ValueId,
        point: &Point<'m>,
    ) -> Value<'m> {
        let dtype = self.dtype(value);
        match &node.op {
            Op::Constant(tensor) => {
                if let Some(register) = splat(b, tensor) {
                    return register;
                }
                match self.constant_array(b, value) {
                    Some(memref) => self.read(b, value, memref, point),
                    None => {
                        self.unsupported(node, dtype, "constants of this type need one value");
                        self.zero(b, value)
                    }
                }
            }
            Op::Iota { axis, .. } => {
                let axis = self.to_axes(b, value, point)[*axis];
                let index = self.lane_indices(b, axis, point.lanes);
                let whole = b.index_cast(index, b.int_type(64));
                cast(b, DType::I64, dtype, whole)
            }
            Op::Dims { values, .. } => {
                if let [only] = values.as_slice() {
                    return b.index_cast(self.dim(only), b.int_type(64));
                }
                let axis = match &point.place {
                    Place::Linear(axis) => *axis,
                    Place::Axes(axes) => self.linear_axis(b, self.shape(value), axes),
                };
                let index = self.lane_indices(b, axis, point.lanes);
                let lanes = index.ty().vector_lanes().unwrap_or(1);
                let mut chosen = spread(b, b.index(0), lanes);
                for (i, dim) in values.iter().enumerate() {
                    let here = b.cmpi(Compare::Eq, index, b.integer(index.ty(), i as i64));
                    chosen = b.select(here, spread(b, self.dim(dim), lanes), chosen);
                }
                b.index_cast(chosen, b.int_type(64))
            }
            _ => self.zero(b, value),
        }
    }

    /// `base + lane * step` as index, in every lane if lanes differ.
    fn lane_indices(&self, b: &Builder<'m>, axis: Axis<'m>, lanes: usize) -> Value<'m> {
        if axis.step == 0 || lanes == 1 {
            return axis.base;
        }
        let numbers = b.lane_numbers(lanes);
        let distance = b.muli(numbers, b.integer(numbers.ty(), axis.step));
        b.addi(b.broadcast(axis.base, lanes), distance)
    }

    /// Row-major number of an index; lanes must be along one axis whose stride is known.
    fn linear_axis(&self, b: &Builder<'m>, shape: &[Dim], axes: &[Axis<'m>]) -> Axis<'m> {
        let mut number = Axis::at(b.index(0));
        let mut stride = Dim::constant(1);
        for (axis, size) in axes.iter().zip(shape).rev() {
            let base = b.muli(axis.base, self.dim(&stride));
            number.base = b.addi(base, number.base);
            if axis.step != 0 {
                number.step = axis.step * stride.as_static().unwrap_or(0);
                number.aligned = axis.aligned && number.step == 1;
            }
            stride = stride * size.clone();
        }
        number
    }

    /// The point as an index per axis. Lanes of a linear point are kept only along the last axis.
    fn to_axes(&self, b: &Builder<'m>, value: ValueId, point: &Point<'m>) -> Vec<Axis<'m>> {
        match &point.place {
            Place::Axes(axes) => axes.clone(),
            Place::Linear(axis) => {
                let mut axes = self.split_index(b, axis.base, self.shape(value));
                if let Some(last) = axes.last_mut() {
                    last.step = axis.step;
                }
                axes
            }
        }
    }

    /// Index per axis of a row-major number.
    pub(in crate::kernels) fn split_index(
        &self,
        b: &Builder<'m>,
        number: Value<'m>,
        shape: &[Dim],
    ) -> Vec<Axis<'m>> {
        let mut rest = number;
        let mut axes = Vec::new();
        for (i, size) in shape.iter().enumerate().rev() {
            if size.as_static() == Some(1) {
                axes.push(Axis::at(b.index(0)));
            } else if i == 0 || product(&shape[..i]).as_static() == Some(1) {
                axes.push(Axis::at(rest));
                rest = b.index(0);
            } else {
                let size = self.dim(size);
                axes.push(Axis::at(b.remui(rest, size)));
                rest = b.divui(rest, size);
            }
        }
        axes.reverse();
        axes
    }

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
        // Lanes of a linear point may wrap around the last axis.
        if matches!(&point.place, Place::Linear(axis) if axis.step != 0) {
            return self.eval_each_lane(b, value, point, known);
        }
        let axes = self.to_axes(b, value, point);
        let here = point.with(axes.clone());
        match &node.op {
            Op::Broadcast { .. } => match self.broadcast_axes(b, operand, value, &axes) {
                Some(axes) => self.eval(b, operand, &point.with(axes), known),
                None => self.eval_each_lane(b, value, &here, known),
            },
            Op::Transpose { perm } => {
                let mut from = axes.clone();
                for (axis, &source) in axes.iter().zip(perm) {
                    from[source] = *axis;
                }
                self.eval(b, operand, &point.with(from), known)
            }
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
    fn broadcast_axes(
        &self,
        b: &Builder<'m>,
        operand: ValueId,
        value: ValueId,
        axes: &[Axis<'m>],
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
                let one = b.cmpi(Compare::Eq, self.dim(from), b.index(1));
                (axis.step == 0).then(|| Axis::at(b.select(one, b.index(0), axis.base)))
            })
            .collect()
    }

    /// Maps an index through a reshape, group by group of axes with equal products. `None` where lanes do not
    /// stay along one axis.
    fn reshape_axes(
        &self,
        b: &Builder<'m>,
        operand: ValueId,
        value: ValueId,
        axes: &[Axis<'m>],
        lanes: usize,
    ) -> Option<Vec<Axis<'m>>> {
        let (from, to) = (self.shape(operand), self.shape(value));
        let mut result = Vec::new();
        for (from_group, to_group) in groups(from, to) {
            let (from_shape, to_shape) = (&from[from_group], &to[to_group.clone()]);
            let group = &axes[to_group];
            if from_shape == to_shape {
                result.extend_from_slice(group);
                continue;
            }
            let lane = group.iter().position(|axis| axis.step != 0);
            if let Some(i) = lane {
                product(&to_shape[i + 1..]).as_static()?;
            }
            let number = self.linear_axis(b, to_shape, group);
            let mut split = self.split_index(b, number.base, from_shape);
            if lane.is_some() {
                // Lanes stay within the last axis if they start at a multiple of their number and it is one too.
                let last = from_shape.iter().rposition(|d| d.as_static() != Some(1))?;
                let whole = from_shape[..last].iter().all(|d| d.as_static() == Some(1));
                let divides = from_shape[last].as_static().is_some_and(|d| d % lanes as i64 == 0);
                let stays = whole || (number.aligned && divides);
                if !stays {
                    return None;
                }
                split[last].step = number.step;
                split[last].aligned = number.aligned;
            }
            result.extend(split);
        }
        Some(result)
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

    /// A gather index as a valid one: negative ones count from the end, wrong ones are clamped.
    fn wrap_index(&self, b: &Builder<'m>, index: Value<'m>, size: &Dim) -> Value<'m> {
        let size = self.dim(size);
        let index = b.index_cast(index, b.index_type());
        let zero = b.index(0);
        let from_end = b.addi(index, size);
        let index = b.select(b.cmpi(Compare::SignedLt, index, zero), from_end, index);
        b.maxsi(b.minsi(index, b.subi(size, b.index(1))), zero)
    }

    fn eval_gather(
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

    fn eval_gather_nd(
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

/// The one value of a constant, if all its elements are the same bytes.
fn splat<'m>(b: &Builder<'m>, tensor: &ired_graph::Tensor) -> Option<Value<'m>> {
    let dtype = tensor.dtype();
    let ty = register_type(b, dtype);
    if dtype.bits() < 8 {
        let first = tensor.data().first()?;
        if tensor.data().len() > 1 || tensor.shape().iter().any(|d| *d != 1) {
            return None;
        }
        let low = i64::from(first & 0xf);
        return Some(b.integer(ty, if dtype == DType::I4 && low > 7 { low - 16 } else { low }));
    }
    let bytes = dtype.bits() / 8;
    let mut elements = tensor.data().chunks_exact(bytes);
    let first = elements.next()?;
    if elements.any(|other| other != first) {
        return None;
    }
    let mut wide = [0u8; 8];
    wide[..bytes].copy_from_slice(first);
    let raw = u64::from_le_bytes(wide);
    Some(match dtype {
        DType::F32 => b.float(ty, f64::from(f32::from_bits(raw as u32))),
        DType::F64 => b.float(ty, f64::from_bits(raw)),
        DType::F16 => b.float(ty, f64::from(half::f16::from_bits(raw as u16).to_f32())),
        DType::BF16 => b.float(ty, f64::from(half::bf16::from_bits(raw as u16).to_f32())),
        DType::Bool => b.bool(raw != 0),
        _ => {
            let shift = 64 - dtype.bits();
            let signed = ((raw << shift).cast_signed()) >> shift;
            b.integer(ty, signed)
        }
    })
}

/// Splits two shapes of equal products into groups of axes with equal products, as fine as can be shown.
fn groups(from: &[Dim], to: &[Dim]) -> Vec<(std::ops::Range<usize>, std::ops::Range<usize>)> {
    let mut found = Vec::new();
    let (mut i, mut j) = (0, 0);
    while i < from.len() || j < to.len() {
        let (start_i, start_j) = (i, j);
        let (mut left, mut right) = (Dim::constant(1), Dim::constant(1));
        loop {
            let take_left = match (left.as_static(), right.as_static()) {
                _ if i == from.len() => false,
                _ if j == to.len() => true,
                _ if i == start_i && j == start_j => true,
                _ if j == start_j => false,
                (Some(l), Some(r)) => l < r,
                // A symbolic side is matched by what the other still lacks.
                (Some(_), None) => true,
                (None, Some(_)) => false,
                (None, None) => i - start_i <= j - start_j,
            };
            if take_left {
                left = left * from[i].clone();
                i += 1;
            } else {
                right = right * to[j].clone();
                j += 1;
            }
            if left == right || (i == from.len() && j == to.len()) {
                break;
            }
        }
        found.push((start_i..i, start_j..j));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(dims: &[i64]) -> Vec<Dim> {
        dims.iter().map(|d| Dim::constant(*d)).collect()
    }

    #[test]
    fn reshapes_split_into_the_finest_groups() {
        assert_eq!(groups(&shape(&[2, 12, 64]), &shape(&[2, 768])), vec![(0..1, 0..1), (1..3, 1..2)]);
        assert_eq!(groups(&shape(&[6, 5]), &shape(&[2, 3, 5])), vec![(0..1, 0..2), (1..2, 2..3)]);
        assert_eq!(groups(&shape(&[4, 6]), &shape(&[6, 4])), vec![(0..2, 0..2)]);
        assert_eq!(groups(&shape(&[]), &shape(&[1, 1])), vec![(0..0, 0..1), (0..0, 1..2)]);
    }

    #[test]
    fn constants_of_equal_elements_are_one_register() {
        let context = ired_mlir::Context::new();
        let module = ired_mlir::Module::new(&context);
        let data = bytes::Bytes::from_static(&[0, 0, 0, 0x40, 0, 0, 0, 0x40]);
        let two = ired_graph::Tensor::new(DType::F32, vec![2], data).unwrap();
        module.builder().func("f", &[], &[], |b, _| {
            assert!(splat(b, &two) == Some(b.float(b.f32_type(), 2.0)));
            b.ret(&[]);
        });
    }
}
