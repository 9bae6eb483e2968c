//! Sorting: each row by itself, in memory of the workgroup's own.
//!
//! Elements become unsigned integers of the same order; what is sorted is those and the positions they came with. Long
//! rows go byte by byte, from the last to the first, into as many bins as a byte has values: each pass keeps the order
//! within a bin, and one that finds a single bin is left out. Short rows are sorted by insertion.

use ired_graph::{DType, Dim, Graph, Op, ValueId};
use ired_mlir::{Builder, Compare, FloatCompare, Type, Value};

use super::arithmetic::to_storage;
use super::eval::{Axis, Known, Point};
use super::function::{Function, Site, line, plain_interface, product};
use super::{Computation, Exactness, Family, KernelError};
use crate::dispatch::{Binding, Dispatch, KernelInterface};
use crate::targets::CpuTarget;

pub(super) struct Sort;

/// Instructions of one workgroup, estimated: some ten microseconds.
const WORKGROUP_WORK: i64 = 1 << 16;
/// Workgroups at most: each has memory for one row.
const MOST_GROUPS: i64 = 64;
/// Rows up to this length are sorted by insertion.
const SHORT: i64 = 32;
const BINS: i64 = 256;

impl Family for Sort {
    fn name(&self) -> &'static str {
        "sort"
    }

    fn interface(
        &self,
        graph: &Graph,
        dispatch: &Dispatch,
        _: &CpuTarget,
    ) -> Result<Option<KernelInterface>, KernelError> {
        let Some(plan) = Plan::new(graph, dispatch) else { return Ok(None) };
        // Each workgroup sorts from one half of its memory into the other.
        let elements = plan.groups.clone() * plan.length.clone() * Dim::constant(2);
        let keys = Binding::Scratch { bytes: elements.clone() * Dim::constant(plan.key_bits() / 8) };
        let positions = Binding::Scratch { bytes: elements * Dim::constant(8) };
        let mut interface = plain_interface(graph, dispatch, line(plan.groups));
        interface.bindings.extend([keys, positions]);
        Ok(Some(interface))
    }

    // A line is sorted by itself, and nothing is rounded.
    fn prove_exact(&self, _: &Computation<'_>) -> Exactness {
        Ok(())
    }

    fn emit(&self, site: &Site<'_, '_>) -> Result<(), KernelError> {
        let plan = site.planned(Plan::new(site.graph, site.dispatch))?;
        Function::emit(site, false, |f, b| plan.emit(f, b))
    }
}

struct Plan {
    operand: ValueId,
    dtype: DType,
    axis: usize,
    descending: bool,
    length: Dim,
    /// The operand's shape with 1 along the axis.
    rows: Vec<Dim>,
    groups: Dim,
}

impl Plan {
    fn new(graph: &Graph, dispatch: &Dispatch) -> Option<Self> {
        let root = &graph.nodes[dispatch.root.index()];
        let Op::Sort { axis, descending } = root.op else { return None };
        let operand = root.operands[0];
        let ty = &graph.values[operand.index()].ty;
        let length = ty.shape[axis].clone();
        let mut rows = ty.shape.clone();
        rows[axis] = Dim::constant(1);
        let passes = 2 * ty.dtype.bits().div_ceil(8) as i64;
        let row_work = length.as_static().unwrap_or(256).max(1).saturating_mul(passes * 4);
        let rows_per_group = Dim::constant((WORKGROUP_WORK / row_work).max(1));
        let groups = product(&rows).ceil_div(&rows_per_group).minimum(&Dim::constant(MOST_GROUPS));
        Some(Self { operand, dtype: ty.dtype, axis, descending, length, rows, groups })
    }

    fn key_bits(&self) -> i64 {
        self.dtype.bits().max(8) as i64
    }

