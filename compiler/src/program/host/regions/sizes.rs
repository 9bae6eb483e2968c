//! Sizes of what regions take and give: which are known, which the run decides, and the checks that they agree.

use ired_graph::{Dim, Node, ValueId};
use ired_mlir::Value;

use super::super::{Built, Host, unbound};
use crate::program::checks;

impl<'m> Host<'_, 'm> {
    /// Whether a dimension of the value's is not known yet.
    pub(super) fn is_open(&self, value: ValueId) -> bool {
        self.graph.ty(value).shape.iter().any(|dim| !self.dims.is_known(dim))
    }

    /// The dimensions that are known by now.
    pub(super) fn known_shape(&self, shape: &[Dim]) -> Vec<Option<Dim>> {
        shape.iter().map(|dim| self.dims.is_known(dim).then(|| dim.clone())).collect()
    }

    /// Whether `value` provably has the dimensions that are known.
    pub(super) fn is_of_shape(&self, value: ValueId, shape: &[Option<Dim>]) -> bool {
        let symbols = &self.graph.symbols;
        let found = &self.graph.ty(value).shape;
        found
            .iter()
            .zip(shape)
            .all(|(found, dim)| dim.as_ref().is_some_and(|d| symbols.is_known_eq(found, d)))
    }

    pub(super) fn symbols_equal(&self, a: ValueId, b: ValueId) -> bool {
        let symbols = &self.graph.symbols;
        let (a, b) = (&self.graph.ty(a).shape, &self.graph.ty(b).shape);
        a.iter().zip(b).all(|(a, b)| symbols.is_known_eq(a, b))
    }

    pub(super) fn check_shape(&mut self, node: &Node, value: ValueId, shape: &[Option<Dim>]) -> Built {
        checks::check_shape(self.graph, node, value, shape, &mut self.dims)
            .map_err(|e| unbound(self.graph, e))
    }

    /// Position and axis of every dimension that is open in one of `lists`, whose values correspond.
    pub(super) fn open_sizes(&self, lists: &[&[ValueId]]) -> Vec<(usize, usize)> {
        let mut sizes = Vec::new();
        for (i, &value) in lists[0].iter().enumerate() {
            for axis in 0..self.graph.ty(value).rank() {
                let dims = lists.iter().map(|values| &self.graph.ty(values[i]).shape[axis]);
                if dims.into_iter().any(|dim| !self.dims.is_known(dim)) {
                    sizes.push((i, axis));
                }
            }
        }
        sizes
    }

    pub(super) fn sizes_of(&mut self, values: &[ValueId], sizes: &[(usize, usize)]) -> Built<Vec<Value<'m>>> {
        let graph = self.graph;
        sizes.iter().map(|&(i, axis)| self.size(&graph.ty(values[i]).shape[axis])).collect()
    }

    /// Says what `sizes` of `values` are: gives symbols their values, and checks what else is said of them.
    pub(super) fn bind_sizes(
        &mut self,
        node: &Node,
        values: &[ValueId],
        sizes: &[(usize, usize)],
        found: &[Value<'m>],
    ) -> Built {
        let graph = self.graph;
        let mut rest = Vec::new();
        for (&(i, axis), &size) in sizes.iter().zip(found) {
            let dim = &graph.ty(values[i]).shape[axis];
            match dim.as_symbol() {
                Some(symbol) if !self.dims.is_bound(symbol) => {
                    self.dims.bind(symbol, size);
                    checks::check_bounds(graph, node, symbol, size, &self.dims);
                }
                _ => rest.push((dim, size)),
            }
        }
        for (dim, size) in rest {
            checks::check_size(graph, node, dim, size, &mut self.dims).map_err(|e| unbound(graph, e))?;
        }
        Ok(())
    }
}
