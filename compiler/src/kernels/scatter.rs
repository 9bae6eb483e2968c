//! Scatters: the data is copied, unless its memory may be written, and updates are combined with it in order.
//!
//! A workgroup owns a part of the result, some of the slices that tuples of indices name and some columns of them. It
//! goes over all tuples and takes those whose slice is its own: what meets in one element is combined by one workgroup,
//! one after the other, however the work is split.

use ired_graph::{BinaryFn, Dim, Graph, Op, ScatterFn, ValueId};
use ired_mlir::{Builder, Compare, Value};

use super::arithmetic::register_bits;
use super::eval::{Axis, Known, Point};
use super::function::{Function, Site, plain_interface, product};
use super::generic::{in_lanes, is_smooth, producer};
use super::{Computation, Exactness, Family, KernelError};
use crate::dispatch::{Dispatch, KernelInterface};
use crate::targets::CpuTarget;

pub(super) struct Scatter;

/// Elements of the result that one workgroup owns, at least.
const GROUP_ELEMENTS: i64 = 1 << 14;
/// Columns of one workgroup, at most.
const GROUP_COLUMNS: i64 = 1 << 12;
/// So many tuples may be looked at in vain for one element owned.
const TUPLES_PER_ELEMENT: i64 = 4;

impl Family for Scatter {
    fn name(&self) -> &'static str {
        "scatter"
    }

    fn interface(
        &self,
        graph: &Graph,
        dispatch: &Dispatch,
        target: &CpuTarget,
    ) -> Result<Option<KernelInterface>, KernelError> {
        let Some(plan) = Plan::new(graph, dispatch, target) else { return Ok(None) };
        let grid = [
            plan.slices.ceil_div(&plan.slices_per_group),
            plan.columns.ceil_div(&Dim::constant(GROUP_COLUMNS)),
            Dim::constant(1),
        ];
        Ok(Some(plain_interface(graph, dispatch, grid)))
    }

    // What meets in an element is combined in the order of the tuples, and all of it is its row's.
    fn prove_exact(&self, _: &Computation<'_>) -> Exactness {
        Ok(())
    }

    fn emit(&self, site: &Site<'_, '_>) -> Result<(), KernelError> {
        let plan = site.planned(Plan::new(site.graph, site.dispatch, site.target))?;
        Function::emit(site, false, |f, b| plan.emit(f, b))
    }
}

struct Plan {
    function: ScatterFn,
    data: ValueId,
    indices: ValueId,
    updates: ValueId,
    /// How many indices name a slice.
    coordinates: usize,
    slices: Dim,
    slices_per_group: Dim,
    /// Elements of a slice.
    columns: Dim,
    lanes: usize,
    /// Consecutive columns of an update are consecutive in memory.
    dense: bool,
}

impl Plan {
    fn new(graph: &Graph, dispatch: &Dispatch, target: &CpuTarget) -> Option<Self> {
        let root = &graph.nodes[dispatch.root.index()];
        let (Op::ScatterNd { function }, &[data, indices, updates]) = (&root.op, root.operands.as_slice())
        else {
            return None;
        };
        let ty = &graph.values[data.index()].ty;
        let (coordinates, outer) = graph.values[indices.index()].ty.shape.split_last()?;
        let coordinates = usize::try_from(coordinates.as_static()?).ok()?;
        let (slices, columns) = (product(&ty.shape[..coordinates]), product(&ty.shape[coordinates..]));
        let one = Dim::constant(1);
        let owned = product(outer).floor_div(&Dim::constant(TUPLES_PER_ELEMENT));
        let owned = owned.maximum(&Dim::constant(GROUP_ELEMENTS));
        let width = columns.minimum(&Dim::constant(GROUP_COLUMNS)).maximum(&one);
        let slices_per_group = owned.floor_div(&width).maximum(&one);
        let last = outer.len() + ty.shape.len() - coordinates;
        let inner = ty.shape.len() - coordinates;
        let dense = producer(graph, dispatch, updates).is_none();
        let smooth = dense || (inner == 1 && is_smooth(graph, dispatch, updates, last - 1));
        let bits = register_bits(ty.dtype);
        let lanes = if smooth && columns.as_static() != Some(1) { target.lanes(bits) } else { 1 };
        Some(Self {
            function: *function,
            data,
            indices,
            updates,
            coordinates,
            slices,
            slices_per_group,
            columns,
            lanes,
            dense,
        })
    }

