//! How much a node computes: a multiplication, addition, comparison or function of one element is one operation;
//! moving data is none.

use ired_graph::{Dim, Graph, NodeId, Op, product};

/// Operations of one node, as an expression of sizes.
pub(super) fn operations(graph: &Graph, id: NodeId) -> Dim {
    let node = graph.node(id);
    let result = || node.results.first().map_or(Dim::constant(0), |v| graph.ty(*v).elements());
    let shape = |i: usize| node.operands.get(i).map_or(&[][..], |v| &graph.ty(*v).shape[..]);
    let each = |factor: i64, of: Dim| Dim::constant(factor) * of;
    match &node.op {
        Op::Unary(_) | Op::Binary(_) | Op::Compare(_) | Op::Select | Op::Cast(_) => result(),
        Op::MatMul => each(2, result() * shape(0).last().cloned().unwrap_or(Dim::constant(0))),
        // A kernel `[k, c / groups, window..]` gives each element of the result.
        Op::Conv { .. } => each(2, result() * product(shape(1).get(1..).unwrap_or(&[]))),
        Op::Pool { window, .. } => {
            let taps = window
                .extent
                .iter()
                .fold(1i64, |n, e| n.saturating_mul(i64::try_from(*e).unwrap_or(i64::MAX)));
            each(taps, result())
        }
        Op::Reduce { .. } | Op::ArgReduce { .. } | Op::Cumulative { .. } => product(shape(0)),
        // The maximum, the difference, its exponential, the sum, the quotient.
        Op::Softmax { .. } => each(5, result()),
        // Two sums, the difference, its square, the quotient; scale and bias.
        Op::LayerNorm { .. } => each(5 + node.operands.len() as i64 - 1, result()),
        _ => Dim::constant(0),
    }
}
