//! The builder: composes operations the way frameworks mean them, with numpy's broadcasting made explicit.

mod broadcast;
mod integer;
mod order;
mod shapes;

pub use integer::Offset;

use super::{Graph, Origin, ParamId, RegionId, ValueId};
use crate::ops::{self, ShapeError};
use crate::{
    CompareFn, DType, Dim, Op, PadMode, PoolFn, ReduceFn, Shape, SymbolId, Tensor, TensorType, UnaryFn,
    Window,
};

/// Adds nodes to one place of a graph.
///
/// Every method appends to the current region and stamps the current origin. What folds to a small constant or to
/// symbolic dimensions becomes one at once, so that chains of shape arithmetic leave nothing behind.
#[derive(Debug)]
pub struct Builder<'g> {
    pub graph: &'g mut Graph,
    pub region: RegionId,
    /// Copied to every node made.
    pub origin: Option<Origin>,
    /// Where new nodes go; the end if `None`.
    position: Option<usize>,
}

type Built = Result<ValueId, ShapeError>;

impl<'g> Builder<'g> {
    /// Appends to the graph's body.
    pub fn new(graph: &'g mut Graph) -> Self {
        let region = graph.body;
        Self { graph, region, origin: None, position: None }
    }

    /// Appends to `region`.
    pub fn in_region(graph: &'g mut Graph, region: RegionId) -> Self {
        Self { graph, region, origin: None, position: None }
    }

    /// Inserts before position `index` of `region`'s nodes, each new node after the one before it.
    pub fn at(graph: &'g mut Graph, region: RegionId, index: usize) -> Self {
        Self { graph, region, origin: None, position: Some(index) }
    }

    pub fn ty(&self, value: ValueId) -> &TensorType {
        self.graph.ty(value)
    }

    /// Adds an operation with one result.
    ///
    /// # Errors
    /// When the operands do not fit it.
    pub fn push(&mut self, op: Op, operands: &[ValueId]) -> Built {
        let folded = ops::fold_op(self.graph, &op, operands);
        let (op, operands) = match folded {
            Some(folded) => (folded.into_op(), &[][..]),
            None => (op, operands),
        };
        let results = self.push_with_regions(op, operands, Vec::new())?;
        Ok(results[0])
    }

    /// Adds a node with regions.
    ///
    /// # Errors
    /// When operands or regions do not fit the operation.
    pub fn push_with_regions(
        &mut self,
        op: Op,
        operands: &[ValueId],
        regions: Vec<RegionId>,
    ) -> Result<Vec<ValueId>, ShapeError> {
        let end = self.graph.region(self.region).nodes.len();
        let index = self.position.unwrap_or(end);
        let results = self.graph.insert(self.region, index, op, operands, regions, self.origin.clone())?;
        self.position = self.position.map(|p| p + 1);
        Ok(results)
    }

    /// Adds a host function with results of these types; see [`Op::Host`].
    ///
    /// # Errors
    /// When there is no such function, or `symbols` are not dimensions of results.
    pub fn host(
        &mut self,
        attributes: &impl ired_host::Attributes,
        operands: &[ValueId],
        results: Vec<TensorType>,
        symbols: Vec<SymbolId>,
    ) -> Result<Vec<ValueId>, ShapeError> {
        let function = ired_host::HostCall::new(attributes);
        self.push_with_regions(Op::Host { function, results, symbols }, operands, Vec::new())
    }

    pub fn constant(&mut self, tensor: Tensor) -> Built {
        self.push(Op::Constant(tensor), &[])
    }

    /// A 1-d i64 constant.
    pub fn constant_i64(&mut self, values: &[i64]) -> Built {
        self.constant(Tensor::from_i64s(&[values.len() as u64], values))
    }

    /// A scalar of `dtype`: `value` rounded once, integers saturating.
    pub fn scalar(&mut self, dtype: DType, value: f64) -> Built {
        self.constant(Tensor::scalar(dtype, value))
    }

    /// A scalar of `like`'s dtype.
    pub fn scalar_like(&mut self, like: ValueId, value: f64) -> Built {
        self.scalar(self.ty(like).dtype, value)
    }

    /// `value` in every element of `shape`.
    pub fn full(&mut self, dtype: DType, shape: Shape, value: f64) -> Built {
        let scalar = self.scalar(dtype, value)?;
        self.broadcast_to(scalar, shape)
    }

    pub fn param(&mut self, id: ParamId) -> Built {
        self.push(Op::Param(id), &[])
    }

    /// A 1-d i64 tensor of symbolic dimensions.
    pub fn dims(&mut self, values: Vec<Dim>) -> Built {
        let shape = vec![values.len() as u64];
        self.push(Op::Dims { values, shape }, &[])
    }

    /// A scalar i64 of one symbolic dimension.
    pub fn dim(&mut self, value: Dim) -> Built {
        self.push(Op::Dims { values: vec![value], shape: Vec::new() }, &[])
    }

    /// The constant that `value` is.
    pub fn constant_of(&self, value: ValueId) -> Option<&Tensor> {
        match self.graph.producer_op(value)? {
            Op::Constant(tensor) => Some(tensor),
            _ => None,
        }
    }

