//! Greedy choice among boxes that overlap: a workgroup goes down the order of one class after the other, and compares
//! each box with those it kept, several at a time, until one overlaps.

use ired_graph::{Dim, Graph, Op, ValueId};
use ired_mlir::{Builder, Compare, FloatCompare, Value};

use super::eval::{Axis, Known, Point};
use super::function::{Function, Site, line, plain_interface, product};
use super::{Family, KernelError};
use crate::dispatch::{Binding, Dispatch, KernelInterface};
use crate::targets::CpuTarget;

pub(super) struct Suppress;

/// Workgroups at most: each has memory for the boxes of one class.
const MOST_GROUPS: i64 = 64;
/// Numbers kept of each box: two corners and the size.
const FIELDS: i64 = 5;

impl Family for Suppress {
    fn name(&self) -> &'static str {
        "suppress"
    }

    fn interface(
        &self,
        graph: &Graph,
        dispatch: &Dispatch,
        target: &CpuTarget,
    ) -> Result<Option<KernelInterface>, KernelError> {
        let Some(plan) = Plan::new(graph, dispatch, target) else { return Ok(None) };
        let numbers = plan.groups.clone() * plan.room.clone() * Dim::constant(FIELDS);
        let mut interface = plain_interface(graph, dispatch, line(plan.groups));
        interface.bindings.push(Binding::Scratch { bytes: numbers * Dim::constant(4) });
        Ok(Some(interface))
    }

    fn emit(&self, site: &Site<'_, '_>) -> Result<(), KernelError> {
        let plan = site.planned(Plan::new(site.graph, site.dispatch, site.target))?;
        Function::emit(site, false, |f, b| plan.emit(f, b))
    }
}

struct Plan {
    boxes: ValueId,
    order: ValueId,
    count: ValueId,
    limit: ValueId,
    threshold: ValueId,
    /// Batch and classes.
    rows: Vec<Dim>,
    length: Dim,
    groups: Dim,
    /// Boxes that a workgroup has room for: what is read beyond the last is not looked at.
    room: Dim,
    lanes: usize,
}

/// A box, or several: the least corner, the greatest one and the size.
type Area<'m> = [Value<'m>; FIELDS as usize];

impl Plan {
    fn new(graph: &Graph, dispatch: &Dispatch, target: &CpuTarget) -> Option<Self> {
        let root = &graph.nodes[dispatch.root.index()];
        let (Op::SuppressOverlaps, &[boxes, order, count, limit, threshold]) =
            (&root.op, root.operands.as_slice())
        else {
            return None;
        };
        let shape = &graph.values[order.index()].ty.shape;
        let lanes = target.lanes(32);
        let (rows, length) = (shape[..2].to_vec(), shape[2].clone());
        let groups = product(&rows).minimum(&Dim::constant(MOST_GROUPS));
        let room = length.clone() + Dim::constant(lanes as i64);
        Some(Self { boxes, order, count, limit, threshold, rows, length, groups, room, lanes })
    }

    fn emit<'m>(&self, f: &Function<'_, 'm>, b: &Builder<'m>) {
        let all = product(&self.rows);
        let per_group = f.dim(&all.ceil_div(&self.groups.maximum(&Dim::constant(1))));
        let start = b.muli(f.group[0], per_group);
        let end = b.minsi(b.addi(start, per_group), f.dim(&all));
        let (memory, room) = (f.scratch(b, 0, b.f32_type()), f.dim(&self.room));
        let base = b.muli(f.group[0], b.muli(room, b.index(FIELDS)));
        let kept = Kept { memory, base, room, lanes: self.lanes };
        let scalar = |value: ValueId| f.eval(b, value, &Point::scalar(&[]), &mut Known::default());
        let (limit, threshold) = (b.index_cast(scalar(self.limit), b.index_type()), scalar(self.threshold));
        b.for_each(start, end, |b, number| {
            let row = f.split_index(b, number, &self.rows);
            let count = f.eval(b, self.count, &Point::axes(row.clone(), 1, None), &mut Known::default());
            let count = b.index_cast(count, b.index_type());
            let length = f.dim(&self.length);
            b.for_loop(b.index(0), length, b.index(1), &[b.index(0)], |b, place, carried| {
                let number = carried[0];
                let among = b.cmpi(Compare::SignedLt, place, count);
                let wanted = b.andi(among, b.cmpi(Compare::SignedLt, number, limit));
                let point = Point::axes([&row[..], &[Axis::at(place)]].concat(), 1, None);
                let decided = b.if_else(
                    wanted,
                    &[b.int_type(1), b.index_type()],
                    |b| {
                        let area = self.area(f, b, row[0], &point);
                        let keep = kept.take(b, &area, number, threshold);
                        vec![keep, b.addi(number, b.select(keep, b.index(1), b.index(0)))]
                    },
                    |b| vec![b.bool(false), number],
                );
                let result = f.root().results[0];
                let register = f.eval(b, f.output(), &point, &mut Known::bind(result, decided[0]));
                let (offset, _) = f.offset(b, result, &point);
                f.write(b, f.output(), offset, register, None);
                vec![decided[1]]
            });
        });
    }

    /// The box that stands at a point of the order.
    fn area<'m>(
        &self,
        f: &Function<'_, 'm>,
        b: &Builder<'m>,
        batch: Axis<'m>,
        point: &Point<'m>,
    ) -> Area<'m> {
        let index = f.eval(b, self.order, point, &mut Known::default());
        let index = b.index_cast(index, b.index_type());
        let index = b.maxsi(b.minsi(index, b.subi(f.dim(&self.length), b.index(1))), b.index(0));
        let corner = |i: i64| {
            let axes = vec![batch, Axis::at(index), Axis::at(b.index(i))];
            f.eval(b, self.boxes, &Point::axes(axes, 1, None), &mut Known::default())
        };
        let [y0, x0, y1, x1] = [0, 1, 2, 3].map(corner);
        let low = [least(b, y0, y1), least(b, x0, x1)];
        let high = [greatest(b, y0, y1), greatest(b, x0, x1)];
        let size = b.mulf(b.subf(high[0], low[0]), b.subf(high[1], low[1]));
        [low[0], low[1], high[0], high[1], size]
    }
}

