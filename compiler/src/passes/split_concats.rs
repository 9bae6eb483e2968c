//! Splits a concatenation of very many operands into a tree, as one kernel's code grows with its operands.

use ired_graph::{Graph, Op, ValueId};

use super::PassError;
use super::rewrite::rewrite;

/// Operands of one kernel.
const MAX_OPERANDS: usize = 32;

pub(super) fn split_concats(graph: &mut Graph) -> Result<(), PassError> {
    rewrite(graph, &mut |rw, id| {
        let node = rw.node(id);
        let (Op::Concat { axis }, true) = (&node.op, node.operands.len() > MAX_OPERANDS) else {
            return Ok(None);
        };
        let op = Op::Concat { axis: *axis };
        let mut operands = node.operands.clone();
        while operands.len() > 1 {
            let parts: Vec<Vec<ValueId>> = operands.chunks(MAX_OPERANDS).map(<[_]>::to_vec).collect();
            operands = parts.iter().map(|part| rw.add(op.clone(), part)).collect::<Result<_, _>>()?;
        }
        Ok(Some(operands))
    })?;
    Ok(())
}