    /// The elements of an integer tensor as dimensions, where they are known; see [`ops::dims_of_value`].
    pub fn dims_of(&self, value: ValueId) -> Option<Vec<Dim>> {
        ops::dims_of_value(self.graph, value).map(|(_, values)| values)
    }

    /// The shape of `x` as data.
    pub fn shape_of(&mut self, x: ValueId) -> Built {
        self.dims(self.ty(x).shape.clone())
    }

    pub fn iota(&mut self, dtype: DType, shape: Shape, axis: usize) -> Built {
        self.push(Op::Iota { dtype, shape, axis }, &[])
    }

    pub fn unary(&mut self, function: UnaryFn, x: ValueId) -> Built {
        self.push(Op::Unary(function), &[x])
    }

    /// `x` itself where it already has `dtype`.
    pub fn cast(&mut self, x: ValueId, dtype: DType) -> Built {
        if self.ty(x).dtype == dtype { Ok(x) } else { self.push(Op::Cast(dtype), &[x]) }
    }

    /// `x` itself where it already has `dtype`.
    pub fn bit_cast(&mut self, x: ValueId, dtype: DType) -> Built {
        if self.ty(x).dtype == dtype { Ok(x) } else { self.push(Op::BitCast(dtype), &[x]) }
    }

    /// `x` itself where `perm` moves nothing.
    pub fn transpose(&mut self, x: ValueId, perm: Vec<usize>) -> Built {
        let moves = perm.iter().enumerate().any(|(i, &axis)| i != axis);
        if !moves && perm.len() == self.ty(x).rank() {
            Ok(x)
        } else {
            self.push(Op::Transpose { perm }, &[x])
        }
    }

    pub fn slice(&mut self, x: ValueId, start: Vec<Dim>, size: Vec<Dim>, stride: Vec<i64>) -> Built {
        self.push(Op::Slice { start, size, stride }, &[x])
    }

    /// The elements `start..start + size` of one axis.
    ///
    /// # Errors
    /// When there is no such axis, or the elements provably are not there.
    pub fn slice_axis(&mut self, x: ValueId, axis: usize, start: Dim, size: Dim) -> Built {
        let shape = &self.ty(x).shape;
        let (mut starts, mut sizes) = (vec![Dim::constant(0); shape.len()], shape.clone());
        let rank = sizes.len();
        let (Some(start_there), Some(size_there)) = (starts.get_mut(axis), sizes.get_mut(axis)) else {
            let problem = format!("is {axis}; rank is {rank}");
            return Err(ShapeError::Attribute { op: "slice", attribute: "axis", problem });
        };
        (*start_there, *size_there) = (start, size);
        let stride = vec![1; sizes.len()];
        self.slice(x, starts, sizes, stride)
    }

    /// The one operand itself where there is only one.
    pub fn concat(&mut self, operands: &[ValueId], axis: usize) -> Built {
        if let &[only] = operands { Ok(only) } else { self.push(Op::Concat { axis }, operands) }
    }

    /// `fill` is a scalar, for [`PadMode::Constant`] only.
    pub fn pad(
        &mut self,
        x: ValueId,
        low: Vec<Dim>,
        high: Vec<Dim>,
        mode: PadMode,
        fill: Option<ValueId>,
    ) -> Built {
        let operands: Vec<ValueId> = std::iter::once(x).chain(fill).collect();
        self.push(Op::Pad { low, high, mode }, &operands)
    }

    pub fn gather(&mut self, data: ValueId, indices: ValueId, axis: usize) -> Built {
        self.push(Op::Gather { axis }, &[data, indices])
    }

    /// A reduction over `axes` (any order); with `keep_dims` the reduced axes stay with size 1.
    pub fn reduce(&mut self, function: ReduceFn, x: ValueId, axes: &[usize], keep_dims: bool) -> Built {
        let mut ascending = axes.to_vec();
        ascending.sort_unstable();
        ascending.dedup();
        let mut kept = self.ty(x).shape.clone();
        let reduced = self.push(Op::Reduce { function, axes: ascending }, &[x])?;
        if !keep_dims {
            return Ok(reduced);
        }
        for &axis in axes {
            kept[axis] = Dim::constant(1);
        }
        self.reshape(reduced, kept)
    }

    pub fn softmax(&mut self, x: ValueId, axis: usize, log: bool) -> Built {
        self.push(Op::Softmax { axis, log }, &[x])
    }

    pub fn conv(&mut self, x: ValueId, weights: ValueId, window: Window, groups: u64) -> Built {
        self.push(Op::Conv { window, groups, channels_last: false }, &[x, weights])
    }

    pub fn pool(&mut self, function: PoolFn, x: ValueId, window: Window, include_pad: bool) -> Built {
        self.push(Op::Pool { function, window, include_pad, channels_last: false }, &[x])
    }

    /// `lhs ? rhs` elementwise after broadcasting both.
    pub fn compare_broadcast(&mut self, function: CompareFn, lhs: ValueId, rhs: ValueId) -> Built {
        let [lhs, rhs] = self.broadcast_together([lhs, rhs])?;
        self.push(Op::Compare(function), &[lhs, rhs])
    }
}
