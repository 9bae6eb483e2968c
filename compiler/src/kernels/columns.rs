//! Softmax along an axis that others follow: lanes lie along the last axis, whose elements are normalised apart.
//!
//! What a column is normalised by is found once, in two walks along it; a third computes its elements and stores them.

use ired_graph::{Dim, Graph, Op, ValueId};
use ired_mlir::{Builder, Value};

use super::arithmetic::{register_bits, register_type};
use super::eval::nested::SoftmaxScale;
use super::eval::{Axis, Known, Point};
use super::function::{Function, Site, line, plain_interface, product, workgroup_work};
use super::generic::{in_lanes, is_smooth};
use super::{Computation, Exactness, Family, KernelError};
use crate::dispatch::{Dispatch, KernelInterface};
use crate::targets::CpuTarget;

pub(super) struct Columns;

impl Family for Columns {
    fn name(&self) -> &'static str {
        "columns"
    }

    fn interface(
        &self,
        graph: &Graph,
        dispatch: &Dispatch,
        target: &CpuTarget,
    ) -> Result<Option<KernelInterface>, KernelError> {
        let Some(plan) = Plan::new(graph, dispatch, target) else { return Ok(None) };
        Ok(Some(plain_interface(graph, dispatch, line(product(&plan.outer) * plan.blocks()))))
    }

    // A column is normalised by itself, from its beginning; vectors that are not full compute as others do.
    fn prove_exact(&self, _: &Computation<'_>) -> Exactness {
        Ok(())
    }

    fn emit(&self, site: &Site<'_, '_>) -> Result<(), KernelError> {
        let plan = site.planned(Plan::new(site.graph, site.dispatch, site.target))?;
        Function::emit(site, false, |f, b| plan.emit(f, b))
    }
}

struct Plan {
    operand: ValueId,
    axis: usize,
    log: bool,
    /// Sizes of the axes but the softmax's own and the last, and of the last.
    outer: Vec<Dim>,
    last: Dim,
    lanes: usize,
    /// Elements of the last axis that a workgroup takes.
    block: i64,
}

/// Elements of the last axis that are worth a vector.
const LEAST_LAST: i64 = 4;
/// Estimated instructions for a vector: two exponential functions and a division.
const COST: i64 = 60;

impl Plan {
    fn new(graph: &Graph, dispatch: &Dispatch, target: &CpuTarget) -> Option<Self> {
        let root = graph.node(dispatch.root);
        let Op::Softmax { axis, log } = root.op else { return None };
        let operand = root.operands[0];
        let (ty, output) = (graph.ty(operand), *dispatch.outputs.first()?);
        let (last, before) = ty.shape.split_last()?;
        let fits = axis < before.len()
            && ty.dtype.is_float()
            && dispatch.outputs.len() == 1
            && graph.ty(output).shape == ty.shape
            && last.as_static().is_none_or(|size| size >= LEAST_LAST)
            && is_smooth(graph, dispatch, output, before.len());
        if !fits {
            return None;
        }
        let lanes = target.lanes(register_bits(ty.dtype)).max(2);
        let outer: Vec<Dim> = (0..before.len()).filter(|a| *a != axis).map(|a| before[a].clone()).collect();
        let column_cost = before[axis].as_static().unwrap_or(64).max(1).saturating_mul(COST);
        let vectors = product(outer.iter().chain([last])).as_static().map(|all| all / lanes as i64 + 1);
        let work = workgroup_work(vectors.map(|vectors| vectors.saturating_mul(column_cost)));
        let block = (work / column_cost).clamp(1, 1 << 10) * lanes as i64;
        Some(Self { operand, axis, log, outer, last: last.clone(), lanes, block })
    }

    /// Workgroups that share out the last axis.
    fn blocks(&self) -> Dim {
        self.last.ceil_div(&Dim::constant(self.block))
    }

    fn emit<'m>(&self, f: &Function<'_, 'm>, b: &Builder<'m>) {
        let blocks = f.dim(&self.blocks());
        let mut outer = f.split_index(b, b.divui(f.group[0], blocks), &self.outer);
        outer.insert(self.axis, Axis::at(b.index(0)));
        let start = b.muli(b.remui(f.group[0], blocks), b.index(self.block));
        let end = b.minsi(b.addi(start, b.index(self.block)), f.dim(&self.last));
        in_lanes(b, start, end, self.lanes, &mut |b, index, mask| {
            self.emit_columns(f, b, &outer, index, mask);
        });
    }

    /// A vector of columns, from `index` of the last axis on.
    fn emit_columns<'m>(
        &self,
        f: &Function<'_, 'm>,
        b: &Builder<'m>,
        outer: &[Axis<'m>],
        index: Value<'m>,
        mask: Option<Value<'m>>,
    ) {
        let (operand, result) = (self.operand, f.root().results[0]);
        let point = |at: Value<'m>| {
            let mut axes = outer.to_vec();
            axes[self.axis] = Axis::at(at);
            axes.push(Axis::along(index));
            Point::axes(axes, self.lanes, mask)
        };
        let read =
            |b: &Builder<'m>, at: Value<'m>| f.eval_lanes(b, operand, &point(at), &mut Known::default());
        let dtype = f.dtype(operand);
        let ty = b.vector_type(self.lanes, register_type(b, dtype));
        let count = f.dim(&f.shape(operand)[self.axis]);
        let scale = SoftmaxScale::of(b, ty, count, &read, dtype);
        b.for_each(b.index(0), count, |b, at| {
            let x = scale.apply(b, read(b, at), self.log);
            let point = point(at);
            let register = f.eval_lanes(b, f.output(), &point, &mut Known::bind(result, x));
            let (offset, _) = f.offset(b, result, &point);
            f.write(b, f.output(), offset, register, mask);
        });
    }
}
