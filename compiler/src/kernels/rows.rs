//! Reductions along the last axis: sums and extremes, softmax, layer normalisation.
//!
//! A workgroup takes some rows, and goes over each as often as the function needs, several vectors at a time. What
//! is read may be computed on the way, and what follows is computed before the store. Reductions that keep the last
//! axis need nothing of this: the generic family has lanes along what is kept.

mod fold;
mod normalize;

pub(super) use fold::halve;

use ired_graph::{DType, Dim, Graph, Op, ReduceFn, ValueId};
use ired_mlir::{Builder, FloatCompare, Type, Value};

use super::arithmetic::{cast, register_bits, register_type};
use super::eval::nested::{identity, loop_nest};
use super::eval::{Axis, Known, Place, Point};
use super::function::{Function, Site, line, plain_interface, product, workgroup_work};
use super::generic::cost;
use super::{Computation, Exactness, Family, KernelError};
use crate::dispatch::{Dispatch, KernelInterface};
use crate::targets::CpuTarget;

pub(super) struct Rows;

impl Family for Rows {
    fn name(&self) -> &'static str {
        "rows"
    }

    fn interface(
        &self,
        graph: &Graph,
        dispatch: &Dispatch,
        target: &CpuTarget,
    ) -> Result<Option<KernelInterface>, KernelError> {
        let Some(plan) = Plan::new(graph, dispatch, target) else { return Ok(None) };
        let groups = plan.rows.ceil_div(&Dim::constant(plan.rows_per_group));
        Ok(Some(plain_interface(graph, dispatch, line(groups))))
    }

    // A row of the operand is reduced by itself, in vectors from its beginning.
    fn prove_exact(&self, _: &Computation<'_>) -> Exactness {
        Ok(())
    }

    fn emit(&self, site: &Site<'_, '_>) -> Result<(), KernelError> {
        let plan = site.planned(Plan::new(site.graph, site.dispatch, site.target))?;
        Function::emit(site, false, |f, b| {
            f.for_own(b, plan.rows_per_group, &plan.rows, |b, row| emit_row(f, b, &plan, row));
        })
    }
}

/// How the reduced operand is walked.
struct Plan {
    operand: ValueId,
    /// Axes of the operand that number the rows.
    kept: Vec<usize>,
    /// Axes reduced besides the last.
    outer: Vec<usize>,
    rows: Dim,
    rows_per_group: i64,
    lanes: usize,
    /// What sums are kept in.
    sums: DType,
    /// The reduced axes follow each other in memory: a row is so many elements, whatever their axes.
    dense: bool,
}

impl Plan {
    fn new(graph: &Graph, dispatch: &Dispatch, target: &CpuTarget) -> Option<Self> {
        let root = &graph.nodes[dispatch.root.index()];
        let operand = *root.operands.first()?;
        let ty = &graph.values[operand.index()].ty;
        let last = ty.shape.len().checked_sub(1)?;
        let reduced: Vec<usize> = match &root.op {
            Op::Reduce { axes, .. } if axes.contains(&last) => axes.clone(),
            Op::Softmax { axis, .. } if *axis == last && ty.dtype.is_float() => vec![last],
            Op::LayerNorm { axis, .. } if ty.dtype.is_float() => (*axis..=last).collect(),
            _ => return None,
        };
        if dispatch.outputs.len() != 1 || ty.dtype.bits() < 8 {
            return None;
        }
        let kept: Vec<usize> = (0..=last).filter(|a| !reduced.contains(a)).collect();
        let outer: Vec<usize> = reduced.iter().copied().filter(|a| *a != last).collect();
        let rows = product(kept.iter().map(|a| &ty.shape[*a]));
        let mean_of_integers =
            matches!(root.op, Op::Reduce { function: ReduceFn::Mean, .. }) && ty.dtype.is_integer();
        let sums = if mean_of_integers { DType::I64 } else { ty.dtype };
        let computed = super::generic::producer(graph, dispatch, operand).is_some();
        let suffix = kept.iter().all(|k| *k < reduced[0]);
        let dense = !computed && suffix && matches!(root.op, Op::Reduce { .. });
        let bits = register_bits(sums);
        let length = reduced.iter().map(|a| ty.shape[*a].as_static().unwrap_or(256).max(1));
        let length: i64 = length.fold(1, i64::saturating_mul);
        let lanes = target.lanes(bits).max(2);
        let vectors = (length as u64).div_ceil(lanes as u64) as i64;
        let row_cost = match &root.op {
            // The cost of one element is that of its row.
            Op::Reduce { .. } => cost(graph, dispatch) / lanes as i64,
            _ => vectors.saturating_mul(30),
        };
        let row_cost = row_cost.max(8);
        let most = rows.as_static().unwrap_or(i64::MAX).max(1);
        let work = workgroup_work(rows.as_static().map(|rows| rows.saturating_mul(row_cost)));
        let rows_per_group = (work / row_cost).clamp(1, most.min(1 << 12));
        Some(Self { operand, kept, outer, rows, rows_per_group, lanes, sums, dense })
    }

