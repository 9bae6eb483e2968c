//! Any dispatch at all: a loop over the elements of its output, each evaluated by itself.
//!
//! Elementwise chains and index maps are at full speed here. Several elements along the last axis are computed at
//! once where everything they read is consecutive, or the same for all of them.

mod lanes;

pub(super) use lanes::is_smooth;

use std::collections::HashSet;

use ired_graph::{BinaryFn, Dim, Graph, Node, Op, UnaryFn, ValueId};
use ired_mlir::{Builder, Compare, Value};

use super::eval::{Axis, Known, Point, repetitions, spread};
use super::function::{Function, Site, line, plain_interface, product, workgroup_work};
use super::{Computation, Exactness, Family, KernelError};
use crate::dispatch::{Dispatch, KernelInterface};
use crate::targets::CpuTarget;

pub(super) struct Generic;

impl Family for Generic {
    fn name(&self) -> &'static str {
        "generic"
    }

    fn interface(
        &self,
        graph: &Graph,
        dispatch: &Dispatch,
        target: &CpuTarget,
    ) -> Result<Option<KernelInterface>, KernelError> {
        let plan = Plan::new(graph, dispatch, target)?;
        let groups = plan.rows.ceil_div(&Dim::constant(plan.rows_per_group));
        Ok(Some(plain_interface(graph, dispatch, line(groups))))
    }

    // Each element is computed by itself; vectors that are not full compute as others do.
    fn prove_exact(&self, _: &Computation<'_>) -> Exactness {
        Ok(())
    }

    fn emit(&self, site: &Site<'_, '_>) -> Result<(), KernelError> {
        let plan = Plan::new(site.graph, site.dispatch, site.target)?;
        Function::emit(site, plan.lanes == 1, |f, b| plan.emit(f, b))
    }
}

/// How the output is walked.
struct Plan {
    /// Rows are walked one after another; in a row, lanes at a time.
    rows: Dim,
    row_length: Dim,
    /// The output is one row, whatever its shape, and elements are known by their number.
    linear: bool,
    lanes: usize,
    rows_per_group: i64,
    /// Elements of one byte, which are written together: no two rows share a byte.
    per_byte: i64,
}

impl Plan {
    fn new(graph: &Graph, dispatch: &Dispatch, target: &CpuTarget) -> Result<Self, KernelError> {
        let output = *dispatch.outputs.first().ok_or(KernelError::NoOutput)?;
        let shape = &graph.values[output.index()].ty.shape;
        let linear = is_linear(graph, dispatch);
        let lanes = lanes::choose(graph, dispatch, target, linear);
        let cost = cost(graph, dispatch);
        let per_byte = (8 / graph.ty(output).dtype.bits() as i64).max(1);
        if linear || per_byte > 1 {
            // Rows of a fixed length, the last one shorter.
            let all = product(shape);
            let vectors = all.as_static().map(|elements| elements / lanes as i64);
            let work = workgroup_work(vectors.map(|vectors| vectors.saturating_mul(cost)));
            let row = (work * lanes as i64 / cost).clamp(lanes as i64, 1 << 20);
            let step = per_byte.max(lanes as i64);
            let row = (row / step * step).max(step);
            let rows = all.ceil_div(&Dim::constant(row));
            let row_length = Dim::constant(row);
            return Ok(Self { rows, row_length, linear, lanes, rows_per_group: 1, per_byte });
        }
        let (last, outer) = match shape.split_last() {
            Some((last, outer)) => (last.clone(), product(outer)),
            None => (Dim::constant(1), Dim::constant(1)),
        };
        let length = last.as_static().unwrap_or(256).max(1);
        let row_cost = (length as u64).div_ceil(lanes as u64) as i64 * cost;
        let work = workgroup_work(outer.as_static().map(|rows| rows.saturating_mul(row_cost)));
        let rows_per_group = (work / row_cost.max(1)).clamp(1, 1 << 20);
        let rows_per_group = match outer.as_static() {
            Some(rows) => rows_per_group.min(rows.max(1)),
            None => rows_per_group,
        };
        Ok(Self { rows: outer, row_length: last, linear, lanes, rows_per_group, per_byte })
    }