    fn emit<'m>(&self, f: &Function<'_, 'm>, b: &Builder<'m>) {
        let all = product(&self.rows);
        let length = f.dim(&self.length);
        let key_type = b.int_type(self.key_bits() as usize);
        let row = Row {
            keys: f.scratch(b, 0, key_type),
            positions: f.scratch(b, 1, b.int_type(64)),
            bins: b.stack_array(BINS as usize, b.index_type(), 64),
            first: b.muli(f.group[0], b.muli(length, b.index(2))),
            length,
            key_type,
        };
        let per_group = f.dim(&all.ceil_div(&self.groups.maximum(&Dim::constant(1))));
        let start = b.muli(f.group[0], per_group);
        let end = b.minsi(b.addi(start, per_group), f.dim(&all));
        b.for_each(start, end, |b, number| {
            let axes = f.split_index(b, number, &self.rows);
            self.fill(f, b, &row, &axes);
            let sorted = match self.length.as_static() {
                Some(n) if n <= SHORT => row.insert(b),
                Some(_) => row.distribute(b),
                None => {
                    let short = b.cmpi(Compare::SignedLe, length, b.index(SHORT));
                    b.if_else(short, &[b.index_type()], |b| vec![row.insert(b)], |b| vec![row.distribute(b)])
                        [0]
                }
            };
            self.store(f, b, &row, &axes, sorted);
        });
    }

    fn point<'m>(&self, axes: &[Axis<'m>], index: Value<'m>) -> Point<'m> {
        let mut axes = axes.to_vec();
        axes[self.axis] = Axis::at(index);
        Point::axes(axes, 1, None)
    }

    /// Keys and positions of a row, as they come.
    fn fill<'m>(&self, f: &Function<'_, 'm>, b: &Builder<'m>, row: &Row<'m>, axes: &[Axis<'m>]) {
        b.for_each(b.index(0), row.length, |b, i| {
            let x = f.eval(b, self.operand, &self.point(axes, i), &mut Known::default());
            let key = self.key(b, x, row.key_type);
            let at = b.addi(row.first, i);
            b.store(key, row.keys, at);
            b.store(b.index_cast(i, b.int_type(64)), row.positions, at);
        });
    }

    /// The positions from `sorted` on, and what is computed of them.
    fn store<'m>(
        &self,
        f: &Function<'_, 'm>,
        b: &Builder<'m>,
        row: &Row<'m>,
        axes: &[Axis<'m>],
        sorted: Value<'m>,
    ) {
        let result = f.root().results[0];
        b.for_each(b.index(0), row.length, |b, i| {
            let position = b.load(row.positions, b.addi(sorted, i));
            let point = self.point(axes, i);
            let register = f.eval(b, f.output(), &point, &mut Known::bind(result, position));
            let (offset, _) = f.offset(b, result, &point);
            f.write(b, f.output(), offset, register, None);
        });
    }

    /// An unsigned integer in the wanted order of the elements.
    fn key<'m>(&self, b: &Builder<'m>, x: Value<'m>, ty: Type<'m>) -> Value<'m> {
        let c = |value: i64| b.integer(ty, value);
        let sign = c(i64::MIN >> (64 - self.key_bits()));
        let key = match self.dtype {
            DType::Bool => b.extui(x, ty),
            dtype if dtype.is_float() => {
                // Either zero is the same, and every NaN comes last.
                let zero = b.float(x.ty(), 0.0);
                let bits = b.select(b.cmpf(FloatCompare::Eq, x, zero), zero, x);
                let bits = b.bitcast(to_storage(b, dtype, bits), ty);
                let negative = b.shrsi(bits, c(self.key_bits() - 1));
                let ordered = b.xori(bits, b.ori(negative, sign));
                b.select(b.cmpf(FloatCompare::Unordered, x, x), c(-1), ordered)
            }
            dtype if dtype.is_signed_integer() => b.xori(x, sign),
            _ => x,
        };
        if self.descending { b.xori(key, c(-1)) } else { key }
    }
}

/// Where a row is sorted.
struct Row<'m> {
    keys: Value<'m>,
    positions: Value<'m>,
    /// How many elements each bin has, then where its next one goes.
    bins: Value<'m>,
    /// Where this workgroup's memory begins: room for two rows, of which the first holds the elements.
    first: Value<'m>,
    length: Value<'m>,
    key_type: Type<'m>,
}