    fn last(&self) -> usize {
        self.kept.len() + self.outer.len()
    }
}

fn emit_row<'m>(f: &Function<'_, 'm>, b: &Builder<'m>, plan: &Plan, number: Value<'m>) {
    let kept_shape: Vec<Dim> = plan.kept.iter().map(|a| f.shape(plan.operand)[*a].clone()).collect();
    let row = Row { f, plan, number, kept: f.split_index(b, number, &kept_shape) };
    match &f.root().op {
        Op::Reduce { function, .. } => row.emit_reduce(b, *function),
        Op::Softmax { log, .. } => normalize::emit_softmax(&row, b, *log),
        Op::LayerNorm { epsilon, .. } => normalize::emit_layer_norm(&row, b, *epsilon),
        _ => {}
    }
}

/// One row: everything that is reduced to one element, or normalised together.
struct Row<'f, 'a, 'm> {
    f: &'f Function<'a, 'm>,
    plan: &'f Plan,
    number: Value<'m>,
    /// Indices on the kept axes.
    kept: Vec<Axis<'m>>,
}

impl<'m> Row<'_, '_, 'm> {
    fn vector(&self, b: &Builder<'m>) -> Type<'m> {
        b.vector_type(self.plan.lanes, register_type(b, self.plan.sums))
    }

    /// Elements of the row.
    fn count(&self) -> Dim {
        let shape = self.f.shape(self.plan.operand);
        product(self.plan.outer.iter().map(|a| &shape[*a]).chain([&shape[self.plan.last()]]))
    }

    /// Ranges of the reduced axes besides the last, and the length of the last.
    fn extents(&self, b: &Builder<'m>) -> (Vec<(Value<'m>, Value<'m>)>, Value<'m>) {
        let (f, plan) = (self.f, self.plan);
        if plan.dense {
            return (Vec::new(), f.dim(&self.count()));
        }
        let shape = f.shape(plan.operand);
        let outer = plan.outer.iter().map(|a| (b.index(0), f.dim(&shape[*a]))).collect();
        (outer, f.dim(&shape[plan.last()]))
    }

    /// The point of consecutive elements from `index` on the last axis.
    fn point(
        &self,
        b: &Builder<'m>,
        outer: &[Value<'m>],
        index: Value<'m>,
        mask: Option<Value<'m>>,
    ) -> Point<'m> {
        let plan = self.plan;
        if plan.dense {
            let start = b.muli(self.number, self.f.dim(&self.count()));
            return Point::linear(Axis::along(b.addi(start, index)), plan.lanes, mask);
        }
        let mut axes = vec![Axis::along(index); plan.last() + 1];
        for (axis, at) in plan.kept.iter().zip(&self.kept) {
            axes[*axis] = *at;
        }
        for (axis, at) in plan.outer.iter().zip(outer) {
            axes[*axis] = Axis::at(*at);
        }
        Point { place: Place::Axes(axes), lanes: plan.lanes, mask }
    }

    /// Elements of the operand, in the type sums are kept in.
    fn read(&self, b: &Builder<'m>, point: &Point<'m>) -> Value<'m> {
        let (f, plan) = (self.f, self.plan);
        let x = f.eval_lanes(b, plan.operand, point, &mut Known::default());
        let own = f.dtype(plan.operand);
        if own == plan.sums { x } else { cast(b, own, plan.sums, x) }
    }

