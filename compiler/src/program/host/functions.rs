//! Functions that the host runs between launches: what they are given, and what sizes they decide.

use ired_graph::{Node, NodeId, Op, TensorType, ValueId};
use ired_mlir::Builder;
use ired_module::{HostCallDraft, TensorKind};

use super::{Built, Host, at, unbound};
use crate::errors::{Diagnostic, DiagnosticKind};
use crate::module::stored_dtype;
use crate::program::checks;

impl<'m> Host<'_, 'm> {
    /// Waits for a node's operands and calls its function. Symbols of the node take their values from what it gives;
    /// other dimensions are checked.
    pub(super) fn host_call(&mut self, id: NodeId, b: &Builder<'m>) -> Built {
        let graph = self.graph;
        let node = graph.node(id);
        let Op::Host { function, symbols, .. } = &node.op else {
            let message = format!("`{}` is no host function", node.op.name());
            return Err(Diagnostic::new(DiagnosticKind::Internal, message));
        };
        let sources = node.operands.iter().map(|v| self.buffer(*v)).collect::<Built<Vec<_>>>()?;
        let mut source_dims = Vec::new();
        for &operand in &node.operands {
            for dim in &graph.ty(operand).shape {
                source_dims.push(self.size(dim)?);
            }
        }
        self.await_values(&node.operands, b);
        let number = self.host_calls.len();
        let called = HostCallDraft {
            function: function.function.clone(),
            origin: origin(node),
            attributes: function.attributes.clone(),
            operands: self.kinds(&node.operands),
            results: self.kinds(&node.results),
        };
        self.host_calls.push(called);
        let ranks: usize = node.results.iter().map(|v| graph.ty(*v).rank()).sum();
        let call = b.host_call(number, &sources, &source_dims, node.results.len(), ranks);
        let mut given = call.results();
        for &result in &node.results {
            let buffer =
                given.next().ok_or_else(|| Diagnostic::new(DiagnosticKind::Internal, "no result"))?;
            self.buffers.insert(result, buffer);
        }
        let sizes: Vec<_> = given.collect();
        let dims = || node.results.iter().flat_map(|v| &graph.ty(*v).shape).zip(&sizes);
        for (dim, &size) in dims() {
            if let Some(symbol) = dim.as_symbol()
                && symbols.contains(&symbol)
                && !self.dims.is_bound(symbol)
            {
                self.dims.bind(symbol, size);
                checks::check_bounds(graph, node, symbol, size, &self.dims);
            }
        }
        for (dim, &size) in dims() {
            checks::check_size(graph, node, dim, size, &mut self.dims)
                .map_err(|e| at(unbound(graph, e), node))?;
        }
        Ok(())
    }

    fn kinds(&self, values: &[ValueId]) -> Vec<TensorKind> {
        let kind = |ty: &TensorType| TensorKind { dtype: stored_dtype(ty.dtype), rank: ty.rank() };
        values.iter().map(|v| kind(self.graph.ty(*v))).collect()
    }
}

fn origin(node: &Node) -> String {
    match &node.origin {
        Some(origin) => format!("{} ({})", origin.name, origin.op),
        None => node.op.name().to_owned(),
    }
}
