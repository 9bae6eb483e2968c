//! Any value of a dispatch at any point: the one evaluator behind prologues, epilogues and whole kernels.
//!
//! A point has an index per axis, and is one element or several (`lanes`) along at most one axis. Elementwise
//! nodes become register arithmetic, index maps become other points of their operands, and values from memory
//! become loads. What cannot be done for several lanes at once is done lane by lane.

mod index_maps;
mod memory;
pub(super) mod nested;
mod sources;

pub(super) use index_maps::repetitions;

use std::collections::HashMap;

use ired_graph::{BinaryFn, DType, Node, Op, UnaryFn, ValueId};
use ired_mlir::{Builder, Type, Value};

use super::KernelError;
use super::arithmetic::{binary, bit_cast, cast, compare, from_storage, register_type, unary};
use super::function::Function;
use super::math::Math;

/// An index along one axis: `base + lane * step`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Axis<'m> {
    pub(super) base: Value<'m>,
    /// 0 where all lanes are at one index.
    pub(super) step: i64,
    /// `base` is a multiple of the lanes.
    pub(super) aligned: bool,
}

impl<'m> Axis<'m> {
    /// One index for every lane.
    pub(super) fn at(base: Value<'m>) -> Self {
        Self { base, step: 0, aligned: false }
    }

    /// Consecutive indices, the first a multiple of the lanes.
    pub(super) fn along(base: Value<'m>) -> Self {
        Self { base, step: 1, aligned: true }
    }
}

#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) enum Place<'m> {
    /// An index per axis.
    Axes(Vec<Axis<'m>>),
    /// The row-major number of the element, in whatever shape the value has.
    Linear(Axis<'m>),
}

/// Where a value is evaluated.
#[derive(Clone, PartialEq, Eq, Hash)]
pub(super) struct Point<'m> {
    pub(super) place: Place<'m>,
    /// 1 for a scalar.
    pub(super) lanes: usize,
    /// Lanes that exist; all when `None`. The others may hold anything, but load nothing.
    pub(super) mask: Option<Value<'m>>,
}