    /// Combines a value of every element of the row into one scalar.
    fn reduce(
        &self,
        b: &Builder<'m>,
        function: ReduceFn,
        unroll: usize,
        element: &dyn Fn(&Builder<'m>, &Point<'m>) -> Value<'m>,
    ) -> Value<'m> {
        let (f, plan) = (self.f, self.plan);
        let ty = self.vector(b);
        let start = identity(b, function, plan.sums, ty);
        let (outer, length) = self.extents(b);
        let combine = |b: &Builder<'m>, sum: Value<'m>, x: Value<'m>| {
            f.combine(b, f.root(), function, plan.sums, sum, x)
        };
        let sum = loop_nest(b, &outer, &[start], &mut |b, outer, sum| {
            let part = |b: &Builder<'m>, index: Value<'m>, mask: Option<Value<'m>>| {
                let x = element(b, &self.point(b, outer, index, mask));
                mask.map_or(x, |mask| b.select(mask, x, start))
            };
            vec![fold::fold(b, length, plan.lanes, unroll, sum[0], start, &part, &combine)]
        })[0];
        fold::across(b, function, plan.sums, sum)
    }

    /// The greatest element; any number or NaN if one is NaN.
    fn greatest(&self, b: &Builder<'m>) -> Value<'m> {
        let ty = self.vector(b);
        let start = identity(b, ReduceFn::Max, self.plan.sums, ty);
        let (outer, length) = self.extents(b);
        let greater =
            |b: &Builder<'m>, x: Value<'m>, y: Value<'m>| b.select(b.cmpf(FloatCompare::Gt, x, y), x, y);
        let vector = loop_nest(b, &outer, &[start], &mut |b, outer, sum| {
            let part = |b: &Builder<'m>, index: Value<'m>, mask: Option<Value<'m>>| {
                let x = self.read(b, &self.point(b, outer, index, mask));
                mask.map_or(x, |mask| b.select(mask, x, start))
            };
            vec![fold::fold(b, length, self.plan.lanes, 4, sum[0], start, &part, &greater)]
        })[0];
        fold::halve(b, vector, &greater)
    }

    fn emit_reduce(&self, b: &Builder<'m>, function: ReduceFn) {
        let (f, plan) = (self.f, self.plan);
        let sum = self.reduce(b, function, 4, &|b, point| self.read(b, point));
        let result = f.root().results[0];
        let value = f.finish(b, function, plan.sums, sum, &self.count());
        let own = f.dtype(result);
        let value = if own == plan.sums { value } else { cast(b, plan.sums, own, value) };
        let point = Point::axes(self.kept.clone(), 1, None);
        let mut known = Known::bind(result, value);
        let register = f.eval(b, f.output(), &point, &mut known);
        f.write(b, f.output(), self.number, register, None);
    }

    /// Stores a value of every element of a row whose shape the output shares.
    fn store(&self, b: &Builder<'m>, element: &dyn Fn(&Builder<'m>, &Point<'m>) -> Value<'m>) {
        let (f, plan) = (self.f, self.plan);
        let result = f.root().results[0];
        let (outer, length) = self.extents(b);
        loop_nest(b, &outer, &[], &mut |b, outer, _| {
            super::generic::in_lanes(b, b.index(0), length, plan.lanes, &mut |b, index, mask| {
                let point = self.point(b, outer, index, mask);
                let mut known = Known::bind(result, element(b, &point));
                let register = f.eval_lanes(b, f.output(), &point, &mut known);
                let (offset, _) = f.offset(b, result, &point);
                f.write(b, f.output(), offset, register, mask);
            });
            Vec::new()
        });
    }
}