    fn emit<'m>(&self, f: &Function<'_, 'm>, b: &Builder<'m>) {
        let per_group = f.dim(&self.slices_per_group);
        let first = b.muli(f.group[0], per_group);
        let end = b.minsi(b.addi(first, per_group), f.dim(&self.slices));
        let columns = f.dim(&self.columns);
        let start = b.muli(f.group[1], b.index(GROUP_COLUMNS));
        let stop = b.minsi(b.addi(start, b.index(GROUP_COLUMNS)), columns);
        let part = Part { first, end, start, stop };
        // Memory that is shared holds the data already.
        b.if_else(
            f.is_shared(b, self.data, f.output()),
            &[],
            |_| Vec::new(),
            |b| {
                self.copy(f, b, &part);
                Vec::new()
            },
        );
        let outer = outer_shape(f, self.indices);
        b.for_each(b.index(0), f.dim(&product(outer)), |b, tuple| {
            let axes = f.split_index(b, tuple, outer);
            let (slice, inside) = self.find(f, b, &axes);
            let after = b.cmpi(Compare::SignedGe, slice, part.first);
            let before = b.cmpi(Compare::SignedLt, slice, part.end);
            let own = b.andi(inside, b.andi(after, before));
            b.if_then(own, |b| self.combine(f, b, &part, tuple, &axes, slice));
        });
    }

    fn copy<'m>(&self, f: &Function<'_, 'm>, b: &Builder<'m>, part: &Part<'m>) {
        let lanes = self.lanes.max(4);
        let copy = |b: &Builder<'m>, from: Value<'m>, to: Value<'m>| {
            in_lanes(b, from, to, lanes, &mut |b, index, mask| {
                let point = Point::linear(Axis::along(index), lanes, mask);
                let register = f.eval_lanes(b, self.data, &point, &mut Known::default());
                f.write(b, f.output(), index, register, mask);
            });
        };
        let columns = f.dim(&self.columns);
        if self.columns.as_static().is_some_and(|n| n <= GROUP_COLUMNS) {
            return copy(b, b.muli(part.first, columns), b.muli(part.end, columns));
        }
        b.for_each(part.first, part.end, |b, slice| {
            let base = b.muli(slice, columns);
            copy(b, b.addi(base, part.start), b.addi(base, part.stop));
        });
    }

    /// The slice that the indices at `axes` name, and whether there is one.
    fn find<'m>(&self, f: &Function<'_, 'm>, b: &Builder<'m>, axes: &[Axis<'m>]) -> (Value<'m>, Value<'m>) {
        let (mut slice, mut inside) = (b.index(0), b.bool(true));
        for c in 0..self.coordinates {
            let mut at = axes.to_vec();
            at.push(Axis::at(b.index(c as i64)));
            let index = f.eval(b, self.indices, &Point::axes(at, 1, None), &mut Known::default());
            let index = b.index_cast(index, b.index_type());
            let size = f.dim(&f.shape(self.data)[c]);
            let negative = b.cmpi(Compare::SignedLt, index, b.index(0));
            let index = b.select(negative, b.addi(index, size), index);
            inside = b.andi(inside, b.cmpi(Compare::UnsignedLt, index, size));
            slice = b.addi(b.muli(slice, size), index);
        }
        (slice, inside)
    }

    fn combine<'m>(
        &self,
        f: &Function<'_, 'm>,
        b: &Builder<'m>,
        part: &Part<'m>,
        tuple: Value<'m>,
        axes: &[Axis<'m>],
        slice: Value<'m>,
    ) {
        let columns = f.dim(&self.columns);
        let (base, update_base) = (b.muli(slice, columns), b.muli(tuple, columns));
        let inner = &f.shape(self.data)[self.coordinates..];
        let mut combine = |b: &Builder<'m>, column: Value<'m>, mask: Option<Value<'m>>| {
            let point = if self.dense {
                Point::linear(Axis::along(b.addi(update_base, column)), self.lanes, mask)
            } else {
                let along = match inner {
                    [_] => vec![Axis::along(column)],
                    _ => f.split_index(b, column, inner),
                };
                Point::axes([axes, &along].concat(), self.lanes, mask)
            };
            let update = f.eval_lanes(b, self.updates, &point, &mut Known::default());
            let to = b.addi(base, column);
            let register = self.join(f, b, to, update, mask);
            f.write(b, f.output(), to, register, mask);
        };
        match self.columns.as_static() {
            Some(1) => combine(b, b.index(0), None),
            _ => in_lanes(b, part.start, part.stop, self.lanes, &mut combine),
        }
    }

    /// The update, combined with what stands at element `to`.
    fn join<'m>(
        &self,
        f: &Function<'_, 'm>,
        b: &Builder<'m>,
        to: Value<'m>,
        update: Value<'m>,
        mask: Option<Value<'m>>,
    ) -> Value<'m> {
        let function = match self.function {
            ScatterFn::Set => return update,
            ScatterFn::Add => BinaryFn::Add,
            ScatterFn::Mul => BinaryFn::Mul,
            ScatterFn::Max => BinaryFn::Max,
            ScatterFn::Min => BinaryFn::Min,
        };
        let Some(memref) = f.memory(f.output()) else { return update };
        let point = Point::linear(Axis::along(to), self.lanes, mask);
        let there = f.read(b, f.output(), memref, &point);
        f.eval_binary(b, f.root(), function, f.dtype(self.data), there, update)
    }
}

/// What one workgroup owns: a range of slices, and a range of their columns.
struct Part<'m> {
    first: Value<'m>,
    end: Value<'m>,
    start: Value<'m>,
    stop: Value<'m>,
}

fn outer_shape<'a>(f: &Function<'a, '_>, indices: ValueId) -> &'a [Dim] {
    f.shape(indices).split_last().map_or(&[], |(_, outer)| outer)
}
