//! numpy's broadcasting, spelled out with [`Op::Broadcast`] only where a shape changes.

use super::{Builder, Built};
use crate::ops::ShapeError;
use crate::{BinaryFn, Dim, Op, Shape, ValueId};

impl Builder<'_> {
    /// `f(lhs, rhs)` elementwise after broadcasting both.
    ///
    /// # Errors
    /// When the shapes provably do not broadcast, or the dtypes differ.
    pub fn binary_broadcast(&mut self, function: BinaryFn, lhs: ValueId, rhs: ValueId) -> Built {
        let [lhs, rhs] = self.broadcast_together([lhs, rhs])?;
        self.push(Op::Binary(function), &[lhs, rhs])
    }

    /// `f(x, value)` with a scalar of `x`'s dtype.
    ///
    /// # Errors
    /// When the function is not defined on the dtype.
    pub fn binary_scalar(&mut self, function: BinaryFn, x: ValueId, value: f64) -> Built {
        let scalar = self.scalar_like(x, value)?;
        self.binary_broadcast(function, x, scalar)
    }

    /// `condition ? if_true : if_false` elementwise after broadcasting all three.
    ///
    /// # Errors
    /// When the shapes provably do not broadcast, or the dtypes do not fit.
    pub fn select_broadcast(&mut self, condition: ValueId, if_true: ValueId, if_false: ValueId) -> Built {
        let operands = self.broadcast_together([condition, if_true, if_false])?;
        self.push(Op::Select, &operands)
    }

    /// All values in their one broadcast shape.
    ///
    /// # Errors
    /// When the shapes provably do not broadcast.
    pub fn broadcast_together<const N: usize>(
        &mut self,
        values: [ValueId; N],
    ) -> Result<[ValueId; N], ShapeError> {
        let mut shape = Vec::new();
        for value in values {
            shape = self.broadcast_shapes(&shape, &self.ty(value).shape)?;
        }
        let mut broadcast = values;
        for value in &mut broadcast {
            *value = self.broadcast_to(*value, shape.clone())?;
        }
        Ok(broadcast)
    }

    /// `x` in `shape`, right-aligned; `x` itself where it already has it.
    ///
    /// # Errors
    /// When a dimension is provably neither 1 nor the wanted one.
    pub fn broadcast_to(&mut self, x: ValueId, shape: Shape) -> Built {
        if self.ty(x).shape == shape { Ok(x) } else { self.push(Op::Broadcast { shape }, &[x]) }
    }

    /// The broadcast of `x`'s shape and `shape`, which ONNX calls Expand: either may stretch.
    ///
    /// # Errors
    /// When they provably do not broadcast.
    pub fn expand(&mut self, x: ValueId, shape: &[Dim]) -> Built {
        let shape = self.broadcast_shapes(&self.ty(x).shape, shape)?;
        self.broadcast_to(x, shape)
    }

    /// The shape that numpy's broadcasting gives for two.
    ///
    /// # Errors
    /// When a pair of dimensions provably differs and neither is 1.
    pub fn broadcast_shapes(&self, a: &[Dim], b: &[Dim]) -> Result<Shape, ShapeError> {
        let rank = a.len().max(b.len());
        let one = Dim::constant(1);
        let at = |shape: &[Dim], axis: usize| match (axis + shape.len()).checked_sub(rank) {
            Some(i) => shape[i].clone(),
            None => one.clone(),
        };
        let symbols = &self.graph.symbols;
        (0..rank)
            .map(|axis| {
                let (a, b) = (at(a, axis), at(b, axis));
                symbols.broadcast(&a, &b).ok_or_else(|| ShapeError::Mismatch {
                    op: "broadcast",
                    what: format!("dimension {axis}"),
                    expected: format!("1 or {}", a.display(symbols)),
                    found: b.display(symbols).to_string(),
                })
            })
            .collect()
    }

    /// numpy's `matmul`: rank 1 operands are a row and a column, leading dimensions broadcast.
    ///
    /// A matrix on the right multiplies all rows of the left as one matrix, so that weights are never repeated.
    ///
    /// # Errors
    /// When the inner or batch dimensions provably differ.
    pub fn matmul_broadcast(&mut self, lhs: ValueId, rhs: ValueId) -> Built {
        let (lhs_rank, rhs_rank) = (self.ty(lhs).rank(), self.ty(rhs).rank());
        let lhs = if lhs_rank == 1 { self.unsqueeze(lhs, &[0])? } else { lhs };
        let rhs = if rhs_rank == 1 { self.unsqueeze(rhs, &[1])? } else { rhs };
        let product = self.matmul_matrices(lhs, rhs)?;
        let rank = self.ty(product).rank();
        let mut dropped = Vec::new();
        if lhs_rank == 1 {
            dropped.push(rank - 2);
        }
        if rhs_rank == 1 {
            dropped.push(rank - 1);
        }
        self.squeeze(product, &dropped)
    }

    fn matmul_matrices(&mut self, lhs: ValueId, rhs: ValueId) -> Built {
        let (l, r) = (self.ty(lhs).shape.clone(), self.ty(rhs).shape.clone());
        if l.len() < 2 || r.len() < 2 {
            return self.push(Op::MatMul, &[lhs, rhs]);
        }
        if l.len() > 2 && r.len() == 2 {
            let (rows, k) = (&l[..l.len() - 1], &l[l.len() - 1]);
            let matrix = self.reshape(lhs, vec![crate::types::product(rows), k.clone()])?;
            let product = self.push(Op::MatMul, &[matrix, rhs])?;
            return self.reshape(product, [rows, &r[1..]].concat());
        }
        let batch = self.broadcast_shapes(&l[..l.len() - 2], &r[..r.len() - 2])?;
        let lhs = self.broadcast_to(lhs, [&batch, &l[l.len() - 2..]].concat())?;
        let rhs = self.broadcast_to(rhs, [&batch, &r[r.len() - 2..]].concat())?;
        self.push(Op::MatMul, &[lhs, rhs])
    }
}
