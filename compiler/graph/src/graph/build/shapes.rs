//! Reshapes of every kind: to a shape with one unknown, dropping and adding axes, flattening.

use super::{Builder, Built};
use crate::ops::ShapeError;
use crate::types::product;
use crate::{Dim, Op, Shape, ValueId};

impl Builder<'_> {
    /// `x` itself where it already has `shape`.
    ///
    /// # Errors
    /// When the element counts provably differ.
    pub fn reshape(&mut self, x: ValueId, shape: Shape) -> Built {
        if self.ty(x).shape == shape { Ok(x) } else { self.push(Op::Reshape { shape }, &[x]) }
    }

    /// A reshape in which at most one entry of `target` may be -1: what is left of the element count.
    ///
    /// # Errors
    /// When two are -1, or the rest provably does not divide the element count.
    pub fn reshape_infer(&mut self, x: ValueId, target: &[Dim]) -> Built {
        let unknown = Dim::constant(-1);
        let mut shape = target.to_vec();
        let mut wanted = target.iter().enumerate().filter(|(_, d)| **d == unknown).map(|(i, _)| i);
        let (first, second) = (wanted.next(), wanted.next());
        let problem = |problem: String| ShapeError::Attribute { op: "reshape", attribute: "shape", problem };
        match (first, second) {
            (None, _) => {}
            (Some(_), Some(_)) => return Err(problem("has more than one -1".to_owned())),
            (Some(axis), None) => {
                let known: Vec<Dim> = target.iter().filter(|d| **d != unknown).cloned().collect();
                let (count, known) = (self.ty(x).elements(), product(&known));
                let symbols = &self.graph.symbols;
                if known == Dim::constant(0) || symbols.is_known_ne(&count.modulo(&known), &0.into()) {
                    let (count, known) = (count.display(symbols), known.display(symbols));
                    return Err(problem(format!("splits {count} elements into a multiple of {known}")));
                }
                shape[axis] = symbols.simplify(&count.floor_div(&known));
            }
        }
        self.reshape(x, shape)
    }

    /// Drops axes of size 1.
    ///
    /// # Errors
    /// When one of them does not exist or provably has another size.
    pub fn squeeze(&mut self, x: ValueId, axes: &[usize]) -> Built {
        let shape = self.ty(x).shape.clone();
        for &axis in axes {
            let one = Dim::constant(1);
            match shape.get(axis) {
                Some(d) if !self.graph.symbols.is_known_ne(d, &one) => {}
                found => {
                    let found =
                        found.map_or("missing".to_owned(), |d| d.display(&self.graph.symbols).to_string());
                    let what = format!("axis {axis}, to be dropped,");
                    return Err(ShapeError::Mismatch {
                        op: "reshape",
                        what,
                        expected: "1".to_owned(),
                        found,
                    });
                }
            }
        }
        let kept = shape.into_iter().enumerate().filter(|(a, _)| !axes.contains(a)).map(|(_, d)| d).collect();
        self.reshape(x, kept)
    }

    /// Adds axes of size 1, at these positions of the result.
    ///
    /// # Errors
    /// When a position is past the result's rank or named twice.
    pub fn unsqueeze(&mut self, x: ValueId, axes: &[usize]) -> Built {
        let mut shape = self.ty(x).shape.clone();
        let mut ascending = axes.to_vec();
        ascending.sort_unstable();
        let rank = shape.len() + axes.len();
        let distinct = ascending.is_sorted_by(|a, b| a < b);
        if !distinct || ascending.last().is_some_and(|&axis| axis >= rank) {
            let problem = format!("names axes {axes:?} of a result of rank {rank}");
            return Err(ShapeError::Attribute { op: "reshape", attribute: "axes", problem });
        }
        for axis in ascending {
            shape.insert(axis, Dim::constant(1));
        }
        self.reshape(x, shape)
    }

    /// A matrix whose rows are the axes before `axis` (at most the rank) and whose columns are the rest.
    ///
    /// # Errors
    /// When `axis` is over the rank.
    pub fn flatten(&mut self, x: ValueId, axis: usize) -> Built {
        let shape = &self.ty(x).shape;
        if axis > shape.len() {
            let problem = format!("is {axis}; rank is {}", shape.len());
            return Err(ShapeError::Attribute { op: "reshape", attribute: "axis", problem });
        }
        let matrix = vec![product(&shape[..axis]), product(&shape[axis..])];
        self.reshape(x, matrix)
    }
}
