//! What each operation does to the rows of its operands.

use super::layout::Operand;
use super::{Analysis, Content, Placed, Rows, Spread, Why};
use crate::{DType, Dim, Node, NodeId, Op, Shape, ValueId};

impl Analysis<'_> {
    /// The spread of a node's results. Control flow has its own: see [`Analysis::control`].
    pub(super) fn transfer(&self, id: NodeId, node: &Node) -> Spread {
        // Indices that name rows by their places may be joined with others, which have no spread of their own.
        if let Some(placed) = self.picked_by_place(id, node) {
            return Spread::placed(id, placed);
        }
        let spreads: Vec<Spread> = node.operands.iter().map(|v| self.spread(id, *v)).collect();
        if let Some(mixed) = spreads.iter().find(|spread| matches!(spread, Spread::Mixed(_))) {
            return mixed.clone();
        }
        let shapes = node.operands.iter().map(|v| self.shape(*v));
        let operands: Vec<Operand<'_>> = spreads.iter().map(Spread::rows).zip(shapes).collect();
        let placed = self.moved_place(node, &operands);
        Spread::placed(id, placed.unwrap_or_else(|| self.placed(node, &operands)))
    }

    pub(super) fn shape(&self, value: ValueId) -> &Shape {
        &self.graph.ty(value).shape
    }

    fn placed(&self, node: &Node, operands: &[Operand<'_>]) -> Placed {
        match (&node.op, operands) {
            (Op::Constant(_) | Op::Param(_), _) => Ok(None),
            (Op::Dims { values, .. }, _) => self.shared_sizes(values).map(|()| None),
            (Op::Iota { dtype, shape, axis }, _) => self.iota(*dtype, shape, *axis),
            (Op::ReadDims { .. }, &[(x, _)]) => Ok(x.cloned()),
            (
                Op::Unary(_) | Op::Binary(_) | Op::Compare(_) | Op::Select | Op::Cast(_) | Op::BitCast(_),
                operands,
            ) => self.joined(operands.iter().copied()),

            (Op::Broadcast { shape }, &[x]) => self.broadcast(x, shape),
            (Op::Reshape { shape }, &[(Some(x), from)]) => self.reshaped(x, from, shape).map(Some),
            (Op::Transpose { perm }, &[(Some(x), _)]) => {
                let axis = perm.iter().position(|from| *from == x.axis).ok_or(Why::Unknown)?;
                at(x, axis)
            }
            (Op::Slice { start, size, stride }, &[x]) => self.slice(x, start, size, stride),
            (Op::Concat { axis }, operands) => self.concat(operands, *axis),
            (Op::Pad { low, high, .. }, &[x, ..]) => self.pad(x, operands.get(1), low, high),
            // Nothing has rows.
            (Op::Reshape { .. } | Op::Transpose { .. }, _) => Ok(None),

            (Op::Gather { axis }, &[data, indices]) => self.gather(data, indices, *axis),
            (Op::GatherElements { axis }, &[data, indices]) => self.gather_elements(data, indices, *axis),
            (Op::GatherNd { batch_dims }, &[data, indices]) => self.gather_nd(data, indices, *batch_dims),
            (Op::ScatterNd { .. }, &[data, indices, updates]) => self.scatter_nd(data, indices, updates),

            (Op::Cumulative { axis, .. } | Op::Sort { axis, .. } | Op::Softmax { axis, .. }, &[x]) => {
                self.without(x, &[*axis], false)
            }
            (Op::Reduce { axes, .. }, &[x]) => self.without(x, axes, true),
            (Op::ArgReduce { axis, .. }, &[x]) => self.without(x, &[*axis], true),
            (Op::LayerNorm { axis, .. }, &[x, ref weights @ ..]) => {
                none_has_rows(weights)?;
                let normalized: Vec<usize> = (*axis..x.1.len()).collect();
                self.without(x, &normalized, false)
            }
            (Op::MatMul, &[lhs, rhs]) => self.mat_mul(lhs, rhs),
            (Op::Conv { .. }, &[x, weights]) => {
                none_has_rows(&[weights])?;
                let all_but_batch: Vec<usize> = (1..x.1.len()).collect();
                self.without(x, &all_but_batch, false)
            }
            (Op::Pool { channels_last, .. }, &[x]) => {
                let channels = if *channels_last { x.1.len() - 1 } else { 1 };
                let spatial: Vec<usize> = (1..x.1.len()).filter(|axis| *axis != channels).collect();
                self.without(x, &spatial, false)
            }
            (Op::SuppressOverlaps, &[boxes, order, count, ref scalars @ ..]) => {
                none_has_rows(scalars)?;
                let joined = self.joined([boxes, order, count])?;
                self.without((joined.as_ref(), boxes.1), &[1, 2], false)
            }

            // With what all rows share they give what all rows share.
            (Op::Host { .. }, operands) => none_has_rows(operands).map(|()| None).map_err(|_| Why::Unknown),
            // Control flow, and operations with another number of operands than they have.
            (
                Op::ReadDims { .. }
                | Op::Broadcast { .. }
                | Op::Slice { .. }
                | Op::Pad { .. }
                | Op::Gather { .. }
                | Op::GatherElements { .. }
                | Op::GatherNd { .. }
                | Op::ScatterNd { .. }
                | Op::Cumulative { .. }
                | Op::Sort { .. }
                | Op::Softmax { .. }
                | Op::Reduce { .. }
                | Op::ArgReduce { .. }
                | Op::LayerNorm { .. }
                | Op::MatMul
                | Op::Conv { .. }
                | Op::Pool { .. }
                | Op::SuppressOverlaps
                | Op::If
                | Op::While
                | Op::Repeat { .. },
                _,
            ) => Err(Why::Unknown),
        }
    }

    fn iota(&self, dtype: DType, shape: &[Dim], axis: usize) -> Placed {
        match self.batch_axis(shape)? {
            None => Ok(None),
            Some(rows) if rows != axis => self.equal_rows(rows, shape),
            Some(_) if !self.holds(dtype, &shape[axis]) => Err(Why::Place),
            Some(_) => {
                let step = self.quotient(&shape[axis], &self.batch).ok_or(Why::Place)?;
                let content = Content::Place { step: step.clone(), span: step.clone() };
                Ok(Some(Rows { axis, inner: step, content }))
            }
        }
    }

    fn broadcast(&self, (x, from): Operand<'_>, to: &[Dim]) -> Placed {
        let added = to.len().checked_sub(from.len()).ok_or(Why::Unknown)?;
        match (x, self.batch_axis(to)?) {
            (None, None) => Ok(None),
            // What a size of the operand's becomes is known only where it is 1.
            (None, Some(axis)) => {
                let repeated = axis.checked_sub(added).is_none_or(|axis| from[axis] == Dim::constant(1));
                if repeated { self.equal_rows(axis, to) } else { Err(Why::Together) }
            }
            (Some(x), _) => {
                let axis = x.axis + added;
                if self.same_size(&from[x.axis], &to[axis]) { at(x, axis) } else { Err(Why::Together) }
            }
        }
    }

    fn slice(&self, (x, from): Operand<'_>, start: &[Dim], size: &[Dim], stride: &[i64]) -> Placed {
        self.shared_sizes(start)?;
        let Some(x) = x else { return Ok(None) };
        let whole = start[x.axis] == Dim::constant(0) && self.same_size(&size[x.axis], &from[x.axis]);
        if whole && stride[x.axis] == 1 { Ok(Some(x.clone())) } else { Err(Why::Along) }
    }

    fn concat(&self, operands: &[Operand<'_>], axis: usize) -> Placed {
        if operands.iter().all(|(rows, _)| rows.is_none_or(|rows| rows.axis != axis)) {
            return self.joined(operands.iter().copied());
        }
        // One behind the other, whole batches are still that if all have their rows equally far apart.
        let mut joined: Option<Rows> = None;
        for (rows, shape) in operands {
            self.no_places(*rows)?;
            let mut rows = (*rows).ok_or(Why::Together)?.clone();
            if rows.content == Content::Equal {
                rows.inner = joined.as_ref().map_or(Dim::constant(1), |joined| joined.inner.clone());
            }
            rows.content = Content::Own;
            self.outer(&rows, shape).ok_or(Why::Together)?;
            joined = Some(match joined {
                Some(joined) => self.aligned(&joined, &rows)?,
                None => rows,
            });
        }
        Ok(joined)
    }

    fn pad(&self, x: Operand<'_>, fill: Option<&Operand<'_>>, low: &[Dim], high: &[Dim]) -> Placed {
        self.shared_sizes(low.iter().chain(high))?;
        none_has_rows(fill.map(std::slice::from_ref).unwrap_or_default())?;
        let Some(rows) = x.0 else { return Ok(None) };
        self.no_places(x.0)?;
        let zero = Dim::constant(0);
        if low[rows.axis] == zero && high[rows.axis] == zero {
            Ok(Some(rows.clone()))
        } else {
            Err(Why::Along)
        }
    }

    /// What works along `axes` and nowhere else, and drops them or not.
    fn without(&self, (x, _): Operand<'_>, axes: &[usize], dropped: bool) -> Placed {
        let Some(x) = x else { return Ok(None) };
        self.no_places(Some(x))?;
        if axes.contains(&x.axis) {
            return Err(Why::Along);
        }
        let before = axes.iter().filter(|axis| dropped && **axis < x.axis).count();
        at(x, x.axis - before)
    }

    fn mat_mul(&self, lhs: Operand<'_>, rhs: Operand<'_>) -> Placed {
        let (row, column) = (lhs.1.len() - 2, lhs.1.len() - 1);
        match (lhs.0, rhs.0) {
            (None, None) => Ok(None),
            (Some(x), None) if x.axis == row => self.without(lhs, &[], false),
            (None, Some(x)) if x.axis == column => self.without(rhs, &[], false),
            (Some(x), Some(y)) if x.axis < row && y.axis < row => self.joined([lhs, rhs]),
            (Some(x), _) if x.axis == column => Err(Why::Along),
            (_, Some(y)) if y.axis == row => Err(Why::Along),
            _ => Err(Why::Together),
        }
    }
}

/// The same rows, on another axis.
pub(super) fn at(rows: &Rows, axis: usize) -> Placed {
    Ok(Some(Rows { axis, ..rows.clone() }))
}

/// # Errors
/// When one does: each row would be computed with what belongs to others.
pub(super) fn none_has_rows(operands: &[Operand<'_>]) -> Result<(), Why> {
    if operands.iter().all(|(rows, _)| rows.is_none()) { Ok(()) } else { Err(Why::Together) }
}
