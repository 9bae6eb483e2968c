//! Places of rows in the batch, as numbers: what arithmetic leaves of them, and what reads and writes by them.
//!
//! Models that were written for one row often pick what belongs to each row of a batch by `row * length + position`, or by
//! tuples that begin with the row.

use super::gather::own;
use super::layout::Operand;
use super::{Analysis, Content, Placed, Rows, Spread, Why};
use crate::ops::dims_of_value;
use crate::{BinaryFn, DType, Dim, Node, NodeId, Op, ValueId};

/// How many nodes back the values of a number are looked for.
const MAX_DEPTH: usize = 16;

impl Analysis<'_> {
    /// What elementwise arithmetic makes of a place; `None` where there is none, or other arithmetic.
    pub(super) fn moved_place(&self, node: &Node, operands: &[Operand<'_>]) -> Option<Placed> {
        let at = operands.iter().position(|(rows, _)| self.no_places(*rows).is_err())?;
        let rows = operands[at].0?;
        let Content::Place { step, span } = &rows.content else { return None };
        let moved = |step: Dim, span: Dim| {
            let other = operands.get(1 - at)?.0?;
            let aligned = self.aligned(&Rows { content: Content::Own, ..rows.clone() }, other);
            Some(aligned.map(|aligned| Some(Rows { content: Content::Place { step, span }, ..aligned })))
        };
        let is_i64 = |value: &ValueId| self.graph.ty(*value).dtype == DType::I64;
        let other = || node.operands.get(1 - at).copied().filter(is_i64);
        match node.op {
            Op::Cast(to) if self.holds_place(to, rows) => Some(Ok(Some(rows.clone()))),
            Op::Binary(BinaryFn::Mul) if *span == Dim::constant(1) => {
                moved(step.clone() * self.factor(other()?)?, span.clone())
            }
            Op::Binary(BinaryFn::Add) => {
                moved(step.clone(), span.clone() + self.bound(other()?, MAX_DEPTH)? - Dim::constant(1))
            }
            _ => None,
        }
    }

    /// Whether numbers of this type can be all from 0 to one less than `count`.
    pub(super) fn holds(&self, dtype: DType, count: &Dim) -> bool {
        match dtype {
            DType::I64 => true,
            DType::I32 => self.symbols.range(&self.resolve(count)).max <= 1 << 31,
            // Others are rarely indices, and soon too small.
            _ => false,
        }
    }

    /// Whether what says where rows are can be numbers of this type.
    fn holds_place(&self, dtype: DType, rows: &Rows) -> bool {
        match &rows.content {
            Content::Place { step, span } => {
                let last = (self.batch.clone() - Dim::constant(1)) * step.clone();
                self.holds(dtype, &(last + span.clone()))
            }
            _ => true,
        }
    }

    /// The one number that all elements of a value are, if it is a size that joined calls have in common.
    fn factor(&self, mut value: ValueId) -> Option<Dim> {
        for _ in 0..MAX_DEPTH {
            if let Some((_, values)) = dims_of_value(self.graph, value) {
                let (first, others) = values.split_first()?;
                let one = others.iter().all(|other| other == first) && self.shared_size(first).is_ok();
                return one.then(|| first.clone());
            }
            let node = self.graph.node(self.graph.producer(value)?);
            match node.op {
                Op::Broadcast { .. } | Op::Reshape { .. } => value = *node.operands.first()?,
                _ => return None,
            }
        }
        None
    }

    /// A size that joined calls have in common, and that the elements of a value are from 0 to one less than.
    fn bound(&self, value: ValueId, depth: usize) -> Option<Dim> {
        let node = self.graph.node(self.graph.producer(value)?);
        let x = node.operands.first();
        let extent = |axis: usize| x.and_then(|x| self.shape(*x).get(axis)).cloned();
        let bound = match &node.op {
            Op::Iota { dtype, shape, axis } => {
                shape.get(*axis).filter(|extent| self.holds(*dtype, extent)).cloned()
            }
            Op::ArgReduce { axis, .. } | Op::Sort { axis, .. } => extent(*axis),
            Op::Constant(tensor) => {
                let values = tensor.to_i64s();
                let most = values.iter().max().filter(|_| values.iter().all(|v| *v >= 0));
                most.and_then(|most| most.checked_add(1)).map(Dim::constant)
            }
            Op::Broadcast { .. }
            | Op::Reshape { .. }
            | Op::Transpose { .. }
            | Op::Slice { .. }
            | Op::Cast(DType::I64) => {
                let integers = x.filter(|x| self.graph.ty(**x).dtype.is_integer());
                integers.and_then(|x| self.bound(*x, depth.checked_sub(1)?))
            }
            _ => None,
        };
        bound.filter(|bound| self.shared_size(bound).is_ok())
    }

    /// What a node gives whose indices say, among other things, which row they are for; `None` for other nodes.
    pub(super) fn picked_by_place(&self, id: NodeId, node: &Node) -> Option<Placed> {
        let first = match node.op {
            Op::GatherNd { batch_dims } => batch_dims,
            Op::ScatterNd { .. } => 0,
            _ => return None,
        };
        let (&data, &indices) = (node.operands.first()?, node.operands.get(1)?);
        let (spread, shape) = (self.spread(id, data), self.shape(data));
        let rows = spread.rows()?;
        let (named, coordinates) = self.coordinates((None, self.shape(indices))).ok()?;
        let column = rows.axis.checked_sub(first).filter(|column| *column < coordinates)?;
        let columns = (0..coordinates).map(|column| self.column(id, indices, column));
        let columns = columns.collect::<Option<Vec<Spread>>>()?;
        let places = columns[column].rows().filter(|places| self.is_place(places, rows, shape))?;
        // What else they say is each row's own, or for all rows the same.
        let others = columns.iter().enumerate().filter(|(other, _)| *other != column);
        let fit = others.map(|(_, spread)| spread.rows()).map(|other| {
            let other = other.filter(|other| self.no_places(Some(other)).is_ok())?;
            let own = Rows { content: Content::Own, ..places.clone() };
            self.aligned(&own, other).ok()
        });
        if fit.collect::<Option<Vec<Rows>>>().is_none() || places.axis >= named || places.axis < first {
            return Some(Err(Why::Together));
        }
        Some(match node.operands.get(2) {
            None => own(places, places.axis),
            Some(&updates) => self.written_by_place(id, rows, places, indices, updates),
        })
    }

    /// Each row's updates go to its own row of the data.
    fn written_by_place(
        &self,
        id: NodeId,
        rows: &Rows,
        places: &Rows,
        indices: ValueId,
        updates: ValueId,
    ) -> Placed {
        let spread = self.spread(id, updates);
        let changed = spread.rows().filter(|changed| self.no_places(Some(changed)).is_ok());
        let extents = [indices, updates].map(|value| self.shape(value).get(places.axis));
        let [Some(index), Some(update)] = extents else { return Err(Why::Together) };
        let placed = Rows { content: Content::Own, ..places.clone() };
        self.aligned(&placed, changed.ok_or(Why::Together)?)?;
        if self.same_size(index, update) { own(rows, rows.axis) } else { Err(Why::Together) }
    }

    /// Whether indices that are `places` name, along the axis of the data's rows, only elements of their own row.
    pub(super) fn is_place(&self, places: &Rows, rows: &Rows, data: &[Dim]) -> bool {
        let Content::Place { step, span } = &places.content else { return false };
        let once = self.outer(rows, data).is_some_and(|outer| outer == Dim::constant(1));
        let fits = self.same_size(step, &rows.inner)
            && self.symbols.is_known_le(&self.resolve(span), &self.resolve(step));
        once && fits && !matches!(rows.content, Content::Place { .. })
    }

    /// The spread of one number of each tuple of indices.
    fn column(&self, id: NodeId, indices: ValueId, column: usize) -> Option<Spread> {
        let spread = self.spread(id, indices);
        let width = |value: ValueId| {
            let last = self.shape(value).last().and_then(|dim| dim.as_static());
            last.and_then(|width| usize::try_from(width).ok())
        };
        let node = self.graph.node(self.graph.producer(indices)?);
        match node.op {
            Op::Cast(to @ (DType::I32 | DType::I64)) => {
                let spread = self.column(id, *node.operands.first()?, column)?;
                spread.rows().is_none_or(|rows| self.holds_place(to, rows)).then_some(spread)
            }
            Op::Concat { axis } if axis + 1 == self.shape(indices).len() => {
                let mut before = 0;
                for &part in &node.operands {
                    let width = width(part)?;
                    if column < before + width {
                        return self.column(id, part, column - before);
                    }
                    before += width;
                }
                None
            }
            _ if !matches!(spread, Spread::Mixed(_)) => Some(spread),
            _ => None,
        }
    }
}