/// The boxes kept of one class, field by field.
struct Kept<'m> {
    memory: Value<'m>,
    base: Value<'m>,
    room: Value<'m>,
    lanes: usize,
}

impl<'m> Kept<'m> {
    fn place(&self, b: &Builder<'m>, field: usize, index: Value<'m>) -> Value<'m> {
        let start = b.addi(self.base, b.muli(self.room, b.index(field as i64)));
        b.addi(start, index)
    }

    /// Keeps a box as the one after the first `number`, unless one of those overlaps.
    fn take(&self, b: &Builder<'m>, area: &Area<'m>, number: Value<'m>, threshold: Value<'m>) -> Value<'m> {
        let spread = area.map(|field| b.broadcast(field, self.lanes));
        let threshold = b.broadcast(threshold, self.lanes);
        let state = [b.index(0), b.bool(false)];
        let types = [b.index_type(), b.int_type(1)];
        let hit = b.while_loop(
            &state,
            &types,
            |b, state| {
                let more = b.cmpi(Compare::SignedLt, state[0], number);
                let none = b.xori(state[1], b.bool(true));
                (b.andi(more, none), state.to_vec())
            },
            |b, state| {
                let fields = [0, 1, 2, 3, 4];
                let others =
                    fields.map(|i| b.vector_load(self.memory, self.place(b, i, state[0]), self.lanes));
                let overlap = overlaps(b, &spread, &others, threshold);
                let there = b.mask(b.subi(number, state[0]), self.lanes);
                let any = b.reduce("or", b.andi(overlap, there));
                vec![b.addi(state[0], b.index(self.lanes as i64)), any]
            },
        )[1];
        let keep = b.xori(hit, b.bool(true));
        b.if_then(keep, |b| {
            for (i, field) in area.iter().enumerate() {
                b.store(*field, self.memory, self.place(b, i, number));
            }
        });
        keep
    }
}

/// Whether the intersection over union is greater than the threshold, for every lane.
fn overlaps<'m>(b: &Builder<'m>, x: &Area<'m>, y: &Area<'m>, threshold: Value<'m>) -> Value<'m> {
    let zero = b.float(threshold.ty(), 0.0);
    let extent = |axis: usize| {
        let high = least(b, x[2 + axis], y[2 + axis]);
        greatest(b, b.subf(high, greatest(b, x[axis], y[axis])), zero)
    };
    let shared = b.mulf(extent(0), extent(1));
    let union = b.subf(b.addf(x[4], y[4]), shared);
    let over = b.cmpf(FloatCompare::Gt, b.divf(shared, union), threshold);
    b.andi(b.cmpf(FloatCompare::Gt, shared, zero), over)
}

fn least<'m>(b: &Builder<'m>, x: Value<'m>, y: Value<'m>) -> Value<'m> {
    b.select(b.cmpf(FloatCompare::Lt, y, x), y, x)
}

fn greatest<'m>(b: &Builder<'m>, x: Value<'m>, y: Value<'m>) -> Value<'m> {
    b.select(b.cmpf(FloatCompare::Gt, y, x), y, x)
}