impl<'m> Row<'m> {
    /// Sorts in place; where the row begins.
    fn insert(&self, b: &Builder<'m>) -> Value<'m> {
        b.for_each(b.index(1), self.length, |b, i| {
            let at = b.addi(self.first, i);
            let (key, position) = (b.load(self.keys, at), b.load(self.positions, at));
            let index = b.index_type();
            let to = b.while_loop(
                &[at],
                &[index],
                |b, at| {
                    let before = b.maxsi(b.subi(at[0], b.index(1)), self.first);
                    let greater = b.cmpi(Compare::UnsignedGt, b.load(self.keys, before), key);
                    let inside = b.cmpi(Compare::SignedGt, at[0], self.first);
                    (b.andi(inside, greater), vec![at[0]])
                },
                |b, at| {
                    let before = b.subi(at[0], b.index(1));
                    b.store(b.load(self.keys, before), self.keys, at[0]);
                    b.store(b.load(self.positions, before), self.positions, at[0]);
                    vec![before]
                },
            )[0];
            b.store(key, self.keys, to);
            b.store(position, self.positions, to);
        });
        self.first
    }

    /// Sorts by every byte of the keys, the last first; where the row begins then.
    fn distribute(&self, b: &Builder<'m>) -> Value<'m> {
        let bits = self.key_type.bits().unwrap_or(8) as i64;
        let second = b.addi(self.first, self.length);
        let some = b.cmpi(Compare::SignedGt, self.length, b.index(0));
        let passes = b.select(some, b.index(bits), b.index(0));
        b.for_loop(b.index(0), passes, b.index(8), &[self.first], |b, shift, from| {
            let shift = b.index_cast(shift, self.key_type);
            let bin = |b: &Builder<'m>, key: Value<'m>| {
                let byte = b.andi(b.shrui(key, shift), b.integer(self.key_type, BINS - 1));
                b.simple("arith.index_castui", &[byte], b.index_type())
            };
            let from = from[0];
            self.count(b, from, &bin);
            let of_first = b.load(self.bins, bin(b, b.load(self.keys, from)));
            let alike = b.cmpi(Compare::Eq, of_first, self.length);
            let to = b.select(b.cmpi(Compare::Eq, from, self.first), second, self.first);
            b.if_else(
                alike,
                &[b.index_type()],
                |_| vec![from],
                |b| {
                    self.move_by_bins(b, from, to, &bin);
                    vec![to]
                },
            )
        })[0]
    }

    fn count(&self, b: &Builder<'m>, from: Value<'m>, bin: &dyn Fn(&Builder<'m>, Value<'m>) -> Value<'m>) {
        b.for_each(b.index(0), b.index(BINS), |b, i| b.store(b.index(0), self.bins, i));
        b.for_each(b.index(0), self.length, |b, i| {
            let at = bin(b, b.load(self.keys, b.addi(from, i)));
            b.store(b.addi(b.load(self.bins, at), b.index(1)), self.bins, at);
        });
    }

    fn move_by_bins(
        &self,
        b: &Builder<'m>,
        from: Value<'m>,
        to: Value<'m>,
        bin: &dyn Fn(&Builder<'m>, Value<'m>) -> Value<'m>,
    ) {
        b.for_loop(b.index(0), b.index(BINS), b.index(1), &[to], |b, i, next| {
            let count = b.load(self.bins, i);
            b.store(next[0], self.bins, i);
            vec![b.addi(next[0], count)]
        });
        b.for_each(b.index(0), self.length, |b, i| {
            let at = b.addi(from, i);
            let key = b.load(self.keys, at);
            let bin = bin(b, key);
            let goal = b.load(self.bins, bin);
            b.store(key, self.keys, goal);
            b.store(b.load(self.positions, at), self.positions, goal);
            b.store(b.addi(goal, b.index(1)), self.bins, bin);
        });
    }
}
