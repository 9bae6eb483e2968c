//! Gives products of bytes with constant weights an i16 on the left, where the machine multiplies pairs of these but not
//! such bytes: who makes the elements stores them so, and no product has to widen what others have widened before.

use std::collections::{HashMap, HashSet};

use ired_graph::{DType, Graph, Node, NodeId, Op, ValueId};

use super::PassError;
use super::rewrite::{Rewriter, Rewritten, rewrite};

/// Products of u8.
pub(super) fn widen_bytes(graph: &mut Graph) -> Result<(), PassError> {
    widen(graph, DType::U8)
}

/// Products of i8.
pub(super) fn widen_signed_bytes(graph: &mut Graph) -> Result<(), PassError> {
    widen(graph, DType::I8)
}

fn widen(graph: &mut Graph, left: DType) -> Result<(), PassError> {
    let products: HashSet<NodeId> = (0..graph.nodes.len() as u32)
        .map(NodeId)
        .filter(|id| is_product_of_bytes(graph, *id, left))
        .collect();
    if products.is_empty() {
        return Ok(());
    }
    let sources = products.iter().map(|id| source(graph, graph.node(*id).operands[0]));
    let mut pass = Widen { sources: sources.collect(), wide: HashMap::new(), products };
    rewrite(graph, &mut |rw, id| pass.visit(rw, id))?;
    Ok(())
}

struct Widen {
    products: HashSet<NodeId>,
    /// What they read, but for reshapes.
    sources: HashSet<ValueId>,
    /// The i16 that bytes are made of, by the bytes.
    wide: HashMap<ValueId, ValueId>,
}

impl Widen {
    fn visit(&mut self, rw: &mut Rewriter<'_>, id: NodeId) -> Rewritten {
        let Node { op, operands, results, regions, .. } = rw.node(id).clone();
        if self.products.contains(&id) {
            let x = self.widened(rw, operands[0])?;
            return Ok(Some(vec![rw.add(op, &[x, operands[1]])?]));
        }
        let (&[result], true) = (results.as_slice(), regions.is_empty()) else { return Ok(None) };
        let known = operands.first().and_then(|operand| self.wide.get(operand));
        let (operands, moved) = match (&op, known) {
            // The same number, whoever holds it.
            (Op::Cast(_), Some(wide)) => (vec![*wide], true),
            _ => (operands, false),
        };
        if !self.sources.contains(&result) {
            return if moved { Ok(Some(vec![rw.add(op, &operands)?])) } else { Ok(None) };
        }
        let dtype = rw.ty(result).dtype;
        let made = rw.add(op, &operands)?;
        let wide = rw.add(Op::Cast(DType::I16), &[made])?;
        let bytes = rw.add(Op::Cast(dtype), &[wide])?;
        self.wide.insert(bytes, wide);
        Ok(Some(vec![bytes]))
    }

    fn widened(&self, rw: &mut Rewriter<'_>, bytes: ValueId) -> Result<ValueId, PassError> {
        if let Some(wide) = self.wide.get(&bytes) {
            return Ok(*wide);
        }
        match rw.op(bytes) {
            Some((Op::Reshape { shape }, &[source])) => {
                let shape = shape.clone();
                let wide = self.widened(rw, source)?;
                rw.add(Op::Reshape { shape }, &[wide])
            }
            _ => rw.add(Op::Cast(DType::I16), &[bytes]),
        }
    }
}

/// By weights that lie in panels: with one channel in a group there are no neighbours.
fn is_product_of_bytes(graph: &Graph, id: NodeId, left: DType) -> bool {
    let node = graph.node(id);
    let &[x, weights] = node.operands.as_slice() else { return false };
    let dtype = |value: ValueId| graph.ty(value).dtype;
    let has_neighbours = match node.op {
        Op::MatMul => true,
        Op::Conv { channels_last, .. } => channels_last && graph.ty(weights).shape[1].as_static() != Some(1),
        _ => false,
    };
    let are_bytes = dtype(x) == left && matches!(dtype(weights), DType::I8 | DType::U8);
    has_neighbours && are_bytes && is_moved_constant(graph, weights)
}

fn is_moved_constant(graph: &Graph, value: ValueId) -> bool {
    let Some(node) = graph.producer(value).map(|id| graph.node(id)) else { return false };
    match node.op {
        Op::Param(_) | Op::Constant(_) => true,
        Op::Reshape { .. } | Op::Transpose { .. } | Op::Broadcast { .. } => {
            is_moved_constant(graph, node.operands[0])
        }
        _ => false,
    }
}

/// What `value` has the elements of.
fn source(graph: &Graph, value: ValueId) -> ValueId {
    match graph.producer(value).map(|id| graph.node(id)) {
        Some(Node { op: Op::Reshape { .. }, operands, .. }) => source(graph, operands[0]),
        _ => value,
    }
}