impl<'m> Point<'m> {
    pub(super) fn scalar(indices: &[Value<'m>]) -> Self {
        let axes = indices.iter().map(|i| Axis::at(*i)).collect();
        Self { place: Place::Axes(axes), lanes: 1, mask: None }
    }

    pub(super) fn axes(mut axes: Vec<Axis<'m>>, lanes: usize, mask: Option<Value<'m>>) -> Self {
        if lanes == 1 {
            axes.iter_mut().for_each(|axis| axis.step = 0);
        }
        Self { place: Place::Axes(axes), lanes, mask }
    }

    pub(super) fn linear(mut index: Axis<'m>, lanes: usize, mask: Option<Value<'m>>) -> Self {
        if lanes == 1 {
            index.step = 0;
        }
        Self { place: Place::Linear(index), lanes, mask }
    }

    fn with(&self, axes: Vec<Axis<'m>>) -> Self {
        Self { place: Place::Axes(axes), lanes: self.lanes, mask: self.mask }
    }
}

/// What was evaluated already in this block or one around it.
#[derive(Clone, Default)]
pub(super) struct Known<'m> {
    /// Values that are in registers whatever the point: a root's result under its epilogue.
    pub(super) bound: HashMap<ValueId, Value<'m>>,
    at: HashMap<(ValueId, Point<'m>), Value<'m>>,
}

impl<'m> Known<'m> {
    pub(super) fn bind(value: ValueId, register: Value<'m>) -> Self {
        Self { bound: HashMap::from([(value, register)]), at: HashMap::new() }
    }
}

impl<'m> Function<'_, 'm> {
    /// The value at a point, in register form; a scalar where all lanes are the same.
    pub(super) fn eval(
        &self,
        b: &Builder<'m>,
        value: ValueId,
        point: &Point<'m>,
        known: &mut Known<'m>,
    ) -> Value<'m> {
        if let Some(register) = known.bound.get(&value) {
            return *register;
        }
        let key = (value, point.clone());
        if let Some(register) = known.at.get(&key) {
            return *register;
        }
        let register = match self.producer(value) {
            None => match self.memory(value) {
                Some(memref) => self.read(b, value, memref, point),
                None => {
                    self.fail(KernelError::UnboundValue { value: value.0 });
                    self.zero(b, value)
                }
            },
            Some(node) => self.eval_node(b, node, value, point, known),
        };
        known.at.insert(key, register);
        register
    }

    /// [`Function::eval`], with a vector even where all lanes are the same (unless the point is scalar).
    pub(super) fn eval_lanes(
        &self,
        b: &Builder<'m>,
        value: ValueId,
        point: &Point<'m>,
        known: &mut Known<'m>,
    ) -> Value<'m> {
        let register = self.eval(b, value, point, known);
        spread(b, register, point.lanes)
    }

    /// [`Function::eval`], as the value is in memory: bits that are only moved or reinterpreted stay as they are.
    pub(super) fn eval_storage(
        &self,
        b: &Builder<'m>,
        value: ValueId,
        point: &Point<'m>,
        known: &mut Known<'m>,
    ) -> Value<'m> {
        let dtype = self.dtype(value);
        match (self.producer(value), self.memory(value)) {
            (Some(node), _) if matches!(node.op, Op::BitCast(_)) && !known.bound.contains_key(&value) => {
                let of = node.operands[0];
                let storage = self.eval_storage(b, of, point, known);
                bit_cast(b, self.dtype(of), dtype, storage)
            }
            (Some(node), _) if !known.bound.contains_key(&value) => match self.moved(b, node, value, point) {
                Some(from) => self.eval_storage(b, node.operands[0], &point.with(from), known),
                None => self.stored(b, dtype, self.eval(b, value, point, known)),
            },
            (None, Some(memref)) if !known.bound.contains_key(&value) => {
                self.read_storage(b, value, memref, point)
            }
            _ => self.stored(b, dtype, self.eval(b, value, point, known)),
        }
    }

    /// Where a transpose or reshape finds its elements, if at axes as they are.
    fn moved(
        &self,
        b: &Builder<'m>,
        node: &Node,
        value: ValueId,
        point: &Point<'m>,
    ) -> Option<Vec<Axis<'m>>> {
        let Place::Axes(axes) = &point.place else { return None };
        match &node.op {
            Op::Transpose { perm } => Some(index_maps::transposed(axes, perm)),
            Op::Reshape { .. } => self.reshape_axes(b, node.operands[0], value, axes, point.lanes),
            _ => None,
        }
    }

    pub(super) fn zero(&self, b: &Builder<'m>, value: ValueId) -> Value<'m> {
        zero_of(b, register_type(b, self.dtype(value)))
    }

    fn eval_node(
        &self,
        b: &Builder<'m>,
        node: &Node,
        value: ValueId,
        point: &Point<'m>,
        known: &mut Known<'m>,
    ) -> Value<'m> {
        let dtype = self.dtype(value);
        match &node.op {
            Op::Unary(function) => {
                let of = self.dtype(node.operands[0]);
                let x = self.eval(b, node.operands[0], point, known);
                let is_wide = self.is_wide && x.ty() == b.vector_type(16, b.f32_type());
                if is_wide && *function == UnaryFn::Sigmoid {
                    return Math::new(b, x.ty()).wide_sigmoid(x);
                }
                unary(b, *function, of, x).unwrap_or_else(|| {
                    self.unsupported(node, of, "the function is not defined for this element type");
                    self.zero(b, value)
                })
            }
            Op::Binary(function) => {
                let [x, y] = self.eval_pair(b, node, point, known);
                self.eval_binary(b, node, *function, dtype, x, y)
            }
            Op::Compare(function) => {
                let [x, y] = self.eval_pair(b, node, point, known);
                compare(b, *function, self.dtype(node.operands[0]), x, y)
            }
            Op::Select => {
                let condition = self.eval(b, node.operands[0], point, known);
                let yes = self.eval(b, node.operands[1], point, known);
                let no = self.eval(b, node.operands[2], point, known);
                let lanes = [condition, yes, no].iter().find_map(|v| v.ty().vector_lanes()).unwrap_or(1);
                let (yes, no) = (spread(b, yes, lanes), spread(b, no, lanes));
                b.select(spread(b, condition, lanes), yes, no)
            }
            Op::Cast(_) => {
                let from = self.dtype(node.operands[0]);
                let x = self.eval(b, node.operands[0], point, known);
                // What is only written is rounded then.
                let is_rounded_later = from == DType::F32 && matches!(dtype, DType::F16 | DType::BF16);
                if is_rounded_later && self.is_only_written(value) { x } else { cast(b, from, dtype, x) }
            }
            Op::BitCast(_) => {
                let storage = self.eval_storage(b, value, point, known);
                from_storage(b, dtype, storage)
            }
            Op::Constant(_) | Op::Dims { .. } | Op::Iota { .. } => self.eval_source(b, node, value, point),
            Op::Broadcast { .. }
            | Op::Reshape { .. }
            | Op::Transpose { .. }
            | Op::Slice { .. }
            | Op::Concat { .. }
            | Op::Pad { .. }
            | Op::Gather { .. }
            | Op::GatherElements { .. }
            | Op::GatherNd { .. } => self.eval_index_map(b, node, value, point, known),
            Op::Reduce { .. }
            | Op::ArgReduce { .. }
            | Op::Softmax { .. }
            | Op::LayerNorm { .. }
            | Op::MatMul
            | Op::Conv { .. }
            | Op::Pool { .. } => self.eval_nested(b, node, value, point, known),
            _ => {
                self.unsupported(node, dtype, "it is not computed in kernels");
                self.zero(b, value)
            }
        }
    }

    pub(super) fn eval_binary(
        &self,
        b: &Builder<'m>,
        node: &Node,
        function: BinaryFn,
        dtype: DType,
        x: Value<'m>,
        y: Value<'m>,
    ) -> Value<'m> {
        if dtype.bits() < 8 {
            self.unsupported(node, dtype, "arithmetic needs a cast to eight bits first");
        }
        binary(b, function, dtype, x, y).unwrap_or_else(|| {
            self.unsupported(node, dtype, "the function is not defined for this element type");
            x
        })
    }

    /// Two operands at one point, both scalars or both vectors.
    fn eval_pair(
        &self,
        b: &Builder<'m>,
        node: &Node,
        point: &Point<'m>,
        known: &mut Known<'m>,
    ) -> [Value<'m>; 2] {
        let x = self.eval(b, node.operands[0], point, known);
        let y = self.eval(b, node.operands[1], point, known);
        let lanes = x.ty().vector_lanes().or(y.ty().vector_lanes()).unwrap_or(1);
        [spread(b, x, lanes), spread(b, y, lanes)]
    }

    /// Evaluates lane by lane, each clamped into the value's shape, for what has no form for several lanes.
    fn eval_each_lane(
        &self,
        b: &Builder<'m>,
        value: ValueId,
        point: &Point<'m>,
        known: &mut Known<'m>,
    ) -> Value<'m> {
        let shape = self.shape(value);
        let lanes: Vec<_> = (0..point.lanes as i64)
            .map(|lane| {
                let fix = |axis: &Axis<'m>, size: Value<'m>| {
                    if axis.step == 0 {
                        return *axis;
                    }
                    let index = b.addi(axis.base, b.index(axis.step * lane));
                    let last = b.subi(size, b.index(1));
                    Axis::at(if point.mask.is_some() { b.minsi(index, last) } else { index })
                };
                let place = match &point.place {
                    Place::Axes(axes) => Place::Axes(
                        axes.iter().zip(shape).map(|(axis, size)| fix(axis, self.dim(size))).collect(),
                    ),
                    Place::Linear(axis) => {
                        Place::Linear(fix(axis, self.dim(&super::function::product(shape))))
                    }
                };
                self.eval(b, value, &Point { place, lanes: 1, mask: None }, known)
            })
            .collect();
        b.from_elements(&lanes, register_type(b, self.dtype(value)))
    }
}

pub(super) fn zero_of<'m>(b: &Builder<'m>, ty: Type<'m>) -> Value<'m> {
    if ty.is_float() { b.float(ty, 0.0) } else { b.integer(ty, 0) }
}

/// A scalar in every lane; vectors, and scalars when `lanes` is 1, stay.
pub(super) fn spread<'m>(b: &Builder<'m>, register: Value<'m>, lanes: usize) -> Value<'m> {
    if lanes > 1 && register.ty().vector_lanes().is_none() { b.broadcast(register, lanes) } else { register }
}