    fn emit<'m>(&self, f: &Function<'_, 'm>, b: &Builder<'m>) {
        let whole_bytes = self.per_byte == 1;
        if let [lines @ .., inner, _] = f.shape(f.output()).as_slice()
            && whole_bytes
            && !self.linear
            && self.rows.as_static().is_none()
        {
            return self.emit_lines(f, b, lines, inner);
        }
        f.for_own(b, self.rows_per_group, &self.rows, |b, row| {
            if self.per_byte > 1 {
                self.emit_packed_row(f, b, row)
            } else if self.linear {
                self.emit_linear_row(f, b, row)
            } else {
                self.emit_row(f, b, row)
            }
        });
    }

    fn emit_linear_row<'m>(&self, f: &Function<'_, 'm>, b: &Builder<'m>, row: Value<'m>) {
        let length = f.dim(&self.row_length);
        let start = b.muli(row, length);
        let end = b.minsi(b.addi(start, length), f.dim(&product(f.shape(f.output()))));
        in_lanes(b, start, end, self.lanes, &mut |b, index, mask| {
            self.store(f, b, &Point::linear(Axis::along(index), self.lanes, mask), index);
        });
    }

    fn emit_row<'m>(&self, f: &Function<'_, 'm>, b: &Builder<'m>, row: Value<'m>) {
        let Some((_, outer)) = f.shape(f.output()).split_last() else {
            return self.store(f, b, &Point::scalar(&[]), b.index(0));
        };
        self.emit_row_at(f, b, row, &f.split_index(b, row, outer));
    }

    /// The workgroup's rows, line by line of those that differ in one index: to divide by a size that only the run
    /// knows takes long, and is done once a line.
    fn emit_lines<'m>(&self, f: &Function<'_, 'm>, b: &Builder<'m>, lines: &[Dim], inner: &Dim) {
        let (first, end) = f.own_range(b, self.rows_per_group, &self.rows);
        let size = f.dim(inner);
        b.for_each(b.divui(first, size), b.ceil_div(end, size), |b, line| {
            let start = b.muli(line, size);
            let from = b.maxsi(b.subi(first, start), b.index(0));
            let to = b.minsi(b.subi(end, start), size);
            let outer = f.split_index(b, line, lines);
            b.for_each(from, to, |b, at| {
                let outer = [outer.as_slice(), &[Axis::at(at)]].concat();
                self.emit_row_at(f, b, b.addi(start, at), &outer);
            });
        });
    }

    fn emit_row_at<'m>(&self, f: &Function<'_, 'm>, b: &Builder<'m>, row: Value<'m>, outer: &[Axis<'m>]) {
        let length = f.dim(&self.row_length);
        let start = b.muli(row, length);
        in_lanes(b, b.index(0), length, self.lanes, &mut |b, index, mask| {
            let mut axes = outer.to_vec();
            axes.push(Axis::along(index));
            self.store(f, b, &Point::axes(axes, self.lanes, mask), b.addi(start, index));
        });
    }

    /// A row of whole bytes, but for the last of all.
    fn emit_packed_row<'m>(&self, f: &Function<'_, 'm>, b: &Builder<'m>, row: Value<'m>) {
        let (length, output, shape) = (f.dim(&self.row_length), f.output(), f.shape(f.output()));
        let (per_byte, count) = (b.index(self.per_byte), f.dim(&product(shape)));
        let start = b.muli(row, length);
        let end = b.minsi(b.addi(start, length), count);
        let last = b.subi(count, b.index(1));
        let first_byte = b.divui(start, per_byte);
        let end_byte = b.divui(b.addi(end, b.index(self.per_byte - 1)), per_byte);
        b.for_each(first_byte, end_byte, |b, byte| {
            let first = b.muli(byte, per_byte);
            let elements: Vec<_> = (0..self.per_byte)
                .map(|i| {
                    let number = b.addi(first, b.index(i));
                    let inside = b.cmpi(Compare::SignedLt, number, count);
                    let index = b.minsi(number, last);
                    let point = match self.linear {
                        true => Point::linear(Axis::at(index), 1, None),
                        false => Point::axes(f.split_index(b, index, shape), 1, None),
                    };
                    let storage = f.eval_storage(b, output, &point, &mut Known::default());
                    b.select(inside, storage, b.integer(storage.ty(), 0))
                })
                .collect();
            f.write_packed(b, output, byte, &elements);
        });
    }

    fn store<'m>(&self, f: &Function<'_, 'm>, b: &Builder<'m>, point: &Point<'m>, number: Value<'m>) {
        let mut known = Known::default();
        for output in &f.dispatch.outputs {
            let storage = f.eval_storage(b, *output, point, &mut known);
            f.write_storage(b, *output, number, spread(b, storage, point.lanes), point.mask);
        }
    }
}

