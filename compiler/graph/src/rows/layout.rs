//! Where rows are in a value: whether its type bears it out, where operands agree, and where a reshape leaves them.

use super::{Analysis, Content, Placed, Rows, Why};
use crate::types::product;
use crate::{Dim, Shape};

/// Where an operand has rows, and its shape.
pub(super) type Operand<'a> = (Option<&'a Rows>, &'a Shape);

impl Analysis<'_> {
    /// Rows as they can be in a value of `shape`: no other axis depends on the batch, and theirs is made of whole rows.
    ///
    /// # Errors
    /// What is in the way. Sizes that agree in some calls only, as of a constant of eight rows, are.
    pub(super) fn fits(&self, rows: Option<Rows>, shape: &[Dim]) -> Placed {
        match (self.batch_axis(shape)?, rows) {
            (None, None) => Ok(None),
            (Some(axis), Some(rows)) if axis == rows.axis => {
                self.outer(&rows, shape).ok_or(Why::Together).map(|_| Some(rows))
            }
            _ => Err(Why::Together),
        }
    }

    /// How often the axis of the rows goes through them, in a value of `shape`.
    pub(super) fn outer(&self, rows: &Rows, shape: &[Dim]) -> Option<Dim> {
        let outer = self.quotient(shape.get(rows.axis)?, &(self.batch.clone() * rows.inner.clone()))?;
        self.shared_sizes([&outer, &rows.inner]).is_ok().then_some(outer)
    }

    /// What is the same for all rows as such a value: `axis`, on which it has equal elements, depends on the batch.
    pub(super) fn equal_rows(&self, axis: usize, shape: &[Dim]) -> Placed {
        let inner = shape.get(axis).and_then(|extent| self.quotient(extent, &self.batch));
        inner.map(|inner| Some(Rows { axis, inner, content: Content::Equal })).ok_or(Why::Together)
    }

    /// Rows of operands that have them in the same places; `None` where no operand has any.
    ///
    /// # Errors
    /// Where they do not, and for places as numbers, which are no longer that after most operations.
    pub(super) fn joined<'a>(&self, operands: impl IntoIterator<Item = Operand<'a>>) -> Placed {
        let mut operands = operands.into_iter();
        let Some((first, first_shape)) = operands.next() else { return Ok(None) };
        let mut joined = first.cloned();
        self.no_places(first)?;
        for (rows, shape) in operands {
            self.no_places(rows)?;
            joined = match (joined, rows) {
                (None, None) => None,
                (Some(joined), Some(rows)) => {
                    let extents = (first_shape.get(joined.axis), shape.get(rows.axis));
                    let (Some(a), Some(b)) = extents else { return Err(Why::Together) };
                    if !self.same_size(a, b) {
                        return Err(Why::Together);
                    }
                    Some(self.aligned(&joined, rows)?)
                }
                _ => return Err(Why::Together),
            };
        }
        Ok(joined)
    }

    /// What holds of a value that has its rows as one of the two says.
    ///
    /// # Errors
    /// When they are in different places.
    pub(super) fn aligned(&self, a: &Rows, b: &Rows) -> Result<Rows, Why> {
        let content = match (&a.content, &b.content) {
            (same, other) if same == other => same,
            (Content::Place { .. }, _) | (_, Content::Place { .. }) => return Err(Why::Together),
            _ => &Content::Own,
        };
        let inner = match (&a.content, &b.content) {
            (_, Content::Equal) => &a.inner,
            (Content::Equal, _) => &b.inner,
            _ if self.same_size(&a.inner, &b.inner) => &a.inner,
            _ => return Err(Why::Together),
        };
        match a.axis == b.axis {
            true => Ok(Rows { axis: a.axis, inner: inner.clone(), content: content.clone() }),
            false => Err(Why::Together),
        }
    }

    /// # Errors
    /// [`Why::Place`] for what says where rows are.
    pub(super) fn no_places(&self, rows: Option<&Rows>) -> Result<(), Why> {
        match rows.map(|rows| &rows.content) {
            Some(Content::Place { .. }) => Err(Why::Place),
            _ => Ok(()),
        }
    }

    /// Where rows are when a value of shape `from` is read in row-major order as one of shape `to`.
    pub(super) fn reshaped(&self, rows: &Rows, from: &[Dim], to: &[Dim]) -> Result<Rows, Why> {
        let axis = self.batch_axis(to)?.ok_or(Why::Together)?;
        if rows.content != Content::Equal {
            return self.reshaped_own(rows, from, to, axis);
        }
        if self.keeps_equal(rows, from, to, axis) {
            return self.equal_rows(axis, to)?.ok_or(Why::Together);
        }
        // Equal elements can be seen as those of rows in more than one way.
        let inner = [rows.inner.clone(), Dim::constant(1)];
        let found = inner.into_iter().find_map(|inner| {
            let own = Rows { axis: rows.axis, inner, content: Content::Own };
            self.reshaped_own(&own, from, to, axis).ok()
        });
        found.ok_or(Why::Together)
    }

    /// An element is number `(p * batch + i) * after + q` of its value, with `p < before` and `q < after`. If `axis` of the
    /// result has all of `i`, it has the last part of `p` and the first of `q` with it. One of the two is enough to know:
    /// there are as many elements as before, and where they are none, they are of no row.
    fn reshaped_own(&self, rows: &Rows, from: &[Dim], to: &[Dim], axis: usize) -> Result<Rows, Why> {
        let outer = self.outer(rows, from).ok_or(Why::Together)?;
        let last = || {
            let after = product(&from[rows.axis + 1..]) * rows.inner.clone();
            self.quotient(&after, &product(&to[axis + 1..]))
        };
        let first = || {
            let before = product(&from[..rows.axis]) * outer;
            let outer = self.quotient(&before, &product(&to[..axis]))?;
            self.quotient(&to[axis], &(self.batch.clone() * outer))
        };
        let reshaped = |inner: Dim| {
            let rows = Rows { axis, inner, content: rows.content.clone() };
            self.outer(&rows, to).map(|_| rows)
        };
        last().and_then(reshaped).or_else(|| first().and_then(reshaped)).ok_or(Why::Together)
    }

    /// Whether `axis` of the result lies within the axis along which elements are equal: what is before it in there, or
    /// after it, is known.
    fn keeps_equal(&self, rows: &Rows, from: &[Dim], to: &[Dim], axis: usize) -> bool {
        let others = [(&from[..rows.axis], &to[..axis]), (&from[rows.axis + 1..], &to[axis + 1..])];
        others.into_iter().any(|(outside, beside)| {
            let within = self.quotient(&product(beside), &product(outside));
            within
                .is_some_and(|within| self.quotient(&from[rows.axis], &(within * to[axis].clone())).is_some())
        })
    }
}
