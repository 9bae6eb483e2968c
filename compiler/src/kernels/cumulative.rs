//! Running sums and products: along the last axis an element after the other, along any other one a vector of
//! columns after the other.

use ired_graph::{BinaryFn, CumulativeFn, Dim, Graph, Op, ValueId};
use ired_mlir::{Builder, Compare, Value};

use super::arithmetic::{register_bits, register_type};
use super::eval::{Axis, Known, Point};
use super::function::{Function, Site, line, plain_interface, product};
use super::generic::{cost, is_smooth};
use super::{Computation, Exactness, Family, KernelError};
use crate::dispatch::{Dispatch, KernelInterface};
use crate::targets::CpuTarget;

pub(super) struct Cumulative;

/// Work of one workgroup, in estimated instructions: some ten microseconds.
const WORKGROUP_WORK: i64 = 1 << 15;

impl Family for Cumulative {
    fn name(&self) -> &'static str {
        "cumulative"
    }

    fn interface(
        &self,
        graph: &Graph,
        dispatch: &Dispatch,
        target: &CpuTarget,
    ) -> Result<Option<KernelInterface>, KernelError> {
        let Some(plan) = Plan::new(graph, dispatch, target) else { return Ok(None) };
        let groups = product(&plan.lines).ceil_div(&Dim::constant(plan.lines_per_group));
        Ok(Some(plain_interface(graph, dispatch, line(groups))))
    }

    // A line is walked by itself, from its beginning.
    fn prove_exact(&self, _: &Computation<'_>) -> Exactness {
        Ok(())
    }

    fn emit(&self, site: &Site<'_, '_>) -> Result<(), KernelError> {
        let plan = site.planned(Plan::new(site.graph, site.dispatch, site.target))?;
        Function::emit(site, false, |f, b| {
            let lines = product(&plan.lines);
            f.for_own(b, plan.lines_per_group, &lines, |b, line| plan.emit_lines(f, b, line));
        })
    }
}

struct Plan {
    operand: ValueId,
    function: CumulativeFn,
    axis: usize,
    exclusive: bool,
    reverse: bool,
    /// Neighbouring lines, along the last axis, that are walked together.
    lanes: usize,
    /// The operand's shape with 1 along the axis, and the last axis counted in vectors of lines.
    lines: Vec<Dim>,
    lines_per_group: i64,
}

impl Plan {
    fn new(graph: &Graph, dispatch: &Dispatch, target: &CpuTarget) -> Option<Self> {
        let root = &graph.nodes[dispatch.root.index()];
        let Op::Cumulative { function, axis, exclusive, reverse } = root.op else { return None };
        let operand = root.operands[0];
        let ty = &graph.values[operand.index()].ty;
        let last = ty.shape.len() - 1;
        let bits = register_bits(ty.dtype);
        let whole = dispatch.outputs.iter().all(|v| graph.values[v.index()].ty.dtype.bits() >= 8);
        let lanes = match axis == last || !whole || !is_smooth(graph, dispatch, operand, last) {
            true => 1,
            false => target.lanes(bits),
        };
        let mut lines = ty.shape.clone();
        lines[axis] = Dim::constant(1);
        if axis != last {
            lines[last] = lines[last].ceil_div(&Dim::constant(lanes as i64));
        }
        let length = ty.shape[axis].as_static().unwrap_or(256).max(1);
        let line_cost = length.saturating_mul(cost(graph, dispatch).max(4));
        let lines_per_group = (WORKGROUP_WORK / line_cost).max(1);
        Some(Self { operand, function, axis, exclusive, reverse, lanes, lines, lines_per_group })
    }

    fn emit_lines<'m>(&self, f: &Function<'_, 'm>, b: &Builder<'m>, number: Value<'m>) {
        let mut axes = f.split_index(b, number, &self.lines);
        let last = axes.len() - 1;
        if self.lanes == 1 {
            return self.emit_line(f, b, &axes, None);
        }
        let size = b.index(self.lanes as i64);
        let start = b.muli(axes[last].base, size);
        axes[last] = Axis::along(start);
        let left = b.subi(f.dim(&f.shape(self.operand)[last]), start);
        let whole = b.cmpi(Compare::SignedGe, left, size);
        b.if_else(
            whole,
            &[],
            |b| {
                self.emit_line(f, b, &axes, None);
                Vec::new()
            },
            |b| {
                self.emit_line(f, b, &axes, Some(b.mask(left, self.lanes)));
                Vec::new()
            },
        );
    }

    /// The lines through `axes`, whose index along the axis itself is left open.
    fn emit_line<'m>(
        &self,
        f: &Function<'_, 'm>,
        b: &Builder<'m>,
        axes: &[Axis<'m>],
        mask: Option<Value<'m>>,
    ) {
        let dtype = f.dtype(self.operand);
        let element = register_type(b, dtype);
        let ty = if self.lanes > 1 { b.vector_type(self.lanes, element) } else { element };
        let (join, start) = match self.function {
            CumulativeFn::Sum => (BinaryFn::Add, 0),
            CumulativeFn::Product => (BinaryFn::Mul, 1),
        };
        let start = if ty.is_float() { b.float(ty, f64::from(start)) } else { b.integer(ty, start.into()) };
        let length = f.dim(&f.shape(self.operand)[self.axis]);
        let result = f.root().results[0];
        b.for_loop(b.index(0), length, b.index(1), &[start], |b, i, carried| {
            let i = if self.reverse { b.subi(b.subi(length, b.index(1)), i) } else { i };
            let mut axes = axes.to_vec();
            axes[self.axis] = Axis::at(i);
            let point = Point::axes(axes, self.lanes, mask);
            let x = f.eval_lanes(b, self.operand, &point, &mut Known::default());
            let next = f.eval_binary(b, f.root(), join, dtype, carried[0], x);
            let mut known = Known::bind(result, if self.exclusive { carried[0] } else { next });
            let register = f.eval_lanes(b, f.output(), &point, &mut known);
            let (offset, _) = f.offset(b, result, &point);
            f.write(b, f.output(), offset, register, mask);
            vec![next]
        });
    }
}
