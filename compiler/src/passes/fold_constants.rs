//! Computes at compile time what depends on nothing but literals, weights and sizes.
//!
//! Shape arithmetic becomes literals and symbolic dimensions; arithmetic on weights becomes new weights, as long
//! as they stay about as large as the old ones.

use ired_graph::{Graph, NodeId, Op, ValueId, ops};

use super::rewrite::{Rewriter, Rewritten, rewrite};
use super::{MAX_FOLDED_BYTES, PassError};

/// New weights of a model together: as much as its own and this, so that a small file never becomes a large module.
const FREE_FOLDED_BYTES: u64 = 64 << 20;

/// How the names of new weights begin.
const FOLDED: &str = "folded";

/// Results up to this size are worth storing however small their operands are.
const ALWAYS_FOLDED_BYTES: u64 = 64 << 10;

/// Smaller results are literals, which kernels hold in their code.
const MAX_LITERAL_BYTES: usize = 64;

/// Multiplications and comparisons of windows and products together, a second or two. Sizes do not bound these: a window
/// of millions of elements may lie in padding.
const MAX_FOLDED_WORK: u64 = 1 << 31;

/// What may still be folded.
struct Budget {
    bytes: u64,
    work: u64,
}

pub(super) fn fold_constants(graph: &mut Graph) -> Result<(), PassError> {
    let mut budget = Budget { bytes: remaining_bytes(graph), work: MAX_FOLDED_WORK };
    rewrite(graph, &mut |rw, id| {
        if let Some(folded) = ops::fold(rw.graph, id) {
            let op = folded.into_op();
            return Ok(Some(vec![rw.add(op, &[])?]));
        }
        fold_weights(rw, id, &mut budget)
    })?;
    Ok(())
}

/// How much may be folded yet, given what earlier passes folded. A model that names its own weights so has less.
fn remaining_bytes(graph: &Graph) -> u64 {
    let (mut own, mut folded): (u64, u64) = (0, 0);
    for param in &graph.params {
        let sum = if param.name.starts_with(FOLDED) { &mut folded } else { &mut own };
        *sum = sum.saturating_add(param.data.len() as u64);
    }
    own.saturating_add(FREE_FOLDED_BYTES).saturating_sub(folded)
}

/// How much an element of the result takes to compute, beyond reading each operand once.
fn work_per_element(rw: &Rewriter<'_>, op: &Op, operands: &[ValueId]) -> Option<u64> {
    let sizes = |at: usize| rw.ty(*operands.get(at)?).static_shape();
    match op {
        Op::MatMul => sizes(0)?.last().copied(),
        // A kernel's weights.
        Op::Conv { .. } => ired_graph::tensor::element_count(sizes(1)?.get(1..)?),
        Op::Pool { window, .. } => ired_graph::tensor::element_count(&window.extent),
        Op::SuppressOverlaps => sizes(0)?.get(1).copied(),
        _ => Some(0),
    }
}

fn fold_weights(rw: &mut Rewriter<'_>, id: NodeId, budget: &mut Budget) -> Rewritten {
    let node = rw.node(id);
    let stays = matches!(
        node.op,
        Op::Constant(_)
            | Op::Param(_)
            | Op::Dims { .. }
            | Op::Iota { .. }
            | Op::Broadcast { .. }
            | Op::If
            | Op::While
            | Op::Repeat { .. }
            | Op::ReadDims { .. }
            | Op::Host { .. }
    );
    if stays || node.operands.is_empty() {
        return Ok(None);
    }
    let mut operand_bytes: u64 = 0;
    for &operand in &node.operands {
        let Some(tensor) = rw.tensor(operand) else { return Ok(None) };
        operand_bytes = operand_bytes.saturating_add(tensor.data().len() as u64);
    }
    let ty = rw.ty(node.results[0]);
    let elements = ty.static_shape().and_then(|shape| ired_graph::tensor::element_count(&shape));
    let Some(bytes) = elements.and_then(|n| ty.dtype.bytes(n)) else { return Ok(None) };
    let worth = operand_bytes.saturating_mul(2).clamp(ALWAYS_FOLDED_BYTES, MAX_FOLDED_BYTES);
    let limit = worth.min(budget.bytes);
    let work = work_per_element(rw, &node.op, &node.operands)
        .and_then(|work| work.checked_mul(elements.unwrap_or(u64::MAX)));
    let Some(work) = work.filter(|work| *work <= budget.work && bytes <= limit) else { return Ok(None) };
    let Some(tensor) = ops::evaluate(rw.graph, id, limit) else { return Ok(None) };
    budget.bytes -= bytes;
    budget.work -= work;
    if tensor.data().len() <= MAX_LITERAL_BYTES {
        return Ok(Some(vec![rw.add_constant(tensor)?]));
    }
    Ok(Some(vec![rw.add_param(FOLDED, tensor)?]))
}

#[cfg(test)]
mod tests {
    use ired_graph::{Builder, DType, Graph, Param, PoolFn, Window};

    use super::{FREE_FOLDED_BYTES, fold_constants, remaining_bytes};

    #[test]
    fn what_is_folded_is_taken_from_one_budget() {
        let mut graph = Graph::new("g");
        assert_eq!(remaining_bytes(&graph), FREE_FOLDED_BYTES);
        for (name, bytes, expected) in
            [("w", 8, FREE_FOLDED_BYTES + 8), ("folded.1", 24, FREE_FOLDED_BYTES - 16)]
        {
            let data = vec![0; bytes].into();
            graph.params.push(Param { name: name.into(), dtype: DType::U8, shape: vec![bytes as u64], data });
            assert_eq!(remaining_bytes(&graph), expected);
        }
    }

    /// 16 MiB of window over 64 KiB of weights, most of it in padding: a quarter of a million million comparisons.
    #[test]
    fn what_takes_long_is_left_to_the_run() {
        let mut graph = Graph::new("g");
        let data = vec![0; 4 << 14].into();
        let shape = vec![1, 1, 1 << 14];
        let weight = graph.add_param(Param { name: "w".into(), dtype: DType::F32, shape, data });
        let mut window = Window::dense(vec![1 << 24]);
        (window.pad_low, window.pad_high) = (vec![1 << 23], vec![(1 << 23) - 1]);
        let mut b = Builder::new(&mut graph);
        let weight = b.param(weight).unwrap();
        let largest = b.pool(PoolFn::Max, weight, window, false).unwrap();
        graph.set_outputs(graph.body, vec![largest]);
        fold_constants(&mut graph).unwrap();
        assert_eq!(graph.live_nodes().len(), 2);
    }
}