/// Whether elements can be known by their row-major number alone: no node cares for axes.
fn is_linear(graph: &Graph, dispatch: &Dispatch) -> bool {
    let one = |v: ValueId| product(&graph.values[v.index()].ty.shape).as_static() == Some(1);
    let elements = |v: ValueId| product(&graph.values[v.index()].ty.shape);
    let Some(output) = dispatch.outputs.first() else { return true };
    // Values, and how many elements they have where they are read by the same number.
    let mut wanted: Vec<(ValueId, Dim)> =
        dispatch.outputs.iter().map(|value| (*value, elements(*output))).collect();
    let mut seen = HashSet::new();
    while let Some((value, count)) = wanted.pop() {
        let Some(node) = producer(graph, dispatch, value) else { continue };
        if elements(value) != count {
            return false;
        }
        if !seen.insert(value) {
            continue;
        }
        let operands = node.operands.iter();
        match &node.op {
            op if op.is_elementwise() => wanted.extend(operands.map(|v| (*v, count.clone()))),
            Op::Reshape { .. } => wanted.extend(operands.map(|v| (*v, count.clone()))),
            Op::Constant(_) | Op::Dims { .. } => {}
            Op::Broadcast { .. } if one(node.operands[0]) => {}
            Op::Broadcast { .. } if repetitions(graph, node.operands[0], value).is_some() => {
                wanted.extend(operands.map(|v| (*v, elements(*v))));
            }
            _ => return false,
        }
    }
    true
}

pub(super) fn producer<'g>(graph: &'g Graph, dispatch: &Dispatch, value: ValueId) -> Option<&'g Node> {
    let nodes = dispatch.nodes.iter().map(|id| &graph.nodes[id.index()]);
    nodes.into_iter().find(|node| node.results.contains(&value))
}

/// Estimated instructions for one element, or one vector of them.
pub(super) fn cost(graph: &Graph, dispatch: &Dispatch) -> i64 {
    let nodes = dispatch.nodes.iter().map(|id| cost_of(graph, &graph.nodes[id.index()]));
    nodes.fold(1 + dispatch.inputs.len() as i64, i64::saturating_add)
}

fn cost_of(graph: &Graph, node: &Node) -> i64 {
    let shape = |operand: usize| &graph.values[node.operands[operand].index()].ty.shape;
    let size = |dim: &Dim| dim.as_static().unwrap_or(256).max(1);
    match &node.op {
        Op::Unary(UnaryFn::Abs | UnaryFn::Neg | UnaryFn::Not | UnaryFn::Floor | UnaryFn::Ceil) => 1,
        Op::Unary(_) => 16,
        Op::Binary(BinaryFn::Pow) => 64,
        Op::Binary(BinaryFn::Div | BinaryFn::Rem | BinaryFn::Mod) => 8,
        Op::Reduce { axes, .. } => axes.iter().map(|a| size(&shape(0)[*a])).product(),
        Op::ArgReduce { axis, .. } => size(&shape(0)[*axis]) * 2,
        Op::Softmax { axis, .. } => size(&shape(0)[*axis]) * 20,
        Op::LayerNorm { axis, .. } => shape(0)[*axis..].iter().map(size).product::<i64>() * 4,
        Op::MatMul => shape(0).last().map_or(1, size) * 2,
        Op::Conv { .. } => shape(1)[1..].iter().map(size).product::<i64>() * 2,
        Op::Pool { window, .. } => window.extent.iter().product::<u64>() as i64 * 2,
        _ => 1,
    }
}

/// Runs `body` on `start..end`, `lanes` indices at a time; the rest that does not fill them comes with a mask.
pub(super) fn in_lanes<'m>(
    b: &Builder<'m>,
    start: Value<'m>,
    end: Value<'m>,
    lanes: usize,
    body: &mut dyn FnMut(&Builder<'m>, Value<'m>, Option<Value<'m>>),
) {
    if lanes == 1 {
        return b.for_each(start, end, |b, index| body(b, index, None));
    }
    let step = b.index(lanes as i64);
    let count = b.subi(end, start);
    let rest = b.remui(b.maxsi(count, b.index(0)), step);
    let full = b.subi(end, rest);
    let none = b.known(full).is_some() && b.known(full) == b.known(start);
    if !none {
        b.for_loop(start, full, step, &[], |b, index, _| {
            body(b, index, None);
            Vec::new()
        });
    }
    if b.known(rest) == Some(0) {
        return;
    }
    b.if_then(b.cmpi(Compare::SignedGt, rest, b.index(0)), |b| {
        let mask = b.mask(rest, lanes);
        body(b, full, Some(mask));
    });
}
